"""The pace of a `map`: how many items travel in one message, and how many may be under way.

Strategy. A chunk is one call that carries many items. It should take about `GOAL` seconds: then messaging costs almost
nothing, and the work still spreads evenly. The cost of an item is unknown at first, so the first chunks carry one item
each. The worker reports with each answer how long its chunk ran; chunks grow by at most `GROWTH` from one to the next,
and never beyond what `MOST` seconds would hold if every item cost as much as the costliest recent one. Towards the end
they shrink, so that all workers end together.

Limits. Nothing here knows a worker, an item or the clock: seconds are passed in.
"""

from __future__ import annotations

from typing import NamedTuple

from mob.errors import CallError

GOAL = 0.002
"""Seconds that a chunk should take, and that drawing its items may take."""
MOST = 0.005
"""Maximum seconds of a chunk, if its items cost as much as the costliest recent one."""
GROWTH = 4
"""Maximum size of the next chunk, as a multiple of the largest so far."""
LARGEST = 10_000
"""Maximum number of items of a chunk, whatever they cost."""
SPARE = 4
"""Number of chunks for each worker besides those that it runs, so that it does not idle while the reader is busy."""
UNREAD = 4
"""Limit of what is held, unread results included, as a multiple of what may be under way."""
PARTS = 4
"""Minimum number of chunks for each worker into which the rest is cut."""
WEIGHT = 0.3
"""Weight of one chunk in the average cost of an item."""
FORGETTING = 0.9
"""Factor for the cost of the costliest item after each chunk."""


class MapWorkers(NamedTuple):
    """The workers that run the items."""

    workers: int
    at_once: int = 1
    """Number of calls that each of them runs at once."""
    is_async: bool = False
    """True if the items of one chunk run at once, too."""


class Pace:
    """The pace of one map.

    `chunk`: the number of items of each message; None if it is to be found out. `ahead`: the maximum number of items
    under way or finished and unread; None if it follows from the workers.

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
        """Recent average seconds that an item takes; None as long as that is unknown."""
        self._dearest = 0.0
        self._largest = 1

    def __repr__(self) -> str:
        cost = "unknown" if self.cost is None else f"{self.cost * 1e6:,.0f} us"
        return f"<Pace, an item costs {cost}>"

    def handle_done(self, count: int, seconds: float) -> None:
        """Note that a chunk of that many items ran for that many seconds."""
        cost = seconds / count
        self.cost = cost if self.cost is None else self.cost + WEIGHT * (cost - self.cost)
        self._dearest = max(cost, self._dearest * FORGETTING)
        self._largest = max(self._largest, count)

    def size(self, crew: MapWorkers, held: int, remaining: int | None) -> int:
        """Return the number of items of the next chunk. `remaining`: the items left to draw, if known."""
        size = self._wanted(crew) if self.chunk is None else self.chunk
        if self.chunk is None and remaining is not None:
            size = min(size, -(-remaining // (crew.workers * PARTS)))
        if self.ahead is not None:
            size = min(size, self.ahead - held)
            if self.chunk is None:
                size = min(size, self.ahead // (2 * crew.workers))
        return max(1, size)

    def has_room(self, crew: MapWorkers, under_way: int, held: int) -> bool:
        """Return True if another chunk may be sent while that many are under way and that many items are held."""
        if self.ahead is not None and (self.chunk is not None or self.cost is not None):
            return held < self.ahead
        if self.ahead is not None and held >= self.ahead:
            return False
        most = self._most_chunks(crew)
        return under_way < most and held < most * self.size(crew, 0, None) * UNREAD

    def is_full(self, count: int, size: int, seconds: float) -> bool:
        """Return True if a chunk with that many items, which took that many seconds to draw, is sent."""
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
    """Return the error for a generator function that is mapped."""
    return CallError(
        f"{label} is a generator, and map needs one value for each item: iterate over {label.rpartition('.')[2]}(item) "
        f"for each item instead.",
        executed="yes" if executed else "no",
    )
