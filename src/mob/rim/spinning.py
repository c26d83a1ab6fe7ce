"""Waiting awake for what comes back immediately.

Waking a sleeping core costs 30 to 45 us on a virtual machine, more than most calls take, and it costs that at both ends
of every call. So a short wait is spun through, as long as that pays. A failed spin costs more than a successful one
saves: so each failure makes the next waits sleep at once, four times as many as before, and each success halves their
number. Where other processes need the cores, which a spin takes from the very process it waits for, most spins fail,
and soon only one wait in a thousand is tried.

Limits. With only one usable core, nothing is spun. The kernel's own solution, an `epoll` that polls busily, is for
network cards. What to wait for, and when, is decided by the reactor.
"""

from __future__ import annotations

import os
import select
from time import monotonic

LONGEST = 0.00015
"""Seconds of one spin: enough to move a megabyte, which takes 185 us there and back then; with 80 us, 285."""
MOST_SLEEPS = 1024
"""Maximum number of waits that sleep between two spins, when all spins fail."""
NEVER = 2**62


class Spinning:
    """Decides which waits are spun through, and spins."""

    __slots__ = ("_pause", "_poll", "_sleeps")

    def __init__(self, poll: select.poll) -> None:
        self._poll = poll.poll
        self._pause = 1
        self._sleeps = 0 if cores() > 1 else NEVER

    def __repr__(self) -> str:
        return f"<Spinning, {self._sleeps} waits to sleep through first>"

    def is_worth_it(self) -> bool:
        """Return True if the wait that begins should be spun through."""
        if self._sleeps > 0:
            self._sleeps -= 1
            return False
        return True

    def wait(self) -> list[tuple[int, int]]:
        """Return what can be read within the next few microseconds; empty if nothing can."""
        poll = self._poll
        end = monotonic() + LONGEST
        while monotonic() < end:
            if events := poll(0):
                self._pause = max(self._pause // 2, 1)
                return events
        self._sleeps = self._pause = min(self._pause * 4, MOST_SLEEPS)
        return []


def cores() -> int:
    """Return how many cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
