"""The future of a task: one of `concurrent.futures`, which knows where its task is.

It is running when a worker has begun it; until then it can be cancelled.

Most of a burst of futures end before anybody waits for them. So the condition of one, which takes longer to make than
all the rest of it, is made when it is first asked for.

In a mobster the thread that waits may be the one that reads the answers. There, waiting reads the links by hand, as
waiting for a `Call` does; and in a worker of the very pool it runs the tasks that no worker has been asked for
(`Tasks.run_here`). `concurrent.futures.wait` and `as_completed` block on an event of their own; `TaskWaiters`
exchanges it, before anybody waits for it, for one that does the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, Future
from concurrent.futures._base import FINISHED, PENDING, RUNNING
from threading import Condition, Event, Lock
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from mob.errors import Lost, Unavailable
from mob.pools.pickling import name_of

if TYPE_CHECKING:
    from mob.peer.results.call import Call
    from mob.pools.bundles import Bundle
    from mob.pools.tasks import Tasks

T = TypeVar("T")
_making = Lock()
"""Held while the condition of a future is made, or it ends without one."""


class PoolTask(NamedTuple):
    """What is to be run."""

    function: Any
    arguments: Any
    """Positional and named arguments, a pair; or the items of a map, a list."""
    is_items: bool = False
    is_spread: bool = False
    """Whether an item is a tuple of arguments."""

    @property
    def what(self) -> str:
        """What its arguments are called where they cannot be sent."""
        return "the items" if self.is_items else f"the arguments of {name_of(self.function)}"

    def parts(self) -> Iterator[tuple[str, Any]]:
        """Yield the arguments, each with what leads to it."""
        if self.is_items:
            yield from (("an item", item) for item in self.arguments)
        else:
            yield from ((f"args[{at}]", value) for at, value in enumerate(self.arguments[0]))
            yield from self.arguments[1].items()


class PoolFuture(Future[T]):
    """What `Pool.submit` returns: a `concurrent.futures.Future`.

    >>> future = pool.submit(pow, 2, 10)       # doctest: +SKIP
    >>> future.result(timeout=5)               # doctest: +SKIP
    1024
    """

    def __init__(self, tasks: Tasks, task: PoolTask) -> None:
        self._state: str = PENDING  # in the place of the base's own
        self._result: Any = None
        self._exception: BaseException | None = None
        self._waiters: list[Any] = TaskWaiters(self, tasks) if tasks.is_inside else []
        self._done_callbacks: list[Any] = []
        self._made: Condition | None = None
        self._tasks = tasks
        self.task: PoolTask | None = task
        """What is to be run; None when it has ended."""
        self.is_items: bool = task.is_items
        self.call: Call[Any] | None = None
        """The call by which a worker was asked for it."""
        self.bundle: Bundle | None = None
        """The tasks that it travels with, if it does not travel alone."""
        self.losses: int = 0
        """How many workers have died that had begun it, while it travelled with others."""
        self.is_killed: bool = False
        """Whether its worker is killed because of it."""
        self.is_unbegun: bool = False
        """Whether it was killed before it began."""
        self.verdict: BaseException | None = None
        """What it ends with then, if not with `Lost`."""

    if not TYPE_CHECKING:  # to them it is an attribute, as of the base

        @property
        def _condition(self) -> Condition:
            with _making:
                if self._made is None:
                    self._made = Condition()
                return self._made

    def set_result(self, result: T) -> None:
        """Say what the task has returned."""
        with _making:
            is_unwatched = self._made is None and self._state == PENDING
            if is_unwatched:
                self._result, self._state = result, FINISHED
        if not is_unwatched:
            super().set_result(result)

    def done(self) -> bool:
        """Return whether it was cancelled or has ended."""
        return self._state not in (PENDING, RUNNING)

    @property
    def label(self) -> str:
        """As people read it."""
        return "a task" if self.task is None else name_of(self.task.function)

    def running(self) -> bool:
        """Return whether a worker has begun it and it has not ended."""
        return self._state == PENDING and self._tasks.may_have_begun(self)

    def cancel(self) -> bool:
        """Give the task up if no worker has begun it; return if it is cancelled. `Pool.kill` ends one that runs."""
        if self._state == PENDING and self._tasks.withdraw(self) and super().cancel():
            self.set_running_or_notify_cancel()
        return self.cancelled()

    def result(self, timeout: float | None = None) -> T:
        """Return what the task has returned, or raise what it has raised; wait for it `timeout` seconds at most.

        `TimeoutError` if it has not ended by then, `CancelledError` if it was cancelled, `mob.Lost` if its worker died.
        """
        try:
            if self._state == PENDING and self._tasks.is_inside:
                self._wait(timeout)
            if self._state == FINISHED and self._exception is None:
                return self._result
            return super().result(timeout)
        finally:
            del self  # else an error, its traceback and this frame make a circle

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return what the task has raised, or None; wait as `result` does."""
        if self._state == PENDING and self._tasks.is_inside:
            self._wait(timeout)
        return super().exception(timeout)

    def _wait(self, timeout: float | None) -> None:
        event = HelpingEvent(self._tasks)
        event.futures.append(self)
        self.add_done_callback(lambda _: event.set())
        event.wait(timeout)

    def fail_unbegun(self, label: str) -> None:
        """It was killed, and had not begun although it was sent to a worker. `label`: as people read it."""
        if not self.done():
            self.is_unbegun = True
            self.fail(Lost(f"{label} was killed before it began.", executed="no"))

    def fail(self, error: BaseException) -> None:
        """Its call has ended without an answer."""
        if self.is_killed and isinstance(error, Lost) and error.executed == "no":
            error = Lost(f"{self.label} was killed before it began.", executed="no")
        elif isinstance(error, Unavailable):  # programs expect this of an executor that can do no more
            error, cause = BrokenExecutor(f"the pool has no worker: {error}"), error
            error.__cause__ = cause
        self.set_exception(error if self.verdict is None else self.verdict)


