"""The ledger of durable jobs: the book, and its copy in the store; the only place where both are changed.

Strategy. The end of a job is noted here. Until it is in the store the job stays in the book as a running one, so that
requests find it there; then it is forgotten, and callers that wait for its end are answered. The latest outcomes are
kept in memory, and so are the arguments of waiting jobs, up to a limit; others are read from the store when they are
needed. The keeper's clock is here: seconds since the epoch that never jump, and by how much the wall clock was set
since.

Limits. Knows no worker and no sender; the book decides which job is due when (`core/jobs.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from time import monotonic, time
from typing import Any

from mob.core.job_rows import DEAD_KEEP, RAISED, RETURNED, JobChanged, JobEnded, JobPlace, Outcome, row_of
from mob.core.jobs import Entry, JobBook, JobState
from mob.errors import QueueFailed, Unavailable, UnknownJob
from mob.peer.context import Context

BODIES = 64 * 1024 * 1024
"""Maximum bytes of arguments that are kept in memory; others are read from the file when they are needed."""
RECENT = 10_000
"""Maximum number of outcomes that are kept in memory; others are read from the file."""
RECENT_BYTES = 64 * 1024
"""Maximum bytes of an outcome that is kept in memory."""
JUMP = 1.0
"""Seconds by which the wall clock must differ from what it should show to count as set."""
PURGE = 3600.0
"""Seconds between two removals of old outcomes."""
_NONE = b"\xc0"  # MessagePack


class Ledger:
    """The jobs of an app, and the outcomes of those that are over."""

    def __init__(self, context: Context, store: JobPlace, keep: float) -> None:
        self.book: JobBook = JobBook()
        self.store: JobPlace = store
        self._log = context.log
        self._loop = context.reactor.loop
        self._keep = keep
        self._offset = time() - monotonic()  # of the keeper's clock, which never jumps
        self._ahead = 0.0  # by how much the wall clock is ahead of it, because it was set since
        self._bodies: dict[str, bytes] = {}
        self._bytes = 0
        self._waiters: dict[str, list[asyncio.Future[Outcome]]] = {}
        self._unwritten: dict[str, Outcome] = {}  # outcomes that are not in the store yet
        self._recent: OrderedDict[str, Outcome | None] = OrderedDict()
        self._purging: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<Ledger of {len(self.book)} jobs in {self.store.path}>"

    def now(self) -> float:
        """Return the time by the keeper's clock."""
        return monotonic() + self._offset

    def check_clock(self) -> float:
        """Return the time, and move jobs that are due at a certain one if the wall clock was set."""
        now = self.now()
        jump = time() - now - self._ahead
        if abs(jump) > JUMP:
            self._ahead += jump
            self._log.warning(
                "the clock was set by %+.0f s, or the machine was suspended: jobs with at= follow it, others do not.",
                jump,
            )
            self.book.shift(jump, now)
            for entry in self.book:
                if entry.state is JobState.LATER and not entry.is_at:
                    self.store.write(JobChanged.of(entry, self._ahead))
        return now

    # ------------------------------------------------------------------------------------------- what is there

    def load(self, entries: Iterable[Entry]) -> None:
        """Add the stored jobs, and begin to forget what is old."""
        now = self.now()
        for entry in entries:
            self.book.put(entry, now)
        self._begin_to_purge()

    def store_new(self, new: Sequence[tuple[Entry, bytes]], done: Callable[[Exception | None], None]) -> None:
        """Write new jobs to the store; `done` gets None when they are there, or the error."""
        self.store.put([row_of(entry, body, self._ahead) for entry, body in new], done)

    def take_in(self, entry: Entry, body: bytes) -> None:
        """Add a job that was stored."""
        self.book.put(entry, self.now())
        if self._bytes + len(body) <= BODIES:
            self._bodies[entry.id] = body
            self._bytes += len(body)

    def body(self, id: str) -> bytes | None:
        """Return the body of a job; None if it must be read from the store."""
        return self._bodies.get(id)

    def _forget_body(self, id: str) -> None:
        body = self._bodies.pop(id, None)
        self._bytes -= 0 if body is None else len(body)

    # ----------------------------------------------------------------------------------------------- ending

    def write(self, entry: Entry, done: Callable[[], None] | None = None) -> None:
        """Write the state of a job that is to be retried."""
        self.store.write(JobChanged.of(entry, self._ahead), done)

    def bury(self, entry: Entry, failure: bytes) -> None:
        """Note that a job is dead, because of that failure."""
        outcome = self._unwritten[entry.id] = (RAISED, failure)
        self._forget_body(entry.id)
        self.store.write(JobChanged.of(entry, self._ahead, failure), partial(self._tell, entry.id, outcome))

    def finish(self, id: str, outcome: Outcome | None, done: Callable[[], None] | None = None) -> None:
        """End a job; `outcome` is None if no one will ask for it. `done` is called when that is written."""
        self.book.end(id)
        self._forget_body(id)
        is_kept = outcome is not None
        outcome = self._unwritten[id] = outcome or (RETURNED, _NONE)

        def tell() -> None:
            if self._unwritten.get(id) is outcome:
                self.book.finish(id)
            self._tell(id, outcome, is_kept)
            if done is not None:
                done()

        self.store.write(JobEnded(id, time() if is_kept else None, *outcome), tell)

    def _tell(self, id: str, outcome: Outcome, is_kept: bool = True) -> None:
        """Answer callers that wait for an outcome that is in the store now, if nothing has followed since."""
        if self._unwritten.get(id) is not outcome:
            return
        del self._unwritten[id]
        if not is_kept or len(outcome[1]) <= RECENT_BYTES:
            self._recent[id] = outcome if is_kept else None
            if len(self._recent) > RECENT:
                self._recent.popitem(last=False)
        for waiter in self._waiters.pop(id, ()):
            if not waiter.done():
                waiter.set_result(outcome)

    def _begin_to_purge(self) -> None:
        self.store.purge(time(), self._keep, self.book.forget_dead(self.now() - DEAD_KEEP))
        self._purging = self._loop.call_later(PURGE, self._begin_to_purge)

    def end_waiting(self, why: Callable[[], Unavailable]) -> None:
        """Have waiting callers ask the next keeper: this one ends."""
        for waiters in self._waiters.values():
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_exception(why())
        self._waiters.clear()

    def close(self) -> None:
        """Stop removing old outcomes."""
        if self._purging is not None:
            self._purging.cancel()

    # ----------------------------------------------------------------------------------------------- asking

    def is_over(self, id: str) -> bool:
        """Return True if a job is known to have ended recently: it must not be stored again."""
        return id in self._recent

    def is_open(self, entry: Entry) -> bool:
        """Return True if a job that a worker was to get is still to be done."""
        return self.book.get(entry.id) is entry and entry.id not in self._unwritten

    def forget_outcome(self, id: str) -> None:
        """Forget the outcome of a dead job that is retried."""
        self._recent.pop(id, None)
        self._unwritten.pop(id, None)

    async def outcome(self, id: str) -> Outcome:
        """Wait for the end of a job; return its outcome."""
        entry = self.book.get(id)
        if id in self._unwritten or (entry is not None and entry.state is not JobState.DEAD):
            waiter: asyncio.Future[Outcome] = self._loop.create_future()
            self._waiters.setdefault(id, []).append(waiter)
            try:
                return await waiter
            finally:
                self._forget_waiter(id, waiter)
        return await self.ended(id)

    def _forget_waiter(self, id: str, waiter: asyncio.Future[Outcome]) -> None:
        waiters = self._waiters.get(id)
        if waiters is not None:
            with contextlib.suppress(ValueError):
                waiters.remove(waiter)
            if not waiters:
                del self._waiters[id]

    async def ended(self, id: str) -> Outcome:
        """Return the outcome of a job; raise `UnknownJob` if it is unknown."""
        found = self._recent.get(id)
        if found is None:
            found = await self._ask(partial(self.store.outcome, id))
        if found is None:
            raise UnknownJob(
                f"there is no job {id!r}. Either it is not on the disk yet (wait for `job.stored` before you pass its "
                f"id on), or it is done and its result was kept for {self._keep:g} s (queue keep=), or it never "
                f"existed."
            )
        return found

    async def failures(self, ids: Sequence[str]) -> dict[str, bytes]:
        """Return the failures of dead jobs, by id."""
        return await self._ask(partial(self.store.failures, ids)) if ids else {}

    async def _ask(self, ask: Callable[[Callable[[Any, Exception | None], None]], None]) -> Any:
        """Ask the store."""
        answered: asyncio.Future[Any] = self._loop.create_future()

        def handle(value: Any, error: Exception | None) -> None:
            if answered.done():
                return
            if error is None:
                answered.set_result(value)
            else:
                answered.set_exception(QueueFailed(str(error)))

        ask(handle)
        return await answered
