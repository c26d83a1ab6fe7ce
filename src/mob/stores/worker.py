"""The module of a store's role: one worker that holds the data that all processes of the app share.

It uses the public API of mob; only the names of its metrics are reserved, so these are declared elsewhere. Values are
bytes that their senders encoded, and this module does not decode them; or numbers, which `add` needs.

A lock is held by a stream: `hold` yields its fence and continues until the lock is over. So it is released when its
holder leaves the stream, dies, or is cut off, without any request.

A worker that takes the place of another one, in a reload, asks it for its contents before it is ready (`hand_over`):
`mob.on("hand_over")` would wait for the streams of locks. That event serves a worker that ends before its successor is
there, which ends the streams first; with a file, the contents are in it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial, wraps
from time import monotonic, time
from typing import Any, TypeVar, cast

import mob
from mob.stores import rates
from mob.stores.book import Value
from mob.stores.file import StoredRow
from mob.stores.locks import HELD, MOVED, OVER, WAITING
from mob.stores.metrics import BYTES, EVICTIONS, HITS, KEYS, LOCK_WAITS, LOCKS, MISSES, WATCHERS
from mob.stores.server import LOG, Contents, StoreServer
from mob.stores.settings import settings_for
from mob.stores.watchers import KeyWatcher, WatchedChange

F = TypeVar("F", bound=Callable[..., Any])
SHORTLY = 0.02
"""Seconds after which callers that ask a worker that ends get that answer: by then they know of its end."""

_server: StoreServer
_told = (0, 0, 0)  # hits, misses and evictions
_predecessor: Any = None  # a stream; if it ended, the predecessor would continue without this worker


@mob.on("start")
async def begin() -> None:
    """Open the store, before any call may come."""
    global _server
    me = mob.me()
    is_first = me.generation == 1 and not me.node  # in a cluster another machine may have had it
    owner = f"{me.app}@{me.node}" if me.node else me.app
    _server = StoreServer(me.role, settings_for(me.role), is_first, tell_metrics, owner)
    given = None if me.generation == 1 else await _receive(me.role)
    await _server.wait_for_file()
    _server.begin(given or mob.inherited())


def tell_metrics(server: StoreServer) -> None:
    """Update the metrics of the store."""
    global _told
    book = server.book
    KEYS.set(len(book.entries))
    BYTES.set(book.bytes)
    LOCKS.set(len(server.locks.held))
    LOCK_WAITS.set(server.locks.count_waiting())
    WATCHERS.set(len(server.watchers))
    told, _told = _told, (book.hits, book.misses, book.evictions)
    for counter, now, before in zip((HITS, MISSES, EVICTIONS), _told, told, strict=True):
        counter.inc(now - before)


async def _receive(role: str) -> Contents | None:
    """Return what the previous worker hands over, if it is still there."""
    global _predecessor
    rows: list[StoredRow] = []
    try:
        _predecessor = mob.require(role).options(wait=0).hand_over().stream()
        async for part, unsaved, held in _predecessor:
            rows += map(tuple, part)
            if not part:
                return rows, unsaved, held
    except mob.Unavailable:
        return None
    except mob.Lost as error:
        LOG.warning("store %r: the previous worker died while it handed over its contents: %s", role, error)
    return None


@mob.on("drain")
async def end() -> None:
    """End the streams: callers that wait here ask the next worker. Leave it the contents if it needs them."""
    if not _server.is_frozen and _server.settings.file is None:
        mob.on("hand_over", leave)
    _server.end()


def leave() -> Contents:
    """Return the contents for the next worker; from now on nothing can be changed here."""
    return _server.leave()


@mob.on("stop")
async def close() -> None:
    """Close the file."""
    _server.is_closed = True  # calls come until the links are closed
    await _server.close()


@mob.export
async def hand_over() -> AsyncIterator[Contents]:
    """Yield all contents to the next worker of the store, and ask it from then on."""
    me, caller = mob.me(), mob.caller()
    if caller is None or (caller.role, caller.index) != (me.role, me.index):
        raise PermissionError(f"store {me.role!r}: its contents are handed over to its next worker only.")
    async for part in _server.hand_over():
        yield part


def _has_file() -> bool:
    me: Any = mob.me()
    return isinstance(me, mob.Me) and settings_for(me.role).file is not None  # otherwise this is no worker of a store


def asking(function: F) -> F:
    """Make an export that asks the store wait while the store is handed over."""

    @wraps(function)
    def ask(*args: Any, **kwargs: Any) -> Any:
        server = _server
        if not server.is_metering:
            server.meter_soon()
        if server.is_frozen:
            return server.ask(partial(function, *args, **kwargs), _elsewhere(function, args, kwargs))
        return function(*args, **kwargs)

    return cast(F, ask)


def changing(function: F) -> F:
    """Make an export that changes the store end when the change is in the file, if there is one.

    It is `async def` then, because such calls begin one after another in one turn of the loop, so that their changes
    are written together; after a `def` export that has to wait, the next one begins a turn later.
    """
    if not _has_file():
        return asking(function)

    @wraps(function)
    async def change(*args: Any, **kwargs: Any) -> Any:
        return await _server.change(partial(function, *args, **kwargs), _elsewhere(function, args, kwargs))

    return cast(F, change)


def _elsewhere(function: Callable[..., Any], args: Any, kwargs: Any) -> Callable[[], Any]:
    return lambda: getattr(mob.require(_server.name), function.__name__)(*args, **kwargs)


# -- keys --------------------------------------------------------------------------------------------------------------


@mob.export(idempotent=True)
@asking
def get(key: str) -> Value | None:
    """Return the value of a key as it was sent: a number, or bytes that its sender encoded."""
    return _server.book.get(key, time())


@mob.export(idempotent=True)
@asking
def get_many(keys: list[str]) -> list[Value | None]:
    """Return the values of keys."""
    book, now = _server.book, time()
    return [book.get(key, now) for key in keys]


@mob.export
@changing
def set(key: str, value: bytes | int | float, ttl: float | None = None) -> None:
    """Set the value of a key, with that many seconds to live."""
    server = _server
    server.book.set(key, value, ttl, time())
    if ttl is not None:
        server.look_at_due()


@mob.export
@changing
def set_many(values: dict[str, bytes | int | float], ttl: float | None = None) -> None:
    """Set the values of keys."""
    server, now = _server, time()
    for key, value in values.items():
        server.book.set(key, value, ttl, now)
    if ttl is not None:
        server.look_at_due()


@mob.export
@changing
def delete(keys: list[str]) -> int:
    """Delete keys; return how many of them existed."""
    return _server.book.delete(keys, time())


@mob.export
@changing
def add(key: str, n: int | float = 1, ttl: float | None = None) -> int | float:
    """Add to a number; return the sum."""
    server = _server
    total = server.book.add(key, n, ttl, time())
    if ttl is not None:
        server.look_at_due()
    return total


@mob.export
@changing
def allow(key: str, limit: str, n: int = 1) -> tuple[bool, int, int, float, float]:
    """Return whether n more are allowed.

    Also return the limit, how many are left, and the seconds until this is allowed and until the whole limit is free.
    """
    server, now, wanted = _server, time(), rates.limit_of(limit)
    if not 0 < n <= wanted.most:
        raise ValueError(
            f"store {server.name!r}: allow({key!r}, {limit!r}, n={n}) can never be allowed: n must be from 1 to "
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
@asking
def keys(prefix: str = "") -> list[str]:
    """Return the keys with that prefix, in no order."""
    return list(_server.book.keys(prefix, time()))


@mob.export(idempotent=True)
def stats() -> dict[str, int]:
    """Return the figures of the store."""
    server = _server
    return {
        "keys": len(server.book.entries),
        "bytes": server.book.bytes,
        "hits": server.book.hits,
        "misses": server.book.misses,
        "evictions": server.book.evictions,
        "locks": len(server.locks.held),
        "waiting": server.locks.count_waiting(),
        "watchers": len(server.watchers),
    }


# -- streams -----------------------------------------------------------------------------------------------------------


@mob.export
async def watch(key: str, is_prefix: bool) -> AsyncIterator[tuple[bool, list[WatchedChange]]]:
    """Yield the changes of a key, or of all with a prefix: True if some were lost, and the changes since.

    The first item has no changes, and shows that watching has begun.
    """
    server, watcher, event = _server, KeyWatcher(key, is_prefix), asyncio.Event()
    if server.is_ending:
        await asyncio.sleep(SHORTLY)
    server.watchers.join(watcher)
    server.changed[watcher] = event
    server.meter_soon()
    try:
        while not server.is_ending:
            yield watcher.take()
            await event.wait()
            event.clear()
    finally:
        server.watchers.leave(watcher)
        server.meter_soon()
        del server.changed[watcher]


@mob.export
async def hold(name: str, ttl: float | None, wait: float | None, fence: int = 0) -> AsyncIterator[int]:
    """Yield the fence of a lock when it is held, and continue until that is over.

    End at once if it is not held after `wait` seconds. `fence`: the one by which the caller held the lock before this
    worker was there.
    """
    server = _server
    if (server.is_frozen and not await server.thawed()) or server.is_ending:
        await asyncio.sleep(SHORTLY)
        yield MOVED
        return
    now = monotonic()
    claim = server.locks.adopt(name, ttl, fence, now) if fence else server.locks.ask(name, ttl, now)
    event = server.changed[claim] = asyncio.Event()
    server.meter_soon()
    try:
        if claim.state is WAITING:
            if now < server.locks.grants_from:
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
            yield MOVED
    finally:
        del server.changed[claim]
        server.wake(server.locks.leave(claim, monotonic()))


@mob.export
@asking
def renew(name: str, fence: int, ttl: float | None) -> bool:
    """Give the holder of a lock that many more seconds; return whether it still holds it."""
    server = _server
    claim = server.locks.renew(name, fence, ttl, monotonic())
    if claim is not None:
        server.look_at_locks(claim.ends)
    return claim is not None


@mob.export
@asking
def release(name: str, fence: int) -> bool:
    """End the hold of a lock; return whether it was held until now."""
    changed = _server.locks.release(name, fence, monotonic())
    _server.wake(changed)
    return bool(changed) and changed[0].state is OVER
