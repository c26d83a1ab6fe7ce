"""The end of what a role has started by itself, as `asyncio.run` and the interpreter would end it.

First the loop's: tasks are cancelled and awaited, asynchronous generators are closed, so that each `finally:` runs
while the links to the others still stand. Then the process's: threads and pools (`threading._shutdown`, which also
tells the workers of executors to go), then `atexit`. A mobster ends by `os._exit` and would skip all of that.

Limit: nobody is waited for beyond the grace time. A watchdog names the threads that are still there, and ends the
process without them; and it ends it sooner when all that is left are threads that wait for connections, because a
server in a thread does so for ever. Only code that holds the interpreter stops the watchdog; the Kingpin's SIGKILL
covers that.
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
"""How often tasks are looked for: those that end may start others, and one that does so for ever is left alone."""
SHOWN = 5
"""Names that a message lists."""
THREADS_INTERVAL = 0.5
"""Seconds between two looks at the threads that are waited for: no event tells that one waits for connections."""
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
        log.error("tasks were cancelled and have not ended within the grace time: %s", _names(late))
    left = {task for task in asyncio.all_tasks() if cancelling.is_left(task)}
    if left:
        told = "tasks swallow their cancellation and are left: they would have not ended within the grace time: %s"
        log.error(told, _names(left))
    if not await close_generators(max(0.1, until - loop.time())):
        log.error("an asynchronous generator has not closed within the grace time")


async def close_generators(seconds: float) -> bool:
    """Close the asynchronous generators of this loop; return whether all have closed within that time."""
    closing = asyncio.get_running_loop().create_task(asyncio.get_running_loop().shutdown_asyncgens())
    await asyncio.wait({closing}, timeout=seconds)  # `wait_for` would wait for one that swallows its cancellation
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
    """Wait for the threads and pools that are not daemons, and run what `atexit` has: for so many seconds at most, then
    the process ends with that status."""
    has_ended = threading.Event()
    watchdog = threading.Thread(target=_watch, args=(seconds, status, has_ended), name=WATCHDOG, daemon=True)
    with contextlib.suppress(RuntimeError):  # no more threads to be had: the Kingpin ends what lasts too long
        watchdog.start()
    for end in (threading._shutdown, atexit._run_exitfuncs):  # type: ignore[attr-defined]  # as at an interpreter's end
        try:
            end()
        except BaseException as error:  # noqa: BLE001  the application's; the process ends
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
            why = f"mob: the time to end is over (grace): {what}; this process ends without them"
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
    """Return the exit status that a `SystemExit` asks for; print what it says instead of a number."""
    code = getattr(error, "code", 1)
    if code is None:
        return 0
    if isinstance(code, int):
        return code & 0xFF
    print(code, file=sys.stderr)
    return 1
