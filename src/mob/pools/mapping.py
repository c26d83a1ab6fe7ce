"""`Pool.map`: many items in one task, as many as their duration allows.

The items are cut into chunks during the work, because their cost is not known before: `core.mapping.Pace` chooses the
size of the next chunk by the durations of the last ones. Each answer sends the next chunk, so the work goes on whether
or not the results are read.

An item that raises ends its chunk. The results before it are returned, then its error is raised in its place.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from threading import Lock
from time import monotonic
from typing import Any, cast

from mob.core.mapping import MapWorkers, Pace
from mob.pools import tasks as pool_tasks
from mob.pools.futures import PoolFuture, PoolTask
from mob.pools.tasks import Tasks

SPARE = 4
"""Number of chunks under way for each worker, besides those that run."""


class PoolMap:
    """One map: its chunks, in order."""

    def __init__(
        self,
        tasks: Tasks,
        function: Callable[..., Any],
        iterables: Sequence[Iterable[Any]],
        workers: int,
        chunksize: int | None,
        buffersize: int | None,
    ) -> None:
        self._tasks = tasks
        self._function = function
        self._is_spread = len(iterables) > 1
        items: Iterable[Any] = zip(*iterables, strict=False) if self._is_spread else iterables[0]
        self._left: int | None = None
        if buffersize is None:
            collected = list(items)  # at once, as every executor does: the iterables may change
            self._left, items = len(collected), collected
        self._items = iter(items)
        self._crew = MapWorkers(workers)
        self._pace = Pace(chunksize)
        self._buffersize = buffersize
        self._held = 0  # items that were drawn and whose results were not read
        self._under_way = 0
        self._chunks: deque[tuple[PoolFuture[Any], int]] = deque()
        self._is_over = False
        self._drawing = Lock()
        self._counting = Lock()
        self._error: BaseException | None = None  # the error that the iterable raised

    def __repr__(self) -> str:
        return f"<PoolMap, {self._under_way} chunks under way>"

    def fill(self) -> None:
        """Send as many chunks as there is room for; from any thread."""
        while self._has_room() and self._drawing.acquire(blocking=False):
            try:
                if self._has_room() and not self._send_next():
                    return
            finally:
                self._drawing.release()

    def _has_room(self) -> bool:
        if self._is_over or self._under_way >= self._crew.workers * (1 + SPARE):
            return False
        return self._buffersize is None or self._held < self._buffersize

    def _send_next(self) -> bool:
        size = self._pace.size(self._crew, self._held, self._left)
        if self._buffersize is not None:
            size = min(size, self._buffersize - self._held)
        try:
            chunk = list(itertools.islice(self._items, size))
        except Exception as error:  # noqa: BLE001  raised after the earlier results
            self._is_over, self._error = True, error
            return False
        if not chunk:
            self._is_over = True
            return False
        if self._left is not None:
            self._left -= len(chunk)
        future: PoolFuture[Any] = PoolFuture(
            self._tasks, PoolTask(self._function, chunk, is_items=True, is_spread=self._is_spread)
        )
        with self._counting:
            self._held += len(chunk)
            self._under_way += 1
        self._chunks.append((future, len(chunk)))
        future.add_done_callback(cast(Callable[[Any], None], self._handle_done))
        self._tasks.submit(future)
        return True

    def _handle_done(self, future: PoolFuture[Any]) -> None:
        with self._counting:
            self._under_way -= 1
        if not future.cancelled() and future.exception() is None:
            _, _, seconds, count = future.result()
            if count:
                self._pace.handle_done(count, seconds)
        self.fill()

    def _give_back(self, count: int) -> None:
        with self._counting:
            self._held -= count

    def results(self, timeout: float | None) -> Iterator[Any]:
        """Yield the results in order; leaving early cancels what no worker has begun."""
        until = None if timeout is None else monotonic() + timeout
        try:
            while True:
                while self._chunks:
                    future, count = self._chunks[0]
                    answer, failure, _, _ = future.result(None if until is None else until - monotonic())
                    self._chunks.popleft()
                    results = pool_tasks.value_in(answer)
                    del future, answer
                    results.reverse()
                    while results and self._buffersize is None:  # without counting, this is most of the cost of a map
                        yield results.pop()
                    while results:
                        self._give_back(1)
                        count -= 1
                        yield results.pop()
                        self.fill()
                    if failure is not None:
                        try:
                            raise pool_tasks.error_in(failure)
                        finally:
                            del failure
                    self._give_back(count)
                    self.fill()
                with self._drawing:  # a chunk may be about to enter the queue
                    if not self._chunks:
                        break
            if self._error is not None:
                raise self._error
        finally:
            self._is_over = True
            for future, _ in self._chunks:
                future.cancel()
