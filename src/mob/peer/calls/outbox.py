"""Requests to the keeper of the app's durable jobs (`jobs/keeper.py`): new jobs, and questions.

Strategy. The Kingpin starts the keeper process when it is first needed. Jobs travel in batches, as many as are waiting.
If the keeper dies meanwhile, its successor gets the same request again; the id of a job, which is made here, ensures
that it is stored only once. A keeper that hangs is given up after `STORE_TIMEOUT`, along with what waits for it.

Limits. It does not know what is in a job, or what its callers hold.
"""

from __future__ import annotations

import itertools
import math
import secrets
from collections import deque
from collections.abc import Callable, Iterable
from contextvars import Context
from functools import partial
from time import monotonic, time_ns
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import msgspec

from mob.errors import CallError, CallTimeout, Lost, MobError, Unavailable, UnknownExport
from mob.peer.results.call import Call
from mob.plan import QUEUE
from mob.wire import messages as m

if TYPE_CHECKING:
    from mob.peer.calls.outgoing import Outgoing

STORE_TIMEOUT = 30.0
"""Seconds within which a job must be stored, or the keeper must answer."""
ASK_AGAIN = 1.0
"""Seconds until the next attempt, if nothing changed before."""
MOST_JOBS = 512
"""Maximum number of jobs in one message."""
MOST_BYTES = 1024 * 1024
"""Bytes of jobs after which a message takes no more."""
UNDER_WAY = 2
"""Maximum number of unanswered messages with jobs; the next one gathers jobs meanwhile."""


class KeeperRequest:
    """A request to the keeper, repeated if the keeper dies.

    `settle` is called with the answer; the `call` fails if there is none within `timeout` seconds. `afterwards` is
    added to the error that the app ended.
    """

    def __init__(
        self,
        peer: Outgoing,
        call: Call[Any],
        export: str,
        args: tuple[Any, ...],
        settle: Callable[[Any], None],
        timeout: float,
        afterwards: str = "",
    ) -> None:
        self._peer, self._call, self._settle = peer, call, settle
        self._afterwards = afterwards
        self._request = export, args
        self._timeout = timeout
        self._until = monotonic() + timeout
        self._timer: int | None = None
        self._is_introduced = False
        self._is_unsure = False  # an attempt ended without saying whether it was done
        self._attempt()

    def _attempt(self) -> None:
        peer, call = self._peer, self._call
        if call.done_already():
            return
        if peer.control.is_closed:
            peer.control.come_back()
        if (known := peer.context.roster.roles.get(QUEUE)) is None:
            label = "asking for the keeper of durable jobs"
            wanted = peer.control.request(label, m.WantQueue)
            wanted.when_done(self._handle_wanted)
            peer.context.reactor.call(partial(self._limit, wanted))
            return
        if not self._is_introduced:
            peer.contacts.route(QUEUE)
            self._is_introduced = True
        keeper = next(iter(peer.contacts.ready(QUEUE)), None)
        if keeper is None:
            why = f" It cannot start: {known.failing}." if known.failing else ""
            self._try_again(Unavailable(f"{call.label}: the process that keeps durable jobs is not ready.{why}"))
            return
        name, args = self._request
        left = None if self._until == math.inf else max(0.0, self._until - monotonic())
        try:  # a call that is served here may have less time, which must not affect the jobs of others
            asked = Context().run(peer.calling.call_one, keeper, call.label, name, args, {}, left)
        except Exception as error:  # noqa: BLE001  becomes the outcome
            call.fail(error)
            return
        asked.when_done(partial(self._handle_answer, keeper.name))

    def _limit(self, wanted: Call[Any]) -> None:
        """Give up a Kingpin that hangs; on the loop's thread."""
        if self._until < math.inf and not wanted.done_already():
            self._peer.context.reactor.call_at(self._until, self._handle_silent_kingpin)

    def _handle_silent_kingpin(self) -> None:
        silent = f"the Kingpin, which starts the keeper of durable jobs, did not answer within {self._timeout:g} s"
        self._call.fail(CallTimeout(f"{self._call.label}: {silent}.", executed="no"))

    def _handle_wanted(self, wanted: Call[Any]) -> None:
        error: BaseException | None = wanted.exception()
        if error is None and not wanted.result().error:
            self._peer.context.reactor.call(self._attempt)
        else:
            text = f"{self._call.label}: {error or wanted.result().error}"
            self._call.fail(Unavailable(text))

    def _handle_answer(self, keeper: str, asked: Call[Any]) -> None:
        error = asked.exception()
        if error is None:
            try:
                self._settle(asked.result())
            except MobError as unfit:
                self._call.fail(unfit)
        elif isinstance(error, (Lost, Unavailable)):  # it died or ends; another one comes
            self._is_unsure |= error.executed != "no"
            self._try_again(error)
        elif isinstance(error, CallTimeout):
            silent = f"{keeper}, which keeps the durable jobs, did not answer within {self._timeout:g} s"
            unsure = "It may be done nevertheless."
            self._call.fail(CallTimeout(f"{self._call.label}: {silent}. {unsure}", executed=error.executed))
        elif isinstance(error, UnknownExport):
            self._call.fail(Unavailable(f"{self._call.label}: the role {QUEUE!r} of this app keeps no jobs."))
        else:
            self._call.fail(error)

    def _try_again(self, error: CallError) -> None:
        if self._peer.control.is_closed:
            error = Unavailable(f"{self._call.label}: the app {self._peer.context.app!r} has ended.{self._afterwards}")
        elif monotonic() < self._until:
            self._peer.context.reactor.call(self._wait)
            return
        if self._is_unsure:
            error.executed = "maybe"
        self._call.fail(error)

    def _wait(self) -> None:
        """Try again when the roster changes, because the keeper may be ready then; on the loop's thread."""
        self._peer.control.changes.listeners.append(self._wake)
        self._timer = self._peer.context.reactor.call_at(min(monotonic() + ASK_AGAIN, self._until), self._wake)

    def _wake(self) -> None:
        listeners = self._peer.control.changes.listeners
        if self._wake in listeners and self._timer is not None:
            listeners.remove(self._wake)
            self._peer.context.reactor.cancel(self._timer)
            self._attempt()


