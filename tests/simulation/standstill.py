"""A process that stands still: what happens to it meanwhile is waiting for it when it goes on, in the same order."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from tests.simulation.clock import Clock


class Standstill:
    """What can stand still."""

    clock: Clock

    def __init__(self) -> None:
        self.stood_still = 0.0
        """Seconds, all in all."""
        self._waiting: deque[tuple[Callable[..., object], tuple[Any, ...]]] | None = None

    @property
    def is_still(self) -> bool:
        """Whether it does so now."""
        return self._waiting is not None

    def stand_still(self, seconds: float) -> None:
        """Nothing is done for so long."""
        if self._waiting is None:
            self._waiting = deque()
            self.stood_still += seconds
            self.clock.after(seconds, self.go_on)

    def go_on(self) -> None:
        """All that has happened meanwhile is seen to."""
        waiting, self._waiting = self._waiting or deque(), None
        for method, args in waiting:
            method(self, *args)

    def postpone(self, method: Callable[..., object], args: tuple[Any, ...]) -> bool:
        """Whether something waits until it goes on."""
        if self._waiting is None:
            return False
        self._waiting.append((method, args))
        return True


F = TypeVar("F", bound=Callable[..., None])


def in_turn(method: F) -> F:
    """A method that is called when the process does not stand still."""

    @functools.wraps(method)
    def called(self: Standstill, *args: Any) -> None:
        if not self.postpone(method, args):
            method(self, *args)

    return called  # type: ignore[return-value]
