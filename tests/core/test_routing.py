"""Which worker gets the next call."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import pytest

from mob.core.routing import Route, place_of


@dataclass(eq=False)
class Worker:
    name: str
    outstanding: int = 0
    queue: int = 0


def route_to(*loads: tuple[int, int]) -> Route[Worker]:
    route = Route[Worker]("back")
    route.put(Worker("abcdef"[i], outstanding, queue) for i, (outstanding, queue) in enumerate(loads))
    return route


def chosen(route: Route[Worker], count: int) -> str:
    """The names of the next choices; nobody's load changes meanwhile."""
    workers = [route.choose() for _ in range(count)]
    return "".join(worker.name for worker in workers if worker is not None)


@pytest.mark.parametrize(
    ("loads", "choices"),
    [
        ([], ""),
        ([(7, 7)], "aaa"),
        ([(1, 0), (0, 0)], "bbbb"),  # the fewest outstanding calls
        ([(0, 0), (1, 0)], "aaaa"),
        ([(0, 50), (1, 0)], "aaaa"),  # a reported queue breaks ties only
        ([(1, 5), (1, 3), (1, 4)], "bbb"),
        ([(2, 0), (1, 9), (1, 8)], "ccc"),
        ([(0, 0), (0, 0)], "baba"),  # equals in turn
        ([(0, 0), (0, 0), (0, 0)], "bcabca"),
        ([(0, 0), (3, 0), (0, 0)], "cacaca"),  # in turn around a busy one, none twice as often
        ([(0, 0), (0, 0), (3, 0), (3, 0)], "bababa"),
        ([(1, 0), (0, 1), (0, 0), (0, 0)], "cdcdcd"),
    ],
)
def test_the_choice(loads: list[tuple[int, int]], choices: str) -> None:
    assert chosen(route_to(*loads), len(choices) or 3) == choices


def test_nobody_is_chosen_while_nobody_is_ready() -> None:
    assert Route[Worker]("back").choose() is None


def test_calls_that_are_never_answered_spread_evenly() -> None:
    route = route_to(*[(0, 0)] * 5)
    for _ in range(1000):
        worker = route.choose()
        assert worker is not None
        worker.outstanding += 1
    assert [worker.outstanding for worker in route.targets] == [200] * 5


def test_a_slow_worker_gets_what_the_others_leave() -> None:
    route = route_to((0, 0), (0, 0), (0, 0))
    slow = route.targets[0]
    counts: Counter[str] = Counter()
    for _ in range(300):  # the others answer before the next call is made
        worker = route.choose()
        assert worker is not None
        counts[worker.name] += 1
        slow.outstanding += worker is slow
    assert counts["a"] == 1
    assert abs(counts["b"] - counts["c"]) <= 1


def test_the_workers_may_change_between_two_choices() -> None:
    route = route_to(*[(0, 0)] * 5)
    assert chosen(route, 4) == "bcde"
    route.put(route.targets[:2])
    assert chosen(route, 4) in ("abab", "baba")
    route.put(())
    assert route.choose() is None


def test_it_can_be_looked_at() -> None:
    route = route_to((0, 0), (0, 0))
    route.waiting.append("a call")
    assert repr(route) == "<Route to 2 workers of 'back', 1 waiting>"


# --- sticky keys ------------------------------------------------------------------------------------------------------

KEYS = [repr(key).encode() for key in (*range(4000), *(f"user {number}" for number in range(4000)))]


def index_of(key: bytes, workers: int) -> int:
    """On one machine."""
    name, index = place_of(key, [("", workers)])
    assert name == ""
    return index


@pytest.mark.parametrize("workers", [1, 2, 3, 7, 16])
def test_one_more_worker_takes_its_share_of_the_keys_and_none_other_moves(workers: int) -> None:
    before = {key: index_of(key, workers) for key in KEYS}
    after = {key: index_of(key, workers + 1) for key in KEYS}
    moved = [key for key in KEYS if before[key] != after[key]]
    assert {after[key] for key in moved} == {workers}
    share = len(KEYS) / (workers + 1)
    assert abs(len(moved) - share) < 5 * share**0.5  # five standard deviations, at the least


@pytest.mark.parametrize("workers", [2, 3, 7, 16])
def test_one_worker_less_moves_its_own_keys_only(workers: int) -> None:
    for key in KEYS:
        place = index_of(key, workers)
        assert place == workers - 1 or index_of(key, workers - 1) == place


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_each_worker_has_about_as_many_keys(workers: int) -> None:
    counts = Counter(index_of(key, workers) for key in KEYS)
    share = len(KEYS) / workers
    assert set(counts) == set(range(workers))
    assert all(abs(count - share) < 5 * share**0.5 for count in counts.values())


def test_a_place_depends_on_the_key_and_the_number_of_workers_alone() -> None:
    """So all processes agree on it, and a successor, who takes over the index, has the keys of its predecessor."""
    keys: list[object] = ["ann", "bob", 7, (1, 2), None]
    assert [index_of(repr(key).encode(), 5) for key in keys] == [4, 1, 3, 0, 1]


def test_while_a_role_has_no_workers_all_keys_belong_to_the_first() -> None:
    assert {index_of(key, 0) for key in KEYS[:10]} == {0}


def test_what_waits_for_a_place_that_is_no_more_moves_with_its_key() -> None:
    route = Route[Worker]("back")
    keys = [f"user {n}".encode() for n in range(40)]
    for key in keys:
        route.park(key, place_of(key, [("", 4)]))
    stayed = {key for key in keys if index_of(key, 4) < 2}
    route.place_anew(lambda parked: place_of(parked, [("", 2)]))
    assert sorted(route.all_waiting()) == sorted(keys)
    for (_, index), waiting in route.keyed.items():
        assert index < 2
        assert all(index_of(key, 2) == index for key in waiting)
    assert all(index_of(key, 2) == index_of(key, 4) for key in stayed)


NODES = [("a", 4), ("b", 4), ("c", 8)]


def test_each_machine_has_keys_by_the_number_of_its_places() -> None:
    counts = Counter(place_of(key, NODES)[0] for key in KEYS)
    for name, workers in NODES:
        share = len(KEYS) * workers / 16
        assert abs(counts[name] - share) < 5 * share**0.5


def test_each_place_of_a_machine_has_about_as_many_keys() -> None:
    counts = Counter(place_of(key, NODES) for key in KEYS)
    assert set(counts) == {(name, index) for name, workers in NODES for index in range(workers)}
    share = len(KEYS) / 16
    assert all(abs(count - share) < 6 * share**0.5 for count in counts.values())


def test_a_machine_that_joins_takes_its_share_of_the_keys_and_none_other_moves() -> None:
    for key in KEYS:
        before, after = place_of(key, NODES), place_of(key, [*NODES, ("d", 4)])
        assert after == before or after[0] == "d"


def test_a_machine_without_places_gets_no_keys() -> None:
    assert all(place_of(key, NODES) == place_of(key, [("front", 0), *NODES]) for key in KEYS[:500])


def test_the_order_of_the_machines_does_not_matter() -> None:
    assert all(place_of(key, NODES) == place_of(key, NODES[::-1]) for key in KEYS[:500])


# --- other machines ---------------------------------------------------------------------------------------------------


def test_near_and_far_are_chosen_apart() -> None:
    near, far = Worker("n", 3, 0), [Worker("f", 2, 0), Worker("g", 1, 0)]
    route = Route[Worker]("back")
    route.put([near], far)
    assert route.targets == (near, *far)
    assert route.choose() is near
    assert route.choose(is_far=True) is far[1]
    route.put((), far)
    assert route.choose() is None
