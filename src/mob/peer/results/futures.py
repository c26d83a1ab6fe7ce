"""The other shapes of a `Call`: a coroutine for asyncio, and a future for `concurrent.futures`.

A call already has the shape of an asyncio future (`call.py`), so `await`, `gather`, `wait_for`, `shield` and
`as_completed` take it as it is; `gather` uses two private attributes of a cancelled one. `create_task`, task groups,
`asyncio.run`, `run_coroutine_threadsafe` and anyio's `start_soon` need a coroutine: an object with `send`, `throw` and
`close` (`collections.abc.Coroutine`). Any number of tasks may run one call, so their progress is not kept here. The
price: `asyncio.wait` refuses everything that `create_task` takes, by the same test, and says "use tasks explicitly".

`concurrent.futures.wait` and `as_completed` use three private attributes of a future, under its condition. A call
creates them when they are first used, in a `Shadow` that is notified of the end of the call. They block on an event of
their own, which would be forever on the thread that reads the answers. So `Waiters` replaces that event, before it is
waited for, with one whose `wait` drives the links itself meanwhile, as `call.result()` does.

None of this affects a call that is awaited or asked for its result.
"""

from __future__ import annotations

import os
import weakref
from asyncio import CancelledError
from collections.abc import Coroutine
from concurrent.futures._base import CANCELLED_AND_NOTIFIED, FINISHED, PENDING
from threading import Condition, Event, Lock
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

if TYPE_CHECKING:
    from mob.peer.results.call import Call
    from mob.peer.results.maker import Maker

T = TypeVar("T")
_making = Lock()


def _renew_lock() -> None:
    """Make a new lock in a forked child, because a thread that no longer exists may have held the old one."""
    global _making
    _making = Lock()


os.register_at_fork(after_in_child=_renew_lock)

if TYPE_CHECKING:

    class Shown(Coroutine[Any, Any, T]):
        """The base of a call for type checkers."""
else:

    class Shown(Generic[T]):
        """A coroutine for type checkers; its methods make it one, without the cost of an abstract class."""

        __slots__ = ()


class Shapes:
    """The base of `Call`: its other shapes."""

    __slots__ = ()

    # ------------------------------------------------------------------------------------------- as a coroutine

    @property
    def __name__(self) -> str:
        """The name that tasks and tracebacks show."""
        return cast("Call[Any]", self).label

    def send(self, value: object) -> Any:
        """Return what the task that runs the call must wait for, or raise `StopIteration` with the value."""
        call = cast("Call[Any]", self)
        try:
            for waited in call.__await__():  # one step of it
                return waited
            raise StopIteration(call.result())
        finally:
            del self, call

    def throw(self, kind: Any, error: Any = None, tb: TracebackType | None = None) -> Any:
        """Raise the error of the task that runs the call: it was cancelled, or the call failed."""
        if isinstance(kind, BaseException):
            raise kind.with_traceback(tb) if tb is not None else kind
        raise (kind() if error is None else error if isinstance(error, BaseException) else kind(error))

    def close(self) -> None:
        """Cancel the call."""
        cast("Call[Any]", self).cancel()

    # -------------------------------------------------------------------------------- as a future of asyncio

    @property
    def _cancel_message(self) -> None:
        """The text that `asyncio.gather` reads from a cancelled future; a call keeps no text."""
        return None

    def _make_cancelled_error(self) -> CancelledError:
        """Return the error that `asyncio.gather` raises for a cancelled future."""
        return CancelledError()

    # ---------------------------------------------------------------------------------- as a concurrent future

    @property
    def _condition(self) -> Condition:
        return self._shadow_of().condition

    @property
    def _state(self) -> str:
        return self._shadow_of().state

    @property
    def _waiters(self) -> list[Any]:
        return self._shadow_of().waiters

    def _shadow_of(self) -> Shadow:
        call = cast("Call[Any]", self)
        with _making:
            shadow = call.shadow
            is_new = shadow is None
            if shadow is None:
                shadow = call.shadow = Shadow(call)
        if is_new:
            call.refuse_if_streaming()
            call.when_done(shadow.handle_done)
        return shadow


class Shadow:
    """A call as `concurrent.futures.wait` sees it: its state changes under the condition only."""

    __slots__ = ("condition", "state", "waiters")

    def __init__(self, call: Call[Any]) -> None:
        self.condition: Condition = Condition()
        self.state: str = PENDING
        self.waiters: Waiters = Waiters(call)

    def __repr__(self) -> str:
        return f"<Shadow {self.state}, {len(self.waiters)} wait>"

    def handle_done(self, call: Call[Any]) -> None:
        """Note the end of the call, and notify the waiters."""
        with self.condition:
            self.state = CANCELLED_AND_NOTIFIED if call.cancelled() else FINISHED
            for waiter in self.waiters:
                if call.cancelled():
                    waiter.add_cancelled(call)
                elif call.has_failed:
                    waiter.add_exception(call)
                else:
                    waiter.add_result(call)
            self.condition.notify_all()


class Waiters(list[Any]):
    """The waiters of `concurrent.futures` for a call: objects whose `event` is set when they have what they need."""

    __slots__ = ("_call", "_reactor", "_token")

    def __init__(self, call: Call[Any]) -> None:
        super().__init__()
        self._call = weakref.ref(call)
        self._reactor = call.peer.context.reactor
        self._token = object()  # represents this object among the waiters outside the loop

    def append(self, waiter: Any) -> None:
        """Add a waiter for this thread; the conditions of all futures that it waits for are held."""
        call = self._call()
        if call is not None and self._reactor.is_mine:
            if not isinstance(waiter.event, Driven):
                waiter.event = Driven(call.peer)
            waiter.event.calls.append(call)
        else:
            self._reactor.stand_in.begin_to_wait(self._token)
        super().append(waiter)

    def remove(self, waiter: Any) -> None:
        """Remove a waiter."""
        super().remove(waiter)
        if not self:
            self._reactor.waiters.discard(self._token)


class Driven(Event):
    """An event whose `wait`, on the thread of a reactor, reads and writes links itself meanwhile."""

    def __init__(self, peer: Maker) -> None:
        super().__init__()
        self.calls: list[Call[Any]] = []
        """The calls that set it when they end."""
        self._peer = peer

    def set(self) -> None:
        """Set it, from any thread: futures of executors end in their own threads."""
        super().set()
        if not self._peer.context.reactor.is_mine:
            self._peer.context.reactor.wake()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set; return False if it was not within `timeout` seconds."""
        peer = self._peer
        if self.is_set() or not peer.context.reactor.is_mine:
            return super().wait(timeout)
        return peer.blocking.drive_all([call for call in self.calls if not call.done()], self.is_set, timeout)
