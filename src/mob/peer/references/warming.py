"""Prepares pages before they are written, in a thread that exists only while there is something to do.

Fresh memory costs more than the copy into it: each page is found, cleared and mapped when it is first touched. So after
a large buffer took memory from the system, a thread maps what was written, for the next buffer in that place, and
prepares the part that the next buffer will get (`SegmentPool.ahead`). It gives way to everything else: it works in
small steps, at a lower priority, and holds neither the GIL nor a lock during a step.

Limits. It starts only after a large buffer found no prepared memory, so never in a process that sends none. If the
system cannot do it (Linux before 5.14) it ends at once.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable

from mob.rim.segments import Memory

STEP = 2 * 1024 * 1024
"""Number of bytes in one step, which blocks others for about a millisecond."""
NICENESS = 10

Part = tuple[Memory, int, int]
"""The memory to prepare, from an offset to an end."""


class Warming:
    """The thread of one process; `next_part` returns the next step or None, and `done` is called after each."""

    def __init__(self, next_part: Callable[[], Part | None], done: Callable[[int, int], None]) -> None:
        self._next_part = next_part
        self._done = done
        self._lock = threading.Lock()
        self._runs = False
        self._is_asked = False

    def __repr__(self) -> str:
        return f"<Warming: {'at work' if self._runs else 'nothing to do'}>"

    def wake(self) -> None:
        """Look for something to do."""
        with self._lock:
            self._is_asked = True
            if self._runs:
                return
            self._runs = True
        try:
            threading.Thread(target=self._run, name="mob-pages", daemon=True).start()
        except RuntimeError:  # no more threads: memory is prepared when it is needed, as without this thread
            self._runs = False

    def _run(self) -> None:
        with contextlib.suppress(OSError, AttributeError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
        while self._goes_on():
            while (part := self._next_part()) is not None:
                memory, offset, end = part
                if not memory.populate(offset, end):
                    break  # the system has no memory to spare, or cannot do it
                self._done(offset, end)

    def _goes_on(self) -> bool:
        with self._lock:
            self._runs, self._is_asked = self._is_asked, False
            return self._runs
