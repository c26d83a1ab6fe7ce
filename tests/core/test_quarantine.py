"""Exports that kill: refused, tried by one worker, trusted again."""

from __future__ import annotations

from mob.core.decisions import WakeAt
from mob.core.quarantine import FIRST_TERM, LONGEST_TERM, TRIAL
from tests.core.world import World, plan, started


def kill(world: World, export: str = "foo", uid: int | None = None) -> None:
    """Let the oldest worker die of an export; its successor comes up."""
    uid = min(world.mobsters) if uid is None else uid
    world.due.clear()
    world.carry_out(world.supervisor.handle_exited(uid, "was killed by SIGSEGV", world.now, -11, export))
    world.due.clear()
    while not all(mobster.ready_at for mobster in world.mobsters.values()) or len(world.mobsters) < 2:
        for each, mobster in list(world.mobsters.items()):
            if mobster.ready_at is None:
                world.forked(each)
                world.ready(each)
        if len(world.mobsters) < 2:
            world.wake()


def refused(world: World) -> tuple[tuple[str, int], ...]:
    return world.supervisor.roster.roles["back"].quarantined


def test_three_deaths_within_a_minute() -> None:
    world = started("back*2")
    kill(world)
    kill(world)
    assert refused(world) == ()
    kill(world)
    assert refused(world) == (("foo", 0),)
    assert world.told[-2:] == [
        "back.foo killed 3 workers within 60 s; calls to it are refused for 60 s.",
        "back.0 (pid 103) was killed by SIGSEGV; restarting it in 0.1 s.",
    ]


def test_three_deaths_in_a_longer_time_are_none_of_its_affair() -> None:
    world = started("back*2")
    for _ in range(5):
        kill(world)
        world.pass_time(31.0)
    assert refused(world) == ()


def test_different_exports_are_told_apart() -> None:
    world = started("back*2")
    for export in ("foo", "bar", "foo", "bar"):
        kill(world, export)
    assert refused(world) == ()


def test_after_its_term_one_worker_tries_it_and_if_that_lives_it_is_trusted() -> None:
    world = started("back*2")
    for _ in range(3):
        kill(world)
    world.pass_time(FIRST_TERM + 0.1)
    ((name, probe),) = refused(world)
    assert (name, probe) == ("foo", min(world.mobsters))
    world.pass_time(TRIAL + 0.1)
    assert refused(world) == ()
    assert world.told[-1] == "calls to back.foo are accepted again."


def test_if_it_dies_of_it_the_term_is_doubled_up_to_a_bound() -> None:
    world = started("back*2")
    for _ in range(3):
        kill(world)
    terms = []
    for _ in range(6):
        begun = world.now
        while not (refused(world) and refused(world)[0][1]):
            world.wake()
        terms.append(world.now - begun)
        kill(world, uid=refused(world)[0][1])
        assert refused(world) == (("foo", 0),)
    assert [round(term / FIRST_TERM) for term in terms] == [1, 2, 4, 8, 15, 15]
    assert LONGEST_TERM == 15 * FIRST_TERM


def test_if_the_one_that_tries_goes_for_another_reason_another_one_does() -> None:
    world = started("back*2")
    for _ in range(3):
        kill(world)
    world.pass_time(FIRST_TERM + 0.1)
    ((_, probe),) = refused(world)
    kill(world, "", probe)
    ((_, other),) = refused(world)
    assert other in world.mobsters
    assert other != probe


def test_new_code_is_not_blamed_for_the_old() -> None:
    world = started("back*2")
    for _ in range(3):
        kill(world)
    assert refused(world)
    world.carry_out(world.supervisor.handle_reload([], (9, 1), world.now))
    (new,) = [uid for uid, mobster in world.mobsters.items() if mobster.ready_at is None]
    world.forked(new)
    assert refused(world)
    world.ready(new)
    assert refused(world) == ()


def test_without_a_worker_a_trial_waits_for_one() -> None:
    world = started("back*2")
    for _ in range(3):
        kill(world)
    for uid in list(world.mobsters):
        world.carry_out(world.supervisor.handle_draining(uid, world.now))
    world.now += FIRST_TERM + 0.1
    quarantine = world.supervisor.quarantine
    for _ in range(2):
        assert quarantine.handle_wake(world.now) == [WakeAt(world.now + 1.0)]
        world.now += 1.0


def test_a_pool_refuses_nothing_because_all_its_tasks_are_of_one_export() -> None:
    world = started(app=plan("back*2", options={"pool": True}))
    for _ in range(5):
        kill(world, "run")
    assert refused(world) == ()
