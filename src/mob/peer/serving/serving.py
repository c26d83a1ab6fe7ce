"""Serving calls: runs what the inbox passes on, and answers it.

`def` exports run on the loop, one at a time, or in the role's threads; `async def` exports are tasks of the loop, as
many at once as the role allows; an iterator that an export returns becomes a stream. An export may limit itself
(`concurrency`): calls beyond that wait in order in a line of its own (`limiters.py`) and delay no other export.

All of this runs on the loop's thread, except the code of `def` exports that run in threads.
"""

from __future__ import annotations

import asyncio
import inspect
import math
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from importlib import import_module
from threading import get_ident
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

from mob.core.callbacks import Function
from mob.core.invitations import WorkerLoad
from mob.core.lanes import FREE, LOOP, MESSAGE, Lane
from mob.errors import CallError, Lost, Unavailable
from mob.peer.calls.proxy import unknown_export
from mob.peer.links.served import SERVED
from mob.peer.references.objects import HostedService
from mob.peer.serving import deliveries, limits, methods
from mob.peer.serving.answers import Answers
from mob.peer.serving.begun import Begun
from mob.peer.serving.chunks import Chunk
from mob.peer.serving.ends import Ends
from mob.peer.serving.exports import Export, TimedFunction, Variant
from mob.peer.serving.handlers import Handlers
from mob.peer.serving.hooked import ErrorHooks
from mob.peer.serving.inbox import Inbox
from mob.peer.serving.inviting import Inviting
from mob.peer.serving.limiters import CallKey, CallLine, Limiter, QueuedCall, WaitingCalls
from mob.peer.serving.measure.running import RunningCalls
from mob.peer.serving.measure.tallies import Tallies
from mob.peer.serving.overruns import RunningLimited
from mob.peer.serving.producers import OutgoingAsync, OutgoingStream, OutgoingSync
from mob.peer.serving.selection import is_class
from mob.peer.serving.swallowing import Cancelling
from mob.peer.serving.threads import Threads
from mob.rim.begun import SLOTS, TAKEN_BACK
from mob.rim.link import Link
from mob.wire import messages as m
from mob.wire.kinds import is_stream
from mob.wire.messages import ExportInfo

if TYPE_CHECKING:
    from mob.peer.context import Context
    from mob.peer.links.contact import Contact
    from mob.peer.links.contacts import Contacts
    from mob.peer.references.encoding import Encoder
    from mob.peer.references.references import References
    from mob.peer.results.blocking import Blocking
    from mob.peer.results.handover import Handover
    from mob.peer.serving.admission import Admission
    from mob.peer.serving.batching import Batcher, CallBatch
    from mob.peer.serving.early import Early
    from mob.rim.plain import Plain
    from mob.rim.reactor import Reactor

E = TypeVar("E", bound=Export)
Started = tuple[Link, "Contact", m.Invoke, Function, Sequence[Any], dict[str, Any]]
"""A call that is ready to run: with the function and its decoded arguments."""


class Capacity(NamedTuple):
    """How much a process serves at once, and whether it counts its calls."""

    threads: int = 1
    """Number of threads for `def` exports; with 1 they run on the loop."""
    concurrency: int = 100
    """Maximum number of `async def` exports that run at once."""
    queue: int = 10_000
    """Maximum number of calls that wait; more are refused."""
    metrics: bool = True


