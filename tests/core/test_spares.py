"""Spares: one that has booted takes the place of a worker that dies, and the next one boots."""

from __future__ import annotations

from typing import Any

import pytest

from mob.core import decisions as d
from mob.core.crew import places_of
from mob.core.registry import Registry
from mob.core.states import SlotState
from mob.core.supervisor import NEXT_SPARE
from mob.plan import Plan, RolePlan
from mob.wire import messages as m
from mob.wire.messages import Beat
from tests.core.test_rollout import come_up, reload
from tests.core.test_snapshot import follow
from tests.core.world import KILLED, World, changes, plan, started

ASKED = (9, 1)


def with_spares(workers: int = 2, spare: int = 1, *others: str, **options: Any) -> World:
    """Return a world in which all workers are there, the spares too."""
    world = started(app=plan(f"back*{workers}", *others, options={"spare": spare, **options}))
    come_up(world)
    return world


def rows(world: World) -> list[tuple[int, str, str]]:
    return [(row.index, row.state, row.note) for row in world.supervisor.rows(world.now) if row.role == "back"]


def states(world: World) -> list[tuple[int, str]]:
    return [(index, state) for index, state, _ in rows(world)]


def at(world: World, index: int, role: str = "back") -> int:
    """Return the uid of the process that counts there."""
    return world.supervisor.slots[role, index].uid


def test_a_spare_boots_when_a_worker_of_its_role_is_ready_and_gets_no_work() -> None:
    world = started(app=plan("back*2", options={"spare": 2}), ready=False)
    assert rows(world)[2:] == [(-1, "held", "waits for back"), (-2, "held", "waits for back")]
    decisions = world.ready(1)
    assert [each.index for each in decisions if isinstance(each, d.Launch)] == [-1, -2]
    world.ready(2)
    world.forked(3)
    (told,) = changes(m.MemberIs, world.ready(3))
    assert (told.member.index, told.member.state) == (-1, "spare")
    world.ready(4)
    world.ready(4)
    assert states(world) == [(0, "ready"), (1, "ready"), (-1, "spare"), (-2, "spare")]
    assert [member.uid for member in world.supervisor.roster.ready("back")] == [1, 2]
    assert world.supervisor.crew.parked("back") == 0


def test_it_takes_the_place_of_one_that_dies_and_the_next_one_follows() -> None:
    world = with_spares()
    decisions = world.exits_with(2)
    assert decisions[0] == d.Promote(3, "back", 1, 2)
    told = [each.change for each in decisions[1:3] if isinstance(each, d.Announce)]
    assert [type(each).__name__ for each in told] == ["MemberGone", "MemberIs"]
    assert {(each.index, each.state) for each in world.supervisor.roster.ready("back")} == {(0, "ready"), (1, "ready")}
    assert world.told[-1] == "back.1 (pid 102) was killed by SIGKILL; back.spare (pid 103) takes its place."
    assert rows(world)[2] == (-1, "waiting", "next try in 0.1 s")
    world.pass_time(NEXT_SPARE)
    assert states(world) == [(0, "ready"), (1, "ready"), (-1, "launching")]
    assert [row.restarts for row in world.supervisor.rows(world.now)] == [0, 1, 0]
    come_up(world)
    assert states(world)[2] == (-1, "spare")


def test_of_two_the_first_that_has_booted_goes_and_without_one_a_successor_starts() -> None:
    world = with_spares(1, 2)
    world.exits_with(at(world, -1), KILLED)
    assert world.told[-1] == "back.spare (pid 102) was killed by SIGKILL; restarting it."
    second = at(world, -2)
    world.exits_with(at(world, 0))
    assert at(world, 0) == second
    world.exits_with(at(world, 0))
    assert world.told[-1].endswith("restarting it in 0.1 s.")


def test_workers_that_die_again_and_again_cost_no_more_than_without_spares() -> None:
    world = with_spares(1)
    for pause in (NEXT_SPARE, 0.1, 0.15, 0.225):
        world.exits_with(at(world, 0))
        slot = world.supervisor.slots["back", -1]
        assert slot.due - world.now == pytest.approx(pause)
        world.pass_time(pause)
        come_up(world)
        assert states(world) == [(0, "ready"), (-1, "spare")]


