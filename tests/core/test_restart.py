"""A restart that a user asks for: workers end, all at once, and others take their places."""

from __future__ import annotations

import pytest

from mob.core import decisions as d
from tests.core.world import World, plan, started

ASKED = (9, 1)
KILLED = "was killed by SIGKILL"
DONE = "ended by itself (exit status 0)"


def restart(world: World, *roles: str, pid: int = 0) -> None:
    world.due.clear()  # the pause is over
    world.carry_out(world.supervisor.handle_restart(list(roles), pid, ASKED, world.now))


def asked(world: World) -> list[int]:
    return sorted(uid for uid, mobster in world.mobsters.items() if mobster.asked_grace is not None)


def launched(world: World) -> list[tuple[str, int]]:
    return sorted(mobster.slot for mobster in world.mobsters.values() if mobster.ready_at is None)


def test_all_workers_of_the_role_are_asked_at_once_and_others_follow() -> None:
    world = started("back*3", "front")
    restart(world, "back")
    assert asked(world) == [1, 2, 3]
    assert world.answers == [d.Answer(ASKED, text="restarting 3 workers: back.")]
    for uid in (1, 2, 3):
        world.exits_with(uid, DONE)
    assert launched(world) == [("back", 0), ("back", 1), ("back", 2)]
    assert world.told[0] == "restarting back."


def test_one_is_meant_by_its_pid() -> None:
    world = started("back*3")
    restart(world, pid=102)
    assert asked(world) == [2]
    assert world.answers[-1].text == "restarting 1 worker: back.1 (pid 102)."
    world.exits_with(2, DONE)
    assert launched(world) == [("back", 1)]


def test_one_that_ends_already_is_not_counted() -> None:
    world = started("back*2")
    world.draining(1)
    restart(world, "back")
    assert world.answers[-1].text == "restarting 1 worker: back."


@pytest.mark.parametrize("policy", ["transient", "temporary"])
def test_others_follow_whatever_the_role_says_of_revival(policy: str) -> None:
    world = started(app=plan("back", options={"restart": policy}))
    restart(world, "back")
    world.exits_with(1, DONE)
    assert launched(world) == [("back", 0)]


def test_a_worker_that_is_waited_for_comes_now() -> None:
    world = started("back")
    for uid in (1, 2):  # the second death in a row is followed by a pause
        world.exits_with(uid, KILLED)
        if uid == 1:
            world.forked(2)
            world.ready(2)
    assert launched(world) == []
    restart(world, "back")
    assert launched(world) == [("back", 0)]
    assert world.answers[-1].text == "restarting 1 worker: back."


def test_a_role_that_was_given_up_is_tried_again() -> None:
    world = started(app=plan("back", "front", options={"intensity": 0}))
    world.exits_with(1, KILLED)
    assert world.supervisor.roster.roles["back"].given_up
    restart(world, "back")
    assert launched(world) == [("back", 0)]
    assert not world.supervisor.roster.roles["back"].given_up


@pytest.mark.parametrize(
    ("roles", "pid", "error"),
    [
        (["bakc"], 0, "there is no role 'bakc'. Did you mean 'back'?"),
        ([], 4711, "no worker has pid 4711; `mob ps` lists them."),
    ],
)
def test_what_is_not_there_is_named(roles: list[str], pid: int, error: str) -> None:
    world = started("back")
    restart(world, *roles, pid=pid)
    assert world.answers == [d.Answer(ASKED, error=error)]
    assert asked(world) == []


def test_nothing_is_restarted_in_an_app_that_stops() -> None:
    world = started("back")
    world.stop()
    restart(world, "back")
    assert world.answers[-1].error == "the app is stopping."
