"""The signals of a Kingpin, with the same meaning as in gunicorn.

SIGINT, SIGTERM: stop; the second one stops immediately. SIGHUP: reload. SIGTTIN, SIGTTOU: add or remove a worker.
SIGUSR1: reopen the log file after it was rotated. SIGUSR2: upgrade. SIGCHLD: a child ended. A handler only enqueues;
the loop does the work.

A signal that was ignored when the app started stays ignored, as usual: `nohup` ignores SIGHUP, and a shell script
ignores SIGINT for what it runs in the background.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Generator, Mapping
from functools import partial
from types import FrameType

from mob.rim.reactor import Reactor
from mob.rim.standard import is_terminal

HELD_BACK = frozenset(
    {
        signal.SIGINT,
        signal.SIGTERM,
        signal.SIGHUP,
        signal.SIGUSR1,
        signal.SIGUSR2,
        signal.SIGTTIN,
        signal.SIGTTOU,
        signal.SIGCHLD,
    }
)
"""The signals that a Kingpin handles.

The main thread receives all of them because threads made by `rim.processes.start_thread` block them. So a signal that
the main thread blocks stays pending in the kernel, also for the next program in this process.
"""


class Signals:
    """The signal handlers. SIGHUP is handled like SIGTERM if the app's terminal was closed."""

    def __init__(self, reactor: Reactor, handlers: Mapping[signal.Signals, Callable[[], None]]) -> None:
        self._reactor = reactor
        self._has_terminal = is_terminal(sys.stdin)
        self._handlers = {
            signum: handler
            for signum, handler in {**handlers, signal.SIGHUP: partial(self._handle_hangup, handlers)}.items()
            if signum == signal.SIGCHLD or signal.getsignal(signum) is not signal.SIG_IGN
        }

    def __repr__(self) -> str:
        return f"<Signals {', '.join(signum.name for signum in self._handlers)}>"

    def install(self) -> None:
        """Install the handlers; signals before the loop runs are kept.

        (With uvloop's `add_signal_handler` they would be lost.)
        """
        for signum, handler in self._handlers.items():
            signal.signal(signum, self._enqueuing(handler))

    def _enqueuing(self, handler: Callable[[], None]) -> Callable[[int, FrameType | None], None]:
        return lambda signum, frame: self._reactor.call(handler)

    def remove(self) -> None:
        """Restore the default handlers."""
        for signum in self._handlers:
            signal.signal(signum, signal.default_int_handler if signum == signal.SIGINT else signal.SIG_DFL)

    def _handle_hangup(self, handlers: Mapping[signal.Signals, Callable[[], None]]) -> None:
        is_closed = self._has_terminal and not _has_terminal_still()
        handlers[signal.SIGTERM if is_closed else signal.SIGHUP]()


@contextlib.contextmanager
def held_back() -> Generator[None]:
    """Block these signals inside the `with` block; earlier ones are already handed to the loop."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HELD_BACK)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def release() -> None:
    """Unblock signals that came between two programs of this process."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD_BACK)


def _has_terminal_still() -> bool:
    """Return True if the terminal at which this process started still exists."""
    try:
        os.tcgetpgrp(sys.stdin.fileno())
    except OSError:
        return False
    return True
