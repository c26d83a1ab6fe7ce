"""The board of an app: how busy each mobster is, and what calls cost. As `rim/board.py`, without shared memory.

What a mobster writes can be read by all at once; but a mobster writes only at certain moments, and here it sometimes
comes too late to that.
"""

from __future__ import annotations

from mob.core.costs import cost_of, learned


class Entry:
    """What one mobster has written."""

    __slots__ = ("full", "pace", "queued", "running", "waiting")

    def __init__(self) -> None:
        self.queued = 0
        self.pace = 0
        self.waiting = 0
        self.running = 0
        self.full = 0
        """`FULL` if callers wait for it."""


NOTHING = Entry()


class Board:
    """What all have written."""

    def __init__(self) -> None:
        self._entries: dict[int, Entry] = {}
        self._costs: dict[int, tuple[int, int]] = {}

    def __repr__(self) -> str:
        return f"<Board, {len(self._entries)} entries>"

    def all_in_hand(self, uid: int) -> int:
        """How many calls a mobster has in hand."""
        entry = self._entries.get(uid, NOTHING)
        return entry.queued + entry.waiting + entry.running

    def queued(self, uid: int) -> int:
        """How many of them the next call would have to wait for; beyond all numbers if callers wait there already."""
        entry = self._entries.get(uid, NOTHING)
        return entry.queued + entry.full

    def pace(self, uid: int) -> int:
        """Microseconds of a call there."""
        return self._entries.get(uid, NOTHING).pace

    def own(self, uid: int) -> Entry:
        """Where a mobster writes."""
        return self._entries.setdefault(uid, Entry())

    def cost(self, mark: int) -> int:
        """What a call of an export takes, in microseconds."""
        return cost_of(*self._costs.get(mark, (0, 0)))

    def learn(self, mark: int, seconds: float) -> None:
        """A call of an export has taken so long."""
        self._costs[mark] = learned(*self._costs.get(mark, (0, 0)), int(seconds * 1e6))
