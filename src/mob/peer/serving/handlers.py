"""Handlers: functions of the application that are called at events.

`message` (a process sent an object), `start` (after the import, before ready: open pools and servers here), `ready`,
`drain` (the process begins to end), `stop` (it is about to end), `join` and `leave` (another mobster), `crash` (another
mobster crashed), and `error` (code of this process raised: see `hooked`). Handlers are `def` or `async def`; those of
one event run in the order in which they were registered. Their exceptions are logged; a handler of `ready` that raises
also ends the process, because what it does (a consumer, a timer) would be missing until the next start.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

from mob.core.draining import LEAST
from mob.errors import MobError, nearest
from mob.peer.calls.request_ids import CARRIED
from mob.peer.complaints import shown_of
from mob.peer.links.served import SERVED
from mob.rim import forks
from mob.rim.link import Link
from mob.wire import messages as m

if TYPE_CHECKING:
    from mob.peer.links.contact import Contact
    from mob.peer.serving.serving import Serving

F = TypeVar("F", bound=Callable[..., Any])
BLOCKING_AFTER = 0.5
"""Seconds after which a handler is reported as blocking the loop."""
EVENTS = ("message", "start", "ready", "drain", "stop", "join", "leave", "hand_over", "error", "crash")
GETS: dict[str, tuple[str, ...]] = {
    "message": ("obj",),
    "join": ("mobster",),
    "leave": ("mobster",),
    "error": ("error", "context"),
    "crash": ("crash",),
}
"""Parameters of the handlers by event; other handlers take none."""
OTHER_NAMES = {"death": "crash", "died": "crash", "shutdown": "stop", "exit": "stop", "startup": "start"}
"""Names of events in other libraries, and the names here."""


def check_event(event: str) -> None:
    """Raise `ValueError`, with the nearest name, if there is no such event."""
    if event not in EVENTS:
        meant = OTHER_NAMES.get(event)
        raise ValueError(f"there is no event {event!r}. {nearest(meant or event, EVENTS)}")


def check_handler(event: str, handler: Callable[..., Any]) -> None:
    """Raise `TypeError` if a handler cannot be called with the arguments of this event."""
    gets = GETS.get(event, ())
    try:
        inspect.signature(handler).bind(*gets)
    except TypeError as error:
        called = f"f({', '.join(gets)})"
        raise TypeError(f"the handler {_name_of(handler)} of {event!r} is called as {called}: {error}.") from None
    except ValueError:
        pass  # written in C, without a signature


def _name_of(handler: object) -> str:
    return getattr(handler, "__qualname__", None) or repr(handler)


class Handlers:
    """The registered handlers by event."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        self._context = serving.context
        self.background: set[asyncio.Task[Any]] = set()
        """The running `async def` handlers of messages: a process that ends waits for them."""
        self.on_ready_failed: Callable[[BaseException], None] = _nothing_to_end
        """Called with the exception of a handler of `ready`."""
        self.on_handing_over: Callable[[], None] = _nothing
        """Called when a handler of `hand_over` was registered; in any thread."""
        self.on_hearing: Callable[[], None] = _nothing
        """Called when the first handler of messages was registered; in any thread."""
        self.on_hearing_crashes: Callable[[], None] = _nothing
        """Called when the first handler of crashes was registered; in any thread."""
        self.begin_later = False
        """True if all handlers of messages are `async def`, which take their first steps in the loop's next turn."""
        self.is_leaving = False
        """True if the process ends and no sender is left for whose messages it waits. Messages that were sent before
        their senders knew of its end are handled nevertheless."""
        self._plain: tuple[Callable[..., Any], float] | None = None  # the handler that runs as plain code, since when
        self._draining: set[asyncio.Task[Any]] = set()  # the handlers of `drain`
        self._standing: set[asyncio.Task[Any]] = set()  # handlers of other events, which may run forever
        self._handlers: dict[str, list[Callable[..., Any]]] = {event: [] for event in EVENTS}

    def __repr__(self) -> str:
        return f"<Handlers {', '.join(f'{n} of {event}' for event, n in self.counts().items() if n) or 'none'}>"

    def counts(self) -> dict[str, int]:
        """Return the number of handlers of each event."""
        return {event: len(handlers) for event, handlers in self._handlers.items()}

    def add(self, event: str, handler: F | None = None) -> Callable[[F], F]:
        """Register a handler, now or (as a decorator) when it is given."""
        check_event(event)

        def register(handler: F) -> F:
            if not callable(handler):
                raise TypeError(f"the handler of {event!r} must be a function, not {handler!r}.")
            check_handler(event, handler)
            if event == "hand_over":
                self._check_hand_over()
            self._handlers[event].append(handler)
            if event == "error":
                self._serving.hooks.begin()
            if event == "message":
                self.begin_later = all(map(inspect.iscoroutinefunction, self._handlers[event]))
                if len(self._handlers[event]) == 1:
                    self.on_hearing()
            if event == "crash" and len(self._handlers[event]) == 1:
                self.on_hearing_crashes()
            return handler

        if handler is not None:
            register(handler)
        return register

    def _check_hand_over(self) -> None:
        if self._handlers["hand_over"]:
            raise MobError("a handler of 'hand_over' exists already, and only one is allowed: return all data from it.")
        self.on_handing_over()

    def of(self, event: str) -> tuple[Callable[..., Any], ...]:
        """Return the handlers of an event."""
        return tuple(self._handlers[event])

    def fire(self, event: str, *args: Any) -> None:
        """Run the handlers of an event; `async def` handlers run in the background."""
        reactor = self._context.reactor
        for handler in self.of(event):
            if reactor.owner == reactor.thread:
                self._run(event, handler, *args)
            else:  # read by the stand-in: handlers run on the loop's thread, when that is back
                reactor.loop.call_soon(partial(self._run, event, handler, *args))

    def handle_message(self, link: Link, contact: Contact, message: m.Message) -> None:
        """Handle an object that a process sent."""
        if self.is_leaving and contact.heard_farewell and contact.uid != self._context.uid:
            return
        self._serving.running.leave()  # the time of the handlers does not count for the export that ran before
        try:
            obj = self._serving.encoder.codec.decode(message.body)
        except Exception as error:  # noqa: BLE001  logged
            text = "a message from %s cannot be read: %s"
            self._context.complaints.tell(text, text, contact.name, error, error=error)
            return
        SERVED.set((contact, None, link))
        token = CARRIED.set(message.trace)
        try:
            with nullcontext() if (tracing := self._context.tracing) is None else tracing.attached(message.trace):
                self.fire("message", obj)
        finally:
            CARRIED.reset(token)

    def _run(self, event: str, handler: Callable[..., Any], *args: Any) -> None:
        try:
            value = self.call(handler, *args)
            if inspect.isawaitable(value):
                task = self._context.reactor.loop.create_task(finish := self._finish(event, value))
                if event == "message":
                    self._serving.note_first(finish)
                tasks = {"message": self.background, "drain": self._draining}.get(event, self._standing)
                task.add_done_callback(partial(self._handle_done, tasks))
                tasks.add(task)
        except Exception as error:  # noqa: BLE001  logged below
            self._end_child()
            self._handle_failed(event, error)
        if self._context.is_abandoned:  # not `_end_child`: a call less for each message
            forks.end()

    def _end_child(self) -> None:
        """End this process if the handler that has just returned forked it."""
        if self._context.is_abandoned:
            forks.end()

    def look_after(self) -> bool:
        """Forget handlers of messages that ended unnoticed; once a second. Return whether some still run."""
        for task in [task for task in self.background if task.done()]:
            self.background.discard(task)
        return bool(self.background)

    def report(self, event: str, error: BaseException) -> None:
        """Pass the exception of a handler to the handlers of `error`."""
        if self._serving.hooks.is_on:
            self._serving.hooks.report(error, "handler", event)

    def _handle_failed(self, event: str, error: Exception) -> None:
        self.report(event, error)
        text = "a handler of %r raised %s: %s"
        self._context.complaints.tell((text, event), text, event, type(error).__name__, error, error=error)
        if event == "ready":
            self.on_ready_failed(error)

    def call(self, handler: Callable[..., Any], *args: Any) -> Any:
        """Call a handler as plain code, and return what it returns."""
        plain = self._context.reactor.plain
        left, outer = plain.enter(), self._plain
        self._plain = handler, monotonic()
        try:
            return self._serving.call_plain(handler, *args)
        finally:
            self._plain = outer
            plain.leave(left)

    def blocking(self, now: float) -> list[m.Running]:
        """Return the handler that has blocked the loop for a while, if one has; from any thread."""
        found = self._plain
        if found is None or now - found[1] < BLOCKING_AFTER:
            return []
        handler, since = found
        code = getattr(inspect.unwrap(handler), "__code__", None)
        place = "" if code is None else f" ({code.co_filename}:{code.co_firstlineno})"
        return [m.Running(f"the handler {_name_of(handler)}{place}", now - since, "the loop")]

    @property
    def has_standing(self) -> bool:
        """True if handlers run that may do so forever."""
        return bool(self._standing)

    async def finish_drain(self, seconds: float) -> None:
        """Wait at most `seconds` for the handlers of `drain`; cancel those that take longer."""
        if self._draining:
            await asyncio.wait(set(self._draining), timeout=seconds)
        late = set(self._draining)
        if late:
            self._context.log.error("handlers of 'drain' did not end within the grace period: %d", len(late))
            await self._serving.cancelling.end(late, LEAST)

    async def run_start(self) -> None:
        """Run the handlers of `start` one by one; raise what they raise."""
        for handler in self.of("start"):
            value = self.call(handler)
            if inspect.isawaitable(value):
                try:
                    await value
                except asyncio.CancelledError as error:
                    if (task := asyncio.current_task()) is None or task.cancelling():  # the process ends
                        raise
                    raise RuntimeError(f"a handler of 'start' ended with CancelledError: {handler!r}") from error
            self._end_child()

    async def run_stop(self, seconds: float) -> BaseException | None:
        """Run the handlers of `stop` one by one, for at most `seconds`, or longer while a plain one runs.

        Return the first exit that a handler asked for. If one raises, the others run nevertheless.
        """
        until, asked = monotonic() + seconds, None
        for handler in self.of("stop"):
            try:
                value = self.call(handler)
                if inspect.isawaitable(value):
                    await self._end_stop(handler, value, max(LEAST, until - monotonic()))
                self._end_child()
            except Exception as error:
                self._end_child()
                self.report("stop", error)
                self._context.log.error("a handler of 'stop' raised", exc_info=shown_of(error))
            except (SystemExit, KeyboardInterrupt) as exit_:
                self._end_child()
                asked = asked or exit_
        return asked

    async def _end_stop(self, handler: object, value: Awaitable[object], seconds: float) -> None:
        """Wait at most `seconds` for an `async def` handler of `stop`; do not wait for its cancellation."""
        task = asyncio.ensure_future(value)
        await asyncio.wait({task}, timeout=seconds)
        if task.cancelled():
            self._context.log.warning("a handler of 'stop' ended with CancelledError: %r", handler)
        elif task.done():
            task.result()
        else:
            task.cancel()
            self._context.log.error("a handler of 'stop' did not end within the grace period: %r", handler)

    async def end_standing(self, seconds: float) -> None:
        """Cancel the handlers that may run forever, and wait for their ends."""
        late = await self._serving.cancelling.end(self._standing, seconds)
        if late:
            self._context.log.error("%d handlers were cancelled and did not end within the grace period", len(late))

    def _handle_done(self, tasks: set[asyncio.Task[Any]], task: asyncio.Task[Any]) -> None:
        tasks.discard(task)
        self._context.reactor.note()

    async def _finish(self, event: str, awaitable: Awaitable[Any]) -> None:
        try:
            await awaitable
        except Exception as error:  # noqa: BLE001  logged there
            self._handle_failed(event, error)


def _nothing() -> None:
    pass


def _nothing_to_end(error: BaseException) -> None:
    """Do nothing: this process is not a mobster."""
