"""A call under way, as its caller holds it: one object for sync code, for async code on any loop, and for any thread.

It is a future by shape (asyncio recognises one by `_asyncio_future_blocking`), so `await`, `asyncio.gather`,
`asyncio.as_completed` and `asyncio.wait_for` take it without a task around it (`futures` has its other shapes). Unlike
asyncio's own it belongs to no loop: each callback is run on the loop on which it was added, and those of another loop
are handed over in batches (`handover`).

Whoever settles a call does so once; what comes later (a late reply) changes nothing. An error that nobody asks for is
logged, never lost: when the last reference to the call goes, a guard appends to a queue, and does nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
from asyncio import AbstractEventLoop, CancelledError
from collections import deque
from collections.abc import Generator
from contextvars import Context, copy_context
from math import inf
from threading import Lock, get_ident
from time import monotonic
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, cast

from mob.core.calls import DONE, SENT, TERMS, WAITING, Lifecycle
from mob.core.states import CallState
from mob.errors import CallError, CallTimeout, Deadlock, MobError
from mob.peer.results.checking import check_seconds
from mob.peer.results.futures import Shadow, Shapes, Shown
from mob.peer.results.handover import Callback
from mob.peer.results.streams import Incoming, Receiver, Stream, not_a_value

if TYPE_CHECKING:
    from msgspec import Raw

    from mob.core.dispatch import Queued
    from mob.peer.results.blocking import Blocking
    from mob.peer.results.maker import Callee, Maker
    from mob.wire import messages as m
    from mob.wire.references import Passage

T = TypeVar("T")
CANCELLED = CancelledError()
"""The error of every cancelled call; never raised itself."""
WAIT_FIRST = "await it, or ask for its .result()."
UNTRACED: tuple[str, int | None] = ("", None)

_making_incoming = Lock()
"""Held by the first to need what a call streams: the thread that iterates, or the one that reads the first item."""
_ending = Lock()
"""Held for the few instructions in which one of several threads gives a call up or fails it."""


class Call(Lifecycle, Shapes, Shown[T]):
    """A call, sent or waiting for a worker: ignore it, `await` it, iterate over it, or ask for its `result`.

    It ends once, by a value or by a `CallError`. See docs/calls.md.

    >>> total = await back.add(1, 2)  # doctest: +SKIP
    """

    __slots__ = (
        "__weakref__",
        "_asyncio_future_blocking",
        "_callbacks",
        "_error",
        "_guard",
        "_peer",
        "_value",
        "contact",
        "incoming",
        "label",
        "parked",
        "passage",
        "request",
        "shadow",
        "traced",
    )

    is_undecided: ClassVar[bool] = False
    """Whether its result is decoded so that what its caller has declared decides what is made of it."""
    state: CallState
    contact: Callee
    request: m.Invoke
    """The worker that it was sent to last, and with what; from `SENT` on."""
    _value: Any
    """What it ended with, if it is `DONE` and there is no error."""
    _guard: _Guard
    """Tells of the error, if there is one."""

    def __init__(self, peer: Maker, label: str, role: str) -> None:
        self.role = role  # here, and so what follows of the base, for this is on the hot path
        self.state = WAITING
        self.terms = TERMS
        self.repeats = 0
        self.until = inf
        self._peer = peer
        self.label: str = label
        """As people read it: `back.foo`."""
        self.passage: Passage = ()
        """The functions, sockets and the like in its arguments, which are kept until it has ended."""
        self.parked: Queued | None = None
        """What it is while it waits for a worker."""
        self.incoming: Incoming | None = None
        """What has come of it, if it is known to stream."""
        self.shadow: Shadow | None = None
        self.traced: tuple[str, int | None] = UNTRACED
        """The trace that it belongs to, and when it was made; of a mobster that traces."""
        self._asyncio_future_blocking = False
        self._error: BaseException | None = None
        self._callbacks: list[tuple[Callback, Context | None, AbstractEventLoop | None]] = []

    def __repr__(self) -> str:
        outcome = ""
        if self.state is DONE:
            outcome = f", {type(self._error).__name__}" if self._error is not None else ", ok"
        return f"<Call {self.label} {self.state}{outcome}>"

    if not TYPE_CHECKING:  # type checkers know what a call has

        def __getitem__(self, *operands: Any) -> Any:
            """Refuse to be used as the value. There is no `__len__`, because the truth of a call would depend on it,
            and no `__getattr__`, because Python looks up all attributes of such a class more slowly (before 3.12)."""
            raise TypeError(f"the call {self.label}() is not its value: {WAIT_FIRST}")

        __lt__ = __le__ = __gt__ = __ge__ = __neg__ = __getitem__
        __add__ = __sub__ = __mul__ = __truediv__ = __floordiv__ = __mod__ = __pow__ = __matmul__ = __getitem__
        __radd__ = __rsub__ = __rmul__ = __rtruediv__ = __rfloordiv__ = __rmod__ = __rpow__ = __rmatmul__ = __getitem__

    @property
    def peer(self) -> Maker:
        """The process that has made it."""
        return self._peer

    # ---------------------------------------------------------------------------------------------- asking

    def done(self) -> bool:
        """Whether it has ended: by a value, an error or `cancel`."""
        if self.state is DONE:
            return True
        if (reactor := self._peer.context.reactor).is_away:
            reactor.stand_in.look()  # plain code may ask again and again, and nobody would read the answer
        return False

    def done_already(self) -> bool:
        """As `done`, without a look at what may lie unread."""
        return self.state is DONE

    def cancelled(self) -> bool:
        """Whether `cancel` ended it."""
        return self._error is CANCELLED

    @property
    def has_failed(self) -> bool:
        """Whether it has ended with an error, which nobody need have asked for."""
        return self._error is not None

    def result(self, timeout: float | None = None) -> T:
        """The value, waited for; raises what the call ended with.

        On the loop's own thread the links are driven by hand meanwhile, so replies and callbacks get through.
        `CallTimeout` after `timeout` seconds, if given; the call itself goes on.

        >>> back.foo(1).result(timeout=2)  # doctest: +SKIP
        """
        if self.state is not DONE:
            self._wait(timeout)
        if self._error is not None:
            try:
                raise self._asked_for()
            finally:
                del self  # else error, traceback, frame and call make a circle that only the garbage collector frees
        return self._value

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """The error it ended with, None for a value; waits like `result`."""
        if self.state is not DONE:
            self._wait(timeout)
        if self._error is None:
            return None
        error = self._asked_for()
        if self._error is CANCELLED:
            raise error
        return error

    def __await__(self) -> Generator[Any, None, T]:
        try:
            if self.state is not DONE:
                self._peer.context.check_process()
                if (incoming := self.incoming) is not None and not incoming.is_read:
                    self.refuse_to_wait()
                    return self.result()
                self._asyncio_future_blocking = True
                yield self  # a task throws the call's error in here
            return self.result()
        finally:
            del self  # as in `result`

    def __iter__(self) -> Stream[Any]:
        return self.stream()

    def __aiter__(self) -> Stream[Any]:
        return self.stream()

    def stream(self) -> Stream[Any]:
        """The iterator over what the called generator yields."""
        return Stream(self._peer, self, self._incoming())

    def _incoming(self) -> Incoming:
        incoming = self.incoming
        if incoming is None:
            with _making_incoming:
                incoming = self.incoming
                if incoming is None:
                    incoming = self.incoming = Incoming()
                    self.when_done(incoming.wake)
        return incoming

    def handle_item(self, item: Any) -> None:
        """The called generator has yielded its first item. Now only who holds this call keeps it alive."""
        receiver = self._new_receiver(self._incoming())
        self.contact.replace(self.request.id, receiver)
        if self.state is DONE:  # looked at last: it may have been cancelled meanwhile, on another thread
            self.contact.take(self.request.id)
        receiver.handle_item(item)

    def _new_receiver(self, incoming: Incoming) -> Receiver:
        return Receiver(self, self._peer, incoming)

    @property
    def is_waited_for(self) -> bool:
        """Whether somebody waits for its value, though it streams: somebody besides the stream, and mob itself."""
        return len(self._callbacks) > 1 + bool(self.passage)

    def handle_ended(self) -> None:
        """The called generator has come to its end. As a value that is nothing; who iterates over it sees the end."""
        incoming = self._incoming()
        incoming.is_over = True
        if incoming.is_read:
            cast(Any, Call).settle(self, None)  # not a value, so there is nothing to convert
        else:
            self.fail(not_a_value(self.label))

    def refuse_if_streaming(self) -> bool:
        """Its value is going to be waited for: whether that is refused, for it is known to stream."""
        incoming = self.incoming
        if self.state is DONE or incoming is None or incoming.is_read:
            return False
        self.refuse_to_wait()
        return True

    def refuse_to_wait(self) -> None:
        """It streams, but its value is waited for."""
        contact = self.contact
        self.fail(not_a_value(self.label))
        contact.forget_call(self)

    def _asked_for(self) -> BaseException:
        """The error, which somebody has asked for now."""
        error = self._error
        if error is None or error is CANCELLED:
            return CancelledError()
        self._guard.disarm()
        return error

    def _wait(self, timeout: float | None) -> None:
        peer = self._peer
        check_seconds("timeout", timeout)
        peer.context.check_process()
        if self.refuse_if_streaming():
            return
        reactor, ident = peer.context.reactor, get_ident()
        if ident == reactor.thread or ident == reactor.owner:
            self._drive(peer, timeout)
        else:
            arrival = Lock()
            arrival.acquire()
            self.when_done(lambda _: arrival.release())
            reactor.stand_in.wait_for(arrival, timeout)
        if self.state is not DONE:
            raise CallTimeout(f"{self.label} has not answered within {timeout} s; the call goes on.")

    def _drive(self, peer: Maker, timeout: float | None) -> None:
        if (error := deadlock_of(self)) is not None:
            self.cancel()
            raise error
        peer.blocking.drive([self], self.done, None if timeout is None else monotonic() + timeout)

    def fail_in_circle(self, blocking: Blocking) -> None:
        """Fail it if the thread of this process that is going to wait for it would have to answer it."""
        peer = self._peer
        if peer.blocking is blocking and (error := deadlock_of(self)) is not None:
            self.contact.forget_call(self)
            peer.fail(self, error)

    # ------------------------------------------------------------------------------------------- callbacks

    def add_done_callback(self, fn: Callback, *, context: Context | None = None) -> None:
        """Have `fn(call)` called once it is done: on the running loop. Where none is running, in plain code, it is
        called at once in the thread that reads the answer, as `concurrent.futures` does it."""
        try:
            reactor = self._peer.context.reactor
            loop = reactor.loop
            if reactor.is_away or get_ident() != reactor.thread:  # else mob's is running; to ask costs a system call
                loop = self._loop_elsewhere()
            self._add(fn, copy_context() if context is None else context, loop)
        except MobError:
            raise
        except BaseException as error:  # noqa: BLE001  told there
            self._add_after_all(fn, context, error)

    def _add_after_all(self, fn: Callback, context: Context | None, error: BaseException) -> None:
        """Add a callback though something was raised meanwhile: the task that waits would never be run again."""
        if not any(entry[0] is fn for entry in self._callbacks):
            loop = asyncio._get_running_loop()
            if loop is None:
                raise error
            self._callbacks.append((fn, copy_context() if context is None else context, loop))
        if self.state is DONE:
            self._run_callbacks()
        told = {"message": f"a callback of {self!r} was added, and something was raised", "exception": error}
        self._peer.context.reactor.loop.call_exception_handler(told)

    def when_done(self, fn: Callback) -> None:
        """Has `fn(call)` called by whoever settles it, at once, on any thread: for mob itself. If it raises, it is
        called once more."""
        self._add(fn, None, None)

    def _add(self, fn: Callback, context: Context | None, loop: AbstractEventLoop | None) -> None:
        if self._peer.context.is_abandoned and self.state is not DONE:
            self._peer.context.check_process()
        self._callbacks.append((fn, context, loop))
        if self.state is DONE:  # looked at after appending: whoever comes first, it is called, and once
            self._run_callbacks()

    def remove_done_callback(self, fn: Callback) -> int:
        """Takes back `add_done_callback`; how many there were."""
        found = [entry for entry in self._callbacks if entry[0] == fn]
        for entry in found:
            self._callbacks.remove(entry)
        if not any(context is not None for _, context, _ in self._callbacks):
            self._peer.blocking.end(self)
        return len(found)

    def get_loop(self) -> AbstractEventLoop:
        """The running loop: a call belongs to none, so it fits each."""
        try:
            reactor = self._peer.context.reactor
            if get_ident() == reactor.thread and not reactor.is_away:
                return reactor.loop
            return self._running_loop()
        except BaseException:  # noqa: BLE001  a task that asks is never run again if this raises
            pass
        return self._running_loop()

    def _running_loop(self) -> AbstractEventLoop:
        loop = asyncio._get_running_loop()
        if loop is None:
            raise RuntimeError(
                f"{self.label}: no event loop runs in this thread that could wait for the call. In sync code its value "
                f"is call.result(); a loop of your own takes it as asyncio.run(call)."
            )
        return loop

    def _loop_elsewhere(self) -> AbstractEventLoop | None:
        """Return on which loop a callback is run that was added by plain code, or in another thread."""
        reactor, running = self._peer.context.reactor, asyncio._get_running_loop()
        if running is None:
            if self.state is not DONE:
                reactor.stand_in.begin_to_wait(self)
            return None
        if self.state is not DONE and running is not reactor.loop:  # which nest_asyncio has run within plain code
            self._peer.blocking.begin(self)  # until the callback is handed over
        return running

    def _run_callbacks(self) -> None:
        callbacks = self._callbacks
        raised: BaseException | None = None
        while callbacks:
            entry = begun = fn = context = loop = None
            try:
                entry = callbacks[0]
                callbacks.remove(entry)
                fn, context, loop = entry
                if loop is None and context is None:
                    fn(begun := self)
                elif loop is None:
                    self._peer.blocking.end(self)
                    self._peer.handover.call_here(fn, begun := self, context)
                else:
                    self._peer.handover.give(loop, fn, self, context)  # it raises only if nothing was given
            except (IndexError, ValueError) as error:
                if begun is not None:
                    raised = error
                # else another thread was faster
            except BaseException as error:  # noqa: BLE001  raised below, when all have been called
                raised = error
                if fn is not None and begun is not None and loop is None and context is None:
                    with contextlib.suppress(BaseException):
                        fn(self)  # of mob: it says what it had no time to say
                if begun is None and entry is not None and all(each is not entry for each in callbacks):
                    callbacks.insert(0, entry)
        if raised is not None:
            raise raised

    # -------------------------------------------------------------------------------------------- settling

    def settle(self, value: Any) -> None:
        """It ended with a value. On the hot path, hence without a lock: a call that is cancelled at the same moment
        counts as cancelled, and every callback is popped, so it runs once."""
        if self.state is DONE:
            self._run_callbacks()  # none is left, unless an exception came up when it ended
            return
        self._value = value
        self.state = DONE
        if self._callbacks:
            self._run_callbacks()

    def settle_as_declared(self, body: Raw) -> bool:
        """It ended with what cannot be decoded unless one knows what it is; whether this call knows."""
        return False

    def fail(self, error: BaseException) -> None:
        """It ended with an error."""
        if self.repeats and isinstance(error, CallError) and error.executed == "no":
            error.executed = self.executed("no")
        if self.done_already():
            self._run_callbacks()  # none is left, unless an exception came up when it ended
            return
        with _ending:
            if self.state is DONE:
                return
            self._guard = _Guard(self.label, error, self._peer.context.unheard)
            self._error = error
            self.state = DONE
        self._run_callbacks()

    def cancel(self, msg: object = None) -> bool:
        """Gives the call up: the callee is told to cancel it, a queued one is dropped. False if it was done."""
        sent = is_told = False
        try:
            with _ending:
                if self.state is DONE:
                    is_told = True
                    return False
                sent = self.state is SENT
                self._error = CANCELLED
                self.state = DONE
            self._tell_cancelled(sent)
            is_told = True
        except BaseException:
            if not is_told and self._error is CANCELLED:
                self._tell_cancelled(sent)
            raise
        finally:
            if self.state is DONE:
                self._run_callbacks()
        return True

    def _tell_cancelled(self, sent: bool) -> None:
        if self._peer.context.is_abandoned:
            pass  # it is the parent's call, and goes on there
        elif sent:
            self.contact.forget_call(self)
        else:
            self._peer.parking.forget(self)


def deadlock_of(call: Call[Any]) -> Deadlock | None:
    """The error for a call that the only thread of this process waits for, if that thread would have to answer it."""
    peer = call.peer
    if call.state is not SENT or call.contact.uid != peer.context.uid or type(call.request.target) is not str:
        return None
    return Deadlock(
        f"{call.label}: this process would wait for itself. The call went to the very worker that makes it, and its "
        f"only thread cannot answer while it waits. Use `await` in an async export, or threads=2."
    )


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
