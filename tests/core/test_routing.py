"""Which place a key belongs to."""

from __future__ import annotations

from collections import Counter

import pytest

from mob.core.routing import place_of

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
    """So all processes agree on it, and a successor, which takes over the index, has the keys of its predecessor."""
    keys: list[object] = ["ann", "bob", 7, (1, 2), None]
    assert [index_of(repr(key).encode(), 5) for key in keys] == [4, 1, 3, 0, 1]


def test_while_a_role_has_no_workers_all_keys_belong_to_the_first() -> None:
    assert {index_of(key, 0) for key in KEYS[:10]} == {0}


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
