"""What is written of a durable job: what stands between the keeper of jobs and the place where they lie.

Limits. Knows no place: `store.py` has the file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import msgspec

from mob.core.jobs import Entry, JobState
from mob.errors import MobError

DEAD_KEEP = 30 * 86400.0
"""Seconds for which dead jobs are kept, as those of a cluster."""


FileRow = tuple[Any, ...]
Outcome = tuple[int, bytes]
"""How a job has ended: one of the numbers below, and a value or a `Failure`."""
RETURNED, RAISED, DROPPED = range(3)


class QueueBroken(MobError):
    """The file of the queue cannot be used; the text says why, and what to do."""


class QueueFull(MobError):
    """What was to be stored could not be written, for now."""


class JobChanged(NamedTuple):
    """What is to be written of a job that is there already."""

    id: str
    values: FileRow

    @classmethod
    def of(cls, entry: Entry, ahead: float, failure: bytes | None = None) -> JobChanged:
        """Take down how a job stands now; `ahead`: by how much the clock on the wall is ahead of the keeper's;
        `failure`: what it has died of, if it has."""
        state = "" if failure is None else str(JobState.DEAD)
        counts = (entry.attempts, entry.failures, entry.deaths)
        return cls(entry.id, (entry.due + ahead, entry.is_at, *counts, state, failure, entry.id))


class JobEnded(NamedTuple):
    """A job is over. `at` is None if nobody is to ask for the outcome."""

    id: str
    at: float | None
    how: int = RETURNED
    value: bytes = b""


Stored = Callable[[Exception | None], None]
Answered = Callable[[Any, Exception | None], None]


def row_of(entry: Entry, body: bytes, ahead: float) -> FileRow:
    """Return a new job as it stands in the file; `ahead` as above."""
    e = entry
    ordered = (
        e.priority,
        e.due + ahead,
        e.is_at,
        e.key,
        e.retries,
        e.backoff,
        e.attempts,
        e.failures,
        e.deaths,
        e.made,
    )
    return (e.id, e.role, e.target, *ordered, "", body, None)


class JobRow(msgspec.Struct, frozen=True):
    """A durable job that is not done, as `Client.jobs` and `mob jobs --json` tell it."""

    id: str
    job: str
    """The export that it calls, as `back.resize`."""
    role: str
    state: str
    """"waiting", "later", "running" or "dead"."""
    age: float
    """Seconds since it was made."""
    due_in: float
    """Seconds until it is tried; 0 if it is due."""
    attempts: int
    priority: int
    key: str
    worker: str
    """Who runs it, as `back.2`; nothing if it does not run."""
    error: str
    """What a dead one has died of."""


class JobPlace(Protocol):
    """Where jobs lie: the file of `jobs/store.py`, or in a cluster the stream of `cluster/jobs.py`. They say what
    each means."""

    @property
    def path(self) -> Path | str: ...
    @property
    def most(self) -> int: ...
    async def open(self, now: float) -> list[Entry]: ...
    async def close(self) -> None: ...
    def put(self, rows: Sequence[FileRow], done: Stored) -> None: ...
    def write(self, what: JobChanged | JobEnded, done: Callable[[], None] | None = None) -> None: ...
    def body(self, id: str, done: Answered) -> None: ...
    def outcome(self, id: str, done: Answered) -> None: ...
    def failures(self, ids: Sequence[str], done: Answered) -> None: ...
    def purge(self, now: float, keep: float, dead: Sequence[str]) -> None: ...
