"""An alarm at a time of day, which also rings when the clock is set and when a suspended machine resumes.

On Linux the loop watches a kernel timer (timerfd, with TFD_TIMER_CANCEL_ON_SET), so waiting uses no processor time.
Python has a function for that from 3.13 on; the C library is called here. On other systems the loop's own timer is set
again every `ELSEWHERE` seconds, because they do not report that the clock was set.
https://man7.org/linux/man-pages/man2/timerfd_create.2.html
"""

from __future__ import annotations

import asyncio
import ctypes
import math
import os
import time
from collections.abc import Callable
from time import monotonic

from mob.core.timer_state import Instant
from mob.core.timers import JUMP
from mob.rim import expiry
from mob.rim.expiry import ABSOLUTE, SECOND, KernelTimes
from mob.rim.pidfds import LINUX
from mob.rim.reactor import Reactor

CLOCK_REALTIME = 0
NONBLOCK, CLOEXEC = os.O_NONBLOCK, os.O_CLOEXEC
CANCEL_ON_SET = 2
ELSEWHERE = 10.0
"""Seconds between two looks at the clock where the system does not report that it was set."""


def instant() -> Instant:
    """Return the current time by all clocks."""
    return Instant(time.time(), expiry.now(), monotonic())


class Alarm:
    """One alarm, on the loop's thread."""

    def __init__(self, reactor: Reactor, on_ring: Callable[[], None]) -> None:
        self._reactor = reactor
        self._loop = reactor.loop
        self._on_ring = on_ring
        self._descriptor = -1
        self._handle: asyncio.Handle | None = None
        self.when: float = math.inf
        """Time at which it rings, in seconds since the epoch; infinity if it is not set."""
        if LINUX:
            self._descriptor = _library().timerfd_create(CLOCK_REALTIME, NONBLOCK | CLOEXEC)
            if self._descriptor < 0:
                raise _last_error()
            reactor.watch(self._descriptor, self._handle_ring)

    def __repr__(self) -> str:
        return f"<Alarm at {self.when:.3f}>" if self.when < math.inf else "<Alarm, not set>"

    def set(self, when: float, now: Instant) -> None:
        """Have it ring at that time, or not at all if `when` is infinity.

        `now` is the time at which `when` was calculated; if a clock was set since, the alarm rings at once.
        """
        self.when = when
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        if LINUX:
            self._set_descriptor(when)
            seen = instant()
            if when < math.inf and abs((seen.wall - seen.boot) - (now.wall - now.boot)) >= JUMP:
                self._handle = self._loop.call_soon(self._ring)
        elif when < math.inf:
            self._handle = self._loop.call_later(min(max(0.0, when - time.time()), ELSEWHERE), self._ring)

    def close(self) -> None:
        """Close the descriptor."""
        self.when = math.inf
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        if self._descriptor >= 0:
            self._reactor.unwatch(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1

    def _set_descriptor(self, when: float) -> None:
        first, rest = (0, 0) if when == math.inf else divmod(max(1, int(when * SECOND)), SECOND)
        times = KernelTimes(0, 0, first, rest)
        flags = ABSOLUTE | CANCEL_ON_SET
        if _library().timerfd_settime(self._descriptor, flags, ctypes.byref(times), None) != 0:
            raise _last_error()

    def _handle_ring(self) -> None:
        try:
            os.read(self._descriptor, 8)
        except BlockingIOError:
            return  # it was set again in the meantime
        except OSError:
            pass  # ECANCELED: the clock was set
        self._ring()

    def _ring(self) -> None:
        self._handle = None
        self._on_ring()


def _library() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _last_error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))
