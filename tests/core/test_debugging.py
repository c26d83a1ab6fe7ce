"""Which mobster has the terminal, which ones wait for it, and what does not count against them meanwhile."""

from __future__ import annotations

from typing import Any

from mob.core import decisions as d
from mob.wire.messages import Beat
from tests.core.world import World, plan, started


def at_breakpoint(world: World, uid: int, number: int = 1, where: str = "back.py:7") -> list[d.Decision]:
    return world.carry_out(world.supervisor.handle_wants_terminal(uid, number, where, world.now))


def goes_on(world: World, uid: int, number: int = 1) -> list[d.Decision]:
    return world.carry_out(world.supervisor.handle_returned_terminal(uid, number, world.now))


def moves(decisions: list[d.Decision]) -> list[Any]:
    """Return the tickets that get the terminal; None: it is taken back."""
    found: list[Any] = []
    for decision in decisions:
        if isinstance(decision, d.LendTerminal):
            found.append(decision.ticket)
        elif isinstance(decision, d.TakeBackTerminal):
            found.append(None)
    return found


def notes(world: World) -> list[str]:
    return [process.note for process in world.supervisor.processes.values()]


def test_one_has_it_and_the_others_get_it_in_their_order() -> None:
    world = started("back*3")
    assert moves(at_breakpoint(world, 2)) == [(2, 1)]
    assert moves(at_breakpoint(world, 1, 5, "back.py:9")) == []
    assert moves(at_breakpoint(world, 3)) == []
    assert notes(world) == [
        "waits at back.py:9 for the terminal",
        "in the debugger at back.py:7",
        "waits at back.py:7 for the terminal",
    ]
    assert world.told == [
        "back.1 (pid 102) is in the debugger at back.py:7; output of other processes is held back.",
        "back.0 (pid 101) waits at back.py:9 for the terminal, which back.1 (pid 102) is using.",
        "back.2 (pid 103) waits at back.py:7 for the terminal, which back.1 (pid 102) is using.",
    ]
    assert moves(goes_on(world, 2)) == [None, (1, 5)]
    assert moves(goes_on(world, 3)) == []  # it has given up waiting
    assert moves(goes_on(world, 1, 5)) == [None]
    assert notes(world) == ["", "", ""]
    assert repr(world.supervisor.debugging) == "<Debugging: no one has the terminal, 0 wait>"


def test_two_threads_of_one_mobster_have_it_one_after_the_other() -> None:
    world = started("back")
    at_breakpoint(world, 1, 1)
    at_breakpoint(world, 1, 2)
    assert moves(goes_on(world, 1, 1)) == [None, (1, 2)]
    assert world.supervisor.debugging.is_excused(1)
    assert moves(goes_on(world, 1, 2)) == [None]
    assert not world.supervisor.debugging.is_excused(1)


def test_one_that_dies_leaves_it_to_the_next() -> None:
    world = started("back*2")
    at_breakpoint(world, 1)
    at_breakpoint(world, 2)
    assert moves(world.exits_with(1)) == [None, (2, 1)]
    assert moves(world.exits_with(2)) == [None]
    assert moves(goes_on(world, 2)) == []


def test_the_debugger_is_no_hang_and_neither_is_the_time_after_it() -> None:
    world = started(app=plan("back*2", options={"hang_timeout": 5.0, "max_age": 10.0}))
    at_breakpoint(world, 1)
    at_breakpoint(world, 2)
    for _ in range(60):
        world.pass_time(1.0)
        for uid in (1, 2):
            world.carry_out(world.supervisor.handle_beat(uid, Beat(stuck=60.0), world.now))
    assert world.inspected == []
    assert len(world.mobsters) == 2  # none was replaced for its age
    goes_on(world, 1)
    world.carry_out(world.supervisor.handle_beat(1, Beat(stuck=60.0), world.now))
    assert world.inspected == []
    world.pass_time(4.0)
    world.carry_out(world.supervisor.handle_beat(1, Beat(stuck=64.0), world.now))
    assert world.inspected == []
    world.pass_time(1.0)
    world.carry_out(world.supervisor.handle_beat(1, Beat(stuck=65.0), world.now))
    assert world.inspected == [1]  # it hangs, but not in the debugger


def test_the_debugger_takes_no_time_to_boot() -> None:
    world = started(app=plan("back", options={"boot_timeout": 10.0}), ready=False)
    world.pass_time(4.0)
    at_breakpoint(world, 1)
    world.pass_time(100.0)
    assert world.inspected == []
    goes_on(world, 1)
    world.pass_time(5.9)
    assert world.inspected == []
    world.pass_time(0.2)
    assert world.inspected == [1]


def test_a_stop_does_not_wait_for_the_debugger() -> None:
    world = started("back", grace=5.0)
    at_breakpoint(world, 1)
    world.stop()
    world.pass_time(5.1)
    assert 1 not in world.mobsters


def test_a_reload_waits_for_the_debugger() -> None:
    world = started("back", grace=5.0)
    at_breakpoint(world, 1)
    world.carry_out(world.supervisor.handle_reload([], (0, 0), world.now))
    world.forked(2)
    world.ready(2)
    world.pass_time(60.0)
    assert 1 in world.mobsters
    goes_on(world, 1)
    world.pass_time(4.9)
    assert 1 in world.mobsters
    world.pass_time(0.2)
    assert 1 not in world.mobsters
