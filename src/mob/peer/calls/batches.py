"""The work that is under way for a `map`: chunks that were sent, their answers, and what may be sent next.

Calls refer to a `Run` only, so a `Map` that is dropped is noticed (`mapping`). A chunk that was refused because a queue
is full (`Busy`, not executed) is sent again when another one ends. An item that contains references (functions,
sockets, large buffers) is a call of its own; so is each item if `chunk` is 1.

The reader of the map draws and sends in its own thread; answers arrive in any thread.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from threading import Lock
from time import perf_counter
from typing import TYPE_CHECKING, Any

from msgspec import Raw

from mob.core.mapping import MapWorkers, Pace, generator_mapped
from mob.errors import Busy, CallError
from mob.peer.results.call import Call
from mob.peer.results.streams import tell_each
from mob.wire import failures
from mob.wire.chunks import failure_of, raw_answer
from mob.wire.messages import ExportInfo

if TYPE_CHECKING:
    from mob.peer.calls.outgoing import Outgoing
    from mob.peer.calls.proxy import RemoteExport
    from mob.wire.messages import RoleInfo

ALONE = 16 * 1024
"""Bytes of arguments from which an item is a call of its own."""
FULL = 48 * 1024
"""Bytes of arguments after which a chunk is sent; longer bodies would be searched for large buffers."""
FIRST_PAUSE, LONGEST_PAUSE = 0.005, 0.5
"""Shortest and longest pause in seconds until a refused chunk is sent again, if no other one is under way."""


class FailedItem:
    """The outcome of an item that failed."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error: BaseException = error


class Chunked(Call[Any]):
    """The call of a chunk."""

    __slots__ = ()

    def settle_as_declared(self, body: Raw) -> bool:
        """Settle the chunk value by value, because its answer contains one that only its declared type can decode."""
        found = raw_answer(body)
        if found is not None:
            self.settle(found)
        return found is not None


class UndecidedChunk(Chunked):
    """The call of a chunk whose results can be decoded only with their annotation."""

    __slots__ = ()
    is_undecided = True


class Batch:
    """Items that are sent together, and their outcomes."""

    __slots__ = ("args", "bodies", "call", "is_done", "is_listed", "is_under_way", "missing", "outcomes")

    def __init__(self, bodies: list[Raw], args: tuple[Any, ...] | None = None) -> None:
        self.bodies: list[Raw] = bodies
        """The encoded arguments of each item."""
        self.args: tuple[Any, ...] | None = args
        """The arguments of the only item, if it is a call of its own."""
        self.call: Call[Any] | None = None
        self.outcomes: list[Any] = [None] * (len(bodies) if args is None else 1)
        self.missing: Sequence[int] = range(len(self.outcomes))
        """The items whose outcomes are unknown or were refused."""
        self.is_done: bool = False
        self.is_listed: bool = False
        """True if it is in the list of ended batches, which exists if results are read unordered."""
        self.is_under_way: bool = False

    def __repr__(self) -> str:
        return f"<Batch of {len(self.outcomes)} items, {len(self.missing)} missing>"

    def put(self, outcomes: list[Any]) -> None:
        """Take the outcomes of the missing items; refused items stay missing."""
        refused = [index for index, each in zip(self.missing, outcomes, strict=True) if is_refused(each)]
        if len(self.missing) == len(self.outcomes):
            self.outcomes = outcomes
        else:
            for index, outcome in zip(self.missing, outcomes, strict=True):
                self.outcomes[index] = outcome
        self.is_done = not refused
        self.missing = refused  # last: until then the answer may be taken again


