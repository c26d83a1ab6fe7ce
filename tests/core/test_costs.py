"""What calls cost, and how many of them a worker may have in hand."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from mob.core.costs import (
    FADING,
    FAR_TRIP,
    HICCUP,
    IRREGULAR,
    LONG,
    MOST,
    SHORT,
    TRIP,
    WEIGHT,
    cost_of,
    learned,
    most_in_hand,
)

TIMES = st.integers(0, 10_000_000)


def after(*times: int, usual: int = 0, peak: int = 0) -> tuple[int, int]:
    for took in times:
        usual, peak = learned(usual, peak, took)
    return usual, peak


@pytest.mark.parametrize(
    ("usual", "peak", "took", "then"),
    [
        (0, 0, 9000, (9000, 0)),  # the first call: perhaps it has imported something
        (0, 0, 0, (1, 0)),  # a call takes at least a microsecond: 0 stands for "unknown"
        (1000, 0, 1000, (1000, 1000)),
        (1000, 0, 1000 + 8 * WEIGHT, (1008, 1000 + 8 * WEIGHT)),
        (1000, 2000, 1000 - 8 * WEIGHT, (992, 2000 - 2000 // FADING)),
        (5, 0, 6, (6, 6)),  # it moves by one at least, upwards
        (6, 0, 5, (5, 5)),  # and downwards
        (1, 0, 0, (1, 1)),
        (1000, 50_000, 60_000, (1000 + 59_000 // WEIGHT, 60_000)),
    ],
)
def test_what_one_more_call_tells(usual: int, peak: int, took: int, then: tuple[int, int]) -> None:
    assert learned(usual, peak, took) == then


@given(st.lists(TIMES, min_size=1, max_size=50))
def test_the_usual_time_lies_among_the_times_and_so_does_the_peak(times: list[int]) -> None:
    usual, peak = after(*times)
    assert max(min(times), 1) <= usual <= max(*times, 1)
    assert peak <= max(*times, 1)


@given(start=TIMES, then=st.integers(1, 1_000_000))
def test_the_usual_time_comes_to_what_all_calls_take(start: int, then: int) -> None:
    usual, _ = after(start, *[then] * 300)
    assert usual == then


def test_a_peak_is_forgotten_in_time() -> None:
    usual, peak = after(1000, 200_000)
    assert cost_of(usual, peak) == 0
    usual, peak = after(*[1000] * (5 * FADING), usual=usual, peak=peak)
    assert (usual, cost_of(usual, peak)) == (1000, 1000)


@pytest.mark.parametrize(
    ("usual", "peak", "cost"),
    [
        (0, 0, 0),  # nothing is known
        (1000, 0, 1000),
        (1000, IRREGULAR * 1000 + HICCUP, 1000),
        (1000, IRREGULAR * 1000 + HICCUP + 1, 0),  # sometimes much longer: unknown
        (SHORT, 10_000_000, SHORT),  # short ones count as such, whatever happened once
        (SHORT + 1, 10_000_000, 0),
        (100_000, 300_000, 100_000),
    ],
)
def test_what_may_be_expected(usual: int, peak: int, cost: int) -> None:
    assert cost_of(usual, peak) == cost


@pytest.mark.parametrize(
    ("width", "cost", "pace", "trip", "most"),
    [
        (1, 0, 0, TRIP, 1),  # nothing is known: nothing waits behind the one that runs
        (1, 0, 5, TRIP, 1),
        (4, 0, 0, TRIP, 4),
        (1, LONG + 1, 0, TRIP, 1),  # long ones are not prefetched
        (4, LONG + 1, 0, TRIP, 4),
        (1, LONG, 0, TRIP, 2),  # one more
        (4, LONG, 0, TRIP, 8),  # one more behind each
        (1, 2000, 2000, TRIP, 3),
        (1, 1000, 1000, TRIP, 4),
        (1, 100, 100, TRIP, 31),  # as many as fill the trip
        (1, 100, 0, TRIP, 31),
        (2, 100, 100, TRIP, 62),
        (1, 100, 100, FAR_TRIP, 51),
        (1, 5, 500, TRIP, 7),  # short ones that would wait behind longer ones
        (1, 5, 2000, TRIP, 3),
        (1, 5, 3001, TRIP, 1),
        (1, 5, LONG + 1, TRIP, 1),
        (1, 1, 1, 10 * MOST, 1 + MOST),  # never more than MOST
    ],
)
def test_how_many_a_worker_may_have(width: int, cost: int, pace: int, trip: int, most: int) -> None:
    assert most_in_hand(width, cost, pace, trip) == most


@given(width=st.integers(1, 1000), cost=TIMES, pace=TIMES, trip=st.sampled_from([TRIP, FAR_TRIP]))
def test_what_waits_behind_is_a_trip_or_one_call_long(width: int, cost: int, pace: int, trip: int) -> None:
    most = most_in_hand(width, cost, pace, trip)
    assert width <= most <= width + MOST
    assert (most - width - 1) * max(cost, pace) < width * max(trip, cost)
