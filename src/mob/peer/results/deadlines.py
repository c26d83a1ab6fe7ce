"""The deadlines of the calls that this process made: one timer for the first of them.

A call that ends does not report it here, because that would cost each call something. Instead, ended calls are removed
in a sweep each time as many were added as the last sweep left, so there are never more entries than twice the open
calls plus `SWEEP`. An entry holds its call by a weak reference, so a dropped call is freed.

`add` may be called from any thread. New entries wait in a queue for the loop's thread, which is woken only if the new
deadline comes before all others, or to sweep.
"""

from __future__ import annotations

import heapq
import itertools
import math
import weakref
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any

from mob.core.states import CallState
from mob.rim.reactor import Reactor

if TYPE_CHECKING:
    from mob.peer.results.call import Call

SWEEP = 1024
"""Number of entries after which ended calls are looked for."""

Expiry = tuple[float, int, "weakref.ref[Call[Any]]", float]
"""The time, a number to order entries of the same time, the call, and the argument of `expire`."""


class Deadlines:
    """The deadlines of one process."""

    def __init__(self, reactor: Reactor, expire: Callable[[Call[Any], float], None]) -> None:
        self._reactor = reactor
        self._expire = expire
        self._numbers = itertools.count()
        self._new: deque[Expiry] = deque()
        self._heap: list[Expiry] = []
        self._room = SWEEP  # number of entries until the next sweep
        self._first = math.inf  # the time of the timer
        self._timer: int | None = None
        self._is_asked = False  # the loop's thread is about to look

    def __repr__(self) -> str:
        return f"<Deadlines, {len(self)} kept>"

    def __len__(self) -> int:
        return len(self._heap) + len(self._new)

    def add(self, call: Call[Any], when: float, seconds: float) -> None:
        """Call `expire(call, seconds)` at that time (monotonic seconds) if the call is still open then."""
        self._new.append((when, next(self._numbers), weakref.ref(call), seconds))
        # Read after the append: a look that empties the queue first resets the time of the timer.
        if (when < self._first or len(self._new) >= SWEEP) and not self._is_asked:
            self._is_asked = True
            self._reactor.call(self._look)

    def _look(self) -> None:
        """Expire what is due, sweep, and set the timer for the next one; on the loop's thread."""
        self._is_asked = False
        self._first = math.inf
        heap, new, now = self._heap, self._new, monotonic()
        while new:
            entry = new.popleft()
            if _is_open(entry):
                heapq.heappush(heap, entry)
        if len(heap) >= self._room:
            heap[:] = [entry for entry in heap if _is_open(entry)]
            heapq.heapify(heap)
            self._room = 2 * len(heap) + SWEEP
        due: list[Expiry] = []
        while heap and heap[0][0] <= now:
            due.append(heapq.heappop(heap))
        if self._timer is not None:
            self._reactor.cancel(self._timer)
            self._timer = None
        if heap:
            self._first = heap[0][0]
            self._timer = self._reactor.call_at(self._first, self._ring)
        due.reverse()
        try:
            while due:
                _, _, reference, seconds = due.pop()
                call = reference()
                if call is not None and call.state is not CallState.DONE:
                    self._expire(call, seconds)
        finally:
            if due:  # one has raised: the others follow
                self._new.extend(due)
                self._reactor.call(self._look)

    def _ring(self) -> None:
        self._timer = None
        self._look()


def _is_open(entry: Expiry) -> bool:
    call = entry[2]()
    return call is not None and call.state is not CallState.DONE
