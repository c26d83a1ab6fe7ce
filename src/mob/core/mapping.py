"""The pace of a `map`: how many items travel in one message, and how many may be under way.

Strategy. A chunk is one call that carries many items. It should take about `GOAL` seconds: then messaging costs next to
nothing, and the work still spreads evenly. What an item costs is not known at first, so the first chunks carry one
item each. The worker says with each answer how long its chunk ran; chunks grow by at most `GROWTH` from one to the
next, and never beyond what `MOST` seconds would hold if every item cost as much as the dearest of late. Towards the end
they shrink, so that all workers end together.

Limits. Nothing here knows a worker, an item or the clock: seconds are passed in.
"""

from __future__ import annotations

from typing import NamedTuple

from mob.errors import CallError

GOAL = 0.002
"""Seconds that a chunk should take, and that its items may take to be drawn."""
MOST = 0.005
"""Seconds that a chunk should take at most, if its items cost as much as the dearest of late."""
GROWTH = 4
"""How many times as large as the largest chunk so far the next may be."""
LARGEST = 10_000
"""Items of a chunk, whatever they cost."""
SPARE = 4
"""Chunks for each worker beside those that it runs, so that it does not idle while the reader is busy."""
UNREAD = 4
"""How many times as much as is under way may be held, unread results included."""
PARTS = 4
"""In how many chunks the rest is cut for each worker, at least."""
WEIGHT = 0.3
"""What one chunk counts for in the average cost of an item."""
FORGETTING = 0.9
"""What is left of the cost of the dearest item after each chunk."""


class MapWorkers(NamedTuple):
    """Who runs the items."""

    workers: int
    at_once: int = 1
    """How many calls each of them runs side by side."""
    is_async: bool = False
    """Whether the items of one chunk run side by side too."""


class Pace:
    """How one map proceeds.

    `chunk`: the items of each message, None if that is to be found out. `ahead`: the most items that may be under way
    or finished and unread, None if that follows from the workers.

    >>> pace = Pace()
    >>> crew = MapWorkers(workers=2)
    >>> pace.size(crew, held=0, remaining=None)
    1
    >>> pace.handle_done(1, seconds=0.0005)
    >>> pace.size(crew, held=0, remaining=None)
    4
    """

    def __init__(self, chunk: int | None = None, ahead: int | None = None) -> None:
        self.chunk = chunk
        self.ahead = ahead
        self.cost: float | None = None
        """Seconds that an item takes, on average of late; None as long as that is not known."""
        self._dearest = 0.0
        self._largest = 1

    def __repr__(self) -> str:
        cost = "unknown" if self.cost is None else f"{self.cost * 1e6:,.0f} us"
        return f"<Pace, an item costs {cost}>"

    def handle_done(self, count: int, seconds: float) -> None:
        """Note that a chunk of so many items has run for so many seconds."""
        cost = seconds / count
        self.cost = cost if self.cost is None else self.cost + WEIGHT * (cost - self.cost)
        self._dearest = max(cost, self._dearest * FORGETTING)
        self._largest = max(self._largest, count)

    def size(self, crew: MapWorkers, held: int, remaining: int | None) -> int:
        """Return how many items the next chunk carries. `remaining`: how many are left to be drawn, if it is known."""
        size = self._wanted(crew) if self.chunk is None else self.chunk
        if self.chunk is None and remaining is not None:
            size = min(size, -(-remaining // (crew.workers * PARTS)))
        if self.ahead is not None:
            size = min(size, self.ahead - held)
            if self.chunk is None:
                size = min(size, self.ahead // (2 * crew.workers))
        return max(1, size)

    def has_room(self, crew: MapWorkers, under_way: int, held: int) -> bool:
        """Return whether another chunk may be sent while so many are under way and so many items are held."""
        if self.ahead is not None and (self.chunk is not None or self.cost is not None):
            return held < self.ahead
        if self.ahead is not None and held >= self.ahead:
            return False
        most = self._most_chunks(crew)
        return under_way < most and held < most * self.size(crew, 0, None) * UNREAD

    def is_full(self, count: int, size: int, seconds: float) -> bool:
        """Return whether a chunk is sent with so many items, which took so many seconds to be drawn."""
        return count >= size or (seconds > GOAL and self.chunk is None)

    def _wanted(self, crew: MapWorkers) -> int:
        if self.cost is None:
            return 1
        size = min(GOAL / max(self.cost, 1e-9), MOST / max(self._dearest, 1e-9), self._largest * GROWTH, LARGEST)
        return int(min(size, crew.at_once) if crew.is_async else size)

    def _most_chunks(self, crew: MapWorkers) -> int:
        side_by_side = crew.at_once
        if crew.is_async:
            side_by_side = max(1, crew.at_once // self.size(crew, 0, None))
        return crew.workers * (side_by_side + SPARE)


def generator_mapped(label: str, executed: bool) -> CallError:
    """Return the error for a generator that is mapped."""
    return CallError(
        f"{label} is a generator, and map wants one value for each item: iterate over {label.rpartition('.')[2]}(item) "
        f"for each item instead.",
        executed="yes" if executed else "no",
    )
