"""How many files this process may have open: the Kingpin needs a few for each worker, and workers get what they had.

The limit that a shell sets is low (1024) for the sake of old programs that use `select`, and every process may raise
its own up to the hard limit. So the Kingpin and its fork server raise theirs, and a mobster, which runs code of the
application, begins with the limit with which the app was started. An environment variable carries that number from one
program to the next.
"""

from __future__ import annotations

import os
import resource

VARIABLE = "MOB_OPEN_FILES"
MOST = 1024 * 1024
"""More are of no use, and where the hard limit is a billion some programs look at each number."""
PER_WORKER = 4
"""Descriptors of the Kingpin for each worker: two links and two pipes."""
BESIDES = 100
"""What else it needs, with some clients."""


def raise_limit(is_told: bool = True) -> None:
    """Let this process have as many files open as it may. `is_told`: workers get what it had before."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST if hard == resource.RLIM_INFINITY else min(hard, MOST)
    if soft != resource.RLIM_INFINITY and soft < most:
        if is_told:
            os.environ.setdefault(VARIABLE, str(soft))
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def give_back_limit() -> None:
    """Return to the limit with which the app was started."""
    before = os.environ.pop(VARIABLE, "")
    if before.isdigit():
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (int(before), hard))


def shortage(workers: int) -> str:
    """Return what to say if this process cannot have the descriptors for so many workers; nothing if it can.

    In a reload a quarter of the workers is there twice.

    >>> shortage(4)
    ''
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = PER_WORKER * (workers + -(-workers // 4)) + BESIDES
    if soft == resource.RLIM_INFINITY or needed <= soft:
        return ""
    return (
        f"the Kingpin needs up to {needed:,} open files for {workers:,} workers, and the hard limit is {soft:,}. Some "
        f"may not start. Raise it: `ulimit -Hn {needed}`, LimitNOFILE= of a unit, --ulimit nofile= of a container."
    )
