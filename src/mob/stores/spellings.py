"""Names that users of a `dict`, Redis or memcached write first: each raises an error with the right name.

There is one way to do each thing, so none of these names works. Knows nothing of how a store is reached.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from mob.spellings import instead

_PARTS = "a role of your own with one worker: a store has no lists, sets or transactions (see docs/store.md, Limits)"
_EACH = {
    "incr incrby incrbyfloat increment inc": ".add(key, n)",
    "decr decrby decrement dec": ".add(key, -n)",
    "put setex psetex": ".set(key, value, ttl=seconds)",
    "exists has has_key contains": ".get(key), which returns None if there is no such key",
    "expire pexpire expireat touch persist ttl": ".set(key, value, ttl=seconds), because a ttl comes with its value",
    "setnx setdefault getset": ".add(key), which returns 1 to the first, or .get(key) and .set(key, value) in a lock",
    "mget multi_get": ".get_many(keys)",
    "mset update": ".set_many({key: value}, ttl=seconds)",
    "remove unlink discard": ".delete(key)",
    "pop getdel": ".get(key) and .delete(key), in a lock if others do the same",
    "clear flush flushdb flushall": ".delete(*keys), with the result of .keys()",
    "scan scan_iter items values": ".keys(prefix), and .get_many(keys) for their values",
    "info dbsize size count": ".stats()",
    "acquire release mutex semaphore": "`with` or `async with`, and .lock(name, ttl=seconds)",
    "limit rate_limit ratelimit throttle hit": '.allow(key, "100/minute")',
    "subscribe psubscribe pubsub listen": ".watch(key), or .watch(prefix, prefix=True)",
    "publish": "mob.send(obj), or mob.all(role).send(obj)",
    "pipeline multi transaction eval append push hset hget hgetall lpush rpush lpop rpop lrange": _PARTS,
    "sadd srem smembers zadd zrange xadd xread": _PARTS,
}
NAMES = {name: here for names, here in _EACH.items() for name in names.split()}
SET = {
    **dict.fromkeys(("ex", "exat", "expire", "expires", "timeout", "time", "seconds"), "'ttl', in seconds"),
    **dict.fromkeys(("px", "pxat"), "'ttl', in seconds, which may be a fraction"),
    **dict.fromkeys(("nx", "xx"), "a lock: read the value and set it in `with store.lock(name):`"),
    "keepttl": "'ttl': a value without one stays",
}
"""Wrong options of `set` and its like."""
LOCK = {
    "timeout": "'wait' for the seconds to wait for it, and 'ttl' for the seconds after which it is released",
    "blocking": "'wait': wait=0 raises TimeoutError at once",
    **dict.fromkeys(("blocking_timeout", "acquire_timeout"), "'wait', in seconds"),
    **dict.fromkeys(("ex", "expire", "expires", "lease"), "'ttl', in seconds"),
}
"""Wrong options of `lock`."""
OF_LOCK = {
    **dict.fromkeys(("acquire", "release"), "`with` around the block that holds it, or `async with` in async code"),
    **dict.fromkeys(("locked", "owned"), ".is_held"),
    **dict.fromkeys(("extend", "reacquire"), ".renew(ttl)"),
    "token": ".fence",
}


class StoreSpellings:
    """Refuses what a store is not: a `dict`, a client of Redis."""

    __slots__ = ()
    _role: str

    def __bool__(self) -> bool:
        return True  # although it has a `__len__`

    if not TYPE_CHECKING:  # so that type checkers refuse all of this, too

        def __getattr__(self, name: str) -> Any:
            if name.startswith("_"):
                raise AttributeError(name)  # Python, or a tool, asks for a protocol
            known = [each for each in dir(type(self)) if not each.startswith("_")]
            raise AttributeError(f"the store {self._role!r} has no {name!r}. {instead(name, NAMES, known)}")

        def __getitem__(self, key: str) -> NoReturn:
            self._refuse_dict(".get(key)")

        def __setitem__(self, key: str, value: Any) -> NoReturn:
            self._refuse_dict(".set(key, value, ttl=seconds)")

        def __delitem__(self, key: str) -> NoReturn:
            self._refuse_dict(".delete(key)")

        def __contains__(self, key: str) -> NoReturn:
            self._refuse_dict(".get(key), which gives None if there is no such key")

        def __len__(self) -> int:
            self._refuse_dict('.stats(), which gives {"keys": ...}')

        def __iter__(self) -> NoReturn:
            self._refuse_dict(".keys(prefix)")

        def _refuse_dict(self, here: str) -> NoReturn:
            raise TypeError(
                f"the store {self._role!r} is not a dict, because it is in another process. Use {here}: `await` it, or "
                f"call its .result() in sync code."
            )


class LockSpellings:
    """Refuses what a lock of a store is not: one of `threading`, `asyncio` or Redis."""

    __slots__ = ()
    _role: str
    _name: str

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            if name.startswith("_"):
                raise AttributeError(name)
            known = [each for each in dir(type(self)) if not each.startswith("_")]
            raise AttributeError(f"the lock {self._name!r} has no {name!r}. {instead(name, OF_LOCK, known)}")

        def __await__(self) -> NoReturn:
            raise TypeError(
                f"a lock cannot be awaited, because nothing would release it. Use "
                f"`async with {self._role}.lock({self._name!r}):`."
            )
