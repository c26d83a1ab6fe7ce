"""The book of durable jobs: which one is due, which worker has it, and what happens to it when it fails.

Strategy. A job waits, is taken by a worker, and ends: it is done, or dead after too many attempts. The due jobs of a
role are in one queue, ordered by priority and then by time; jobs that are not due yet are in another, ordered by time.
A queue is a heap whose entries stay behind when their job moves on; each carries a number that shows that.

Time is the keeper's clock: seconds since the epoch that never jump. A job with a certain time (`is_at`) is due by the
wall clock, so `shift` moves those jobs when that clock was set.

Limits. Knows no file, no process and no arguments: a job here is what is needed to order it. The keeper stores what is
decided here.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator
from enum import StrEnum

from msgspec import Struct

from mob.plan import QUEUE
from mob.wire.messages import AppMetric

RETRIES = 3
"""Number of times that a failed job is retried; the same as for calls of idempotent exports after a death."""
BACKOFF = 1.0
"""Seconds until a failed job is retried for the first time."""
GROWTH = 5.0
"""Factor by which the pause grows with each failure: 1 s, 5 s, 25 s, 125 s, as for durable messages in a cluster."""
LONGEST = 3600.0
"""Maximum seconds of a pause."""
DEATHS = 5
"""Number of worker deaths after which a job is dead; SQS recommends 3 to 5 attempts."""


class JobState(StrEnum):
    """The state of a job."""

    WAITING = "waiting"
    """It is due, and waits for a worker."""
    LATER = "later"
    """It is not due yet: for the first time, or for another attempt."""
    RUNNING = "running"
    """A worker has it, or it ended and that is not stored yet."""
    DEAD = "dead"
    """It failed too often, and is not retried unless a user asks for it."""


COUNTED = "queue_jobs"
"""The metric for the number of jobs, by the role that runs them and by their state."""


def said_of(metrics: Iterable[AppMetric]) -> str:
    """Return the number of jobs, as in `mob ps`: `3 waiting, 1 dead`; "" if there are none."""
    counts: Counter[str] = Counter()
    for metric in metrics:
        for sample in metric.samples if metric.name == COUNTED else ():
            if sample.role == QUEUE:
                counts[sample.labels[-1]] += int(sample.value)
    return ", ".join(f"{counts[state]:,} {state}" for state in JobState if counts[state])


class Entry(Struct):
    """A job, as the book knows it."""

    id: str
    role: str
    target: str
    """The export that it calls; "" for a message."""
    priority: int = 0
    due: float = 0.0
    """Time at which it may begin; of a dead one, the time of its death."""
    is_at: bool = False
    """True if it is due at a certain time of the wall clock, and not after a delay."""
    key: str = ""
    retries: int = RETRIES
    backoff: float = BACKOFF
    attempts: int = 0
    """Number of times that a worker got it."""
    failures: int = 0
    """Number of times that its handler raised."""
    deaths: int = 0
    """Number of times that its worker died while running it."""
    made: float = 0.0
    """Time at which it was made, by the wall clock."""
    state: JobState = JobState.WAITING
    ticket: int = 0
    """Number of its place in a queue; a new one each time that it waits."""

    @property
    def label(self) -> str:
        """The name for users: `back.resize`."""
        return f"{self.role}.{self.target}" if self.target else f"a message to {self.role!r}"


class _Lines:
    """The waiting jobs of a role."""

    __slots__ = ("due", "later")

    def __init__(self) -> None:
        self.due: list[tuple[int, float, int, str]] = []
        self.later: list[tuple[float, int, str]] = []


class JobBook:
    """The jobs of an app that are not done."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        self._keys: dict[str, str] = {}  # id of the job that is not dead, by key
        self._lines: dict[str, _Lines] = {}
        self._counts: Counter[tuple[str, JobState]] = Counter()
        self._tickets = 0

    def __repr__(self) -> str:
        return f"<JobBook of {len(self._entries)} jobs>"

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    def get(self, id: str) -> Entry | None:
        """Return the job of that id; None if it is done or never existed."""
        return self._entries.get(id)

    def holder(self, key: str) -> str:
        """Return the id of the job that has the key now; "" if there is none."""
        return self._keys.get(key, "")

    def roles(self) -> list[str]:
        """Return the roles that jobs wait for, or waited for."""
        return list(self._lines)

    def counts(self) -> dict[tuple[str, JobState], int]:
        """Return the number of jobs, by role and state."""
        return {which: count for which, count in self._counts.items() if count}

    # ---------------------------------------------------------------------------------------------- coming

    def put(self, entry: Entry, now: float) -> None:
        """Add a job: a new one, or one that was stored. Its key must be free."""
        self._entries[entry.id] = entry
        self._counts[entry.role, entry.state] += 1
        if entry.state is not JobState.DEAD:
            if entry.key:
                self._keys[entry.key] = entry.id
            self._line_up(entry, now)

    def shift(self, seconds: float, now: float) -> None:
        """Handle a wall clock that was set forward (or back): jobs that are due at a certain time are due earlier.

        `seconds` is the change; negative if the clock was set back.
        """
        for entry in self._entries.values():
            if entry.is_at and entry.state in (JobState.WAITING, JobState.LATER):
                entry.due -= seconds
                self._line_up(entry, now)

    def _line_up(self, entry: Entry, now: float) -> None:
        self._tickets += 1
        entry.ticket = self._tickets
        lines = self._lines.get(entry.role)
        if lines is None:
            lines = self._lines[entry.role] = _Lines()
        if entry.due <= now:
            self._step(entry, JobState.WAITING)
            heapq.heappush(lines.due, (-entry.priority, entry.due, entry.ticket, entry.id))
        else:
            self._step(entry, JobState.LATER)
            heapq.heappush(lines.later, (entry.due, entry.ticket, entry.id))

    def _step(self, entry: Entry, state: JobState) -> None:
        counts = self._counts
        counts[entry.role, entry.state] -= 1
        counts[entry.role, state] += 1
        entry.state = state

    # ---------------------------------------------------------------------------------------------- taking

    def take(self, role: str, now: float) -> Entry | None:
        """Return the next job of a role, which runs from now on; None if none is due."""
        lines = self._lines.get(role)
        if lines is None:
            return None
        self._promote(lines, now)
        while lines.due:
            _, _, ticket, id = heapq.heappop(lines.due)
            entry = self._entries.get(id)
            if entry is not None and entry.ticket == ticket:
                entry.ticket = 0
                self._step(entry, JobState.RUNNING)
                entry.attempts += 1
                return entry
        return None

    def next_due(self, now: float) -> float | None:
        """Return when the next job that is not due yet is due; None if there is none."""
        times: list[float] = []
        for lines in self._lines.values():
            self._promote(lines, now)
            while lines.later and not self._is_there(lines.later[0][2], lines.later[0][1]):
                heapq.heappop(lines.later)
            if lines.later:
                times.append(lines.later[0][0])
        return min(times, default=None)

    def _promote(self, lines: _Lines, now: float) -> None:
        """Move jobs that have become due."""
        while lines.later and lines.later[0][0] <= now:
            due, ticket, id = heapq.heappop(lines.later)
            if self._is_there(id, ticket):
                entry = self._entries[id]
                self._step(entry, JobState.WAITING)
                heapq.heappush(lines.due, (-entry.priority, due, ticket, id))

    def _is_there(self, id: str, ticket: int) -> bool:
        """Return True if a place in a queue is still that of its job."""
        entry = self._entries.get(id)
        return entry is not None and entry.ticket == ticket

    # ---------------------------------------------------------------------------------------------- ending

    def end(self, id: str) -> None:
        """End a job that is done, or dropped, and whose end is still to be stored. Its key is free.

        Until then it counts as running, because a keeper that dies now leaves it to the next one.
        """
        entry = self._entries[id]
        entry.ticket = 0
        self._step(entry, JobState.RUNNING)
        self._release(entry)

    def finish(self, id: str) -> Entry | None:
        """Forget a job that is over; return it."""
        entry = self._entries.pop(id, None)
        if entry is not None:
            self._counts[entry.role, entry.state] -= 1
            self._release(entry)
        return entry

    def fail(self, id: str, now: float, is_final: bool = False) -> float | None:
        """Handle an exception of a job's handler: return when it is retried, None if it is dead.

        `is_final`: another attempt would fail in the same way.
        """
        entry = self._entries[id]
        entry.failures += 1
        if is_final or entry.failures > entry.retries:
            return self._bury(entry, now)
        return self._try_at(entry, now, min(entry.backoff * GROWTH ** min(entry.failures - 1, 99), LONGEST))

    def lose(self, id: str, now: float) -> float | None:
        """Handle the death of the worker that ran a job: return when it is retried, None if it is dead."""
        entry = self._entries[id]
        entry.deaths += 1
        return (
            self._bury(entry, now) if entry.deaths >= DEATHS else self._try_at(entry, now, BACKOFF * (entry.deaths - 1))
        )

    def give_back(self, id: str, now: float, pause: float = 0.0) -> float:
        """Handle a job that its worker did not begin: another may, after a pause. Return when."""
        entry = self._entries[id]
        entry.attempts -= 1
        return self._try_at(entry, now, pause)

    def retry(self, id: str, now: float) -> bool:
        """Retry a dead job, or run a waiting one now, because a user asked for it; return True if that is possible."""
        entry = self._entries.get(id)
        if entry is None or entry.state is JobState.RUNNING or self._keys.get(entry.key, id) != id:
            return False
        if entry.key:
            self._keys[entry.key] = id
        entry.failures = entry.deaths = 0
        self._try_at(entry, now, 0.0)
        return True

    def _try_at(self, entry: Entry, now: float, pause: float) -> float:
        entry.due, entry.is_at = now + pause, False
        self._line_up(entry, now)
        return entry.due

    def forget_dead(self, before: float) -> list[str]:
        """Forget the jobs that died before that time; return their ids."""
        old = [each.id for each in self._entries.values() if each.state is JobState.DEAD and each.due < before]
        for id in old:
            self.finish(id)
        return old

    def _bury(self, entry: Entry, now: float) -> None:
        entry.due, entry.is_at = now, False  # the time of its death
        self._step(entry, JobState.DEAD)
        self._release(entry)

    def _release(self, entry: Entry) -> None:
        if entry.key and self._keys.get(entry.key) == entry.id:
            del self._keys[entry.key]
