"""Callbacks of settled calls on their way to the loops they belong to.

Any thread hands them over. `call` decides what is called, and when a call is settled.
"""

from __future__ import annotations

import contextlib
from asyncio import AbstractEventLoop
from collections import deque
from collections.abc import Callable
from contextvars import Context
from functools import partial
from threading import Lock, get_ident
from typing import TYPE_CHECKING, Any

from mob.rim.reactor import has_begun

if TYPE_CHECKING:
    from mob.rim.reactor import Reactor

Callback = Callable[[Any], object]
CallbackBatch = deque[tuple[Callback, Any, "Context | None"]]


class Handover:
    """Callbacks of settled calls on their way to the loops they belong to, in batches.

    All calls that one read settles cost a loop a single wake-up. mob's own loop gets callbacks the same way, because
    one scheduled call for a hundred callbacks is cheaper than a hundred.
    """

    def __init__(self, reactor: Reactor, end_to_wait: Callback) -> None:
        self._reactor = reactor
        self._end_to_wait = end_to_wait
        self._runs = self._seen = 0  # number of batches that were begun, now and at the last look
        self._found: set[AbstractEventLoop] = set()  # loops for which something waited at the last look
        self.watch: Callable[[], None] = _nothing
        """Has `look_after` called while something waits; on the loop's thread."""
        self._own: CallbackBatch = deque()  # for mob's loop, given by its own thread
        self._others: dict[AbstractEventLoop, CallbackBatch] = {}
        self._lock = Lock()

    def __repr__(self) -> str:
        return f"<Handover of {len(self._own)} callbacks, and to {len(self._others)} other loops>"

    def give(self, loop: AbstractEventLoop, fn: Callback, argument: Any, context: Context | None) -> None:
        """Have `fn(argument)` called on the loop, unless that is closed."""
        reactor = self._reactor
        if loop is reactor.loop and get_ident() == reactor.thread:
            if not self._own:
                loop.call_soon(self._run, loop, self._own)
                self.watch()
            self._own.append((fn, argument, context))
        else:
            if argument in reactor.waiters:
                self._end_to_wait(argument)
            try:
                with self._lock:
                    batch = self._others.get(loop)
                    if batch is None:
                        batch = self._others[loop] = deque()
                        loop.call_soon_threadsafe(self._run_other, loop)
                        if get_ident() == reactor.owner:
                            self.watch()
                    batch.append((fn, argument, context))
            except RuntimeError:
                with self._lock:
                    self._others.pop(loop, None)
            except BaseException:
                with self._lock:
                    if not self._others.get(loop, True):
                        del self._others[loop]  # the next one wakes the loop
                raise

    def call_here(self, fn: Callback, argument: Any, context: Context | None) -> None:
        """Call `fn(argument)` at once, in this thread; an exception from it is only reported.

        The stand-in has it called in another thread, because it runs no code of the application.
        """
        run = partial(self._run, self._reactor.loop, deque([(fn, argument, context)]))
        if self._reactor.is_stood_in and get_ident() == self._reactor.owner:
            self._reactor.stand_in.runner.submit(run)
        else:
            run()

    @property
    def is_idle(self) -> bool:
        """True if nothing waits to be called."""
        return not (self._own or self._others)

    def look_after(self) -> None:
        """Schedule again the callbacks that no loop is going to call; on the loop's thread.

        That happens if an exception is raised in the first instruction of a scheduled call. Only callbacks that waited
        at the last look, too, are scheduled again.
        """
        if self._own and self._runs == self._seen:
            self._reactor.loop.call_soon(self._run, self._reactor.loop, self._own)
        self._seen = self._runs
        with self._lock:
            waiting = set(self._others)
        for loop in waiting & self._found:
            with contextlib.suppress(RuntimeError):  # it is closed
                loop.call_soon_threadsafe(self._run_other, loop)
        self._found = waiting

    def _run_other(self, loop: AbstractEventLoop) -> None:
        with self._lock:
            batch = self._others.pop(loop, deque())
        self._run(loop, batch)

    def _run(self, loop: AbstractEventLoop, batch: CallbackBatch) -> None:
        fn = argument = context = entry = begun = None
        try:
            self._runs += 1
            for _ in range(len(batch)):  # what they add is for the next turn
                entry = batch[0]
                del batch[0]
                fn, argument, context = entry
                if context is None:
                    fn(begun := argument)
                else:
                    context.run(fn, begun := argument)
                # a traceback may keep this frame, and all objects that its names refer to
                fn = argument = context = entry = begun = None
        except BaseException as error:
            if begun is not None and not has_begun(error):
                begun = None
            elif begun is not None and fn is not None and context is None:
                with contextlib.suppress(BaseException):
                    fn(argument)  # a callback of mob: it does what it had no time to do
            if not isinstance(error, Exception):
                raise
            if begun is not None:  # as a loop does it
                loop.call_exception_handler({"message": f"a callback of {argument!r} raised", "exception": error})
        finally:
            if entry is not None and begun is None and not (batch and batch[0] is entry):
                batch.appendleft(entry)
            fn = argument = context = entry = begun = None
            if batch:
                loop.call_soon(self._run, loop, batch)


def _nothing() -> None:
    pass
