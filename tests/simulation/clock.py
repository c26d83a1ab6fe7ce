"""The fake clock: what is to happen, by time; the only source of chance; and what has happened last.

Everything that happens is an action in one heap, ordered by time and then by the order in which it was put there. So a
run depends on its seed alone: no set, no address and no hash decides anything.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from random import Random
from typing import Any

REMEMBERED = 40
"""Events that are shown when something is wrong."""
BEGIN = 1000.0


class Violation(AssertionError):
    """An invariant does not hold."""


def claim(is_so: object, invariant: str, *details: object) -> None:
    """Complains if an invariant does not hold."""
    if not is_so:
        raise Violation(": ".join([invariant, *map(str, details)]))


class Clock:
    """Time, chance and memory of one episode."""

    def __init__(self, seed: int) -> None:
        self.now = BEGIN
        self.events = 0
        self.random = Random(seed)
        self.luck = self.random.random
        self._heap: list[tuple[float, int, Callable[..., object], tuple[Any, ...]]] = []
        self._count = 0
        self.failure: Exception | None = None
        """What was raised where that ends no more than a call."""
        self._history: deque[tuple[int, float, Callable[..., object], tuple[Any, ...]]] = deque(maxlen=REMEMBERED)

    def __repr__(self) -> str:
        return f"<Clock at {self.now:.3f}, {self.events} events>"

    def at(self, when: float, action: Callable[..., object], *args: Any) -> None:
        """Has something happen at that time, or now if it is over."""
        self._count += 1
        heappush(self._heap, (when, self._count, action, args))

    def after(self, seconds: float, action: Callable[..., object], *args: Any) -> None:
        """Has something happen in so many seconds."""
        self._count += 1
        heappush(self._heap, (self.now + seconds, self._count, action, args))

    def between(self, least: float, most: float) -> float:
        """A random number."""
        return least + (most - least) * self.luck()

    def pick(self, things: list[Any]) -> Any:
        """One of them."""
        return things[int(self.luck() * len(things))]

    def is_lucky(self, chance: float) -> bool:
        """Whether something happens that has that chance."""
        return self.luck() < chance

    def step(self) -> bool:
        """The next event; False if there is none."""
        if not self._heap:
            return False
        when, _, action, args = heappop(self._heap)
        if when > self.now:
            self.now = when
        self.events += 1
        self._history.append((self.events, self.now, action, args))
        action(*args)
        if self.failure is not None:
            raise self.failure
        return True

    def note(self, what: Callable[..., object], *args: Any) -> None:
        """Remembers a thing that happened in the course of an event."""
        self._history.append((self.events, self.now, what, args))

    def history(self) -> list[str]:
        """The last events, as people read them."""
        return [
            f"{number:>8,}  {when - BEGIN:10.4f} s  {_name(action)} {' '.join(map(str, args))}"
            for number, when, action, args in self._history
        ]


def _name(action: Callable[..., object]) -> str:
    owner = getattr(action, "__self__", None)
    name = getattr(action, "__name__", str(action)).lstrip("_")
    return name if owner is None else f"{owner}: {name}"
