"""What is under way of a `map`: the chunks that were sent, what has come back of them, and what may be sent next.

Calls lead back to a `Run` and nobody else, so a `Map` that is dropped is noticed (`mapping`). A chunk that was refused
because a queue is full (`Busy`, not executed) is sent again when another one has ended. An item with references in it
(functions, sockets, large buffers) is a call of its own; so is each item if `chunk` is 1.

Whoever reads the map draws and sends, in his thread; answers come in any thread.
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
"""Bytes of arguments after which a chunk is sent. (Longer bodies would be looked through for large buffers.)"""
FIRST_PAUSE, LONGEST_PAUSE = 0.005, 0.5
"""Seconds after which a chunk that was refused is sent again, if nothing else of its map is under way."""


class FailedItem:
    """The outcome of an item that failed."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error: BaseException = error


class Chunked(Call[Any]):
    """The call of a chunk."""

    __slots__ = ()

    def settle_as_declared(self, body: Raw) -> bool:
        """The answer holds a value that cannot be decoded unless one knows what it is: each is decoded by itself."""
        found = raw_answer(body)
        if found is not None:
            self.settle(found)
        return found is not None


class UndecidedChunk(Chunked):
    """The call of a chunk whose results only their annotation decides."""

    __slots__ = ()
    is_undecided = True


class Batch:
    """Items that are sent together, and what becomes of them."""

    __slots__ = ("args", "bodies", "call", "is_done", "is_told", "is_under_way", "missing", "outcomes")

    def __init__(self, bodies: list[Raw], args: tuple[Any, ...] | None = None) -> None:
        self.bodies: list[Raw] = bodies
        """The arguments of each item, encoded."""
        self.args: tuple[Any, ...] | None = args
        """Those of the only item, if it is a call of its own."""
        self.call: Call[Any] | None = None
        self.outcomes: list[Any] = [None] * (len(bodies) if args is None else 1)
        self.missing: Sequence[int] = range(len(self.outcomes))
        """The items whose outcomes are not known, or were refused."""
        self.is_done: bool = False
        self.is_told: bool = False
        """Whether it is among those that have ended, if their order does not count."""
        self.is_under_way: bool = False

    def __repr__(self) -> str:
        return f"<Batch of {len(self.outcomes)} items, {len(self.missing)} missing>"

    def put(self, outcomes: list[Any]) -> None:
        """Take the outcomes of the missing items. Those that were refused stay missing."""
        refused = [index for index, each in zip(self.missing, outcomes, strict=True) if is_refused(each)]
        if len(self.missing) == len(self.outcomes):
            self.outcomes = outcomes
        else:
            for index, outcome in zip(self.missing, outcomes, strict=True):
                self.outcomes[index] = outcome
        self.is_done = not refused
        self.missing = refused  # last: until then the answer may be taken once more


