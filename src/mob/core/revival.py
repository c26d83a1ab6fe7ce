"""Decides when the successor of a dead mobster is launched.

After the first death of a worker that was ready, the successor starts at once. A worker that dies again soon, or never
gets ready, is launched after a pause that grows from 0.1 s by half each time up to 15 s; after half a minute of health
the count starts again (the figures are those of PM2's exponential backoff). A random tenth more or less keeps workers
that died together from coming back together.

The role decides if there is a successor at all, in the terms of Erlang/OTP: `restart`, and `intensity` within a
`period`.
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
"""Seconds until a launch is retried for which the Kingpin lacked descriptors or memory."""
DONE, STOPPED, FAILED = "done", "stopped", "failed"
OUTCOMES = frozenset({DONE, STOPPED, FAILED})
"""Possible outcomes of the last process of a place: it did its work, it was stopped on request, or it failed."""


def pause_between(growths: int, first: float, growth: float, longest: float) -> float:
    """Return a pause that grew that many times from the first one, but not beyond the longest."""
    return min(longest, first * growth ** min(growths, 64))  # a float cannot hold all powers


def is_wanted(role: RolePlan, status: int | None, restarting: bool) -> bool:
    """Return True if a worker that exited with this status gets a successor (None: the process never existed)."""
    if restarting:
        return True
    if role.restart == "temporary" or status in role.stop_exit_codes:
        return False
    return role.restart == "permanent" or status != 0


def outcome_of(role: RolePlan, status: int | None, was_asked: bool) -> str:
    """Return the outcome of a worker that has no successor, as one of `OUTCOMES`.

    >>> outcome_of(RolePlan("migrate", "migrate", restart="temporary"), 0, was_asked=False)
    'done'
    """
    if was_asked:
        return STOPPED
    return DONE if status == 0 or status in role.stop_exit_codes else FAILED


class Intensity:
    """The restarts of a role within its period."""

    __slots__ = ("_times", "has_given_up")

    def __init__(self) -> None:
        self._times: deque[float] = deque()
        self.has_given_up: bool = False

    def __repr__(self) -> str:
        return f"<Intensity {len(self._times)} restarts, {'given up' if self.has_given_up else 'going on'}>"

    def allows(self, role: RolePlan, now: float) -> bool:
        """Count one more restart; return True if it is within the limit. Once it is not, none is until `reset`."""
        if role.intensity is None:
            return True
        self._times.append(now)
        while self._times[0] <= now - role.period:
            self._times.popleft()
        self.has_given_up = self.has_given_up or len(self._times) > role.intensity
        return not self.has_given_up

    def reset(self) -> None:
        """Start counting again: a user intervened."""
        self._times.clear()
        self.has_given_up = False


class Revival:
    """The history of one slot: how often in a row its processes failed."""

    __slots__ = ("failures", "restarts")

    def __init__(self) -> None:
        self.failures: int = 0
        self.restarts: int = 0

    def __repr__(self) -> str:
        return f"<Revival {self.failures} failures in a row, {self.restarts} restarts>"

    def pause_after(self, was_ready: bool, lived: float, asked: bool = False, luck: float = 0.5) -> float:
        """Return the seconds until the successor of a process that lived for `lived` seconds starts.

        The time counts from when it was ready, if it was. A process that ended on request did not fail. `luck` is a
        random number from 0 to 1.
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
