"""The pace of a map: sizes of chunks and how many are under way, by tables and by a small simulation of workers."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable

import pytest

from mob.core.mapping import GOAL, GROWTH, LARGEST, MOST, SPARE, UNREAD, MapWorkers, Pace

TWO = MapWorkers(workers=2)


def paced(*chunks: tuple[int, float], chunk: int | None = None, ahead: int | None = None) -> Pace:
    pace = Pace(chunk, ahead)
    for count, seconds in chunks:
        pace.handle_done(count, seconds)
    return pace


SIZES = {
    "nothing is known": (paced(), TWO, 0, None, 1),
    "long items go alone": (paced((1, 0.1)), TWO, 0, None, 1),
    "an item of the goal goes alone": (paced((1, GOAL)), TWO, 0, None, 1),
    "short ones go together": (paced((1, GOAL / 4)), TWO, 0, None, 4),
    "growth is bounded": (paced((1, 1e-6)), TWO, 0, None, GROWTH),
    "but goes on": (paced((1, 1e-6), (4, 4e-6), (16, 16e-6)), TWO, 0, None, 16 * GROWTH),
    "no chunk is endless": (paced(*[(4**power, 1e-12) for power in range(12)]), TWO, 0, None, LARGEST),
    "items that take no time": (paced((1, 0.0)), TWO, 0, None, GROWTH),
    "a dear one is remembered": (paced((8, 8e-6), (1, MOST / 2), *[(32, 32e-6)] * 3), TWO, 0, None, 2),
    "the rest is cut for all workers": (paced((100, 1e-4)), TWO, 0, 80, 10),
    "the last ones go alone": (paced((100, 1e-4)), TWO, 0, 3, 1),
    "a given size holds": (paced((1, 0.1), chunk=50), TWO, 0, 3, 50),
    "what may be ahead is cut for all workers": (paced((100, 1e-4), ahead=40), TWO, 0, None, 10),
    "a given size and what may be ahead": (paced(chunk=50, ahead=40), TWO, 35, None, 5),
    "coroutines: no more than run at once": (paced((100, 1e-4)), MapWorkers(2, 10, True), 0, None, 10),
    "threads: as if there were none": (paced((100, 1e-4)), MapWorkers(2, 4), 0, None, 400),
}


@pytest.mark.parametrize("case", SIZES)
def test_the_size_of_a_chunk(case: str) -> None:
    pace, crew, held, remaining, size = SIZES[case]
    assert pace.size(crew, held, remaining) == size


ROOM = {
    "at first each worker has one, and some wait": (paced(), TWO, 2 * (1 + SPARE) - 1, 5, True),
    "no more than that": (paced(), TWO, 2 * (1 + SPARE), 10, False),
    "threads run side by side": (paced(), MapWorkers(2, 4), 2 * (4 + SPARE) - 1, 11, True),
    "coroutines too": (paced((1, 1.0)), MapWorkers(2, 100, True), 2 * (100 + SPARE) - 1, 200, True),
    "those of one chunk count": (paced((100, 1e-4)), MapWorkers(2, 100, True), 2 * (1 + SPARE), 200, False),
    "unread results have a bound": (paced((1, 1.0)), TWO, 0, 2 * (1 + SPARE) * UNREAD, False),
    "and room up to that": (paced((1, 1.0)), TWO, 0, 2 * (1 + SPARE) * UNREAD - 1, True),
    "what may be ahead, if it is given": (paced((1, 1.0), ahead=500), TWO, 400, 499, True),
    "and no more": (paced((1, 1.0), ahead=500), TWO, 400, 500, False),
    "not all of it while nothing is known": (paced(ahead=500), TWO, 10, 10, False),
    "unless the size is given too": (paced(ahead=500, chunk=1), TWO, 499, 499, True),
    "one at a time": (paced(ahead=1), TWO, 1, 1, False),
}


@pytest.mark.parametrize("case", ROOM)
def test_whether_there_is_room(case: str) -> None:
    pace, crew, under_way, held, has_room = ROOM[case]
    assert pace.has_room(crew, under_way, held) is has_room


def test_a_chunk_does_not_wait_for_items_that_are_long_in_coming() -> None:
    assert not Pace().is_full(3, 10, GOAL / 2)
    assert Pace().is_full(10, 10, 0.0)
    assert Pace().is_full(3, 10, GOAL * 2)
    assert not Pace(chunk=10).is_full(3, 10, GOAL * 2)


def run(
    cost: Callable[[int], float], count: int, crew: MapWorkers, trip: float
) -> tuple[float, list[tuple[int, float]]]:
    """Workers that share one queue, and a reader as quick as they are: the seconds in all, and each chunk."""
    pace, chunks = Pace(), list[tuple[int, float]]()
    free = [0.0] * crew.workers
    ends: list[tuple[float, int, float]] = []
    now, drawn, under_way = 0.0, 0, 0
    while drawn < count or ends:
        while drawn < count and pace.has_room(crew, under_way, under_way):
            size = min(pace.size(crew, 0, count - drawn), count - drawn)
            seconds = sum(map(cost, range(drawn, drawn + size)))
            worker = min(range(crew.workers), key=free.__getitem__)
            free[worker] = max(free[worker], now + trip) + seconds
            heapq.heappush(ends, (free[worker] + trip, size, seconds))
            drawn, under_way = drawn + size, under_way + 1
            chunks.append((size, seconds))
        now, size, seconds = heapq.heappop(ends)
        under_way -= 1
        pace.handle_done(size, seconds)
    return now, chunks


@pytest.mark.parametrize("micros", [2, 20, 200, 1000, 5000])
def test_workers_are_busy_and_end_together(micros: int) -> None:
    count = 400_000 // micros
    took, chunks = run(lambda _: micros * 1e-6, count, TWO, trip=100e-6)
    assert count * micros * 1e-6 / 2 / took > 0.95
    assert all(size == 1 or seconds <= MOST for size, seconds in chunks)


def test_items_of_very_different_costs_make_no_long_chunks() -> None:
    seeded = random.Random(7)
    costs = [seeded.choice([1e-6, 1e-6, 1e-6, 1e-3]) for _ in range(20_000)]
    _, chunks = run(costs.__getitem__, len(costs), TWO, trip=100e-6)
    assert max(seconds for _, seconds in chunks) < 5 * MOST
    assert len(chunks) < len(costs) / 2
