"""Calls whose worker is killed if they take too long (`@mob.export(kill_after=...)`): which of them run here.

The Kingpin kills (`kingpin/processes/overruns.py`), because code that holds the interpreter, or blocks the loop, cannot
be stopped from within. Here it is noted which calls run and until when they may; the first of them stands on the board.

Limits. A call that waits for its turn does not count. A batch is one run of its function, and all of its calls have
taken too long if that has. Items of a `map` that travel together have one message, which fails with all of them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from itertools import count
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING, Any

from mob.peer.links.served import SERVED
from mob.peer.serving.chunks import Chunk
from mob.rim.board import mark_of
from mob.rim.overruns import Overrun
from mob.wire import messages as m

if TYPE_CHECKING:
    from mob.peer.context import Context
    from mob.peer.serving.exports import Export


class RunningLimited:
    """The calls that run in this process and have a limit."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.tell: Callable[[m.Up], object] = _tell_nobody
        """Tells the Kingpin something at once, from any thread."""
        self._running: dict[int, Overrun] = {}
        self._numbers = count(1)
        self._first: Overrun | None = None  # what stands on the board
        self._announced = 0.0  # when the Kingpin looks
        self._writing = Lock()  # calls begin and end in several threads

    def __repr__(self) -> str:
        return f"<RunningLimited of {self._context.name}, {len(self._running)} calls>"

    def limited(self, export: Export, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function of the same kind that notes when it runs, if its export has a limit; else itself."""
        seconds, mark = export.options.kill_after, mark_of(export.name)
        if seconds is None:
            return function
        limit = float(seconds)

        if export.is_async:

            @wraps(function)
            async def run_as_task(*args: Any, **kwargs: Any) -> Any:
                number = self._enter(mark, limit)
                try:
                    return await function(*args, **kwargs)
                finally:
                    self._leave(number)

            return run_as_task

        @wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            number = self._enter(mark, limit)
            try:
                value = function(*args, **kwargs)
            except BaseException:
                self._leave(number)
                raise
            if not inspect.isawaitable(value):
                self._leave(number)
                return value
            return self._finish(value, number)

        return run

    async def _finish(self, awaitable: Any, number: int) -> Any:
        try:
            return await awaitable
        finally:
            self._leave(number)

    def _enter(self, mark: int, limit: float) -> int:
        number = next(self._numbers)
        board, uid = self._context.board, self._context.uid
        if board is None:
            return number
        with self._writing:
            deadline = monotonic() + limit
            self._running[number] = call = Overrun(deadline, *_who(), mark, limit)
            if self._first is None or deadline < self._first.deadline:
                self._first = call
                board.overruns.put(uid, call)
            # Looked at last: if the announced time is still to come, the look at that time finds what was written.
            if not monotonic() < self._announced <= deadline:
                self._announced = deadline
                board.overruns.announce(uid, deadline)
                self.tell(m.WatchCall(deadline))
        if self._context.reactor.has_unsent:
            self._context.reactor.stand_in.send_soon()  # answers to others must not die with this call
        return number

    def _leave(self, number: int) -> None:
        board, context = self._context.board, self._context
        if board is None or context.is_abandoned:
            return
        with self._writing:
            call = self._running.pop(number, None)
            if call is not None and call is self._first:
                self._first = min(self._running.values(), key=lambda each: each.deadline, default=None)
                board.overruns.put(context.uid, self._first)


def _who() -> tuple[int, int]:
    """Return the caller and the number of the call that is served here; (0, 0) for several together."""
    served = SERVED.get()
    if served is None or served[1] is None:
        return 0, 0
    caller, number, link = served[0].uid, served[1].id, served[2]
    if isinstance(link, Chunk):
        return caller, link.key[1]
    return (caller, number) if number >= 0 else (0, 0)


def _tell_nobody(message: m.Up) -> None:
    del message
