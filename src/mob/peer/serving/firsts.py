"""First steps: a call or a message does not begin before an earlier one whose first step is still to come.

Tasks, and generators that are drawn on the loop, take their first step in the loop's next turn. Others that do the same
may follow at once, because the loop keeps the order. A `def` export or handler would begin before it, so it waits for
that turn. Pure `def` and pure `async def` work pays for no more than a look.

Limit: there is no order between what runs on the loop and what waits for a thread of the role.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop
from collections.abc import Callable
from types import CoroutineType, GeneratorType
from typing import Any, cast


class Firsts:
    """The latest first step that the loop still has to take."""

    __slots__ = ("_awaited", "_go_on", "_loop", "newest")

    def __init__(self, loop: AbstractEventLoop, go_on: Callable[[], None]) -> None:
        self._loop = loop
        self._go_on = go_on
        self._awaited: Any = None
        self.newest: Any = None
        """The coroutine or iterator that was begun last and may not have taken its first step; None for none."""

    def __repr__(self) -> str:
        return f"<Firsts, {'none' if self.newest is None else 'one'} still to come>"

    def are_over(self) -> bool:
        """Return whether no first step is still to come; else `go_on` is called after it."""
        newest = self.newest
        if newest is None or has_begun(newest):
            self.newest = None
            return True
        if self._awaited is not newest:
            self._loop.call_soon(self._handle_turn, newest)  # runs after its first step, which is already scheduled
            self._awaited = newest
        return False

    def _handle_turn(self, awaited: Any) -> None:
        if self.newest is awaited:
            self.newest = None
        self._awaited = None
        self._go_on()


def has_begun(begun: Any) -> bool:
    """Return whether a coroutine or a generator is known to have taken its first step.

    >>> def count():
    ...     yield 1
    >>> counting = count()
    >>> has_begun(counting), next(counting), has_begun(counting)
    (False, 1, True)
    """
    if isinstance(begun, CoroutineType):
        coroutine = cast("CoroutineType[Any, Any, Any]", begun)
        return coroutine.cr_suspended or coroutine.cr_frame is None or coroutine.cr_running
    if isinstance(begun, GeneratorType):
        generator = cast("GeneratorType[Any, Any, Any]", begun)
        return generator.gi_suspended or cast(Any, generator.gi_frame) is None or generator.gi_running
    return False
