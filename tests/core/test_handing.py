"""What a worker leaves to its successor: when it is asked, who gets the data, and what follows if that fails."""

from __future__ import annotations

from typing import Any

import pytest

from mob.core import decisions as d, snapshot
from mob.core.handing import MARGIN
from mob.core.states import MobsterState
from mob.wire import messages as m
from tests.core.world import GRACE, World, plan, started

ASKED = (9, 1)
KINDS = (d.AskHandOver, d.LetGoOn, d.Bequeath, d.DropInheritance, d.Retire, d.Launch)


class Handing(World):
    """A world whose workers hand over, with the decisions about that."""

    def __init__(self, world: World) -> None:
        self.__dict__.update(world.__dict__)
        self.seen: list[d.Decision] = []
        for uid in self.mobsters:
            self.supervisor.hand_overs.handle_able(uid)

    def _carry_out_one(self, decision: d.Decision) -> None:
        if isinstance(decision, KINDS):
            self.seen.append(decision)
        else:
            super()._carry_out_one(decision)
            return
        if isinstance(decision, (d.Retire, d.Launch)):
            super()._carry_out_one(decision)

    def take_seen(self) -> list[d.Decision]:
        seen, self.seen = self.seen, []
        return seen

    def want(self, uid: int, number: int = 7) -> None:
        self.carry_out(self.supervisor.hand_overs.handle_wanted((uid, number), self.now))

    def give(self, uid: int, error: str = "", size: int = 12) -> None:
        self.carry_out(self.supervisor.hand_overs.handle_given(uid, error, size, self.now))

    def state(self, uid: int) -> MobsterState:
        return self.supervisor.processes[uid].state


def handing(*roles: str, **options: Any) -> Handing:
    return Handing(started(app=plan(*(roles or ("back",)), options=options)))


def reloading() -> tuple[Handing, int, int]:
    """Return a worker that was asked, because its successor is about to start, and the successor."""
    world = handing()
    (old,) = world.mobsters
    world.carry_out(world.supervisor.handle_reload([], ASKED, world.now))
    new = max(world.mobsters)
    (launch,) = world.take_seen()
    assert launch == d.Launch(new, "back", 0, 2, inherits=True)
    world.forked(new)
    world.want(new)
    assert world.take_seen() == [d.AskHandOver(old, GRACE)]
    assert world.state(old) is MobsterState.HANDING
    assert world.supervisor.unrest(may_launch=True) == "a reload is under way"
    assert repr(world.supervisor.hand_overs) == "<HandOvers, 1 under way, 0 kept>"
    return world, old, new


def test_a_successor_gets_what_the_one_before_it_has_left_and_takes_its_place() -> None:
    world, old, new = reloading()
    world.pass_time(2.0)
    world.give(old)
    assert world.take_seen() == [d.Bequeath((new, 7), "back", 0)]
    assert world.supervisor.processes[new].still == 2.0  # that was no boot time
    assert f"back.0 (pid {100 + old}) handed over 12 bytes to its successor." in world.told
    world.ready(new)
    assert world.take_seen() == [d.Retire(old, GRACE), d.DropInheritance("back", 0)]
    assert not world.supervisor.crew.kept


def test_an_error_dismisses_the_successor_and_the_one_before_it_goes_on() -> None:
    world, old, new = reloading()
    world.give(old, error="KeyError: 'x'")
    assert world.take_seen() == [d.Retire(new, GRACE), d.LetGoOn(old)]
    assert world.state(old) is MobsterState.READY
    world.exits_with(new, "stopped")
    (answer,) = world.answers
    assert answer.error == (
        f"reload failed; the old workers keep running. back.0: the new one was dismissed: "
        f"back.0 (pid {100 + old}) could not hand over its data: KeyError: 'x'"
    )


