"""A lock of a store, at its holder.

Strategy. While the lock is held or waited for, a stream of the store's worker is open (`worker.hold`), so the store
learns of the death of this process, and this process of the end of the lock. If the worker is replaced or dies, the
next one learns at once that the lock is held here; it gives locks to no other process for two seconds.
"""

from __future__ import annotations

import contextlib
import threading
from asyncio import CancelledError
from time import monotonic
from types import TracebackType
from typing import Any, Self, cast

from mob.errors import CallTimeout, Lost
from mob.peer.calls.options import DEFAULTS
from mob.peer.calls.outgoing import Outgoing
from mob.peer.calls.proxy import RemoteExport
from mob.peer.results.call import Call
from mob.peer.results.streams import Stream
from mob.stores.locks import MOVED
from mob.stores.spellings import LockSpellings
from mob.stores.waits import StoreWaits, no_answer

GONE = (Lost, CallTimeout)
"""Errors of a release that do not matter.

Either the store died, and its locks with it; or it is stopped, and will see that the hold is over when it continues.
"""


class StoreLock(LockSpellings):
    """A lock of a store, for `with` and `async with`; see `Store.lock`. Each block is another hold.

    >>> with cache.lock("nightly", ttl=60) as lock:           # doctest: +SKIP
    ...     print(lock.fence)
    """

    def __init__(
        self, peer: Outgoing, role: str, name: str, ttl: float | None, wait: float | None, waits: StoreWaits
    ) -> None:
        self._role = role
        self._name = name
        self._ttl = ttl
        self._wait = wait
        self._waits = waits
        self._hold = RemoteExport(peer, role, "hold", DEFAULTS)
        self._release = RemoteExport(peer, role, "release", DEFAULTS)
        self._renew = RemoteExport(peer, role, "renew", DEFAULTS)
        self._call: Call[Any] | None = None
        self._stream: Stream[int] | None = None
        self._fence = 0
        self._changing = threading.Lock()  # answers of the store are read in another thread than that of the block

    def __repr__(self) -> str:
        state = f"held with fence {self._fence}" if self.is_held else "not held"
        return f"<StoreLock {self._name!r} of {self._role!r}, {state}>"

    @property
    def fence(self) -> int:
        """A number that is greater than that of each holder before; 0 before the first hold."""
        return self._fence

    @property
    def is_held(self) -> bool:
        """True if the lock is held here, as far as is known."""
        return self._call is not None and not self._call.done()

    def renew(self, ttl: float | None = None) -> Call[bool]:
        """Hold the lock for `ttl` more seconds from now; return whether it was still held.

        Args:
            ttl: seconds; None: as many as before.

        >>> await lock.renew()                                # doctest: +SKIP
        True
        """
        self._ttl = self._ttl if ttl is None else ttl
        return self._waits.made(self._renew(self._name, self._fence, self._ttl))

    # --------------------------------------------------------------------------------------------- with, async with

    def __enter__(self) -> Self:
        until = self._begin()
        while True:
            stream = self._ask(until)
            try:
                fence = next(stream, 0)
            except Lost:
                fence = MOVED
            except CancelledError as error:
                raise self._given_up(error) from None
            if self._took(fence):
                return self

    async def __aenter__(self) -> Self:
        until = self._begin()
        while True:
            stream = self._ask(until)
            try:
                fence = await anext(stream, 0)
            except Lost:
                fence = MOVED
            except CancelledError as error:
                raise self._given_up(error) from None
            if self._took(fence):
                return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        call = self._leave()
        with contextlib.suppress(*GONE):
            self._waits.made(self._release(self._name, self._fence)).result()
        self._end(call, error)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        call = self._leave()
        with contextlib.suppress(*GONE):
            await self._waits.made(self._release(self._name, self._fence))
        self._end(call, error)

    # ----------------------------------------------------------------------------------------------- internals

    def _begin(self) -> float | None:
        if self.is_held:
            raise RuntimeError(
                f"{self!r} is already held by this object, and is not reentrant. Make another one with "
                f"store.lock({self._name!r})."
            )
        return None if self._wait is None else monotonic() + self._wait

    def _ask(self, until: float | None) -> Stream[int]:
        wait = None if until is None else max(0.0, until - monotonic())
        call = self._hold(self._name, self._ttl, wait)
        self._call = call
        if wait is not None:
            self._waits.begin(call, wait)
        self._stream = stream = call.stream()
        return stream

    def _given_up(self, error: CancelledError) -> BaseException:
        """Return the error of a request that was given up: the store does not answer, or this task is cancelled."""
        call, self._call, self._stream = self._call, None, None
        if self._wait is not None and call is not None and self._waits.end(call):
            return TimeoutError(no_answer(self._role, f"the lock {self._name!r}"))
        return error

    def _took(self, fence: int) -> bool:
        """Return True if the lock is held now; raise `TimeoutError` if it was not free in time."""
        if self._wait is not None and self._call is not None:
            self._waits.end(self._call)
        if not fence:
            self._call = self._stream = None
            raise TimeoutError(
                f"store {self._role!r}: the lock {self._name!r} was not free within {self._wait} s (wait)."
            )
        if fence == MOVED:
            return False
        self._fence = fence
        cast("Call[Any]", self._call).add_done_callback(self._handle_ended)
        return True

    def _handle_ended(self, call: Call[Any]) -> None:
        """Handle the end of a hold at the store: take it up at the next worker, unless its time was over."""
        error = None if call.cancelled() else call.exception()
        if not (error is None or isinstance(error, Lost)):
            return
        with self._changing:
            if call is not self._call or call.cancelled():
                return
            again = self._hold(self._name, self._ttl, None, self._fence)
            self._call, self._stream = again, again.stream()
        again.add_done_callback(self._handle_ended)

    def _leave(self) -> Call[Any]:
        """Note that from now on the end of the hold is intended."""
        with self._changing:
            call, self._call = self._call, None
        assert call is not None
        return call

    def _end(self, call: Call[Any], error: BaseException | None) -> None:
        """End the hold, wherever it is by now; raise `TimeoutError` if it was lost before."""
        reason = call.exception() if call.done() and not call.cancelled() else None
        call.cancel()
        self._stream = None
        if reason is not None and not isinstance(reason, Lost) and error is None:
            why = str(reason).rpartition(" is over: ")[2]
            raise TimeoutError(
                f"store {self._role!r}: the lock {self._name!r} was lost before the end of its block: {why} Another "
                f"process may have held it since (this was fence {self._fence}). Renew it in time, or use a longer ttl."
            ) from reason
