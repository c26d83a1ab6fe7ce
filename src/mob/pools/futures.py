"""The future of a task: one of `concurrent.futures`, which knows where its task is.

It is running once a worker has begun it; until then it can be cancelled.

Most futures of a burst end before anyone waits for them. So the condition of a future, which takes longer to make than
all the rest of it, is made at first use.

In a mobster the thread that waits may be the one that reads the answers. There, waiting reads the links itself, as
waiting for a `Call` does; and in a worker of the same pool it runs the tasks that no worker has been asked for
(`Tasks.run_here`). `concurrent.futures.wait` and `as_completed` block on an event of their own; `TaskWaiters` replaces
it, before it is waited for, with one that does the same.
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
"""Held while the condition of a future is made, or while it ends without one."""


class PoolTask(NamedTuple):
    """The function to run, with its arguments."""

    function: Any
    arguments: Any
    """A pair of positional and named arguments, or the list of items of a map."""
    is_items: bool = False
    is_spread: bool = False
    """True if an item is a tuple of arguments."""

    @property
    def what(self) -> str:
        """The name of its arguments in the error if they cannot be sent."""
        return "the items" if self.is_items else f"the arguments of {name_of(self.function)}"

    def parts(self) -> Iterator[tuple[str, Any]]:
        """Yield the arguments, each with the expression that leads to it."""
        if self.is_items:
            yield from (("an item", item) for item in self.arguments)
        else:
            yield from ((f"args[{at}]", value) for at, value in enumerate(self.arguments[0]))
            yield from self.arguments[1].items()


class PoolFuture(Future[T]):
    """The result of `Pool.submit`: a `concurrent.futures.Future`.

    >>> future = pool.submit(pow, 2, 10)       # doctest: +SKIP
    >>> future.result(timeout=5)               # doctest: +SKIP
    1024
    """

    def __init__(self, tasks: Tasks, task: PoolTask) -> None:
        self._state: str = PENDING  # replaces the attribute of the base class
        self._result: Any = None
        self._exception: BaseException | None = None
        self._waiters: list[Any] = TaskWaiters(self, tasks) if tasks.is_inside else []
        self._done_callbacks: list[Any] = []
        self._made: Condition | None = None
        self._tasks = tasks
        self.task: PoolTask | None = task
        """The task; None when it has ended."""
        self.is_items: bool = task.is_items
        self.call: Call[Any] | None = None
        """The call that sent it to a worker."""
        self.bundle: Bundle | None = None
        """The tasks that it travels with, if it does not travel alone."""
        self.losses: int = 0
        """Number of workers that died after they began it, while it travelled with others."""
        self.is_killed: bool = False
        """True if its worker is killed because of it."""
        self.is_unbegun: bool = False
        """True if it was killed before it began."""
        self.verdict: BaseException | None = None
        """The error with which it ends in that case; None: `Lost`."""

    if not TYPE_CHECKING:  # for type checkers it is an attribute, as in the base class

        @property
        def _condition(self) -> Condition:
            with _making:
                if self._made is None:
                    self._made = Condition()
                return self._made

    def set_result(self, result: T) -> None:
        """Set the value that the task returned."""
        with _making:
            is_unwatched = self._made is None and self._state == PENDING
            if is_unwatched:
                self._result, self._state = result, FINISHED
        if not is_unwatched:
            super().set_result(result)

    def done(self) -> bool:
        """Return True if it was cancelled or has ended."""
        return self._state not in (PENDING, RUNNING)

    @property
    def label(self) -> str:
        """Its name for people."""
        return "a task" if self.task is None else name_of(self.task.function)

    def running(self) -> bool:
        """Return True if a worker has begun it and it has not ended."""
        return self._state == PENDING and self._tasks.may_have_begun(self)

    def cancel(self) -> bool:
        """Cancel the task if no worker has begun it; return True if it is cancelled.

        `Pool.kill` ends a running task.
        """
        if self._state == PENDING and self._tasks.withdraw(self) and super().cancel():
            self.set_running_or_notify_cancel()
        return self.cancelled()

    def result(self, timeout: float | None = None) -> T:
        """Return the value that the task returned, or raise the error that it raised.

        Args:
            timeout: Seconds to wait. Default: None, no limit.

        Raises:
            TimeoutError: The task did not end within `timeout` seconds.
            CancelledError: The task was cancelled.
            mob.Lost: Its worker died.
        """
        try:
            if self._state == PENDING and self._tasks.is_inside:
                self._wait(timeout)
            if self._state == FINISHED and self._exception is None:
                return self._result
            return super().result(timeout)
        finally:
            del self  # otherwise an error, its traceback and this frame form a cycle

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return the error that the task raised, or None; wait as `result` does."""
        if self._state == PENDING and self._tasks.is_inside:
            self._wait(timeout)
        return super().exception(timeout)

    def _wait(self, timeout: float | None) -> None:
        event = HelpingEvent(self._tasks)
        event.futures.append(self)
        self.add_done_callback(lambda _: event.set())
        event.wait(timeout)

    def fail_unbegun(self, label: str) -> None:
        """Fail it because it was killed before it began, although a worker had it; `label`: its name for people."""
        if not self.done():
            self.is_unbegun = True
            self.fail(Lost(f"{label} was killed before it began.", executed="no"))

    def fail(self, error: BaseException) -> None:
        """Fail it because its call ended without an answer."""
        if self.is_killed and isinstance(error, Lost) and error.executed == "no":
            error = Lost(f"{self.label} was killed before it began.", executed="no")
        elif isinstance(error, Unavailable):  # programs expect this of an executor that cannot go on
            error, cause = BrokenExecutor(f"the pool has no worker: {error}"), error
            error.__cause__ = cause
        self.set_exception(error if self.verdict is None else self.verdict)


class TaskWaiters(list[Any]):
    """The waiters of `concurrent.futures` for a future: objects whose `event` is set when they have what they need."""

    __slots__ = ("_future", "_tasks")

    def __init__(self, future: PoolFuture[Any], tasks: Tasks) -> None:
        super().__init__()
        self._future = future
        self._tasks = tasks

    def append(self, waiter: Any) -> None:
        """Add a waiter for this thread; the conditions of all futures that it waits for are held."""
        if not isinstance(waiter.event, HelpingEvent):
            waiter.event = HelpingEvent(self._tasks)
        waiter.event.futures.append(self._future)
        super().append(waiter)


class HelpingEvent(Event):
    """An event on which a thread of a mobster waits."""

    def __init__(self, tasks: Tasks) -> None:
        super().__init__()
        self.futures: list[PoolFuture[Any]] = []
        """The futures that set it when they end."""
        self._tasks = tasks

    def set(self) -> None:
        """Set it, from any thread."""
        super().set()
        reactor = self._tasks.peer.context.reactor
        if not reactor.is_mine:
            reactor.wake()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set; return False if it was not within `timeout` seconds."""
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
