"""The watchdog: a thread that sees when the Kingpin's own loop is blocked, and says where.

A Kingpin that is blocked revives no worker, hears no signal and answers no client. Nothing of mob may block it. If
something does, this tells it, with the stack, as soon as a second is over, and what it has cost when it is over.
systemd's watchdog is fed by the loop itself (`manager`), so a Kingpin that is blocked is not called alive.

What stops all of the process at once (SIGSTOP, a machine that sleeps) is no fault of the loop and is not told.
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
"""Seconds between two questions to the loop."""
STANDSTILL = 1.0
"""Seconds without an answer after which it counts as blocked."""


class Watchdog:
    """The questions to the loop, and when it has answered."""

    def __init__(self, reactor: Reactor, say: Callable[[str], None]) -> None:
        self._reactor = reactor
        self._say = say
        self._seen = 0.0
        self._looked = 0.0
        self._since = 0.0
        """When the standstill began that was told."""
        self._closing = threading.Event()

    def __repr__(self) -> str:
        return f"<Watchdog of {self._reactor}>"

    def start(self) -> None:
        """Begin; on the loop's thread."""
        self._seen = monotonic()
        start_thread(self._watch, "mob-watchdog")

    def close(self) -> None:
        """End."""
        self._closing.set()

    def _watch(self) -> None:
        self._looked = monotonic()
        while not self._closing.wait(POLL_INTERVAL):
            carry_on(self._look, None)

    def _look(self) -> None:
        now = monotonic()
        if now - self._looked > POLL_INTERVAL + STANDSTILL / 2:
            self._seen = now  # this thread was late too: all of the process stood still
        self._looked, seen, since = now, self._seen, self._since
        if not since and now - seen > POLL_INTERVAL + STANDSTILL:
            self._since = seen
            self._say(f"this Kingpin has stood still for {now - seen:.1f} s, here:\n{self._stack()}")
        elif since and now - seen < STANDSTILL:
            self._since = 0.0
            self._say(f"this Kingpin goes on; it had stood still for {seen - since:.1f} s.")
        self._reactor.call(self._answer)

    def _answer(self) -> None:
        self._seen = monotonic()

    def _stack(self) -> str:
        frame = sys._current_frames().get(self._reactor.thread)  # pyright: ignore[reportPrivateUsage]  documented
        return "".join(traceback.format_stack(frame)).rstrip() if frame is not None else "its thread has ended"