def test_a_role_that_serves_is_ready_when_its_spare_says_so() -> None:
    world = with_spares(1, serve=":8000", boot_timeout=5.0)
    world.pass_time(100.0)
    decisions = world.exits_with(1)
    assert decisions[0] == d.Promote(2, "back", 0, 2)
    assert not world.supervisor.roster.ready("back")
    assert states(world)[0] == (0, "booting")
    world.ready(2)
    assert [member.index for member in world.supervisor.roster.ready("back")] == [0]

    world.pass_time(1.0)
    come_up(world)
    spare = at(world, -1)
    world.exits_with(2)
    world.pass_time(4.9)
    assert not world.mobsters[spare].is_killed
    world.pass_time(0.2)
    assert spare in world.inspected, "it is too slow"


def test_a_role_that_may_boot_for_ever_waits_for_its_spare_for_ever() -> None:
    world = with_spares(1, serve=":8000", boot_timeout=None)
    world.exits_with(1)
    world.pass_time(1000.0)
    assert states(world)[0] == (0, "booting")


def test_who_needs_the_role_is_started_by_a_spare_as_well() -> None:
    app = plan("back", "front", options={"spare": 1})
    app = Plan(app.name, "/", (app.roles[0], RolePlan("front", "front", needs=("back",))), app.grace)
    world = started(app=app)
    come_up(world)
    world.carry_out(world.supervisor.handle_restart(["front", "back"], 0, ASKED, world.now))
    assert world.answers[-1].text == "restarting 2 workers: front, back."
    for uid in [at(world, 0), at(world, -1), at(world, 0, "front")]:
        world.exits_with(uid, "ended")
    assert states(world) == [(0, "held"), (-1, "held")] or states(world)[1] == (-1, "held")
    for _ in range(3):
        come_up(world)
    assert states(world) == [(0, "ready"), (-1, "spare")]
    assert len(world.supervisor.roster.ready("front")) == 1


def test_a_spare_that_dies_comes_again_and_costs_the_role_nothing() -> None:
    world = with_spares(1, intensity=0)
    for pause in (0.0, 0.1, 0.15):
        spare = at(world, -1)
        world.exits_with(spare)
        world.pass_time(pause)
        assert at(world, -1) != spare
        come_up(world)
    assert states(world) == [(0, "ready"), (-1, "spare")]


def test_a_spare_that_cannot_boot_tries_again_after_pauses() -> None:
    world = started(app=plan("back", options={"spare": 1}))
    for pause in (0.1, 0.15):
        world.forked(at(world, -1))
        world.boot_failed(at(world, -1), "ValueError: no model")
        world.exits_with(at(world, -1), "exited with status 1")
        assert rows(world)[1][1] == "failing"
        assert world.supervisor.roster.roles["back"].failing == ""
        world.pass_time(pause)
    assert "next try in 0.1 s. Its error:\n    ValueError: no model" in world.told[-2]
    assert world.told[-1].endswith("next try in 0.2 s. Same error as before: ValueError: no model")


def test_a_spare_whose_module_cannot_wait_is_not_tried_again_before_a_reload() -> None:
    world = started(app=plan("back", options={"spare": 1}))
    uid = at(world, -1)
    world.carry_out(world.supervisor.handle_boot_failed(uid, "SpareError: it serves", is_unfit=True))
    world.exits_with(uid, "exited with status 1")
    assert states(world) == [(0, "ready"), (-1, "failed")]
    assert "'back' continues without it. Its error:\n    SpareError: it serves" in world.told[-1]
    world.pass_time(1000.0)
    reload(world)
    come_up(world)
    come_up(world)
    assert states(world) == [(0, "ready"), (-1, "spare")]
    assert world.told[-1].startswith("reloaded 1 worker in")


def test_intensity_counts_workers_that_were_replaced_by_spares() -> None:
    world = with_spares(1, intensity=1)
    world.exits_with(at(world, 0))
    world.pass_time(1.0)
    come_up(world)
    world.exits_with(at(world, 0))
    assert world.supervisor.roster.roles["back"].given_up
    spare = at(world, -1)
    assert world.mobsters[spare].asked_grace is not None, "nothing is left for which it could wait"
    world.exits_with(spare, "ended")
    assert world.statuses == [1]


