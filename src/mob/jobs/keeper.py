"""The module of the role "queue": its mobster keeps the durable jobs of an app.

Strategy. Jobs that are sent here are stored, and confirmed when they are on the disk; `giving.py` then gives them to
workers, and `ledger.py` knows the jobs and how the others ended. This module has the life of the process, incoming
jobs, and requests. The book decides what is due when, and what happens to a job that fails (`core/jobs.py`); `store.py`
has the file.

Whatever dies, a job is in the file until its handler has returned: one that was under way is given to a worker again. A
file that cannot be used ends nothing: each request gets the reason, until it is repaired.
"""

from __future__ import annotations

import asyncio
import importlib
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from time import time
from typing import Annotated, Any

import msgspec

from mob.core.job_rows import DROPPED, JobPlace, Outcome, QueueBroken
from mob.core.jobs import Entry, JobState
from mob.errors import ArgumentError, Busy, QueueFailed, Unavailable
from mob.jobs.giving import Giver
from mob.jobs.ledger import Ledger
from mob.jobs.store import JobStore
from mob.mobster import api
from mob.peer.links import served
from mob.peer.links.contact import Contact
from mob.peer.peer import Peer
from mob.peer.serving.selection import export
from mob.plan import QUEUE, QUEUE_ENV, QUEUE_IN_HAND, QUEUE_KEEP, Cluster
from mob.rim.file_locks import LockHolder
from mob.wire import messages as m
from mob.wire.failures import Failure

MOST_JOBS = 1_000_000
"""Maximum number of jobs; each takes half a kilobyte of memory. Beyond that senders get `Busy`."""

_Small = Annotated[int, msgspec.Meta(ge=-(2**31), lt=2**31)]
_Row = tuple[str, str, str, Any, Any, float, float | None, _Small, _Small, float, str]
"""A job as its sender encodes it (`peer/calls/jobs.py`)."""

_encode: Callable[[Any], bytes] = msgspec.msgpack.Encoder().encode


