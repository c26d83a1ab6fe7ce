"""Ends what a role has started, as `asyncio.run` and the interpreter would.

First the loop's part: tasks are cancelled and awaited, asynchronous generators are closed, so that each `finally:` runs
while the links to other processes are still open. Then the process's part: threads and pools (`threading._shutdown`,
which also stops the workers of executors), then `atexit`. A mobster exits by `os._exit`, which would skip all of that.

Limit: nothing is awaited beyond the grace period. A watchdog names the threads that are still running, and ends the
process without them. It does so earlier if only threads remain that wait for connections, because a server in a thread
waits forever. Only code that holds the interpreter stops the watchdog; the Kingpin's SIGKILL covers that.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
import os
import sys
import threading
from collections.abc import Iterable
from time import monotonic
from typing import Any

from mob.mobster import output
from mob.peer.serving.swallowing import Cancelling
from mob.rim import waits
from mob.rim.waits import WaitReason

ROUNDS = 10
"""Number of times that tasks are looked for: those that end may start others; one that does so forever is abandoned."""
SHOWN = 5
"""Number of names that a message lists."""
THREADS_INTERVAL = 0.5
"""Seconds between two looks at the remaining threads: no event reports that one waits for connections."""
WATCHDOG = "mob-ending"


async def end_tasks(seconds: float, log: logging.Logger, cancelling: Cancelling) -> None:
    """Cancel all other tasks of this loop and wait for them, then close its asynchronous generators."""
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    late: set[asyncio.Task[Any]] = set()
    for _ in range(ROUNDS):
        tasks = asyncio.all_tasks() - {asyncio.current_task()} - late
        tasks = {task for task in tasks if not cancelling.is_left(task)}
        if not tasks:
            break
        late |= await cancelling.end(tasks, until - loop.time())
        for task in tasks:
            if task.done():
                _show(loop, task)
    if late:
        log.error("tasks were cancelled but did not end within the grace period (grace): %s", _names(late))
    left = {task for task in asyncio.all_tasks() if cancelling.is_left(task)}
    if left:
        told = "tasks ignored their cancellation and were abandoned; they would outlast the grace period (grace): %s"
        log.error(told, _names(left))
    if not await close_generators(max(0.1, until - loop.time())):
        log.error("an asynchronous generator did not close within the grace period (grace)")


async def close_generators(seconds: float) -> bool:
    """Close the asynchronous generators of this loop; return whether all have closed within that time."""
    closing = asyncio.get_running_loop().create_task(asyncio.get_running_loop().shutdown_asyncgens())
    await asyncio.wait({closing}, timeout=seconds)  # `wait_for` would wait for one that ignores its cancellation
    if closing.done():
        closing.result()
    else:
        closing.cancel()
    return closing.done()


def _show(loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any]) -> None:
    error = None if task.cancelled() else task.exception()
    if error is not None:
        context = {"message": f"task {_name(task)} raised while it was cancelled", "exception": error, "task": task}
        loop.call_exception_handler(context)


def _names(tasks: Iterable[asyncio.Task[Any]]) -> str:
    return _listed(sorted(_name(task) for task in tasks))


def _name(task: asyncio.Task[Any]) -> str:
    coroutine = task.get_coro()
    return f"{task.get_name()} ({getattr(coroutine, '__qualname__', coroutine)})"


def end_interpreter(seconds: float, status: int) -> None:
    """Wait for non-daemon threads and for pools, and run the functions of `atexit`; end the process after `seconds`."""
    has_ended = threading.Event()
    watchdog = threading.Thread(target=_watch, args=(seconds, status, has_ended), name=WATCHDOG, daemon=True)
    with contextlib.suppress(
        RuntimeError
    ):  # no thread can be started: the Kingpin kills the process if it takes too long
        watchdog.start()
    for end in (threading._shutdown, atexit._run_exitfuncs):  # type: ignore[attr-defined]  # as at an interpreter's end
        try:
            end()
        except BaseException as error:  # noqa: BLE001  any exception of the application; the process ends
            sys.excepthook(type(error), error, error.__traceback__)
    has_ended.set()


def _watch(seconds: float, status: int, has_ended: threading.Event) -> None:
    """End the process when the time is over, or when only servers are left in it."""
    until = monotonic() + seconds
    why = ""
    while not why:
        if has_ended.wait(max(0.0, min(THREADS_INTERVAL, until - monotonic()))):
            return
        left = [thread for thread in threading.enumerate() if _holds_up(thread)]
        if monotonic() >= until:
            names = _listed(sorted(thread.name for thread in left))
            what = f"threads are still running: {names}" if left else "an atexit function has not returned"
            why = f"mob: the grace period (grace) is over: {what}; this process exits without waiting for them"
        elif left and all(waits.wait_of(thread.native_id or 0) is WaitReason.CONNECTION for thread in left):
            break
    with contextlib.suppress(Exception):
        if why:
            print(why, file=sys.stderr)
        output.finish()
    os._exit(status)


def _holds_up(thread: threading.Thread) -> bool:
    return not thread.daemon and thread is not threading.main_thread()


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def status_of(error: BaseException) -> int:
    """Return the exit status of a `SystemExit`; print its text if it has one instead of a number."""
    code = getattr(error, "code", 1)
    if code is None:
        return 0
    if isinstance(code, int):
        return code & 0xFF
    print(code, file=sys.stderr)
    return 1
