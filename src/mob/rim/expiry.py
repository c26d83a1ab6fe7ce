"""A process that ends at a certain time whatever it does: it may hang in C code, or be stopped.

On Linux this is a kernel timer with SIGKILL as its signal, so no code of the process has to run for it; its clock
counts the time that the machine sleeps. A stopped process ends before it runs again. Other systems have no such timer,
and the caller must end the process in another way.

Limits: the timer ends the process only, not its group, and a fork does not inherit it. The clock of a virtual machine
that is stopped and resumed does not count that time.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from functools import cache
from typing import Any

SECOND = 1_000_000_000
CLOCK: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
ABSOLUTE = 1  # TIMER_ABSTIME


def now() -> float:
    """Return seconds of the clock of leases, which is the same in all processes of this machine."""
    return time.clock_gettime(CLOCK)


class _Event(ctypes.Structure):
    """The C struct `sigevent`."""

    _fields_ = (
        ("value", ctypes.c_void_p),
        ("signo", ctypes.c_int),
        ("notify", ctypes.c_int),
        ("rest", ctypes.c_char * 48),
    )


class KernelTimes(ctypes.Structure):
    """The C struct `itimerspec`: the interval, and the first time."""

    _fields_ = [(name, ctypes.c_long) for name in ("every", "every_ns", "first", "first_ns")]


@cache
def _library() -> Any:
    """Return the library with the timer functions, or None if there is no such library."""
    if not hasattr(time, "CLOCK_BOOTTIME"):
        return None
    for name in (None, "librt.so.1"):  # an old glibc has them in a separate library
        try:
            library = ctypes.CDLL(name, use_errno=True)
            if library.timer_create and library.timer_settime:
                return library
        except (OSError, AttributeError):
            continue
    return None


class Timer:
    """The time at which this process ends, which may be postponed."""

    def __init__(self, until: float) -> None:
        self.until: float = until
        self._id = ctypes.c_void_p()
        self.is_kernels: bool = self._create()
        """True if a kernel timer ends the process."""
        self.set(until)

    def __repr__(self) -> str:
        return f"<Timer for {self.until:.3f}, {'set' if self.is_kernels else 'not available here'}>"

    def _create(self) -> bool:
        library = _library()
        if library is None:
            return False
        event = _Event(signo=signal.SIGKILL)
        return library.timer_create(ctypes.c_int(CLOCK), ctypes.byref(event), ctypes.byref(self._id)) == 0

    def set(self, until: float) -> None:
        """Set another time at which the process ends."""
        self.until = until
        if self.is_kernels:
            first, rest = divmod(max(1, int(until * SECOND)), SECOND)
            times = KernelTimes(0, 0, first, rest)
            if _library().timer_settime(self._id, ABSOLUTE, ctypes.byref(times), None) != 0:
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
