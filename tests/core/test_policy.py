"""Which workers are restarted, which roles wait for others, and what follows when a role gives up."""

from __future__ import annotations

import msgspec
import pytest

from mob.core import decisions as d, snapshot
from mob.core.revival import Revival, is_wanted
from mob.plan import RolePlan
from tests.core.world import World, plan, started


def die(world: World, uid: int, status: int = 1) -> list[d.Decision]:
    return world.carry_out(world.supervisor.handle_exited(uid, f"exited with status {status}", world.now, status))


@pytest.mark.parametrize(
    ("restart", "codes", "status", "wanted"),
    [
        ("permanent", (), 0, True),
        ("permanent", (), 1, True),
        ("permanent", (), -9, True),
        ("permanent", (3,), 3, False),
        ("permanent", (3,), 4, True),
        ("transient", (), 0, False),
        ("transient", (), 1, True),
        ("transient", (), -11, True),
        ("transient", (3,), 3, False),
        ("transient", (), None, True),
        ("temporary", (), 0, False),
        ("temporary", (), -9, False),
    ],
)
def test_who_is_revived(restart: str, codes: tuple[int, ...], status: int | None, wanted: bool) -> None:
    role = RolePlan("back", "back", restart=restart, stop_exit_codes=codes)
    assert is_wanted(role, status, restarting=False) is wanted
    assert is_wanted(role, status, restarting=True)


def test_an_app_whose_work_is_done_ends() -> None:
    world = started(app=plan("job*2", options={"restart": "transient"}))
    die(world, 1, 0)
    assert world.statuses == []
    assert world.told == ["job.0 (pid 101) exited with status 0; it is not restarted (restart='transient')."]
    die(world, 2, 0)
    assert world.told[-1] == "all workers exited and none is to be restarted; the app ends."
    assert world.statuses == [0]


def test_a_role_gives_up_and_the_rest_goes_on() -> None:
    world = started(app=plan("back", "front", options={"intensity": 2, "period": 60.0}))
    for _ in range(3):
        (uid,) = [uid for uid, mobster in world.mobsters.items() if mobster.role == "back"]
        world.forked(uid)
        die(world, uid)
        world.due.clear()
        if not any(mobster.role == "back" for mobster in world.mobsters.values()):
            world.pass_time(1.0)
    assert world.told[-1].endswith("'back' is given up: too many restarts (more than intensity=2 within period=60 s).")
    assert world.supervisor.roster.roles["back"].given_up
    assert [row.state for row in world.supervisor.rows(world.now)] == ["failed", "ready"]
    assert [mobster.role for mobster in world.mobsters.values()] == ["front"]
    assert world.statuses == []
    world.carry_out(world.supervisor.handle_reload(["back"], (9, 1), world.now))
    assert not world.supervisor.roster.roles["back"].given_up
    assert sorted(mobster.role for mobster in world.mobsters.values()) == ["back", "front"]


def test_revivals_over_a_long_time_are_tolerated() -> None:
    world = started(app=plan("back", options={"intensity": 1, "period": 10.0}))
    for _ in range(5):
        (uid,) = world.mobsters
        world.due.clear()
        die(world, uid)
        world.due.clear()
        world.pass_time(11.0)
        (uid,) = world.mobsters
        world.forked(uid)
        world.ready(uid)
    assert not world.supervisor.roster.roles["back"].given_up


def test_when_an_essential_role_gives_up_the_app_stops_with_status_1() -> None:
    world = started(app=plan("back", "front", options={"intensity": 0, "essential": True}))
    die(world, 1)
    assert "'back' is essential, so the app ends." in world.told
    world.exits_with(2, "ended by itself (exit status 0)")
    assert world.statuses == [1]


