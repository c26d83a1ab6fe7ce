"""The module of a pool's role: it runs any function that a process of this machine sends.

A task is a call of `run`: a function, its arguments, and the number of its pool. This worker must be set up for the
pool before its first task (`Setup`): if it is not, the answer says so, and the pool sends the set-up. So a new worker,
or one that several pools share, needs no special case.

An error that a task raises is part of the answer, so it keeps its class. An error that cannot be pickled is raised
here, and arrives as `RemoteError`, as from any role.
"""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from importlib import import_module
from itertools import starmap
from time import perf_counter
from typing import Any, NamedTuple, TypeVar, cast

import msgspec

from mob.errors import BadMessage, Forbidden
from mob.mobster import api
from mob.mobster.loading import traceback_of
from mob.peer.links.contact import Contact
from mob.peer.links.served import caller
from mob.peer.serving.selection import export
from mob.pools import pickling
from mob.pools.pickling import CannotPickle, name_of
from mob.wire.binary import Given
from mob.wire.failures import describe

F = TypeVar("F", bound=Callable[..., Any])

MOST_FUNCTIONS = 128
"""Maximum number of functions that are kept, by their pickles."""
LARGEST_FUNCTION = 64 * 1024
"""Maximum number of bytes in the pickle of a function that is kept."""

LONGEST = 0.015
"""Seconds after which no more of several tasks is begun: they were expected to take much less."""
MOST_BYTES = 1024 * 1024
"""Bytes of their answers after which no more is begun."""

RETURNED, RAISED, DESCRIBED, SETUP_WANTED, SETUP_FAILED, SPENT = range(6)
"""The outcomes of a task.

It returned; it raised an error that is pickled or described; or it was not begun, because the set-up is missing or
failed, or because the worker has run its maximum number of tasks.
"""

TaskAnswer = bytes | list[Any]
"""The pickle of a returned value, or a list of an outcome (see `RETURNED`) and its details."""


class Setup(NamedTuple):
    """What must be done in a worker before the first task of a pool."""

    path: list[str]
    """The places of modules (`sys.path`)."""
    directory: str | None
    """The current directory; None: unchanged."""
    initializer: Callable[..., object] | None = None
    initargs: tuple[Any, ...] = ()
    max_calls: int | None = None
    """Number of tasks that a worker runs before it ends."""

    def carry_out(self) -> None:
        """Do it; an error of the initializer is raised."""
        if self.directory is None:
            sys.path += [each for each in self.path if each not in sys.path]
        else:
            sys.path[:] = self.path
            os.chdir(self.directory)
        if self.initializer is not None:
            self.initializer(*self.initargs)


_functions: dict[bytes, Any] = {}
_ready: set[int] = set()  # the numbers of the pools for which this worker is set up
_failed: dict[int, TaskAnswer] = {}  # of pools that are over in this worker, the answer to each task
is_reading: bool = False
"""True while a task is being unpickled here, which may import modules."""
_left: dict[int, int] = {}  # number of tasks that may still run, for pools with a limit


def _of_pool(function: F) -> F:
    """Export a function for `Tasks`, without checks or conversions.

    `Tasks` sends correct arguments, and preparing checks would take half of the time in which a worker starts. The
    function is repeated as often as its pool says, or never.
    """
    function.__annotations__.clear()
    return export(idempotent=True)(function)


@_of_pool
def run(pool: int, function: bytes, args: bytes, buffers: Sequence[Any] = (), split: int = 0) -> TaskAnswer:
    """Run a task; the first `split` buffers belong to the function, the others to its arguments."""
    if pool not in _ready:
        return _refused(pool)
    answer = _run(function, args, buffers, split)
    if _left:
        _count(pool)
    return answer


def _run(function: bytes, args: bytes, buffers: Sequence[memoryview] = (), split: int = 0) -> TaskAnswer:
    try:
        task, (values, named) = _read(function, args, buffers, split)
    except BaseException as error:  # noqa: BLE001  whatever unpickling raises
        return _unreadable(error)
    try:
        value = task(*values, **named)
    except BaseException as error:  # noqa: BLE001  SystemExit, too: the submitter gets it
        return _raised(error)
    return _returned(value, task)


@_of_pool
def run_several(pool: int, function: bytes, several: list[bytes], numbers: list[int]) -> list[Any]:
    """Run tasks of one function in turn, as far as the time allows.

    `several`: the arguments of each. `numbers`: the numbers under which the board notes which ones have begun or were
    taken back. The answer has the answers of those that ran, and the seconds that they took.
    """
    if pool not in _ready:
        return [_refused(pool), 0.0]
    peer, contact = api.current("a task"), cast(Contact, caller())
    answers: list[TaskAnswer] = []
    size, seconds, began = 0, 0.0, perf_counter()
    for args, number in zip(several, numbers, strict=True):
        if not peer.serving.begun.begin(contact, number):
            break
        try:
            answer = _run(function, args)
        except BaseException as error:  # noqa: BLE001  it cannot be pickled
            answer = [DESCRIBED, msgspec.msgpack.encode(describe(error, peer.encoder.codec))]
        answers.append(answer)
        if _left and _count(pool):
            break
        size += len(answer) if type(answer) is bytes else LARGEST_FUNCTION
        seconds = perf_counter() - began
        if seconds > LONGEST or size > MOST_BYTES:
            break
    return [answers, seconds]


