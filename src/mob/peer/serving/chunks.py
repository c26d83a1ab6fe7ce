"""Chunks in the worker: one call carries several items of a `map`, and is answered when all of them ended.

Items of plain `def` exports run one by one, on the loop or in one thread of the role. After `SLICE` the loop gets a
turn, so a chunk that takes longer than expected neither starves other calls nor misses its cancellation. Items of other
exports (`async def`, or with a limit of their own) are served as calls: to `serving` a chunk looks like the link on
which they arrived, and their answers are gathered here. So limits, deadlines and counts apply to each item.

An item that fails fails alone. `mapping` decides what the caller makes of the answer.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from functools import partial
from threading import Lock, get_ident
from time import monotonic, perf_counter
from typing import TYPE_CHECKING, Any, cast

import msgspec
from msgspec import Raw, structs

from mob.core.mapping import generator_mapped
from mob.errors import BadMessage, Busy, CallError, GarbageFrame, Unavailable
from mob.peer.links.served import SERVED
from mob.peer.serving import limits
from mob.peer.serving.exports import Export
from mob.peer.serving.measure.tallies import LAP
from mob.rim import forks
from mob.rim.link import Link
from mob.wire import messages as m
from mob.wire.chunks import answer, is_plain, rows_of
from mob.wire.failures import Failure, describe
from mob.wire.kinds import is_stream

if TYPE_CHECKING:
    from mob.peer.links.contact import Contact
    from mob.peer.serving.serving import Serving
    from mob.wire.references import Passage

Lap = tuple[float, float, int]
"""Items that ran one by one: when the first began, the seconds that they took, and their number."""

SLICE = 0.01
"""Seconds that the items of a chunk may run on the loop before others get a turn: longer than one chunk should take."""
LONGEST_ANSWER = 16 * 1024 * 1024
"""Bytes of values after which the other items of a chunk are given back to the caller, which sends them again."""


class Chunk:
    """A chunk that is being served; to `serving`, the link on which its items arrived."""

    def __init__(
        self, serving: Serving, link: Link, contact: Contact, call: m.Invoke, export: Export, queue_limit: int
    ) -> None:
        self._serving = serving
        self._context = serving.context
        self._codec = serving.encoder.codec
        self._link = link
        self._contact = contact
        self._call = structs.replace(call, target=export.name)
        self._export = export
        self._queue_limit = queue_limit
        self._arrived = serving.inbox.arrived
        self._chain = (*call.chain, contact.uid, call.id)  # for calls that an item makes
        self._function = export.function
        self._rows = self._read(call)
        self._values: list[Any] = [None] * len(self._rows)
        self._failures: list[tuple[int, Failure]] = []
        self._passage: list[Any] = []
        self._generators: set[int] = set()  # items that turned out to stream
        self._answered: set[int] = set()  # items that have their own answers
        self._lock = Lock()  # items may end in any thread
        self._missing = len(self._rows) + 1  # items that have not ended, and the run itself
        self._next = 0
        self._seen = -1  # the next item at the last look
        self._bytes = 0
        self._seconds = 0.0
        self._began = 0.0
        self._refusal = ""
        self._is_given_up = False
        self._is_direct = not export.is_async and export.limiter is None and export.options.kill_after is None
        self._as_link = cast(Link, self)

    def __repr__(self) -> str:
        return f"<Chunk of {self._export.label}, {self._missing} of {len(self._rows)} items to end>"

    def _read(self, call: m.Invoke) -> list[Raw]:
        """Return the arguments of each item; raise the error that refuses all of them."""
        export, context = self._export, self._context
        try:
            if inspect.isgeneratorfunction(export.function) or inspect.isasyncgenfunction(export.function):
                raise generator_mapped(export.label, executed=False)
            if call.times is not None and monotonic() >= call.times[1]:
                raise limits.expired(self._call, context.name)
            if self._serving.quarantined.get(export.name, context.uid) != context.uid:
                raise limits.quarantined(export.label)
            try:
                return rows_of(call.args)
            except msgspec.MsgspecError as error:
                raise GarbageFrame(f"the items of a chunk of {export.label} are not an array.") from error
        except BaseException:
            self._serving.encoder.discard(call)
            raise

    # ------------------------------------------------------------------------------------------------- starting

    @property
    def key(self) -> tuple[Link, int]:
        """The key of this chunk among the calls of the process."""
        return self._link, self._call.id

    def start(self) -> None:
        """Begin with the items; `Busy` if too many calls already wait for a thread."""
        serving, threads = self._serving, self._serving.threads
        if self._context.tracing is not None and self._is_direct:
            self._function = self._context.tracing.wrap(
                self._function, self._export.label, self._call, self._contact.name, self._arrived
            )
        if threads is not None and self._is_direct:
            if threads.behind > self._queue_limit:
                raise limits.full(self._context.name, self._queue_limit, place="here for a thread")
            serving.chunks[self.key] = self
            threads.begin_call(self.key)
            serving.running.begin_in_thread(self.key, self._export)
            threads.submit(self._run_in_thread, self._break)
        else:
            serving.chunks[self.key] = self
            self._run_slice()

    def _run_slice(self) -> None:
        """Run items on the loop until all have begun or the slice of time is over."""
        serving = self._serving
        serving.running.enter(self._export)
        serving.inbox.arrived = self._arrived
        self._began = self._began or perf_counter()
        left = serving.plain.enter()
        try:
            laps = self._run(perf_counter() + SLICE)
        finally:
            serving.plain.leave(left)
        self._count(laps)
        if self._next < len(self._rows) and not self.is_closed:
            serving.ends.watch()
            self._context.reactor.loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        if self._is_given_up:
            return
        running = self._serving.running
        try:
            running.on_loop_since = perf_counter()
            self._run_slice()
        except BaseException as error:  # noqa: BLE001  becomes the answer
            self._break(error)
        finally:
            running.rest()

    def look_after(self) -> None:
        """Continue if that was forgotten; once a second."""
        on_loop = self._serving.threads is None or not self._is_direct
        if on_loop and self._seen == self._next < len(self._rows):
            self._context.reactor.loop.call_soon(self._go_on)
        self._seen = self._next

    def _break(self, error: BaseException) -> None:
        """Answer the whole chunk with an error, because it cannot be served to its end; from any thread."""
        self._serving.ends.end_beside(self._link, self._call, error)

    def _run_in_thread(self) -> None:
        laps = self._run(math.inf)
        done = partial(self._handle_thread_done, laps)
        self._context.reactor.call(partial(self._serving.ends.attend, self._link, self._call, done))

    def _handle_thread_done(self, laps: list[tuple[float, float, int]]) -> None:
        serving = self._serving
        assert serving.threads is not None
        self._count(laps)
        is_free = serving.threads.end_call(self.key)
        serving.running.end(self.key)
        if is_free:
            serving.inbox.publish()
        serving.invite()

    # -------------------------------------------------------------------------------------------------- running

    def _run(self, until: float) -> list[Lap]:
        """Run items until that time; on the loop or in a thread."""
        self._serving.begun.note(self._contact, self._call.id)
        laps: list[Lap] = []
        run_next = self._run_item if self._is_direct else self._serve_item
        token = SERVED.set((self._contact, self._call_of(0), self._as_link))
        reactor = self._context.reactor
        is_loops = self._is_direct and reactor.go_away()  # once for all items
        start = lap = now = perf_counter()
        count = ended = 0
        try:
            while self._next < len(self._rows) and now < until and not self.is_closed:
                index = self._next
                self._next += 1
                if (why_not := self._why_not()) is not None:
                    self._codec.discard(self._rows[index])
                    self._serving.answers.fail(self._as_link, self._call_of(index), why_not)
                    continue
                ended += run_next(index)
                if self._context.is_abandoned:  # the item forked, and this is the child
                    forks.end()
                count += 1
                before, now = now, perf_counter()
                if now - before > LAP / 2 and count > 1:  # a long item is counted separately
                    laps.append((lap, before - lap, count - 1))
                    lap, count = before, 1
                if now - lap > LAP:
                    laps.append((lap, now - lap, count))
                    lap, count = now, 0
        finally:
            if is_loops:
                reactor.come_back()
            SERVED.reset(token)
            self._seconds += perf_counter() - start
        if count:
            laps.append((lap, now - lap, count))
        self._end(ended + (self._next >= len(self._rows)))
        return laps

    def _why_not(self) -> CallError | None:
        """Return why the next item must not run; None if it may."""
        times = self._call.times
        if times is not None and monotonic() >= times[1]:
            return limits.expired(self._call, self._context.name)
        if self._refusal:
            return Unavailable(self._refusal)
        if self._bytes > LONGEST_ANSWER:
            return Busy(f"{self._context.name}: the answer to a chunk is full.")
        return None

    def _run_item(self, index: int) -> bool:
        """Run an item; return whether it ended and its result still has to be sent."""
        answers, times = self._serving.answers, self._call.times
        began = 0.0 if times is None else monotonic()
        try:
            args, kwargs = self._export.decode(self._rows[index], None)
            value = self._function(*args, **kwargs)
            if times is not None and monotonic() >= times[1]:
                raise limits.too_long(self._call, times[0], began, self._context.name)
            if is_plain(value):
                self._values[index] = value
                self._serving.answers.served += 1
                return True
            if inspect.isawaitable(value):
                self._await(index, value)
            elif is_stream(value):
                _close(value)
                raise generator_mapped(self._export.label, executed=True)
            else:
                answers.reply(self._as_link, self._call_of(index), value)
        except BaseException as error:  # noqa: BLE001  becomes the outcome of this item
            answers.fail(self._as_link, self._call_of(index), error)
        return False

    def _await(self, index: int, value: Any) -> None:
        """Handle a plain function that returned an awaitable."""
        if get_ident() != self._context.reactor.thread:
            text = f"cannot send result: {self._export.label} returned an awaitable in a thread. Make it `async def`."
            raise BadMessage(text, "result")
        was_away = self._context.reactor.enter()
        try:
            self._serving.run_as_task(self._as_link, self._call_of(index), value)
        finally:
            self._context.reactor.leave(was_away)

    def _serve_item(self, index: int) -> bool:
        self._serving.start_call(self._as_link, self._contact, self._call_of(index), None)
        return False

    def _call_of(self, index: int) -> m.Invoke:
        """Return an item as a call. No real call has its number."""
        call = self._call
        return m.Invoke(-1 - index, call.target, self._rows[index], (), call.times, self._chain, call.trace)

    def _count(self, laps: Sequence[Lap]) -> None:
        tally = self._export.tally
        if tally is None or not self._is_direct:
            return  # items that are served as calls are counted there
        for began, seconds, count in laps:
            tally.begin(max(0.0, began - self._arrived), count)
            tally.end(seconds / count, count)

    # ------------------------------------------------------------------------------- as the link of its items

    @property
    def name(self) -> str:
        """The other end, as people read it."""
        return self._link.name

    @property
    def is_closed(self) -> bool:
        """True if its answer is no longer wanted."""
        return self._is_given_up

    @property
    def unsent_bytes(self) -> int:
        """Bytes that the other end has not read yet."""
        return self._link.unsent_bytes

    def post(self, message: Any) -> None:
        """Keep the first answer to an item; from any thread."""
        try:
            self._keep_answer(-1 - message.id, message)
        except BaseException as error:  # noqa: BLE001  becomes the answer
            self._break(error)

    def _keep_answer(self, index: int, message: Any) -> None:
        if index in self._answered:
            return
        match message:
            case m.Reply(value=value):
                self._values[index] = value
                self._bytes += len(value)
            case m.Failed(failure=failure) if index not in self._generators:
                self._failures.append((index, failure))
            case m.Item():
                self._generators.add(index)
                self._context.reactor.call(partial(self._serving.cancel, self._as_link, message.id))
                return  # its end follows
            case _:  # the end of a generator
                error = generator_mapped(self._export.label, executed=True)
                self._failures.append((index, describe(error, self._codec, "yes")))
        self._answered.add(index)
        self._end(1)

    def close(self, why: str) -> None:
        """Close the link on which the items arrived: one of them cannot be answered."""
        self._link.close(why)

    def keep(self, message: m.Reply, passage: Passage) -> None:
        """Keep an answer that contains functions, sockets or shared memory."""
        self._passage += passage
        self.post(message)
        if self._is_given_up:
            self._let_go()

    def _end(self, count: int) -> None:
        """Note that `count` more items ended; from any thread."""
        with self._lock:
            self._missing -= count
            is_over = self._missing == 0
        if is_over and count and not self._is_given_up:
            try:
                self._answer()
            except BaseException as error:  # noqa: BLE001  becomes the answer
                self._break(error)

    # ------------------------------------------------------------------------------------------------ answering

    def _answer(self) -> None:
        """Answer the chunk, because all items ended; in the thread of the last one."""
        answers = self._serving.answers
        seconds = self._seconds if self._is_direct else perf_counter() - self._began
        self._serving.learn(self._export, seconds, is_chunk=True)
        body = answer(seconds, self._values, self._failures)
        passage, self._passage = self._passage, []
        answers.reply_chunk(self._link, self._call, body, passage)
        if get_ident() == self._context.reactor.thread:
            self._forget()
        else:
            self._context.reactor.call(self._forget)

    def _forget(self) -> None:
        self._serving.chunks.pop(self.key, None)
        self._serving.invite()
        self._context.reactor.note()

    def give_up(self) -> None:
        """Drop the chunk, because its answer is no longer wanted; on the loop's thread. Its other items never begin."""
        self._is_given_up = True
        self._forget()
        self._serving.drop_link(self._as_link)
        for row in self._rows[self._next :]:
            self._codec.discard(row)
        self._let_go()

    def _let_go(self) -> None:
        with self._lock:
            passage, self._passage = self._passage, []
        self._serving.references.let_go(passage)

    def refuse(self, why: str) -> None:
        """Give back the items that have not begun, safe to repeat elsewhere, because the process ends."""
        self._refusal = why


def _close(iterator: Any) -> None:
    close: Callable[[], object] | None = getattr(iterator, "close", None)
    if close is not None:
        close()
