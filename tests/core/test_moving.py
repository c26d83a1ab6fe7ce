"""The data that a singleton leaves to another machine: stored before the lease is returned, fetched before a launch."""

from __future__ import annotations

from typing import Any

import pytest

from mob.core import decisions as d
from mob.core.lease import LeaseWish
from mob.core.moving import MOVE_RETRY, MOVE_TIME, NO_GATEWAY, Moving
from mob.core.supervisor import Supervisor
from mob.plan import GATEWAY, Cluster, Plan, RolePlan
from mob.wire import messages as m

FIRST = 100
DOOR = 77
"""Uid of the gateway that can be asked."""
GRACE = 10.0


class Machine:
    """One machine with a singleton that hands over, and the messages of its log."""

    def __init__(self) -> None:
        roles = (RolePlan(GATEWAY, GATEWAY), RolePlan("cron", "cron", singleton=True), RolePlan("back", "back"))
        self.mind = Supervisor(Plan("app", "/", roles, grace=GRACE, cluster=Cluster(("nats://127.0.0.1",), "a")))
        self.moving = Moving(self.mind.crew, self.mind.singletons, FIRST)
        self.now = 0.0
        self.told: list[str] = []
        self.note(self.mind.start(self.now))
        for process in list(self.mind.processes.values()):
            self.note(self.mind.handle_ready(process.uid, 1000 + process.uid, (), True, self.now))

    def note(self, decisions: list[Any]) -> list[Any]:
        self.told += [each.text for each in decisions if isinstance(each, d.Tell)]
        return [each for each in decisions if not isinstance(each, d.Tell)]

    def won(self, token: int = 9, left: int = 0) -> list[Any]:
        return self.note(self.moving.handle_won("cron", token, left, self.now))

    def cron(self) -> Any:
        (process,) = self.mind.crew.processes_of("cron")
        return process

    def ready(self) -> list[Any]:
        process = self.cron()
        self.mind.hand_overs.handle_able(process.uid)
        return self.note(self.mind.handle_ready(process.uid, 1000 + process.uid, (), True, self.now))

    def look(self, gateway: int | None = DOOR) -> list[Any]:
        return self.note(self.moving.look(gateway, self.now))

    def answer(self, **said: Any) -> list[Any]:
        """Answer the last request to the gateway."""
        answer = m.LeftIs(self.moving._number, "cron", **said)
        assert self.moving.is_awaited(answer)
        return self.note(self.moving.handle_answer(answer, self.now))

    def stop_with_data(self, size: int = 12) -> None:
        """Stop the app; the singleton hands over and ends."""
        self.won()
        self.ready()
        self.note(self.mind.handle_stop(self.now))
        for process in [each for each in self.mind.processes.values() if each.slot.role != GATEWAY]:
            if process.slot.role == "cron":
                self.note(self.mind.hand_overs.handle_given(process.uid, "", size, self.now))
            self.note(self.mind.handle_exited(process.uid, "ended", self.now, 0))

    def asked_to_stop(self) -> bool:
        """Return True if the gateway was asked."""
        (gateway,) = self.mind.crew.processes_of(GATEWAY)
        return bool(gateway.asked)

    @property
    def wish(self) -> LeaseWish:
        return self.mind.singletons.wish("cron")


def launched(decisions: list[Any]) -> list[tuple[str, bool]]:
    return [(each.role, each.inherits) for each in decisions if isinstance(each, d.Launch)]


def test_without_anything_left_it_is_launched_at_once() -> None:
    machine = Machine()
    assert launched(machine.won()) == [("cron", False)]
    assert machine.look() == []
    assert repr(machine.moving) == "<Moving []>"


def test_what_is_left_is_stored_and_then_written_and_then_the_lease_is_given_back() -> None:
    machine = Machine()
    machine.stop_with_data()
    assert machine.wish is LeaseWish.KEEP
    assert not machine.asked_to_stop()
    assert machine.look() == [m.PutLeft(FIRST + 1, "cron", 9)]
    assert repr(machine.moving) == "<Moving [<Errand: store what 'cron' left>]>"
    assert machine.look() == []  # it is under way
    assert machine.moving.left_of("cron") == 0
    assert machine.answer() == []
    assert machine.look() == []
    assert machine.moving.left_of("cron") == 9
    assert machine.moving.handle_written("cron", 0) == []  # a renewal that was on its way before
    assert machine.wish is LeaseWish.KEEP
    assert machine.note(machine.moving.handle_written("cron", 9)) == [d.DropInheritance("cron", 0)]
    assert machine.told[-1] == "'cron' left 12 bytes for the machine that runs it next."
    assert machine.wish is LeaseWish.NONE
    assert machine.moving.left_of("cron") == 9
    assert machine.moving.handle_written("cron", 9) == []
    machine.note(machine.mind.handle_moved(machine.now))
    assert machine.asked_to_stop()
    assert machine.moving.end() == []
    machine.mind.singletons.handle_lost("cron", "")
    assert machine.mind.crew.leases["cron"].left == 0


