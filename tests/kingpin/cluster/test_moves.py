"""What singletons hand over, on its way through the Kingpin: each descriptor is kept where it belongs, or closed."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import pytest

from mob.core import decisions as d
from mob.core.gateways import Gateways
from mob.core.roster import Roster
from mob.core.supervisor import Supervisor
from mob.kingpin.cluster.moves import Moves
from mob.kingpin.processes.inheritances import Inheritances
from mob.plan import Cluster, Plan, RolePlan
from mob.wire import messages as m

DOOR = 77


class Door:
    """The link of a gateway: the messages sent to it, and the descriptors that come with its answers."""

    def __init__(self) -> None:
        self.heard: list[tuple[Any, list[Any]]] = []
        self.coming: list[int] = []
        self.link = self

    def post_with(self, message: Any, descriptors: list[Any]) -> None:
        self.heard.append((message, descriptors))

    def take(self, count: int) -> list[int]:
        taken, self.coming = self.coming[:count], self.coming[count:]
        return taken


class Room:
    def __init__(self) -> None:
        plan = Plan(
            "app", "/", (RolePlan("cron", "cron", singleton=True),), cluster=Cluster(("nats://localhost",), "a")
        )
        self.supervisor = Supervisor(plan)
        self.supervisor.start(0.0)
        self.inheritances = Inheritances()
        self.door = Door()
        self.decided: list[Any] = []
        gateways = Gateways(Roster(), 1, lambda uid: True)
        gateways.handle_opened(DOOR)
        gateways.handle_connected(DOOR, "")
        around: Any = SimpleNamespace(
            supervisor=self.supervisor,
            inheritances=self.inheritances,
            connections={DOOR: self.door},
            carry_out=self.decided.extend,
        )
        self.moves = Moves(around, gateways)

    def answer(self, number: int, **said: Any) -> None:
        door: Any = self.door
        self.moves.handle_answer(door, m.LeftIs(number, "cron", **said))

    def fetched(self) -> int:
        """Request what was handed over from the gateway; return the number of the request."""
        self.moves.handle_won("cron", 12, 9)
        self.moves.look()
        ((request, descriptors),) = self.door.heard
        assert isinstance(request, m.GetLeft)
        assert descriptors == []
        return request.number


@pytest.fixture
def room() -> Room:
    return Room()


def new_file() -> int:
    return os.memfd_create("mob")


def is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def test_what_has_come_is_kept_for_the_singleton(room: Room) -> None:
    room.door.coming = [descriptor := new_file()]
    room.answer(room.fetched(), size=5)
    kept, size = room.inheritances.get("cron", 0) or (None, 0)
    assert kept is not None
    assert (kept.fileno(), size) == (descriptor, 5)
    assert [each.inherits for each in room.decided if isinstance(each, d.Launch)] == [True]
    assert repr(room.moves) == "<Moves <Moving []>>"


def test_what_nobody_waits_for_any_more_is_closed(room: Room) -> None:
    number = room.fetched()
    room.moves.handle_lost("cron")
    assert not room.moves.is_fetching("cron")
    room.door.coming = [descriptor := new_file()]
    room.answer(number, size=5)
    assert not is_open(descriptor)
    assert room.inheritances.get("cron", 0) is None


def test_what_could_not_come_is_asked_for_again(room: Room) -> None:
    room.answer(room.fetched(), size=5)
    assert any("too many open files" in each.text for each in room.decided if isinstance(each, d.Tell))
    assert room.moves.is_fetching("cron")


@pytest.mark.parametrize("how", ["stored", "lost", "at the end"])
def test_what_is_left_goes_to_the_gateway_and_stays_here_until_that_is_known(room: Room, how: str) -> None:
    room.moves.handle_won("cron", 9, 0)
    room.inheritances.put("cron", 0, new_file(), 5)
    room.supervisor.crew.kept["cron", 0] = 5
    del room.supervisor.crew.slots["cron", 0]
    room.moves.look()
    ((request, descriptors),) = room.door.heard
    assert isinstance(request, m.PutLeft)
    found = room.inheritances.get("cron", 0)
    assert found is not None
    assert descriptors == [found[0]]
    if how == "stored":
        room.answer(request.number)
        room.moves.handle_written("cron", 9)
    else:
        if how == "lost":
            room.moves.handle_gone(DOOR)
            room.answer(request.number)
        room.moves.end()
    assert d.DropInheritance("cron", 0) in room.decided
    assert room.moves.left_of("cron") == (9 if how == "stored" else 0)