class Serving:
    """The incoming half of a process."""

    def __init__(
        self,
        context: Context,
        contacts: Contacts,
        references: References,
        encoder: Encoder,
        blocking: Blocking,
        handover: Handover,
        capacity: Capacity,
    ) -> None:
        self.context = context
        self.contacts = contacts
        self.references = references
        self.encoder = encoder
        self.blocking = blocking
        self.reactor: Reactor = context.reactor
        self.loop: asyncio.AbstractEventLoop = context.reactor.loop
        self.plain: Plain = context.reactor.plain
        threads, concurrency, queue, metrics = capacity
        self._concurrency = concurrency
        self._lane = LOOP if threads == 1 else Lane(threads)  # of `def` exports
        self.handlers: Handlers = Handlers(self)
        self.hooks: ErrorHooks = ErrorHooks(context, partial(self.handlers.of, "error"), contacts.find)
        self.admission: Admission | None = None
        """The check of callers; None if every process may call this one."""
        self.inviting: Inviting = Inviting(self)
        self.invite: Callable[[], None] = self.inviting.invite
        self._queue_limit = queue
        self.inbox: Inbox = Inbox(self, queue)
        self.waiting_calls: WaitingCalls = WaitingCalls(self.loop, self._handle_expired)
        self.answers: Answers = Answers(self, self.inbox, self.waiting_calls, self.inviting.known)
        self.ends: Ends = Ends(self, handover)
        handover.watch = self.ends.watch
        self._reply, self._end = self.answers.reply, self.ends.end
        self.tasks: dict[CallKey, asyncio.Task[Any]] = {}
        self.streams: dict[CallKey, OutgoingStream] = {}
        self.chunks: dict[CallKey, Chunk] = {}
        """The chunks with items that have not ended."""
        self.batchers: set[Batcher] = set()
        """The batchers with calls that wait or run."""
        self.batched: dict[CallKey, CallBatch] = {}
        """The calls in batches that were not answered yet."""
        self.threads: Threads | None = Threads(threads) if threads > 1 else None
        self._line: CallLine = OrderedDict()  # of `async def` exports, beyond the role's concurrency
        self._inside: dict[CallKey, Export] = {}  # calls of exports that limit themselves, from limiter to end
        self.timed_out: dict[CallKey, CallError] = {}
        """The errors of tasks that are cancelled because their time is over."""
        self.cancelling: Cancelling = Cancelling(self.loop, self.tell)
        self._untimed: set[CallKey] = set()  # calls in threads: see `leave_untimed`
        self._given_up: set[CallKey] = set()  # running `def` calls that their callers cancelled
        self.exports: dict[str, Export] = {}
        self.find_export: Callable[[str], Export | None] = self.exports.get
        """Finds an export; while the module is being imported the table may still grow."""
        self.running: RunningCalls = RunningCalls(context)
        self.limited_calls: RunningLimited = RunningLimited(context)
        self.begun: Begun = Begun(context, contacts, has_threads=self.threads is not None)
        self.tallies: Tallies | None = Tallies() if metrics else None
        self.begun_beside: int = 0
        """Number of calls so far that did not run to their end at once: tasks, streams, calls that wait or run in
        threads, and calls that did not run at all."""
        self.quarantined: dict[str, int] = {}
        """Exports that crashed too many workers, each with the uid of the only worker that may run it; 0 for none."""
        self.early: Early | None = None
        """Holds calls of functions that the module has not defined yet; only a mobster has one."""

    def __repr__(self) -> str:
        return f"<Serving {len(self.exports)} exports, {self.in_hand} calls in hand, {self.answers.served} served>"

    @property
    def in_hand(self) -> int:
        """Number of calls and messages that were accepted and are not finished."""
        waiting = len(self.inbox) + len(self.waiting_calls.lines)
        in_threads = 0 if self.threads is None else self.threads.calls
        running = len(self.tasks) + len(self.streams) + len(self.chunks)
        running += self.reactor.stand_in.runner.in_hand
        return waiting + running + in_threads + len(self.handlers.background)

    @property
    def waiting(self) -> int:
        """Number of calls that another worker could begin now, if there were one."""
        behind = 0 if self.threads is None else max(0, self.threads.behind - 1)
        gathering = sum(each.gathering for each in self.batchers)
        return self.inbox.backlog() + len(self.waiting_calls.lines) - gathering + behind

    def describe_exports(self) -> tuple[ExportInfo, ...]:
        """Return what other processes need to know about the exports."""
        hidden = methods.Method, Variant, TimedFunction
        return tuple(each.info() for each in self.exports.values() if not isinstance(each, hidden))

    # --------------------------------------------------------------------------------------------- starting

    def start_call(self, link: Link, contact: Contact, call: m.Invoke, callback: Function | None) -> None:
        """Run a call, or let it wait for its turn."""
        try:
            if callback is None:
                export = self.find_export(call.target)  # type: ignore[arg-type]
                if export is None:
                    self.begun_beside += 1
                    if call.target == m.HANDLE:
                        self.begun.note(contact, call.id)
                        self.run_as_task(link, call, deliveries.handle(self, link, contact, call))
                        return
                    name = m.export_of(call.target)
                    if name != call.target and (export := self.find_export(str(name))) is not None:
                        if str(call.target).startswith(m.JOB):
                            self.begun_beside -= 1
                            durable_calls: Any = import_module("mob.peer.serving.durable_calls")  # rarely needed
                            self.exports[str(call.target)] = durable_calls.KeptExport(self, export, str(call.target))
                            self.start_call(link, contact, call, callback)
                            return
                        if m.VARIANT in str(call.target):
                            self.begun_beside -= 1
                            self.exports[str(call.target)] = Variant(export, str(call.target))
                            self.start_call(link, contact, call, callback)
                            return
                        Chunk(self, link, contact, call, export, self._queue_limit).start()
                        return
                    if self.early is not None and self.early.hold(link, contact, call):
                        return
                    self.encoder.discard(call)
                    raise unknown_export(self.context.role or "a client", str(name), self.exports)
                has_room = export.limiter is None and not (
                    export.in_threads if not export.is_async else len(self.tasks) >= self._concurrency
                )
                if not has_room:
                    self.begun.decode(contact, call.id)
                elif self.threads is not None:
                    self.begun.note(contact, call.id)
                else:  # inlined `note`: calling it would double the cost
                    slots, number = (contact.begun or self.begun.row_of(contact)).slots, call.id
                    if number > slots[number % SLOTS]:
                        slots[number % SLOTS] = number
                    if 0 <= number <= slots[TAKEN_BACK]:  # items of a chunk have numbers below 0
                        self.begun_beside += 1
                        self.begun.end(contact, number)
                        self.encoder.discard(call)
                        self.answers.give_back(link, call)
                        return
                function = export.function
                if self.context.tracing is not None:
                    function = self.traced(function, export.label, call, contact)
                args, kwargs = export.decode(call.args, call.kwargs[0] if call.kwargs else None)
                if call.times is not None and monotonic() >= call.times[1]:
                    raise limits.expired(call, self.context.name)
                if self.quarantined and self.quarantined.get(export.name, self.context.uid) != self.context.uid:
                    raise limits.quarantined(export.label)
                if not has_room:
                    self.begun.decode(contact, 0)
                    self.admit(export, (link, contact, call, function, args, kwargs))
                    return
                if export is not self.running.on_loop:
                    self.running.enter(export)
            elif isinstance(callback, HostedService):
                self.begun.note(contact, call.id)
                methods.start(self, link, contact, call, callback)
                return
            else:
                self.begun.note(contact, call.id)
                function, codec = callback, self.encoder.codec
                if self.context.tracing is not None:
                    function = self.traced(function, f"{self.context.role or 'client'}.callback", call, contact)
                kwargs: dict[str, Any] = {}
                if call.kwargs:
                    args, kwargs = codec.decode_both(call.args, call.kwargs[0])
                else:
                    args = codec.decode(call.args)
        except BaseException as error:  # noqa: BLE001  becomes the answer
            self.begun_beside += 1
            self._end(link, call, error)
        else:
            self.invoke(link, contact, call, function, args, kwargs)

    def traced(self, function: Function, label: str, call: m.Invoke, contact: Contact) -> Function:
        """Return a function with tracing of its call."""
        tracing = self.context.tracing
        assert tracing is not None
        wrapped: Function = tracing.wrap(function, label, call, contact.name, self.inbox.arrived)
        return wrapped

    def admit(self, export: Export, work: Started) -> None:
        """Begin a call that may have to wait at the limiter of its export or for the role."""
        self.begun_beside += 1
        if export.batcher is not None:
            self.wait(export.batcher.line, export, work)
            export.batcher.look()
            return
        if export.limiter is not None:
            key = work[0], work[2].id
            self._inside[key] = export
            if not export.limiter.enter(key):
                del self._inside[key]
                self.wait(export.limiter.line, export, work)
                return
        self._begin(export, work, self.inbox.arrived)

    def begin_batch(self, export: Export, work: Started, arrived: float) -> None:
        """Run a batch, which is served as a call; its limiter has room for it."""
        assert export.limiter is not None
        key = work[0], work[2].id
        self._inside[key] = export
        export.limiter.enter(key)
        self._begin(export, work, arrived)

    def wait(self, line: CallLine, export: Export, work: Started) -> None:
        """Put a call into a line, unless the line is full."""
        link, call = work[0], work[2]
        if len(line) >= self._queue_limit:
            self._end(link, call, limits.full(self.context.name, self._queue_limit, f"calls of {export.name}"))
        else:
            self.waiting_calls.put(line, link, call, (export, work, self.inbox.arrived))

    def _begin(self, export: Export, work: Started, arrived: float) -> None:
        """Run a call that passed the limiter of its export, if the role has room for it."""
        link, call = work[0], work[2]
        self.inbox.arrived = arrived
        threads = self.threads
        if link.unsent_bytes > limits.UNREAD:
            self._refuse_unread(work)
            return
        if export.is_async and len(self.tasks) >= self._concurrency:
            self.wait(self._line, export, work)
        elif threads is None or not export.in_threads:
            self.begun.note(work[1], call.id)
            self.running.enter(export)
            began = monotonic()
            left = self.plain.enter()
            try:
                self.invoke(*work)
            finally:
                self.plain.leave(left)
            self._handle_invoked(export, (link, call.id), arrived, began)
        elif threads.behind > self._queue_limit:
            self._end(link, call, limits.full(self.context.name, self._queue_limit, place="here for a thread"))
        else:
            threads.begin_call((link, call.id))
            self.running.begin_in_thread((link, call.id), export)
            job = partial(self._run_in_thread, work, export, arrived)
            threads.submit(job, partial(self.ends.end_beside, link, call))

    def _refuse_unread(self, work: Started) -> None:
        link, contact, call = work[:3]
        self._end(link, call, limits.unread(contact.name, self.context.name))

    def _handle_invoked(self, export: Export, key: CallKey, arrived: float, began: float) -> None:
        """Clean up after a call that had a limiter, or had waited, was run on the loop: perhaps to its end."""
        if key not in self.tasks and key not in self.streams:
            _count(export, arrived, began, monotonic())
            self._leave(key)

    def _leave(self, key: CallKey) -> None:
        """Free the place of a call that ended, for the next call of its export if that limits itself."""
        export = self._inside.get(key)
        if export is not None and export.limiter is not None:
            if export.limiter.leave(key):  # not while the loop is blocked
                self.context.reactor.loop.call_soon(self.let_next_in, export, export.limiter)
            self._inside.pop(key, None)
            if export.batcher is not None:
                export.batcher.handle_end(key[0])

    def let_next_in(self, export: Export, limiter: Limiter) -> None:
        """Give the place of a call that ended to the first call in the line."""
        if not limiter.kept:
            return
        waiting = None
        try:
            waiting = next(iter(limiter.line.values()), None)
            key = None if waiting is None else (waiting.link, waiting.call.id)
            if key is not None:
                self._inside[key] = export
            limiter.hand_over(key)
            if waiting is not None:  # else all were cancelled in the meantime
                self._begin_waiting(waiting)
        except BaseException as error:
            if waiting is not None:
                self._end(waiting.link, waiting.call, error)
            self.context.reactor.loop.call_soon(self.let_next_in, export, limiter)
            raise
        finally:
            self.invite()

    def _begin_more(self) -> None:
        """Begin as many waiting calls as tasks ended. An error ends its own call, and the others follow."""
        while self._line and len(self.tasks) < self._concurrency:
            waiting = next(iter(self._line.values()))
            self.ends.attend(waiting.link, waiting.call, self._begin_waiting, waiting)

    def _begin_waiting(self, waiting: QueuedCall) -> None:
        """Begin the first call of a line."""
        try:
            self.waiting_calls.drop(waiting.link, waiting.call.id)
            self._begin(*waiting.work)
            self.inbox.publish()
        except BaseException as error:  # noqa: BLE001  becomes the answer
            self._end(waiting.link, waiting.call, error)

    def _handle_expired(self, waiting: QueuedCall) -> None:
        if not waiting.is_read:
            self.encoder.discard(waiting.call)
        self._end(waiting.link, waiting.call, limits.expired(waiting.call, self.context.name))

    # ---------------------------------------------------------------------------------------------- running

    def invoke(
        self,
        link: Link,
        contact: Contact,
        call: m.Invoke,
        function: Function,
        args: Sequence[Any],
        kwargs: dict[str, Any],
    ) -> None:
        """Run a call on the loop: to its end, or as a task if it returns an awaitable."""
        reactor = self.reactor
        if reactor.is_stood_in:  # a callback
            reactor.stand_in.runner.submit(partial(self._run_beside, link, contact, call, function, args, kwargs))
            return
        token = SERVED.set((contact, call, link))
        try:
            began = 0.0 if call.times is None else monotonic()
            reactor.is_away = True  # as `go_away`
            if reactor.waiters:
                reactor.stand_in.alert()
            try:
                value = function(*args, **kwargs) if kwargs else function(*args)
            finally:
                reactor.is_away = False  # as `come_back`
                if reactor.is_claimed:
                    reactor.stand_in.take_back()
            if type(value) not in _PLAIN and inspect.isawaitable(value):
                self.run_as_task(link, call, value)
            elif type(value) not in _PLAIN and is_stream(value):
                self._start_stream(link, contact, call, value)
            elif call.times is not None and monotonic() >= call.times[1]:
                self._end(link, call, limits.too_long(call, call.times[0], began, self.context.name))
            else:
                self._reply(link, call, value)
        except BaseException as error:  # noqa: BLE001  becomes the answer
            if reactor.is_away:
                reactor.come_back()
            self._end(link, call, error)
        finally:
            if self._given_up:
                self._given_up.discard((link, call.id))
            SERVED.reset(token)  # a callback may be served in the middle of another call

    def _run_beside(
        self,
        link: Link,
        contact: Contact,
        call: m.Invoke,
        function: Function,
        args: Sequence[Any],
        kwargs: dict[str, Any],
    ) -> None:
        """Run a callback in a separate thread, because the loop's thread is in plain code."""
        SERVED.set((contact, call, link))
        try:
            if self._is_unwanted(link, contact, call):
                return
            value = function(*args, **kwargs)
            if type(value) not in _PLAIN and inspect.isawaitable(value):
                self.reactor.call(partial(self.ends.attend, link, call, self.run_as_task, link, call, value))
            elif type(value) not in _PLAIN and is_stream(value):
                self._start_stream_soon(link, contact, call, value)
            else:
                self._reply(link, call, value)
        except BaseException as error:  # noqa: BLE001  becomes the answer
            self.fail_beside(link, call, error)
        finally:
            self._given_up.discard((link, call.id))
            self.reactor.call(self.reactor.note)  # a process that ends waits for it

    def fail_beside(self, link: Link, call: m.Invoke, error: BaseException) -> None:
        """Answer a call with the error of its function, from another thread; the loop may be blocked."""
        try:
            self.answers.fail(link, call, error)
        except BaseException as failure:  # noqa: BLE001  becomes the answer
            self.ends.end_beside(link, call, failure)

    def note_first(self, coroutine: Any) -> None:
        """Note a task that takes its first step in the loop's next turn: what follows it waits for that."""
        self.inbox.firsts.newest = coroutine
        if not self.ends.is_watching:
            self.ends.watch()

    def call_plain(self, function: Function, *args: Any) -> Any:
        """Call plain code of the application, in any thread."""
        is_loops = self.reactor.go_away()
        try:
            return function(*args)
        finally:
            if is_loops:
                self.reactor.come_back()

    def run_as_task(self, link: Link, call: m.Invoke, awaitable: Awaitable[Any]) -> None:
        """Await a call concurrently with others."""
        coroutine = awaitable if inspect.iscoroutine(awaitable) else _wait_for(awaitable)
        task = self.context.reactor.loop.create_task(coroutine)
        self.note_first(coroutine)
        self.tasks[link, call.id] = task
        task.add_done_callback(partial(self.handle_task_done, link, call))
        export = self.exports.get(call.target) if type(call.target) is str else None
        if export is not None:
            self.begun_beside += 1
            now = self.running.begin((link, call.id), export)
            if export.tally is not None:
                export.tally.begin(now - self.inbox.arrived)
        allowed = None if export is None else export.options.timeout
        if call.times is not None or allowed is not None:
            self._limit_task(link, call, task, allowed)

    def _limit_task(self, link: Link, call: m.Invoke, task: asyncio.Task[Any], allowed: float | None) -> None:
        """Cancel a task when the time of its call, or of its export, is over; the error says how it was spent."""
        began = monotonic()
        made, deadline = call.times or (began, math.inf)
        until = min(deadline, math.inf if allowed is None else began + allowed)

        def end() -> None:
            key = link, call.id
            self.timed_out[key] = limits.too_long(call, made, began, self.context.name)
            self.cancelling.cancel(task, partial(self.ends.leave, key, task))

        timer = self.context.reactor.loop.call_later(max(0.0, until - began), end)
        task.add_done_callback(lambda _: timer.cancel())

    def handle_task_done(self, link: Link, call: m.Invoke, task: asyncio.Task[Any]) -> None:
        """Answer a call whose task ended, and begin others."""
        key = link, call.id
        try:
            if self.tasks.get(key) is task:
                self._answer_task(link, call, task)
        except BaseException as error:  # noqa: BLE001  becomes the answer
            self._end(link, call, error)
        finally:
            try:
                if self._line:
                    self._begin_more()
            finally:
                self.invite()
                self.context.reactor.note()  # one call less in hand, and perhaps no answer is left to send

    def _answer_task(self, link: Link, call: m.Invoke, task: asyncio.Task[Any]) -> None:
        key = link, call.id
        begun = self.running.end(key)
        if begun is not None:
            seconds = monotonic() - begun[1]
            self.learn(begun[0], seconds)
            if begun[0].tally is not None:
                begun[0].tally.end(seconds)
        # Read, not raised: raising here would tie task, error and frame into a cycle that only gc frees.
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        error = self.timed_out.get(key, error)
        if error is not None:
            self._end(link, call, error)
            return
        self._reply(link, call, task.result())  # an error here becomes the answer
        del self.tasks[key]
        self._publish_running()
        if self._inside:
            self._leave(key)

    def is_outcome(self, error: BaseException) -> bool:
        """Return whether a call that runs as a task has just ended with this very error."""
        ended = [task for task in self.tasks.values() if task.done() and not task.cancelled()]
        return any(task.exception() is error for task in ended)

    def _publish_running(self) -> None:
        board = self.context.board
        if board is not None:
            board.put_running(self.context.uid, len(self.tasks) + len(self.streams) + len(self.batched))

    def _run_in_thread(self, work: Started, export: Export, arrived: float) -> None:
        link, contact, call, function, args, kwargs = work
        began = 0.0
        SERVED.set((contact, call, link))
        try:
            if self._is_unwanted(link, contact, call):
                return
            if call.times is not None and monotonic() >= call.times[1]:
                raise limits.expired(call, self.context.name)
            if link.unsent_bytes > limits.UNREAD:
                raise limits.unread(contact.name, self.context.name)
            if not self.begun.begin(contact, call.id):
                self.begun.end(contact, call.id)
                self.answers.give_back(link, call)
                return
            began = monotonic()
            value = function(*args, **kwargs)
            if type(value) not in _PLAIN and is_stream(value):
                began = 0.0  # the stream is timed separately, from its beginning to its end
                self._start_stream_soon(link, contact, call, value)
            else:
                self._reply(link, call, value)
        except BaseException as error:  # noqa: BLE001  becomes the answer
            self.fail_beside(link, call, error)
        finally:
            times = (arrived, began, monotonic())
            done = partial(self._handle_thread_done, (link, call.id), export, times)
            self.context.reactor.call(partial(self.ends.attend, link, call, done))

    def _handle_thread_done(self, key: CallKey, export: Export, times: tuple[float, float, float]) -> None:
        assert self.threads is not None
        if key in self._untimed:
            self._untimed.discard(key)
        elif times[1]:
            _count(export, *times)
            self.learn(export, times[2] - times[1])
        is_free = self.threads.end_call(key)
        self.running.end(key)
        if self._inside and key not in self.streams:
            self._leave(key)
        if self._given_up:
            self._given_up.discard(key)
            if not self.threads.calls and not self.context.reactor.driving:
                self._given_up.clear()
        if is_free:
            self.inbox.publish()
        self.invite()

    # -------------------------------------------------------------------------------------------- streaming

    def _start_stream_soon(self, link: Link, contact: Contact, call: m.Invoke, iterator: Any) -> None:
        start = partial(self._start_stream, link, contact, call, iterator)
        self.reactor.call(partial(self.ends.attend, link, call, start))

    def _start_stream(self, link: Link, contact: Contact, call: m.Invoke, iterator: Any) -> None:
        """Draw from the iterator that the export returned, as far as the caller's credit goes; on the loop's thread."""
        if link.is_closed or (link, call.id) in self._given_up:
            return
        stream: OutgoingStream
        if hasattr(iterator, "__anext__"):
            stream = OutgoingAsync(self, contact, link, call, iterator)
        else:
            stream = OutgoingSync(self, contact, link, call, iterator, self._drawing_place(call))
        self.streams[link, call.id] = stream
        export = self.exports.get(call.target) if type(call.target) is str else None
        if export is not None:
            self.begun_beside += 1
            if export.tally is not None:
                export.tally.begin(monotonic() - self.inbox.arrived)
                stream.tally = export.tally
        self.ends.watch()
        stream.start()
        if type(call.target) is str and (self.threads is None or isinstance(stream, OutgoingAsync)):
            self.inbox.firsts.newest = stream.first

    def _drawing_place(self, call: m.Invoke) -> Callable[[Callable[[], None]], object]:
        """Return what runs the code of a generator: a thread of the role, or the loop.

        A generator that was an argument of a call is drawn by the thread that reads the links, because its owner may
        block the loop until it is drawn.
        """
        if type(call.target) is int:
            return self._draw_by_reader
        return self.threads.submit if self.threads is not None else self.context.reactor.loop.call_soon

    def _draw_by_reader(self, draw: Callable[[], None]) -> None:
        reactor = self.reactor

        def run() -> None:
            if reactor.is_stood_in:
                reactor.stand_in.runner.submit(draw)
            else:
                draw()

        reactor.call(run)

    def give_credit(self, link: Link, number: int, count: int) -> None:
        """Add credit to a stream, because the caller has read items."""
        stream = self.streams.get((link, number))
        if stream is not None:
            stream.more(count)

    def finish_stream(self, link: Link, call: m.Invoke, error: BaseException | None) -> None:
        """Answer a stream that ended; from the thread that drew it."""
        try:
            if error is None:
                self.answers.end(link, call)
            else:
                self.answers.fail(link, call, error)
            forget = partial(self._forget_stream, (link, call.id))
            self.context.reactor.call(partial(self.ends.attend, link, call, forget))
        except BaseException as failure:  # noqa: BLE001  becomes the answer
            self.ends.end_beside(link, call, failure)

    def _forget_stream(self, key: CallKey) -> None:
        stream = self.streams.get(key)
        if stream is not None and stream.tally is not None:
            stream.tally.end(monotonic() - stream.began)
        self.streams.pop(key, None)
        self._publish_running()
        self._leave(key)

    # --------------------------------------------------------------------------------------------- giving up

    def tell(self, template: str, *args: object) -> None:
        """Log something that an export should not do, summed up if it is repeated."""
        self.context.complaints.tell((template, args), template, *args)

    def cancel(self, link: Link, number: int) -> None:
        """Drop a call that its caller cancelled: cancel its task, close its stream, or take it out of its line."""
        key = link, number
        task = self.tasks.get(key)
        stream = self.streams.get(key)
        chunk = self.chunks.get(key)
        if chunk is not None:
            chunk.give_up()
        elif task is not None:
            self.cancelling.cancel(task, partial(self.ends.leave, key, task))
        elif stream is not None:
            stream.close()
        elif (batch := self.batched.get(key)) is not None:
            batch.give_up(key)
        elif (waiting := self.waiting_calls.drop(link, number)) is not None:
            self._leave(key)
            if not waiting.is_read:
                self.encoder.discard(waiting.call)
        else:
            if self.context.reactor.driving or (self.threads is not None and self.threads.calls):
                self._given_up.add(key)  # it may be running
            self.inbox.forget(link, number)

    def drop_link(self, link: Link, has_left: bool = False) -> None:
        """Drop the calls of a caller that exited: do not start those that wait, cancel those that run as tasks.

        If it left gracefully (`has_left`), its waiting calls do start: it may call without waiting for answers.
        """
        if not has_left:
            self.inbox.forget_link(link)
            for number in self.waiting_calls.of_link(link):
                self.cancel(link, number)
        for where, number in [*self.tasks, *self.streams, *self.chunks, *self.batched]:
            if where is link:
                self.cancel(link, number)

    # ------------------------------------------------------------------------------------ what the callers know

    def new_export(self, role: str, name: str, function: Function) -> Export:
        """Make an export of a function of this process's module."""
        export = self.limited(Export, role, name, function)
        if is_class(function):
            export.methods = methods.offer(self, role, name, cast("type[Any]", function))
        return export

    def limited(self, kind: type[E], role: str, name: str, function: Function) -> E:
        """Make an export of the given class, with the limits of this process."""
        threads, tallies = self._lane.width, self.tallies
        export = kind(role, name, function, self.encoder.codec, threads, self._concurrency)
        if self.begun.notes_running and not export.is_async:
            export.function = self.begun.noting(function)
        if not isinstance(export, methods.Method):
            export.function = self.limited_calls.limited(export, export.function)
        export.tally = None if tallies is None else tallies.of(name)
        if export.singles is not None:
            export.batcher = self.batcher_of(export, export.function)
        if export.parameters.unread:
            self._warn_unread(export)
        return export

    def batcher_of(self, export: Export, function: Function) -> Batcher:
        """Return the batcher of an export's calls. Imported here, because few exports need it."""
        batcher: Batcher = import_module("mob.peer.serving.batching").Batcher(self, export, function)
        return batcher

    def _warn_unread(self, export: Export) -> None:
        """Warn about annotations that cannot be evaluated: these arguments arrive unchecked."""
        listed = ", ".join(f"{name}: {text}" for name, text in export.parameters.unread.items())
        self.context.log.warning(
            "arguments of %s arrive unconverted and unchecked: annotations that cannot be evaluated (%s). Import the "
            "names they use at run time too, not only under TYPE_CHECKING.",
            *(export.label, listed),
        )

    def learn(self, export: Export, seconds: float, is_chunk: bool = False) -> None:
        """Tell all callers the time of a call of an export, or of a chunk of its calls."""
        if self.context.board is not None:
            self.context.board.learn(export.chunk_mark if is_chunk else export.cost_mark, seconds)

    def leave_untimed(self) -> None:
        """Exclude the call that runs in this thread from the times of its export, because it does nothing."""
        if self.threads is None:
            self.begun_beside += 1
        else:
            served = SERVED.get()
            if served is not None and served[1] is not None:
                self._untimed.add((served[2], served[1].id))

    def look(self, name: str) -> WorkerLoad:
        """Return how busy this worker is for a call of that export."""
        if name == MESSAGE:
            return WorkerLoad(name, FREE, 0, 0, 0)
        export = self.exports.get(name) or self.exports.get(str(m.export_of(name)))
        cost = 0 if export is None else self.context.cost_of(export.mark_for(name))
        lane = self._lane if export is None else export.lane
        if export is not None and export.batcher is not None:
            return WorkerLoad(name, lane, export.batcher.in_hand, cost, cost)
        if export is not None and export.limiter is not None:
            return WorkerLoad(name, lane, export.limiter.running + len(export.limiter.line), cost, cost)
        if lane.is_beside:
            in_hand = 0 if lane is FREE else len(self.tasks) + len(self._line)
            return WorkerLoad("tasks", lane, in_hand, cost, cost)
        in_hand = self.inbox.in_hand + (0 if self.threads is None else self.threads.calls)
        return WorkerLoad("loop", lane, in_hand, cost, self.inbox.pace)

    def refuse_all(self, why: str) -> None:
        """Give back the calls that have not begun, safe to repeat elsewhere, because the process ends."""
        self.inbox.refuse_all(why)
        for chunk in self.chunks.values():
            chunk.refuse(why)
        for waiting in self.waiting_calls.take_all():
            if not waiting.is_read:
                self.encoder.discard(waiting.call)
            self._end(waiting.link, waiting.call, Unavailable(why))

    def forget_call(self, link: Link, call: m.Invoke) -> None:
        """Free everything that a call holds; it is answered before it ended by itself."""
        key = link, call.id
        self.waiting_calls.drop(link, call.id)
        task, stream, chunk = self.tasks.get(key), self.streams.get(key), self.chunks.get(key)
        if chunk is not None:
            chunk.give_up()
        if stream is not None:
            stream.close()
            self.streams.pop(key, None)
        if task is not None:
            task.cancel()
            self.tasks.pop(key, None)
            self._publish_running()
        if self.threads is not None and self.threads.end_call(key):
            self.inbox.publish()
        self.running.end(key)
        self.timed_out.pop(key, None)
        self.batched.pop(key, None)
        self._given_up.discard(key)
        self._leave(key)
        self.invite()

    def cancel_all(self) -> None:
        """Cancel the calls that still run as tasks: the process no longer waits for them."""
        for key, task in list(self.tasks.items()):
            self.timed_out[key] = Lost(f"{self.context.name} ended before the call did")
            self.cancelling.cancel(task, partial(self.ends.leave, key, task))

    def is_cancelled(self) -> bool:
        """Return whether the call served in this context was cancelled by its caller, or its time is over."""
        served = SERVED.get()
        if served is None:
            return False
        contact, call, link = served
        if call is None:
            return False
        reactor = self.context.reactor
        if get_ident() == reactor.thread:
            reactor.poll()  # the cancellation may still be in the socket, and no other thread will read it
        elif reactor.is_away:
            reactor.stand_in.look()  # this thread may not read, and the loop's thread does not
        if call.times is not None and monotonic() >= call.times[1]:
            return True
        stream = self.streams.get((link, call.id))
        return stream.is_closed if stream is not None else self._is_unwanted(link, contact, call)

    def _is_unwanted(self, link: Link, contact: Contact, call: m.Invoke) -> bool:
        """Return whether the caller has exited or has cancelled the call."""
        return (link.is_closed and not contact.has_left) or (link, call.id) in self._given_up


def _count(export: Export, arrived: float, began: float, ended: float) -> None:
    """Count a call that ran."""
    if export.tally is not None:
        export.tally.begin(began - arrived)
        export.tally.end(ended - began)


async def _wait_for(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


_PLAIN = frozenset({type(None), bool, int, float, str, bytes, list, dict, tuple})
"""Types of results that are certainly not awaitable; this check is cheaper than asking."""
