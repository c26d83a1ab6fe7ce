"""`mob.store`: a store of the app, as its mobsters and clients hold it.

Thin: each method is a call of the store's role. Values are encoded here and decoded here, so that the store need not
open them; numbers go as they are, for `add`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, cast

import msgspec

from mob.errors import BadMessage, CallError
from mob.mobster import api
from mob.mobster.absent import Absent
from mob.peer.calls.options import DEFAULTS
from mob.peer.calls.outgoing import Outgoing
from mob.peer.calls.proxy import RemoteExport
from mob.peer.results.call import DONE, Call
from mob.peer.results.checking import check_seconds
from mob.spellings import spelled
from mob.stores.lock import StoreLock
from mob.stores.spellings import LOCK, SET, StoreSpellings
from mob.stores.waits import StoreWaits
from mob.stores.watch import StoreWatch

_WHOLE = 2**63  # numbers within it are stored as such
_kind: Callable[[Any], type[Any]] = type


class Allowance(msgspec.Struct, frozen=True):
    """Whether something was allowed, as `Store.allow` tells; true if it was.

    >>> allowed = await limits.allow("ada", "5/minute")       # doctest: +SKIP
    >>> allowed.is_allowed, allowed.remaining                 # doctest: +SKIP
    (True, 4)
    """

    is_allowed: bool
    limit: int
    """How many are allowed at once."""
    remaining: int
    """How many more are allowed now."""
    retry_after: float
    """Seconds after which it will be allowed; 0 if it was."""
    reset_after: float
    """Seconds after which nothing of the limit is used up any more."""

    def __bool__(self) -> bool:
        return self.is_allowed


class StoreCall(Call[Any]):
    """A call of a store, whose answer becomes what its caller wants."""

    __slots__ = ("convert",)

    def __init__(self, convert: Callable[[Any], Any], peer: Outgoing, label: str, role: str) -> None:
        super().__init__(peer, label, role)
        self.convert: Callable[[Any], Any] = convert

    def settle(self, value: Any) -> None:
        """It ended with a value: which can be opened, or fails the call."""
        if self.state is DONE or self.incoming is not None:
            super().settle(value)
            return
        try:
            converted = self.convert(value)
        except Exception as failure:  # noqa: BLE001  becomes the call's outcome
            error = CallError(f"{self.label}: what it returned cannot be opened here: {failure}", executed="yes")
            error.__cause__ = failure
            self.fail(error)
        else:
            super().settle(converted)


class AllowanceCall(StoreCall):
    """A call of `Store.allow`, which is neither true nor false itself: else `if` would let everybody in."""

    __slots__ = ()

    def __bool__(self) -> bool:
        raise TypeError(
            f"the call {self.label}() is not its answer: write `if await ...allow(...):`, or in plain code "
            f"`if ...allow(...).result():`."
        )


class Store(StoreSpellings):
    """A store of the app: keys and values, counters, locks and rate limits that all of its processes share.

    Each method returns a `Call`: `await` it, or ask for its `.result()`. It fails with `CallTimeout` if the store does
    not answer for 30 s, because its process is stopped, say. Keys are text; values are whatever can be sent, but
    functions, sockets and open files. See docs/store.md.

    >>> cache = mob.store("cache")                            # doctest: +SKIP
    >>> await cache.set("user:1", {"name": "Ada"}, ttl=60)    # doctest: +SKIP
    >>> cache.get("user:1").result()                          # doctest: +SKIP
    {'name': 'Ada'}
    """

    def __init__(self, peer: Outgoing, role: str) -> None:
        self._peer = peer
        self._role = role
        self._codec = peer.encoder.codec
        self._waits = StoreWaits(peer, role)
        self._made = self._waits.made
        self._get = self._export("get", self._opened)
        self._set = self._export("set")
        self._add = self._export("add")
        self._delete = self._export("delete")

    def __repr__(self) -> str:
        return f"<Store {self._role!r}>"

    # ------------------------------------------------------------------------------------------------- values

    def get(self, key: str, default: Any = None) -> Call[Any]:
        """Return the value of a key.

        Args:
            key: its name.
            default: what is returned if there is no such key, or if its time is over.

        >>> await cache.get("user:1", {})                     # doctest: +SKIP
        """
        if default is None:
            return self._made(self._get(key))
        return self._made(self._export("get", partial(self._opened_or, default))(key))

    @spelled(SET)
    def set(self, key: str, value: Any, *, ttl: float | None = None) -> Call[None]:
        """Give a key a value. With a `file=`, the call ends when it is in the file.

        Args:
            key: its name.
            value: whatever can be sent, but functions, sockets and open files.
            ttl: seconds after which it is gone; None: it stays.

        Raises:
            BadMessage: the value cannot be stored; in this line.
            ValueError: the value alone is larger than the store's `max_memory`, or `ttl` is not above 0.

        >>> await cache.set("user:1", {"name": "Ada"}, ttl=60)     # doctest: +SKIP
        """
        sealed = self._sealed(key, value)
        if ttl is None:
            return self._made(self._set(key, sealed))
        check_seconds("ttl", ttl)
        return self._made(self._set(key, sealed, ttl))

    def get_many(self, keys: Iterable[str]) -> Call[dict[str, Any]]:
        """Return the values of those of these keys that there are, by key, in one message.

        >>> await cache.get_many(["user:1", "user:2"])        # doctest: +SKIP
        {'user:1': {'name': 'Ada'}}
        """
        if isinstance(keys, str):
            raise TypeError(f"get_many() takes a list of keys, and was given the text {keys!r}. Here it is [{keys!r}].")
        wanted = list(keys)

        def opened(values: list[Any]) -> dict[str, Any]:
            return {key: self._opened(each) for key, each in zip(wanted, values, strict=True) if each is not None}

        return self._made(self._export("get_many", opened)(wanted))

    @spelled(SET)
    def set_many(self, values: Mapping[str, Any], *, ttl: float | None = None) -> Call[None]:
        """Give keys values, in one message; as `set`.

        >>> await cache.set_many({"a": 1, "b": 2}, ttl=60)    # doctest: +SKIP
        """
        check_seconds("ttl", ttl)
        sealed = {key: self._sealed(key, each) for key, each in dict(values).items()}
        return self._made(self._export("set_many")(sealed, ttl))

    def delete(self, *keys: str) -> Call[int]:
        """Delete keys; return how many of them there were.

        >>> await cache.delete("user:1", "user:2")            # doctest: +SKIP
        1
        """
        if any(_kind(each) is list for each in keys):
            raise TypeError(f"delete() takes keys, and was given a list: {keys!r}. Here it is .delete(*keys).")
        return self._made(self._delete(keys))

    def keys(self, prefix: str = "") -> Call[list[str]]:
        """Return the keys that begin so, in no order. The store answers nobody else meanwhile.

        >>> await cache.keys("user:")                         # doctest: +SKIP
        ['user:1']
        """
        return self._made(self._export("keys")(prefix))

    def stats(self) -> Call[dict[str, int]]:
        """Return how many keys, bytes, locks, claims that wait for one, and watchers there are; and how many hits,
        misses and evictions there were since the worker was started.

        >>> (await cache.stats())["keys"]                     # doctest: +SKIP
        1
        """
        return self._made(self._export("stats")())

    # ---------------------------------------------------------------------------------------- counters, limits

    @spelled(SET)
    def add(self, key: str, n: int | float = 1, *, ttl: float | None = None) -> Call[Any]:
        """Add to a number, which begins at 0, and return the sum. No other call comes in between.

        Args:
            key: its name.
            n: what is added; may be negative.
            ttl: seconds after which the number is gone, counted from the first `add`; a later one does not prolong it.

        Raises:
            TypeError: the value of the key is no number.

        >>> await cache.add("visits")                         # doctest: +SKIP
        1
        """
        if ttl is None:
            return self._made(self._add(key, n))
        check_seconds("ttl", ttl)
        return self._made(self._add(key, n, ttl))

    def allow(self, key: str, limit: str, n: int = 1) -> Call[Allowance]:
        """Return whether `n` more are allowed for a key, and count them if they are.

        As many as the limit says may come at once; what is used up is free again bit by bit (GCRA, as in redis-cell).
        The call itself is neither true nor false: `await` it, or ask for its `.result()`.

        Args:
            key: who or what is limited.
            limit: "100/minute", "5/s", "20/15 minutes"; up to 100,000 a second.
            n: how many; no more than the limit.

        >>> if not await limits.allow(visitor, "100/minute"): ...     # doctest: +SKIP
        """
        return self._made(self._export("allow", _allowance, AllowanceCall)(key, limit, n))

    # ------------------------------------------------------------------------------------------ locks, watching

    @spelled(LOCK)
    def lock(self, name: str, *, ttl: float | None = None, wait: float | None = None) -> StoreLock:
        """Return a lock, to be held by `with` or `async with`. Those who wait get it in the order in which they came.

        It is released at the end of the block, when its process dies, and after `ttl`. Its `fence` is a number that
        is greater for each holder: give it to whatever the lock protects, which refuses smaller ones than it has seen.

        Args:
            name: of the lock; locks and keys have nothing to do with one another.
            ttl: seconds after which another may have it although this process lives; None: never.
            wait: seconds to wait for it; None: for ever.

        Raises:
            TimeoutError: at the begin of the block, if it was not free within `wait`, or if the store has not answered
                30 s after that; at its end, if it was lost.

        >>> async with cache.lock("nightly", ttl=60) as lock:     # doctest: +SKIP
        ...     await report(fence=lock.fence)
        """
        check_seconds("ttl", ttl)
        check_seconds("wait", wait)
        return StoreLock(self._peer, self._role, name, ttl, wait, self._waits)

    def watch(self, key: str, *, prefix: bool = False) -> StoreWatch:
        """Return the changes of a key from now on, for `for` and `async for`.

        Args:
            key: its name.
            prefix: whether all keys that begin so are watched.

        >>> async for change in cache.watch("user:", prefix=True):     # doctest: +SKIP
        ...     print(change.kind, change.key, change.value)
        """
        return StoreWatch(self._peer, self._role, key, prefix, self._opened, self._waits)

    # ----------------------------------------------------------------------------------------------- internals

    def _export(
        self, name: str, convert: Callable[[Any], Any] | None = None, kind: type[StoreCall] = StoreCall
    ) -> RemoteExport:
        export = RemoteExport(self._peer, self._role, name, DEFAULTS)
        export.new_call = Call if convert is None else cast(Any, partial(kind, convert))
        return export

    def _sealed(self, key: str, value: Any) -> bytes | int | float:
        kind = _kind(value)
        if kind is float or (kind is int and -_WHOLE <= value < _WHOLE):
            return value
        body = self._codec.encode_data(value)
        return self._refuse(key, value) if body is None else body

    def _refuse(self, key: str, value: Any) -> Any:
        """Say why a value cannot be stored."""
        root = f"the value of {key!r}"
        self._peer.encoder.encode(value, root, False)  # raises, if it cannot be sent at all
        self._peer.references.let_go(self._peer.references.take())
        raise BadMessage(
            f"cannot store {root} in {self._role!r}: there is a function, a socket or an open file in it, which lives "
            f"in this process.",
            root,
        )

    def _opened(self, value: Any) -> Any:
        return self._codec.decode(value) if _kind(value) is bytes else value

    def _opened_or(self, default: Any, value: Any) -> Any:
        return default if value is None else self._opened(value)


def _allowance(answer: list[Any]) -> Allowance:
    return Allowance(*answer)


def store(role: str) -> Store:
    """Return a store of this app; in a client it is `app.store(...)`.

    `UnknownRole` if the app has no such role. Calls of a role that is not a store fail with `UnknownExport`.

    >>> cache = mob.store("cache")                            # doctest: +SKIP
    """
    peer = api.find()
    return cast(Store, Absent("store")) if peer is None else store_of(peer, role)


def store_of(peer: Outgoing, role: str) -> Store:
    """Return a store of the app that a process takes part in."""
    peer.context.roster.check_role(role, "store")
    return Store(peer, role)
