"""What one Kingpin stores, and what the next one makes of it."""

from __future__ import annotations

import msgspec
import pytest

from mob.core import decisions as d, snapshot
from mob.core.registry import Registry
from mob.core.snapshot import Snapshot
from mob.core.supervisor import Supervisor
from mob.plan import Plan
from mob.wire.messages import Beat
from tests.core.world import World, plan, started


def taken(world: World) -> Snapshot:
    """Return a snapshot as the other side decodes it."""
    written = msgspec.msgpack.encode(snapshot.take(world.supervisor))
    return msgspec.msgpack.decode(written, type=Snapshot)


def follow(world: World, app: Plan) -> World:
    """Replace the supervisor of the world by another one."""
    world.timers.clear()
    world.supervisor, decisions = snapshot.restore(app, taken(world), world.now)
    world.carry_out(decisions)
    return world


def state_of(supervisor: Supervisor) -> object:
    return snapshot.take(supervisor)


def busy_world(app: Plan) -> World:
    """Return a world in which many things have happened."""
    world = started(app=app)
    world.carry_out(world.supervisor.handle_want_role(1, "front"))
    world.carry_out(world.supervisor.handle_want_member(3, 2))
    world.carry_out(world.supervisor.handle_beat(1, Beat(calls=7, memory=99), world.now))
    for uid in (1, 4):
        world.carry_out(world.supervisor.handle_exited(uid, "was killed by SIGSEGV", world.now, -11, "foo"))
        world.due.clear()
    client = world.supervisor.next_uid()
    world.clients.add(client)
    world.carry_out(world.supervisor.handle_client_joined(client, 77))
    return world


def test_nothing_is_lost_and_nothing_happens() -> None:
    app = plan("back*2", "front")
    world = busy_world(app)
    before, told = taken(world), len(world.told)
    follow(world, app)
    assert taken(world) == before
    assert len(world.told) == told
    assert not [mobster for mobster in world.mobsters.values() if mobster.asked_grace is not None]


def test_life_goes_on() -> None:
    app = plan("back*2", "front")
    world = follow(busy_world(app), app)
    assert world.supervisor.next_uid() not in {*world.mobsters, *world.clients}
    (uid,) = [uid for uid, mobster in world.mobsters.items() if mobster.role == "front"]
    decisions = world.exits_with(uid)
    (launch,) = [each for each in decisions if isinstance(each, d.Launch)]
    assert (launch.role, launch.index, launch.generation) == ("front", 0, 2)
    world.stop()
    for uid in sorted(world.mobsters, reverse=True):
        world.exits_with(uid)
    assert world.statuses == [0]


def test_a_pause_ends_when_it_would_have_ended() -> None:
    app = plan("back")
    world = started(app=app, ready=False)
    world.exits_with(1)
    follow(world, app)
    world.pass_time(0.2)
    assert world.launches["back", 0] == 2


@pytest.mark.parametrize("option", ["boot_timeout", "hang_timeout"])
def test_times_go_on_running(option: str) -> None:
    app = plan("back", options={option: 10.0})
    world = started(app=app, ready=option == "hang_timeout")
    world.pass_time(4.0)
    follow(world, app)
    world.pass_time(6.5 if option == "boot_timeout" else 11.5)
    assert world.inspected == [1]


def test_what_is_held_against_an_export_is_still_held() -> None:
    app = plan("back*3")
    world = started(app=app)
    for uid in (1, 2):
        world.carry_out(world.supervisor.handle_exited(uid, "x", world.now, -11, "foo"))
        world.due.clear()
    follow(world, app)
    world.carry_out(world.supervisor.handle_exited(3, "x", world.now, -11, "foo"))
    assert world.supervisor.roster.roles["back"].quarantined == (("foo", 0),)


