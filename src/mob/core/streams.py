"""Backpressure of a stream: how far its producer may run ahead of its consumer.

The producer starts with a window of credits and spends one for each item. The consumer gives back what it has read, in
halves of the window and not one by one: a message for every 32 items costs little, and the producer still never waits
while the consumer keeps up. An endless producer whose consumer stops reading is at most one window ahead.
"""

from __future__ import annotations

WINDOW = 64
"""Maximum number of items that are on their way, or arrived and not read."""


class Credit:
    """The producer's end of a stream."""

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left: int = WINDOW

    def __repr__(self) -> str:
        return f"<Credit for {self.left} items>"

    def spend(self) -> None:
        """Note that an item is sent."""
        assert self.left > 0
        self.left -= 1

    def receive(self, count: int) -> None:
        """Take back credits from the consumer; never more than were spent, whatever it says."""
        self.left = min(WINDOW, self.left + max(0, count))


class Debt:
    """The consumer's end of a stream."""

    __slots__ = ("owed",)

    def __init__(self) -> None:
        self.owed: int = 0

    def __repr__(self) -> str:
        return f"<Debt of {self.owed} items>"

    def read(self) -> int:
        """Note that an item was read; return how many credits to give back now."""
        self.owed += 1
        if self.owed < WINDOW // 2:
            return 0
        owed, self.owed = self.owed, 0
        return owed
