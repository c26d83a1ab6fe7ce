"""A call under way, as its caller holds it: one object for sync code, for async code on any loop, and for any thread.

It is a future by shape (asyncio recognises one by `_asyncio_future_blocking`), so `await`, `asyncio.gather`,
`asyncio.wait` and `asyncio.wait_for` take it without a task around it. Unlike asyncio's own it belongs to no loop:
each callback is run on the loop on which it was added, and those of another loop are handed over in batches.

Whoever settles a call does so once; what comes later (a late reply) changes nothing. An error that nobody asks for is
logged, never lost: when the last reference to the call goes, a guard appends to a queue, and does nothing else.
"""

from __future__ import annotations

import asyncio
from asyncio import CancelledError
from collections import deque
from collections.abc import Callable, Generator
from contextvars import Context, copy_context
from threading import Lock, get_ident
from time import monotonic
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from mob.core.states import Call as State
from mob.errors import CallTimeout, Deadlock

if TYPE_CHECKING:
    from mob.mobster.contacts import Contact
    from mob.mobster.peer import Peer
    from mob.wire import messages as m

T = TypeVar("T")
WAITING, SENT, DONE = State.WAITING, State.SENT, State.DONE

_settling = Lock()
"""Held for the few instructions in which a call is settled or somebody begins to wait for it."""

Callback = Callable[[Any], object]


class Call(Generic[T]):
    """A call that was sent, or that waits for a worker."""

    __slots__ = (
        "__weakref__",
        "_asyncio_future_blocking",
        "_callbacks",
        "_cancelled",
        "_error",
        "_guard",
        "_peer",
        "_value",
        "contact",
        "convert",
        "label",
        "request",
        "role",
        "state",
    )

    def __init__(self, peer: Peer, label: str, role: str) -> None:
        self._peer = peer
        self.label = label
        """As people read it: `back.foo`."""
        self.role = role
        """The role among whose workers it may be repeated; "" if it is for one process only."""
        self.state = WAITING
        self._asyncio_future_blocking = False
        self._error: BaseException | None = None
        self._callbacks: list[tuple[Callback, Context | None, asyncio.AbstractEventLoop | None]] | None = None
        self._cancelled = False
        self._guard: _Guard | None = None

    # contact, request, convert and _value are set later: by whoever sends the call, and by whoever settles it
    contact: Contact
    request: m.Call
    convert: Callable[[Any], Any] | None
    _value: Any

    def __repr__(self) -> str:
        outcome = ""
        if self.state is DONE:
            outcome = ", cancelled" if self._cancelled else f", {type(self._error).__name__}" if self._error else ", ok"
        return f"<Call {self.label} {self.state}{outcome}>"

    # ---------------------------------------------------------------------------------------------- asking

    def done(self) -> bool:
        """Whether it has ended: by a value, an error or `cancel`."""
        return self.state is DONE

    def cancelled(self) -> bool:
        """Whether `cancel` ended it."""
        return self._cancelled

    def result(self, timeout: float | None = None) -> T:
        """The value, waited for; raises what the call ended with.

        On the loop's own thread the links are driven by hand meanwhile, so replies and callbacks get through.
        `CallTimeout` after `timeout` seconds, if given; the call itself goes on.

        >>> back.foo(1).result(timeout=2)  # doctest: +SKIP
        """
        if self.state is not DONE:
            self._wait(timeout)
        return self._outcome()

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """The error it ended with, None for a value; waits like `result`."""
        if self.state is not DONE:
            self._wait(timeout)
        if self._cancelled:
            raise CancelledError
        self._asked_for()
        return self._error

    def __await__(self) -> Generator[Any, None, T]:
        if self.state is not DONE:
            self._asyncio_future_blocking = True
            yield self
        return self._outcome()

    def _outcome(self) -> T:
        if self._error is not None:
            self._asked_for()
            raise self._error
        if self._cancelled:
            raise CancelledError
        return self._value

    def _asked_for(self) -> None:
        if self._guard is not None:
            self._guard.disarm()
            self._guard = None

    def _wait(self, timeout: float | None) -> None:
        peer = self._peer
        if get_ident() == peer.reactor.thread:
            self._drive(peer, timeout)
        else:
            arrival = Lock()
            arrival.acquire()
            self._add(lambda _: arrival.release(), None, None)
            arrival.acquire(timeout=-1 if timeout is None else timeout)
        if self.state is not DONE:
            raise CallTimeout(f"{self.label} has not answered within {timeout} s; the call goes on.")

    def _drive(self, peer: Peer, timeout: float | None) -> None:
        if self.state is SENT and self.contact.uid == peer.uid and self.request.target.__class__ is str:
            self.cancel()
            raise Deadlock(
                f"{self.label}: this process would wait for itself. The call went to the very worker that makes it, "
                f"and its only thread cannot answer while it waits. Use `await` in an async export, or threads=2."
            )
        peer.reactor.drive(self.done, None if timeout is None else monotonic() + timeout)

    # ------------------------------------------------------------------------------------------- callbacks

    def add_done_callback(self, fn: Callback, *, context: Context | None = None) -> None:
        """Has `fn(call)` called once it is done: on the running loop if there is one, else by whoever settles it."""
        self._add(fn, context, asyncio._get_running_loop())

    def _add(self, fn: Callback, context: Context | None, loop: asyncio.AbstractEventLoop | None) -> None:
        with _settling:
            if self.state is not DONE:
                if self._callbacks is None:
                    self._callbacks = [(fn, context, loop)]
                else:
                    self._callbacks.append((fn, context, loop))
                return
        self._schedule(fn, context, loop)

    def remove_done_callback(self, fn: Callback) -> int:
        """Takes back `add_done_callback`; how many there were."""
        with _settling:
            before = self._callbacks or []
            after = [entry for entry in before if entry[0] != fn]
            self._callbacks = after
        return len(before) - len(after)

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """The running loop: a call belongs to none, so it fits each."""
        return asyncio._get_running_loop() or self._peer.reactor.loop

    def _schedule(self, fn: Callback, context: Context | None, loop: asyncio.AbstractEventLoop | None) -> None:
        if loop is None:
            fn(self)
        elif loop is asyncio._get_running_loop():
            loop.call_soon(fn, self, context=context)
        else:
            self._peer.handover.give(loop, fn, self, context)

    # -------------------------------------------------------------------------------------------- settling

    def cancel(self, msg: object = None) -> bool:
        """Gives the call up: the callee is told to cancel it, a queued one is dropped. False if it was done."""
        with _settling:
            if self.state is DONE:
                return False
            sent = self.state is SENT
            self.state = DONE
            self._cancelled = True
            callbacks, self._callbacks = self._callbacks, None
        if sent:
            self.contact.forget_call(self)
        self._run(callbacks)
        return True

    def settle(self, value: Any) -> None:
        """It ended with a value."""
        with _settling:
            if self.state is DONE:
                return
            self._value = value
            self.state = DONE
            callbacks = self._callbacks
        if callbacks is not None:
            self._callbacks = None
            self._run(callbacks)

    def fail(self, error: BaseException) -> None:
        """It ended with an error."""
        with _settling:
            if self.state is DONE:
                return
            self._error = error
            self.state = DONE
            self._guard = _Guard(self.label, error, self._peer.unheard)
            callbacks, self._callbacks = self._callbacks, None
        self._run(callbacks)

    def _run(self, callbacks: list[tuple[Callback, Context | None, asyncio.AbstractEventLoop | None]] | None) -> None:
        for fn, context, loop in callbacks or ():
            self._schedule(fn, context, loop)


