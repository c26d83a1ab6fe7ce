"""Decides which of two nodes with the same name keeps it.

The older node does. Each compares its own age with the one that the other wrote, which was true when the letter was
sent; so of two that began almost at the same time both may think that they are the older. They notice that, because
neither yields, and then the higher number decides, which is the same for both. Answers are few, so that two such nodes
do not answer each other's answers forever.

Questions only. No clock: `now` is passed in.
"""

from __future__ import annotations

ANSWER_INTERVAL = 0.5
"""Seconds between two answers."""
CONTEST = 2.5
"""Seconds after which two nodes that both claim the name are known to do so."""
LULL = 2.0
"""Seconds without a claim that end a contest."""


class Name:
    """The name of a node, and the claims on it."""

    __slots__ = ("_answered_at", "_began_at", "_claimed_at", "_rival", "born", "number")

    def __init__(self, number: int, born: float) -> None:
        self.number: int = number
        self.born: float = born
        self._rival = 0
        self._began_at = 0.0
        self._claimed_at = 0.0
        self._answered_at = -ANSWER_INTERVAL

    def __repr__(self) -> str:
        return f"<Name of {self.number}, born at {self.born:g}>"

    def is_kept(self, rival: int, age: float, now: float) -> bool:
        """Return True if this node keeps the name, now that another of that age claims it."""
        if rival != self._rival or now - self._claimed_at > LULL:
            self._rival, self._began_at = rival, now
        self._claimed_at = now
        if now - self._began_at >= CONTEST:
            return self.number > rival
        return (now - self.born, self.number) > (age, rival)

    def may_answer(self, now: float) -> bool:
        """Return True if it is time to answer."""
        if now - self._answered_at < ANSWER_INTERVAL:
            return False
        self._answered_at = now
        return True
