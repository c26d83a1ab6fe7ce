"""A thread whose end other processes see as soon as its process begins to end, however much memory that has.

When a process dies, the kernel frees its memory first and closes its descriptors afterwards: after 3 ms for a small
Python, and a second or more for a model of many gigabytes. Threads end one by one, though, and the memory goes with the
last of them. So there are two threads that do nothing, each with its own table of descriptors, which contains one
socket. The thread that is not the last to end closes its socket before the memory is freed, and the process at the
other end reads its end of file.

Limits: it needs Linux and permission for unshare(2), which containers may forbid. A process that reads the end of file
must check whether the mobster really ends: a program that replaces itself (exec) ends its other threads too.
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
"""Number of threads. At least one of them is not the last thread of its process."""


def send_out() -> list[int]:
    """Start the threads; return the sockets whose end of file shows the end of this process, or []."""
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
        if unshare(CLONE_FILES) == 0:  # from now on this thread has its own copies of all descriptors
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
