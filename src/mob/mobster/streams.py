"""Streams: an exported generator at one end, an iterator at the other, and a window of items between them.

The callee's end (`Outgoing`) draws items as long as it has credit; the caller's (`Incoming`) keeps what has arrived,
and `Stream` is the iterator over it. The call ends when the generator does: its reply is the end of the stream, its
failure the error. Leaving the loop cancels the call, and cancelling closes the generator (`GeneratorExit` runs in it);
so does the death of either end.
"""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from threading import Lock, get_ident
from time import perf_counter
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from mob.core.streams import Credit, Debt
from mob.errors import CallError
from mob.rim.link import Link
from mob.wire import messages as m

if TYPE_CHECKING:
    from mob.mobster.call import Call
    from mob.mobster.peer import Peer
    from mob.mobster.serving import Serving

T = TypeVar("T")
Submit = Callable[[Callable[[], None]], object]
SLICE = 0.002
"""Seconds that a generator may run on the loop before others get a turn."""


class Incoming:
    """What has come of a stream and was not read yet."""

    __slots__ = ("_waiters", "debt", "is_over", "is_read", "items")

    def __init__(self) -> None:
        self.items: deque[Any] = deque()
        self.debt = Debt()
        self.is_over = False
        """Whether the generator has come to its end."""
        self.is_read = False
        """Whether somebody iterates over it, or has."""
        self._waiters: list[Callable[[], object]] = []

    def __repr__(self) -> str:
        return f"<Incoming stream, {len(self.items)} items to read>"

    def put(self, item: Any) -> None:
        """An item has arrived."""
        self.items.append(item)
        self.wake()

    def wake(self, _: object = None) -> None:
        """There is something new: an item, or the end."""
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter()

    def when_new(self, waiter: Callable[[], object]) -> None:
        """Has `waiter()` called once, when there is something new."""
        self._waiters.append(waiter)


class Stream(Generic[T]):
    """An iterator over what an exported generator yields, for `for` and for `async for`, on any thread and loop.

    >>> for row in back.rows(query): ...            # doctest: +SKIP
    >>> async for row in back.rows(query): ...      # doctest: +SKIP
    """

    __slots__ = ("__weakref__", "_call", "_incoming", "_peer")

    def __init__(self, peer: Peer, call: Call[Any], incoming: Incoming) -> None:
        self._peer = peer
        self._call = call
        self._incoming = incoming
        incoming.is_read = True

    def __repr__(self) -> str:
        return f"<Stream of {self._call!r}, {len(self._incoming.items)} items to read>"

    def __iter__(self) -> Iterator[T]:
        return self

    def __aiter__(self) -> AsyncIterator[T]:
        return self

    def __next__(self) -> T:
        while not self._incoming.items:
            if self._call.done():
                self._check_end()
                raise StopIteration
            self._wait()
        return self._take()

    async def __anext__(self) -> T:
        while not self._incoming.items:
            if self._call.done():
                self._check_end()
                raise StopAsyncIteration
            await self._wait_async()
        return self._take()

    def _check_end(self) -> None:
        """Raises what the stream ended with, if it was not its own end."""
        if self._incoming.is_over:
            self._call.exception()  # somebody has asked
        else:
            self._call.result()

    def close(self) -> None:
        """Ends the stream at both ends."""
        self._call.cancel()

    async def aclose(self) -> None:
        """As `close`, for `contextlib.aclosing`."""
        self._call.cancel()

    def __del__(self) -> None:
        if not self._call.done():
            self._peer.abandoned.append(self._call)

    def _take(self) -> T:
        item: T = self._incoming.items.popleft()
        count = self._incoming.debt.read()
        if count and not self._call.done():
            self._call.contact.post(m.More(self._call.request.id, count))
        return item

    def _is_new(self) -> bool:
        return bool(self._incoming.items) or self._call.done()

    def _wait(self) -> None:
        reactor = self._peer.reactor
        if get_ident() == reactor.thread:
            self._peer.waiting.append(self._call)
            try:
                self._peer.serving.serve_callbacks()
                reactor.drive(self._is_new)
            finally:
                self._peer.waiting.pop()
            return
        arrival = Lock()
        arrival.acquire()
        self._incoming.when_new(lambda: arrival.locked() and arrival.release())
        if not self._is_new():  # looked at after registering: it may have come in between
            arrival.acquire()

    async def _wait_async(self) -> None:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        self._incoming.when_new(partial(self._peer.handover.give, loop, _finish, future, None))
        if not self._is_new():
            await future


class RemoteIterator:
    """An iterator that lives in another process, handed over as an argument: drawn from as it is read here."""

    __slots__ = ("_function", "_stream")

    def __init__(self, function: Callable[[], Call[Any]]) -> None:
        self._function = function
        self._stream: Stream[Any] | None = None

    def __repr__(self) -> str:
        return f"<remote iterator, {self._function!r}>"

    def _opened(self) -> Stream[Any]:
        if self._stream is None:
            self._stream = self._function().stream()
        return self._stream

    def __iter__(self) -> Iterator[Any]:
        return self

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    def __next__(self) -> Any:
        return next(self._opened())

    async def __anext__(self) -> Any:
        return await self._opened().__anext__()

    def close(self) -> None:
        """Ends it at both ends."""
        self._opened().close()


