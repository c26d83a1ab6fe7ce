"""Reloads and recycling: the new one is ready before the old one goes, and a failure changes nothing."""

from __future__ import annotations

import pytest

from mob.core import decisions as d
from mob.core.rollout import RECYCLE_RETRY
from mob.wire import messages as m
from mob.wire.messages import Beat
from tests.core.world import World, changes, plan, started

ASKED = (9, 1)


def reload(world: World, *roles: str) -> None:
    world.carry_out(world.supervisor.handle_reload(list(roles), ASKED, world.now))


def booting(world: World) -> list[int]:
    return [uid for uid, mobster in world.mobsters.items() if mobster.ready_at is None and not mobster.is_killed]


def come_up(world: World) -> list[int]:
    """Let all that boot get ready, and those that were asked to end, end; return those that came up."""
    up = booting(world)
    for uid in up:
        world.forked(uid)
        world.ready(uid)
    for uid in [uid for uid, mobster in world.mobsters.items() if mobster.asked_grace is not None]:
        world.exits_with(uid, "ended by itself (exit status 0)")
    return up


def test_one_goes_first_then_a_quarter_at_a_time() -> None:
    world = started("back*8")
    reload(world)
    waves = []
    while up := come_up(world):
        waves.append(len(up))
    assert waves == [1, 2, 2, 2, 1]
    assert world.told[-1] == "reloaded 8 workers in 0.0 s."
    assert world.answers == [d.Answer(ASKED, text="reloaded 8 workers in 0.0 s.")]
    assert sorted(mobster.slot for mobster in world.mobsters.values()) == [("back", i) for i in range(8)]
    assert all(world.launches["back", index] == 2 for index in range(8))


def test_workers_whose_environment_has_their_number_are_replaced_when_that_changes() -> None:
    world = started(app=plan("back*2", options={"env": {"OF": "{workers}"}}, preload=("big",)))
    world.pass_time(1.0)
    world.carry_out(world.supervisor.handle_scale("back", 4, ASKED, world.now))
    assert [mobster.slot for mobster in world.mobsters.values()] == [("back", i) for i in (0, 1, 2, 3, 0)]
    while come_up(world):
        pass
    assert world.told[-3:] == [
        "back: 2 -> 4 workers; as requested.",
        "reloading back, because its env contains the number of workers.",
        "reloaded 2 workers in 0.0 s.",
    ]
    assert [world.launches["back", index] for index in range(4)] == [2, 2, 1, 1]
    assert world.answers[0] == d.Answer(ASKED, text="back: 4 workers wanted, 2 ready.")


def test_a_change_of_size_during_a_reload_leads_to_another() -> None:
    world = started(app=plan("back*2", options={"env": {"OF": "{workers}"}}))
    reload(world)
    world.carry_out(world.supervisor.handle_scale("back", 1, ASKED, world.now))
    while come_up(world):
        pass
    assert sum(text.startswith("reloaded") for text in world.told) == 2
    assert [member.index for member in world.supervisor.roster.ready("back")] == [0]


@pytest.mark.parametrize(("count", "env"), [(2, {"OF": "{workers}"}), (3, {"OF": "{index}"})])
def test_nothing_is_replaced_without_need(count: int, env: dict[str, str]) -> None:
    world = started(app=plan("back*2", options={"env": env}))
    world.carry_out(world.supervisor.handle_scale("back", count, ASKED, world.now))
    assert not any(text.startswith("reloading") for text in world.told)


def test_the_old_one_is_asked_only_when_the_new_one_is_ready() -> None:
    world = started("back")
    reload(world)
    (new,) = booting(world)
    world.forked(new)
    assert world.mobsters[1].asked_grace is None
    assert [member.uid for member in world.supervisor.roster.ready("back")] == [1]
    decisions = world.ready(new)
    states = [(each.member.uid, each.member.state) for each in changes(m.MemberIs, decisions)]
    assert states == [(new, "ready"), (1, "draining")]
    assert world.mobsters[1].asked_grace == 30.0


def test_roles_follow_in_the_order_of_their_start() -> None:
    world = started("db", "back", "front")
    reload(world, "front", "db")
    order = []
    while up := booting(world):
        order += [world.mobsters[uid].role for uid in up]
        come_up(world)
    assert order == ["db", "front"]


def test_new_code_that_does_not_come_up_leaves_the_old_in_place() -> None:
    world = started("back*4", "front")
    reload(world)
    (new,) = booting(world)
    world.boot_failed(new, "Traceback\nSyntaxError: x")
    world.exits_with(new)
    assert booting(world) == []
    assert sorted(world.mobsters) == [1, 2, 3, 4, 5]
    assert all(mobster.asked_grace is None for mobster in world.mobsters.values())
    (answer,) = world.answers
    text = "reload failed; the old workers keep running. back.0: the new one could not be imported: SyntaxError: x"
    assert answer == d.Answer(ASKED, error=text)
    assert world.told[-2].startswith("back.0 could not import 'back'. Its error:\n    Traceback")
    assert not world.supervisor.rollout.is_reloading


