"""Calls that mob's own code could not serve to the end: the one place where those are answered.

Whoever has taken a call answers it. The application's code may raise what it likes where it is called; that becomes
the answer in the ordinary way. But an exception may also come up between two lines of mob: a signal handler raises
there, the memory or the stack is used up, an object raises when it is looked at. So each step that is done for a call
which was taken goes through `attend`, or ends in `end` or `end_beside` itself. All that the call holds is freed then,
and it is answered: with the name of the exception if nothing else can be said of it. If it cannot be answered at all
its link ends, which makes it `Lost` for its caller.

To end a call twice does no harm, because a caller takes the first answer. Once a second, while something is in hand,
`look_after` finds what was dropped by an exception that came up where nothing can catch it: in the first instruction of
what the loop calls.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from threading import get_ident
from time import monotonic
from typing import TYPE_CHECKING, Any

from msgspec import Raw

from mob.peer.serving.turns import CallKey, Gate
from mob.rim.link import Link
from mob.wire import messages as m

if TYPE_CHECKING:
    from mob.peer.results.handover import Handover
    from mob.peer.serving.serving import Serving

ATTEMPTS = 3
"""How often a call is answered before only the name of the error is sent."""
IN_HAND_INTERVAL = 1.0
"""Seconds between two looks at what is in hand, while something is."""


class Ends:
    """The ends of calls that could not be served."""

    __slots__ = ("_context", "_finished", "_handed", "_handover", "_serving", "is_watching")

    def __init__(self, serving: Serving, handover: Handover) -> None:
        self._context = serving.context
        self._handover = handover
        self._serving = serving
        self._handed: dict[Gate, int] = {}  # gates that kept a place at the last look, and how many they had given
        self.is_watching: bool = False
        """Whether `look_after` is going to be called."""
        self._finished: set[CallKey] = set()  # tasks and streams that had ended at the last look

    def __repr__(self) -> str:
        return f"<Ends of {self._serving!r}>"

    def attend(self, link: Link, call: m.Invoke, step: Callable[..., object], *args: Any) -> None:
        """Do something for a call that was taken; if it raises, the call ends with that. On the loop's thread."""
        try:
            step(*args)
        except BaseException as error:  # noqa: BLE001  becomes the answer
            self.end(link, call, error)

    def end(self, link: Link, call: m.Invoke, error: BaseException) -> None:
        """Free all that a call holds and answer it with an error. On the loop's thread."""
        for _ in range(ATTEMPTS):
            try:
                self._serving.forget_call(link, call)
                self._serving.answers.fail(link, call, error)
                return
            except BaseException:  # noqa: BLE001  tried again
                continue
        try:
            self._serving.answers.fail_plainly(link, call, error)
        except BaseException:  # noqa: BLE001  the link says it
            link.close(f"the call {call.id} could not be answered")

    def end_beside(self, link: Link, call: m.Invoke, error: BaseException) -> None:
        """As `end`, from any thread."""
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
        """End a call whose task swallows its cancellation: nobody waits for that any longer. On the loop's thread."""
        serving = self._serving
        if serving.tasks.get(key) is task:
            self.end(key[0], _stub(key), serving.timed_out.get(key) or asyncio.CancelledError())
            serving.handle_task_done(key[0], _stub(key), task)  # its place is free

    def watch(self) -> None:
        """Something is in hand that goes on in another turn of the loop: look after it until there is nothing left."""
        if not self.is_watching:
            self._context.reactor.call_at(monotonic() + IN_HAND_INTERVAL, self._look)
            self.is_watching = True

    def _look(self) -> None:
        self.is_watching = False
        if self._context.reactor.driving:
            self.watch()  # the loop is blocked, and what it has in its queue is not lost
            return
        try:
            self.look_after()
        except BaseException:
            self.watch()
            raise

    def look_after(self) -> None:
        """End what has ended and was not answered, and give places on that were kept for nobody. On the loop's thread.

        What is found must have been there at the look before: until then the loop may have it in its queue.
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
        kept = {export.gate: export for export in serving.exports.values() if export.gate and export.gate.kept}
        for gate, export in kept.items():
            if self._handed.get(gate) == gate.handed:
                serving.let_next_in(export, gate)
        self._handed = {gate: gate.handed for gate in kept}
        serving.inbox.look_after()
        serving.inviting.look_after()
        self._handover.look_after()
        has_handlers = serving.handlers.look_after()
        is_idle = self._handover.is_idle and not has_handlers
        is_in_hand = serving.tasks or serving.streams or serving.chunks or serving.batchers or serving.inbox.calls
        if is_in_hand or kept or not is_idle:
            self.watch()


def _stub(key: CallKey) -> m.Invoke:
    """Return what is known of a call of which only the number is left."""
    return m.Invoke(key[1], "", Raw(b"\x90"))
