"""The contents of a store: keys and values, when they expire, and which of them are evicted when there is no more room.

Strategy. One ordered dict, the least recently used key first. A key that has a time to live is also in a heap, once,
under a time that is not later than its end; at that time the key either has expired or is put back. So prolonging a key
costs nothing, as a rate limit does with each call. Unused keys are expired by `end_due`, which the worker calls when
`next_due` says so.

Limits. No I/O, no clock: `now` is passed in, in seconds of the wall clock, because data in a file outlives a restart. A
value is bytes that this module does not decode, or a number. Keys that begin with a NUL are the store's own (rate
limits). Listeners are called for each change.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from math import inf
from sys import getsizeof

Value = bytes | int | float
Listener = Callable[[str, str, "Value | None"], None]
"""Called with what happened ("set", "delete", "expire", "evict"), the key, and its new value."""

ENTRY_SIZE = 200
"""Bytes that a key takes besides its text and its value: its entry, and its place in the dict. Measured."""
LEAST = -(2**63)
"""The least integer that may be stored; the greatest is one less than its negation."""
OWN = "\0"
"""The prefix of the store's own keys."""
SPARE = 1000
"""Number of outdated places in the heap that do not yet lead to a new one."""


class BookEntry:
    """The value of a key, and its times."""

    __slots__ = ("due", "ends", "size", "value")

    def __init__(self, value: Value) -> None:
        self.value: Value = value
        self.ends: float = inf
        """Time at which it expires."""
        self.due: float = inf
        """Time under which it is in the heap; `inf` if it is not."""
        self.size: int = 0

    def __repr__(self) -> str:
        return f"<BookEntry of {self.size} bytes>"


