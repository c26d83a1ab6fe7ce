"""Plain code on the thread of a loop: while it runs, no loop is running there.

`asyncio.run`, `anyio.run`, Playwright's sync API and Django's ORM ask whether a loop is running in their thread, and
refuse if one is. A plain function that mob runs on its loop is called by the loop, but it cannot be awaited and has no
use for it; so the running loop is taken away around such code, and put back before anything else runs.

A library may leave a loop of its own running between two of its calls (Playwright does, in a greenlet). The next plain
code finds it again, and mob's own loop never sees it. This costs 1 us on Python 3.11 and 0.1 us from 3.12 on, so it is
done once for all calls that are run one after the other.
"""

from __future__ import annotations

import asyncio
import sys
from asyncio import AbstractEventLoop
from collections.abc import Callable
from typing import Any, NamedTuple

_get_running_loop, _set_running_loop = asyncio._get_running_loop, asyncio._set_running_loop
_swap_current_task: Callable[[AbstractEventLoop, Any], Any] | None = None
if sys.version_info >= (3, 14):  # from there on a thread has one current task; before, each loop had its own
    _swap_current_task = asyncio.tasks._swap_current_task


class Left(NamedTuple):
    """What was running before plain code began."""

    loop: AbstractEventLoop
    task: Any


class Plain:
    """The passages from a loop to plain code and back, in the thread of that loop."""

    __slots__ = ("_found",)

    def __init__(self) -> None:
        self._found: AbstractEventLoop | None = None  # what plain code has left running

    def __repr__(self) -> str:
        return f"<Plain, plain code has left {self._found!r} running>"

    def begin(self) -> None:
        """A loop is about to run in this thread: what the code before it has left running is put aside."""
        self._found = _get_running_loop()
        if self._found is not None:
            _set_running_loop(None)

    def enter(self) -> Left | None:
        """Plain code is about to run: no loop is running from now on. None if none was."""
        loop = _get_running_loop()
        if loop is None:
            return None
        task = None if _swap_current_task is None else _swap_current_task(loop, None)
        found, self._found = self._found, None
        _set_running_loop(found)
        return Left(loop, task)

    def leave(self, left: Left | None) -> None:
        """Plain code has ended: what was running before is running again."""
        if left is None:
            return
        self._found = _get_running_loop()
        _set_running_loop(left.loop)
        if _swap_current_task is not None:
            _swap_current_task(left.loop, left.task)
