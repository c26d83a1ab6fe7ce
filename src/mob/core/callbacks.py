"""Counting the functions that live in one process and are known to others, so that they are freed at both ends.

The owner of a function keeps it in a `Lent` table as long as somebody holds a reference; whoever holds some keeps
count in a `Borrowed` table and gives the count back when the last of its own references is gone. A holder may pass a
function on to a third process: it tells the owner first, so the function cannot vanish in between. The third may give
its references back before the owner has heard of them, hence counts below zero are possible for a moment.

The counts travel, not the moments: a reference given back names how many arrivals it stands for, which makes the
order of messages on different links harmless. While anybody holds the function, somebody's count is above zero: who
passes it on holds it himself, and gives it back behind the word that he passed it on, on the same link. So a function
for which no count is above zero is free, also when a count stays below it because that word died with its sender.

Limit: a process that is killed between telling the owner and passing the function on leaves a reference too many, which
lasts as long as the process that never got it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

Function = Callable[..., Any]
"""A function of the application: an export, or one that is known elsewhere."""

GONE_REMEMBERED = 1000
"""How many dead holders are remembered, for what others still say of them."""


class _Entry:
    __slots__ = ("function", "holders", "key", "pins")

    def __init__(self, function: Function, key: Hashable) -> None:
        self.function = function
        self.key = key
        self.pins = 0  # encoded, but not yet on its way to anybody
        self.holders: dict[int, int] = {}  # uid -> references on their way to it or held by it


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
        """The number of a function that is being encoded. It stays until as many `unpin` follow."""
        key = _key(function)
        number = self._by_key.get(key)
        if number is None:
            self._last = number = self._last + 1
            self._entries[number] = _Entry(function, key)
            self._by_key[key] = number  # last: an exception before it leaves no number without its entry
        self._entries[number].pins += 1
        return number

    def hold(self, number: int, holder: int, count: int = 1) -> None:
        """References are on their way to a holder, or were passed on to it. A dead one holds nothing."""
        entry = self._entries.get(number)
        if entry is not None and holder not in self._gone:
            entry.holders[holder] = entry.holders.get(holder, 0) + count
            self._by_holder.setdefault(holder, set()).add(number)
            if entry.holders[holder] == 0:
                self._forget(number, entry, holder)
            self._free_if_unused(number, entry)

    def unpin(self, number: int) -> None:
        """What was encoded is on its way, or will never be."""
        entry = self._entries.get(number)
        if entry is not None:
            entry.pins -= 1
            self._free_if_unused(number, entry)

    def release(self, number: int, holder: int, count: int) -> None:
        """A holder gives references back."""
        self.hold(number, holder, -count)

    def forget_holder(self, holder: int) -> None:
        """The holder has died."""
        self._gone[holder] = None
        if len(self._gone) > GONE_REMEMBERED:
            del self._gone[next(iter(self._gone))]
        for number in list(self._by_holder.get(holder, ())):
            entry = self._entries[number]
            self._forget(number, entry, holder)
            self._free_if_unused(number, entry)

    def get(self, number: int) -> Function | None:
        """The function of that number, if anybody may still call it."""
        entry = self._entries.get(number)
        return None if entry is None else entry.function

    def held(self) -> list[tuple[Function, dict[int, int]]]:
        """Each function, with how many references which holder has."""
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
    """Equal for two references to the same function; bound methods are made anew at every access, hence by parts."""
    itself = getattr(function, "__self__", None)
    inner = getattr(function, "__func__", None)
    return (id(itself), id(inner)) if inner is not None else id(function)


class Borrowed:
    """What was dropped here of functions that live elsewhere, until it is given back to their owners."""

    __slots__ = ("_dropped",)

    def __init__(self) -> None:
        self._dropped: dict[int, dict[int, int]] = {}  # owner -> number -> count

    def __repr__(self) -> str:
        return f"<Borrowed, to be given back to {len(self._dropped)} owners>"

    def drop(self, owner: int, number: int, count: int) -> None:
        """A remote function went away that stood for `count` arrivals."""
        counts = self._dropped.setdefault(owner, {})
        counts[number] = counts.get(number, 0) + count

    def give_back(self) -> dict[int, dict[int, int]]:
        """What to tell each owner; empties the table."""
        dropped, self._dropped = self._dropped, {}
        return dropped
