"""The signals that a Kingpin understands. They mean what they mean to gunicorn.

SIGINT, SIGTERM: stop, the second time at once. SIGHUP: reload. SIGTTIN, SIGTTOU: a worker more, a worker less.
SIGUSR1: open the log file anew, it was put aside. SIGUSR2: upgrade. SIGCHLD: a child has ended. A handler only
enqueues; the loop calls what is to be done.

One that was ignored when the app was started stays ignored, as everywhere: `nohup` does that with SIGHUP, a shell
script with the SIGINT of what it runs in the background.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Generator
from functools import partial
from time import monotonic
from types import FrameType
from typing import TYPE_CHECKING

from mob.core import decisions as d
from mob.rim.standard import is_terminal

if TYPE_CHECKING:
    from mob.kingpin.kingpin import Kingpin

NOBODY = (0, 0)
"""Who asked, if it was a signal."""

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
    """What each is for."""

    def __init__(self, kingpin: Kingpin) -> None:
        self._kingpin = kingpin
        self._has_terminal = is_terminal(sys.stdin)
        self._handlers: dict[signal.Signals, Callable[[], None]] = {
            signal.SIGINT: kingpin.handle_stop_signal,
            signal.SIGTERM: kingpin.handle_stop_signal,
            signal.SIGHUP: self.handle_hangup,
            signal.SIGTTIN: partial(self.handle_size_signal, +1),
            signal.SIGTTOU: partial(self.handle_size_signal, -1),
            signal.SIGUSR1: kingpin.console.reopen,
            signal.SIGUSR2: partial(kingpin.handle_upgrade, NOBODY),
        }
        for signum in [each for each in self._handlers if signal.getsignal(each) is signal.SIG_IGN]:
            del self._handlers[signum]

    def __repr__(self) -> str:
        return f"<Signals {', '.join(signum.name for signum in self._handlers)}>"

    def install(self) -> None:
        """Hear them from now on, also before the loop turns: what `add_signal_handler` of uvloop hears then is lost."""
        for signum, handler in {**self._handlers, signal.SIGCHLD: self._kingpin.handle_children}.items():
            signal.signal(signum, self._call(handler))

    def _call(self, handler: Callable[[], None]) -> Callable[[int, FrameType | None], None]:
        reactor = self._kingpin.reactor
        return lambda signum, frame: reactor.call(handler)

    def remove(self) -> None:
        """Give them back the meaning that they have in every program."""
        for signum in (*self._handlers, signal.SIGCHLD):
            signal.signal(signum, signal.default_int_handler if signum == signal.SIGINT else signal.SIG_DFL)

    def handle_hangup(self) -> None:
        """SIGHUP: a reload. If it comes because the terminal of this app was closed: a stop."""
        kingpin = self._kingpin
        if self._has_terminal and not _has_terminal_still():
            kingpin.handle_stop_signal()
        else:
            kingpin.carry_out(kingpin.supervisor.handle_reload([], NOBODY, monotonic()))

    def handle_size_signal(self, change: int) -> None:
        """SIGTTIN, SIGTTOU: a worker more or less in each role that may grow; in the only role, if there is but one."""
        kingpin = self._kingpin
        roles = [role.name for role in kingpin.plan.roles if role.max_workers is not None]
        roles = roles or [role.name for role in kingpin.plan.roles if len(kingpin.plan.roles) == 1]
        if not roles:
            kingpin.console.say("no role has max_workers, so none is made larger or smaller by a signal.")
        for role in roles:
            decisions = kingpin.supervisor.handle_scale(role, change, NOBODY, monotonic(), relative=True)
            for answer in decisions:
                if isinstance(answer, d.Answer) and answer.error:
                    kingpin.console.say(answer.error)  # who has sent a signal reads the terminal
            kingpin.carry_out(decisions)


@contextlib.contextmanager
def held_back() -> Generator[None]:
    """Within this no signal comes; those that had come before are handed to the loop."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HELD_BACK)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def release() -> None:
    """Lets those through that have come between two programs of this process."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD_BACK)


def _has_terminal_still() -> bool:
    """Whether the terminal that this process was started at is still there."""
    try:
        os.tcgetpgrp(sys.stdin.fileno())
    except OSError:
        return False
    return True