def test_a_new_role_is_started_and_one_that_is_no_more_is_retired() -> None:
    world = started("back", "old*2")
    follow(world, plan("back", "new"))
    asked = {mobster.role: mobster.asked_grace is not None for mobster in world.mobsters.values()}
    assert asked == {"back": False, "old": True, "new": False}
    rows = [(row.role, row.index, row.state) for row in world.supervisor.rows(world.now)]
    assert rows == [
        ("back", 0, "ready"),
        ("new", 0, "launching"),
        ("old", 0, "draining"),
        ("old", 1, "draining"),
    ]
    for uid in [uid for uid, mobster in world.mobsters.items() if mobster.role == "old"]:
        world.exits_with(uid, "ended by itself (exit status 0)")
    assert sorted(world.supervisor.slots) == [("back", 0), ("new", 0)]
    world.roles = ["back", "new"]
    world.stop()
    for uid in sorted(world.mobsters, reverse=True):
        world.exits_with(uid)
    assert world.statuses == [0]


def test_a_role_that_is_no_more_may_still_say_how_it_goes() -> None:
    world = follow(started("back", "front"), plan("back"))
    supervisor = world.supervisor
    front = next(process for process in supervisor.processes.values() if process.slot.role == "front")
    supervisor.handle_beat(front.uid, Beat(in_hand=1), world.now)
    registry = Registry(supervisor.crew, world.now)
    assert [(role.name, role.target) for role in registry.roles()] == [("back", 1), ("front", 0)]
    world.exits_with(front.uid)
    assert [role.name for role in registry.roles()] == ["back"]


@pytest.mark.parametrize(
    ("scaled", "new", "size"),
    [(None, 4, 4), (None, 1, 1), (3, 4, 3), (None, 2, 2)],  # a size set by hand stays
)
def test_the_new_plan_says_how_many_workers_there_are(scaled: int | None, new: int, size: int) -> None:
    world = started("back*2")
    if scaled is not None:
        world.carry_out(world.supervisor.handle_scale("back", scaled, (0, 0), world.now))
    follow(world, plan(f"back*{new}"))
    staying = [mobster for mobster in world.mobsters.values() if mobster.asked_grace is None]
    assert len(staying) == size


def test_workers_whose_environment_has_their_number_are_replaced_if_the_new_plan_has_another() -> None:
    world = started(app=plan("back*2", options={"env": {"OF": "{workers}"}}))
    world.pass_time(1.0)
    follow(world, plan("back*3", options={"env": {"OF": "{workers}"}}))
    assert sorted(mobster.slot for mobster in world.mobsters.values()) == [("back", i) for i in (0, 0, 1, 2)]
    assert "reloading back, because its env contains the number of workers." in world.told


def test_what_is_half_done_puts_an_upgrade_off() -> None:
    world = started("back*2")
    supervisor = world.supervisor
    assert supervisor.unrest(may_launch=False) == ""
    uid = min(world.mobsters)
    world.carry_out(supervisor.handle_wants_terminal(uid, 1, "back.py:3", world.now))
    assert supervisor.unrest(may_launch=True) == "back.0 (pid 101) is in the debugger"
    world.carry_out(supervisor.handle_returned_terminal(uid, 1, world.now))
    world.exits_with(uid)
    world.pass_time(1.0)
    assert supervisor.unrest(may_launch=False) == "a worker is being launched"
    assert supervisor.unrest(may_launch=True) == ""
    for each in list(world.mobsters):
        world.forked(each)
        world.ready(each)
    world.carry_out(supervisor.handle_reload([], (9, 1), world.now))
    assert supervisor.unrest(may_launch=True) == "a reload is under way"


def test_of_a_role_that_is_no_more_places_without_a_process_go_at_once_and_those_that_end_go_on() -> None:
    world = started("back", "old*3")
    world.carry_out(world.supervisor.handle_scale("old", 2, (0, 0), world.now))
    for _ in range(2):  # the second time it is not restarted at once
        world.exits_with(next(uid for uid, mobster in world.mobsters.items() if mobster.slot == ("old", 0)))
    follow(world, plan("back"))
    assert sorted(world.supervisor.slots) == [("back", 0), ("old", 1), ("old", 2)]
    world.pass_time(30.0)
    world.reap()
    assert sorted(world.supervisor.slots) == [("back", 0)]
