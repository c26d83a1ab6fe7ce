"""Memory barriers in other processes, so that what they do all the time needs none.

Two processes that each write one word of shared memory and then read the other's may both read what was there before: a
processor reads before its own write can be seen. An instruction that prevents it costs as much as all else in such a
place. Linux has membarrier(2): the process that seldom comes there has all others that expect it pass a barrier, which
takes 10 µs, and the others go there for nothing.

Limits: Linux from 4.16 on, and no sandbox that forbids the system call; elsewhere `is_expected` and `impose` say no.
"""

from __future__ import annotations

import ctypes
import platform
import sys
from functools import cache
from typing import Any

NUMBERS = {"x86_64": 324, "aarch64": 283, "riscv64": 283, "ppc64le": 365, "s390x": 356}
"""The system call's, by machine."""
IMPOSE, EXPECT = 2, 4  # MEMBARRIER_CMD_GLOBAL_EXPEDITED, MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED


@cache
def _library() -> Any:
    return ctypes.CDLL(None)


def _do(command: int) -> bool:
    number = NUMBERS.get(platform.machine()) if sys.platform == "linux" else None
    return number is not None and _library().syscall(number, command, 0, 0) == 0


def expect() -> bool:
    """Have this process pass the barriers of others; return whether the system does that."""
    return _do(EXPECT)


def impose() -> bool:
    """Have all threads of all processes that expect it pass a barrier, and this one; return whether they have."""
    return _do(IMPOSE)