@pytest.mark.parametrize("state", ["waiting", "held", "booting"])
def test_a_role_that_is_done_needs_no_spares(state: str) -> None:
    world = started(app=plan("back", options={"spare": 1, "restart": "transient"}))
    if state != "booting":
        world.boot_failed(at(world, -1), "x")
        world.exits_with(at(world, -1), "exited with status 1")
    if state == "held":
        world.supervisor.slots["back", -1].state = SlotState.HELD
    world.carry_out(world.supervisor.handle_exited(1, "exited with status 0", world.now, 0))
    if state == "booting":
        world.forked(2)
        assert world.mobsters[2].asked_grace is not None
        world.exits_with(2, "ended")
        assert world.told[-2] == "back.spare (pid 102) stopped as requested; its role has ended."
    assert world.statuses == [0]


def test_a_spare_of_a_role_without_a_ready_worker_waits_for_one() -> None:
    world = with_spares(1)
    world.draining(1)
    spare = at(world, -1)
    world.draining(spare)
    world.exits_with(spare, "ended")
    assert rows(world)[1] == (-1, "held", "waits for back")
    assert world.told[-1].endswith("stopped as requested; the next one follows a ready worker of 'back'.")
    world.exits_with(1, "ended")
    come_up(world)
    come_up(world)
    assert states(world) == [(0, "ready"), (-1, "spare")]


def test_a_reload_renews_the_spares_last_and_counts_workers_only() -> None:
    world = with_spares(4, 2)
    reload(world)
    waves = []
    while up := come_up(world):
        waves.append([world.mobsters[uid].index for uid in up])
    assert waves == [[0], [1], [2], [3], [-1], [-2]]
    assert world.told[-1] == "reloaded 4 workers in 0.0 s."
    assert states(world)[4:] == [(-1, "spare"), (-2, "spare")]


def test_in_a_reload_old_code_takes_no_place_that_has_new_code() -> None:
    world = with_spares(2)
    world.pass_time(1.0)
    reload(world)
    come_up(world)  # back.0 is new, back.1 boots
    old = at(world, -1)
    world.exits_with(at(world, 0))
    assert at(world, -1) == old, "it stays"
    assert not [uid for uid, each in world.mobsters.items() if each.index == 0 and uid == old]

    world = with_spares(2)
    world.pass_time(1.0)
    reload(world)
    old = at(world, -1)
    world.exits_with(at(world, 1))  # its turn has not come
    assert at(world, 1) == old
    for _ in range(6):
        world.pass_time(0.2)
        come_up(world)
    assert old not in world.mobsters, "it was replaced in its turn"
    assert states(world) == [(0, "ready"), (1, "ready"), (-1, "spare")]


def test_a_spare_that_is_just_renewed_can_be_promoted() -> None:
    world = with_spares(1)
    world.pass_time(1.0)
    reload(world)
    come_up(world)  # back.0 is new, and the spare's successor boots
    spare = world.supervisor.slots["back", -1]
    assert spare.successor
    old, new = spare.uid, spare.successor
    world.carry_out(world.supervisor._promote(world.supervisor.processes[old], spare_place(world), 0.0, world.now))
    assert (spare.uid, spare.successor) == (new, 0)
    come_up(world)
    assert world.told[-1].startswith("reloaded 1 worker in")
    assert states(world)[-1] == (-1, "spare")


def spare_place(world: World) -> Any:
    """Return the slot of the first place, after its process exited."""
    slot = world.supervisor.slots["back", 0]
    process = world.supervisor.processes.pop(slot.uid)
    world.mobsters.pop(process.uid)
    world.supervisor.roster.remove(process.uid)
    return slot


def test_a_spare_of_old_age_is_renewed() -> None:
    world = with_spares(1, max_age=100.0)
    world.pass_time(200.0)
    spare = at(world, -1)
    world.carry_out(world.supervisor.handle_beat(spare, Beat(), world.now))
    assert world.told[-1] == "back.spare (pid 102) is 200 s old (max_age=100 +- 10 %); replacing it."
    come_up(world)
    assert at(world, -1) != spare
    assert spare not in world.mobsters
    assert states(world)[1] == (-1, "spare")


