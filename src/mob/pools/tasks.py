"""The tasks of one pool: those that wait in this process, and those that were sent to workers.

Strategy. A task is pickled when it is sent. Enough tasks are sent to keep the workers busy (`WINDOW`, `WINDOW_BYTES`);
the others wait here as they were submitted, which takes no memory for their arguments. Each answer sends the next ones.
mob chooses the worker for a task, as for any call; a task that waits there for too long is taken back (`stalls`). Short
tasks travel together (`bundles`).

A task that waits for tasks of its own pool (nested) blocks a worker meanwhile. It runs the tasks itself that no worker
has begun, so there is no deadlock.

Limits. Any thread may submit; answers arrive on the thread that reads the links.
"""

from __future__ import annotations

import os
import secrets
import sys
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor
from functools import partial
from threading import Condition, get_ident
from typing import Any, cast

import msgspec

from mob.core.states import CallState
from mob.errors import Lost, RemoteTraceback, WrongProcess
from mob.peer.calls.killing import kill
from mob.peer.calls.options import Options
from mob.peer.calls.outgoing import Outgoing
from mob.peer.calls.proxy import RemoteExport
from mob.peer.calls.taking_back import cancel, may_have_begun
from mob.peer.links.contact import Contact
from mob.peer.results.call import Call
from mob.pools import pickling, worker
from mob.pools.bundles import Bundles
from mob.pools.futures import PoolFuture, PoolTask
from mob.pools.limit import RunLimit, TimedCall
from mob.pools.pickling import FunctionPickles, Pickled, name_of
from mob.pools.stalls import Stalls
from mob.wire import failures
from mob.wire.binary import Given
from mob.wire.messages import VARIANT

AT_ONCE = 16
"""Number of tasks that `submit` sends itself. Later ones are sent as answers arrive, many in one message."""
WINDOW = 128
"""Maximum number of calls that are sent and unanswered; the other tasks wait in this process, unpickled."""
WINDOW_BYTES = 64 * 1024 * 1024
"""Maximum number of bytes of their arguments; one task may have more."""
MOST_EXPORTS = 1024
"""Maximum number of functions whose way to be called is kept."""
MOST_DEATHS = 3
"""Number of workers in a row that may die in the initializer before the pool is broken."""
WAIT = 3600.0
"""Seconds that a task waits for a worker while none is ready, as during a restart of all."""


