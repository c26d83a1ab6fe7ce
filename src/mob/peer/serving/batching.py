"""Batches: calls of an export that takes lists are gathered and served together (`@mob.export(batch=..., within=...)`).

A call arrives here with its arguments decoded and checked. It waits in a line of its export, where it can expire, be
cancelled or be given back like any waiting call (`limiters.py`). A batch begins when the line has enough calls for a
full one, or when its first call has waited `within` seconds. Only then are its calls noted as begun, so a crash costs
none of those that still wait. To `serving` a batch looks like a call that arrived on a link of its own, so the limits
of the role, threads, tasks, timeouts and drains apply to it. Its result is distributed to the calls here.

A call that is cancelled, or whose caller dies, leaves its batch, and the others notice nothing. A running batch is
cancelled when all of its calls are.

A durable call of the export comes from the keeper of jobs, and shares batches with others. Its arguments and its answer
have another form; `durable_calls` knows both.

Limits. A batch of several callers, or with a durable call, has no `mob.caller()`. A batch has a deadline only if all of
its calls have one.
"""

from __future__ import annotations

import inspect
from asyncio import TimerHandle
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, cast

from msgspec import Raw, structs

from mob.errors import BadMessage, CallError
from mob.peer.serving import durable_calls, limits
from mob.peer.serving.limiters import CallKey, CallLine, QueuedCall
from mob.rim.link import Link
from mob.wire import messages as m
from mob.wire.arguments import result_of
from mob.wire.unions import has_choice

if TYPE_CHECKING:
    from mob.peer.serving.durable_calls import KeptExport
    from mob.peer.serving.exports import Export
    from mob.peer.serving.measure.tallies import ExportTally
    from mob.peer.serving.serving import Serving, Started
    from mob.wire.arguments import BoundArguments
    from mob.wire.singles import Singles

_kind: Callable[[Any], type[Any]] = type
NUMBER = -1
"""Number of the call that a batch is on its own link; no real call has a number below 0."""


class Batcher:
    """The calls of one export that wait for a batch, and the batches that run."""

    def __init__(self, serving: Serving, export: Export, function: Callable[..., Any]) -> None:
        assert export.singles is not None
        assert export.options.batch is not None
        self.serving: Serving = serving
        self.export: Export = export
        self.function: Callable[..., Any] = function
        """The function that takes and returns lists."""
        self.singles: Singles = export.singles
        self.tally: ExportTally | None = export.tally
        """Where its calls are counted. The export itself has no tally, or each batch would count as a call."""
        export.tally = None
        result = result_of(export.singles.single)
        has_tags = not isinstance(result, str) and has_choice(result)
        codec = serving.encoder.codec
        self.tag: Callable[[Any], Any] | None = partial(codec.tagged, root="result") if has_tags else None
        """Tags a result, if the annotation of the export needs it."""
        self.line: CallLine = OrderedDict()
        """The waiting calls, in order."""
        self._size = export.options.batch
        self._within = export.options.within
        self._loop = serving.loop
        self._timer: TimerHandle | None = None
        self._is_asked = False  # a batch is about to begin
        self._seen: CallKey | None = None  # the first call of the line at the last look

    def __repr__(self) -> str:
        return f"<Batcher of {self.export.label}, {len(self.line)} calls wait, {len(self._batches)} batches run>"

    @property
    def in_hand(self) -> int:
        """Number of calls that wait or are in a batch."""
        return len(self.line) + sum(batch.size for batch in self._batches)

    @property
    def _batches(self) -> list[CallBatch]:
        """The running batches: each has a place at the limiter, as a call on a link of its own."""
        limiter = self.export.limiter
        return [] if limiter is None else [cast("CallBatch", link) for link, _ in limiter.inside]

    @property
    def gathering(self) -> int:
        """Number of calls that only wait for more calls: another worker would begin them no earlier."""
        return len(self.line) if self._has_room() else 0

    def _has_room(self) -> bool:
        limiter = self.export.limiter
        return limiter is not None and limiter.running < limiter.limit

    def look(self) -> None:
        """Begin a batch if one is due, or look again when one will be."""
        if not self.line:
            self._forget_if_idle()
            return
        self.serving.batchers.add(self)
        self.serving.ends.watch()
        if self._is_asked or not self._has_room():
            return
        wait = 0.0
        if len(self.line) < self._size and self._within:
            wait = _arrived(next(iter(self.line.values()))) + self._within - monotonic()
        if wait <= 0:
            self._is_asked = True
            self._loop.call_soon(self._begin)
        elif self._timer is None:
            self._timer = self._loop.call_later(wait, self._ring)

    def _ring(self) -> None:
        self._timer = None
        self.look()

    def _begin(self) -> None:
        """Begin a batch with the waiting calls."""
        chosen: list[QueuedCall] = []
        try:
            self._is_asked = False
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            if self._has_room():
                chosen = list(self.line.values())[: self._size]
            if chosen:
                self._begin_with(chosen)
        except BaseException as error:  # noqa: BLE001  becomes the answer
            for each in chosen:
                self.serving.ends.end(each.link, each.call, error)
        finally:
            self.look()

    def _begin_with(self, chosen: Sequence[QueuedCall]) -> None:
        batch = CallBatch(self, chosen)
        for each in chosen:
            self.serving.waiting_calls.drop(each.link, each.call.id)
        batch.start()
        self.serving.inbox.publish()

    def handle_end(self, link: Link) -> None:
        """Handle the end of a batch: the next one may begin."""
        if isinstance(link, CallBatch):
            link.finish()
        self.look()
        self.serving.invite()

    def _forget_if_idle(self) -> None:
        if not self._batches:
            self.serving.batchers.discard(self)

    def look_after(self) -> None:
        """Begin a batch if that was forgotten; once a second."""
        first = next(iter(self.line), None)
        if first is not None and first == self._seen and self._has_room():
            self._is_asked = True
            self._loop.call_soon(self._begin)
        self._seen = first
        if first is None:
            self._forget_if_idle()


