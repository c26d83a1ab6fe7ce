"""The module that the mobster of the role "queue" runs: it keeps the durable jobs of an app.

Strategy. What is sent here is stored, and answered when it lies on the disk. Jobs that are due are given to ready
workers, few to each, by calls of their exports; none of them asks for work, so nothing looks at intervals. How a call
has ended is written down, and is told to those who wait for it when that is on the disk. What is due when, and what
becomes of a job that fails, the book decides (`core/jobs.py`); the file is `store.py`'s.

Whatever dies, a job is in the file until its handler has returned: one that was under way is given to a worker again.
A file that cannot be used ends nothing: everybody is told why, until it is mended.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from time import monotonic, time
from typing import Annotated, Any

import msgspec

from mob.core.jobs import COUNTED, Entry, JobBook, JobState
from mob.errors import (
    ArgumentError,
    Busy,
    CallError,
    Forbidden,
    Lost,
    QueueFailed,
    Unavailable,
    UnknownExport,
    UnknownJob,
    summary_of,
)
from mob.jobs.store import (
    DEAD_KEEP,
    DROPPED,
    RAISED,
    RETURNED,
    JobChanged,
    JobEnded,
    JobStore,
    Outcome,
    QueueBroken,
    row_of,
)
from mob.mobster import api, metering
from mob.peer.links import served
from mob.peer.links.contact import Contact
from mob.peer.peer import Peer
from mob.peer.results.call import Call
from mob.peer.serving.selection import export
from mob.plan import QUEUE, QUEUE_ENV, QUEUE_IN_HAND, QUEUE_KEEP
from mob.rim.board import mark_of
from mob.wire import messages as m
from mob.wire.failures import Failure, describe, rebuild

MOST_JOBS = 1_000_000
"""Jobs that may wait; each takes half a kilobyte of memory. Beyond that senders get `Busy`."""
BODIES = 64 * 1024 * 1024
"""Bytes of arguments that are kept in memory; others are read from the file when their turn has come."""
AHEAD = 2000
"""Microseconds of work that a worker may have in hand beyond the number of jobs that it may always have."""
MOST_IN_HAND = 64
"""Jobs that it may have then."""
RECENT = 10_000
"""Outcomes that are kept in memory; others are read from the file."""
RECENT_BYTES = 64 * 1024
"""Bytes of an outcome that is kept in memory."""
PAUSE = 1.0
"""Seconds until a job that its worker has refused is tried again."""
LOOK = 30.0
"""Seconds after which the clock on the wall is looked at, while a job waits for a certain time of it."""
JUMP = 1.0
"""Seconds by which that clock must differ from what it should show, to have been set."""
PURGE = 3600.0
"""Seconds after which old outcomes are forgotten, while there are some."""
FINAL = (Forbidden, ArgumentError)
"""Errors that another attempt would bring, too."""
COUNT_AFTER = 0.5
"""Seconds after which a change is counted: what is measured is told once a second."""

JOBS = metering.gauge(COUNTED, "Durable jobs that are not done, by the role that runs them.", ["of", "state"])
ENDED = metering.counter("queue_attempts", "Attempts of durable jobs that have ended.", ["of", "outcome"])

_Small = Annotated[int, msgspec.Meta(ge=-(2**31), lt=2**31)]
_Row = tuple[str, str, str, Any, Any, float, float | None, _Small, _Small, float, str]
"""A job as its sender writes it (`peer/calls/jobs.py`)."""

_encode: Callable[[Any], bytes] = msgspec.msgpack.Encoder().encode
_read_body: Callable[[bytes], m.DurableBody] = msgspec.msgpack.Decoder(m.DurableBody).decode


class Keeper:
    """The jobs of an app, at the process that has them."""

    def __init__(self, peer: Peer, path: Path, keep: float, in_hand: int) -> None:
        self._peer = peer
        self._context = peer.context
        self._log = peer.context.log
        self._loop = peer.context.reactor.loop
        self._keep = keep
        self._in_hand_limit = in_hand
        self._book = JobBook()
        self._store = JobStore(path, peer.context.reactor.call, self._say)
        self._broken: QueueBroken | None = None
        self._offset = time() - monotonic()  # of the keeper's clock, which never jumps
        self._ahead = 0.0  # by how much the clock on the wall is ahead of it, which was set since
        self._bodies: dict[str, bytes] = {}
        self._bytes = 0
        self._coming: dict[str, asyncio.Future[None]] = {}  # jobs that are being stored
        self._coming_keys: dict[str, str] = {}
        self._in_hand: dict[int, dict[str, int]] = {}  # by the worker's uid, with what each is expected to take
        self._running: dict[str, Call[Any]] = {}
        self._dropped: set[str] = set()  # of those that run
        self._waiters: dict[str, list[asyncio.Future[Outcome]]] = {}
        self._unwritten: set[str] = set()  # jobs that have ended, which is not on the disk yet
        self._recent: OrderedDict[str, Outcome | None] = OrderedDict()
        self._done = self._failed = 0
        self._timer: asyncio.TimerHandle | None = None
        self._purging: asyncio.TimerHandle | None = None
        self._is_ending = False
        self._is_due = False
        self._is_counted = True
        self._shown: dict[tuple[str, JobState], int] = {}  # what was told of them last

    def __repr__(self) -> str:
        return f"<Keeper of {len(self._book)} jobs in {self._store.path}>"

    def _now(self) -> float:
        """The time by the keeper's clock."""
        return monotonic() + self._offset

    def _say(self, text: str) -> None:
        self._context.reactor.call(partial(self._log.error, text))

    # --------------------------------------------------------------------------------------------- its life

    async def open(self) -> None:
        """Read the file, before this process is ready."""
        try:
            entries = await self._loop.run_in_executor(None, self._store.open, time())
        except QueueBroken as error:
            self._broken = error
            self._log.error("%s", error)
            return
        now = self._now()
        for entry in entries:
            self._book.put(entry, now)
        self._peer.control.changes.listeners.append(self._look_soon)
        for role in self._book.roles():
            self._want(role)
        self._begin_to_purge()
        self._look_soon()

    async def drain(self) -> None:
        """This process ends: no job begins, and those that run are waited for."""
        self._is_ending = True
        for waiters in self._waiters.values():
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_exception(_ending())
        self._waiters.clear()
        while self._running:
            await self._context.reactor.change()

    async def close(self) -> None:
        """What has ended is on the disk when this returns."""
        if self._timer is not None:
            self._timer.cancel()
        if self._purging is not None:
            self._purging.cancel()
        await self._loop.run_in_executor(None, self._store.close)

    # ----------------------------------------------------------------------------------------------- coming

    async def put(self, rows: Sequence[Sequence[Any]]) -> list[str]:
        """Store jobs; return their ids when they are on the disk. One whose key is taken has the id of its holder."""
        self._check()
        sender = _sender_of(served.caller())
        if len(self._book) + len(self._coming) + len(rows) > MOST_JOBS:
            raise Busy(f"the queue is full: {len(self._book):,} jobs are in it, and {MOST_JOBS:,} may be.")
        ids: list[str] = []
        new: list[tuple[Entry, bytes]] = []
        others: list[asyncio.Future[None]] = []
        stored: asyncio.Future[None] = self._loop.create_future()
        for entry, body in self._read(rows, sender):
            id, key = entry.id, entry.key
            known = self._holder(id, key)
            if known:
                ids.append(known)
                if known in self._coming:
                    others.append(self._coming[known])
                continue
            ids.append(id)
            if (
                id in self._recent or id in self._unwritten
            ):  # it was stored, done, and the answer to its sender was lost
                continue
            new.append((entry, body))
            self._coming[id] = stored
            if key:
                self._coming_keys[key] = id
        if new:
            self._store.put(
                [row_of(entry, body, self._ahead) for entry, body in new], partial(self._handle_stored, new, stored)
            )
            others.append(stored)
        for each in dict.fromkeys(others):
            await asyncio.shield(each)
        return ids

    def _read(self, rows: Sequence[Sequence[Any]], sender: m.Sender) -> list[tuple[Entry, bytes]]:
        """Read what has come, all of it before any is taken in: one that is unfit leaves no trace of the others."""
        now, wall = self._now(), time()
        found: list[tuple[Entry, bytes]] = []
        for row in rows:
            id, role, target, args, kwargs, delay, at, priority, retries, backoff, key = msgspec.convert(row, _Row)
            self._context.roster.check_role(role)
            due = now + delay if at is None else at - wall + now
            entry = Entry(id, role, target, priority, due, at is not None, key, retries, backoff, made=wall)
            found.append(
                (entry, _encode(m.DurableBody(bytes(args), None if kwargs is None else bytes(kwargs), sender)))
            )
        return found

    def _holder(self, id: str, key: str) -> str:
        """Return the job that this one is, if it is there already."""
        if id in self._coming or self._book.get(id) is not None:
            return id
        return (self._book.holder(key) or self._coming_keys.get(key, "")) if key else ""

    def _handle_stored(
        self, new: list[tuple[Entry, bytes]], stored: asyncio.Future[None], error: Exception | None
    ) -> None:
        now = self._now()
        for entry, body in new:
            del self._coming[entry.id]
            if entry.key:
                self._coming_keys.pop(entry.key, None)
            if error is None:
                self._book.put(entry, now)
                if self._bytes + len(body) <= BODIES:
                    self._bodies[entry.id] = body
                    self._bytes += len(body)
        for role in dict.fromkeys(entry.role for entry, _ in new):
            self._want(role)
        if stored.cancelled():
            pass
        elif error is None:
            stored.set_result(None)
        else:
            stored.set_exception(QueueFailed(str(error)))
            stored.exception()  # nobody may wait for it any more
        self._look()

    def _check(self) -> None:
        if self._broken is not None:
            raise QueueFailed(f"{self._broken} Then: mob restart {QUEUE}.")
        if self._is_ending:
            raise _ending()

    # ---------------------------------------------------------------------------------------------- giving

    def _want(self, role: str) -> None:
        self._peer.contacts.route(role)

    def _look_soon(self) -> None:
        """Something has changed: a worker has come or gone."""
        if not self._is_due:
            self._is_due = True
            self._context.reactor.call(self._look)

    def _look(self) -> None:
        """Give workers what is due, as long as they have room."""
        self._is_due = False
        if self._is_counted:
            self._is_counted = False
            self._loop.call_later(COUNT_AFTER, self._count)
        if self._is_ending:
            return
        now = self._mind_the_clock()
        for role in self._book.roles():
            while (worker := self._free_worker(role)) is not None:
                entry = self._book.take(role, now)
                if entry is None:
                    break
                self._give(entry, worker)
        self._set_timer(now)

    def _count(self) -> None:
        """Tell how many jobs there are."""
        self._is_counted = True
        counts = self._book.counts()
        for (role, state), count in {**dict.fromkeys(self._shown, 0), **counts}.items():
            JOBS.set(count, of=role, state=state)
        self._shown = counts

    def _mind_the_clock(self) -> float:
        """Return the time, and move what is due at a certain one if the clock on the wall was set."""
        now = self._now()
        jump = time() - now - self._ahead
        if abs(jump) > JUMP:
            self._ahead += jump
            self._log.warning(
                "the clock was set by %+.0f s, or the machine was suspended: jobs with at= follow it, others do not.",
                jump,
            )
            self._book.shift(jump, now)
            for entry in self._book:
                if entry.state is JobState.LATER and not entry.is_at:
                    self._store.write(JobChanged.of(entry, self._ahead))
        return now

    def _free_worker(self, role: str) -> Contact | None:
        """Return the worker of a role that has least to do, None if each has as many jobs as it may."""
        best: Contact | None = None
        least, limit = (0, 0), self._in_hand_limit
        for contact in self._peer.contacts.ready(role):
            held = self._in_hand.get(contact.uid)
            count = 0 if held is None else len(held)
            if contact.is_distant or (count >= limit and not self._is_short(held or {})):
                continue
            load = (count, contact.outstanding)
            if best is None or load < least:
                best, least = contact, load
        return best

    def _is_short(self, held: dict[str, int]) -> bool:
        """Return whether all that a worker has in hand takes so little time that nothing is lost by giving it more: it
        would wait for each answer to cross, and the answers would cross one by one."""
        return len(held) < MOST_IN_HAND and sum(held.values()) < AHEAD

    def _set_timer(self, now: float) -> None:
        due = self._book.next_due(now)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if due is not None:
            self._timer = self._loop.call_later(max(0.001, min(due - now, LOOK)), self._look)

    def _give(self, entry: Entry, worker: Contact) -> None:
        cost = self._context.cost_of(mark_of(entry.label)) or AHEAD
        self._in_hand.setdefault(worker.uid, {})[entry.id] = cost
        body = self._bodies.get(entry.id)
        if body is None:
            self._store.body(entry.id, partial(self._handle_body, entry, worker))
        else:
            self._call(entry, worker, body)

    def _handle_body(self, entry: Entry, worker: Contact, body: bytes | None, error: Exception | None) -> None:
        if body is not None and not worker.gone and self._book.get(entry.id) is entry:
            self._call(entry, worker, body)
            return
        self._leave(worker, entry.id)
        if self._book.get(entry.id) is entry:
            self._book.give_back(entry.id, self._now(), PAUSE)
        if error is not None:
            self._log.error("%s cannot be read: %s", entry.label, error)
        self._look_soon()

    def _call(self, entry: Entry, worker: Contact, body: bytes) -> None:
        if entry.target:
            args = _encode(m.DurableCall(body, entry.id, entry.attempts))
            target = m.JOB + entry.target
        else:
            read = _read_body(body)
            args, target = _encode((read.args, read.sender, entry.id, entry.attempts)), m.HANDLE
        try:
            call = self._peer.calling.send_encoded(worker, entry.label, target, args)
        except Exception as error:  # noqa: BLE001  becomes the outcome
            self._handle_error(entry, worker, CallError(str(error), executed="no"))
            return
        self._running[entry.id] = call
        call.when_done(partial(self._handle_answer, entry, worker))

    def _leave(self, worker: Contact, id: str) -> None:
        held = self._in_hand.get(worker.uid)
        if held is not None:
            held.pop(id, None)
            if not held:
                del self._in_hand[worker.uid]

    # ----------------------------------------------------------------------------------------------- ending

    def _handle_answer(self, entry: Entry, worker: Contact, call: Call[Any]) -> None:
        """The worker has answered, or is gone; perhaps the call was cancelled. On the loop's thread."""
        self._running.pop(entry.id, None)
        if entry.id in self._dropped:
            self._dropped.discard(entry.id)
            if not call.cancelled():
                call.exception()  # nobody else asks
            self._leave(worker, entry.id)
        elif call.cancelled():
            self._handle_error(entry, worker, Lost(f"{call.label} was cancelled."))
        elif (error := call.exception()) is not None:
            self._handle_error(entry, worker, error)
        elif entry.target:
            has_returned, value, *more = call.result()
            if has_returned:
                self._end(entry, worker, (RETURNED, bytes(value)))
            else:
                failure = msgspec.msgpack.decode(value, type=Failure)
                error = rebuild(failure, self._peer.encoder.codec)
                self._handle_raised(entry, worker, error, bytes(value), is_final=bool(more and more[0]))
        else:
            self._end(entry, worker, None)
        self._look_soon()

    def _handle_error(self, entry: Entry, worker: Contact, error: BaseException) -> None:
        """The call has ended with an error that the export has not raised."""
        now = self._now()
        if isinstance(error, CallError) and error.executed == "no" and not isinstance(error, (*FINAL, UnknownExport)):
            self._leave(worker, entry.id)
            self._book.give_back(entry.id, now, 0.0 if isinstance(error, Lost) else PAUSE)
        elif isinstance(error, Lost):
            self._leave(worker, entry.id)
            due = self._book.lose(entry.id, now)
            self._handle_failed(entry, error, self._describe(error), due)
        else:
            self._handle_raised(entry, worker, error, self._describe(error), isinstance(error, FINAL))

    def _handle_raised(
        self, entry: Entry, worker: Contact, error: BaseException, failure: bytes, is_final: bool
    ) -> None:
        self._leave(worker, entry.id)
        self._handle_failed(entry, error, failure, self._book.fail(entry.id, self._now(), is_final))

    def _describe(self, error: BaseException) -> bytes:
        executed = error.executed if isinstance(error, CallError) else None
        return _encode(describe(error, self._peer.encoder.codec, executed))

    def _handle_failed(self, entry: Entry, error: BaseException, failure: bytes, due: float | None) -> None:
        """An attempt has failed, and the book has decided what follows."""
        self._failed += 1
        ENDED.inc(of=entry.role, outcome="failed" if due is not None else "dead")
        told = "%s: attempt %d has failed: %s"
        if due is None:
            self._unwritten.add(entry.id)
            self._forget_body(entry.id)
            self._store.write(
                JobChanged.of(entry, self._ahead, failure), partial(self._tell, entry.id, (RAISED, failure))
            )
            self._log.error(
                "%s (job %s) is dead after %d attempts: %s. `mob jobs retry %s` tries it again.",
                *(entry.label, entry.id, entry.attempts, summary_of(error).rstrip("."), entry.id),
            )
        else:
            self._store.write(JobChanged.of(entry, self._ahead))
            self._context.complaints.tell(
                (told, entry.label), told, entry.label, entry.attempts, summary_of(error), error=error, traceback=False
            )

    def _end(self, entry: Entry, worker: Contact, outcome: Outcome | None) -> None:
        """A job is done."""
        self._leave(worker, entry.id)
        self._done += 1
        ENDED.inc(of=entry.role, outcome="done")
        self._finish(entry.id, outcome)

    def _finish(self, id: str, outcome: Outcome | None) -> None:
        self._book.finish(id)
        self._forget_body(id)
        how, value = (RETURNED, b"") if outcome is None else outcome
        ended = JobEnded(id, None if outcome is None else time(), how, value)
        self._unwritten.add(id)
        self._store.write(ended, partial(self._tell, id, outcome))

    def _forget_body(self, id: str) -> None:
        body = self._bodies.pop(id, None)
        self._bytes -= 0 if body is None else len(body)

    def _tell(self, id: str, outcome: Outcome | None) -> None:
        """How a job has ended is on the disk: those who wait for it hear of it."""
        self._unwritten.discard(id)
        if outcome is None or len(outcome[1]) <= RECENT_BYTES:
            self._recent[id] = outcome
            if len(self._recent) > RECENT:
                self._recent.popitem(last=False)
        for waiter in self._waiters.pop(id, ()):
            if not waiter.done():
                waiter.set_result(outcome or (RETURNED, b"\xc0"))

    def _begin_to_purge(self) -> None:
        self._store.purge(time(), self._keep, self._book.forget_dead(self._now() - DEAD_KEEP))
        self._purging = self._loop.call_later(PURGE, self._begin_to_purge)

    # ----------------------------------------------------------------------------------------------- asking

    async def outcome(self, id: str) -> Outcome:
        """Wait for the end of a job; return how that was."""
        self._check()
        if id in self._coming:
            await asyncio.shield(self._coming[id])
        entry = self._book.get(id)
        if id in self._unwritten or (entry is not None and entry.state is not JobState.DEAD):
            waiter: asyncio.Future[Outcome] = self._loop.create_future()
            self._waiters.setdefault(id, []).append(waiter)
            try:
                return await waiter
            finally:
                self._forget_waiter(id, waiter)
        found = await self._ended(id)
        if found is None:
            raise _unknown(id, self._keep)
        return found

    def _forget_waiter(self, id: str, waiter: asyncio.Future[Outcome]) -> None:
        waiters = self._waiters.get(id)
        if waiters is not None:
            with contextlib.suppress(ValueError):
                waiters.remove(waiter)
            if not waiters:
                del self._waiters[id]

    async def _ended(self, id: str) -> Outcome | None:
        recent = self._recent.get(id)
        if recent is not None:
            return recent
        return await self._ask(partial(self._store.outcome, id))

    async def _ask(self, ask: Callable[[Callable[[Any, Exception | None], None]], None]) -> Any:
        """Ask the file something."""
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

    async def status(self, id: str) -> str:
        """Return where a job stands."""
        self._check()
        entry = self._book.get(id)
        if entry is not None:
            self._book.next_due(self._now())  # what has become due meanwhile
            return str(entry.state)
        if id in self._coming:
            return str(JobState.WAITING)
        found = await self._ended(id)
        if found is None:
            raise _unknown(id, self._keep)
        return "dropped" if found[0] == DROPPED else "done"

    async def drop(self, id: str) -> bool:
        """Drop a job; return whether it was there. What has been done of it stays done."""
        self._check()
        if self._book.get(id) is None:
            return False
        running = self._running.get(id)
        if running is not None:
            self._dropped.add(id)
            self._running.pop(id, None)
        written: asyncio.Future[None] = self._loop.create_future()
        self._book.finish(id)
        self._forget_body(id)
        outcome = (DROPPED, b"")

        def tell() -> None:
            self._tell(id, outcome)
            if not written.done():
                written.set_result(None)

        self._unwritten.add(id)
        self._store.write(JobEnded(id, time(), DROPPED), tell)
        if running is not None:
            running.cancel()
        await written
        return True

    async def retry(self, id: str) -> bool:
        """Try a job again; return whether that is possible."""
        self._check()
        if not self._book.retry(id, self._now()):
            return False
        entry = self._book.get(id)
        assert entry is not None
        self._recent.pop(id, None)
        written: asyncio.Future[None] = self._loop.create_future()
        self._store.write(
            JobChanged.of(entry, self._ahead), lambda: None if written.done() else written.set_result(None)
        )
        await written
        self._look_soon()
        return True

    def counts(self) -> dict[str, Any]:
        """Return how many jobs there are, by role and state, and what was done since this process has begun."""
        self._check()
        self._book.next_due(self._now())
        roles: dict[str, dict[str, int]] = {}
        for (role, state), count in self._book.counts().items():
            roles.setdefault(role, {})[str(state)] = count
        return {"roles": roles, "done": self._done, "failed": self._failed, "path": str(self._store.path)}

    async def listing(self, states: Sequence[str], role: str, most: int) -> list[dict[str, Any]]:
        """Return jobs of these states (none: all) and this role ("": all), oldest first."""
        self._check()
        now = self._now()
        self._book.next_due(now)
        found: list[Entry] = []
        for entry in self._book:
            if (not states or entry.state in states) and role in ("", entry.role):
                found.append(entry)
                if len(found) >= most:
                    break
        dead = [entry.id for entry in found if entry.state is JobState.DEAD]
        failures: dict[str, bytes] = await self._ask(partial(self._store.failures, dead)) if dead else {}
        texts = {id: _text_of(failure) for id, failure in failures.items()}
        where = {id: uid for uid, ids in self._in_hand.items() for id in ids}
        return [self._row(entry, now, texts.get(entry.id, ""), where.get(entry.id)) for entry in found]

    def _row(self, entry: Entry, now: float, error: str, uid: int | None) -> dict[str, Any]:
        worker = None if uid is None else self._context.roster.get(uid)
        return {
            "id": entry.id,
            "job": entry.label,
            "role": entry.role,
            "state": str(entry.state),
            "age": max(0.0, time() - entry.made),
            "due_in": max(0.0, entry.due - now) if entry.state is JobState.LATER else 0.0,
            "attempts": entry.attempts,
            "priority": entry.priority,
            "key": entry.key.partition(":")[2],
            "worker": "" if worker is None else f"{worker.role}.{worker.index}",
            "error": error,
        }