def test_a_gateway_that_ends_is_followed_by_another_one() -> None:
    machine = Machine()
    machine.stop_with_data()
    assert machine.look(None) == []
    machine.look(DOOR)
    machine.moving.handle_gateway_gone(DOOR + 1)
    assert machine.look() == []
    machine.moving.handle_gateway_gone(DOOR)
    assert not machine.moving.is_awaited(m.LeftIs(FIRST + 1, "cron"))
    assert machine.look(DOOR + 1) == [m.PutLeft(FIRST + 2, "cron", 9)]
    assert not machine.moving.is_awaited(m.LeftIs(FIRST + 2, "back"))


def test_what_cannot_be_stored_is_tried_again_until_the_grace_time_is_nearly_over() -> None:
    machine = Machine()
    machine.stop_with_data()
    for attempt in range(3):
        assert machine.look() == [m.PutLeft(FIRST + 1 + attempt, "cron", 9)]
        assert machine.answer(error="no space") == []
        assert machine.look() == []
        machine.now += MOVE_RETRY
    told = [text for text in machine.told if "no space" in text]
    assert told == ["what 'cron' left cannot be stored now: no space. Retrying for 60 s."]
    machine.now = GRACE - 2.0
    machine.note(machine.mind.handle_wake(machine.now))
    assert machine.asked_to_stop()
    assert machine.note(machine.moving.end()) == [d.DropInheritance("cron", 0)]
    assert machine.told[-1] == "the 12 bytes that 'cron' left are lost: they could not be stored: no space."
    assert machine.wish is LeaseWish.NONE
    assert machine.look() == []


@pytest.mark.parametrize("is_asked", [False, True])
def test_what_is_not_stored_in_time_is_lost_and_that_is_said(is_asked: bool) -> None:
    machine = Machine()
    machine.stop_with_data()
    if is_asked:
        machine.look()
    machine.note(machine.moving.end())
    why = "they could not be stored: not enough of the grace period was left"
    assert machine.told[-1] == f"the 12 bytes that 'cron' left are lost: {why}."


def test_what_is_stored_when_the_gateways_end_is_written_as_the_lease_is_given_back() -> None:
    machine = Machine()
    machine.stop_with_data()
    machine.look()
    machine.answer()
    assert machine.note(machine.moving.end()) == [d.DropInheritance("cron", 0)]
    assert machine.wish is LeaseWish.NONE
    assert machine.moving.left_of("cron") == 9


def test_a_stop_without_data_does_not_wait() -> None:
    machine = Machine()
    machine.won()
    machine.ready()
    machine.note(machine.mind.handle_stop(machine.now))
    (gateway,) = machine.mind.crew.processes_of(GATEWAY)
    for process in [each for each in machine.mind.processes.values() if each is not gateway]:
        machine.note(machine.mind.handle_exited(process.uid, "ended", machine.now, 0))
    assert machine.asked_to_stop()
    machine.note(machine.mind.handle_exited(gateway.uid, "ended", machine.now, 0))
    assert machine.mind.handle_moved(machine.now) == []  # it is over


@pytest.mark.parametrize("is_forced", [False, True])
def test_what_no_gateway_is_left_to_store_is_lost_and_that_is_said(is_forced: bool) -> None:
    machine = Machine()
    machine.stop_with_data(1234)
    if is_forced:
        machine.note(machine.mind.handle_stop(machine.now))
    (gateway,) = machine.mind.crew.processes_of(GATEWAY)
    assert machine.note(machine.mind.handle_exited(gateway.uid, "killed", machine.now, -9))[-1] == d.Finish(0)
    assert machine.told[-1] == "the 1,234 bytes that 'cron' left are lost: no gateway could store them."


def test_a_lease_that_is_lost_ends_the_wait_and_the_data() -> None:
    machine = Machine()
    machine.stop_with_data()
    machine.look()
    assert d.DropInheritance("cron", 0) in machine.note(machine.mind.singletons.handle_lost("cron", "it is late"))
    assert machine.told[-1] == "the 12 bytes that 'cron' left are lost: its lease was lost."
    machine.moving.handle_lost("cron")
    assert machine.look() == []
    machine.note(machine.mind.handle_moved(machine.now))
    assert machine.asked_to_stop()


