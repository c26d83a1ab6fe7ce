"""The stored form of a durable job: the interface between the keeper of jobs and the place where jobs are stored.

Limits. Knows no storage: `store.py` has the file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import msgspec

from mob.core.jobs import Entry, JobState
from mob.errors import MobError

DEAD_KEEP = 30 * 86400.0
"""Seconds for which dead jobs are kept, the same as in a cluster."""


FileRow = tuple[Any, ...]
Outcome = tuple[int, bytes]
"""The end of a job: one of the numbers below, and a value or a `Failure`."""
RETURNED, RAISED, DROPPED = range(3)


class QueueBroken(MobError):
    """The file of the queue cannot be used; the text says why, and what to do."""


class QueueFull(MobError):
    """Something could not be stored, for now."""


class JobChanged(NamedTuple):
    """A change of a stored job."""

    id: str
    values: FileRow

    @classmethod
    def of(cls, entry: Entry, ahead: float, failure: bytes | None = None) -> JobChanged:
        """Return the current state of a job.

        `ahead`: seconds by which the wall clock is ahead of the keeper's; `failure`: what a dead job died of.
        """
        state = "" if failure is None else str(JobState.DEAD)
        counts = (entry.attempts, entry.failures, entry.deaths)
        return cls(entry.id, (entry.due + ahead, entry.is_at, *counts, state, failure, entry.id))


class JobEnded(NamedTuple):
    """The end of a job. `at` is None if no one will ask for the outcome."""

    id: str
    at: float | None
    how: int = RETURNED
    value: bytes = b""


Stored = Callable[[Exception | None], None]
Answered = Callable[[Any, Exception | None], None]


def row_of(entry: Entry, body: bytes, ahead: float) -> FileRow:
    """Return the row of a new job; `ahead` as above."""
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
    """A durable job that is not done, as shown by `Client.jobs` and `mob jobs --json`."""

    id: str
    job: str
    """The export that it calls, such as `back.resize`."""
    role: str
    state: str
    """One of "waiting", "later", "running" and "dead"."""
    age: float
    """Seconds since it was made."""
    due_in: float
    """Seconds until it runs; 0 if it is due."""
    attempts: int
    priority: int
    key: str
    worker: str
    """The worker that runs it, such as `back.2`; empty if it does not run."""
    error: str
    """The reason why a dead job died."""


class JobPlace(Protocol):
    """Storage of jobs: the file of `jobs/store.py`, or in a cluster the stream of `cluster/jobs.py`.

    They document what each method means.
    """

    @property
    def path(self) -> Path | str:
        """The place of the jobs, for messages."""
        ...

    @property
    def most(self) -> int:
        """Maximum bytes of a job."""
        ...

    async def open(self, now: float) -> list[Entry]:
        """Open the storage and return its jobs."""
        ...

    async def close(self) -> None:
        """Write everything and close the storage."""
        ...

    def put(self, rows: Sequence[FileRow], done: Stored) -> None:
        """Store new jobs."""
        ...

    def write(self, what: JobChanged | JobEnded, done: Callable[[], None] | None = None) -> None:
        """Store a change or the end of a job."""
        ...

    def body(self, id: str, done: Answered) -> None:
        """Read the arguments of a job."""
        ...

    def outcome(self, id: str, done: Answered) -> None:
        """Read how a job ended."""
        ...

    def failures(self, ids: Sequence[str], done: Answered) -> None:
        """Read what dead jobs died of."""
        ...

    def purge(self, now: float, keep: float, dead: Sequence[str]) -> None:
        """Remove old outcomes and dead jobs."""
        ...
