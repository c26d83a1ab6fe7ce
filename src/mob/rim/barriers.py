"""Memory barriers in other processes, so that frequent operations there need none.

Two processes that each write one word of shared memory and then read the other's may both read the old value: a
processor reads before its own write becomes visible. An instruction that prevents it costs as much as everything else
in such a place. Linux has membarrier(2): the process that comes there rarely makes all others that expect it pass a
barrier, which takes 10 µs, and the others pay nothing.

Limits: Linux 4.16 or newer, and no sandbox that forbids the system call; otherwise `expect` and `impose` return False.
"""

from __future__ import annotations

import ctypes
import platform
import sys
from functools import cache
from typing import Any

NUMBERS = {"x86_64": 324, "aarch64": 283, "riscv64": 283, "ppc64le": 365, "s390x": 356}
"""Number of the system call by machine."""
IMPOSE, EXPECT = 2, 4  # MEMBARRIER_CMD_GLOBAL_EXPEDITED, MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED


@cache
def _library() -> Any:
    return ctypes.CDLL(None)


def _do(command: int) -> bool:
    number = NUMBERS.get(platform.machine()) if sys.platform == "linux" else None
    return number is not None and _library().syscall(number, command, 0, 0) == 0


def expect() -> bool:
    """Register this process for the barriers of others; return True if the system supports that."""
    return _do(EXPECT)


def impose() -> bool:
    """Make all threads of this process, and of all registered ones, pass a barrier; return True if they did."""
    return _do(IMPOSE)