def test_one_that_hands_over_after_its_lease_is_lost_leaves_nothing() -> None:
    machine = Machine()
    machine.won()
    machine.ready()
    uid = machine.cron().uid
    machine.note(machine.mind.handle_stop(machine.now))
    machine.note(machine.mind.singletons.handle_lost("cron", "it is late"))
    assert machine.mind.hand_overs.handle_given(uid, "", 12, machine.now) == [d.DropInheritance("cron", 0)]
    assert not machine.mind.crew.kept


def test_who_may_hand_over_when_asked_to_end() -> None:
    machine = Machine()
    machine.won()
    (back,) = machine.mind.crew.processes_of("back")
    cron = machine.cron()
    assert machine.mind.may_hand_over(back.uid)
    assert machine.mind.may_hand_over(cron.uid)
    machine.mind.handle_stop(machine.now)
    assert not machine.mind.may_hand_over(back.uid)
    assert machine.mind.may_hand_over(cron.uid)


def test_what_was_left_is_fetched_before_it_is_launched_and_written_until_it_is_ready() -> None:
    machine = Machine()
    assert machine.won(token=12, left=9) == []
    assert machine.moving.is_fetching("cron")
    assert machine.wish is LeaseWish.TAKE  # which renews it
    (row,) = [row for row in machine.mind.rows(0.0) if row.role == "cron"]
    assert row.note == "fetching the data that was left for it on another machine"
    assert machine.look() == [m.GetLeft(FIRST + 1, "cron", 9)]
    assert repr(machine.moving) == "<Moving [<Errand: fetch what 'cron' left>]>"
    assert launched(machine.answer(size=12)) == [("cron", True)]
    assert machine.told[-2:] == [
        "'cron' received the 12 bytes that it left on another machine.",
        "this machine now holds the lease for 'cron' (token 12).",
    ]
    assert not machine.moving.is_fetching("cron")
    assert machine.moving.left_of("cron") == 9
    assert d.DropInheritance("cron", 0) in machine.ready()
    assert machine.moving.left_of("cron") == 0
    assert machine.mind.crew.leases["cron"].token == 12


def test_one_that_stops_before_it_is_ready_leaves_what_is_stored_already() -> None:
    machine = Machine()
    machine.won(token=12, left=9)
    machine.look()
    machine.answer(size=12)
    machine.mind.handle_stop(machine.now)
    machine.note(machine.mind.handle_exited(machine.cron().uid, "ended", machine.now, 0))
    assert machine.wish is LeaseWish.NONE
    assert machine.moving.left_of("cron") == 9
    assert machine.look() == []
    assert d.DropInheritance("cron", 0) in machine.note(machine.mind.singletons.handle_lost("cron", ""))
    assert not [text for text in machine.told if "lost" in text]


def test_what_is_gone_is_not_waited_for() -> None:
    machine = Machine()
    machine.won(token=12, left=9)
    machine.look()
    assert launched(machine.answer(error="NATS no longer has it", is_gone=True)) == [("cron", False)]
    assert "what 'cron' left on another machine is lost: NATS no longer has it. It starts without it." in machine.told
    assert machine.moving.left_of("cron") == 0


def test_what_cannot_be_fetched_is_tried_again_for_a_while() -> None:
    machine = Machine()
    machine.won(token=12, left=9)
    machine.look()
    assert machine.answer(error="no memory") == []
    assert machine.told[-1] == "what 'cron' left cannot be fetched now: no memory. Retrying for 60 s."
    machine.now = MOVE_TIME
    assert launched(machine.look()) == [("cron", False)]
    text = "what 'cron' left on another machine could not be fetched: no memory. It starts without it."
    assert text in machine.told
    assert machine.moving.left_of("cron") == 9  # should this machine die now, another one may be able to


def test_a_machine_whose_gateway_is_too_old_says_so() -> None:
    machine = Machine()
    machine.won(token=12, left=9)
    assert machine.look(None) == []
    machine.now = MOVE_TIME
    assert launched(machine.look(None)) == [("cron", False)]
    assert any(NO_GATEWAY in text for text in machine.told)


def test_one_that_is_given_up_leaves_what_the_one_before_it_has_left() -> None:
    machine = Machine()
    machine.won()
    machine.mind.crew.kept["cron", 0] = 12
    del machine.mind.crew.slots["cron", 0]
    assert machine.wish is LeaseWish.KEEP
    assert machine.look() == [m.PutLeft(FIRST + 1, "cron", 9)]
    machine.answer(error="no space")
    machine.now = MOVE_TIME
    assert machine.look() == [d.DropInheritance("cron", 0)]
    assert machine.told[-1] == "the 12 bytes that 'cron' left are lost: they could not be stored: no space."
    assert machine.wish is LeaseWish.NONE
