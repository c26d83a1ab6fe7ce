"""Counts the functions that live in one process and are known to others, so that they are freed at both ends.

The owner of a function keeps it in a `Lent` table as long as any process holds a reference; a process that holds some
counts them in a `Borrowed` table and returns the count when it drops the last of its own references. A holder may pass
a function on to a third process: it tells the owner first, so the function cannot vanish in between. The third may
return its references before the owner has learned of them, so counts below zero are possible for a moment.

Counts travel, not events: a returned reference says how many arrivals it stands for, so the order of messages on
different links does not matter. While any process holds the function, some count is above zero: a process that passes
it on holds it itself, and returns it after the notice that it passed it on, on the same link. So a function for which
no count is above zero is free, even when a count stays below zero because that notice was lost with its sender.

Limit: a process that is killed between notifying the owner and passing the function on leaves a reference too many,
which lasts as long as the process that never got it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

Function = Callable[..., Any]
"""A function of the application: an export, or one that is known to other processes."""

GONE_REMEMBERED = 1000
"""Maximum number of dead holders that are remembered, because other processes may still mention them."""


class _Entry:
    __slots__ = ("function", "holders", "key", "pins")

    def __init__(self, function: Function, key: Hashable) -> None:
        self.function = function
        self.key = key
        self.pins = 0  # encoded, but not sent yet
        self.holders: dict[int, int] = {}  # uid -> references that it holds or that are on their way to it


class Lent:
    """The functions of this process that others may call."""

    __slots__ = ("_by_holder", "_by_key", "_entries", "_gone", "_last")

    def __init__(self) -> None:
        self._entries: dict[int, _Entry] = {}
        self._by_key: dict[Hashable, int] = {}
        self._by_holder: dict[int, set[int]] = {}
        self._gone: dict[int, None] = {}  # dead holders, oldest first; uids are never given again
        self._last = 0

    def __repr__(self) -> str:
        return f"<Lent {len(self._entries)} functions to {len(self._by_holder)} holders>"

    def __len__(self) -> int:
        return len(self._entries)

    def pin(self, function: Function) -> int:
        """Return the number of a function that is being encoded, and keep it until as many `unpin` follow."""
        key = _key(function)
        number = self._by_key.get(key)
        if number is None:
            self._last = number = self._last + 1
            self._entries[number] = _Entry(function, key)
            self._by_key[key] = number  # last: an exception before it leaves no number without its entry
        self._entries[number].pins += 1
        return number

    def hold(self, number: int, holder: int, count: int = 1) -> None:
        """Count references on their way to a holder, or passed on to it. A dead one holds nothing."""
        entry = self._entries.get(number)
        if entry is not None and holder not in self._gone:
            entry.holders[holder] = entry.holders.get(holder, 0) + count
            self._by_holder.setdefault(holder, set()).add(number)
            if entry.holders[holder] == 0:
                self._forget(number, entry, holder)
            self._free_if_unused(number, entry)

    def unpin(self, number: int) -> None:
        """Note that the encoded message was sent, or never will be."""
        entry = self._entries.get(number)
        if entry is not None:
            entry.pins -= 1
            self._free_if_unused(number, entry)

    def release(self, number: int, holder: int, count: int) -> None:
        """Take back references from a holder."""
        self.hold(number, holder, -count)

    def forget_holder(self, holder: int) -> None:
        """Forget a holder that died."""
        self._gone[holder] = None
        if len(self._gone) > GONE_REMEMBERED:
            del self._gone[next(iter(self._gone))]
        for number in list(self._by_holder.get(holder, ())):
            entry = self._entries[number]
            self._forget(number, entry, holder)
            self._free_if_unused(number, entry)

    def get(self, number: int) -> Function | None:
        """Return the function of that number; None if no process may call it any more."""
        entry = self._entries.get(number)
        return None if entry is None else entry.function

    def held(self) -> list[tuple[Function, dict[int, int]]]:
        """Return each function, with the number of references by holder."""
        return [(entry.function, entry.holders.copy()) for entry in list(self._entries.values())]

    def _forget(self, number: int, entry: _Entry, holder: int) -> None:
        del entry.holders[holder]
        held = self._by_holder[holder]
        held.discard(number)
        if not held:
            del self._by_holder[holder]

    def _free_if_unused(self, number: int, entry: _Entry) -> None:
        if entry.pins <= 0 and all(count <= 0 for count in entry.holders.values()):
            for holder in list(entry.holders):
                self._forget(number, entry, holder)
            self._by_key.pop(entry.key, None)
            del self._entries[number]


def _key(function: Function) -> Hashable:
    """Return a key that is equal for references to the same function: each access to a bound method makes a new one."""
    itself = getattr(function, "__self__", None)
    inner = getattr(function, "__func__", None)
    return (id(itself), id(inner)) if inner is not None else id(function)


class Borrowed:
    """The references to remote functions that were dropped here, until they are returned to the owners."""

    __slots__ = ("_dropped",)

    def __init__(self) -> None:
        self._dropped: dict[int, dict[int, int]] = {}  # owner -> number -> count

    def __repr__(self) -> str:
        return f"<Borrowed, to be given back to {len(self._dropped)} owners>"

    def drop(self, owner: int, number: int, count: int) -> None:
        """Note that a remote function that stood for `count` arrivals was dropped."""
        counts = self._dropped.setdefault(owner, {})
        counts[number] = counts.get(number, 0) + count

    def give_back(self) -> dict[int, dict[int, int]]:
        """Return the counts for each owner, and empty the table."""
        dropped, self._dropped = self._dropped, {}
        return dropped
