"""Gives due jobs to ready workers, and handles what comes back.

Strategy. A worker is called, with few jobs at a time; none asks for work, so nothing polls: a job that comes, a worker
that comes or goes, an answer, and the time of the next due job trigger a check. How a call ended is noted in the ledger
(`jobs/ledger.py`). A job that was under way when its worker died is given to another one.

A worker may lack the export that a job calls while others have it: in a reload, or on another machine. So each worker
is asked, once; if none has it, and none is about to come or go, the job is dead, because no attempt would help.

Limits. Knows nothing of senders, of the store, and of callers that wait for an end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import msgspec

from mob.core.job_rows import RETURNED, Outcome
from mob.core.jobs import COUNTED, Entry, JobState
from mob.core.states import MobsterState
from mob.errors import ArgumentError, BadMessage, CallError, Forbidden, Lost, UnknownExport, counted, summary_of
from mob.jobs.ledger import Ledger
from mob.mobster.metering import own_counter, own_gauge
from mob.peer.links.contact import Contact
from mob.peer.peer import Peer
from mob.peer.results.call import Call
from mob.rim.board import mark_of
from mob.wire import messages as m
from mob.wire.failures import Failure, describe, rebuild

AHEAD = 2000
"""Microseconds of work that a worker may have in hand beyond the number of jobs that it may always have."""
MOST_IN_HAND = 64
"""Maximum number of jobs that it may have then."""
PAUSE = 1.0
"""Seconds until a job that its worker refused is tried again."""
LOOK = 30.0
"""Seconds after which the wall clock is checked while a job waits for a certain time of it."""
FINAL = (Forbidden, ArgumentError)
"""Errors that another attempt would bring, too."""
NEW_CODE = 60.0
"""Seconds for which a job whose export no worker has waits for workers that come or go."""
COUNT_AFTER = 0.5
"""Seconds after which a change is counted: metrics are reported once a second."""

JOBS = own_gauge(COUNTED, "Durable jobs that are not done, by the role that runs them.", ["of", "state"])
ENDED = own_counter("queue_attempts", "Attempts of durable jobs that have ended.", ["of", "outcome"])


COMING_OR_GOING = (MobsterState.LAUNCHING, MobsterState.BOOTING, MobsterState.HANDING, MobsterState.DRAINING)

_encode: Callable[[Any], bytes] = msgspec.msgpack.Encoder().encode
_read_body: Callable[[bytes], m.DurableBody] = msgspec.msgpack.Decoder(m.DurableBody).decode


class _Refusals(msgspec.Struct):
    """The workers that do not have the export of a job."""

    until: float
    """Time at which the job is dead at the latest."""
    uids: set[int] = msgspec.field(default_factory=set[int])


class Giver:
    """The jobs that workers have in hand."""

    def __init__(self, peer: Peer, ledger: Ledger, in_hand: int) -> None:
        self.done: int = 0
        self.failed: int = 0  # attempts, since this process began
        self._peer = peer
        self._context = peer.context
        self._log = peer.context.log
        self._loop = peer.context.reactor.loop
        self._ledger = ledger
        self._book = ledger.book
        self._in_hand_limit = in_hand
        self._in_hand: dict[int, dict[str, int]] = {}  # by the worker's uid, with the expected time of each job
        self._running: dict[str, Call[Any]] = {}
        self._dropped: set[str] = set()  # jobs that were dropped while they run
        self._refusals: dict[str, _Refusals] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._is_ending = False
        self._is_due = False
        self._is_counted = True
        self._shown: dict[tuple[str, JobState], int] = {}  # the counts that were reported last

    def __repr__(self) -> str:
        return f"<Giver, {len(self._running)} jobs run>"

    # ----------------------------------------------------------------------------------------- for the keeper

    def open(self) -> None:
        """Give jobs from now on."""
        self._peer.control.changes.listeners.append(self.look_soon)
        for role in self._book.roles():
            self.want(role)
        self.look_soon()

    def want(self, role: str) -> None:
        """Request links to the workers of a role."""
        self._peer.contacts.route(role)

    async def drain(self) -> None:
        """Begin no more jobs; return when the running ones are over."""
        self._is_ending = True
        while self._running:
            await self._context.reactor.change()

    def close(self) -> None:
        """Set no more timers."""
        if self._timer is not None:
            self._timer.cancel()

    def holders(self) -> Mapping[str, int]:
        """Return the uid of the worker that has each job in hand, by the id of the job."""
        return {id: uid for uid, ids in self._in_hand.items() for id in ids}

    def drop(self, id: str) -> Call[Any] | None:
        """Ignore the rest of a job; return the call that runs it, which the caller has to cancel."""
        self._refusals.pop(id, None)
        running = self._running.pop(id, None)
        if running is not None:
            self._dropped.add(id)
        return running

    # ---------------------------------------------------------------------------------------------- giving

    def look_soon(self) -> None:
        """Check soon: something changed, or a worker came or went."""
        if not self._is_due:
            self._is_due = True
            self._context.reactor.call(self.look)

    def look(self) -> None:
        """Give workers what is due, as long as they have room."""
        self._is_due = False
        if self._is_counted:
            self._is_counted = False
            self._loop.call_later(COUNT_AFTER, self._count)
        if self._is_ending:
            return
        now = self._ledger.check_clock()
        for role in self._book.roles():
            while (worker := self._free_worker(role)) is not None:
                entry = self._book.take(role, now)
                if entry is None:
                    break
                self._give(entry, worker)
        self._set_timer(now)

    def _count(self) -> None:
        """Report the number of jobs."""
        self._is_counted = True
        counts = self._book.counts()
        for (role, state), count in {**dict.fromkeys(self._shown, 0), **counts}.items():
            JOBS.set(count, of=role, state=state)
        self._shown = counts

    def _free_worker(self, role: str) -> Contact | None:
        """Return the worker of a role with the least to do; None if each has as many jobs as it may."""
        best: Contact | None = None
        least, limit = (0, False, 0), self._in_hand_limit
        for contact in self._peer.contacts.ready(role):
            held = self._in_hand.get(contact.uid)
            count = 0 if held is None else len(held)
            if count >= limit and not self._is_short(held or {}):
                continue
            load = (count, contact.is_distant, contact.outstanding)
            if best is None or load < least:
                best, least = contact, load
        return best

    def _is_short(self, held: dict[str, int]) -> bool:
        """Return True if all jobs that a worker has in hand take so little time that it may have more.

        Otherwise it would wait for each answer to cross, and the answers would cross one by one.
        """
        return len(held) < MOST_IN_HAND and sum(held.values()) < AHEAD

    def _set_timer(self, now: float) -> None:
        due = self._book.next_due(now)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if due is not None:
            self._timer = self._loop.call_later(max(0.001, min(due - now, LOOK)), self.look)

    def _give(self, entry: Entry, worker: Contact) -> None:
        cost = self._context.cost_of(mark_of(entry.label)) or AHEAD
        self._in_hand.setdefault(worker.uid, {})[entry.id] = cost
        body = self._ledger.body(entry.id)
        if body is None:
            self._ledger.store.body(entry.id, partial(self._handle_body, entry, worker))
        else:
            self._call(entry, worker, body)

    def _handle_body(self, entry: Entry, worker: Contact, body: bytes | None, error: Exception | None) -> None:
        if body is not None and not worker.gone and self._ledger.is_open(entry):
            self._call(entry, worker, body)
            return
        self._leave(worker, entry.id)
        if self._ledger.is_open(entry):
            self._book.give_back(entry.id, self._ledger.now(), PAUSE)
        if error is not None:
            self._log.error("%s cannot be read: %s", entry.label, error)
        self.look_soon()

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
        """Handle the answer or the death of a worker, or a cancelled call. On the loop's thread."""
        self._running.pop(entry.id, None)
        if entry.id in self._dropped:
            self._dropped.discard(entry.id)
            if not call.cancelled():
                call.exception()  # mark it as seen: no one else asks
            self._leave(worker, entry.id)
        elif call.cancelled():
            self._handle_error(entry, worker, Lost(f"{call.label} was cancelled."))
        elif (error := call.exception()) is not None:
            self._handle_error(entry, worker, error)
        elif entry.target:
            has_returned, value, *more = call.result()
            if has_returned and len(value) > self._ledger.store.most:
                most = f"and the NATS server accepts {self._ledger.store.most:,} (max_payload)"
                large = BadMessage(f"the result of {call.label} has {len(value):,} bytes, {most}.")
                self._handle_raised(entry, worker, large, self._describe(large), is_final=True)
            elif has_returned:
                self._end(entry, worker, (RETURNED, bytes(value)))
            else:
                failure = msgspec.msgpack.decode(value, type=Failure)
                error = rebuild(failure, self._peer.encoder.codec)
                self._handle_raised(entry, worker, error, bytes(value), is_final=bool(more and more[0]))
        else:
            self._end(entry, worker, None)
        self.look_soon()

    def _handle_error(self, entry: Entry, worker: Contact, error: BaseException) -> None:
        """Handle an error that the export did not raise."""
        now = self._ledger.now()
        if isinstance(error, UnknownExport):
            self._handle_unknown(entry, worker, error)
        elif isinstance(error, CallError) and error.executed == "no" and not isinstance(error, FINAL):
            self._leave(worker, entry.id)
            self._book.give_back(entry.id, now, 0.0 if isinstance(error, Lost) else PAUSE)
        elif isinstance(error, Lost):
            self._leave(worker, entry.id)
            due = self._book.lose(entry.id, now)
            self._handle_failed(entry, error, self._describe(error), due)
        else:
            self._handle_raised(entry, worker, error, self._describe(error), isinstance(error, FINAL))

    def _handle_unknown(self, entry: Entry, worker: Contact, error: UnknownExport) -> None:
        """Handle a worker that lacks the export: ask the next one, let the job wait, or declare it dead."""
        self._leave(worker, entry.id)
        now = self._ledger.now()
        refusals = self._refusals.setdefault(entry.id, _Refusals(now + NEW_CODE))
        refusals.uids.add(worker.uid)
        others = (each for each in self._peer.contacts.ready(entry.role) if each.uid not in refusals.uids)
        if not self._is_ending and (other := next(others, None)) is not None:
            self._give(entry, other)
        elif self._is_ending or (now < refusals.until and self._is_changing()):
            refusals.uids.clear()
            self._book.give_back(entry.id, now, PAUSE)
        else:
            self._handle_raised(entry, worker, error, self._describe(error), is_final=True)

    def _is_changing(self) -> bool:
        """Return True if a worker of any role comes or goes: a reload takes one role after another."""
        return any(member.state in COMING_OR_GOING for member in self._context.roster.mobsters())

    def _handle_raised(
        self, entry: Entry, worker: Contact, error: BaseException, failure: bytes, is_final: bool
    ) -> None:
        self._leave(worker, entry.id)
        self._handle_failed(entry, error, failure, self._book.fail(entry.id, self._ledger.now(), is_final))

    def _describe(self, error: BaseException) -> bytes:
        executed = error.executed if isinstance(error, CallError) else None
        return _encode(describe(error, self._peer.encoder.codec, executed))

    def _handle_failed(self, entry: Entry, error: BaseException, failure: bytes, due: float | None) -> None:
        """Handle a failed attempt, after the book has decided what follows."""
        self.failed += 1
        self._refusals.pop(entry.id, None)
        ENDED.inc(of=entry.role, outcome="failed" if due is not None else "dead")
        told = "%s: attempt %d failed: %s"
        if due is None:
            self._ledger.bury(entry, failure)
            self._log.error(
                "%s (job %s) is dead after %s: %s. `mob jobs retry %s` tries it again.",
                *(entry.label, entry.id, counted(entry.attempts, "attempt"), summary_of(error).rstrip("."), entry.id),
            )
        else:
            self._ledger.write(entry)
            self._context.complaints.tell(
                (told, entry.label), told, entry.label, entry.attempts, summary_of(error), error=error, traceback=False
            )

    def _end(self, entry: Entry, worker: Contact, outcome: Outcome | None) -> None:
        """Handle a job that is done."""
        self._leave(worker, entry.id)
        self._refusals.pop(entry.id, None)
        self.done += 1
        ENDED.inc(of=entry.role, outcome="done")
        self._ledger.finish(entry.id, outcome)