def _text_of(failure: bytes) -> str:
    described = msgspec.msgpack.decode(failure, type=Failure)
    return f"{described.type_name}: {described.message}" if described.message else described.type_name


def _ending() -> Unavailable:
    return Unavailable("the keeper of durable jobs ends; the next one can be asked.")


def _unknown(id: str, keep: float) -> UnknownJob:
    return UnknownJob(
        f"there is no job {id!r}. Either it is not on the disk yet (wait for `job.stored` before you pass its id on), "
        f"or it is done and its result was kept for {keep:g} s (queue keep=), or there never was one."
    )


def _sender_of(contact: Contact | None) -> m.Sender:
    assert contact is not None
    member = contact.member
    return member.uid, member.pid, member.role, member.index, member.generation, contact.node


def _setting(name: str, otherwise: object) -> str:
    return os.environ.get(QUEUE_ENV + name, str(otherwise))


_keeper = Keeper(
    api.current("the queue"),
    Path(os.environ[QUEUE_ENV + "PATH"]),
    float(_setting("KEEP", QUEUE_KEEP)),
    int(_setting("IN_HAND", QUEUE_IN_HAND)),
)
api.on("start", _keeper.open)
api.on("drain", _keeper.drain)
api.on("stop", _keeper.close)


@export
async def put(rows: Any) -> Any:
    """Store jobs."""
    return await _keeper.put(rows)


@export(idempotent=True)
async def outcome(id: Any) -> Any:
    """Wait for the end of a job."""
    return await _keeper.outcome(id)


@export(idempotent=True)
async def status(id: str) -> str:
    """Return where a job stands."""
    return await _keeper.status(id)


@export
async def drop(id: str) -> bool:
    """Drop a job."""
    return await _keeper.drop(id)


@export
async def retry(id: str) -> bool:
    """Try a job again."""
    return await _keeper.retry(id)


@export(idempotent=True)
async def counts() -> dict[str, Any]:
    """Return how many jobs there are."""
    return _keeper.counts()


@export(idempotent=True)
async def listing(states: list[str], role: str, most: int) -> list[dict[str, Any]]:
    """Return jobs, oldest first."""
    return await _keeper.listing(states, role, most)
