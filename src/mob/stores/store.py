"""`mob.store`: a store of the app, for its mobsters and clients.

Each method is just a call of the store's role. Values are encoded and decoded here, so that the store need not decode
them; numbers are sent as they are, for `add`.
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
    """The result of `Store.allow`; true if it was allowed.

    >>> allowed = await limits.allow("ada", "5/minute")       # doctest: +SKIP
    >>> allowed.is_allowed, allowed.remaining                 # doctest: +SKIP
    (True, 4)
    """

    is_allowed: bool
    """True if it was allowed."""
    limit: int
    """Number of events that are allowed at once."""
    remaining: int
    """Number of further events that are allowed now."""
    retry_after: float
    """Seconds after which it will be allowed; 0 if it was."""
    reset_after: float
    """Seconds after which the whole limit is free again."""

    def __bool__(self) -> bool:
        return self.is_allowed


class StoreCall(Call[Any]):
    """A call of a store whose answer is converted for its caller."""

    __slots__ = ("convert",)

    def __init__(self, convert: Callable[[Any], Any], peer: Outgoing, label: str, role: str) -> None:
        super().__init__(peer, label, role)
        self.convert: Callable[[Any], Any] = convert

    def settle(self, value: Any) -> None:
        """Convert the value and settle with it, or fail."""
        if self.state is DONE or self.incoming is not None:
            super().settle(value)
            return
        try:
            converted = self.convert(value)
        except Exception as failure:  # noqa: BLE001  becomes the call's outcome
            error = CallError(f"{self.label}: cannot decode what it returned: {failure}", executed="yes")
            error.__cause__ = failure
            self.fail(error)
        else:
            super().settle(converted)


class AllowanceCall(StoreCall):
    """A call of `Store.allow`, which has no truth value: otherwise a plain `if` would let everybody in."""

    __slots__ = ()

    def __bool__(self) -> bool:
        raise TypeError(
            f"the call {self.label}() is not its answer: write `if await ...allow(...):`, or in sync code "
            f"`if ...allow(...).result():`."
        )


class Store(StoreSpellings):
    """A store of the app: keys and values, counters, locks and rate limits that all of its processes share.

    Each method returns a `Call`: `await` it, or call its `.result()`. It fails with `CallTimeout` if the store does not
    answer for 30 s, for example because its process is stopped. Keys are text; values are anything that can be sent,
    except functions, sockets and open files. See docs/store.md.

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
            key: name of the value.
            default: returned if there is no such key, or if it has expired.

        >>> await cache.get("user:1", {})                     # doctest: +SKIP
        """
        if default is None:
            return self._made(self._get(key))
        return self._made(self._export("get", partial(self._opened_or, default))(key))

    @spelled(SET)
    def set(self, key: str, value: Any, *, ttl: float | None = None) -> Call[None]:
        """Set the value of a key. With a `file=`, the call ends when it is in the file.

        Args:
            key: name of the value.
            value: anything that can be sent, except functions, sockets and open files.
            ttl: seconds after which it expires; None: never.

        Raises:
            BadMessage: the value cannot be stored; raised at once.
            ValueError: the value alone is larger than the store's `max_memory`, or `ttl` is not above 0.

        >>> await cache.set("user:1", {"name": "Ada"}, ttl=60)     # doctest: +SKIP
        """
        sealed = self._sealed(key, value)
        if ttl is None:
            return self._made(self._set(key, sealed))
        check_seconds("ttl", ttl)
        return self._made(self._set(key, sealed, ttl))

    def get_many(self, keys: Iterable[str]) -> Call[dict[str, Any]]:
        """Return the values of the keys that exist, by key, in one message.

        >>> await cache.get_many(["user:1", "user:2"])        # doctest: +SKIP
        {'user:1': {'name': 'Ada'}}
        """
        if isinstance(keys, str):
            raise TypeError(f"get_many() takes a list of keys, not the text {keys!r}. Write [{keys!r}].")
        wanted = list(keys)

        def opened(values: list[Any]) -> dict[str, Any]:
            return {key: self._opened(each) for key, each in zip(wanted, values, strict=True) if each is not None}

        return self._made(self._export("get_many", opened)(wanted))

    @spelled(SET)
    def set_many(self, values: Mapping[str, Any], *, ttl: float | None = None) -> Call[None]:
        """Set the values of several keys in one message, as `set` does.

        Args:
            values: the values by key.
            ttl: seconds after which they expire; None: never.

        >>> await cache.set_many({"a": 1, "b": 2}, ttl=60)    # doctest: +SKIP
        """
        check_seconds("ttl", ttl)
        sealed = {key: self._sealed(key, each) for key, each in dict(values).items()}
        return self._made(self._export("set_many")(sealed, ttl))

    def delete(self, *keys: str) -> Call[int]:
        """Delete keys; return how many of them existed.

        >>> await cache.delete("user:1", "user:2")            # doctest: +SKIP
        1
        """
        if any(_kind(each) is list for each in keys):
            raise TypeError(f"delete() takes keys, not a list: {keys!r}. Write .delete(*keys).")
        return self._made(self._delete(keys))

    def keys(self, prefix: str = "") -> Call[list[str]]:
        """Return the keys with that prefix, in no order. The store answers no other call meanwhile.

        >>> await cache.keys("user:")                         # doctest: +SKIP
        ['user:1']
        """
        return self._made(self._export("keys")(prefix))

    def stats(self) -> Call[dict[str, int]]:
        """Return the figures of the store.

        They are the numbers of keys, bytes, locks, claims that wait for a lock, and watchers; and the hits, misses and
        evictions since the worker was started.

        >>> (await cache.stats())["keys"]                     # doctest: +SKIP
        1
        """
        return self._made(self._export("stats")())

    # ---------------------------------------------------------------------------------------- counters, limits

    @spelled(SET)
    def add(self, key: str, n: int | float = 1, *, ttl: float | None = None) -> Call[Any]:
        """Add to a number, which starts at 0, and return the sum. The step is atomic.

        Args:
            key: name of the number.
            n: the amount to add; may be negative.
            ttl: seconds after which the number expires, counted from the first `add`; a later one does not prolong it.

        Raises:
            TypeError: the value of the key is not a number.

        >>> await cache.add("visits")                         # doctest: +SKIP
        1
        """
        if ttl is None:
            return self._made(self._add(key, n))
        check_seconds("ttl", ttl)
        return self._made(self._add(key, n, ttl))

    def allow(self, key: str, limit: str, n: int = 1) -> Call[Allowance]:
        """Return whether `n` more are allowed for a key, and count them if they are.

        As many as the limit says may come at once; what is used up becomes free again gradually (GCRA, as in
        redis-cell). The call itself has no truth value: `await` it, or call its `.result()`.

        Args:
            key: the person or thing that is limited.
            limit: "100/minute", "5/s", "20/15 minutes"; up to 100,000 a second.
            n: number of events; not more than the limit.

        >>> if not await limits.allow(visitor, "100/minute"): ...     # doctest: +SKIP
        """
        return self._made(self._export("allow", _allowance, AllowanceCall)(key, limit, n))

    # ------------------------------------------------------------------------------------------ locks, watching

    @spelled(LOCK)
    def lock(self, name: str, *, ttl: float | None = None, wait: float | None = None) -> StoreLock:
        """Return a lock, to be held by `with` or `async with`. Waiting callers get it in the order of their requests.

        It is released at the end of the block, when its process dies, and after `ttl`. Its `fence` is a number that
        increases with each holder: pass it to whatever the lock protects, which refuses smaller ones than it has seen.

        Args:
            name: of the lock; locks and keys are independent of each other.
            ttl: seconds after which another process may have it even if this one lives; None: never.
            wait: maximum seconds to wait for it; None: forever.

        Raises:
            TimeoutError: at the start of the block, if it was not free within `wait`, or if the store did not answer
                within 30 s after that; at its end, if it was lost.

        >>> async with cache.lock("nightly", ttl=60) as lock:     # doctest: +SKIP
        ...     await report(fence=lock.fence)
        """
        check_seconds("ttl", ttl)
        check_seconds("wait", wait)
        return StoreLock(self._peer, self._role, name, ttl, wait, self._waits)

    def watch(self, key: str, *, prefix: bool = False) -> StoreWatch:
        """Return the changes of a key from now on, for `for` and `async for`.

        Args:
            key: the key, or the prefix.
            prefix: True to watch all keys with that prefix.

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
        """Raise the error for a value that cannot be stored."""
        root = f"the value of {key!r}"
        self._peer.encoder.encode(value, root, False)  # raises, if it cannot be sent at all
        self._peer.references.let_go(self._peer.references.take())
        raise BadMessage(
            f"cannot store {root} in {self._role!r}: it contains a function, a socket or an open file, which exists "
            f"only in this process.",
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

    Raises:
        UnknownRole: the app has no such role. Calls of a role that is not a store fail with `UnknownExport`.

    >>> cache = mob.store("cache")                            # doctest: +SKIP
    """
    peer = api.find()
    return cast(Store, Absent("store")) if peer is None else store_of(peer, role)


def store_of(peer: Outgoing, role: str) -> Store:
    """Return a store of the app that a process takes part in."""
    peer.context.roster.check_role(role, "store")
    return Store(peer, role)
