"""Tables: what becomes of a call that is to end, and of the process that runs it."""

from __future__ import annotations

import pytest

from mob.core import decisions as d
from mob.core.killing import FOR_A_CALL, Fate, fate_of
from mob.wire import messages as m
from tests.core.world import World, plan, started


@pytest.mark.parametrize(
    ("is_running", "may_have_begun", "has_ended", "fate"),
    [
        (True, True, False, Fate.KILLED),
        (False, False, False, Fate.WAITS),
        (False, False, True, Fate.WAITS),
        (False, True, False, None),
        (False, True, True, Fate.OVER),
    ],
)
def test_what_becomes_of_a_call(is_running: bool, may_have_begun: bool, has_ended: bool, fate: Fate | None) -> None:
    assert fate_of(is_running, may_have_begun, has_ended) is fate


def kill(world: World, uid: int) -> list[d.Decision]:
    decisions = world.supervisor.handle_call_killed(uid, world.now)
    assert decisions == [d.Kill(uid)]
    return world.supervisor.handle_exited(uid, "was killed by SIGKILL", world.now, -9, blamed="foo")


def test_a_death_that_was_wanted_is_no_crash_and_a_successor_follows_at_once() -> None:
    world = started(app=plan("back", options={"intensity": 1, "restart": "temporary"}))
    for _ in range(5):
        (uid,) = world.supervisor.processes
        decisions = kill(world, uid)
        assert [each for each in decisions if isinstance(each, d.Record)] == []
        gone = next(each.change for each in decisions if isinstance(each, d.Announce))
        assert gone == m.MemberGone(uid, f"{FOR_A_CALL} (signal 9)")
        told = [each.text for each in decisions if isinstance(each, d.Tell)]
        assert any(FOR_A_CALL in text for text in told)
        (launch,) = [each for each in decisions if isinstance(each, d.Launch)]
        assert launch.uid in world.supervisor.processes
    assert not world.supervisor.quarantine.suspects


def test_nobody_is_killed_twice() -> None:
    world = started("back")
    (uid,) = world.supervisor.processes
    assert world.supervisor.handle_call_killed(uid, 1.0) == [d.Kill(uid)]
    assert world.supervisor.handle_call_killed(uid, 1.0) == []
    assert world.supervisor.handle_call_killed(999, 1.0) == []