class Run:
    """All batches of one map; `chunked` sends a chunk."""

    def __init__(
        self,
        peer: Outgoing,
        export: RemoteExport,
        chunked: RemoteExport,
        pace: Pace,
        total: int | None,
        is_ordered: bool,
    ) -> None:
        self.peer = peer
        self.label: str = export.label
        self.total = total
        """Total number of items, if known."""
        self.outcomes: deque[Any] = deque()
        """Outcomes that can be read at once."""
        self.taken: int = 0
        """Number of outcomes that were put into `outcomes`."""
        self.is_exhausted: bool = False
        """True if no more items will come."""
        self.is_read = False
        """True if an outcome was asked for."""
        self.is_over: bool = False
        """True if there is nothing more to read, or no more reader."""
        self.error: BaseException | None = None
        """The error that the iterator of the items raised."""
        self.stop_drawing: Callable[[], object] | None = None
        """Stops the task that draws from an async iterable."""
        self._export = export
        self._chunked = chunked
        self._pace = pace
        self._is_ordered = is_ordered
        self._is_typed = isinstance(export.new_call, partial)
        self._drawn = 0
        self._untaken: deque[Batch] = deque()  # not taken yet, in order
        self._ended: deque[Batch] = deque()  # the done ones of these, in the order of their ends, if read unordered
        self._refused: deque[Batch] = deque()
        self._lock = Lock()
        self._under_way = 0
        self._ends = self._seen_ends = 0  # batches that came back and were not refused
        self._pause = FIRST_PAUSE
        self._chunk: list[Raw] = []  # the chunk that is being built
        self._chunk_bytes = 0
        self._chunk_since = 0.0
        self._waiters: list[Callable[[], object]] = []
        self._role: RoleInfo | None = None
        self._crew = MapWorkers(1)

    def __repr__(self) -> str:
        total = "" if self.total is None else f" of {self.total}"
        return f"<map of {self.label}: {self.read}{total} read, {self.held} under way or unread>"

    @property
    def read(self) -> int:
        """Number of outcomes that were read."""
        return self.taken - len(self.outcomes)

    @property
    def held(self) -> int:
        """Number of items that are under way, or ended and unread."""
        return self._drawn - self.read

    @property
    def is_finished(self) -> bool:
        """True if all outcomes were taken."""
        return self.is_exhausted and not self._untaken and not self._chunk

    # -------------------------------------------------------------------------------------------------- drawing

    def has_room(self) -> bool:
        """Return True if another chunk may be sent."""
        return not self._refused and self._pace.has_room(self._look_at_crew(), self._under_way, self.held)

    def next_size(self) -> int:
        """Return the number of items for the next chunk."""
        remaining = None if self.total is None else self.total - self._drawn
        return self._pace.size(self._look_at_crew(), self.held, remaining)

    def _look_at_crew(self) -> MapWorkers:
        peer, export = self.peer, self._export
        role = peer.context.roster.roles.get(export.role)
        if role is not self._role:
            self._role = role
            infos = () if role is None else role.exports or ()
            info = next((each for each in infos if each.name == export.name), ExportInfo(export.name, "", ""))
            self._crew = MapWorkers(1, info.width, info.is_async)
        options = export.terms
        is_one = options.pid is not None or options.key is not None
        return self._crew._replace(workers=1 if is_one else max(1, len(peer.contacts.ready(export.role))))

    def fill(self, items: Iterator[tuple[Any, ...]], deadline: float | None = None) -> None:
        """Draw and send as many items as there is room for, and at least one chunk.

        Stop after one chunk if something can be read or the deadline has passed.
        """
        self.send_refused()
        self.flush()
        is_first = True
        while not self.is_exhausted and self.has_room() and (is_first or not self.is_readable):
            self._draw_chunk(items)
            is_first = False
            if deadline is not None and perf_counter() > deadline:
                return

    def _draw_chunk(self, items: Iterator[tuple[Any, ...]]) -> None:
        size = self.next_size()
        try:
            while not self.add(next(items), size):
                pass
        except StopIteration:
            self.is_exhausted = True
        except Exception as error:  # noqa: BLE001  raised in its place, after the items drawn before
            self.is_exhausted, self.error = True, error
        self.flush()

    def add(self, args: tuple[Any, ...], size: int) -> bool:
        """Add an item to the chunk that is being built; return True if the chunk was sent."""
        self._drawn += 1
        if self._pace.chunk == 1:
            self._send(Batch([], args))
            return True
        peer, route = self.peer, self._export.route
        try:
            peer.calling.look_for_app(route)
            takes_tags = route.tags.get(self._export.name, True)
            given = peer.encoder.codec.tagged(list(args), "args") if takes_tags else args
            body = Raw(peer.encoder.encode(given, "args", bool(route.near or not route.far)))
        except Exception as error:  # noqa: BLE001  the outcome of this item
            self.flush()
            self._put_ended(Batch([], args), error)
            return True
        if peer.references.encoding or len(body) >= ALONE:
            peer.references.let_go(peer.references.take())
            self.flush()
            self._send(Batch([], args))
            return True
        now = perf_counter()
        if not self._chunk:
            self._chunk_since = now
        self._chunk.append(body)
        self._chunk_bytes += len(body)
        if self._chunk_bytes >= FULL or self._pace.is_full(len(self._chunk), size, now - self._chunk_since):
            self.flush()
            return True
        return False

    def flush(self) -> None:
        """Send the chunk that is being built."""
        if self._chunk and not self.is_over:
            chunk, self._chunk, self._chunk_bytes = self._chunk, [], 0
            self._send(Batch(chunk))

    # -------------------------------------------------------------------------------------------------- sending

    def _send(self, batch: Batch) -> None:
        self._untaken.append(batch)
        self._send_missing(batch)

    def _send_missing(self, batch: Batch) -> None:
        try:
            if batch.args is not None:
                call = self._export(*batch.args)
            else:
                call = self.peer.calling.call(self._chunked, [batch.bodies[index] for index in batch.missing], {})
        except Busy:
            self._refused.append(batch)
            return
        except BaseException as error:
            self._untaken.remove(batch)
            self._put_ended(batch, error)
            if not isinstance(error, Exception):
                raise
            return
        with self._lock:
            self._under_way, batch.is_under_way = self._under_way + 1, True
        batch.call = call
        call.when_done(partial(self._handle_done, batch))

    def _put_ended(self, batch: Batch, error: BaseException) -> None:
        """Take the error of a batch that failed before it was sent."""
        self._untaken.append(batch)
        batch.put([FailedItem(error)] * len(batch.missing))
        if not self._is_ordered:
            self._ended.append(batch)

    def send_refused(self) -> None:
        """Send a refused batch for each batch that came back; at least one if none is under way."""
        ends, self._seen_ends = self._ends - self._seen_ends, self._ends
        for _ in range(min(len(self._refused), max(ends, not self._under_way))):
            self._send_missing(self._refused.popleft())

    def _handle_done(self, batch: Batch, call: Call[Any]) -> None:
        """Handle the end of a call, in the thread that settled it."""
        error = None if call.cancelled() else call.exception()
        if not self.is_over:
            if batch.missing and not is_refused(error):
                self._take_answer(batch, call, error)
            if not batch.missing:
                self._pause = FIRST_PAUSE
                if not self._is_ordered and not batch.is_listed:
                    self._ended.append(batch)
                    batch.is_listed = True
            elif batch not in self._refused:
                self._refused.append(batch)
        with self._lock:
            if batch.is_under_way:  # once, though this may be called again because it raised
                self._under_way, batch.is_under_way = self._under_way - 1, False
                self._ends += not batch.missing
        self.wake()

    def _take_answer(self, batch: Batch, call: Call[Any], error: BaseException | None) -> None:
        try:
            if error is not None:
                if call.incoming is not None:
                    error = generator_mapped(self.label, executed=True)
                outcomes: list[Any] = [FailedItem(error)] * len(batch.missing)
            elif batch.args is not None:
                outcomes = [call.result()]
            else:
                outcomes = self._read(call.result(), len(batch.missing))
        except BaseException as failure:  # noqa: BLE001  becomes the outcome
            outcomes = [FailedItem(self._unreadable(failure))] * len(batch.missing)
        batch.put(outcomes)

    def _read(self, answer: Any, count: int) -> list[Any]:
        """Return the outcomes in an answer; raise any error if it is malformed."""
        seconds, values, failed = answer
        outcomes: list[Any] = list(values)
        if len(outcomes) != count:
            raise ValueError(f"it contains {len(outcomes)} values for {count} items.")
        errors = {index: failures.rebuild(failure_of(body), self.peer.encoder.codec) for index, body in failed}
        if self._is_typed or answer.__class__ is tuple:
            outcomes = [None if at in errors else self._as_declared(value) for at, value in enumerate(outcomes)]
        for index, error in errors.items():
            outcomes[index] = FailedItem(error)
        self._pace.handle_done(count, seconds)
        return outcomes

    def _as_declared(self, value: Any) -> Any:
        """Return what a single call would return for this value."""
        call = self._export.new_call(self.peer, self.label, "")
        if value.__class__ is Raw:
            try:
                call.settle(self.peer.encoder.codec.decode(value, call.is_undecided))
            except BaseException as failure:  # noqa: BLE001  becomes the outcome
                if not call.settle_as_declared(value):
                    call.fail(self._unreadable(failure))
        else:
            call.settle(value)
        error = call.exception()
        return call.result() if error is None else FailedItem(error)

    def _unreadable(self, failure: BaseException) -> CallError:
        why = str(failure) if isinstance(failure, Exception) else f"{type(failure).__name__}: {failure}"
        error = CallError(f"{self.label} answered, but the answer cannot be read: {why}", executed="yes")
        error.__cause__ = failure
        return error

    # -------------------------------------------------------------------------------------------------- reading

    @property
    def is_readable(self) -> bool:
        """True if there is something to take."""
        return bool(self._untaken) and self._untaken[0].is_done if self._is_ordered else bool(self._ended)

    def take(self) -> bool:
        """Move what can be read to `outcomes`; return True if there was something."""
        if not self.is_readable:
            return False
        if self._is_ordered:
            batch = self._untaken.popleft()
        else:
            batch = self._ended.popleft()
            self._untaken.remove(batch)
        self.outcomes.extend(batch.outcomes)
        self.taken += len(batch.outcomes)
        self.wake()
        return True

    @property
    def is_stuck(self) -> bool:
        """True if refused batches wait for time alone."""
        return bool(self._refused) and not self._under_way

    def next_pause(self) -> float:
        """Return the seconds until the next attempt in that case; the pause doubles each time."""
        pause, self._pause = self._pause, min(2 * self._pause, LONGEST_PAUSE)
        return pause

    @property
    def is_news(self) -> bool:
        """True if something can be read, or there is more room than at the reader's last look."""
        return self.is_readable or self._ends != self._seen_ends or self.is_over or self.is_finished

    def when_news(self, waiter: Callable[[], object]) -> None:
        """Have `waiter()` called once, in any thread, at the next change."""
        self._waiters.append(waiter)

    def wake(self) -> None:
        """Wake those that wait for a change."""
        tell_each(self._waiters)

    def calls(self) -> list[Call[Any]]:
        """Return the calls that are under way."""
        return [batch.call for batch in list(self._untaken) if batch.call is not None and not batch.call.done()]

    def cancel(self) -> None:
        """Cancel what is under way and draw no more items, because there is no more reader; from any thread."""
        if self.is_over:
            return
        self.is_over = True
        if self.stop_drawing is not None:
            self.stop_drawing()
        if not self.is_read:
            told = (
                "%s.map(...) was dropped unread, so its work was cancelled: iterate over it (`for x in ...` or `async "
                "for x in ...`)."
            )
            self.peer.context.complaints.tell((told, self.label), told, self.label, level=logging.WARNING)
        for call in self.calls():
            call.cancel()
        self._untaken.clear()
        self._ended.clear()
        self._refused.clear()
        self.outcomes.clear()
        self.wake()


def is_refused(outcome: object) -> bool:
    """Return True if a call, or an item, was not run because a queue is full."""
    error = outcome.error if isinstance(outcome, FailedItem) else outcome
    return isinstance(error, Busy) and error.executed == "no"