def test_a_role_that_cannot_start_ends_the_app_with_status_3() -> None:
    world = World(plan("back", "front", options={"boot_tries": 2}))
    world.start()
    world.forked(1)
    world.forked(2)
    world.ready(2)
    die(world, 1)
    assert world.statuses == []
    world.pass_time(1.0)
    uid = max(world.mobsters)
    world.forked(uid)
    die(world, uid)
    assert "no worker of 'back' was ever ready, and 2 starts failed (boot_tries)." in world.told[-3]
    world.exits_with(2, "ended by itself (exit status 0)")
    assert world.statuses == [3]


def test_a_role_that_was_ready_once_is_tried_again() -> None:
    world = started(app=plan("back", options={"boot_tries": 1}))
    die(world, 1)
    world.pass_time(1.0)
    uid = max(world.mobsters)
    world.forked(uid)
    die(world, uid)
    world.pass_time(1.0)
    assert world.statuses == []
    assert len(world.mobsters) == 1


def test_a_role_is_started_when_what_it_needs_is_ready_and_stopped_before_it() -> None:
    world = World(plan("front", "kv", options={"needs": ("kv",)}))
    world.start()
    assert [mobster.role for mobster in world.mobsters.values()] == ["kv"]
    assert [row.note for row in world.supervisor.rows(world.now)] == ["waits for kv", ""]
    world.forked(1)
    world.ready(1)
    assert [mobster.role for mobster in world.mobsters.values()] == ["kv", "front"]
    world.forked(2)
    world.ready(2)
    world.roles = ["kv", "front"]  # the order of the start
    world.stop()
    assert world.mobsters[2].asked_grace is not None
    assert world.mobsters[1].asked_grace is None


def test_rest_for_one_restarts_the_roles_that_come_later() -> None:
    app = plan("db", "back", "front", strategy="rest_for_one")
    world = started(app=app)
    world.exits_with(2)
    asked = [mobster.role for mobster in world.mobsters.values() if mobster.asked_grace is not None]
    assert asked == ["front"]
    assert world.launches["back", 0] == 2
    world.exits_with(3, "ended by itself (exit status 0)")
    assert world.launches["front", 0] == 2
    assert world.launches["db", 0] == 1


def test_the_pause_is_a_tenth_longer_or_shorter_by_chance() -> None:
    pauses = {luck: Revival().pause_after(was_ready=False, lived=0.0, luck=luck) for luck in (0.0, 0.5, 1.0)}
    assert pauses == {0.0: pytest.approx(0.09), 0.5: pytest.approx(0.1), 1.0: pytest.approx(0.11)}


def test_a_death_is_recorded_but_not_one_that_was_wished() -> None:
    world = started("back*4")
    records = [each for each in die(world, 1) if isinstance(each, d.Record)]
    assert [(each.member.index, each.why) for each in records] == [(0, "exited with status 1")]
    assert not [each for each in die(world, 2, 0) if isinstance(each, d.Record)]
    world.draining(3)
    assert not [each for each in die(world, 3, 1) if isinstance(each, d.Record)]


def test_the_record_of_a_failed_import_says_so() -> None:
    world = started("back", ready=False)
    world.boot_failed(1, "Traceback ...\nImportError: no module named x")
    (record,) = [each for each in die(world, 1) if isinstance(each, d.Record)]
    assert record.why == "could not import 'back' and exited with status 1"
    assert record.stacks == "Traceback ...\nImportError: no module named x"


def test_a_temporary_one_that_was_never_born_is_launched_all_the_same() -> None:
    world = World(plan("job", options={"restart": "temporary"}))
    world.start()
    world.carry_out(world.supervisor.handle_fork_server_gone(world.now))
    world.pass_time(1.0)
    assert list(world.mobsters) == [2]


def test_an_app_whose_last_role_is_given_up_ends_with_status_1() -> None:
    world = started(app=plan("back", options={"intensity": 0}))
    die(world, 1)
    assert world.statuses == [1]


def one_shot(restart: str = "temporary", *more: str, jobs: int = 1, codes: tuple[int, ...] = ()) -> World:
    """`job` does its work once, `top` needs it; no worker is ready yet."""
    app = plan(f"job*{jobs}", "top", *more, options={"restart": restart, "stop_exit_codes": codes})
    top = msgspec.structs.replace(app.roles[1], needs=("job",))
    return started(app=msgspec.structs.replace(app, roles=(app.roles[0], top, *app.roles[2:])), ready=False)


