"""When a listening socket has no users any more, and none to come."""

from __future__ import annotations

import math
from typing import Any

import pytest

from mob.core.supervisor import Supervisor
from mob.core.tenancy import Tenancy
from mob.plan import Cluster, Plan, RolePlan
from tests.core.world import World, plan, started

LINGER = 30.0
ENDED = "ended by itself (exit status 0)"
KILLED = "was killed by SIGKILL"


def shared(world: World, *uids: int) -> Tenancy:
    """Return the tenancy of a socket on which these workers listen."""
    tenancy = Tenancy()
    for uid in uids:
        tenancy.enter(uid, world.mobsters[uid].role, world.supervisor.crew)
    return tenancy


def left(world: World, tenancy: Tenancy) -> float:
    """Return the seconds until it ends."""
    return tenancy.ends_at(world.supervisor.crew, world.now, LINGER) - world.now


def booting(*roles: str, **options: Any) -> World:
    world = World(plan(*roles, options=options))
    world.start()
    return world


def served(*roles: str, **options: Any) -> tuple[World, Tenancy]:
    """Return a world with workers that bound it and then became ready."""
    world = booting(*roles, **options)
    tenancy = shared(world, *world.mobsters)
    for uid in world.mobsters:
        world.forked(uid)
        world.ready(uid)
    return world, tenancy


def end(world: World, tenancy: Tenancy, uid: int, why: str) -> None:
    tenancy.users.discard(uid)
    world.exits_with(uid, why)


def test_it_stays_while_anybody_holds_it() -> None:
    world, tenancy = served("back*2")
    end(world, tenancy, 1, KILLED)
    assert left(world, tenancy) == math.inf


def test_it_stays_while_a_successor_is_on_its_way_and_ends_when_that_does_without_it() -> None:
    world, tenancy = served("back")
    end(world, tenancy, 1, KILLED)
    assert left(world, tenancy) == math.inf
    (successor,) = world.mobsters
    world.forked(successor)
    assert left(world, tenancy) == math.inf
    world.ready(successor)
    assert left(world, tenancy) == 0


def test_it_stays_in_the_pause_between_two_starts_and_ends_when_the_role_is_given_up() -> None:
    world, tenancy = served("back", intensity=2, period=60)
    seen = []
    for _ in range(3):
        (uid,) = world.mobsters
        end(world, tenancy, uid, KILLED)
        seen.append(left(world, tenancy))
        world.pass_time(20)
    assert seen == [math.inf, math.inf, 0]


@pytest.mark.parametrize("restart", ["temporary", "transient"])
def test_it_ends_with_workers_whose_work_is_done(restart: str) -> None:
    world, tenancy = served("back", restart=restart)
    tenancy.users.discard(1)
    world.carry_out(world.supervisor.handle_exited(1, ENDED, world.now, status=0))
    assert left(world, tenancy) == 0


def test_it_ends_when_the_role_has_no_worker_any_more() -> None:
    world, tenancy = served("back*2")
    world.carry_out(world.supervisor.scaling.resize("back", 0, world.now, "as asked for"))
    assert left(world, tenancy) == math.inf
    for uid in list(world.mobsters):
        tenancy.leave(uid, world.supervisor.crew)  # each reports that it left the queue, and finishes its work
    assert left(world, tenancy) == 0


def test_it_stays_for_a_role_that_grows_again_before_its_last_worker_has_ended() -> None:
    world, tenancy = served("back")
    world.carry_out(world.supervisor.scaling.resize("back", 0, world.now, "as asked for"))
    tenancy.leave(1, world.supervisor.crew)
    world.carry_out(world.supervisor.scaling.resize("back", 1, world.now, "as asked for"))
    assert left(world, tenancy) == math.inf


def test_it_ends_in_a_stop_as_soon_as_nobody_reads_it() -> None:
    world, tenancy = served("back")
    world.carry_out(world.supervisor.handle_stop(world.now))
    assert left(world, tenancy) == math.inf
    tenancy.leave(1, world.supervisor.crew)
    assert left(world, tenancy) == 0


def test_a_worker_that_binds_when_it_is_ready_is_waited_for() -> None:
    world = started("back")
    tenancy = shared(world, 1)
    end(world, tenancy, 1, KILLED)
    (successor,) = world.mobsters
    world.forked(successor)
    world.ready(successor)
    assert left(world, tenancy) == LINGER
    world.now += 10
    assert left(world, tenancy) == LINGER - 10
    tenancy.enter(successor, "back", world.supervisor.crew)
    assert left(world, tenancy) == math.inf


def test_what_a_running_worker_closes_stays_for_a_while() -> None:
    world, tenancy = served("back")
    tenancy.leave(1, world.supervisor.crew)  # it may have got a signal that is unknown here
    assert left(world, tenancy) == LINGER


def test_it_stays_while_a_successor_of_a_worker_that_has_left_boots() -> None:
    world, tenancy = served("back")
    world.carry_out(world.supervisor.handle_reload([], (9, 1), world.now))
    tenancy.users.discard(1)
    assert left(world, tenancy) == math.inf


@pytest.mark.parametrize("has_lease", [False, True])
def test_it_stays_here_for_a_singleton_that_runs_here(has_lease: bool) -> None:
    role = RolePlan("cron", "cron", singleton=True)
    supervisor = Supervisor(Plan("app", "/", (role,), cluster=Cluster(("nats://127.0.0.1",), "a")))
    supervisor.start(0.0)
    supervisor.crew.leases["cron"].token = 9 if has_lease else 0
    tenancy = Tenancy(roles=["cron"])
    assert tenancy.ends_at(supervisor.crew, 0.0, LINGER) == (math.inf if has_lease else 0.0)
