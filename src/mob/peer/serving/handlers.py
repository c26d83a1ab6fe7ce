"""Handlers: what the application wants to hear of.

`message` (an object that somebody sent), `start` (after the import, before ready: open pools and servers here),
`ready`, `drain` (the process begins to end), `stop` (it is about to end), `join` and `leave` (another mobster), `crash`
(another mobster died out of order), and `error` (code of this process has raised: see `hooked`). Handlers are `def` or
`async def`; those of one event are run in the order in which they were registered. What they raise is logged; a handler
of `ready` that raises ends the process as well, because what it does (a consumer, a timer) would be missing until the
next start.
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
"""Seconds from which on a handler is said to block the loop."""
EVENTS = ("message", "start", "ready", "drain", "stop", "join", "leave", "hand_over", "error", "crash")
GETS: dict[str, tuple[str, ...]] = {
    "message": ("obj",),
    "join": ("mobster",),
    "leave": ("mobster",),
    "error": ("error", "context"),
    "crash": ("crash",),
}
"""What handlers are called with; the others without arguments."""
OTHER_NAMES = {"death": "crash", "died": "crash", "shutdown": "stop", "exit": "stop", "startup": "start"}
"""As events are called elsewhere."""


def check_event(event: str) -> None:
    """Raise `ValueError`, with the nearest name, if there is no such event."""
    if event not in EVENTS:
        meant = OTHER_NAMES.get(event)
        raise ValueError(f"there is no event {event!r}. {nearest(meant or event, EVENTS)}")


def check_handler(event: str, handler: Callable[..., Any]) -> None:
    """Raise `TypeError` if a handler cannot be called as those of this event are."""
    gets = GETS.get(event, ())
    try:
        inspect.signature(handler).bind(*gets)
    except TypeError as error:
        called = f"f({', '.join(gets)})"
        raise TypeError(f"the handler {_name_of(handler)} of {event!r} is called as {called}: {error}.") from None
    except ValueError:
        pass  # it is written in C, and does not say


def _name_of(handler: object) -> str:
    return getattr(handler, "__qualname__", None) or repr(handler)


class Handlers:
    """The registered handlers by event."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        self._context = serving.context
        self.background: set[asyncio.Task[Any]] = set()
        """The `async def` handlers of messages that run: a process that ends waits for them."""
        self.on_ready_failed: Callable[[BaseException], None] = _nothing_to_end
        """Called with what a handler of `ready` has raised."""
        self.on_handing_over: Callable[[], None] = _nothing
        """Called when a handler of `hand_over` has been registered; in any thread."""
        self.on_hearing: Callable[[], None] = _nothing
        """Called when the first handler of messages has been registered; in any thread."""
        self.on_hearing_crashes: Callable[[], None] = _nothing
        """Called when the first handler of crashes has been registered; in any thread."""
        self.begin_later = False
        """Whether all handlers of messages are `async def`, which take their first steps in the loop's next turn."""
        self.is_leaving = False
        """Whether the process ends and has nobody left for whom it hears messages. Those that were sent before their
        senders knew of its end are handled all the same."""
        self._plain: tuple[Callable[..., Any], float] | None = None  # what runs as plain code, and since when
        self._draining: set[asyncio.Task[Any]] = set()  # those of `drain`
        self._standing: set[asyncio.Task[Any]] = set()  # those of other events, which may run for ever
        self._handlers: dict[str, list[Callable[..., Any]]] = {event: [] for event in EVENTS}

    def __repr__(self) -> str:
        return f"<Handlers {', '.join(f'{n} of {event}' for event, n in self.counts().items() if n) or 'none'}>"

    def counts(self) -> dict[str, int]:
        """How many there are of each event."""
        return {event: len(handlers) for event, handlers in self._handlers.items()}

    def add(self, event: str, handler: F | None = None) -> Callable[[F], F]:
        """Registers a handler, now or (as a decorator) when it is given."""
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
            raise MobError("there is a handler of 'hand_over' already, and a worker has one: return all data from it.")
        self.on_handing_over()

    def of(self, event: str) -> tuple[Callable[..., Any], ...]:
        """The handlers of an event."""
        return tuple(self._handlers[event])

    def fire(self, event: str, *args: Any) -> None:
        """Runs the handlers of an event; `async def` ones in the background."""
        reactor = self._context.reactor
        for handler in self.of(event):
            if reactor.owner == reactor.thread:
                self._run(event, handler, *args)
            else:  # the stand-in has read it: handlers run on the loop's thread, when that is back
                reactor.loop.call_soon(partial(self._run, event, handler, *args))

    def handle_message(self, link: Link, contact: Contact, message: m.Message) -> None:
        """Somebody has sent an object."""
        if self.is_leaving and contact.heard_farewell and contact.uid != self._context.uid:
            return
        self._serving.running.leave()  # what the handlers do is not the export's that ran before
        try:
            obj = self._serving.encoder.codec.decode(message.body)
        except Exception as error:  # noqa: BLE001  logged
            told = "a message from %s cannot be read: %s"
            self._context.complaints.tell(told, told, contact.name, error, error=error)
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
        """A handler has returned: if it has forked and this is its child, the child ends here."""
        if self._context.is_abandoned:
            forks.end()

    def look_after(self) -> bool:
        """Forget handlers of messages that have ended without being noticed; once a second. Return whether some run."""
        for task in [task for task in self.background if task.done()]:
            self.background.discard(task)
        return bool(self.background)

    def report(self, event: str, error: BaseException) -> None:
        """Tell the handlers of `error` what a handler has raised."""
        if self._serving.hooks.is_on:
            self._serving.hooks.report(error, "handler", event)

    def _handle_failed(self, event: str, error: Exception) -> None:
        self.report(event, error)
        told = "a handler of %r raised %s: %s"
        self._context.complaints.tell((told, event), told, event, type(error).__name__, error, error=error)
        if event == "ready":
            self.on_ready_failed(error)

    def call(self, handler: Callable[..., Any], *args: Any) -> Any:
        """Call a handler as the plain function that it may be, and return what it returns."""
        plain = self._context.reactor.plain
        left, outer = plain.enter(), self._plain
        self._plain = handler, monotonic()
        try:
            return self._serving.call_plain(handler, *args)
        finally:
            self._plain = outer
            plain.leave(left)

    def blocking(self, now: float) -> list[m.Running]:
        """Return the handler that blocks the loop, if one does so for a while; from any thread."""
        found = self._plain
        if found is None or now - found[1] < BLOCKING_AFTER:
            return []
        handler, since = found
        code = getattr(inspect.unwrap(handler), "__code__", None)
        place = "" if code is None else f" ({code.co_filename}:{code.co_firstlineno})"
        return [m.Running(f"the handler {_name_of(handler)}{place}", now - since, "the loop")]

    @property
    def has_standing(self) -> bool:
        """Whether handlers run that may do so for ever."""
        return bool(self._standing)

    async def finish_drain(self, seconds: float) -> None:
        """Wait for the handlers of `drain`, so long at most; cancel those that take longer."""
        if self._draining:
            await asyncio.wait(set(self._draining), timeout=seconds)
        late = set(self._draining)
        if late:
            self._context.log.error("handlers of 'drain' have not ended within the grace time: %d", len(late))
            await self._serving.cancelling.end(late, LEAST)

    async def run_start(self) -> None:
        """Run the handlers of `start`, one after the other; raise what they raise."""
        for handler in self.of("start"):
            value = self.call(handler)
            if inspect.isawaitable(value):
                try:
                    await value
                except asyncio.CancelledError as error:
                    if (task := asyncio.current_task()) is None or task.cancelling():  # the process ends
                        raise
                    raise RuntimeError(f"a handler of 'start' let a cancellation through: {handler!r}") from error
            self._end_child()

    async def run_stop(self, seconds: float) -> BaseException | None:
        """Run the handlers of `stop`, one after the other, so long at most, and longer only while plain ones last.
        Return the first exit that one has asked for. Whatever one raises, the others run."""
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
        """Wait for an `async def` handler of `stop` so long at most, and not for its cancellation."""
        task = asyncio.ensure_future(value)
        await asyncio.wait({task}, timeout=seconds)
        if task.cancelled():
            self._context.log.warning("a handler of 'stop' let a cancellation through, and has ended: %r", handler)
        elif task.done():
            task.result()
        else:
            task.cancel()
            self._context.log.error("a handler of 'stop' has not ended within the grace time: %r", handler)

    async def end_standing(self, seconds: float) -> None:
        """Cancels the handlers that may run for ever, and waits for their ends."""
        late = await self._serving.cancelling.end(self._standing, seconds)
        if late:
            self._context.log.error("%d handlers were cancelled and have not ended within the grace time", len(late))

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
    """In a process that is no mobster."""