def test_the_age_of_one_that_was_promoted_counts_from_then() -> None:
    world = with_spares(1, hang_timeout=10.0)
    world.pass_time(9.0)
    world.exits_with(1)
    (row,) = [row for row in world.supervisor.rows(world.now) if row.index == 0]
    assert (row.uptime, row.pid) == (0.0, 102)
    world.pass_time(5.0)
    assert not world.inspected
    world.pass_time(10.0)
    assert world.inspected == [2], "it is watched as any worker"


def test_a_stop_ends_spares_with_their_role() -> None:
    world = with_spares(1, 2)
    world.stop()
    assert [each.asked_grace is not None for each in world.mobsters.values()] == [True, True, True]
    for uid in list(world.mobsters):
        world.exits_with(uid, "ended")
    assert world.statuses == [0]


def test_a_spare_that_boots_during_a_stop_ends_as_well() -> None:
    world = started(app=plan("back", "front", options={"spare": 1}))
    spare = at(world, -1)
    world.forked(spare)
    world.stop()
    world.ready(spare)
    world.exits_with(at(world, 0, "front"), "ended")
    assert world.mobsters[spare].asked_grace is not None
    world.ready(spare)
    for uid in list(world.mobsters):
        world.exits_with(uid, "ended")
    assert world.statuses == [0]


def test_a_spare_without_memory_is_tried_again() -> None:
    world = started(app=plan("back", options={"spare": 1}))
    world.carry_out(world.supervisor.handle_not_launched(at(world, -1), "could not be launched: EMFILE", world.now))
    assert rows(world)[1][1] == "failing"
    world.pass_time(1.0)
    come_up(world)
    assert states(world)[1] == (-1, "spare")


def test_one_that_boots_is_no_reason_not_to_grow() -> None:
    world = started(app=plan("back", options={"spare": 1, "max_workers": 4}))
    world.pass_time(2.0)
    world.carry_out(world.supervisor.handle_beat(1, Beat(in_hand=300), world.now))
    assert world.supervisor.crew.roles["back"].target == 2


def test_metrics_tell_how_many_spares_wait() -> None:
    world = with_spares(1, 2, "front")
    world.exits_with(at(world, -2))
    roles = Registry(world.supervisor.crew, world.now).roles()
    assert [(role.name, role.ready, role.spares) for role in roles] == [("back", 1, 1), ("front", 1, None)]
    mobsters = Registry(world.supervisor.crew, world.now).mobsters(world.now)
    assert [(each.role, each.index, each.state) for each in mobsters][:2] == [
        ("back", 0, "ready"),
        ("back", -1, "spare"),
    ]


def test_a_machine_without_the_role_has_no_spares_of_it() -> None:
    assert places_of(RolePlan("back", "back", workers=0, spare=2)) == []


@pytest.mark.parametrize(("spare", "left"), [(0, []), (1, [-1]), (2, [-1, -2])])
def test_another_kingpin_keeps_the_spares_and_the_new_plan_says_how_many(spare: int, left: list[int]) -> None:
    world = with_spares(1)
    uid = at(world, -1)
    follow(world, plan("back", options={"spare": spare}))
    world.supervisor.handle_wake(world.now)
    for gone in [each for each, mobster in world.mobsters.items() if mobster.asked_grace is not None]:
        world.exits_with(gone, "ended")
    come_up(world)
    assert [index for index, _ in states(world)[1:]] == left
    assert all(state == "spare" for _, state in states(world)[1:])
    if spare:
        assert at(world, -1) == uid
        world.exits_with(1)
        assert at(world, 0) == uid


def test_spares_of_a_role_that_is_no_more_end() -> None:
    world = started(app=plan("old", "back", options={"spare": 1}))
    come_up(world)
    follow(world, plan("back"))
    gone = [uid for uid, mobster in world.mobsters.items() if mobster.asked_grace is not None]
    assert [world.mobsters[uid].slot for uid in gone] == [("old", 0), ("old", -1)]
    for uid in gone:
        world.exits_with(uid, "ended")
    assert sorted(world.supervisor.slots) == [("back", 0)]


def test_what_a_worker_has_left_goes_to_a_successor_that_can_inherit_it() -> None:
    world = with_spares(1)
    world.supervisor.crew.kept["back", 0] = 100
    decisions = world.exits_with(1, "ended")
    assert [each.inherits for each in decisions if isinstance(each, d.Launch)] == [True]
    assert states(world) == [(0, "launching"), (-1, "spare")]
