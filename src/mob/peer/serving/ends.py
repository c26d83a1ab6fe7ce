"""Calls that mob's own code could not serve to the end: the only place that answers them.

The process that accepted a call answers it. The application's code may raise anything where it is called; that becomes
the answer in the ordinary way. But an exception may also appear between two lines of mob: a signal handler raises
there, memory or stack is exhausted, an object raises when it is inspected. So each step for an accepted call goes
through `attend`, or ends in `end` or `end_beside` itself. These free everything that the call holds and answer it, with
only the name of the exception if nothing else works. If it cannot be answered at all its link is closed, which makes it
`Lost` for its caller.

To end a call twice does no harm, because a caller takes the first answer. Once a second, while anything is in hand,
`look_after` finds what an exception dropped where nothing can catch it: in the first instruction of what the loop
calls.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from threading import get_ident
from time import monotonic
from typing import TYPE_CHECKING, Any

from msgspec import Raw

from mob.peer.serving.limiters import CallKey, Limiter
from mob.rim.link import Link
from mob.wire import messages as m

if TYPE_CHECKING:
    from mob.peer.results.handover import Handover
    from mob.peer.serving.serving import Serving

ATTEMPTS = 3
"""Number of attempts to answer a call, before only the name of the error is sent."""
IN_HAND_INTERVAL = 1.0
"""Seconds between two looks at what is in hand."""


class Ends:
    """The ends of calls that could not be served."""

    __slots__ = ("_context", "_finished", "_handed", "_handover", "_serving", "is_watching")

    def __init__(self, serving: Serving, handover: Handover) -> None:
        self._context = serving.context
        self._handover = handover
        self._serving = serving
        self._handed: dict[
            Limiter, int
        ] = {}  # limiters with a kept place at the last look, and how many they had passed on
        self.is_watching: bool = False
        """True if `look_after` is scheduled."""
        self._finished: set[CallKey] = set()  # tasks and streams that were over at the last look

    def __repr__(self) -> str:
        return f"<Ends of {self._serving!r}>"

    def attend(self, link: Link, call: m.Invoke, step: Callable[..., object], *args: Any) -> None:
        """Run a step for a call that was accepted; if it raises, end the call with that. On the loop's thread."""
        try:
            step(*args)
        except BaseException as error:  # noqa: BLE001  becomes the answer
            self.end(link, call, error)

    def end(self, link: Link, call: m.Invoke, error: BaseException) -> None:
        """Free everything that a call holds and answer it with an error. On the loop's thread."""
        for _ in range(ATTEMPTS):
            try:
                self._serving.forget_call(link, call)
                self._serving.answers.fail(link, call, error)
                return
            except BaseException:  # noqa: BLE001  tried again
                continue
        try:
            self._serving.answers.fail_plainly(link, call, error)
        except BaseException:  # noqa: BLE001  closing the link reports it
            link.close(f"the call {call.id} could not be answered")

    def end_beside(self, link: Link, call: m.Invoke, error: BaseException) -> None:
        """Do the same as `end`, from any thread."""
        if get_ident() == self._context.reactor.thread:
            self.end(link, call, error)
            return
        for _ in range(ATTEMPTS):
            try:
                self._context.reactor.call(partial(self.end, link, call, error))
                return
            except BaseException:  # noqa: BLE001  tried again
                continue

    def leave(self, key: CallKey, task: asyncio.Task[Any]) -> None:
        """End a call whose task swallows its cancellation, and stop waiting for the task. On the loop's thread."""
        serving = self._serving
        if serving.tasks.get(key) is task:
            self.end(key[0], _stub(key), serving.timed_out.get(key) or asyncio.CancelledError())
            serving.handle_task_done(key[0], _stub(key), task)  # its place is free

    def watch(self) -> None:
        """Look after what continues in another turn of the loop, until nothing is left."""
        if not self.is_watching:
            self._context.reactor.call_at(monotonic() + IN_HAND_INTERVAL, self._look)
            self.is_watching = True

    def _look(self) -> None:
        self.is_watching = False
        if self._context.reactor.driving:
            self.watch()  # the loop is blocked, so what is in its queue is not lost
            return
        try:
            self.look_after()
        except BaseException:
            self.watch()
            raise

    def look_after(self) -> None:
        """End what is over but unanswered, and pass on places that were kept for no call. On the loop's thread.

        Only what was already there at the look before is handled: until then the loop may have it in its queue.
        """
        serving = self._serving
        finished: set[CallKey] = set()
        for key, task in list(serving.tasks.items()):
            if task.done():
                finished.add(key)
                if key in self._finished:
                    serving.handle_task_done(key[0], _stub(key), task)
        for key, stream in list(serving.streams.items()):
            if stream.is_over:
                finished.add(key)
                if key in self._finished:
                    self.end(key[0], _stub(key), RuntimeError("the end of a stream was lost"))
            else:
                stream.look_after()
        self._finished = finished
        for chunk in list(serving.chunks.values()):
            chunk.look_after()
        for batcher in list(serving.batchers):
            batcher.look_after()
        kept = {export.limiter: export for export in serving.exports.values() if export.limiter and export.limiter.kept}
        for limiter, export in kept.items():
            if self._handed.get(limiter) == limiter.handed:
                serving.let_next_in(export, limiter)
        self._handed = {limiter: limiter.handed for limiter in kept}
        serving.inbox.look_after()
        serving.inviting.look_after()
        self._handover.look_after()
        has_handlers = serving.handlers.look_after()
        is_idle = self._handover.is_idle and not has_handlers
        is_in_hand = serving.tasks or serving.streams or serving.chunks or serving.batchers or serving.inbox.calls
        if is_in_hand or kept or not is_idle:
            self.watch()


def _stub(key: CallKey) -> m.Invoke:
    """Return a call made up from its number, which is all that is left of it."""
    return m.Invoke(key[1], "", Raw(b"\x90"))
