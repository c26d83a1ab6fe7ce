"""When a dead mobster's successor is launched.

The first death of a worker that had been ready is answered at once. A worker that dies again soon, or that never gets
ready, is launched after a pause that grows from 0.1 s by half each time up to 15 s; half a minute of health starts
the count anew (the figures are PM2's exponential backoff).
"""

from __future__ import annotations

FIRST_PAUSE = 0.1
GROWTH = 1.5
LONGEST_PAUSE = 15.0
HEALTHY_AFTER = 30.0


class Revival:
    """The memory of one slot: how often in a row its processes failed."""

    __slots__ = ("failures", "restarts")

    def __init__(self) -> None:
        self.failures = 0
        self.restarts = 0

    def __repr__(self) -> str:
        return f"<Revival {self.failures} failures in a row, {self.restarts} restarts>"

    def pause_after(self, was_ready: bool, lived: float, asked: bool = False) -> float:
        """Seconds until the successor of a process that lived for `lived` seconds (since ready, if it was ready).

        One that ended because it was asked to has not failed.
        """
        self.restarts += 1
        if was_ready and lived >= HEALTHY_AFTER:
            self.failures = 0
        if asked:
            return 0.0
        self.failures += 1
        growths = self.failures - 1
        if was_ready:
            if growths == 0:
                return 0.0
            growths -= 1
        return min(LONGEST_PAUSE, FIRST_PAUSE * GROWTH ** min(growths, 64))
