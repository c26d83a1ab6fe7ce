"""Workers that do not get ready, and workers that hang."""

from __future__ import annotations

import pytest

from mob.core import decisions as d
from mob.wire.messages import Beat
from tests.core.world import World, plan, started


def beat(world: World, **values: float) -> list[d.Decision]:
    return world.carry_out(world.supervisor.handle_beat(1, Beat(**values), world.now))  # type: ignore[arg-type]


def test_one_that_does_not_get_ready_is_asked_where_it_stands_then_killed() -> None:
    world = started(app=plan("back", options={"boot_timeout": 10.0}), ready=False)
    world.pass_time(9.9)
    assert world.inspected == []
    world.pass_time(0.2)
    assert world.inspected == [1]
    assert world.told == ["back.0 (pid 101) was not ready within 10 s (boot_timeout); killing it."]
    assert not world.mobsters[1].is_killed
    world.carry_out(world.supervisor.handle_inspection(1, "the stacks"))
    assert world.mobsters[1].is_killed
    (record,) = [each for each in world.exits_with(1) if isinstance(each, d.Record)]
    assert record.stacks == "the stacks"
    assert record.why == "was not ready within 10 s (boot_timeout)"


def test_a_module_that_blocks_is_named_once_and_at_its_end() -> None:
    world = started(app=plan("back", options={"boot_timeout": 10.0}), ready=False)
    for _ in range(2):
        world.carry_out(world.supervisor.handle_beat(1, Beat(blocked="/app/back.py:7 in <module>"), world.now))
    (told,) = world.told
    assert "back.0 (pid 101) is not ready: its module is blocked at /app/back.py:7 in <module>" in told
    assert "call mob.ready() before it. Otherwise it is killed 10 s after its launch (boot_timeout)." in told
    (row,) = world.supervisor.rows(world.now)
    assert (
        row.note == "not ready: its module is blocked at /app/back.py:7 in <module>; call mob.ready() before that line"
    )
    world.pass_time(10.1)
    assert "(boot_timeout); its module was at /app/back.py:7 in <module>" in world.told[-1]
    assert "mob.ready()" in world.told[-1]


def test_one_that_has_become_ready_is_not_named() -> None:
    world = started("back")
    world.carry_out(world.supervisor.handle_beat(1, Beat(blocked="/app/back.py:7 in <module>"), world.now))
    assert world.told == []


def test_what_it_waits_for_is_its_note_and_no_module_that_blocks() -> None:
    for is_ready in (False, True):
        world = started(app=plan("back"), ready=is_ready)
        world.carry_out(world.supervisor.handle_beat(1, Beat(blocked="waits for jobs.db: pid 7 has it"), world.now))
        (row,) = world.supervisor.rows(world.now)
        assert (world.told, row.note) == ([], "waits for jobs.db: pid 7 has it")


def test_one_that_says_nothing_when_asked_is_killed_all_the_same() -> None:
    world = started(app=plan("back", options={"boot_timeout": 10.0}), ready=False)
    world.pass_time(10.1)
    assert not world.mobsters[1].is_killed
    world.wake()
    assert world.mobsters[1].is_killed


def booting(is_stopped: bool = False) -> World:
    """Return a world with a worker that has booted for three seconds, and has ten in total."""
    world = started(app=plan("back", options={"boot_timeout": 10.0}), ready=False)
    world.supervisor.health._is_stopped = lambda pid: is_stopped
    for _ in range(3):
        world.pass_time(1.0)
        beat(world)
    return world


def test_time_in_which_all_stood_still_is_no_boot_time() -> None:
    world = booting()
    world.now += 20.0  # no process ran, no timer fired
    world.pass_time(0.1)
    assert world.inspected == []
    beat(world)
    for _ in range(5):
        world.pass_time(1.0)
        beat(world)
    assert world.inspected == []
    world.pass_time(2.0)
    assert world.inspected == [1]


def test_a_worker_that_all_stood_still_with_and_that_says_nothing_has_its_time_once_more() -> None:
    world = booting()
    world.now += 20.0
    world.pass_time(9.0)
    assert world.inspected == []
    world.pass_time(1.5)
    assert world.inspected == [1]


def test_time_in_which_only_the_worker_stood_still_is_no_boot_time() -> None:
    world = booting()
    world.pass_time(6.0)
    beat(world)  # it was suspended for five seconds
    world.pass_time(4.5)
    beat(world)
    assert world.inspected == []
    world.pass_time(12.0)
    assert world.inspected == [1]


def test_a_worker_that_is_stopped_when_it_should_be_ready_is_told_and_not_killed() -> None:
    world = booting(is_stopped=True)
    world.pass_time(60.0)
    assert world.inspected == []
    assert "back.0 (pid 101) is stopped (SIGSTOP or a debugger)" in world.told[0]
    assert len(world.told) <= 6


@pytest.mark.parametrize(
    ("values", "is_hanging"),
    [
        ({"stuck": 4.9}, False),
        ({"stuck": 5.0}, True),
        ({"stuck": 5.0, "allowed": 60.0}, False),  # the export has said that it may take so long
        ({"stuck": 60.0, "allowed": 60.0}, True),
    ],
)
def test_when_a_worker_hangs(values: dict[str, float], is_hanging: bool) -> None:
    world = started(app=plan("back", options={"hang_timeout": 5.0}))
    beat(world, **values)
    assert world.inspected == ([1] if is_hanging else [])


def test_one_that_says_nothing_hangs_too() -> None:
    world = started(app=plan("back", options={"hang_timeout": 5.0}))
    for _ in range(10):
        world.pass_time(1.0)
        beat(world)
    assert world.inspected == []
    world.timers.append(world.now + 6.0)
    world.pass_time(6.1)
    assert world.inspected == [1]
    assert "no heartbeat for 6.0 s (hang_timeout=5)" in world.told[-1]


def test_silence_is_noticed_by_a_timer_of_its_own() -> None:
    world = started(app=plan("back", options={"hang_timeout": 5.0, "boot_timeout": None}))
    for _ in range(60):
        world.pass_time(1.0)
        beat(world)
    world.pass_time(15.0)
    assert world.inspected == [1]


def test_one_that_drains_is_not_looked_at_again_and_again() -> None:
    world = started(app=plan("back", options={"hang_timeout": 2.0, "boot_timeout": None}))
    world.draining(1)
    world.pass_time(3.0)
    assert min(world.timers) == 1030.0  # the deadline of its end; nothing rings in the past
    assert world.inspected == []


def test_a_kingpin_that_stood_still_itself_listens_before_it_blames() -> None:
    world = started(app=plan("back", options={"hang_timeout": 5.0, "boot_timeout": None}))
    world.now += 60.0
    world.wake()
    assert world.inspected == []
    beat(world)
    world.pass_time(5.5)
    assert world.inspected == []
    world.pass_time(5.0)
    assert world.inspected == [1]


def test_without_a_limit_nothing_is_a_hang() -> None:
    world = started("back")
    beat(world, stuck=1e6)
    world.pass_time(1e4)
    assert world.inspected == []


def test_a_late_answer_to_the_question_is_ignored() -> None:
    world = started("back")
    assert world.supervisor.handle_inspection(1, "x") == []
    assert world.supervisor.handle_inspection(99, "x") == []


def test_what_was_killed_is_not_looked_at_again() -> None:
    world = World(plan("back"))
    world.start()
    world.forked(1)
    world.pass_time(0.1)
    world.supervisor.processes[1].killed = True
    assert world.supervisor.health.handle_wake(world.now + 1000.0) == []
