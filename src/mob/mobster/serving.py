"""Serving calls and messages: what arrives is queued, started in order, and answered.

`def` exports run on the loop, one at a time, or in the role's threads; `async def` exports are tasks of the loop, as
many at once as the role allows. While the application blocks the loop and the links are driven by hand, callbacks are
run at once (somebody waits for them), everything else stays queued until the loop is free.

Work is done in slices: after a few milliseconds replies are sent and the loop gets a turn, so a long queue of short
calls neither delays its own answers nor starves other connections.
"""

from __future__ import annotations

import asyncio
import inspect
import math
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from threading import get_ident
from time import monotonic, perf_counter
from typing import TYPE_CHECKING, Any

from msgspec import Raw

from mob.errors import BadMessage, Busy, CallTimeout, Unavailable
from mob.mobster import limits
from mob.mobster.exports import Export
from mob.mobster.proxy import unknown_export
from mob.mobster.served import SERVED
from mob.mobster.streams import Outgoing, OutgoingAsync, OutgoingSync
from mob.mobster.threads import Threads
from mob.rim.link import Link
from mob.wire import failures
from mob.wire import messages as m
from mob.wire.kinds import is_stream

if TYPE_CHECKING:
    from mob.mobster.contacts import Contact
    from mob.mobster.peer import Peer

COST_WEIGHT = 0.1
"""What one slice of work counts for in the average cost of a call."""
SLICE = 0.002
"""Seconds of work after which replies are sent and the loop gets a turn."""


Function = Callable[..., Any]
Started = tuple[Link, "Contact", m.Call, Function, Sequence[Any], dict[str, Any]]
"""A call with what it comes down to: the function and its decoded arguments."""