class Keeper:
    """The jobs of an app, at the process that has them."""

    def __init__(self, peer: Peer, path: Path, keep: float, in_hand: int) -> None:
        self._context = peer.context
        self._log = peer.context.log
        self._loop = peer.context.reactor.loop
        self._peer = peer
        self._store = self._place(path, keep)
        self._ledger = Ledger(peer.context, self._store, keep)
        self._book = self._ledger.book
        self._giver = Giver(peer, self._ledger, in_hand)
        self._broken: QueueBroken | None = None
        self._held = ""  # why requests are refused while another app has the file
        self._opening: asyncio.Task[None] | None = None
        self._settled = asyncio.Event()  # set when the file is open, or it is known why not
        self._coming: dict[str, asyncio.Future[None]] = {}  # jobs that are being stored
        self._coming_keys: dict[str, str] = {}
        self._is_ending = False

    def __repr__(self) -> str:
        return f"<Keeper of {len(self._book)} jobs in {self._store.path}>"

    def _place(self, path: Path, keep: float) -> JobPlace:
        """Return the storage of the jobs: a file, or in a cluster its stream."""
        if not self._context.roster.nodes:
            return JobStore(path, self._context.reactor.call, self._say, self._handle_held, self._context.app)
        streams = importlib.import_module("mob.cluster.jobs")  # it needs NATS, which only apps in a cluster have
        stream: JobPlace = streams.StreamStore(self._context.app, keep, self._cluster, self._say)
        return stream

    def _say(self, text: str) -> None:
        self._context.reactor.call(partial(self._log.error, text))

    # --------------------------------------------------------------------------------------------- its life

    async def open(self) -> None:
        """Read the stored jobs before this process is ready.

        If another app has the file, this process is ready to report that, and begins when the other one ends.
        """
        self._opening = self._loop.create_task(self._open())
        self._opening.add_done_callback(lambda opening: self._settled.set())
        await self._settled.wait()
        if self._opening.done():
            self._opening.result()

    async def _open(self) -> None:
        try:
            entries = await self._store.open(time())
        except QueueBroken as error:
            self._broken = error
            self._log.error("%s", error)
            return
        finally:
            self._held = ""
            if self._context.waits_for:
                self._context.waits_for = ""
                self._log.warning(
                    "the file of the queue, %s, is no longer used by the other process.", self._store.path
                )
        self._ledger.load(entries)
        self._giver.open()

    def _handle_held(self, holder: LockHolder) -> None:
        """Report another process that has the file, for which this one waits."""
        path = self._store.path
        if holder.owner == self._context.app:
            self._context.waits_for = (
                f"waits for {path}: an earlier process of this app (pid {holder.pid}) still has it"
            )
            self._log.warning(
                "the file of the queue, %s, is still used by an earlier process of this app (pid %d), which is "
                "finishing its work. Durable calls wait; the queue continues when that process ends.",
                *(path, holder.pid),
            )
            return
        self._context.waits_for = f"waits for {path}: another process ({holder}) has it"
        self._held = (
            f"the file of the queue, {path}, is used by another process ({holder}). Two apps cannot share a queue: "
            f"choose another path for one of them. This queue continues when the other process ends."
        )
        self._log.error("%s", self._held)
        self._settled.set()

    async def drain(self) -> None:
        """Begin no more jobs, and wait for the running ones: this process ends."""
        self._is_ending = True
        self._ledger.end_waiting(_ending)
        await self._giver.drain()

    async def close(self) -> None:
        """Close; what has ended is on the disk when this returns."""
        self._giver.close()
        self._ledger.close()
        await self._store.close()

    async def _cluster(self) -> Cluster:
        """Ask the Kingpin for the servers of the cluster, and the credentials."""
        told: asyncio.Future[Cluster] = self._loop.create_future()

        def handle(message: m.Down, descriptors: list[int]) -> None:
            if isinstance(message, m.JoinCluster) and not told.done():
                told.set_result(message.cluster)

        self._peer.control.on_cluster = handle
        self._peer.control.post(m.OpenGateway())
        return await told

    # ----------------------------------------------------------------------------------------------- coming

    async def put(self, rows: Sequence[Sequence[Any]]) -> list[str]:
        """Store jobs; return their ids when they are on the disk. A job whose key is taken gets its holder's id."""
        self._check()
        sender = _sender_of(served.caller())
        if len(self._book) + len(self._coming) + len(rows) > MOST_JOBS:
            raise Busy(f"the queue is full: it has {len(self._book):,} jobs, and the limit is {MOST_JOBS:,}.")
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
            if self._ledger.is_over(id):  # it was stored and done, and the answer to its sender was lost
                continue
            new.append((entry, body))
            self._coming[id] = stored
            if key:
                self._coming_keys[key] = id
        if new:
            self._ledger.store_new(new, partial(self._handle_stored, new, stored))
            others.append(stored)
        for each in dict.fromkeys(others):
            await asyncio.shield(each)
        return ids

    def _read(self, rows: Sequence[Sequence[Any]], sender: m.Sender) -> list[tuple[Entry, bytes]]:
        """Read all incoming jobs before any is added: if one is invalid, none is."""
        now, wall = self._ledger.now(), time()
        found: list[tuple[Entry, bytes]] = []
        for row in rows:
            id, role, target, args, kwargs, delay, at, priority, retries, backoff, key = msgspec.convert(row, _Row)
            self._context.roster.check_role(role)
            due = now + delay if at is None else at - wall + now
            entry = Entry(id, role, target, priority, due, at is not None, key, retries, backoff, made=wall)
            body = _encode(m.DurableBody(bytes(args), None if kwargs is None else bytes(kwargs), sender))
            if len(body) > (most := self._store.most):
                what = f"{entry.label}: its arguments have {len(body):,} bytes, and the NATS server accepts {most:,}"
                raise ArgumentError(f"{what} (max_payload).")
            found.append((entry, body))
        return found

    def _holder(self, id: str, key: str) -> str:
        """Return the id of the job that this one duplicates, if there is one."""
        if id in self._coming or self._book.get(id) is not None:
            return id
        return (self._book.holder(key) or self._coming_keys.get(key, "")) if key else ""

    def _handle_stored(
        self, new: list[tuple[Entry, bytes]], stored: asyncio.Future[None], error: Exception | None
    ) -> None:
        for entry, body in new:
            del self._coming[entry.id]
            if entry.key:
                self._coming_keys.pop(entry.key, None)
            if error is None:
                self._ledger.take_in(entry, body)
        for role in dict.fromkeys(entry.role for entry, _ in new):
            self._giver.want(role)
        if stored.cancelled():
            pass
        elif error is None:
            stored.set_result(None)
        else:
            stored.set_exception(QueueFailed(str(error)))
            stored.exception()  # mark it as seen: maybe no one waits for it any more
        self._giver.look()

    def _check(self) -> None:
        if self._held:
            raise QueueFailed(self._held)
        if self._broken is not None:
            raise QueueFailed(f"{self._broken} Then run: mob restart {QUEUE}.")
        if self._is_ending:
            raise _ending()

    # ----------------------------------------------------------------------------------------------- asking

    async def outcome(self, id: str) -> Outcome:
        """Wait for the end of a job; return its outcome."""
        self._check()
        if id in self._coming:
            await asyncio.shield(self._coming[id])
        return await self._ledger.outcome(id)

    async def status(self, id: str) -> str:
        """Return the state of a job."""
        self._check()
        entry = self._book.get(id)
        if entry is not None:
            self._book.next_due(self._ledger.now())  # moves jobs that have become due
            return str(entry.state)
        if id in self._coming:
            return str(JobState.WAITING)
        return "dropped" if (await self._ledger.ended(id))[0] == DROPPED else "done"

    async def drop(self, id: str) -> bool:
        """Drop a job; return whether it existed. What it has done so far stays."""
        self._check()
        if self._book.get(id) is None:
            return False
        running = self._giver.drop(id)
        written, settle = self._writing()
        self._ledger.finish(id, (DROPPED, b""), settle)
        if running is not None:
            running.cancel()
        await written
        return True

    async def retry(self, id: str) -> bool:
        """Retry a job; return whether that is possible."""
        self._check()
        if not self._book.retry(id, self._ledger.now()):
            return False
        entry = self._book.get(id)
        assert entry is not None
        self._ledger.forget_outcome(id)
        written, settle = self._writing()
        self._ledger.write(entry, settle)
        await written
        self._giver.look_soon()
        return True

    def _writing(self) -> tuple[asyncio.Future[None], Callable[[], None]]:
        """Return a future to wait for, and the function that completes it."""
        written: asyncio.Future[None] = self._loop.create_future()
        return written, lambda: None if written.done() else written.set_result(None)

    def counts(self) -> dict[str, Any]:
        """Return the number of jobs, by role and state, and what was done since this process began."""
        self._check()
        self._book.next_due(self._ledger.now())
        roles: dict[str, dict[str, int]] = {}
        for (role, state), count in self._book.counts().items():
            roles.setdefault(role, {})[str(state)] = count
        return {
            "roles": roles,
            "done": self._giver.done,
            "failed": self._giver.failed,
            "path": str(self._store.path),
        }

    async def listing(self, states: Sequence[str], role: str, most: int) -> list[dict[str, Any]]:
        """Return jobs of these states (none: all) and this role ("": all), oldest first."""
        self._check()
        now = self._ledger.now()
        self._book.next_due(now)
        found: list[Entry] = []
        for entry in self._book:
            if (not states or entry.state in states) and role in ("", entry.role):
                found.append(entry)
                if len(found) >= most:
                    break
        dead = [entry.id for entry in found if entry.state is JobState.DEAD]
        texts = {id: _text_of(failure) for id, failure in (await self._ledger.failures(dead)).items()}
        where = self._giver.holders()
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
    return Unavailable("the keeper of durable jobs is shutting down; ask the next one.")


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
    """Return the state of a job."""
    return await _keeper.status(id)


@export
async def drop(id: str) -> bool:
    """Drop a job."""
    return await _keeper.drop(id)


@export
async def retry(id: str) -> bool:
    """Retry a job."""
    return await _keeper.retry(id)


@export(idempotent=True)
async def counts() -> dict[str, Any]:
    """Return the number of jobs."""
    return _keeper.counts()


@export(idempotent=True)
async def listing(states: list[str], role: str, most: int) -> list[dict[str, Any]]:
    """Return jobs, oldest first."""
    return await _keeper.listing(states, role, most)
