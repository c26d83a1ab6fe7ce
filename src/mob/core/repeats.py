"""Repeated messages: the first of a kind is logged at once, then one summary a second.

Calls that no one waits for may fail a hundred thousand times in a second, each time for the same reason. The first of a
kind is logged at once; those that follow within a second are counted, and one of them serves as the example for all. A
kind that was quiet for a second starts again with its first. What was logged is not kept: an exception holds all
objects in its frames. `next_at` says when a summary is due, if anything was counted: no timer runs otherwise. This
module does not know what is logged, or where.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar, cast

import msgspec

T = TypeVar("T")
EVERY = 1.0
"""Seconds between two messages of one kind."""
KINDS = 1000
"""Maximum number of kinds at a time; all further kinds are counted together."""
LEAST = 0.1
"""Minimum seconds between two searches for quiet kinds, however many new ones come."""
OTHERS = object()
"""The kind of all that are beyond `KINDS`."""


class Summary(msgspec.Struct, Generic[T], frozen=True):
    """One message for several of a kind."""

    example: T
    """The last of them."""
    count: int
    seconds: float
    """Seconds within which they came."""


class _Kind(Generic[T]):
    __slots__ = ("count", "example", "said_at")

    def __init__(self, now: float) -> None:
        self.said_at = now
        self.count = 0
        self.example: T | None = None  # one of those that are counted: what was logged is not kept


class Repeats(Generic[T]):
    """The recent messages by kind, and what has come since.

    >>> repeats = Repeats[str]()
    >>> repeats.admit("full", "call 1", 10.0), repeats.admit("full", "call 2", 10.1), repeats.next_at
    (True, False, 11.0)
    >>> repeats.take_due(11.0)
    [Summary(example='call 2', count=1, seconds=1.0)]
    """

    def __init__(self) -> None:
        self._kinds: dict[Hashable, _Kind[T]] = {}
        self._look_at = 0.0  # when to search for quiet kinds again

    def __repr__(self) -> str:
        return (
            f"<Repeats: {len(self._kinds)} kinds, {sum(each.count for each in self._kinds.values())} to be summed up>"
        )

    def admit(self, kind: Hashable, example: T, now: float) -> bool:
        """Return True if this is to be logged at once; otherwise it is counted."""
        if kind not in self._kinds and len(self._kinds) >= KINDS:
            if now >= self._look_at:
                self._forget_quiet(now)
                self._look_at = now + LEAST
            if len(self._kinds) >= KINDS:
                kind = OTHERS
        known = self._kinds.get(kind)
        if known is None or (not known.count and now - known.said_at >= EVERY):
            self._kinds[kind] = _Kind(now)
            return True
        known.count += 1
        known.example = example
        return False

    @property
    def next_at(self) -> float | None:
        """Time at which the next summary is due; None if nothing was counted."""
        return min((each.said_at + EVERY for each in self._kinds.values() if each.count), default=None)

    def take_due(self, now: float) -> list[Summary[T]]:
        """Return the summaries that are due, and start to count again."""
        return [self._take(each, now) for each in self._kinds.values() if each.count and now >= each.said_at + EVERY]

    def take_all(self, now: float) -> list[Summary[T]]:
        """Return all summaries, due or not: the process ends."""
        return [self._take(each, now) for each in self._kinds.values() if each.count]

    def _take(self, kind: _Kind[T], now: float) -> Summary[T]:
        example, kind.example = cast("T", kind.example), None
        summary = Summary(example, kind.count, now - kind.said_at)
        kind.count, kind.said_at = 0, now
        return summary

    def _forget_quiet(self, now: float) -> None:
        for name in [name for name, each in self._kinds.items() if not each.count and now - each.said_at >= EVERY]:
            del self._kinds[name]
