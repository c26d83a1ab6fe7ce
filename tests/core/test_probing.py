"""The readiness of the app, role by role."""

from __future__ import annotations

from typing import Any

from mob.core.probing import chosen, readiness, shortfall
from mob.core.supervisor import Supervisor
from mob.plan import Cluster, Plan, RolePlan
from mob.wire.messages import Member, ReadinessIs, RoleReadiness
from tests.core.world import World, plan


def of(supervisor: Supervisor, role: str = "back") -> RoleReadiness:
    return next(each for each in readiness(supervisor.crew) if each.name == role)


def ready_all(world: World) -> None:
    for uid in list(world.mobsters):
        world.forked(uid, 100 + uid)
        world.ready(uid)


def test_a_role_is_ready_when_one_of_its_workers_is() -> None:
    world = World(plan("back*2", "front"))
    world.start()
    assert of(world.supervisor) == RoleReadiness("back", 0, 2, False, "no worker is ready yet")
    first = next(iter(world.mobsters))
    world.forked(first, 101)
    world.ready(first)
    assert of(world.supervisor) == RoleReadiness("back", 1, 2, True)
    assert not of(world.supervisor, "front").is_ready
    ready_all(world)
    assert [each.is_ready for each in readiness(world.supervisor.crew)] == [True, True]


def test_a_role_that_cannot_start_says_why() -> None:
    world = World(plan("back"))
    world.start()
    (uid,) = world.mobsters
    world.forked(uid, 101)
    world.boot_failed(uid, "Traceback ...\nImportError: no module named x")
    world.exits_with(uid, "exited with status 1")
    assert of(world.supervisor).why == "back.0: ImportError: no module named x"


def test_a_worker_that_died_is_told_of_until_the_next_is_ready() -> None:
    world = World(plan("back"))
    world.start()
    ready_all(world)
    (uid,) = world.mobsters
    world.exits_with(uid)
    assert of(world.supervisor) == RoleReadiness("back", 0, 1, False, "was killed by SIGKILL")


def test_a_role_that_waits_for_another_is_not_ready() -> None:
    world = World(plan("front", "back", options={"needs": ("back",)}))
    world.start()
    assert of(world.supervisor, "front").why == "waits for back"


def test_a_role_of_which_none_is_wanted_is_ready() -> None:
    world = World(plan("back*2"))
    world.start()
    ready_all(world)
    world.carry_out(world.supervisor.handle_scale("back", 0, (0, 0), world.now))
    world.reap()
    assert shortfall(ReadinessIs(1, False, readiness(world.supervisor.crew))) == []


def test_a_role_that_has_done_its_work_is_ready_and_one_that_failed_is_not() -> None:
    world = World(plan("migrate", options={"restart": "temporary"}))
    world.start()
    ready_all(world)
    (uid,) = world.mobsters
    world.carry_out(world.supervisor.handle_exited(uid, "exited with status 0", world.now, 0))
    assert of(world.supervisor, "migrate") == RoleReadiness("migrate", 0, 1, True)

    world = World(plan("migrate", options={"restart": "temporary"}))
    world.start()
    ready_all(world)
    (uid,) = world.mobsters
    world.carry_out(world.supervisor.handle_exited(uid, "exited with status 3", world.now, 3))
    assert not of(world.supervisor, "migrate").is_ready


def test_a_singleton_is_ready_where_another_machine_runs_it() -> None:
    roles = (RolePlan("cron", "cron", singleton=True),)
    mind = Supervisor(Plan("app", "/", roles, cluster=Cluster(("nats://127.0.0.1",), "a")))
    mind.start(0.0)
    assert of(mind, "cron") == RoleReadiness("cron", 0, 1, False, "waits for its lease")
    mind.crew.roster.put(Member((7 << 32) + 1, 900, "cron", 0, 1, "ready"))
    assert of(mind, "cron") == RoleReadiness("cron", 0, 1, True)


def test_a_worker_in_reserve_takes_no_work() -> None:
    world = World(plan("back"))
    world.start()
    ready_all(world)
    (process,) = world.supervisor.crew.processes.values()
    process.slot.index = -1
    world.supervisor.crew.roster.put(process.member())
    assert not of(world.supervisor).is_ready


ROLES = (RoleReadiness("back", 0, 2, False, "importing"), RoleReadiness("front", 1, 1, True))


def told(*names: str, stopping: bool = False, **more: Any) -> list[str]:
    return shortfall(ReadinessIs(1, stopping, ROLES), names, **more)


def test_what_is_said() -> None:
    assert told() == told("back", "front") == ["back: 0 of 2 workers ready (importing)"]
    assert told("front") == told(excluded=["back"]) == []
    assert told("front", stopping=True) == ["the app is stopping"]
    assert [each.name for each in chosen(ROLES, (), ["front"])] == ["back"]
