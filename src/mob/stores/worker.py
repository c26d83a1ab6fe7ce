"""The module of a store's role: one worker that holds what all processes of the app share.

Written with the public API of mob only. What is decided (`book`, `locks`, `rates`, `watchers`) knows no clock; here the
clock is read, timers are set, and those who wait are woken. All of it runs on the loop, one call at a time, so nothing
needs a lock.

Values are bytes that their senders have encoded, and nobody here opens them; or numbers, which `add` needs.

A lock is held by a stream: `hold` yields its fence and goes on until the lock is over. So it is released when its
holder leaves the stream, dies, or is cut off, without anybody asking.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from math import inf
from time import monotonic, time

import mob
from mob.stores import rates
from mob.stores.book import StoreBook, Value
from mob.stores.locks import HELD, OVER, WAITING, LockClaim, Locks
from mob.stores.settings import settings_for
from mob.stores.watchers import KeyWatcher, WatchedChange, Watchers

GRACE = 2.0
"""Seconds after a restart in which locks are given to nobody but those who say that they hold them."""
MICROSECOND = 1e-6


class StoreServer:
    """A store, as its worker holds it."""

    def __init__(self, role: str, has_begun_before: bool) -> None:
        settings = settings_for(role)
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self.name: str = role
        self.book: StoreBook = StoreBook(role, settings.max_memory)
        # Greater than each fence of an earlier worker, which has not given out one each microsecond.
        self.locks: Locks = Locks(role, int(time() / MICROSECOND), monotonic() + GRACE if has_begun_before else -inf)
        self.watchers: Watchers = Watchers()
        self.changed: dict[LockClaim | KeyWatcher, asyncio.Event] = {}
        """Who waits here, and what wakes them."""
        self.is_ending: bool = False
        self._due: float = inf
        self._due_timer: asyncio.TimerHandle | None = None
        self._locks_due: float = inf
        self._locks_timer: asyncio.TimerHandle | None = None
        self.book.listeners.append(self._tell)

    def __repr__(self) -> str:
        return f"<StoreServer {self.book!r}>"

    # ------------------------------------------------------------------------------------------------- timers

    def look_at_due(self) -> None:
        """Set the timer of the keys, if one ends sooner than it is set to."""
        due = self.book.next_due()
        if due is not None and due < self._due:
            if self._due_timer is not None:
                self._due_timer.cancel()
            self._due = due
            self._due_timer = self.loop.call_later(max(0.0, due - time()), self._end_due)

    def _end_due(self) -> None:
        self._due = inf
        self.book.end_due(time())
        self.look_at_due()

    def look_at_locks(self, due: float) -> None:
        """Set the timer of the locks, if it is set to no earlier time."""
        if due < self._locks_due:
            if self._locks_timer is not None:
                self._locks_timer.cancel()
            self._locks_due = due
            self._locks_timer = self.loop.call_at(due + self.loop.time() - monotonic(), self._end_locks)

    def _end_locks(self) -> None:
        self._locks_due = inf
        self.wake(self.locks.end_due(monotonic()))
        self.look_at_locks(self.locks.next_due() or inf)

    # ------------------------------------------------------------------------------------------------- waking

    def wake(self, claims: list[LockClaim]) -> None:
        """Tell those whose claims have changed."""
        for claim in claims:
            if claim.state is HELD:
                self.look_at_locks(claim.ends)
            event = self.changed.get(claim)
            if event is not None:
                event.set()

    def _tell(self, what: str, key: str, value: Value | None) -> None:
        for watcher in self.watchers.tell(what, key, value):
            self.changed[watcher].set()

    def end(self) -> None:
        """End what has no end of its own: whoever waits here asks the next worker."""
        self.is_ending = True
        for event in self.changed.values():
            event.set()


_server: StoreServer


@mob.on("start")
async def begin() -> None:
    """Open the store, before anybody may ask it."""
    global _server
    me = mob.me()
    _server = StoreServer(me.role, me.generation > 1 or me.node != "")


@mob.on("drain")
async def end() -> None:
    """End the streams."""
    _server.end()


# -- keys --------------------------------------------------------------------------------------------------------------


@mob.export(idempotent=True)
def get(key: str) -> Value | None:
    """Return the value of a key as it was sent: a number, or bytes that its sender has encoded."""
    return _server.book.get(key, time())


@mob.export(idempotent=True)
def get_many(keys: list[str]) -> list[Value | None]:
    """Return the values of keys."""
    now = time()
    return [_server.book.get(key, now) for key in keys]


@mob.export
def set(key: str, value: bytes | int | float, ttl: float | None = None) -> None:
    """Give a key a value, and so many seconds to live."""
    server = _server
    server.book.set(key, value, ttl, time())
    if ttl is not None:
        server.look_at_due()


@mob.export
def set_many(values: dict[str, bytes | int | float], ttl: float | None = None) -> None:
    """Give keys values."""
    server, now = _server, time()
    for key, value in values.items():
        server.book.set(key, value, ttl, now)
    if ttl is not None:
        server.look_at_due()


@mob.export
def delete(keys: list[str]) -> int:
    """Delete keys; return how many there were."""
    return _server.book.delete(keys, time())


@mob.export
def add(key: str, n: int | float = 1, ttl: float | None = None) -> int | float:
    """Add to a number; return the sum."""
    server = _server
    total = server.book.add(key, n, ttl, time())
    if ttl is not None:
        server.look_at_due()
    return total


@mob.export
def allow(key: str, limit: str, n: int = 1) -> tuple[bool, int, int, float, float]:
    """Return whether n more are allowed, the limit, how many are left, and after how many seconds this is allowed and
    the whole limit is free again."""
    server, now, wanted = _server, time(), rates.limit_of(limit)
    if not 0 < n <= wanted.most:
        raise ValueError(
            f"store {server.name!r}: allow({key!r}, {limit!r}, n={n}) can never be allowed: n is from 1 to "
            f"{wanted.most}."
        )
    name = f"{key}\0{wanted.most}/{wanted.period:g}"
    full = server.book.own(name, now)
    answer = rates.ask(full if isinstance(full, float) else None, wanted, n, now)
    if answer.is_allowed:
        server.book.put_own(name, answer.full, answer.full)
        server.look_at_due()
    return answer.is_allowed, wanted.most, answer.remaining, answer.retry_after, answer.reset_after


@mob.export(idempotent=True)
def keys(prefix: str = "") -> list[str]:
    """Return the keys that begin so, in no order."""
    return list(_server.book.keys(prefix, time()))


@mob.export(idempotent=True)
def stats() -> dict[str, int]:
    """Return what the store holds, and what was asked of it."""
    server = _server
    return {
        "keys": len(server.book.entries),
        "bytes": server.book.bytes,
        "hits": server.book.hits,
        "misses": server.book.misses,
        "evictions": server.book.evictions,
        "locks": len(server.locks.held),
        "waiting": sum(map(len, server.locks.waiting.values())),
        "watchers": len(server.watchers),
    }


# -- streams -----------------------------------------------------------------------------------------------------------


@mob.export
async def watch(key: str, is_prefix: bool) -> AsyncIterator[tuple[bool, list[WatchedChange]]]:
    """Yield the changes of a key, or of all that begin so: whether some were lost, and those since. The first item has
    none, and says that this has begun."""
    server, watcher, event = _server, KeyWatcher(key, is_prefix), asyncio.Event()
    server.watchers.join(watcher)
    server.changed[watcher] = event
    try:
        while not server.is_ending:
            yield watcher.take()
            await event.wait()
            event.clear()
    finally:
        server.watchers.leave(watcher)
        del server.changed[watcher]


@mob.export
async def hold(name: str, ttl: float | None, wait: float | None, fence: int = 0) -> AsyncIterator[int]:
    """Yield the fence of a lock when it is held, and go on until that is over; end at once if it is not held after
    `wait` seconds. `fence`: that by which the caller held it before this worker was there."""
    server = _server
    if fence:
        claim = server.locks.adopt(name, ttl, fence, monotonic())
    else:
        claim = server.locks.ask(name, ttl, monotonic())
    event = server.changed[claim] = asyncio.Event()
    try:
        if claim.state is WAITING and not server.is_ending:
            if monotonic() < server.locks.grants_from:
                server.look_at_locks(server.locks.grants_from)
            try:
                await asyncio.wait_for(event.wait(), wait)
            except TimeoutError:
                pass
        if claim.state is HELD and not server.is_ending:
            server.look_at_locks(claim.ends)
            yield claim.fence
            while claim.state is HELD and not server.is_ending:
                event.clear()
                await event.wait()
        if claim.why:
            raise TimeoutError(f"store {server.name!r}: the lock {name!r} is over: {claim.why}.")
        if server.is_ending:
            yield -1
    finally:
        del server.changed[claim]
        server.wake(server.locks.leave(claim, monotonic()))


@mob.export
def renew(name: str, fence: int, ttl: float | None) -> bool:
    """Give the holder of a lock so many more seconds; return whether it still holds it."""
    server = _server
    claim = server.locks.renew(name, fence, ttl, monotonic())
    if claim is not None:
        server.look_at_locks(claim.ends)
    return claim is not None


@mob.export
def release(name: str, fence: int) -> bool:
    """End the hold of a lock; return whether it was held until now."""
    changed = _server.locks.release(name, fence, monotonic())
    _server.wake(changed)
    return bool(changed) and changed[0].state is OVER