def test_one_that_does_not_answer_in_time_goes_on() -> None:
    world, old, new = reloading()
    world.carry_out(world.supervisor.handle_wake(world.now))
    assert world.take_seen() == []
    world.pass_time(GRACE + MARGIN)
    assert world.take_seen() == [d.Retire(new, GRACE), d.LetGoOn(old)]
    assert f"back.0 (pid {100 + old}) did not hand over its data within {GRACE:g} s (grace)." in world.told
    world.give(old)  # too late: what it has left is forgotten
    assert world.take_seen() == [d.DropInheritance("back", 0)]
    world.give(old, error="ValueError")
    assert world.take_seen() == []


def test_a_successor_that_dies_before_it_has_it() -> None:
    world, old, new = reloading()
    world.exits_with(new)
    assert world.take_seen() == [d.LetGoOn(old)]
    world.give(old)
    assert world.take_seen() == [d.DropInheritance("back", 0)]


def test_a_successor_that_dies_with_it() -> None:
    world, old, new = reloading()
    world.give(old)
    world.take_seen()
    world.exits_with(new)
    assert world.take_seen() == [d.LetGoOn(old), d.DropInheritance("back", 0)]
    assert world.state(old) is MobsterState.READY


def test_one_that_dies_while_it_hands_over_leaves_nothing() -> None:
    world, old, new = reloading()
    world.exits_with(old)
    assert world.take_seen() == [d.Bequeath((new, 7), "back", 0)]
    assert (
        f"back.0 (pid {100 + old}) exited before it handed over its data; its successor starts without it."
        in world.told
    )
    world.ready(new)
    assert world.take_seen() == []


def test_one_that_dies_when_it_has_handed_over_is_not_missed() -> None:
    world, old, new = reloading()
    world.give(old)
    world.exits_with(old)
    world.take_seen()
    world.exits_with(new)  # and the next one gets it, because nothing has changed it since
    world.due.clear()
    world.pass_time(1.0)
    newest = max(world.mobsters)
    assert world.take_seen() == [d.Launch(newest, "back", 0, 3, inherits=True)]
    world.want(newest)
    assert world.take_seen() == [d.Bequeath((newest, 7), "back", 0)]


def test_its_successor_is_gone_when_it_answers() -> None:
    world, old, new = reloading()
    process = world.supervisor.processes.pop(new)
    world.give(old, error="x")
    assert world.take_seen() == [d.LetGoOn(old)]
    world.supervisor.processes[new] = process


def test_one_that_ends_first_leaves_it_for_the_next() -> None:
    world = handing()
    (old,) = world.mobsters
    world.carry_out(world.supervisor.handle_restart(["back"], 0, ASKED, world.now))
    world.give(old)
    assert f"back.0 (pid {100 + old}) handed over 12 bytes, kept for the next back.0." in world.told
    world.exits_with(old, "stopped")
    new = max(world.mobsters)
    assert world.take_seen() == [d.Retire(old, GRACE), d.Launch(new, "back", 0, 2, inherits=True)]
    world.want(new)
    assert world.take_seen() == [d.Bequeath((new, 7), "back", 0)]


@pytest.mark.parametrize("stop", ["", "."])
def test_one_that_ends_and_cannot_leave_it(stop: str) -> None:
    world = handing()
    (old,) = world.mobsters
    world.carry_out(world.supervisor.handle_restart(["back"], 0, ASKED, world.now))
    world.give(old, error=f"ValueError: x{stop}")
    told = f"back.0 (pid {100 + old}) could not hand over its data: ValueError: x. The next back.0 starts without it."
    assert told in world.told
    world.exits_with(old, "stopped")
    assert world.take_seen()[-1] == d.Launch(max(world.mobsters), "back", 0, 2)


def test_one_that_ends_in_order_before_it_has_handed_over_leaves_nothing() -> None:
    world = handing()
    (old,) = world.mobsters
    world.carry_out(world.supervisor.handle_restart(["back"], 0, ASKED, world.now))
    world.exits_with(old, "did not end in time")
    told = f"back.0 (pid {100 + old}) exited before it handed over its data. The next back.0 starts without it."
    assert world.told.count(told) == 1


