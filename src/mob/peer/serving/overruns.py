"""Running calls whose worker is killed if they take too long (`@mob.export(kill_after=...)`).

The Kingpin kills (`kingpin/processes/overruns.py`), because code that holds the interpreter or blocks the loop cannot
be stopped from inside. This file notes which calls run and until when they may; the board shows the first deadline.
While a thread is in the debugger (`breakpoint()`) or waits for the terminal, it shows none; that time counts for no
call.

Limits. A call that waits for its turn does not count. A batch is one run of its function: if that takes too long, so do
all of its calls. The items of a `map` that travel together are one message, which fails with all of them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from itertools import count
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from mob.peer.links.served import KEEPER, SERVED
from mob.peer.serving.chunks import Chunk
from mob.rim.board import mark_of
from mob.wire import messages as m
from mob.wire.messages import Overrun

if TYPE_CHECKING:
    from mob.peer.context import Context
    from mob.peer.serving.exports import Export


class RunningLimited:
    """The running calls of this process that have a limit."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.tell: Callable[[m.Up], object] = _tell_nobody
        """Sends a message to the Kingpin at once, from any thread."""
        self._running: dict[int, Overrun] = {}
        self._numbers = count(1)
        self._first: Overrun | None = None  # the call that the board shows
        self._announced = 0.0  # when the Kingpin will look
        self._writing = Lock()  # calls begin and end in several threads
        self._excused: set[object] = set()  # debuggers that hold a thread
        self._excused_since = 0.0

    def __repr__(self) -> str:
        return f"<RunningLimited of {self._context.name}, {len(self._running)} calls>"

    def limited(self, export: Export, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function of the same kind that notes when it runs; `function` itself if its export has no limit."""
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
            self._running[number] = call = Overrun(*_who(), mark, limit, deadline)
            if not self._excused:
                if self._first is None or deadline < self._first.deadline:
                    self._first = call
                    board.overruns.put(uid, call)
                self._announce(deadline)
        if self._context.reactor.has_unsent:
            self._context.reactor.stand_in.send_soon()  # answers to others must not die with this call
        return number

    def _announce(self, deadline: float) -> None:
        """Have the Kingpin look at that time. Call this after writing to the board, in case it looks earlier."""
        board, uid = self._context.board, self._context.uid
        if board is not None and not monotonic() < self._announced <= deadline:
            self._announced = deadline
            board.overruns.announce(uid, deadline)
            self.tell(m.WatchCall(deadline))

    def excuse(self, debugger: object) -> None:
        """Kill no call from now on, because a debugger holds a thread or is about to."""
        with self._writing:
            if not self._excused:
                self._excused_since = monotonic()
                self._show(None)
            self._excused.add(debugger)

    def excuse_no_longer(self, debugger: object) -> None:
        """End `excuse`, if no other debugger holds a thread: each call has as much time left as it had then."""
        with self._writing:
            if debugger not in self._excused:
                return
            self._excused.remove(debugger)
            if self._excused:
                return
            now = monotonic()
            for number, call in self._running.items():
                spent = now - max(self._excused_since, call.deadline - call.limit)
                self._running[number] = replace(call, deadline=call.deadline + spent)
            if (first := self._earliest()) is not None:
                self._show(first)
                self._announce(first.deadline)

    def _show(self, first: Overrun | None) -> None:
        """Write to the board which call must end first."""
        self._first = first
        if self._context.board is not None:
            self._context.board.overruns.put(self._context.uid, first)

    def _earliest(self) -> Overrun | None:
        return min(self._running.values(), key=lambda each: each.deadline, default=None)

    def _leave(self, number: int) -> None:
        board, context = self._context.board, self._context
        if board is None or context.is_abandoned:
            return
        with self._writing:
            call = self._running.pop(number, None)
            if call is not None and call is self._first:
                self._show(self._earliest())


def _who() -> tuple[int, int]:
    """Return the caller and the number of the call that is served here; (0, 0) for a batch of several."""
    served = SERVED.get()
    if served is None or served[1] is None:
        return 0, 0
    caller, number, link = served[0].uid, served[1].id, served[2]
    if (kept := KEEPER.get()) is not None and kept[0] is served[1]:
        caller = kept[1]
    if isinstance(link, Chunk):
        return caller, link.key[1]
    return (caller, number) if number >= 0 else (0, 0)


def _tell_nobody(message: m.Up) -> None:
    del message
