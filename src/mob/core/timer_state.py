"""What is known of a timer: as data, which the next Kingpin takes over as it is. What follows from it is decided in
`core/timers.py`."""

from __future__ import annotations

import math
from typing import NamedTuple

import msgspec

from mob.core.decisions import NOBODY, Ticket
from mob.wire.messages import TimerInfo

OK, FAILED, LOST, MISSED = OUTCOMES = ("ok", "failed", "lost", "missed")
"""How a run ends, and what becomes of one that does not begin."""


class Instant(NamedTuple):
    """A moment, by three clocks."""

    wall: float
    """Seconds since the epoch."""
    boot: float
    """Seconds since the machine was booted."""
    awake: float
    """The same without those in which it slept."""


class Round(msgspec.Struct):
    """The runs of a timer that have begun together."""

    began: Instant
    open: dict[int, int]
    """Those that have not ended: the worker of each number."""
    ticket: Ticket = NOBODY
    """Who has asked for it, if somebody waits for its end."""
    count: int = 1
    took: float = 0.0
    """Seconds of the longest one that has ended, from when its function was called."""
    failed: list[str] = []
    """What was raised."""
    lost: list[str] = []
    """How workers ended that ran it."""


class RoleTimer(msgspec.Struct):
    """A timer of a role, and all that is known of it: what the next Kingpin takes over as it is."""

    role: str
    info: TimerInfo
    base: float
    """The time for which it is due next, by its clock."""
    due: float
    """The same with its jitter; infinity if it is never due again."""
    pending: float | None = None
    """Since when (without jitter) a run is due that could not begin yet."""
    wishes: list[Ticket] = []
    """Who has asked for a run that could not begin yet."""
    asked: list[int] = []
    """The workers that will say when they can begin a run."""
    ask_all_at: float | None = None
    """When the other workers are asked as well, in seconds since the boot; None if nobody was asked for this run."""
    rounds: list[Round] = []
    missed: int = 0
    """Runs that were missed since that was told last."""
    why_missed: str = ""
    is_overlap_told: bool = False
    waits_since: float | None = None
    """Since when a run that is due waits for a free worker, in seconds since the boot."""
    wait_quiet_until: float = 0.0
    """When it may be told again that a run waits, in seconds since the boot."""
    quiet_until: float = 0.0
    """When it may be told again that runs did not begin, in seconds since the boot."""
    is_gone: bool = False
    """Whether the role does not have it any more; its last runs go on."""
    last: float = 0.0
    seconds: float = 0.0
    outcome: str = ""
    error: str = ""
    runs: dict[str, int] = {}

    @property
    def label(self) -> str:
        """As people read it: `back.report`."""
        return f"{self.role}.{self.info.name}"

    @property
    def is_waiting(self) -> bool:
        """Whether a run waits for a worker."""
        return self.pending is not None or bool(self.wishes)

    @property
    def has_place(self) -> bool:
        """Whether one more may run, if it is not for `each`."""
        return not self.info.overlap or len(self.rounds) < self.info.overlap

    def tell_wait_at(self, long: float) -> float | None:
        """Return when it is to be told that a run waits for a free worker, in seconds since the boot; `long`: seconds
        for which it may wait untold."""
        if self.pending is None or self.waits_since is None:
            return None
        return max(self.waits_since + long, self.wait_quiet_until)

    def clock(self, now: Instant) -> float:
        """Return the time by the clock that it goes by."""
        return now.wall if self.info.line else now.boot

    def wall(self, when: float, now: Instant) -> float:
        """Return the time of day of a moment by its clock."""
        return when if self.info.line else when - now.boot + now.wall

    def workers(self) -> set[int]:
        """Return who runs it."""
        return {uid for each in self.rounds for uid in each.open.values()}

    def count(self, outcome: str, number: int = 1) -> None:
        """Count runs."""
        self.runs[outcome] = self.runs.get(outcome, 0) + number

    def miss(self, number: int, why: str) -> None:
        """Runs do not begin."""
        self.count(MISSED, number)
        self.missed += number
        self.why_missed = why


class TimerState(msgspec.Struct):
    """All timers of an app, as one Kingpin leaves them to the next."""

    timers: list[RoleTimer] = []
    declared: dict[int, tuple[str, tuple[TimerInfo, ...]]] = {}
    """What each worker has declared, in the order in which they did."""
    number: int = 0
    """Of the last run."""
    heard: dict[str, dict[str, float]] = {}
    """By role and name: the time of day for which a timer is due next, as the machine has said that runs it."""
    seen: Instant | None = None
    """The clocks when they were looked at last."""


def duration_text(seconds: float) -> str:
    """Return a time as people say it.

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