def test_new_code_that_never_gets_ready_fails_the_reload_too() -> None:
    world = started("back")
    reload(world)
    (new,) = booting(world)
    world.forked(new)
    world.pass_time(63.0)
    (answer,) = world.answers
    assert answer.error.endswith("back.0: the new one was not ready within 60 s (boot_timeout)")
    assert sorted(world.mobsters) == [1]


def test_if_the_old_one_dies_meanwhile_the_new_one_takes_its_place_and_no_third_comes() -> None:
    world = started("back")
    reload(world)
    (new,) = booting(world)
    world.exits_with(1)
    assert list(world.mobsters) == [new]
    assert come_up(world) == [new]
    assert world.answers[-1].error == ""
    assert world.launches["back", 0] == 2


def test_one_that_still_boots_is_not_taken_for_the_new_one() -> None:
    world = started("back", ready=False)
    reload(world)
    old, new = booting(world)
    world.ready(old)
    assert not world.answers
    assert world.mobsters[old].asked_grace is None
    world.forked(new)
    world.ready(new)
    assert world.mobsters[old].asked_grace is not None
    assert world.answers[-1].error == ""


def test_a_successor_that_was_launched_before_the_reload_may_have_the_old_code_and_is_not_taken() -> None:
    world = started("back")
    slot = world.supervisor.slots["back", 0]
    world.carry_out(world.supervisor.rollout.recycle(slot, "is old", world.now))
    (early,) = booting(world)
    reload(world)
    late = max(world.mobsters)
    assert late != early
    assert world.mobsters[early].asked_grace is not None
    world.exits_with(early)
    assert not world.answers
    world.forked(late)
    world.ready(late)
    assert world.answers[-1].error == ""
    assert world.mobsters[1].asked_grace is not None


def test_a_new_one_that_somebody_else_tells_to_end_fails_the_reload() -> None:
    world = started("back", ready=False)
    world.exits_with(1)
    world.due.clear()
    reload(world)
    (new,) = booting(world)
    world.forked(new)
    world.draining(new)
    world.exits_with(new)
    (answer,) = world.answers
    assert "back.0: the new one" in answer.error
    assert not world.supervisor.rollout.is_reloading


@pytest.mark.parametrize("under_way", [True, False])
def test_a_role_that_is_made_smaller_meanwhile_does_not_hold_up_its_reload(under_way: bool) -> None:
    world = started("back*3")
    reload(world)
    if under_way:  # of the places that are given up
        come_up(world)
    world.carry_out(world.supervisor.handle_scale("back", 1, (9, 2), world.now))
    while booting(world) and world.supervisor.rollout.is_reloading:
        come_up(world)
    assert not world.supervisor.rollout.is_reloading
    assert [answer.error for answer in world.answers] == ["", ""]
    for uid in [uid for uid, mobster in world.mobsters.items() if mobster.asked_grace is not None]:
        world.exits_with(uid, "ended by itself (exit status 0)")
    assert set(world.supervisor.slots) == {("back", 0)}
    assert len(world.mobsters) == 1


def test_one_that_drains_does_not_say_any_more_what_its_role_exports() -> None:
    world = started("back")
    reload(world)
    (new,) = booting(world)
    world.forked(new)
    world.ready(new)
    exports = world.supervisor.roster.roles["back"].exports
    world.carry_out(world.supervisor.handle_ready(1, 101, (), True, world.now))
    assert world.supervisor.roster.roles["back"].exports == exports != ()


def test_a_reload_starts_a_role_at_once_that_waits_after_failures() -> None:
    world = started("back", ready=False)
    world.exits_with(1)
    assert not world.mobsters
    world.due.clear()  # it need not wait
    reload(world)
    assert come_up(world)
    assert world.answers[-1].error == ""


def test_a_reload_that_is_asked_for_meanwhile_follows() -> None:
    world = started("back*2", "front")
    reload(world, "front")
    reload(world, "back")
    reload(world, "back")
    assert len(booting(world)) == 1
    roles = []
    while up := booting(world):
        roles += [world.mobsters[uid].role for uid in up]
        come_up(world)
    assert roles == ["front", "back", "back"]
    assert len(world.answers) == 3


def test_a_reload_that_follows_a_failed_one_may_fill_the_same_slot() -> None:
    world = started("back")
    world.exits_with(1)
    world.forked(2)
    world.exits_with(2)
    reload(world)  # while the slot waits for its next try
    (new,) = booting(world)
    reload(world)
    decisions = world.exits_with(new)
    assert [type(each) for each in decisions].count(d.Launch) == 1  # the second reload does not wait for the pause
    assert world.answers[0].error.startswith("reload failed")
    come_up(world)
    assert world.answers[1].text == "reloaded 1 worker in 0.0 s."
    assert [mobster.slot for mobster in world.mobsters.values()] == [("back", 0)]


