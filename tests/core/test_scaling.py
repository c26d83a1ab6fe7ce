"""The size of a role: as requested, and by its load."""

from __future__ import annotations

import pytest

from mob.core import decisions as d
from mob.core.scaling import SHRINK_AFTER
from mob.wire.messages import Beat, Parked
from tests.core.world import World, plan, started

ASKED = (9, 1)


def scale(world: World, role: str, count: int, **how: bool) -> str:
    world.carry_out(world.supervisor.handle_scale(role, count, ASKED, world.now, **how))
    answer = world.answers.pop()
    return answer.error or answer.text


def get_ready(world: World) -> None:
    for uid, mobster in list(world.mobsters.items()):
        if mobster.ready_at is None:
            world.forked(uid)
            world.ready(uid)


def beat(world: World, **values: object) -> None:
    """Let a second pass; all workers send the same heartbeat."""
    world.now += 1.0
    for uid in list(world.mobsters):
        world.carry_out(world.supervisor.handle_beat(uid, Beat(**values), world.now))  # type: ignore[arg-type]
    get_ready(world)
    for uid in [uid for uid, mobster in world.mobsters.items() if mobster.asked_grace is not None]:
        world.exits_with(uid, "ended by itself (exit status 0)")


def size(world: World) -> int:
    return len(world.supervisor.roster.ready("back"))


def test_it_grows_by_the_lowest_free_places_and_shrinks_by_the_highest() -> None:
    world = started("back*2")
    assert scale(world, "back", 4) == "back: 4 workers wanted, 2 ready."
    get_ready(world)
    assert sorted(mobster.index for mobster in world.mobsters.values()) == [0, 1, 2, 3]
    assert world.supervisor.roster.roles["back"].workers == 4
    assert scale(world, "back", -3, relative=True) == "back: 1 worker."
    asked = {mobster.index: mobster.asked_grace for mobster in world.mobsters.values()}
    assert asked == {0: None, 1: 30.0, 2: 30.0, 3: 30.0}
    for uid in [uid for uid, mobster in world.mobsters.items() if mobster.index]:
        world.exits_with(uid, "ended by itself (exit status 0)")
    assert list(world.supervisor.slots) == [("back", 0)]


def test_a_place_that_is_wanted_again_is_filled_when_its_process_has_gone() -> None:
    world = started("back*2")
    scale(world, "back", 1)
    scale(world, "back", 2)
    assert len(world.mobsters) == 2
    world.exits_with(2, "ended by itself (exit status 0)")
    get_ready(world)
    assert sorted(mobster.index for mobster in world.mobsters.values()) == [0, 1]


def test_a_place_that_waits_after_a_failure_goes_at_once() -> None:
    world = started("back*2", ready=False)
    world.ready(1)
    world.exits_with(2)
    scale(world, "back", 1)
    world.due.clear()
    world.pass_time(10.0)
    assert list(world.mobsters) == [1]


@pytest.mark.parametrize(
    ("role", "count", "how", "text"),
    [
        ("bakc", 2, {}, "there is no role 'bakc'."),
        ("back", 0, {}, "'back' cannot have 0 workers (1 to 1,024)."),
        ("back", 2000, {}, "'back' cannot have 2,000 workers (1 to 1,024)."),
        ("back", 3, {"relative": True, "by_role": True}, "'back' cannot have 5 workers (workers=2, max_workers=4)."),
        ("back", -1, {"relative": True, "by_role": True}, "'back' cannot have 1 worker (workers=2, max_workers=4)."),
        ("back", 2, {"relative": True, "by_role": True}, "back: 4 workers wanted, 2 ready."),
    ],
)
def test_the_limits(role: str, count: int, how: dict[str, bool], text: str) -> None:
    world = started(app=plan("back*2", options={"max_workers": 4}))
    assert scale(world, role, count, **how) == text


def test_it_follows_the_queue_up_fast_and_down_slowly() -> None:
    world = started(app=plan("back*2", options={"max_workers": 8}))
    sizes = []
    for _ in range(4):
        beat(world, parked={"back": 5}, in_hand=1)
        sizes.append(size(world))
    assert sizes == [3, 5, 8, 8]
    for _ in range(int(SHRINK_AFTER) - 1):
        beat(world)
    assert size(world) == 8
    for _ in range(7 * int(SHRINK_AFTER) + 20):
        beat(world)
    assert size(world) == 2


def test_it_does_not_shrink_while_all_are_needed() -> None:
    world = started(app=plan("back*2", options={"max_workers": 4}))
    beat(world, parked={"back": 1})
    beat(world, in_hand=1)
    grown = size(world)
    for _ in range(3 * int(SHRINK_AFTER)):
        beat(world, in_hand=1)
    assert size(world) == grown > 2