class Run:
    """All batches of one map. `chunked` is what sends a chunk."""

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
        """How many items there are, if that is known."""
        self.outcomes: deque[Any] = deque()
        """What can be read at once."""
        self.taken: int = 0
        """How many items have got there."""
        self.is_exhausted: bool = False
        """Whether no more items will come."""
        self.is_read = False
        """Whether somebody has asked for an outcome."""
        self.is_over: bool = False
        """Whether there is nothing more to read, or nobody who will."""
        self.error: BaseException | None = None
        """What the iterator of the items has raised."""
        self.stop_drawing: Callable[[], object] | None = None
        """Ends what draws from an async iterable."""
        self._export = export
        self._chunked = chunked
        self._pace = pace
        self._is_ordered = is_ordered
        self._is_typed = isinstance(export.new_call, partial)
        self._drawn = 0
        self._lines: deque[Batch] = deque()  # not taken yet, in order
        self._ended: deque[Batch] = deque()  # of these the done ones, in the order of their ends, if it is read so
        self._refused: deque[Batch] = deque()
        self._lock = Lock()
        self._under_way = 0
        self._ends = self._seen_ends = 0  # batches that have come back and were not refused
        self._pause = FIRST_PAUSE
        self._chunk: list[Raw] = []  # what is being put together
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
        """How many outcomes were read."""
        return self.taken - len(self.outcomes)

    @property
    def held(self) -> int:
        """How many items are under way, or have ended and were not read."""
        return self._drawn - self.read

    @property
    def is_finished(self) -> bool:
        """Whether all outcomes were taken."""
        return self.is_exhausted and not self._lines and not self._chunk

    # -------------------------------------------------------------------------------------------------- drawing

    def has_room(self) -> bool:
        """Whether another chunk may be sent."""
        return not self._refused and self._pace.has_room(self._look_at_crew(), self._under_way, self.held)

    def next_size(self) -> int:
        """How many items the next chunk carries."""
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
        """Draw as many items as there is room for and send them, one chunk at least; no more than one if something can
        be read, or it is later than the deadline."""
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
        except Exception as error:  # noqa: BLE001  raised in its place, behind what was drawn before
            self.is_exhausted, self.error = True, error
        self.flush()

    def add(self, args: tuple[Any, ...], size: int) -> bool:
        """Add an item to the chunk that is being put together; whether that has been sent."""
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
        """Send the chunk that is being put together."""
        if self._chunk and not self.is_over:
            chunk, self._chunk, self._chunk_bytes = self._chunk, [], 0
            self._send(Batch(chunk))

    # -------------------------------------------------------------------------------------------------- sending

    def _send(self, batch: Batch) -> None:
        self._lines.append(batch)
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
            self._lines.remove(batch)
            self._put_ended(batch, error)
            if not isinstance(error, Exception):
                raise
            return
        with self._lock:
            self._under_way, batch.is_under_way = self._under_way + 1, True
        batch.call = call
        call.when_done(partial(self._handle_done, batch))

    def _put_ended(self, batch: Batch, error: BaseException) -> None:
        """It has failed before it was sent."""
        self._lines.append(batch)
        batch.put([FailedItem(error)] * len(batch.missing))
        if not self._is_ordered:
            self._ended.append(batch)

    def send_refused(self) -> None:
        """Send one batch that was refused for each that has come back; one at least, if none is under way."""
        ends, self._seen_ends = self._ends - self._seen_ends, self._ends
        for _ in range(min(len(self._refused), max(ends, not self._under_way))):
            self._send_missing(self._refused.popleft())

    def _handle_done(self, batch: Batch, call: Call[Any]) -> None:
        """A call has ended; in whichever thread has settled it."""
        error = None if call.cancelled() else call.exception()
        if not self.is_over:
            if batch.missing and not is_refused(error):
                self._take_answer(batch, call, error)
            if not batch.missing:
                self._pause = FIRST_PAUSE
                if not self._is_ordered and not batch.is_told:
                    self._ended.append(batch)
                    batch.is_told = True
            elif batch not in self._refused:
                self._refused.append(batch)
        with self._lock:
            if batch.is_under_way:  # once, though this may be called again because it has raised
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
        """The outcomes that an answer tells; raises whatever it likes if it is none."""
        seconds, values, failed = answer
        outcomes: list[Any] = list(values)
        if len(outcomes) != count:
            raise ValueError(f"it has {len(outcomes)} values for {count} items.")
        errors = {index: failures.rebuild(failure_of(body), self.peer.encoder.codec) for index, body in failed}
        if self._is_typed or answer.__class__ is tuple:
            outcomes = [None if at in errors else self._as_declared(value) for at, value in enumerate(outcomes)]
        for index, error in errors.items():
            outcomes[index] = FailedItem(error)
        self._pace.handle_done(count, seconds)
        return outcomes

    def _as_declared(self, value: Any) -> Any:
        """What becomes of a value that a call of its own would have."""
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
        error = CallError(f"{self.label} has answered, but the answer cannot be read: {why}", executed="yes")
        error.__cause__ = failure
        return error

    # -------------------------------------------------------------------------------------------------- reading

    @property
    def is_readable(self) -> bool:
        """Whether there is something to take."""
        return bool(self._lines) and self._lines[0].is_done if self._is_ordered else bool(self._ended)

    def take(self) -> bool:
        """Give what can be read to `outcomes`; whether there was something."""
        if not self.is_readable:
            return False
        if self._is_ordered:
            batch = self._lines.popleft()
        else:
            batch = self._ended.popleft()
            self._lines.remove(batch)
        self.outcomes.extend(batch.outcomes)
        self.taken += len(batch.outcomes)
        self.wake()
        return True

    @property
    def is_stuck(self) -> bool:
        """Whether what was refused waits for nothing but time."""
        return bool(self._refused) and not self._under_way

    def next_pause(self) -> float:
        """How many seconds it waits then: more and more."""
        pause, self._pause = self._pause, min(2 * self._pause, LONGEST_PAUSE)
        return pause

    @property
    def is_news(self) -> bool:
        """Whether something can be read, or there is more room than when the reader looked last."""
        return self.is_readable or self._ends != self._seen_ends or self.is_over or self.is_finished

    def when_news(self, waiter: Callable[[], object]) -> None:
        """Has `waiter()` called once, in any thread, when something has changed."""
        self._waiters.append(waiter)

    def wake(self) -> None:
        """Something has changed."""
        tell_each(self._waiters)

    def calls(self) -> list[Call[Any]]:
        """Those that are under way."""
        return [batch.call for batch in list(self._lines) if batch.call is not None and not batch.call.done()]

    def cancel(self) -> None:
        """Nobody reads any more: what is under way is cancelled, and no more items are drawn. From any thread."""
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
        self._lines.clear()
        self._ended.clear()
        self._refused.clear()
        self.outcomes.clear()
        self.wake()


def is_refused(outcome: object) -> bool:
    """Whether a call, or an item, was not run because a queue is full."""
    error = outcome.error if isinstance(outcome, FailedItem) else outcome
    return isinstance(error, Busy) and error.executed == "no"
