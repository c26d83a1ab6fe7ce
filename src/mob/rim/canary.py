"""A thread whose end is seen from outside as soon as its process begins to end, whatever memory that has.

When a process dies, the kernel frees its memory first and closes its descriptors after that: 3 ms for a small Python, a
second and more for a model of many gigabytes. Threads end one by one, though, and the memory goes with the last of
them. So there are two threads that do nothing, each with a table of descriptors of its own, in which there is one
socket. The thread that is not the last to end closes its socket before the memory is freed, and whoever holds the
other end of that reads its end of file.

Limits: it needs Linux, and that unshare(2) is allowed, which containers may forbid. Whoever reads the end has to ask
whether the process really ends: a program that replaces itself (exec) ends its other threads too.
"""

from __future__ import annotations

import ctypes
import os
import socket
import threading
from collections.abc import Callable

from mob.rim import processes

CLONE_FILES = 0x400
THREADS = 2
"""One of them at least is not the last thread of its process."""


def send_out() -> list[int]:
    """Start the threads; return the ends whose end of file tells that this process ends. Empty if it cannot be done."""
    unshare = getattr(ctypes.CDLL(None, use_errno=True), "unshare", None) if processes.LINUX else None
    return [] if unshare is None else [end for _ in range(THREADS) for end in _send_out_one(unshare)]


def _send_out_one(unshare: Callable[[int], int]) -> list[int]:
    try:
        watched, own = socket.socketpair()
    except OSError:
        return []
    sits = threading.Event()
    done: list[bool] = []
    number = own.fileno()

    def sit() -> None:
        if unshare(CLONE_FILES) == 0:  # from here on all of this thread's descriptors are its own
            os.closerange(0, number)
            os.closerange(number + 1, os.sysconf("SC_OPEN_MAX"))
            done.append(True)
        sits.set()
        while done:
            _pause()

    processes.start_thread(sit, "mob-canary")
    sits.wait()
    own.close()
    if not done:
        watched.close()
        return []
    return [watched.detach()]


def _pause() -> None:
    ctypes.CDLL(None).pause()
