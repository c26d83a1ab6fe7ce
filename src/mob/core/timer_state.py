"""The state of timers as data, which the next Kingpin takes over as it is. `core/timers.py` decides what follows."""

from __future__ import annotations

import math
from typing import NamedTuple

import msgspec

from mob.core.decisions import NOBODY, Ticket
from mob.wire.messages import TimerInfo

OK, FAILED, LOST, MISSED = OUTCOMES = ("ok", "failed", "lost", "missed")
"""The outcomes of a run: how it ended, or that it did not begin."""


class Instant(NamedTuple):
    """A moment, by three clocks."""

    wall: float
    """Seconds since the epoch."""
    boot: float
    """Seconds since the machine was booted."""
    awake: float
    """Seconds since the machine was booted, without those in which it slept."""


class Round(msgspec.Struct):
    """The runs of a timer that began together."""

    began: Instant
    open: dict[int, int]
    """The runs that have not ended: the uid of the worker by number."""
    ticket: Ticket = NOBODY
    """The ticket of the request for it, if someone waits for its end."""
    count: int = 1
    took: float = 0.0
    """Seconds of the longest run that ended, from when its function was called."""
    failed: list[str] = []
    """The errors that were raised."""
    lost: list[str] = []
    """How the workers ended that ran it."""


class RoleTimer(msgspec.Struct):
    """A timer of a role, with its whole state: the next Kingpin takes it over as it is."""

    role: str
    info: TimerInfo
    base: float
    """Time at which it is due next, by its clock."""
    due: float
    """Time at which it is due next, with its jitter; infinity if it is never due again."""
    pending: float | None = None
    """Time (without jitter) since which a run is due that could not begin yet."""
    wishes: list[Ticket] = []
    """The tickets of requests for a run that could not begin yet."""
    asked: list[int] = []
    """Uids of the workers that will report when they can begin a run."""
    ask_all_at: float | None = None
    """Time at which the other workers are asked as well, in seconds since boot; None if none was asked for this run."""
    rounds: list[Round] = []
    missed: int = 0
    """Number of runs that were missed since the last message about that."""
    why_missed: str = ""
    is_overlap_told: bool = False
    waits_since: float | None = None
    """Time since which a due run waits for a free worker, in seconds since boot."""
    wait_quiet_until: float = 0.0
    """Time before which the log does not say again that a run waits, in seconds since boot."""
    quiet_until: float = 0.0
    """Time before which the log does not say again that runs did not begin, in seconds since boot."""
    is_gone: bool = False
    """True if the role no longer has it; its last runs continue."""
    last: float = 0.0
    seconds: float = 0.0
    outcome: str = ""
    error: str = ""
    runs: dict[str, int] = {}

    @property
    def label(self) -> str:
        """The name for users: `back.report`."""
        return f"{self.role}.{self.info.name}"

    @property
    def is_waiting(self) -> bool:
        """True if a run waits for a worker."""
        return self.pending is not None or bool(self.wishes)

    @property
    def has_place(self) -> bool:
        """True if one more run may begin, unless it is for `each`."""
        return not self.info.overlap or len(self.rounds) < self.info.overlap

    def tell_wait_at(self, long: float) -> float | None:
        """Return when the log is to say that a run waits for a free worker, in seconds since boot.

        `long`: seconds for which it may wait without a message.
        """
        if self.pending is None or self.waits_since is None:
            return None
        return max(self.waits_since + long, self.wait_quiet_until)

    def clock(self, now: Instant) -> float:
        """Return the time by its own clock."""
        return now.wall if self.info.line else now.boot

    def wall(self, when: float, now: Instant) -> float:
        """Return the time of day of a moment by its clock."""
        return when if self.info.line else when - now.boot + now.wall

    def workers(self) -> set[int]:
        """Return the uids of the workers that run it."""
        return {uid for each in self.rounds for uid in each.open.values()}

    def count(self, outcome: str, number: int = 1) -> None:
        """Count runs."""
        self.runs[outcome] = self.runs.get(outcome, 0) + number

    def miss(self, number: int, why: str) -> None:
        """Count runs that do not begin."""
        self.count(MISSED, number)
        self.missed += number
        self.why_missed = why


class TimerState(msgspec.Struct):
    """All timers of an app, as one Kingpin leaves them to the next."""

    timers: list[RoleTimer] = []
    declared: dict[int, tuple[str, tuple[TimerInfo, ...]]] = {}
    """The timers that each worker declared, by uid, in the order of the declarations."""
    number: int = 0
    """Number of the last run."""
    heard: dict[str, dict[str, float]] = {}
    """Time of day at which a timer is due next, by role and name, as reported by the machine that runs it."""
    seen: Instant | None = None
    """The clocks when they were last read."""


def duration_text(seconds: float) -> str:
    """Return a duration in the usual form.

    >>> [duration_text(each) for each in (0.00042, 0.0124, 7.25, 90, 5400, 9000, 1e6)]
    ['0.4 ms', '12 ms', '7.2 s', '90 s', '90 min', '2 h', '12 days']
    """
    if seconds < 0.0095:
        return f"{seconds * 1000:.1f} ms"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    units = ((1, "s", 600), (60, "min", 2 * 3600), (3600, "h", 2 * 86400), (86400, "days", math.inf))
    return next(f"{seconds / unit:.0f} {name}" for unit, name, below in units if seconds < below)