class Tasks:
    """The tasks of one pool."""

    def __init__(
        self, peer: Outgoing, role: str, setup: worker.Setup, retries: int = 0, timeout: float | None = None
    ) -> None:
        self.peer = peer
        self.role = role
        self.number: int = secrets.randbits(63)
        """Random number by which a worker recognizes this pool; other processes cannot guess it."""
        self._setup = setup
        self._pickled_setup: Pickled | None = None
        self._options = Options(wait=WAIT, retries=retries)
        self._may_repeat = retries > 0  # then a second worker must get the original arguments
        self._exports: dict[str, RemoteExport] = {}  # exports to call, by target and name
        self.is_inside: bool = bool(peer.context.role)
        """True if this process is a mobster."""
        self.is_nested: bool = peer.context.role == role
        """True if this process is a worker of this pool."""
        self._limit = None if timeout is None else RunLimit(peer, timeout, self.kill)
        self._bundles = Bundles(self, WAIT, retries) if timeout is None and not self.is_inside else None
        self._stalls = None if self.is_nested else Stalls(peer, role, self._bundles)
        self._functions = FunctionPickles()
        self._changed = Condition()
        self._waiting: deque[PoolFuture[Any]] = deque()
        self._pending: set[PoolFuture[Any]] = set()
        self._senders: set[int] = set()  # the threads that are sending what waits
        self._deaths = 0
        self._has_answer = False  # True once a worker has answered
        self._sent = 0
        self._sent_bytes = 0
        self.used: set[int] = set()
        """The uids of the workers that answered a call."""
        self._set_up: dict[int, int] = {}  # by uid, the call that set up a worker; the worker turns down earlier calls
        self._then: Callable[[], None] | None = None
        self.broken: BaseException | None = None
        """The reason why no more tasks can run."""

    def __repr__(self) -> str:
        return f"<Tasks of {self.role!r}: {len(self._pending)} pending, {len(self._waiting)} of them unsent>"

    @property
    def pending(self) -> list[PoolFuture[Any]]:
        """The futures of tasks that have not ended."""
        return list(self._pending)

    # ---------------------------------------------------------------------------------------------- sending

    def submit(self, future: PoolFuture[Any]) -> None:
        """Submit a task; its future receives the outcome.

        `BrokenExecutor` if no more tasks can run, `WrongProcess` or `NotInMobster` in a forked child.
        """
        if self.peer.context.is_abandoned:
            self._refuse_in_child()
        if self.broken is not None:
            raise broken(self.broken)
        with self._changed:
            self._pending.add(future)
            if self._waiting or self._sent >= AT_ONCE or not self._has_room():
                self._waiting.append(future)
                return
            self._sent += 1
        self._send(future)

    def _refuse_in_child(self) -> None:
        context = self.peer.context
        if self._setup.directory is None:  # a role of an app, which its user knows
            context.check_process()
        raise WrongProcess(
            f"this pool belongs to process {context.pid}, and this is process {os.getpid()}, which was forked later. "
            f"Make a new mob.Pool in this process."
        )

    def _has_room(self) -> bool:
        if not self._has_answer:  # the first worker must be set up before other tasks arrive
            return not self._sent
        most = None if self._bundles is None else self._bundles.most_under_way
        return self._sent < (most or WINDOW) and self._sent_bytes < WINDOW_BYTES

    def _send_more(self) -> None:
        own = get_ident()
        if not self._waiting or own in self._senders:  # the loop below, whose call ended at once, goes on
            return
        self._senders.add(own)
        try:
            while self._waiting:
                with self._changed:
                    if not self._waiting or not self._has_room():
                        return
                    future = self._waiting.popleft()
                    self._sent += 1
                self._send(future)
        finally:
            self._senders.discard(own)

    def _send(self, future: PoolFuture[Any]) -> None:
        """Pickle a task and call a worker; it is already counted as sent."""
        task = future.task
        if future.is_killed:
            future.fail_unbegun(future.label)
        if task is None or future.done():  # given up meanwhile
            self._forget(future, 0)
            return
        try:
            if self.broken is not None:
                raise broken(self.broken)
            args, variant = self._pickled(task, gives=not self._may_repeat)
            if self._bundles and self._waiting and not task.is_items and self._bundles.send(future, args, variant):
                return
            size = len(args[1]) + len(args[2]) + sum(each.nbytes for each in args[3])
            export = self.export_of(worker.run_items if task.is_items else worker.run, task, variant)
            call = self.peer.calling.call(export, args if args[3] or task.is_items else args[:3], {})
        except Exception as error:  # noqa: BLE001  whatever it is, it is the outcome
            self._end(future, partial(future.set_exception, error), 0)
            return
        self.charge(size)
        future.call = call
        if self._limit is not None:
            self._limit.watch(future, cast(TimedCall, call))
        call.when_done(partial(self._handle_done, future, size))

    def _pickled(self, task: PoolTask, gives: bool) -> tuple[tuple[Any, ...], str]:
        """Return the arguments of `worker.run`, or of `run_items`, and the variant of the export for the function.

        `gives`: the receiver may write into large buffers.
        """
        function, buffers, variant = self._functions.dumps(task.function)
        split = len(buffers)
        data, more = pickling.dumps(task.arguments, task.what, task.parts)
        buffers = buffers + more
        args = self.number, function, data, list(map(Given, buffers)) if gives else buffers, split
        return (*args, task.is_spread) if task.is_items else args, variant

    def export_of(
        self, function: Callable[..., Any], task: PoolTask, variant: str, options: Options | None = None
    ) -> RemoteExport:
        """Return the export to call for a task: a function of `worker`, in a variant for each function of the user.

        There are variants because the cost of one function says nothing about others. `options` replaces those of
        single tasks.
        """
        name = function.__name__
        target = f"{name}{VARIANT}{variant}" if variant else name
        known_as = target if variant else f"{target} {name_of(task.function)}"
        export = self._exports.get(known_as)
        if export is None:
            if len(self._exports) >= MOST_EXPORTS:
                self._exports.clear()
            export = RemoteExport(self.peer, self.role, target, options or self._options)
            self._exports[known_as] = export
            export.new_call, export.only_idle = Call if self._limit is None else TimedCall, self.is_nested
            export.label = name_of(task.function)
        if variant:
            export.route.add_variant(target, name)
        return export

    @property
    def waiting(self) -> int:
        """Number of tasks that wait in this process."""
        return len(self._waiting)

    def take_waiting(self, function: Any, most: int) -> list[PoolFuture[Any]]:
        """Remove and return the tasks at the front of the queue that call this function."""
        taken: list[PoolFuture[Any]] = []
        with self._changed:
            while len(taken) < most and self._waiting:
                task = self._waiting[0].task
                if task is None or task.is_items or task.function is not function:
                    break
                taken.append(self._waiting.popleft())
        return taken

    def put_back(self, futures: Sequence[PoolFuture[Any]]) -> None:
        """Put tasks back at the front of the queue."""
        with self._changed:
            self._waiting.extendleft(reversed(futures))

    def send_again(self, futures: Sequence[PoolFuture[Any]]) -> None:
        """Send tasks again that a worker has and will not begin."""
        for future in futures:
            future.bundle = future.call = None
        self.put_back(futures)
        self._send_more()

    def charge(self, size: int) -> None:
        """Count the bytes that were sent, and watch for stalls."""
        with self._changed:
            self._sent_bytes += size
        if self._stalls is not None and not self._stalls.is_watching:
            self._stalls.watch()

    # --------------------------------------------------------------------------------------------- answers

    def _handle_done(self, future: PoolFuture[Any], size: int, call: Call[Any]) -> None:
        """Handle the end of a call, on the thread that reads, or on the one that cancelled it."""
        if call.cancelled():
            self._forget(future, size)
            return
        self._has_answer = True
        error = call.exception()
        contact = contact_of(call)
        if contact is not None:
            self.used.add(contact.uid)
            if self._limit is not None:
                self._limit.handle_answer(contact.uid)
        if error is not None:
            self._end(future, partial(future.fail, error), size)
            return
        answer: worker.TaskAnswer = call.result()
        if isinstance(answer, list) and answer[0] in (worker.SETUP_WANTED, worker.SPENT):
            if answer[0] == worker.SETUP_WANTED:
                self.send_setup(call)
            self._send_again(future, size)
            return
        self.tell(future, answer)
        self._forget(future, size)

    def tell(self, future: PoolFuture[Any], answer: worker.TaskAnswer) -> None:
        """Set the outcome of a future, which may have been cancelled or timed out."""
        if future.done():
            return
        try:
            if type(answer) is bytes:  # by far the most common case
                future.set_result(pickling.loads(answer, ()))
                return
            outcome = self._outcome_of(future, answer)
        except BaseException as failure:  # noqa: BLE001  whatever unpickling raises
            failure.add_note(f"This was raised in process {os.getpid()} while unpickling the result of {future.label}.")
            outcome = partial(future.set_exception, failure)
        outcome()

    def _outcome_of(self, future: PoolFuture[Any], answer: worker.TaskAnswer) -> Callable[[], None]:
        """Return a function that sets the outcome of a future."""
        if isinstance(answer, list) and answer[0] == worker.SETUP_FAILED:
            self.broken = error_in(answer)
            self._break()
            return partial(future.set_exception, broken(self.broken))
        if isinstance(answer, list) and answer[0] == worker.RAISED:
            return partial(future.set_exception, error_in(answer))
        if isinstance(answer, list) and answer[0] == worker.DESCRIBED:
            failure = msgspec.msgpack.decode(answer[1], type=failures.Failure)
            return partial(future.set_exception, failures.rebuild(failure, self.peer.encoder.codec))
        if future.is_items:
            return partial(future.set_result, answer)  # the reader unpickles the results in it
        return partial(future.set_result, value_in(answer))

    def _send_again(self, future: PoolFuture[Any], size: int) -> None:
        """Send a task again that a worker did not begin: it does not know this pool yet, or has run its last task."""
        with self._changed:
            self._sent_bytes -= size
        self._send(future)
        self._send_more()

    def send_setup(self, call: Call[Any]) -> None:
        """Set up the worker of a call for this pool before its first task."""
        try:
            setup = self.number, *self._encoded_setup(), self._authkey()
            to, name = cast(Contact, call.contact), worker.set_up.__name__
            set_up = self.peer.calling.call_one(to, f"{self.role}.{name}", name, setup, {})
            self._set_up.setdefault(to.uid, set_up.request.id)
            set_up.when_done(self._handle_set_up)
        except Exception as error:  # noqa: BLE001  it could not be sent, and never can be
            self.broken = error
            self._break()

    def _handle_set_up(self, call: Call[Any]) -> None:
        """Handle the answer to a set-up: done, or the worker died. Other failures are reported by the next task."""
        error = None if call.cancelled() else call.exception()
        self._deaths = self._deaths + 1 if isinstance(error, Lost) and error.executed != "no" else 0
        if self._deaths >= MOST_DEATHS and error is not None:
            self.broken = error
            self._break()

    def _encoded_setup(self) -> Pickled:
        if self._pickled_setup is None:
            self._pickled_setup = pickling.dumps(tuple(self._setup), "the initializer of the pool")
        return self._pickled_setup

    def _authkey(self) -> bytes | None:
        """Return the authkey of multiprocessing here, if that is in use and the workers are this pool's own."""
        process = sys.modules.get("multiprocessing.process")
        return None if process is None or self._setup.directory is None else bytes(process.current_process().authkey)

    # ------------------------------------------------------------------------------------------------ ends

    def _end(self, future: PoolFuture[Any], tell: Callable[[], None], size: int) -> None:
        if not future.done():  # it may have been cancelled or timed out
            tell()
        self._forget(future, size)

    def _forget(self, future: PoolFuture[Any] | None, size: int) -> None:
        """Count a call as ended, so that another may be sent; `future`: its task has ended, too."""
        self.handle_call_ended(size, () if future is None else (future,))

    def handle_call_ended(
        self, size: int, ended: Sequence[PoolFuture[Any]], again: Sequence[PoolFuture[Any]] = ()
    ) -> None:
        """Handle the end of a call, and of these tasks; send others again."""
        with self._changed:
            self._sent -= 1
            self._sent_bytes -= size
            self._waiting.extendleft(reversed(again))
        self.retire(ended)
        self._send_more()
        self._tell_empty()

    def retire(self, futures: Sequence[PoolFuture[Any]]) -> None:
        """Forget tasks that have ended."""
        for future in futures:
            future.task = None
        with self._changed:
            self._pending.difference_update(futures)
            if not self._pending:
                self._changed.notify_all()

    def withdraw(self, future: PoolFuture[Any], takes_back: bool = True) -> bool:
        """Withdraw a task that no worker has begun; return False if it was too late.

        `takes_back`: also a task that was sent to a worker.
        """
        is_withdrawn = False
        with self._changed:
            if future in self._waiting:
                self._waiting.remove(future)
                self._pending.discard(future)
                self._changed.notify_all()
                is_withdrawn = True
        if is_withdrawn:
            self._tell_empty()
            return True
        call = future.call
        if call is None or not (takes_back or call.state is CallState.WAITING):
            return False
        if self._bundles is not None and future.bundle is not None:
            return self._bundles.withdraw(future.bundle, future)
        return cancel(self.peer, call)

    def may_have_begun(self, future: PoolFuture[Any]) -> bool:
        """Return False if no worker has begun a task, or those that travel with it, at this moment."""
        call = future.call
        if call is None or call.state is CallState.WAITING:
            return False
        contact = contact_of(call)
        set_up = None if contact is None else self._set_up.get(contact.uid)
        return set_up is not None and call.request.id > set_up and may_have_begun(self.peer, call)

    def kill(self, future: PoolFuture[Any], verdict: BaseException | None = None) -> bool:
        """End a task: cancel it if no worker has begun it, otherwise kill the worker. Return True if it was ended.

        `verdict`: the error of its future if its worker is killed, instead of `Lost`.
        """
        if future.cancel():
            return True
        call = future.call
        if call is None or future.done():
            return False
        bundle, bundles = future.bundle, self._bundles
        if bundle is not None and bundles is not None and not bundles.may_have_begun(bundle, future):
            return False  # it is behind another one, and will end in a moment
        future.verdict, future.is_killed, label = verdict, True, future.label
        was_there = kill(self.peer.control, call)
        if call.cancelled():
            future.fail_unbegun(label)
        elif not was_there:
            call.exception()  # the answer is on its way; if the worker asks for the set-up, the task is not sent again
        return was_there or future.is_unbegun

    # ------------------------------------------------------------------------------------ in a worker of this pool

    def run_here(self, future: PoolFuture[Any]) -> bool:
        """Run a task in this thread if no worker has been asked for it; return False if it was too late.

        A task of this pool waits for it, and so blocks a worker. If all workers are blocked, no other one can run it.
        """
        task = future.task
        if task is None or not self.withdraw(future, takes_back=False):
            return False
        try:
            args, _ = self._pickled(task, gives=False)
            run = worker.run_items if task.is_items else worker.run
            answer = run(*args)
            if answer == [worker.SETUP_WANTED]:
                worker.set_up(self.number, *self._encoded_setup())
                answer = run(*args)
            outcome = self._outcome_of(future, answer)
        except BaseException as error:  # noqa: BLE001  whatever it is, it is the outcome
            outcome = partial(future.set_exception, error)
        outcome()
        return True

    # -------------------------------------------------------------------------------------------------- the end

    def _break(self) -> None:
        """Fail all tasks that wait, because none can run."""
        assert self.broken is not None
        for future in self.pending:
            if not future.done() and self.withdraw(future):
                future.set_exception(broken(self.broken))

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until no task is pending; return False after `timeout` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._pending, timeout)

    def when_empty(self, then: Callable[[], None]) -> None:
        """Have a function called, once, as soon as no task is pending; in any thread."""
        self._then = then
        self._tell_empty()

    def _tell_empty(self) -> None:
        if self._then is not None and not self._pending:
            then, self._then = self._then, None
            if then is not None:
                then()


def broken(why: BaseException) -> BrokenExecutor:
    """Return the error of a task that cannot run because the initializer of its pool failed."""
    error = BrokenExecutor(f"the pool cannot run tasks: its initializer raised {type(why).__name__}: {why}")
    error.__cause__ = why
    return error


def contact_of(call: Call[Any]) -> Contact | None:
    """Return the worker that a call was sent to last; None if it was never sent, as when there is no worker."""
    return cast("Contact | None", getattr(call, "contact", None))


def value_in(answer: worker.TaskAnswer) -> Any:
    """Return the value that a task returned, or raise the error that it raised."""
    if isinstance(answer, list):
        if answer[0] == worker.RAISED:
            raise error_in(answer)
        return pickling.loads(answer[1], answer[2])
    return pickling.loads(answer, ())


def error_in(answer: list[Any]) -> BaseException:
    """Return the error that a task raised; its cause is the traceback in the worker."""
    error: BaseException = pickling.loads(answer[1], answer[2])
    error.__cause__ = RemoteTraceback(answer[3])
    return error
