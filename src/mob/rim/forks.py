"""The child of a fork: what it must not keep of its parent.

A forked child has copies of its parent's signal handlers and of the descriptor that wakes the parent's loop. With them
`Process.terminate()` would do nothing in the child, or would stop the parent. Nothing here knows what a mobster is.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import traceback
from asyncio import AbstractEventLoop, Handle, Runner
from collections.abc import Callable
from functools import partial
from types import CodeType, FrameType
from typing import Any, NoReturn

DEFAULTS: dict[signal.Signals, Any] = {
    signal.SIGTERM: signal.SIG_DFL,
    signal.SIGHUP: signal.SIG_DFL,
    signal.SIGINT: signal.default_int_handler,
}
"""The handlers of a Python process that installed none."""


_held = threading.local()


def guard(leave: Callable[[], None]) -> None:
    """Have `leave` called in each child that is forked from now on, before any signal reaches the child.

    A signal that came earlier would run the handlers of the parent, and be lost.
    """
    os.register_at_fork(after_in_child=leave)
    os.register_at_fork(before=_hold_signals, after_in_parent=_release_signals, after_in_child=_release_signals)


def _hold_signals() -> None:
    _held.mask = signal.pthread_sigmask(signal.SIG_BLOCK, DEFAULTS)


def _release_signals() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _held.mask)


def restore_signals(is_own: Callable[[Any], bool]) -> None:
    """Restore the default handlers in this child, except those that the application installed, as in any Python.

    `is_own` returns True for a handler of mob. Those of an event loop go too, because the loop runs in the parent.
    """
    signal.set_wakeup_fd(-1)
    for signum, default in DEFAULTS.items():
        handler = signal.getsignal(signum)
        if is_own(handler) or _is_of_loop(handler):
            signal.signal(signum, default)


def _is_of_loop(handler: Any) -> bool:
    if isinstance(handler, partial):
        handler = handler.func  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    owner: object = getattr(handler, "__self__", None)
    is_noop = getattr(handler, "__module__", "") == "asyncio.unix_events"
    return is_noop or isinstance(owner, AbstractEventLoop | Runner)


def end() -> NoReturn:
    """End this child because the code that forked it returned or raised.

    What called that code belongs to the parent and must not continue in the child. An error that is being handled is
    shown and becomes the exit status.
    """
    error = sys.exception()
    status = 0
    if isinstance(error, SystemExit):
        status = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
        if error.code is not None and not isinstance(error.code, int):
            print(error.code, file=sys.stderr)
    elif error is not None:
        status = 1
        traceback.print_exception(error)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(status & 0xFF)


def end_with_step(end: Callable[[], None], runner: CodeType) -> None:
    """Call `end` when what the loop runs at the moment returns to it, before the loop runs anything else.

    The tasks and callbacks that are due in the parent are due in this copy too. A loop cannot be asked to drop them, so
    the frame which the loop called is traced. `runner` is the code that runs the loop. If there is a trace function
    already, such as that of a debugger, nothing is done.
    """
    if sys.gettrace() is not None:
        return
    frame = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
    while frame.f_back is not None and frame.f_back.f_code not in (runner, Handle._run.__code__):
        frame = frame.f_back

    def trace(frame: FrameType, event: str, arg: object) -> Any:
        if event == "return":  # also when a coroutine is suspended
            end()
        return trace

    frame.f_trace, frame.f_trace_lines = trace, False
    sys.settrace(_trace_nothing)


def _trace_nothing(frame: FrameType, event: str, arg: object) -> None:
    """Do nothing; the interpreter looks at `f_trace` only if there is such a function."""