class _Guard:
    """Tells when an error goes unheard. Nothing happens in `__del__` but an append."""

    __slots__ = ("_error", "_label", "_unheard")

    def __init__(self, label: str, error: BaseException, unheard: deque[tuple[str, BaseException]]) -> None:
        self._label = label
        self._error: BaseException | None = error
        self._unheard = unheard

    def disarm(self) -> None:
        self._error = None

    def __del__(self) -> None:
        if self._error is not None:
            self._unheard.append((self._label, self._error))


class Handover:
    """Callbacks for other loops of this process, given in batches: one wake-up of a loop for all that came with it."""

    def __init__(self) -> None:
        self._waiting: dict[asyncio.AbstractEventLoop, deque[tuple[Callback, Any, Context | None]]] = {}
        self._lock = Lock()

    def __repr__(self) -> str:
        return f"<Handover to {len(self._waiting)} loops>"

    def give(self, loop: asyncio.AbstractEventLoop, fn: Callback, argument: Any, context: Context | None) -> None:
        """Has `fn(argument)` called on the loop; a loop that is closed is past hearing."""
        with self._lock:
            waiting = self._waiting.get(loop)
            if waiting is not None:
                waiting.append((fn, argument, context))
                return
            self._waiting[loop] = deque([(fn, argument, context)])
        try:
            loop.call_soon_threadsafe(self._run, loop)
        except RuntimeError:
            with self._lock:
                self._waiting.pop(loop, None)

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        with self._lock:
            waiting = self._waiting.pop(loop, deque())
        for fn, argument, context in waiting:
            loop.call_soon(fn, argument, context=context or copy_context())
