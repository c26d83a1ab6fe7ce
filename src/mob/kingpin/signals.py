"""The signals that a Kingpin understands. They mean what they mean to gunicorn.

SIGINT, SIGTERM: stop, the second time at once. SIGHUP: reload. SIGTTIN, SIGTTOU: a worker more, a worker less.
SIGUSR1: open the log file again, it was put aside. SIGUSR2: upgrade. SIGCHLD: a child has ended. A handler only
enqueues; the loop calls what is to be done.

One that was ignored when the app was started stays ignored, as everywhere: `nohup` does that with SIGHUP, a shell
script with the SIGINT of what it runs in the background.
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
"""Those that a Kingpin understands. The main thread takes them all: `rim.processes.start_thread` makes threads that
take none, so what is held back in the main thread waits in the kernel, also for the program that comes next."""


class Signals:
    """What each is for. SIGHUP is handled as SIGTERM if it comes because the terminal of this app was closed."""

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
        """Hear them from now on, also before the loop turns: what `add_signal_handler` of uvloop hears then is lost."""
        for signum, handler in self._handlers.items():
            signal.signal(signum, self._enqueuing(handler))

    def _enqueuing(self, handler: Callable[[], None]) -> Callable[[int, FrameType | None], None]:
        return lambda signum, frame: self._reactor.call(handler)

    def remove(self) -> None:
        """Give them back the meaning that they have in every program."""
        for signum in self._handlers:
            signal.signal(signum, signal.default_int_handler if signum == signal.SIGINT else signal.SIG_DFL)

    def _handle_hangup(self, handlers: Mapping[signal.Signals, Callable[[], None]]) -> None:
        is_closed = self._has_terminal and not _has_terminal_still()
        handlers[signal.SIGTERM if is_closed else signal.SIGHUP]()


@contextlib.contextmanager
def held_back() -> Generator[None]:
    """Within this no signal comes; those that had come before are handed to the loop."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HELD_BACK)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def release() -> None:
    """Let those through that have come between two programs of this process."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD_BACK)


def _has_terminal_still() -> bool:
    """Return whether the terminal that this process was started at is still there."""
    try:
        os.tcgetpgrp(sys.stdin.fileno())
    except OSError:
        return False
    return True
