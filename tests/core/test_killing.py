"""Tables: what happens to a call that is to end, and to the process that runs it."""

from __future__ import annotations

import pytest

from mob.core import decisions as d
from mob.core.killing import FOR_A_CALL, Fate, fate_of, overran
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


OVERRUN = m.Overrun(caller=3, number=44, mark=99, limit=30.0, deadline=12.5)


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


def test_a_call_that_ran_for_too_long_is_a_crash_and_no_failure_of_its_role() -> None:
    world = started(app=plan("back", options={"intensity": 1}))
    for _ in range(5):
        (uid,) = world.supervisor.processes
        why, pid = overran("back.foo", 30), world.supervisor.processes[uid].pid
        assert world.supervisor.handle_call_killed(uid, world.now, why, OVERRUN) == [d.Kill(uid)]
        decisions = world.supervisor.handle_exited(uid, "was killed by SIGKILL", world.now, -9, blamed="foo")
        assert why == "was killed because back.foo ran for more than 30 s (kill_after=30)"
        assert [each.why for each in decisions if isinstance(each, d.Record)] == [why]
        gone = next(each.change for each in decisions if isinstance(each, d.Announce))
        assert gone == m.MemberGone(uid, f"{why} (signal 9); see `mob crashes app`", OVERRUN)
        (told,) = [each for each in decisions if isinstance(each, d.Tell)]
        name = f"back.0 (pid {pid})" if pid else "back.0"
        assert (told.kind, told.text) == ("crash", f"{name} {why}; restarting it.")
        assert any(isinstance(each, d.Launch) for each in decisions)
    assert not world.supervisor.quarantine.suspects
