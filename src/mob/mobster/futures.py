"""The other shapes of a `Call`: asyncio takes it for a coroutine, `concurrent.futures` for one of its futures.

A call is a future of asyncio by shape already (`call.py`), so `await`, `gather`, `wait_for`, `shield` and
`as_completed` take it as it is. `create_task`, task groups, `asyncio.run`, `run_coroutine_threadsafe` and anyio's
`start_soon` want a coroutine: an object with `send`, `throw` and `close` is one (`collections.abc.Coroutine`). Any
number of tasks may run one call, so nothing is kept here of how far they are. The price: `asyncio.wait` refuses
whatever `create_task` takes, by one and the same question, and says "use tasks explicitly".

`concurrent.futures.wait` and `as_completed` look at three private attributes of a future, under its condition. A call
has them when they are asked for, and not before, in a `_Shadow` which hears of the end of the call.

Nothing of this is on the way of a call that is awaited or asked for its result.
"""

from __future__ import annotations

from collections.abc import Coroutine
from concurrent.futures._base import CANCELLED_AND_NOTIFIED, FINISHED, PENDING
from threading import Condition, Lock, get_ident
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

if TYPE_CHECKING:
    from mob.mobster.call import Call


T = TypeVar("T")
_making = Lock()

if TYPE_CHECKING:

    class Shown(Coroutine[Any, Any, T]):
        """What type checkers take a call for."""
else:

    class Shown(Generic[T]):
        """What type checkers take for a coroutine; it is one by its methods, without the price of an abstract class."""

        __slots__ = ()


class Shapes:
    """The base of `Call`: its other shapes."""

    __slots__ = ()

    # ------------------------------------------------------------------------------------------- as a coroutine

    @property
    def __name__(self) -> str:
        """What tasks and tracebacks show."""
        return cast("Call[Any]", self).label

    def send(self, value: object) -> Any:
        """For the task that runs the call as a coroutine: what it is to wait for, or `StopIteration` with the value."""
        call = cast("Call[Any]", self)
        try:
            for waited in call.__await__():  # one step of it
                return waited
            raise StopIteration(call.result())
        finally:
            del self, call

    def throw(self, kind: Any, error: Any = None, tb: TracebackType | None = None) -> Any:
        """For the task that runs the call as a coroutine: it has been cancelled, or the call has failed."""
        if isinstance(kind, BaseException):
            raise kind.with_traceback(tb) if tb is not None else kind
        raise (kind() if error is None else error if isinstance(error, BaseException) else kind(error))

    def close(self) -> None:
        """Gives the call up, as `cancel` does."""
        cast("Call[Any]", self).cancel()

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
        reactor = call.peer.reactor
        if get_ident() == reactor.thread and not reactor.is_away and not call.done():
            raise RuntimeError(
                f"{call.label}: concurrent.futures would block the only thread that can read the answer. Use "
                f"mob.wait(calls) or mob.as_completed(calls), which take the same arguments."
            )
        with _making:
            shadow: Shadow | None = getattr(call, "shadow", None)
            is_new = shadow is None
            if shadow is None:
                shadow = call.shadow = Shadow()
        if is_new:
            call.refuse_if_streaming()
            call.peer.begin_to_wait(call)  # until it is done: how long somebody waits is not known
            call.when_done(shadow.handle_done)
        return shadow


class Shadow:
    """A call as `concurrent.futures.wait` sees it: its state changes under the condition only."""

    __slots__ = ("condition", "state", "waiters")

    def __init__(self) -> None:
        self.condition = Condition()
        self.state = PENDING
        self.waiters: list[Any] = []

    def __repr__(self) -> str:
        return f"<Shadow {self.state}, {len(self.waiters)} wait>"

    def handle_done(self, call: Call[Any]) -> None:
        """The call has ended."""
        call.peer.end_to_wait(call)
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
