"""Bundles of short tasks: one call for many of them, because a call costs more than they take.

Waiting tasks are bundled if they have the same function and its duration is known: as many as take `SPAN`, but few
enough that all workers get their share. The worker runs them in turn and answers for all. If that takes too long
(`worker.LONGEST`), it answers for those that have run, and the others are sent again.

Each task of a bundle has a number like a call, which the worker notes when it begins the task (`rim.begun`). So if the
worker dies, the tasks that it had begun are lost, and the others go on.

Limits. Tasks of pools with a `timeout`, which counts for each by itself, are not bundled, and neither are those that a
mobster submits: a worker of the pool that waits for them runs them itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from mob.core.states import CallState
from mob.errors import Lost
from mob.peer.calls.options import Options
from mob.peer.calls.taking_back import cancel, may_have_begun
from mob.peer.links.contact import Contact
from mob.peer.results.call import Call
from mob.pools import pickling, worker
from mob.pools.futures import PoolFuture, PoolTask

if TYPE_CHECKING:
    from mob.pools.tasks import Tasks

SPAN = 10_000
"""Microseconds of work in one bundle.

An answer costs the waiting process about 0.25 ms of CPU, most of it because its caches are cold by then: with one task
in a bundle, 2,000 tasks of 1 ms take a third longer.
"""
MOST = 128
"""Maximum number of tasks in one bundle."""
MOST_BYTES = 64 * 1024
"""Bytes of arguments after which a bundle takes no more."""
AHEAD = 3
"""Bundles that are under way, for each worker."""

Futures = Sequence[PoolFuture[Any]]


def most_together(cost: int, waiting: int, workers: int) -> int:
    """Return the number of tasks that may travel together; `cost`: microseconds of one, 0 if unknown.

    >>> most_together(10, 1000, 2), most_together(10, 40, 2), most_together(700, 1000, 2), most_together(0, 1000, 2)
    (128, 10, 14, 1)
    """
    return max(1, min(SPAN // cost, waiting // (2 * max(1, workers)), MOST)) if cost else 1


class Bundle:
    """Tasks of one function that share a call."""

    __slots__ = ("futures", "mark", "numbers", "size", "withdrawn")

    def __init__(self, size: int, mark: int) -> None:
        self.futures: list[PoolFuture[Any]] = []
        self.numbers: list[int] = []
        """The numbers under which the worker notes which ones it has begun."""
        self.size: int = size
        """Bytes of the call."""
        self.mark: int = mark
        """The mark under which the board knows the cost of one task."""
        self.withdrawn: PoolFuture[Any] | None = None
        """The task that is being cancelled, and the call because of it; the others are sent again."""

    def __repr__(self) -> str:
        return f"<Bundle of {len(self.futures)} tasks>"


class Bundles:
    """The bundles of one pool."""

    def __init__(self, tasks: Tasks, wait: float, retries: int) -> None:
        self._tasks = tasks
        self._context = tasks.peer.context
        self._options = Options(wait=wait, retries=0)  # of a bundle; its tasks are repeated one by one
        self._retries = retries
        self._under_way: dict[Call[Any], Bundle] = {}
        self.most_under_way: int | None = None
        """Maximum number of calls under way while the next ones are bundles; otherwise None."""

    def __repr__(self) -> str:
        return f"<Bundles of {self._tasks!r}>"

    # ---------------------------------------------------------------------------------------------- sending

    def send(self, first: PoolFuture[Any], args: Sequence[Any], variant: str) -> bool:
        """Send a task with others that can join it; return False if it must go alone. `args`: those of `worker.run`."""
        number, function, data, buffers, _ = args
        task = first.task
        if task is None or buffers or not variant:
            return False
        tasks = self._tasks
        export = tasks.export_of(worker.run, task, variant)
        workers = max(1, len(export.route.near))
        most = most_together(self._context.cost_of(export.mark), tasks.waiting, workers)
        self.most_under_way = AHEAD * workers if most > 1 else None
        others = tasks.take_waiting(task.function, most - 1) if most > 1 else []
        if not others:
            return False
        bundle, several = Bundle(len(function), export.mark), [data]
        self._add(bundle, first, data)
        self._add_all(bundle, others, several)
        self._call(bundle, task, variant, (number, function, several, bundle.numbers))
        return True

    def _add_all(self, bundle: Bundle, futures: Futures, several: list[bytes]) -> None:
        """Pickle the other tasks, up to one that is so large that it goes alone."""
        for at, future in enumerate(futures):
            task = cast(PoolTask, future.task)
            try:
                data, buffers = pickling.dumps(task.arguments, task.what)
            except Exception as error:  # noqa: BLE001  whatever it is, it is the outcome
                future.set_exception(error)
                self._tasks.retire([future])
                continue
            if buffers or bundle.size > MOST_BYTES:
                self._tasks.put_back(futures[at:])
                return
            self._add(bundle, future, data)
            several.append(data)

    def _add(self, bundle: Bundle, future: PoolFuture[Any], data: bytes) -> None:
        bundle.futures.append(future)
        bundle.numbers.append(next(self._context.call_numbers))
        bundle.size += len(data)

    def _call(self, bundle: Bundle, task: PoolTask, variant: str, args: Sequence[Any]) -> None:
        tasks, futures = self._tasks, bundle.futures
        tasks.charge(bundle.size)
        try:
            export = tasks.export_of(worker.run_several, task, variant, self._options)
            call = tasks.peer.calling.call(export, args, {})
        except Exception as error:  # noqa: BLE001  whatever it is, it is the outcome
            for future in futures:
                future.set_exception(error)
            tasks.handle_call_ended(bundle.size, futures)
            return
        for future in futures:
            future.bundle, future.call = bundle, call
        self._under_way[call] = bundle
        call.when_done(partial(self._handle_done, bundle))

    def may_have_begun(self, bundle: Bundle, future: PoolFuture[Any]) -> bool:
        """Return True if the living worker may have begun one of the tasks; that may change at any moment."""
        board, call = self._context.board, future.call
        if board is None or call is None or call.state is not CallState.SENT:
            return board is None
        number = bundle.numbers[bundle.futures.index(future)]
        return board.begun.may_have_begun(call.contact.uid, self._context.uid, number)

    def withdraw(self, bundle: Bundle, future: PoolFuture[Any]) -> bool:
        """Withdraw one of the tasks, if no worker has begun any of them; return False if it was too late."""
        bundle.withdrawn = future
        if future.call is not None and cancel(self._tasks.peer, future.call):
            self._tasks.retire([future])
            return True
        bundle.withdrawn = None
        return False

    def are_at(self, contact: Contact) -> bool:
        """Return True if a worker has a bundle."""
        return any(call.state is CallState.SENT and call.contact is contact for call in list(self._under_way))

    def take_back(self, contact: Contact) -> None:
        """Send elsewhere what a worker has not begun of the bundles that it runs; on the thread that reads."""
        board = self._context.board
        for call, bundle in list(self._under_way.items()):
            if board is None or call.state is not CallState.SENT or call.contact is not contact:
                continue
            if contact.pending.get(call.request.id) is not call or not may_have_begun(self._tasks.peer, call):
                continue  # it was taken back as a whole
            left = set(board.begun.take_back(contact.uid, self._context.uid, bundle.numbers))
            both = list(zip(bundle.futures, bundle.numbers, strict=True))
            bundle.futures = [future for future, number in both if number not in left]
            bundle.numbers = [number for _, number in both if number not in left]
            self._tasks.send_again([future for future, number in both if number in left])

    # ---------------------------------------------------------------------------------------------- answers

    def _handle_done(self, bundle: Bundle, call: Call[Any]) -> None:
        """Handle the end of the call, on the thread that reads, or on the one that cancelled it."""
        self._under_way.pop(call, None)
        futures, ended = bundle.futures, 0
        if call.cancelled():
            futures = [future for future in futures if future is not bundle.withdrawn]
        elif (error := call.exception()) is not None:
            futures, ended = self._lose(bundle, call, error)
        else:
            answers, seconds = call.result()
            if answers == [worker.SETUP_WANTED]:
                self._tasks.send_setup(call)
            elif answers != [worker.SPENT]:
                if answers and answers[0] == worker.SETUP_FAILED:
                    answers = [answers] * len(futures)
                elif answers and self._context.board is not None:  # as the worker does for a task that it runs alone
                    self._context.board.learn(bundle.mark, seconds / len(answers))
                ended = len(answers)
                for future, answer in zip(futures, answers, strict=False):
                    self._tasks.tell(future, answer)
        again = futures[ended:]
        for future in again:
            future.bundle = future.call = None
        self._tasks.handle_call_ended(bundle.size, futures[:ended], again)

    def _lose(self, bundle: Bundle, call: Call[Any], error: BaseException) -> tuple[list[PoolFuture[Any]], int]:
        """Handle a call without an answer; return the tasks, first those that ended because of it, and their number."""
        ended: list[PoolFuture[Any]] = []
        again: list[PoolFuture[Any]] = []
        for future, number in zip(bundle.futures, bundle.numbers, strict=True):
            if isinstance(error, Lost) and not future.is_killed:
                has_begun = cast(Contact, call.contact).may_have_begun(number)
                if not has_begun or future.losses < self._retries:
                    future.losses += has_begun
                    again.append(future)
                    continue
            future.fail(error)
            ended.append(future)
        return ended + again, len(ended)