class TaskWaiters(list[Any]):
    """What waits for a future in `concurrent.futures`: objects whose `event` is set when they have what they need."""

    __slots__ = ("_future", "_tasks")

    def __init__(self, future: PoolFuture[Any], tasks: Tasks) -> None:
        super().__init__()
        self._future = future
        self._tasks = tasks

    def append(self, waiter: Any) -> None:
        """Add one that is going to wait in this thread; the conditions of all that it waits for are held."""
        if not isinstance(waiter.event, HelpingEvent):
            waiter.event = HelpingEvent(self._tasks)
        waiter.event.futures.append(self._future)
        super().append(waiter)


class HelpingEvent(Event):
    """An event for which a thread of a mobster waits."""

    def __init__(self, tasks: Tasks) -> None:
        super().__init__()
        self.futures: list[PoolFuture[Any]] = []
        """Those that set it when they end."""
        self._tasks = tasks

    def set(self) -> None:
        """Set it, from any thread."""
        super().set()
        reactor = self._tasks.peer.context.reactor
        if not reactor.is_mine:
            reactor.wake()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set; False if it was not within `timeout` seconds."""
        until = None if timeout is None else monotonic() + timeout
        if self._tasks.is_nested:
            for future in self.futures:
                if self.is_set() or (until is not None and monotonic() >= until):
                    break
                self._tasks.run_here(future)
        left = None if until is None else max(0.0, until - monotonic())
        peer = self._tasks.peer
        reactor = peer.context.reactor
        if self.is_set() or not reactor.is_mine:
            reactor.stand_in.begin_to_wait(self)
            try:
                return super().wait(left)
            finally:
                reactor.waiters.discard(self)
        calls = [future.call for future in self.futures if future.call is not None and not future.done()]
        return peer.blocking.drive_all(calls, self.is_set, left)