@pytest.mark.parametrize("case", ["stop", "crash", "no handler", "told", "kept", "reload"])
def test_one_that_leaves_nothing_is_told_only_if_that_is_news(case: str) -> None:
    world = handing()
    (old,) = world.mobsters
    if case == "no handler":
        world.supervisor.processes[old].hands_over = False
    if case == "stop":
        world.carry_out(world.supervisor.handle_stop(world.now))
    elif case == "reload":
        world, old, _new = reloading()
        world.give(old)
        world.carry_out(world.supervisor.handle_restart(["back"], 0, ASKED, world.now))
    elif case != "crash":
        world.carry_out(world.supervisor.handle_restart(["back"], 0, ASKED, world.now))
    if case in ("told", "kept"):
        world.give(old, error="ValueError: x" if case == "told" else "")
    before = len(world.told)
    world.exits_with(old, "stopped")
    assert [text for text in world.told[before:] if "hand" in text] == []


def test_a_place_that_is_given_up_keeps_it() -> None:
    world = handing("back*2")
    second = max(world.mobsters)
    world.carry_out(world.supervisor.handle_scale("back", 1, ASKED, world.now))
    world.give(second)
    world.exits_with(second, "stopped")
    world.take_seen()
    world.launches["back", 1] = 0
    world.due.clear()
    world.carry_out(world.supervisor.handle_scale("back", 2, ASKED, world.now))
    assert world.take_seen() == [d.Launch(max(world.mobsters), "back", 1, 1, inherits=True)]


def test_a_successor_that_is_dismissed_for_another_lets_it_go_on() -> None:
    world = handing(max_age=10)
    (old,) = world.mobsters
    world.pass_time(11.0)
    world.carry_out(world.supervisor.handle_beat(old, m.Beat(), world.now))
    early = max(world.mobsters)
    assert early != old
    world.forked(early)
    world.want(early)
    world.take_seen()
    world.carry_out(world.supervisor.handle_reload([], ASKED, world.now))
    new = max(world.mobsters)
    assert world.take_seen() == [
        d.LetGoOn(old),
        d.Retire(early, GRACE),
        d.Launch(new, "back", 0, 3, inherits=True),
    ]
    assert world.supervisor.unrest(may_launch=True) == "a reload is under way"


def test_a_recycling_that_hands_over_is_unrest() -> None:
    world = handing(max_age=10)
    (old,) = world.mobsters
    world.pass_time(11.0)
    world.carry_out(world.supervisor.handle_beat(old, m.Beat(), world.now))
    new = max(world.mobsters)
    world.forked(new)
    world.want(new)
    assert world.supervisor.unrest(may_launch=True) == "a worker is handing over to its successor"


def test_who_has_nobody_before_it_gets_nothing() -> None:
    world = handing()
    (only,) = world.mobsters
    world.want(only)
    assert world.take_seen() == [d.Bequeath((only, 7), "back", 0)]
    world.want(999)
    world.give(999)
    world.supervisor.hand_overs.handle_able(999)
    assert world.take_seen() == []


def test_one_that_hands_over_ends_with_the_app() -> None:
    world, old, _ = reloading()
    world.carry_out(world.supervisor.handle_stop(world.now))
    assert d.Retire(old, GRACE) in world.take_seen()
    world.give(old, error="x")
    assert d.LetGoOn(old) not in world.take_seen()
    assert world.state(old) is MobsterState.DRAINING


def test_the_next_kingpin_knows_it() -> None:
    world = handing("back*2")
    first, second = world.mobsters
    world.carry_out(world.supervisor.handle_scale("back", 1, ASKED, world.now))
    world.give(second)
    taken = snapshot.take(world.supervisor)
    following, _ = snapshot.restore(world.supervisor.plan, taken, world.now)
    assert following.crew.kept == {("back", 1): 12}
    assert following.processes[first].hands_over


@pytest.mark.parametrize("inherits", [False, True])
def test_who_has_no_handler_is_asked_nothing(inherits: bool) -> None:
    world = handing()
    (old,) = world.mobsters
    world.supervisor.processes[old].hands_over = inherits
    world.carry_out(world.supervisor.handle_reload([], ASKED, world.now))
    assert [each.inherits for each in world.take_seen() if isinstance(each, d.Launch)] == [inherits]