@_of_pool
def run_items(
    pool: int, function: bytes, items: bytes, buffers: Sequence[Any] = (), split: int = 0, spread: bool = False
) -> TaskAnswer:
    """Run a function for each item; `spread`: an item is a tuple of arguments.

    The answer has the results up to the first item that raises, the error of that one, the seconds that it took, and
    the number of results.
    """
    if pool not in _ready:
        return _refused(pool)
    try:
        task, values = _read(function, items, buffers, split)
    except BaseException as error:  # noqa: BLE001  whatever unpickling raises
        return _unreadable(error)
    results: list[Any] = []
    failure: TaskAnswer | None = None
    began = perf_counter()
    try:
        results.extend(starmap(task, values) if spread else map(task, values))
    except BaseException as error:  # noqa: BLE001  as in `run`
        failure = _raised(error)
    seconds = perf_counter() - began
    if _left:
        _count(pool)
    answer = _returned(results, task)
    return [answer, failure, seconds, len(results)]


@_of_pool
def set_up(pool: int, setup: bytes, buffers: Sequence[Any] = (), authkey: bytes | None = None) -> None:
    """Set up this worker for a pool before its first task, once.

    `authkey` is that of the pool's multiprocessing, so that proxies of a manager can be sent here as to its children;
    in the arguments of the initializer, too.
    """
    _check_caller()
    if pool in _ready or pool in _failed:
        return
    if authkey is not None:
        import_module("multiprocessing.process").current_process().authkey = authkey  # a module that is rarely needed
    try:
        wanted = Setup(*pickling.loads(setup, buffers))
        wanted.carry_out()
    except BaseException as error:  # noqa: BLE001  reported to each task
        _failed[pool] = [SETUP_FAILED, *_raised(error)[1:]]
    else:
        if wanted.max_calls is not None:
            _left[pool] = wanted.max_calls
        _ready.add(pool)


def _refused(pool: int) -> TaskAnswer:
    _check_caller()
    api.current("a pool").serving.leave_untimed()  # otherwise the function would seem to take no time
    return _failed.get(pool, [SETUP_WANTED])


def _count(pool: int) -> bool:
    """Count an ended task; return True if it was the last one, in which case this worker ends and is replaced."""
    if pool not in _left:
        return False
    _left[pool] -= 1
    if _left[pool] > 0:
        return False
    _ready.discard(pool)
    _failed[pool] = [SPENT]
    api.exit()
    return True


def _check_caller() -> None:
    contact = caller()
    if contact is not None and contact.is_distant:
        raise Forbidden("a pool runs functions only for processes of its own machine.", executed="no")


def _read(function: bytes, args: bytes, buffers: Sequence[Any], split: int) -> tuple[Any, Any]:
    global is_reading
    is_reading = True
    try:
        task = _functions.get(function)
        if task is None:
            task = pickling.loads(function, buffers[:split])
            if not split and len(function) <= LARGEST_FUNCTION:
                if len(_functions) >= MOST_FUNCTIONS:
                    _functions.clear()
                _functions[function] = task
        return task, pickling.loads(args, buffers[split:])
    finally:
        is_reading = False


def _returned(value: Any, task: Any) -> TaskAnswer:
    try:
        data, buffers = pickling.dumps(value, "the result")
    except BaseException as error:  # noqa: BLE001  whatever pickling raises
        if isinstance(value, (Generator, AsyncGenerator)):
            return _raised(_generator_returned(task))
        error.add_note(f"This is the result of {name_of(task)}.")
        return _raised(error)
    return [RETURNED, data, list(map(Given, buffers))] if buffers else data


def _generator_returned(task: Any) -> CannotPickle:
    return CannotPickle(
        f"{name_of(task)} returned a generator, which cannot leave its worker. Return a list of its items, or export "
        f"the function from a role, where generators stream.",
        "the result",
    )


def _raised(error: BaseException) -> list[Any]:
    """Return the answer of a task that raised; raise the error if it cannot be pickled."""
    text = traceback_of(error)
    try:
        data, buffers = pickling.dumps(error, "the exception")
        pickling.loads(data, buffers)  # an exception may be pickled that cannot be unpickled
    except BaseException:  # noqa: BLE001  whatever it is: mob describes it in its own way
        if isinstance(error, Exception):
            raise error from error.__cause__
        return _raised(RuntimeError(f"{type(error).__name__}: {error}"))
    return [RAISED, data, buffers, text]


def _unreadable(error: BaseException) -> TaskAnswer:
    """Return the answer of a task that cannot be unpickled here."""
    told = f"{type(error).__name__}: {error}".rstrip(".")
    refusal = BadMessage(
        f"a worker of the pool (pid {os.getpid()}) cannot unpickle the task: {told}. Modules are searched for in "
        f"{', '.join(map(repr, sys.path))}. Functions of a module that only the caller can import are sent by value "
        f"after cloudpickle.register_pickle_by_value(module)."
    )
    answer = _raised(refusal)
    answer[3] = traceback_of(error)
    return answer
