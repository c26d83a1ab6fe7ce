"""The changes in a store, as an iterator that outlives the store's worker.

When the worker is replaced or dies, the next one is asked; changes in between are unknown, and a change of the kind
"missed" reports that.
"""

from __future__ import annotations

import asyncio
from asyncio import CancelledError
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import msgspec

from mob.errors import CallTimeout, Lost
from mob.peer.calls.options import DEFAULTS
from mob.peer.calls.outgoing import Outgoing
from mob.peer.calls.proxy import RemoteExport
from mob.peer.results.call import Call
from mob.peer.results.streams import Stream
from mob.stores.waits import StoreWaits, no_answer

MISSED = "missed"


class StoreChange(msgspec.Struct, frozen=True):
    """A change in a store.

    >>> StoreChange("set", "user:1", 5).kind
    'set'
    """

    kind: str
    """One of "set", "delete", "expire" (its ttl expired), "evict" (there was no room), and "missed".

    "missed" means that changes were lost: read the current values.
    """
    key: str
    """The key; "" for "missed"."""
    value: Any = None
    """The new value, for "set"."""


class StoreWatch:
    """The changes of a key or of several, for `for` and `async for`; see `Store.watch`.

    In a `with` or an `async with` the block begins when the store watches; the end of the block, or `close`, ends that.

    >>> with cache.watch("config") as changes:                # doctest: +SKIP
    ...     for change in changes: ...
    """

    def __init__(
        self,
        peer: Outgoing,
        role: str,
        key: str,
        is_prefix: bool,
        opened: Callable[[Any], Any],
        waits: StoreWaits,
    ) -> None:
        self._export = RemoteExport(peer, role, "watch", DEFAULTS)
        self._key = key
        self._is_prefix = is_prefix
        self._opened = opened
        self._waits = waits
        self._changes: deque[StoreChange] = deque()
        self._is_closed = False
        self._call: Call[Any]
        self._stream: Stream[Any] = self._begin()

    def __repr__(self) -> str:
        more = "..." if self._is_prefix else ""
        return f"<StoreWatch of {self._key}{more} in {self._export.role!r}{', closed' if self._is_closed else ''}>"

    def __enter__(self) -> Self:
        self._waits.begin(self._call, 0.0)
        try:
            self._put(next(self._stream))
        except CancelledError as error:
            raise self._given_up(error) from None
        self._waits.end(self._call)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        self._waits.begin(self._call, 0.0)
        try:
            self._put(await anext(self._stream))
        except CancelledError as error:
            raise self._given_up(error) from None
        self._waits.end(self._call)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Self:
        return self

    def __aiter__(self) -> Self:
        return self

    def __next__(self) -> StoreChange:
        while not self._changes:
            try:
                self._put(next(self._stream))
            except (StopIteration, Lost, CancelledError) as error:
                if self._is_closed:
                    raise StopIteration from None
                self._begin_again(error)
        return self._changes.popleft()

    async def __anext__(self) -> StoreChange:
        while not self._changes:
            try:
                self._put(await anext(self._stream))
            except (StopAsyncIteration, Lost, CancelledError) as error:
                task = asyncio.current_task()
                if self._is_closed and not (task is not None and task.cancelling()):
                    raise StopAsyncIteration from None
                self._begin_again(error)
        return self._changes.popleft()

    def close(self) -> None:
        """Stop watching. A loop over it ends."""
        self._is_closed = True
        self._stream.close()

    async def aclose(self) -> None:
        """Stop watching, as `close`; for `contextlib.aclosing`."""
        self.close()

    def _begin(self) -> Stream[Any]:
        self._call = self._export(self._key, self._is_prefix)
        return self._call.stream()

    def _given_up(self, error: CancelledError) -> BaseException:
        """Return the error of a block that does not begin: the store does not answer, or this task is cancelled."""
        if self._waits.end(self._call):
            return CallTimeout(no_answer(self._export.role, f"changes of {self._key!r}"))
        return error

    def _begin_again(self, error: BaseException) -> None:
        """Ask the next worker of the store: this one ended or died."""
        if isinstance(error, CancelledError):
            raise error
        self._stream = self._begin()
        self._changes.append(StoreChange(MISSED, ""))

    def _put(self, item: Any) -> None:
        has_missed, changes = item
        if has_missed:
            self._changes.append(StoreChange(MISSED, ""))
        self._changes.extend(StoreChange(kind, key, self._opened(value)) for kind, key, value in changes)
