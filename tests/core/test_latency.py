"""Ranges of times, and what their counts say about many times."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from mob.core.latency import BOUNDS, EXPOSED, RANGES, add, exposed, quantile, range_of


def counted(times: list[float]) -> list[int]:
    counts = [0] * RANGES
    for time in times:
        counts[range_of(time)] += 1
    return counts


def test_the_bounds_ascend_and_none_is_half_again_as_far_as_the_one_before() -> None:
    assert all(1 < high / low < 1.51 for low, high in pairwise(BOUNDS))
    assert (BOUNDS[0], BOUNDS[-1]) == (1e-6, 100.0)


@pytest.mark.parametrize(
    ("seconds", "number"), [(0.0, 0), (-1.0, 0), (1e-6, 0), (1.1e-6, 1), (99.0, 48), (100.0, 48), (1e9, 49)]
)
def test_each_time_has_a_range(seconds: float, number: int) -> None:
    assert range_of(seconds) == number
    assert number < RANGES


@pytest.mark.parametrize("part", [0.5, 0.9, 0.99])
def test_a_quantile_is_a_quarter_off_at_most(part: float) -> None:
    chance = random.Random(7)
    times = sorted(chance.lognormvariate(-7, 2) for _ in range(5000))
    true = times[int(part * len(times))]
    assert quantile(counted(times), part) == pytest.approx(true, rel=0.25)


def test_none_have_no_quantile() -> None:
    assert quantile([0] * RANGES, 0.5) == 0.0


def test_what_is_no_range_is_left_out() -> None:
    counts = [0] * RANGES
    add(counts, {3: 2, -1: 5, RANGES: 7})
    assert sum(counts) == counts[3] == 2


def test_what_other_programs_get_are_sums_up_to_each_bound() -> None:
    counts = counted([0.5e-6, 2e-6, 5e-5, 5.0, 1000.0])
    sums = dict(exposed(counts))
    assert list(sums) == list(EXPOSED)
    assert (sums[1e-6], sums[3.3e-6], sums[1e-4], sums[10.0], sums[100.0]) == (1, 2, 3, 4, 4)


def test_a_part_above_all_is_the_greatest_bound() -> None:
    assert quantile(counted([0.001]), 1.5) == BOUNDS[-1]