def test_calls_beyond_what_runs_at_once_count_as_waiting() -> None:
    world = started(app=plan("back", options={"max_workers": 2, "concurrency": 10}))
    beat(world, in_hand=10)
    assert size(world) == 1
    beat(world, in_hand=11)
    assert size(world) == 2


def test_calls_that_wait_in_a_worker_count() -> None:
    world = started(app=plan("back", options={"max_workers": 2}))
    beat(world, in_hand=3)
    assert size(world) == 1
    beat(world, in_hand=3, waiting=2)
    assert size(world) == 2


def test_without_max_workers_nothing_happens_by_itself() -> None:
    world = started("back")
    beat(world, parked={"back": 500})
    assert size(world) == 1


def test_calls_that_wait_in_clients_count() -> None:
    world = started(app=plan("back", "front", options={"max_workers": 3}))
    supervisor, uid = world.supervisor, world.supervisor.next_uid()
    world.carry_out(supervisor.handle_client_joined(uid, 77))

    def says(calls: dict[str, int]) -> None:
        world.now += 1.0
        world.carry_out(supervisor.handle_parked(uid, Parked(calls), world.now))
        get_ready(world)

    says({"nobody": 5, "front": 5, "back": -2})
    assert size(world) == 1
    assert [each.calls for each in supervisor.crew.parked_at_clients.values()] == [{"front": 5}]
    says({"back": 3})
    assert size(world) == 2
    says({})
    beat(world)
    assert (size(world), supervisor.crew.parked_at_clients) == (2, {})
    says({"back": 1})
    assert size(world) == 3
    world.carry_out(supervisor.handle_client_left(uid, "it left"))
    assert supervisor.crew.parked("back") == 0
    assert supervisor.handle_parked(uid, Parked({"back": 9}), world.now) == []
    assert supervisor.crew.parked("back") == 0, "a client that left waits for nothing"


def test_requests_that_run_beside_each_other_do_not_wait() -> None:
    world = started(app=plan("back", options={"max_workers": 2, "concurrency": 10}))
    beat(world, in_hand=200, open_requests=200)
    assert size(world) == 1


SIGNALS = {
    "the only role": (["back*2"], {}, ["back: 2 -> 3 workers; as requested."]),
    "the one that may grow": (["back*2", "front"], {"max_workers": 4}, ["back: 2 -> 3 workers; as requested."]),
    "one of several, none of which may grow": (
        ["back*2", "front"],
        {},
        ["SIGTTIN/SIGTTOU ignored: no role sets max_workers. Use `mob scale ROLE=N`."],
    ),
}


@pytest.mark.parametrize("case", SIGNALS)
def test_a_signal_is_for_roles_that_may_grow_and_for_an_only_one(case: str) -> None:
    roles, options, told = SIGNALS[case]
    world = started(app=plan(*roles, options=options))
    world.told.clear()
    world.carry_out(world.supervisor.handle_size_signal(+1, world.now))
    assert world.told == told


@pytest.mark.parametrize(("gpus", "most"), [(1, 3), (2, 1), (0.5, 6)])
def test_a_role_cannot_have_more_places_than_there_are_gpus_for(gpus: float, most: int) -> None:
    world = started(app=plan("back", options={"gpus": gpus, "devices": ("0", "1", "2")}))
    scale(world, "back", most)
    (answer,) = world.supervisor.handle_scale("back", most + 1, (9, 1), world.now)
    error = f"'back' cannot have {most + 1} workers (gpus={gpus:g}, and 3 GPUs for the role)."
    assert answer == d.Answer((9, 1), error=error)
    assert world.supervisor.crew.roles["back"].target == most


def test_what_a_signal_cannot_do_is_said_in_the_log() -> None:
    world = started("back")
    world.told.clear()
    world.carry_out(world.supervisor.handle_size_signal(-1, world.now))
    assert world.told == ["'back' cannot have 0 workers (1 to 1,024)."]
    world.stop()
    world.told.clear()
    world.carry_out(world.supervisor.handle_size_signal(+1, world.now))
    assert world.told == ["the app is stopping."]


def test_a_place_that_is_given_up_is_given_up_once() -> None:
    world = started("back*3")
    scale(world, "back", 2)
    assert scale(world, "back", 1) == "back: 1 worker."
    asked = [mobster.index for mobster in world.mobsters.values() if mobster.asked_grace is not None]
    assert asked == [1, 2]


def test_it_waits_for_those_that_boot_before_it_grows_again() -> None:
    world = started(app=plan("back", options={"max_workers": 8}))
    for _ in range(3):
        world.now += 1.0
        world.carry_out(world.supervisor.handle_beat(1, Beat(parked={"back": 5}), world.now))
    assert len(world.mobsters) == 2