class StoreBook:
    """The keys of a store, and their values.

    Args:
        name: of the store, for errors.
        max_memory: maximum bytes of keys and values; None for no limit.
    """

    def __init__(self, name: str, max_memory: int | None = None) -> None:
        self.name: str = name
        self.max_memory: int | None = max_memory
        self.entries: OrderedDict[str, BookEntry] = OrderedDict()
        self.bytes: int = 0
        self.hits: int = 0
        self.misses: int = 0
        self.evictions: int = 0
        self.listeners: list[Listener] = []
        self._due: list[tuple[float, str]] = []

    def __repr__(self) -> str:
        return f"<StoreBook {self.name!r}: {len(self.entries)} keys, {self.bytes} bytes>"

    # ------------------------------------------------------------------------------------------------ reading

    def get(self, key: str, now: float) -> Value | None:
        """Return the value of a key, None if there is none. This counts as a use of the key."""
        entry = self.entries.get(key)
        if entry is None or (entry.ends <= now and self._end(key, entry)):
            self.misses += 1
            return None
        self.hits += 1
        self.entries.move_to_end(key)
        return entry.value

    def keys(self, prefix: str, now: float) -> Iterator[str]:
        """Yield the keys with that prefix that have not expired."""
        for key, entry in self.entries.items():
            if key.startswith(prefix) and entry.ends > now and not key.startswith(OWN):
                yield key

    def ends(self, key: str, now: float) -> float | None:
        """Return when a key expires, `inf` if never; None if there is no such key."""
        entry = self.entries.get(key)
        return None if entry is None or entry.ends <= now else entry.ends

    # ------------------------------------------------------------------------------------------------ writing

    def set(self, key: str, value: Value, ttl: float | None, now: float) -> None:
        """Set the value of a key, with `ttl` seconds to live (None: no end); raise `ValueError` if invalid."""
        ends = self.end_of(key, ttl, now)
        self._check_key(key)
        self.put(key, value, ends)

    def delete(self, keys: Iterable[str], now: float) -> int:
        """Delete keys; return how many of them existed."""
        count = 0
        for key in keys:
            self._check_key(key)
            entry = self.entries.get(key)
            if entry is not None and not (entry.ends <= now and self._end(key, entry)):
                self._drop(key, entry, "delete")
                count += 1
        return count

    def add(self, key: str, n: int | float, ttl: float | None, now: float) -> int | float:
        """Add to a number, which starts at 0; return the sum.

        `ttl` counts from the start: a later one changes nothing. Raise `TypeError` if the value of the key is not a
        number, `OverflowError` if the sum does not fit in 64 bits.
        """
        entry = self.entries.get(key)
        if entry is None or (entry.ends <= now and self._end(key, entry)):
            self.set(key, n, ttl, now)
            return n
        self.end_of(key, ttl, now)
        if isinstance(entry.value, bytes):
            raise TypeError(f"store {self.name!r}: add({key!r}) needs a number, but the key holds another value.")
        total = entry.value + n
        self.put(key, total, entry.ends)
        return total

    def put(self, key: str, value: Value, ends: float) -> None:
        """Write a key, the store's own or another, which expires at that time."""
        if isinstance(value, int) and not LEAST <= value < -LEAST:
            raise OverflowError(f"store {self.name!r}: {key!r} would become {value}, which does not fit in 64 bits.")
        size = getsizeof(key) + getsizeof(value) + ENTRY_SIZE
        if self.max_memory is not None and size > self.max_memory:
            raise ValueError(
                f"store {self.name!r}: {key!r} would take {size:,} bytes, more than max_memory={self.max_memory:,}."
            )
        entry = self.entries.get(key)
        if entry is None:
            entry = self.entries[key] = BookEntry(value)
        else:
            entry.value = value
            self.entries.move_to_end(key)
        self.bytes += size - entry.size
        entry.size, entry.ends = size, ends
        if ends < entry.due:
            self._note_due(key, entry)
        for listener in self.listeners:
            listener("set", key, value)
        if self.max_memory is not None:
            while self.bytes > self.max_memory:  # the key itself comes last, and fits
                oldest = next(iter(self.entries))
                self.evictions += 1
                self._drop(oldest, self.entries[oldest], "evict")

    def put_own(self, key: str, value: Value, ends: float) -> None:
        """Write a key of the store's own, which expires at that time."""
        self.put(OWN + key, value, ends)

    def own(self, key: str, now: float) -> Value | None:
        """Return the value of a key of the store's own."""
        entry = self.entries.get(OWN + key)
        return None if entry is None or entry.ends <= now else entry.value

    def end_of(self, key: str, ttl: float | None, now: float) -> float:
        """Return when a key with that time to live expires; raise `ValueError` if `ttl` is invalid."""
        if ttl is None:
            return inf
        if not 0 < ttl < inf:
            raise ValueError(f"store {self.name!r}: ttl={ttl!r} of {key!r} is not a number of seconds above 0.")
        return now + ttl

    # --------------------------------------------------------------------------------------------- expiring

    def next_due(self) -> float | None:
        """Return when `end_due` has something to do; None if never."""
        return self._due[0][0] if self._due else None

    def end_due(self, now: float) -> None:
        """Expire the keys whose time is over."""
        while self._due and self._due[0][0] <= now:
            due, key = heapq.heappop(self._due)
            entry = self.entries.get(key)
            if entry is None or entry.due != due:
                continue  # it was deleted, or is in the heap under an earlier time
            entry.due = inf
            if entry.ends <= now:
                self._end(key, entry)
            elif entry.ends < inf:
                self._note_due(key, entry)

    # ------------------------------------------------------------------------------------------------ internals

    def _check_key(self, key: str) -> None:
        if key.startswith(OWN):
            raise ValueError(f"store {self.name!r}: the key {key!r} begins with a NUL, which is reserved for mob.")

    def _note_due(self, key: str, entry: BookEntry) -> None:
        if len(self._due) > 2 * len(self.entries) + SPARE:
            self._due = [(each.due, known) for known, each in self.entries.items() if each.due < inf]
            heapq.heapify(self._due)
        entry.due = entry.ends
        heapq.heappush(self._due, (entry.due, key))

    def _end(self, key: str, entry: BookEntry) -> bool:
        self._drop(key, entry, "expire")
        return True

    def _drop(self, key: str, entry: BookEntry, what: str) -> None:
        del self.entries[key]
        self.bytes -= entry.size
        for listener in self.listeners:
            listener(what, key, None)
