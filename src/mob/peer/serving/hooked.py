"""The hook for errors: handlers of `error` see what the code of this process raises, in addition to its usual way.

An exception of an export goes to the caller, one of a handler to the log. Services that collect errors (Sentry and the
like) hook into the process that raised it, where nothing else would report it. The handlers run in a separate thread,
one by one, with a limited queue before them: a slow one delays no call, and one that raises is logged. Without a
handler there is no thread and no queue, and `is_on` is false.
"""

from __future__ import annotations

import asyncio
import inspect
import queue
import threading
from collections.abc import Callable, Sequence
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from mob.errors import BadMessage, MobError
from mob.peer.links.served import caller
from mob.rim.lasting import carry_on
from mob.rim.link import Link
from mob.rim.places import PACKAGE
from mob.wire import messages as m

if TYPE_CHECKING:
    from mob.peer.context import Context
    from mob.peer.links.contact import Contact

MOST = 1000
"""Maximum number of errors that wait for the handlers; the log counts the rest."""
HookWork = Callable[[], object]


class ErrorContext(Struct, frozen=True):
    """Where an exception comes from: the second argument of the handlers of `error`.

    >>> @mob.on("error")                                      # doctest: +SKIP
    ... def tell(error, context): print(context.kind, context.name, error)
    """

    kind: str
    """Source of the error: "export", "timer" (`mob.every`, `mob.cron`), "callback" (a function that was sent to another
    process), "handler" (of an event), or "task" (a task, or a callback or timer of the event loop, that no code
    awaits)."""
    name: str
    """Name as people read it: `back.foo` for an export, `message` for a handler of messages."""
    caller: m.Member | None = None
    """The process whose call or message failed (`.role`, `.index`, `.pid`; the role of a client is ""), or None."""


class ErrorHooks:
    """The handlers of `error`, and the errors that wait for them."""

    def __init__(
        self,
        context: Context,
        handlers: Callable[[], Sequence[Callable[..., Any]]],
        contact_of: Callable[[Link], Contact | None],
    ) -> None:
        self._context = context
        self._handlers = handlers
        self._contact_of = contact_of
        self._queue: queue.Queue[HookWork | None] = queue.Queue(MOST)  # None ends the thread
        self._is_running = self._is_over = False
        self._starting = threading.RLock()  # a signal handler may report an error as well
        self.is_on: bool = False
        """True if there is a handler."""

    def __repr__(self) -> str:
        return f"<ErrorHooks, {self._queue.qsize()} errors wait>"

    def begin(self) -> None:
        """Start to collect errors, because the first handler was registered."""
        if not self.is_on:
            self.is_on = True
            loop = self._context.reactor.loop
            if loop.get_exception_handler() is None:
                loop.set_exception_handler(self._handle_unawaited)

    def report(self, error: BaseException, kind: str, name: str, contact: Contact | None = None) -> None:
        """Hand an exception to the handlers; from any thread, in the context in which it was raised.

        `contact` is the caller or sender, if that context does not know it.
        """
        if not issubclass(type(error), Exception) or self._context.is_abandoned:
            return
        contact = None if kind == "timer" else contact or caller()
        context = ErrorContext(kind, name, None if contact is None else contact.member)
        with self._starting:
            if self._is_over:
                return
            if not self._is_running:
                threading.Thread(target=self._run, name="mob-errors", daemon=True).start()
                self._is_running = True
        try:
            self._queue.put_nowait(partial(copy_context().run, partial(self._hand_over, error, context)))
        except queue.Full:
            text = "an error of %s was not passed to the handlers of 'error', because %d errors wait for them: %s"
            self._context.complaints.tell(text, text, name, MOST, error)

    def report_call(self, error: BaseException, link: Link, call: m.Invoke) -> None:
        """Hand the outcome of a call to the handlers, if the code of this process raised it."""
        if issubclass(type(error), MobError) and not _is_raised_by_the_role(error):
            return
        target, contact = m.export_of(call.target), self._contact_of(link)
        if isinstance(target, int):
            self.report(error, "callback", f"{self._context.role or 'client'}.callback", contact)
        else:
            kind = "timer" if str(call.target).startswith(m.TIMER) else "export"
            self.report(error, kind, f"{self._context.role}.{target}", contact)

    async def finish(self, seconds: float) -> None:
        """Wait until the handlers have seen everything that was raised so far; on the loop."""
        with self._starting:
            self._is_over = True
            if not self._is_running:
                return
        reactor = self._context.reactor
        done = reactor.loop.create_future()

        def settle() -> None:
            if not done.done():
                done.set_result(None)

        try:
            self._queue.put_nowait(partial(reactor.call, settle))
            self._queue.put_nowait(None)
            self._is_running = False
            await asyncio.wait_for(done, seconds)
        except (queue.Full, TimeoutError):
            self._context.log.error("the handlers of 'error' did not end within the grace period")

    def _handle_unawaited(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        loop.default_exception_handler(context)
        error, task = context.get("exception"), context.get("task") or context.get("future")
        if error is not None:
            name = task.get_name() if isinstance(task, asyncio.Task) else str(context.get("message", ""))
            self.report(error, "task", name)

    def _run(self) -> None:
        while (work := self._queue.get()) is not None:
            carry_on(work, None)
            del work  # it keeps a traceback, and everything in its frames

    def _hand_over(self, error: BaseException, context: ErrorContext) -> None:
        for handler in self._handlers():
            self._call(handler, error, context)

    def _call(self, handler: Callable[..., Any], error: BaseException, context: ErrorContext) -> None:
        try:
            value = handler(error, context)
            if inspect.iscoroutine(value):
                asyncio.run_coroutine_threadsafe(value, self._context.reactor.loop).result()
        except BaseException as failure:  # noqa: BLE001  a handler of errors must do no harm
            text = "a handler of 'error' raised %s: %s"
            self._context.complaints.tell(text, text, type(failure).__name__, failure, error=failure)


def _is_raised_by_the_role(error: BaseException) -> bool:
    """Return False for an error with which mob itself refused or ended a call, without code of the role."""
    if isinstance(error, BadMessage) and error.where.startswith(("result", "item")):
        return True
    traceback = error.__traceback__
    while traceback is not None:
        if not traceback.tb_frame.f_code.co_filename.startswith(PACKAGE):
            return True
        traceback = traceback.tb_next
    return False