class Serving:
    """The incoming half of a process."""

    def __init__(self, peer: Peer, threads: int = 1, concurrency: int = 100, queue: int = 10_000) -> None:
        self._peer = peer
        self._concurrency = concurrency
        self._queue_limit = queue
        self._inbox: deque[tuple[Link, Contact, m.Call | m.Message, Function | None]] = deque()
        self._urgent: deque[tuple[Link, Contact, m.Call, Function]] = deque()  # callbacks, while the loop stands still
        self._async_inbox: deque[Started] = deque()  # beyond the concurrency
        self._streams: dict[tuple[Link, int], Outgoing] = {}
        self._tasks: dict[tuple[Link, int], asyncio.Task[Any]] = {}
        self._timed_out: dict[tuple[Link, int], CallTimeout] = {}
        self._given_up: set[tuple[Link, int]] = set()  # running `def` calls that their callers have cancelled
        self._background: set[asyncio.Task[Any]] = set()
        self._threads = Threads(threads) if threads > 1 else None
        self._in_threads = 0
        self._working = False
        self._cost = 0.0  # microseconds that a call takes on the loop, on average of late
        self._scheduled = False
        self.exports: dict[str, Export] = {}
        self.find_export: Callable[[str], Export | None] = self.exports.get
        """How an export is found; while the module is being imported the table may still grow."""
        self.served = 0

    def __repr__(self) -> str:
        return f"<Serving {len(self.exports)} exports, {self.in_hand} calls in hand, {self.served} served>"

    @property
    def in_hand(self) -> int:
        """Calls and messages that were accepted and not finished."""
        waiting = len(self._inbox) + len(self._urgent) + len(self._async_inbox)
        running = len(self._tasks) + self._in_threads + len(self._background) + len(self._streams)
        return waiting + running

    # -------------------------------------------------------------------------------------------- accepting

    def accept(self, link: Link, contact: Contact, message: m.Call | m.Message) -> None:
        """Queues what has arrived; `work` follows when the whole frame is in."""
        callback = None
        if type(message) is m.Call:
            if type(message.target) is int:  # looked up now: a release may follow in the same frame
                callback = self._peer.callbacks.lent.get(message.target) or _freed
                if self._peer.reactor.driving:
                    self._urgent.append((link, contact, message, callback))
                    return
            elif self._peer.waiting and message.chain and limits.is_circle(message, self._peer):
                self._fail(link, message, limits.deadlock(message, contact, self._peer))
                return
            if len(self._inbox) >= self._queue_limit:
                self._fail(link, message, Busy(f"{self._peer.name}: {self._queue_limit:,} calls wait here already."))
                return
        self._inbox.append((link, contact, message, callback))

    def serve_callbacks(self) -> None:
        """The loop is about to stand still: callbacks that are queued are run now, for somebody waits for them."""
        if not self._inbox:
            return
        if any(
            type(call) is m.Call and call.chain and limits.is_circle(call, self._peer) for _, _, call, _ in self._inbox
        ):
            inbox, self._inbox = self._inbox, deque()
            for link, contact, call, callback in inbox:
                if type(call) is m.Call and callback is None and limits.is_circle(call, self._peer):
                    self._fail(link, call, limits.deadlock(call, contact, self._peer))
                else:
                    self._inbox.append((link, contact, call, callback))
        if any(callback is not None for *_, callback in self._inbox):
            inbox, self._inbox = self._inbox, deque()
            callbacks = [entry for entry in inbox if entry[3] is not None]
            self._inbox.extend(entry for entry in inbox if entry[3] is None)
            for link, contact, call, callback in callbacks:
                assert type(call) is m.Call
                self._start_call(link, contact, call, callback)

    def work(self) -> None:
        """Starts what is queued, for a slice of time; the rest in the loop's next turn."""
        while self._urgent:
            self._start_call(*self._urgent.popleft())
        if not self._inbox or self._working:
            return
        if self._peer.reactor.driving:
            self._schedule()  # the loop stands still: it comes back to this when it is free
            return
        self._working = True
        begun = len(self._inbox)
        start = perf_counter()
        end = start + SLICE
        self._publish()
        try:
            while self._inbox:
                link, contact, message, callback = self._inbox.popleft()
                if type(message) is m.Call:
                    self._start_call(link, contact, message, callback)
                elif type(message) is m.Message:
                    self._start_handlers(link, contact, message)
                if perf_counter() > end:
                    self._peer.reactor.flush()
                    self._schedule()
                    return
        finally:
            self._working = False
            done = begun - len(self._inbox)
            if done > 0:
                self._cost += COST_WEIGHT * ((perf_counter() - start) / done * 1e6 - self._cost)
            self._publish()

    def _publish(self) -> None:
        """Tells the board how many calls are in hand that none other can be run beside, and how long one takes."""
        board = self._peer.board
        if board is not None:
            board.put(self._peer.uid, len(self._inbox), int(self._cost))

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._peer.reactor.loop.call_soon(self._handle_turn)

    def _handle_turn(self) -> None:
        self._scheduled = False
        self.work()

    def cancel(self, link: Link, number: int) -> None:
        """The caller has given the call up: its task is cancelled, a queued one is dropped."""
        task = self._tasks.get((link, number))
        if task is not None:
            task.cancel()
            return
        stream = self._streams.get((link, number))
        if stream is not None:
            stream.close()
            return
        if self._peer.reactor.driving or self._in_threads:
            self._given_up.add((link, number))  # it may be running
        self._inbox = deque(e for e in self._inbox if not _is_call(e, link, number))
        self._async_inbox = deque(e for e in self._async_inbox if not _is_call(e, link, number))

    def drop_link(self, link: Link) -> None:
        """The caller has died: what it had asked for is not started, and what runs as a task is cancelled."""
        self._inbox = deque(entry for entry in self._inbox if entry[0] is not link)
        self._async_inbox = deque(entry for entry in self._async_inbox if entry[0] is not link)
        for (where, _), running in [*self._tasks.items(), *self._streams.items()]:
            if where is link:
                running.cancel() if isinstance(running, asyncio.Task) else running.close()

    def refuse_all(self, why: str) -> None:
        """The process ends: what was not started is given back, safe to repeat elsewhere."""
        while self._inbox:
            link, _, message, _ = self._inbox.popleft()
            if isinstance(message, m.Call):
                self._fail(link, message, Unavailable(why))

    # --------------------------------------------------------------------------------------------- starting

    def _start_call(self, link: Link, contact: Contact, call: m.Call, callback: Function | None) -> None:
        try:
            if callback is None:
                export = self.find_export(call.target)  # type: ignore[arg-type]
                if export is None:
                    raise unknown_export(self._peer.role or "a client", str(call.target), self.exports)
                function = export.function
                args, kwargs = export.decode(call.args, call.kwargs[0] if call.kwargs else None)
                if call.times is not None and monotonic() >= call.times[1]:
                    raise limits.expired(call, self._peer.name)
                if export.is_async:
                    if len(self._tasks) >= self._concurrency:
                        self._async_inbox.append((link, contact, call, function, args, kwargs))
                        return
                elif self._threads is not None:
                    self._in_threads += 1
                    self._threads.submit(partial(self._run_in_thread, (link, contact, call, function, args, kwargs)))
                    return
            else:
                function, decode = callback, self._peer.codec.decode
                args = decode(call.args)
                kwargs: dict[str, Any] = decode(call.kwargs[0]) if call.kwargs else {}
        except BaseException as error:  # noqa: BLE001  becomes the answer
            self._fail(link, call, error)
        else:
            self._invoke(link, contact, call, function, args, kwargs)

    def _invoke(
        self,
        link: Link,
        contact: Contact,
        call: m.Call,
        function: Function,
        args: Sequence[Any],
        kwargs: dict[str, Any],
    ) -> None:
        """Runs it on the loop: to its end, or as a task if what it returns wants to be awaited."""
        token = SERVED.set((contact, call, link))
        began = 0.0 if call.times is None else monotonic()
        try:
            value = function(*args, **kwargs) if kwargs else function(*args)
            if type(value) not in _PLAIN and inspect.isawaitable(value):
                self._run_as_task(link, call, value)
            elif type(value) not in _PLAIN and is_stream(value):
                self._start_stream(link, call, value)
            elif call.times is not None and monotonic() >= call.times[1]:
                self._fail(link, call, limits.too_long(call, call.times[0], began, self._peer.name))
            else:
                self._reply(link, call, value)
        except BaseException as error:  # noqa: BLE001  becomes the answer
            self._fail(link, call, error)
        finally:
            if self._given_up:
                self._given_up.discard((link, call.id))
            SERVED.reset(token)  # a callback may be served in the middle of another call

    def _run_as_task(self, link: Link, call: m.Call, awaitable: Awaitable[Any]) -> None:
        coroutine = awaitable if inspect.iscoroutine(awaitable) else _wait_for(awaitable)
        task = self._peer.reactor.loop.create_task(coroutine)
        self._tasks[link, call.id] = task
        task.add_done_callback(partial(self._handle_task_done, link, call))
        export = self.exports.get(call.target) if type(call.target) is str else None
        allowed = None if export is None else export.options.timeout
        if call.times is not None or allowed is not None:
            self._limit_task(link, call, task, allowed)

    def _limit_task(self, link: Link, call: m.Call, task: asyncio.Task[Any], allowed: float | None) -> None:
        """Cancels a task when the time of its call is over, or that of its export, and says how it was spent."""
        began = monotonic()
        made, deadline = call.times or (began, math.inf)
        until = min(deadline, math.inf if allowed is None else began + allowed)

        def end() -> None:
            self._timed_out[link, call.id] = limits.too_long(call, made, began, self._peer.name)
            task.cancel()

        timer = self._peer.reactor.loop.call_later(max(0.0, until - began), end)
        task.add_done_callback(lambda _: timer.cancel())

    def _handle_task_done(self, link: Link, call: m.Call, task: asyncio.Task[Any]) -> None:
        self._tasks.pop((link, call.id), None)
        # Asked for, not raised: a raise here would tie task, error and frame into a circle that only gc frees.
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        error = self._timed_out.pop((link, call.id), error)
        if error is not None:
            self._fail(link, call, error)
        else:
            self._reply_or_fail(link, call, task.result())
        while self._async_inbox and len(self._tasks) < self._concurrency:
            self._invoke(*self._async_inbox.popleft())

    def _reply_or_fail(self, link: Link, call: m.Call, value: Any) -> None:
        try:
            self._reply(link, call, value)
        except BadMessage as error:
            self._fail(link, call, error)

    def _start_stream(self, link: Link, call: m.Call, iterator: Any) -> None:
        """Draws from what the export has returned, as far as the caller's credit goes; on the loop's thread."""
        if link.is_closed:
            return
        stream: Outgoing
        if hasattr(iterator, "__anext__"):
            stream = OutgoingAsync(self, link, call, iterator)
        else:
            stream = OutgoingSync(self, link, call, iterator, self._drawing_place(call))
        self._streams[link, call.id] = stream
        stream.start()

    def _drawing_place(self, call: m.Call) -> Callable[[Callable[[], None]], object]:
        """What runs the code of a generator: a thread of the role's, the loop, or, for one that was an argument of a
        call, whoever reads the links, for its owner may be blocking the loop until it is drawn from."""
        if type(call.target) is int:
            return self._peer.reactor.call
        return self._threads.submit if self._threads is not None else self._peer.reactor.loop.call_soon

    def give_credit(self, link: Link, number: int, count: int) -> None:
        """The caller has read items of a stream."""
        stream = self._streams.get((link, number))
        if stream is not None:
            stream.more(count)

    def finish_stream(self, link: Link, call: m.Call, error: BaseException | None) -> None:
        """A stream has come to its end; from the thread that drew from it."""
        self._peer.reactor.call(partial(self._forget_stream, link, call.id))
        if error is None:
            link.post(m.Ended(call.id, len(self._inbox)))
            self.served += 1
        else:
            self._fail(link, call, error)

    def _forget_stream(self, link: Link, number: int) -> None:
        self._streams.pop((link, number), None)

    def _run_in_thread(self, work: Started) -> None:
        link, contact, call, function, args, kwargs = work
        SERVED.set((contact, call, link))
        try:
            value = function(*args, **kwargs)
            if type(value) not in _PLAIN and is_stream(value):
                self._peer.reactor.call(partial(self._start_stream, link, call, value))
            else:
                self._reply(link, call, value)
        except BaseException as error:  # noqa: BLE001  becomes the answer
            self._fail(link, call, error)
        finally:
            self._peer.reactor.call(self._thread_done)

    def _thread_done(self) -> None:
        self._in_threads -= 1
        if not self._in_threads and not self._peer.reactor.driving:
            self._given_up.clear()

    def is_cancelled(self) -> bool:
        """Whether the caller of the call that is served in this context has given it up, or its time is over."""
        served = SERVED.get()
        if served is None:
            return False
        _, call, link = served
        if call is None:
            return False
        reactor = self._peer.reactor
        if get_ident() == reactor.thread:
            reactor.poll()  # the word may lie in the socket, and nobody else will read it
        over = call.times is not None and monotonic() >= call.times[1]
        return over or link.is_closed or (link, call.id) in self._given_up

    def _start_handlers(self, link: Link, contact: Contact, message: m.Message) -> None:
        try:
            obj = self._peer.codec.decode(message.body)
        except Exception:
            self._peer.log.exception("a message from %s cannot be read", contact.name)
            return
        SERVED.set((contact, None, link))
        for handler in self._peer.handlers.of("message"):
            self.run_handler("message", handler, obj)

    def run_handler(self, event: str, handler: Callable[..., Any], *args: Any) -> None:
        """Runs a handler; an `async def` one in the background. Its errors are logged."""
        try:
            value = handler(*args)
            if inspect.isawaitable(value):
                task = self._peer.reactor.loop.create_task(self._finish_handler(event, value))
                self._background.add(task)
                task.add_done_callback(self._background.discard)
        except Exception:
            self._peer.log.exception("a handler of %r raised", event)

    async def _finish_handler(self, event: str, awaitable: Awaitable[Any]) -> None:
        try:
            await awaitable
        except Exception:
            self._peer.log.exception("a handler of %r raised", event)

    # -------------------------------------------------------------------------------------------- answering

    def send_item(self, link: Link, number: int, value: Any) -> None:
        """A generator has yielded; `BadMessage` if the value cannot be sent."""
        self._post(link, m.Item(number, Raw(self._peer.encode(value, "item"))))

    def _reply(self, link: Link, call: m.Call, value: Any) -> None:
        self._post(link, m.Reply(call.id, len(self._inbox), Raw(self._peer.encode(value, "result"))))
        self.served += 1

    def _post(self, link: Link, message: m.Item | m.Reply) -> None:
        """Posts what was just encoded, with the functions in it."""
        callbacks = self._peer.callbacks
        if callbacks.encoding:
            passage = callbacks.take()
            if not link.is_closed:
                callbacks.hand_over(passage, self._peer.contacts.of_link(link))
            link.post(message)
            callbacks.let_go(passage)
        else:
            link.post(message)

    def _fail(self, link: Link, call: m.Call, error: BaseException) -> None:
        link.post(m.Failed(call.id, len(self._inbox), failures.describe(error, self._peer.codec)))
        self.served += 1
        if isinstance(error, (SystemExit, KeyboardInterrupt)):  # an export that says sys.exit() means its process
            self._peer.reactor.call(partial(self._peer.end, error))


def _freed(*args: Any, **kwargs: Any) -> None:
    raise Unavailable("this callback was freed already: its last holder had given it up.")


async def _wait_for(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


def _is_call(entry: tuple[Any, ...], link: Link, number: int) -> bool:
    return entry[0] is link and isinstance(entry[2], m.Call) and entry[2].id == number


_PLAIN = frozenset({type(None), bool, int, float, str, bytes, list, dict, tuple})
"""Results that are certainly not awaitable; asking costs more than looking here."""