class OnItsWay(msgspec.Struct):
    """A job on its way to the keeper."""

    row: tuple[Any, ...]
    size: int
    settle: Callable[[str], None]
    fail: Callable[[BaseException], None]


class Outbox:
    """The jobs of one process that are on their way to the keeper."""

    def __init__(self, peer: Outgoing) -> None:
        self._peer = peer
        self._waiting: deque[OnItsWay] = deque()
        self._under_way = 0
        self._is_due = False
        self._prefix = secrets.token_hex(5)
        self._numbers = itertools.count()

    def __repr__(self) -> str:
        return f"<Outbox, {len(self._waiting)} jobs wait, {self._under_way} messages under way>"

    def new_id(self) -> str:
        """Return an id that no job of any process has; later ids are greater, which keeps the file in order."""
        return f"{time_ns() // 1000:013x}{next(self._numbers) & 0xFFF:03x}{self._prefix}"

    def put(self, storing: OnItsWay) -> None:
        """Store a job; from any thread."""
        self._waiting.append(storing)
        if not self._is_due:
            self._is_due = True
            self._peer.context.reactor.call(self._flush)

    def _flush(self) -> None:
        """Send what waits; on the loop's thread."""
        self._is_due = False
        while self._waiting and self._under_way < UNDER_WAY:
            batch: list[OnItsWay] = []
            size = 0
            while self._waiting and len(batch) < MOST_JOBS and size < MOST_BYTES:
                batch.append(self._waiting.popleft())
                size += batch[-1].size
            self._under_way += 1
            call: Call[None] = Call(self._peer, "storing durable jobs", "")
            call.when_done(partial(self._handle_failed, batch))
            rows = [storing.row for storing in batch]
            KeeperRequest(self._peer, call, "put", (rows,), partial(self._handle_stored, call, batch), STORE_TIMEOUT)

    def _handle_stored(self, call: Call[None], batch: list[OnItsWay], ids: list[str]) -> None:
        call.settle(None)
        for storing, id in zip(batch, ids, strict=True):
            storing.settle(id)

    def _handle_failed(self, batch: Iterable[OnItsWay], call: Call[None]) -> None:
        self._under_way -= 1
        error = call.exception()
        if error is not None:
            failed = list(batch)
            if isinstance(error, (CallTimeout, Unavailable)):
                while self._waiting:  # the keeper is away or hangs, so what waits here has no time left either
                    failed.append(self._waiting.popleft())
            for storing in failed:
                storing.fail(error)
        self._peer.context.reactor.call(self._flush)


_outboxes: WeakKeyDictionary[Outgoing, Outbox] = WeakKeyDictionary()


def outbox_of(peer: Outgoing) -> Outbox:
    """Return the outbox of a process, created at first use; from any thread."""
    found = _outboxes.get(peer)
    if found is None:
        found = _outboxes.setdefault(peer, Outbox(peer))
    return found
