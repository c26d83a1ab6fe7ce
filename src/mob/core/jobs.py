"""The book of durable jobs: which one is due, who has it, and what becomes of it when it fails.

Strategy. A job waits, is taken by a worker, and ends: it is done, or dead after too many attempts. Those of a role that
are due stand in one line, ordered by priority and then by time; those that are not due yet stand in another, ordered by
time. A line is a heap whose entries are left behind when their job moves on; each carries a number that tells so.

Time is the keeper's clock: seconds since the epoch that never jump. A job with a certain time (`is_at`) is due by the
clock on the wall, so `shift` moves those when that clock was set.

Limits. Knows no file, no process and no arguments: a job is here what is needed to order it. It is the keeper that
stores what is decided here.
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
"""How often a job is tried again that has failed; as often as calls of idempotent exports after a death."""
BACKOFF = 1.0
"""Seconds until a job that has failed is tried again."""
GROWTH = 5.0
"""By which the pause grows with each failure: 1 s, 5 s, 25 s, 125 s, as for durable messages in a cluster."""
LONGEST = 3600.0
"""Seconds of the longest pause."""
DEATHS = 5
"""Workers that a job may take with it before it is dead; SQS recommends 3 to 5 attempts."""


class JobState(StrEnum):
    """Where a job stands."""

    WAITING = "waiting"
    """It is due, and a worker is to come."""
    LATER = "later"
    """Its time is to come: the first one, or that of another attempt."""
    RUNNING = "running"
    """A worker has it, or it has ended and that is not written yet."""
    DEAD = "dead"
    """It has failed too often, and is not tried again unless somebody wants it."""


COUNTED = "queue_jobs"
"""The metric that says how many jobs there are, by the role that runs them and by their state."""


def said_of(metrics: Iterable[AppMetric]) -> str:
    """Return how many jobs there are, as `mob ps` says it: `3 waiting, 1 dead`; "" if there are none."""
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
    """When it may begin; of a dead one, when it has died."""
    is_at: bool = False
    """Whether it is due at a certain time of the clock on the wall, and not after a delay."""
    key: str = ""
    retries: int = RETRIES
    backoff: float = BACKOFF
    attempts: int = 0
    """How often a worker was given it."""
    failures: int = 0
    """How often its handler has raised."""
    deaths: int = 0
    """How often its worker has died over it."""
    made: float = 0.0
    """When it was made, by the clock on the wall."""
    state: JobState = JobState.WAITING
    ticket: int = 0
    """Of its place in a line; another each time that it waits."""

    @property
    def label(self) -> str:
        """As people read it: `back.resize`."""
        return f"{self.role}.{self.target}" if self.target else f"a message to {self.role!r}"


class _Lines:
    """The jobs of a role that wait."""

    __slots__ = ("due", "later")

    def __init__(self) -> None:
        self.due: list[tuple[int, float, int, str]] = []
        self.later: list[tuple[float, int, str]] = []


class JobBook:
    """The jobs of an app that are not done."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        self._keys: dict[str, str] = {}  # of those that are not dead, the id
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
        """Return the job of that id, None if it is done or was never there."""
        return self._entries.get(id)

    def holder(self, key: str) -> str:
        """Return the id of the job that has the key now; "" if there is none."""
        return self._keys.get(key, "")

    def roles(self) -> list[str]:
        """Return the roles that jobs wait for, or have waited for."""
        return list(self._lines)

    def counts(self) -> dict[tuple[str, JobState], int]:
        """Return how many jobs there are, by role and state."""
        return {which: count for which, count in self._counts.items() if count}

    # ---------------------------------------------------------------------------------------------- coming

    def put(self, entry: Entry, now: float) -> None:
        """Take in a job: a new one, or one that was stored. Its key must be free."""
        self._entries[entry.id] = entry
        self._counts[entry.role, entry.state] += 1
        if entry.state is not JobState.DEAD:
            if entry.key:
                self._keys[entry.key] = entry.id
            self._line_up(entry, now)

    def shift(self, seconds: float, now: float) -> None:
        """The clock on the wall was set forward by so many seconds (or back): what is due at a certain time is due that
        much earlier."""
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
        """Return the job of a role that comes next, which runs from now on; None if none is due."""
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
        """Return when the next job is due that is not due now; None if there is none."""
        times: list[float] = []
        for lines in self._lines.values():
            self._promote(lines, now)
            while lines.later and not self._is_there(lines.later[0][2], lines.later[0][1]):
                heapq.heappop(lines.later)
            if lines.later:
                times.append(lines.later[0][0])
        return min(times, default=None)

    def _promote(self, lines: _Lines, now: float) -> None:
        """Move what has become due."""
        while lines.later and lines.later[0][0] <= now:
            due, ticket, id = heapq.heappop(lines.later)
            if self._is_there(id, ticket):
                entry = self._entries[id]
                self._step(entry, JobState.WAITING)
                heapq.heappush(lines.due, (-entry.priority, due, ticket, id))

    def _is_there(self, id: str, ticket: int) -> bool:
        """Return whether a place in a line is still that of its job."""
        entry = self._entries.get(id)
        return entry is not None and entry.ticket == ticket

    # ---------------------------------------------------------------------------------------------- ending

    def end(self, id: str) -> None:
        """The job is done, or dropped, and that is to be written: until then it counts as one that runs, for a keeper
        that dies now leaves it to the next one. Its key is free."""
        entry = self._entries[id]
        entry.ticket = 0
        self._step(entry, JobState.RUNNING)
        self._release(entry)

    def finish(self, id: str) -> Entry | None:
        """The job is over, and is forgotten here; return what it was."""
        entry = self._entries.pop(id, None)
        if entry is not None:
            self._counts[entry.role, entry.state] -= 1
            self._release(entry)
        return entry

    def fail(self, id: str, now: float, is_final: bool = False) -> float | None:
        """The handler of a job has raised: return when it is tried again, None if it is dead. `is_final`: another
        attempt would fail in the same way."""
        entry = self._entries[id]
        entry.failures += 1
        if is_final or entry.failures > entry.retries:
            return self._bury(entry, now)
        return self._try_at(entry, now, min(entry.backoff * GROWTH ** min(entry.failures - 1, 99), LONGEST))

    def lose(self, id: str, now: float) -> float | None:
        """The worker that ran a job has died: return when it is tried again, None if it is dead."""
        entry = self._entries[id]
        entry.deaths += 1
        return (
            self._bury(entry, now) if entry.deaths >= DEATHS else self._try_at(entry, now, BACKOFF * (entry.deaths - 1))
        )

    def give_back(self, id: str, now: float, pause: float = 0.0) -> float:
        """The worker has not begun a job that it was given: another may, after a pause. Return when."""
        entry = self._entries[id]
        entry.attempts -= 1
        return self._try_at(entry, now, pause)

    def retry(self, id: str, now: float) -> bool:
        """Somebody wants a dead job tried again, or one that waits tried now; return whether it is."""
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
        """Forget the dead jobs that have died before then; return their ids."""
        old = [each.id for each in self._entries.values() if each.state is JobState.DEAD and each.due < before]
        for id in old:
            self.finish(id)
        return old

    def _bury(self, entry: Entry, now: float) -> None:
        entry.due, entry.is_at = now, False  # when it has died
        self._step(entry, JobState.DEAD)
        self._release(entry)

    def _release(self, entry: Entry) -> None:
        if entry.key and self._keys.get(entry.key) == entry.id:
            del self._keys[entry.key]
