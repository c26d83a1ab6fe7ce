"""The watchdog: a thread that detects when the Kingpin's own loop is blocked, and logs where.

A blocked Kingpin restarts no worker, handles no signal and answers no client, so nothing in mob may block it. If
something does, the watchdog logs the stack after one second, and the duration when it is over. systemd's watchdog is
fed by the loop itself (`manager`), so a blocked Kingpin is not reported as alive.

A pause of the whole process (SIGSTOP, a sleeping machine) is not the loop's fault and is not logged.
"""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Callable
from time import monotonic

from mob.rim.lasting import carry_on
from mob.rim.processes import start_thread
from mob.rim.reactor import Reactor

POLL_INTERVAL = 0.5
"""Seconds between two requests to the loop."""
STANDSTILL = 1.0
"""Seconds without a reply after which the loop counts as blocked."""


class Watchdog:
    """The thread that asks the loop to reply, and the time of its last reply."""

    def __init__(self, reactor: Reactor, say: Callable[[str], None]) -> None:
        self._reactor = reactor
        self._say = say
        self._seen = 0.0
        self._looked = 0.0
        self._since = 0.0
        """Time at which the logged block began, or 0."""
        self._closing = threading.Event()

    def __repr__(self) -> str:
        return f"<Watchdog of {self._reactor}>"

    def start(self) -> None:
        """Start the thread; called on the loop's thread."""
        self._seen = monotonic()
        start_thread(self._watch, "mob-watchdog")

    def close(self) -> None:
        """Stop the thread."""
        self._closing.set()

    def _watch(self) -> None:
        self._looked = monotonic()
        while not self._closing.wait(POLL_INTERVAL):
            carry_on(self._look, None)

    def _look(self) -> None:
        now = monotonic()
        if now - self._looked > POLL_INTERVAL + STANDSTILL / 2:
            self._seen = now  # this thread was late too: the whole process was paused
        self._looked, seen, since = now, self._seen, self._since
        if not since and now - seen > POLL_INTERVAL + STANDSTILL:
            self._since = seen
            self._say(f"the Kingpin's event loop has been blocked for {now - seen:.1f} s, here:\n{self._stack()}")
        elif since and now - seen < STANDSTILL:
            self._since = 0.0
            self._say(f"the Kingpin's event loop is running again; it was blocked for {seen - since:.1f} s.")
        self._reactor.call(self._answer)

    def _answer(self) -> None:
        self._seen = monotonic()

    def _stack(self) -> str:
        frame = sys._current_frames().get(self._reactor.thread)  # pyright: ignore[reportPrivateUsage]  documented
        return "".join(traceback.format_stack(frame)).rstrip() if frame is not None else "its thread ended"
