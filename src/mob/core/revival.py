"""When a dead mobster's successor is launched.

The first death of a worker that had been ready is answered at once. A worker that dies again soon, or that never gets
ready, is launched after a pause that grows from 0.1 s by half each time up to 15 s; half a minute of health starts
the count anew (the figures are PM2's exponential backoff). A tenth more or less, by chance, keeps those that died
together from coming back together.

Whether there is a successor at all is the policy of the role, in Erlang/OTP's words: `restart`, and `intensity` within
a `period`.
"""

from __future__ import annotations

from collections import deque

from mob.plan import RolePlan

FIRST_PAUSE = 0.1
GROWTH = 1.5
LONGEST_PAUSE = 15.0
HEALTHY_AFTER = 30.0
JITTER = 0.1
SHORTAGE_PAUSE = 1.0
"""Seconds until a launch is tried again for which the Kingpin had no descriptors or no memory."""
DONE, STOPPED, FAILED = "done", "stopped", "failed"
OUTCOMES = frozenset({DONE, STOPPED, FAILED})
"""How the last process of a place may have ended: it did its work, somebody ended it, or it failed."""


def pause_between(growths: int, first: float, growth: float, longest: float) -> float:
    """Return a pause that has grown that many times from the first one, and no longer than the longest."""
    return min(longest, first * growth ** min(growths, 64))  # a float cannot hold all powers


def is_wanted(role: RolePlan, status: int | None, restarting: bool) -> bool:
    """Whether a worker that ended with this exit status is to have a successor (None: it was never born)."""
    if restarting:
        return True
    if role.restart == "temporary" or status in role.stop_exit_codes:
        return False
    return role.restart == "permanent" or status != 0


def outcome_of(role: RolePlan, status: int | None, was_told: bool) -> str:
    """Return how a worker ended that has no successor, as one of `OUTCOMES`.

    >>> outcome_of(RolePlan("migrate", "migrate", restart="temporary"), 0, was_told=False)
    'done'
    """
    if was_told:
        return STOPPED
    return DONE if status == 0 or status in role.stop_exit_codes else FAILED


class Intensity:
    """The revivals of a role within its period."""

    __slots__ = ("_times", "has_given_up")

    def __init__(self) -> None:
        self._times: deque[float] = deque()
        self.has_given_up: bool = False

    def __repr__(self) -> str:
        return f"<Intensity {len(self._times)} revivals, {'given up' if self.has_given_up else 'going on'}>"

    def allows(self, role: RolePlan, now: float) -> bool:
        """Whether one more revival is tolerated; counts it. Once it is not, none is until `reset`."""
        if role.intensity is None:
            return True
        self._times.append(now)
        while self._times[0] <= now - role.period:
            self._times.popleft()
        self.has_given_up = self.has_given_up or len(self._times) > role.intensity
        return not self.has_given_up

    def reset(self) -> None:
        """Counts from anew: somebody has done something about it."""
        self._times.clear()
        self.has_given_up = False


class Revival:
    """The memory of one slot: how often in a row its processes failed."""

    __slots__ = ("failures", "restarts")

    def __init__(self) -> None:
        self.failures: int = 0
        self.restarts: int = 0

    def __repr__(self) -> str:
        return f"<Revival {self.failures} failures in a row, {self.restarts} restarts>"

    def pause_after(self, was_ready: bool, lived: float, asked: bool = False, luck: float = 0.5) -> float:
        """Seconds until the successor of a process that lived for `lived` seconds (since ready, if it was ready).

        One that ended because it was asked to has not failed. `luck` is a random number from 0 to 1.
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
        return pause_between(growths, FIRST_PAUSE, GROWTH, LONGEST_PAUSE) * (1 + JITTER * (2 * luck - 1))