def roles_of(world: World) -> list[str]:
    return [mobster.role for mobster in world.mobsters.values()]


@pytest.mark.parametrize(
    ("restart", "codes", "status"), [("temporary", (), 0), ("transient", (), 0), ("permanent", (3,), 3)]
)
def test_a_one_shot_role_that_ends_well_is_done_and_those_that_need_it_start(
    restart: str, codes: tuple[int, ...], status: int
) -> None:
    world = one_shot(restart, codes=codes)
    assert roles_of(world) == ["job"]
    die(world, 1, status)
    assert roles_of(world) == ["top"]
    assert world.told == [f"job.0 (pid 101) exited with status {status}; it is not restarted (restart={restart!r})."]
    assert world.statuses == []


def test_all_workers_of_a_one_shot_role_must_be_done() -> None:
    world = one_shot(jobs=2)
    die(world, 1, 0)
    assert roles_of(world) == ["job"]
    die(world, 2, 0)
    assert roles_of(world) == ["top"]


@pytest.mark.parametrize("status", [1, -9])
def test_an_app_whose_one_shot_role_fails_says_so_and_ends_with_1(status: int) -> None:
    world = one_shot("temporary", "other")
    die(world, 1, status)
    assert "'top' needs 'job', which did not exit with status 0 and is not restarted; the app ends." in world.told
    world.exits_with(2)  # other, which was asked to end
    assert world.statuses == [1]


def test_a_one_shot_role_that_was_told_to_end_is_not_done() -> None:
    world = one_shot()
    world.draining(1)
    die(world, 1, 0)
    assert world.statuses == [1]


def test_a_one_shot_role_that_fails_decides_the_status_of_an_app_that_has_nothing_else() -> None:
    world = started(app=plan("job", options={"restart": "temporary"}), ready=False)
    die(world, 1)
    assert world.statuses == [1]


def test_a_reload_runs_a_one_shot_role_again_and_then_those_that_need_it() -> None:
    world = one_shot()
    die(world, 1, 0)
    world.forked(2)
    world.ready(2)
    world.carry_out(world.supervisor.handle_reload([], (9, 1), world.now))
    assert roles_of(world) == ["top", "job"]
    world.forked(3)
    die(world, 3, 0)
    assert roles_of(world) == ["top", "top"]
    world.forked(4)
    world.ready(4)
    assert world.answers[-1].text.startswith("reloaded 2 workers")


def test_a_reload_whose_one_shot_role_fails_leaves_the_others_as_they_are() -> None:
    world = one_shot()
    die(world, 1, 0)
    world.forked(2)
    world.ready(2)
    world.carry_out(world.supervisor.handle_reload([], (9, 1), world.now))
    world.forked(3)
    die(world, 3, 1)
    assert roles_of(world) == ["top"]
    assert world.answers[-1].error.startswith("reload failed; the old workers keep running. job.0: the new one")
    assert world.statuses == []


def test_a_role_that_is_done_is_done_after_an_upgrade() -> None:
    world = one_shot()
    die(world, 1, 0)
    supervisor = world.supervisor
    again, _ = snapshot.restore(supervisor.plan, snapshot.take(supervisor), world.now)
    assert again.crew.is_met("job")


def test_an_app_goes_on_if_the_role_that_needs_a_failed_one_runs_already() -> None:
    world = one_shot()
    world.ready(1)
    world.forked(2)
    world.ready(2)
    die(world, 1)
    world.carry_out(world.supervisor.handle_scale("top", 2, (9, 1), world.now))
    world.carry_out(world.supervisor.handle_reload(["job"], (9, 2), world.now))
    world.forked(3)
    die(world, 3)
    assert not world.supervisor.stopping
    assert roles_of(world) == ["top"]