class LentIterator:
    """An iterator that was handed over: what the receiver calls to draw from it."""

    __slots__ = ("iterator",)

    def __init__(self, iterator: Any) -> None:
        self.iterator = iterator

    def __call__(self) -> Any:
        return self.iterator


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def not_a_value(label: str) -> CallError:
    """The error for a call that was waited for although it streams."""
    return CallError(
        f"{label} is a generator: iterate over the call (`for x in ...` or `async for x in ...`) instead of waiting "
        f"for its result.",
        executed="yes",
    )


class Outgoing:
    """A generator that is drawn from for a caller."""

    def __init__(self, serving: Serving, link: Link, call: m.Call) -> None:
        self._serving = serving
        self._link = link
        self._call = call
        self.credit = Credit()
        self.is_closed = False

    def __repr__(self) -> str:
        return f"<Outgoing stream of call {self._call.id}, {self.credit}>"

    def start(self) -> None:
        """Begins to draw."""
        raise NotImplementedError

    def more(self, count: int) -> None:
        """The caller has read some."""
        raise NotImplementedError

    def close(self) -> None:
        """The caller wants no more, or is gone."""
        raise NotImplementedError

    def send(self, value: Any) -> None:
        """An item goes out."""
        self.credit.spend()
        self._serving.send_item(self._link, self._call.id, value)


class OutgoingSync(Outgoing):
    """Of a plain generator: drawn in slices, by one thread at a time."""

    def __init__(
        self,
        serving: Serving,
        link: Link,
        call: m.Call,
        iterator: Iterator[Any],
        submit: Submit,
    ) -> None:
        super().__init__(serving, link, call)
        self._iterator = iterator
        self._submit = submit  # runs a function where the generator may run
        self._lock = Lock()
        self._is_drawing = False

    def start(self) -> None:
        self._submit(self._draw)

    def more(self, count: int) -> None:
        with self._lock:
            self.credit.receive(count)
            if self._is_drawing or self.is_closed:
                return
        self._submit(self._draw)

    def close(self) -> None:
        with self._lock:
            if self.is_closed:
                return
            self.is_closed = True
            if self._is_drawing:
                return  # whoever draws sees it and closes
        self._submit(self._close)

    def _close(self) -> None:
        try:
            close: Callable[[], object] | None = getattr(self._iterator, "close", None)
            if close is not None and inspect.isgenerator(self._iterator):
                close()
        except BaseException as error:  # noqa: BLE001  a generator may raise anything when it is closed
            self._serving.finish_stream(self._link, self._call, error)
        else:
            self._serving.finish_stream(self._link, self._call, asyncio.CancelledError())

    def _draw(self) -> None:
        with self._lock:
            if self._is_drawing or self.is_closed:
                return
            self._is_drawing = True
        end = perf_counter() + SLICE
        error: BaseException | None = None
        is_over = again = False
        try:
            while self.credit.left and not self.is_closed:
                self.send(next(self._iterator))
                if perf_counter() > end:
                    again = True
                    break
        except StopIteration:
            is_over = True
        except BaseException as raised:  # noqa: BLE001  becomes the end of the stream
            is_over, error = True, raised
        with self._lock:
            self._is_drawing = False
            must_close = self.is_closed and not is_over
            again = again or (bool(self.credit.left) and not is_over)
            self.is_closed = self.is_closed or is_over
        if is_over:
            self._serving.finish_stream(self._link, self._call, error)
        elif must_close:
            self._close()
        elif again:
            self._submit(self._draw)


class OutgoingAsync(Outgoing):
    """Of an async generator: drawn by a task of the loop."""

    def __init__(
        self,
        serving: Serving,
        link: Link,
        call: m.Call,
        iterator: AsyncIterator[Any],
    ) -> None:
        super().__init__(serving, link, call)
        self._iterator = iterator
        self._has_credit = asyncio.Event()
        self._has_credit.set()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.get_event_loop().create_task(self._draw())

    def more(self, count: int) -> None:
        self.credit.receive(count)
        self._has_credit.set()

    def close(self) -> None:
        if not self.is_closed and self._task is not None:
            self.is_closed = True
            self._task.cancel()

    async def _draw(self) -> None:
        error: BaseException | None = None
        try:
            async for value in self._iterator:
                self.send(value)
                if not self.credit.left:
                    self._has_credit.clear()
                    await self._has_credit.wait()
        except BaseException as raised:  # noqa: BLE001  becomes the end of the stream
            error = raised
        try:
            if inspect.isasyncgen(self._iterator):
                await self._iterator.aclose()
        except BaseException as raised:  # noqa: BLE001  a generator may raise anything when it is closed
            error = error or raised
        self.is_closed = True
        self._serving.finish_stream(self._link, self._call, error)