class CallBatch:
    """A batch that is being served; to `serving`, the link on which it arrived as a call."""

    def __init__(self, batcher: Batcher, waiting: Sequence[QueuedCall]) -> None:
        self._batcher = batcher
        self._serving = batcher.serving
        self._name = batcher.serving.context.name
        self._calls: dict[CallKey, tuple[Started, float]] = {}  # open calls, with their times of arrival
        for each in waiting:
            self._calls[each.link, each.call.id] = each.work[1], each.work[2]
        self.size: int = len(waiting)
        """Number of calls that it began with."""
        self.has_one_caller: bool = len({each.work[1][1].uid for each in waiting}) == 1 and not any(
            self._kept(each.work[1]) for each in waiting
        )
        """True if all of its calls come from one process, which made them for itself."""
        self._began = 0.0
        self._waited: list[float] = []  # seconds, of the calls that began
        self._timers: list[TimerHandle] = []  # of the calls with a deadline
        self._as_link = cast(Link, self)

    def __repr__(self) -> str:
        return f"<CallBatch of {self._batcher.export.label}, {len(self._calls)} of {self.size} calls to end>"

    def start(self) -> None:
        """Have the batch served as a call."""
        serving, batcher = self._serving, self._batcher
        for key, (work, _) in self._calls.items():
            serving.batched[key] = self
            if (times := work[2].times) is not None:
                self._timers.append(serving.loop.call_later(max(0.0, times[1] - monotonic()), self._expire, key))
        (_, contact, first, *_), arrived = next(iter(self._calls.values()))
        call = m.Invoke(NUMBER, batcher.export.name, Raw(b"\x90"), (), self._times(), self._chain(), first.trace)
        function: Callable[..., Any] = self._run
        if serving.context.tracing is not None:
            function = serving.traced(function, batcher.export.label, call, contact)
        work: Started = self._as_link, contact, call, function, (), {}
        serving.ends.watch()
        serving.ends.attend(self._as_link, call, serving.begin_batch, batcher.export, work, arrived)

    def _times(self) -> tuple[float, float] | None:
        """Return the start and the deadline of the batch: the last of its calls' deadlines, if all have one."""
        times = [work[2].times for work, _ in self._calls.values()]
        limited = [each for each in times if each is not None]
        if len(limited) < len(times):
            return None
        return min(made for made, _ in limited), max(deadline for _, deadline in limited)

    def _chain(self) -> tuple[int, ...]:
        """Return the calls in the course of which it runs: a call that it makes is made for all of them."""
        return tuple(
            number
            for (_, contact, call, *_), _ in self._calls.values()
            for number in (*call.chain, contact.uid, call.id)
        )

    # ------------------------------------------------------------------------------------------------- running

    def _run(self) -> Any:
        """Call the function with lists; on the loop or in a thread of the role."""
        begun = self._enter()
        if not begun:
            return None
        lists, named = self._batcher.singles.lists([self._arguments(work) for work in begun])
        value = self._batcher.function(*lists, **named)
        if inspect.isawaitable(value):
            return self._finish(begun, value)
        self._answer(begun, value)
        return None

    def _kept(self, work: Started) -> KeptExport | None:
        """Return the export that knows how to answer a durable call; None for other calls."""
        export = self._serving.exports.get(work[2].target)  # type: ignore[call-overload]
        return export if isinstance(export, durable_calls.KeptExport) else None

    def _arguments(self, work: Started) -> BoundArguments:
        kept = self._kept(work)
        return (work[4], work[5]) if kept is None else kept.unpacked(work[4])

    async def _finish(self, begun: Sequence[Started], awaitable: Awaitable[Any]) -> None:
        self._answer(begun, await awaitable)

    def _enter(self) -> list[Started]:
        """Note that the calls begin, and return them, without those that must not begin."""
        now = self._began = monotonic()
        begun: list[Started] = []
        for key, (work, arrived) in list(self._calls.items()):
            link, contact, call = work[:3]
            if link.is_closed and not contact.has_left:
                self._settle(key)
            elif call.times is not None and now >= call.times[1]:
                self._fail(work, limits.expired(call, self._name))
            elif link.unsent_bytes > limits.UNREAD:
                self._fail(work, limits.unread(contact.name, self._name))
            elif self._serving.begun.begin(contact, call.id):
                begun.append(work)
                self._waited.append(now - arrived)
            else:
                self._serving.begun.end(contact, call.id)
                if self._settle(key):
                    self._serving.answers.give_back(link, call)
        return begun

    # ----------------------------------------------------------------------------------------------- answering

    def _answer(self, begun: Sequence[Started], value: Any) -> None:
        label, kind = self._batcher.export.label, _kind(value)
        if not issubclass(kind, list):
            hint = " Make it a list, for example with `.tolist()`." if hasattr(kind, "tolist") else ""
            text = f"{label} takes batches, so it must return a list; it returned {kind.__qualname__!r}.{hint}"
            raise BadMessage(text, "result")
        results = cast("list[Any]", value)
        if len(results) != len(begun):
            text = (
                f"{label} returned {len(results)} results for a batch of {len(begun)} calls. It must return one for "
                f"each call, in the order of its arguments; for a call that failed, an exception."
            )
            raise BadMessage(text, "result")
        now = monotonic()
        for work, result in zip(begun, results, strict=True):
            times = work[2].times
            if (kept := self._kept(work)) is not None:
                self._reply(work, kept.ended(work, result, self._batcher.tag), None)
            elif issubclass(type(result), BaseException):
                self._fail(work, result)
            elif times is not None and now >= times[1]:
                self._fail(work, self._too_long(work))
            else:
                self._reply(work, result, self._batcher.tag)

    def _reply(self, work: Started, result: Any, tag: Callable[[Any], Any] | None) -> None:
        link, _, call = work[:3]
        try:
            if self._settle((link, call.id)):
                self._serving.answers.reply(link, call, result if tag is None else tag(result))
        except BaseException as error:  # noqa: BLE001  becomes the answer
            self._serving.fail_beside(link, call, error)

    def _fail(self, work: Started, error: BaseException) -> None:
        link, _, call = work[:3]
        try:
            if self._settle((link, call.id)):
                self._serving.fail_beside(link, call, error)
        except BaseException as raised:  # noqa: BLE001  becomes the answer
            self._serving.fail_beside(link, call, raised)

    def _settle(self, key: CallKey) -> bool:
        """Return whether a call is still to be answered; from now on it is not."""
        self._serving.batched.pop(key, None)
        return self._calls.pop(key, None) is not None

    def give_up(self, key: CallKey) -> None:
        """Drop a call that its caller cancelled; on the loop's thread."""
        if self._settle(key) and not self._calls:
            self._serving.cancel(self._as_link, NUMBER)

    def _expire(self, key: CallKey) -> None:
        """Answer a call whose deadline passed, and let the others go on."""
        found = self._calls.get(key)
        if found is not None:  # a thread may have answered it in the meantime
            work = found[0]
            self._fail(work, self._too_long(work) if self._began else limits.expired(work[2], self._name))
            if not self._calls:
                self._serving.cancel(self._as_link, NUMBER)

    def _too_long(self, work: Started) -> CallError:
        assert work[2].times is not None
        return limits.too_long(work[2], work[2].times[0], self._began, self._name)

    def finish(self) -> None:
        """Count the calls of a batch that ended; on the loop's thread."""
        for timer in self._timers:
            timer.cancel()
        tally = self._batcher.tally
        if tally is not None and self._waited:
            for seconds in self._waited:
                tally.begin(seconds)
            tally.end(monotonic() - self._began, len(self._waited))

    # --------------------------------------------------------------------------------- as the link of its call

    @property
    def name(self) -> str:
        """The batch as people read it."""
        return f"a batch of {self.size}"

    @property
    def is_closed(self) -> bool:
        """True if none of its calls is wanted any longer."""
        return not self._calls

    unsent_bytes = 0
    """Unread bytes at the other end: none, because each call's own link is checked."""

    def post(self, message: Any) -> None:
        """Handle the answer to the batch as a whole: ignored if its calls have theirs; from any thread."""
        if not isinstance(message, m.Failed):
            self._serving.answers.served -= 1  # it was not a call
            return
        open_calls = [work for work, _ in list(self._calls.values()) if self._settle((work[0], work[2].id))]
        for work in open_calls:
            if self._began and self._kept(work) is not None:
                self._serving.answers.reply(work[0], work[2], durable_calls.failed(message.failure))
            else:
                work[0].post(structs.replace(message, id=work[2].id))
        tallies, more = self._serving.tallies, len(open_calls) - 1  # the failure of the batch counted as one
        if tallies is not None and more > 0:
            tallies.fail_more(self._batcher.export.name, message.failure.type_name.rpartition(".")[2], more)

    def close(self, why: str) -> None:
        """Close the links of its calls: they cannot be answered."""
        for link, _ in list(self._calls):
            link.close(why)


def _arrived(waiting: QueuedCall) -> float:
    arrived: float = waiting.work[2]
    return arrived
