"""Plain code on the thread of a loop: while it runs, no loop counts as running there.

`asyncio.run`, `anyio.run`, Playwright's sync API and Django's ORM refuse to run if a loop is running in their thread. A
plain function that mob runs on its loop is called by the loop, but cannot await anything and has no use for the loop;
so the running loop is removed around such code, and restored before anything else runs.

A library may leave its own loop running between two of its calls (Playwright does, in a greenlet). The next plain code
finds it again, and mob's own loop never sees it. This costs 1 us on Python 3.11 and 0.1 us from 3.12 on, so it is done
once for all calls that run one after another.
"""

from __future__ import annotations

import asyncio
import sys
from asyncio import AbstractEventLoop
from collections.abc import Callable
from typing import Any

_get_running_loop, _set_running_loop = asyncio._get_running_loop, asyncio._set_running_loop
_swap_current_task: Callable[[AbstractEventLoop, Any], Any] | None = None
if sys.version_info >= (3, 14):  # since then a thread has one current task; before, each loop had one
    _swap_current_task = asyncio.tasks._swap_current_task


class Plain:
    """The switches from a loop to plain code and back, in the thread of that loop."""

    __slots__ = ("_found", "_loop", "_tasks")

    def __init__(self, loop: AbstractEventLoop) -> None:
        self._loop = loop
        self._found: AbstractEventLoop | None = None  # the loop that plain code left running
        self._tasks: list[Any] = []  # the current task of each loop that was left

    def __repr__(self) -> str:
        return f"<Plain, plain code has left {self._found!r} running>"

    def begin(self) -> None:
        """Set aside a loop that earlier code left running, before another loop runs in this thread."""
        self._found = _get_running_loop()
        if self._found is not None:
            _set_running_loop(None)

    def enter(self) -> AbstractEventLoop | None:
        """Make no loop running because plain code is about to run. Return the one that was, for `leave`."""
        loop = _get_running_loop()
        return None if loop is None else self.enter_from(loop)

    def enter_own(self) -> AbstractEventLoop:
        """Do as `enter`, where mob's loop is known to be running: the check costs a system call on Python 3.11."""
        return self.enter_from(self._loop)

    def recover(self) -> None:
        """Make the loop running again after a callback failed between `enter` and `leave`."""
        _set_running_loop(self._loop)
        if _swap_current_task is not None and self._tasks:
            _swap_current_task(self._loop, self._tasks[0])
            self._tasks.clear()

    def enter_from(self, loop: AbstractEventLoop) -> AbstractEventLoop:
        """Do as `enter`, from the loop that is known to be running."""
        if _swap_current_task is not None:
            self._tasks.append(_swap_current_task(loop, None))
        found, self._found = self._found, None
        _set_running_loop(found)
        return loop

    def leave(self, loop: AbstractEventLoop | None) -> None:
        """Restore the running loop after plain code ended."""
        if loop is None:
            return
        self._found = _get_running_loop()
        _set_running_loop(loop)
        if _swap_current_task is not None:
            _swap_current_task(loop, self._tasks.pop())
