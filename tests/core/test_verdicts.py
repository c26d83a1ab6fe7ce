"""How a worker died, in the words that its callers read."""

from __future__ import annotations

import pytest

from mob.plan import Cluster
from mob.wire import messages as m
from tests.core.world import KILLED, World, changes, plan, started


def gone(world: World, uid: int, why: str, status: int | None) -> str:
    (announced,) = changes(m.MemberGone, world.supervisor.handle_exited(uid, why, world.now, status))
    assert announced.uid == uid
    return announced.why


@pytest.fixture
def world() -> World:
    world = World(plan("back*2", options={"stop_exit_codes": (4,)}))
    world.start()
    for uid in (1, 2):
        world.forked(uid)
        world.ready(uid)
    return world


@pytest.mark.parametrize(
    ("why", "status", "text"),
    [
        ("was killed by SIGSEGV", -11, "was killed by SIGSEGV (signal 11); see `mob crashes app`"),
        ("exited with status 3", 3, "exited with status 3; see `mob crashes app`"),
        ("exited with status 4", 4, "exited with status 4"),  # no crash, says the role
        ("ended by itself (exit status 0)", 0, "ended by itself (exit status 0)"),
    ],
)
def test_an_exit_is_said_as_it_was(world: World, why: str, status: int, text: str) -> None:
    assert gone(world, 1, why, status) == text


def test_a_direct_app_points_to_no_report_that_nobody_would_look_for() -> None:
    world = started(app=plan("back", direct=True))
    assert gone(world, 1, "exited with status 3", 3) == "exited with status 3"


def test_in_a_cluster_the_machine_that_has_the_report_is_named() -> None:
    world = started(app=plan("back", cluster=Cluster(("nats://127.0.0.1",), "left")))
    assert gone(world, 1, "exited with status 3", 3) == "exited with status 3; see `mob crashes app --node left`"


def test_a_kill_by_mob_says_why(world: World) -> None:
    process = world.supervisor.processes[1]
    process.why_killed = "hangs: no heartbeat for 5.0 s (hang_timeout=3)"
    told = "was killed by mob because it hangs: no heartbeat for 5.0 s (hang_timeout=3); see `mob crashes app`"
    assert gone(world, 1, KILLED, -9) == told


def test_a_kill_after_the_grace_time_is_no_riddle(world: World) -> None:
    world.supervisor.processes[1].killed = True
    assert gone(world, 1, KILLED, -9).startswith(
        "was killed by mob because it was still running after it was asked to stop"
    )


def test_a_lost_lease_is_said_once(world: World) -> None:
    world.supervisor.processes[1].why_killed = "was killed because its lease was lost: no NATS"
    assert gone(world, 1, KILLED, -9).startswith("was killed because its lease was lost: no NATS")
