"""A call under way, as its caller holds it: one object for sync code, for async code on any loop, and for any thread.

It has the shape of a future (asyncio recognises one by `_asyncio_future_blocking`), so `await`, `asyncio.gather`,
`asyncio.as_completed` and `asyncio.wait_for` take it without a task around it; `futures` has its other shapes. Unlike
asyncio's futures it belongs to no loop: each callback runs on the loop on which it was added, and callbacks for other
loops are handed over in batches (`handover`).

A call is settled once; what comes later (a late reply) changes nothing. An error that no one asks for is logged, never
lost: when the last reference to the call is dropped, a guard appends to a queue, and does nothing else.
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
"""Held by the thread that first needs the incoming stream of a call: the one that iterates, or reads the first item."""
_ending = Lock()
"""Held for the few instructions in which a call is cancelled or failed, since several threads may try."""


class Call(Lifecycle, Shapes, Shown[T]):
    """A call, sent or waiting for a worker: ignore it, `await` it, iterate over it, or ask for its `result`.

    It ends once, with a value or a `CallError`. See docs/calls.md.

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
    """True if the caller's declaration decides how its result is decoded."""
    state: CallState
    contact: Callee
    request: m.Invoke
    """`contact` is the worker that it was sent to last, `request` the message; both exist from `SENT` on."""
    _value: Any
    """The value with which it ended, if it is `DONE` and there is no error."""
    _guard: _Guard
    """Reports the error if no one asks for it."""

    def __init__(self, peer: Maker, label: str, role: str) -> None:
        self.role = role  # set here instead of by the base class, because this is on the hot path
        self.state = WAITING
        self.terms = TERMS
        self.repeats = 0
        self.until = inf
        self._peer = peer
        self.label: str = label
        """Its name for people: `back.foo`."""
        self.passage: Passage = ()
        """The functions, sockets and other references in its arguments, which are kept until it ends."""
        self.parked: Queued | None = None
        """Its entry in the queue while it waits for a worker."""
        self.incoming: Incoming | None = None
        """The items that arrived, if it is known to stream."""
        self.shadow: Shadow | None = None
        self.traced: tuple[str, int | None] = UNTRACED
        """Its trace, and when it was made; only in a mobster that traces."""
        self._asyncio_future_blocking = False
        self._error: BaseException | None = None
        self._callbacks: list[tuple[Callback, Context | None, AbstractEventLoop | None]] = []

    def __repr__(self) -> str:
        outcome = ""
        if self.state is DONE:
            outcome = f", {type(self._error).__name__}" if self._error is not None else ", ok"
        return f"<Call {self.label} {self.state}{outcome}>"

    if not TYPE_CHECKING:  # type checkers know the attributes of a call

        def __getitem__(self, *operands: Any) -> Any:
            """Refuse to be used as the value.

            There is no `__len__`, because the truth of a call would depend on it, and no `__getattr__`, because Python
            looks up all attributes of such a class more slowly (before 3.12).
            """
            raise TypeError(f"the call {self.label}() is not its value: {WAIT_FIRST}")

        __lt__ = __le__ = __gt__ = __ge__ = __neg__ = __getitem__
        __add__ = __sub__ = __mul__ = __truediv__ = __floordiv__ = __mod__ = __pow__ = __matmul__ = __getitem__
        __radd__ = __rsub__ = __rmul__ = __rtruediv__ = __rfloordiv__ = __rmod__ = __rpow__ = __rmatmul__ = __getitem__

    @property
    def peer(self) -> Maker:
        """The process that made it."""
        return self._peer

    # ---------------------------------------------------------------------------------------------- asking

    def done(self) -> bool:
        """Return True if it has ended: with a value, an error or by `cancel`."""
        if self.state is DONE:
            return True
        if (reactor := self._peer.context.reactor).is_away:
            reactor.stand_in.look()  # plain code may ask again and again, and no one else would read the answer
        return False

    def done_already(self) -> bool:
        """Return True if it has ended, without looking at unread answers."""
        return self.state is DONE

    def cancelled(self) -> bool:
        """Return True if `cancel` ended it."""
        return self._error is CANCELLED

    @property
    def has_failed(self) -> bool:
        """True if it ended with an error; does not count as asking for that error."""
        return self._error is not None

    def result(self, timeout: float | None = None) -> T:
        """Wait for the value and return it, or raise the error with which the call ended.

        On the loop's own thread this method itself reads and writes the links meanwhile, so replies and callbacks get
        through.

        Args:
            timeout: Seconds to wait. Default: None, no limit.

        Returns:
            The value that the export returned.

        Raises:
            CallTimeout: There was no answer within `timeout` seconds; the call itself goes on.
            CallError: The call failed; see docs/calls.md.

        Example:
            >>> back.foo(1).result(timeout=2)  # doctest: +SKIP
        """
        if self.state is not DONE:
            self._wait(timeout)
        if self._error is not None:
            try:
                raise self._asked_for()
            finally:
                del self  # otherwise error, traceback, frame and call form a cycle for the garbage collector
        return self._value

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return the error with which it ended, or None; waits like `result`."""
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
        """Return an iterator over what the called generator yields."""
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
        """Take the first item of a generator; from now on only the user's reference keeps this call alive."""
        receiver = self._new_receiver(self._incoming())
        self.contact.replace(self.request.id, receiver)
        if self.state is DONE:  # checked last: another thread may have cancelled it meanwhile
            self.contact.take(self.request.id)
        receiver.handle_item(item)

    def _new_receiver(self, incoming: Incoming) -> Receiver:
        return Receiver(self, self._peer, incoming)

    @property
    def is_waited_for(self) -> bool:
        """True if its value is waited for although it streams; the stream and mob itself do not count."""
        return len(self._callbacks) > 1 + bool(self.passage)

    def handle_ended(self) -> None:
        """Take the end of the called generator: the end of the iteration, or an error if its value is waited for."""
        incoming = self._incoming()
        incoming.is_over = True
        if incoming.is_read:
            cast(Any, Call).settle(self, None)  # not a value, so there is nothing to convert
        else:
            self.fail(not_a_value(self.label))

    def refuse_if_streaming(self) -> bool:
        """Fail it if it is known to stream, before its value is waited for; return True if so."""
        incoming = self.incoming
        if self.state is DONE or incoming is None or incoming.is_read:
            return False
        self.refuse_to_wait()
        return True

    def refuse_to_wait(self) -> None:
        """Fail a call that streams because its value is waited for."""
        contact = self.contact
        self.fail(not_a_value(self.label))
        contact.forget_call(self)

    def _asked_for(self) -> BaseException:
        """Return the error, and note that it was asked for."""
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
            raise CallTimeout(f"{self.label} did not answer within {timeout} s; the call goes on.")

    def _drive(self, peer: Maker, timeout: float | None) -> None:
        if (error := deadlock_of(self)) is not None:
            self.cancel()
            raise error
        peer.blocking.drive([self], self.done, None if timeout is None else monotonic() + timeout)

    def fail_in_circle(self, blocking: Blocking) -> None:
        """Fail it if it must be answered by the very thread that is going to wait for it."""
        peer = self._peer
        if peer.blocking is blocking and (error := deadlock_of(self)) is not None:
            self.contact.forget_call(self)
            peer.fail(self, error)

    # ------------------------------------------------------------------------------------------- callbacks

    def add_done_callback(self, fn: Callback, *, context: Context | None = None) -> None:
        """Have `fn(call)` called on the running loop when the call is done.

        If no loop is running, as in plain code, it is called at once in the thread that reads the answer, as in
        `concurrent.futures`.
        """
        try:
            reactor = self._peer.context.reactor
            loop = reactor.loop
            if reactor.is_away or get_ident() != reactor.thread:  # else mob's runs; asking costs a system call
                loop = self._loop_elsewhere()
            self._add(fn, copy_context() if context is None else context, loop)
        except MobError:
            raise
        except BaseException as error:  # noqa: BLE001  reported there
            self._add_after_all(fn, context, error)

    def _add_after_all(self, fn: Callback, context: Context | None, error: BaseException) -> None:
        """Add a callback although something raised meanwhile; otherwise the task that waits would never run again."""
        if not any(entry[0] is fn for entry in self._callbacks):
            loop = asyncio._get_running_loop()
            if loop is None:
                raise error
            self._callbacks.append((fn, copy_context() if context is None else context, loop))
        if self.state is DONE:
            self._run_callbacks()
        told = {"message": f"adding a callback of {self!r} raised", "exception": error}
        self._peer.context.reactor.loop.call_exception_handler(told)

    def when_done(self, fn: Callback) -> None:
        """Have `fn(call)` called at once, by the thread that settles the call; only for mob itself.

        If it raises, it is called again once.
        """
        self._add(fn, None, None)

    def _add(self, fn: Callback, context: Context | None, loop: AbstractEventLoop | None) -> None:
        if self._peer.context.is_abandoned and self.state is not DONE:
            self._peer.context.check_process()
        self._callbacks.append((fn, context, loop))
        if self.state is DONE:  # checked after appending: in any order, it is called, and once
            self._run_callbacks()

    def remove_done_callback(self, fn: Callback) -> int:
        """Remove a callback that `add_done_callback` added; return how many there were."""
        found = [entry for entry in self._callbacks if entry[0] == fn]
        for entry in found:
            self._callbacks.remove(entry)
        if not any(context is not None for _, context, _ in self._callbacks):
            self._peer.blocking.end(self)
        return len(found)

    def get_loop(self) -> AbstractEventLoop:
        """Return the running loop; a call belongs to no loop, so it fits each."""
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
                f"{self.label}: no event loop runs in this thread that could wait for the call. In sync code use "
                f"call.result(); to start a loop for it, use asyncio.run(call)."
            )
        return loop

    def _loop_elsewhere(self) -> AbstractEventLoop | None:
        """Return the loop for a callback that was added by plain code, or in another thread."""
        reactor, running = self._peer.context.reactor, asyncio._get_running_loop()
        if running is None:
            if self.state is not DONE:
                reactor.stand_in.begin_to_wait(self)
            return None
        if self.state is not DONE and running is not reactor.loop:  # a loop that nest_asyncio runs within plain code
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
                    self._peer.handover.give(loop, fn, self, context)  # raises only if nothing was given
            except (IndexError, ValueError) as error:
                if begun is not None:
                    raised = error
                # otherwise another thread was faster
            except BaseException as error:  # noqa: BLE001  raised below, when all have been called
                raised = error
                if fn is not None and begun is not None and loop is None and context is None:
                    with contextlib.suppress(BaseException):
                        fn(self)  # a callback of mob: it reports what it had no time to report
                if begun is None and entry is not None and all(each is not entry for each in callbacks):
                    callbacks.insert(0, entry)
        if raised is not None:
            raise raised

    # -------------------------------------------------------------------------------------------- settling

    def settle(self, value: Any) -> None:
        """End it with a value.

        This is on the hot path, hence without a lock: a call that is cancelled at the same moment counts as cancelled,
        and every callback is popped, so it runs once.
        """
        if self.state is DONE:
            self._run_callbacks()  # none is left, unless an exception was raised when it ended
            return
        self._value = value
        self.state = DONE
        if self._callbacks:
            self._run_callbacks()

    def settle_as_declared(self, body: Raw) -> bool:
        """End it with a value that only its declaration can decode; return True if this call has one."""
        return False

    def fail(self, error: BaseException) -> None:
        """End it with an error."""
        if self.repeats and isinstance(error, CallError) and error.executed == "no":
            error.executed = self.executed("no")
        if self.done_already():
            self._run_callbacks()  # none is left, unless an exception was raised when it ended
            return
        with _ending:
            if self.state is DONE:
                return
            self._guard = _Guard(self.label, error, self._peer.context.unheard)
            self._error = error
            self.state = DONE
        self._run_callbacks()

    def cancel(self, msg: object = None) -> bool:
        """Cancel the call: the worker is asked to cancel it, a waiting one is dropped. Return False if it was done."""
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
    """Return the error for a call that waits for itself: only the waiting thread of this process could answer it."""
    peer = call.peer
    if call.state is not SENT or call.contact.uid != peer.context.uid or type(call.request.target) is not str:
        return None
    return Deadlock(
        f"{call.label}: this process would wait for itself. The call went to the very worker that makes it, and its "
        f"only thread cannot answer while it waits. Use `await` in an async export, or threads=2."
    )


class _Guard:
    """Reports an error that no one asks for; its `__del__` does nothing but append."""

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