def test_a_stop_ends_a_reload() -> None:
    world = started("back*2")
    reload(world)
    world.stop()
    assert world.answers == [d.Answer(ASKED, error="the app is stopping.")]
    reload(world)
    assert world.answers[-1] == d.Answer(ASKED, error="the app is stopping.")


def test_what_is_preloaded_is_loaded_anew_first() -> None:
    app = plan("back", preload=("numpy",))
    world = started(app=app)
    reload(world)
    assert booting(world) == []
    world.carry_out(world.supervisor.handle_fork_server_renewed(world.now))
    assert come_up(world)


def test_an_app_that_ends_while_what_is_preloaded_is_loaded_anew_launches_nothing_more() -> None:
    world = started(app=plan("back*2", options={"restart": "temporary"}, preload=("numpy",)))
    reload(world)
    world.exits_with(1)
    world.exits_with(2)
    assert world.supervisor.finished
    assert world.supervisor.handle_fork_server_renewed(world.now) == []


@pytest.mark.parametrize(
    ("option", "limit", "beat", "why"),
    [
        ("max_calls", 1000, Beat(calls=1000), "served 1,000 calls (max_calls=1000 +- 10 %)"),
        ("max_memory", 2**30, Beat(memory=2**30), "grew to 1,024 MiB (max_memory=1,024 MiB +- 10 %)"),
        ("max_age", 50.0, Beat(), "is 50 s old (max_age=50 +- 10 %)"),
    ],
)
def test_a_worker_that_has_done_its_part_is_replaced(option: str, limit: float, beat: Beat, why: str) -> None:
    world = started(app=plan("back*2", options={option: limit}))
    world.carry_out(world.supervisor.handle_beat(1, Beat(), world.now))
    assert booting(world) == []
    world.pass_time(50.0)
    for uid in (1, 2):  # both have, but they are replaced in turn
        world.carry_out(world.supervisor.handle_beat(uid, beat, world.now))
    assert world.told[-1] == f"back.0 (pid 101) {why}; replacing it."
    assert len(booting(world)) == 1
    assert world.mobsters[1].asked_grace is None
    come_up(world)
    assert sorted(world.mobsters) == [2, 3]


def test_recycling_that_fails_is_tried_again_later() -> None:
    world = started(app=plan("back", options={"max_calls": 10}))
    world.carry_out(world.supervisor.handle_beat(1, Beat(calls=99), world.now))
    (new,) = booting(world)
    world.exits_with(new)
    assert world.told[-1] == ("the new back.0 was killed by SIGKILL before it was ready; the old one keeps running.")
    world.carry_out(world.supervisor.handle_beat(1, Beat(calls=99), world.now))
    assert booting(world) == []
    world.now += RECYCLE_RETRY
    world.carry_out(world.supervisor.handle_beat(1, Beat(calls=99), world.now))
    assert come_up(world)
    assert sorted(world.mobsters) != [1]


def test_a_worker_that_is_given_up_is_not_replaced() -> None:
    world = started(app=plan("back*3", options={"max_calls": 10}))
    scale = world.supervisor.handle_scale
    world.carry_out(scale("back", 2, ASKED, world.now))
    world.carry_out(world.supervisor.rollout.recycle(world.supervisor.slots["back", 2], "is old", world.now))
    assert booting(world) == []
    world.carry_out(world.supervisor.handle_beat(2, Beat(calls=99), world.now))
    assert len(booting(world)) == 1
    world.carry_out(scale("back", 1, ASKED, world.now))  # its successor goes too
    world.carry_out(world.supervisor.handle_beat(1, Beat(calls=99), world.now))
    assert world.told[-1].startswith("back.0 (pid 101) served 99 calls")


def test_a_restart_of_one_that_ends_already_does_not_ask_it_again() -> None:
    world = started("back*2")
    world.carry_out(world.supervisor.handle_scale("back", 1, ASKED, world.now))
    world.carry_out(world.supervisor.handle_restart([], 102, ASKED, world.now))
    assert world.answers[-1].text == "restarting 1 worker: back.1 (pid 102)."


def test_a_successor_that_gets_ready_in_a_stop_ends_when_its_role_does() -> None:
    world = started("back", "front")
    reload(world, "back")
    (new,) = booting(world)
    world.forked(new)
    world.stop()
    world.ready(new)
    assert world.mobsters[1].asked_grace is None
    assert [member.uid for member in world.supervisor.roster.ready("back")] == [1]


def test_one_that_is_restarted_waits_for_the_role_that_it_needs() -> None:
    world = started(app=plan("front", "back", options={"needs": ("back",)}), ready=False)
    for uid in sorted(world.mobsters, reverse=True):
        world.ready(uid)
    for uid in list(world.mobsters):
        world.forked(uid)
        world.ready(uid)
    world.carry_out(world.supervisor.handle_restart(["back", "front"], 0, ASKED, world.now))
    for uid in list(world.mobsters):
        world.exits_with(uid, "ended by itself (exit status 0)")
    assert world.supervisor.slots["front", 0].state == "held"
