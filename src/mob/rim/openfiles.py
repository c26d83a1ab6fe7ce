"""The maximum number of open files: the Kingpin needs a few for each worker, and workers get the original limit.

The limit of a shell is low (1024) because of old programs that use `select`, and every process can raise its own up to
the hard limit. So the Kingpin and its fork server raise theirs, and a mobster, which runs code of the application,
begins with the limit with which the app started. An environment variable passes that number from one program to the
next.
"""

from __future__ import annotations

import os
import resource

VARIABLE = "MOB_OPEN_FILES"
MOST = 1024 * 1024
"""Maximum limit to set: more is of no use, and with a hard limit of a billion some programs check each number."""
PER_WORKER = 4
"""File descriptors of the Kingpin for each worker: two links and two pipes."""
BESIDES = 100
"""Other file descriptors that the Kingpin needs, with some clients."""


def raise_limit(is_told: bool = True) -> None:
    """Raise this process's limit of open files to the maximum. `is_told`: note the old limit for the workers."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST if hard == resource.RLIM_INFINITY else min(hard, MOST)
    if soft != resource.RLIM_INFINITY and soft < most:
        if is_told:
            os.environ.setdefault(VARIABLE, str(soft))
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def give_back_limit() -> None:
    """Restore the limit with which the app started."""
    before = os.environ.pop(VARIABLE, "")
    if before.isdigit():
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (int(before), hard))


def shortage(workers: int) -> str:
    """Return a warning if this process cannot have enough open files for that many workers, otherwise "".

    During a reload a quarter of the workers exists twice.

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
