"""The consumer's end of a stream: the items of an exported generator, as an iterator, with a window of items between.

`Incoming` keeps items that arrived and were not read, `Stream` is the iterator over them. The call ends when the
generator does: its reply is the end of the stream, its failure the error. Leaving the loop cancels the call, which
closes the generator (`GeneratorExit` is raised in it); so does the death of either end, and a call that is dropped
before it was read. The other end is in `producers`; `readers` tracks the readers.
"""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeVar

from mob.core.streams import Debt
from mob.errors import ArgumentError, CallError
from mob.peer.results import readers
from mob.wire import messages as m
from mob.wire.misfits import said_of

if TYPE_CHECKING:
    from mob.peer.results.call import Call
    from mob.peer.results.maker import Maker

T = TypeVar("T")


def tell_each(waiters: list[Callable[[], object]]) -> None:
    """Call each waiter once; any thread may do this at the same time.

    A waiter that was not reached, because something raised, stays in the list and is called next time.
    """
    waiter = None
    try:
        while waiters:
            waiter = waiters.pop(0)
            waiter()
            waiter = None
    except BaseException as error:
        if waiter is not None:
            waiters.insert(0, waiter)  # it was not called; the next `wake` calls it
        elif isinstance(error, IndexError):
            return  # another thread was faster
        raise


class Incoming:
    """The items of a stream that arrived and were not read yet."""

    __slots__ = ("_waiters", "debt", "is_over", "is_read", "items")

    def __init__(self) -> None:
        self.items: deque[Any] = deque()
        self.debt: Debt = Debt()
        self.is_over: bool = False
        """True if the generator has ended."""
        self.is_read: bool = False
        """True if it was iterated over, now or before."""
        self._waiters: list[Callable[[], object]] = []

    def __repr__(self) -> str:
        return f"<Incoming stream, {len(self.items)} items to read>"

    def put(self, item: Any) -> None:
        """Add an item that arrived."""
        self.items.append(item)
        self.wake()

    def wake(self, _: object = None) -> None:
        """Wake the waiters: there is a new item, or the end."""
        tell_each(self._waiters)

    def when_new(self, waiter: Callable[[], object]) -> None:
        """Have `waiter()` called once, when there is something new."""
        self._waiters.append(waiter)


class Receiver(weakref.ref["Call[Any]"]):
    """Replaces a call among the unanswered ones, once it is known to stream.

    It does not keep the call alive, so mob notices when the last reference to it is dropped: then the stream was never
    read and never will be. (For one that was read, the `Stream` notices.) This object is then appended to the abandoned
    ones; a finalizer may do nothing else.

    References in the call's arguments (functions, sockets) are released when the call ends; here, if it no longer
    exists.
    """

    __slots__ = ("_contact", "_incoming", "_passage", "_peer", "label", "request")
    is_undecided: ClassVar[bool] = False
    """True if annotations decide how its items are decoded, as for the call."""

    def __new__(cls, call: Call[Any], peer: Maker, incoming: Incoming) -> Self:
        """Make a weak reference to the call."""
        return super().__new__(cls, call, peer.context.abandoned.append)

    def __init__(self, call: Call[Any], peer: Maker, incoming: Incoming) -> None:
        self.label: str = call.label
        self.request: m.Invoke = call.request
        self._peer = peer
        self._contact = call.contact
        self._incoming = incoming
        self._passage = call.passage

    def __repr__(self) -> str:
        return f"<Receiver of {self.label}, {self._incoming!r}>"

    def handle_item(self, item: Any) -> None:
        """Take an item that the generator yielded."""
        incoming = self._incoming
        incoming.put(item)
        if not incoming.is_read:
            call = self()
            if call is not None and call.is_waited_for:
                call.refuse_to_wait()

    def handle_ended(self) -> None:
        """Take the end of the generator."""
        call = self()
        if call is not None:
            call.handle_ended()
        else:
            self._let_go()

    def settle(self, value: Any) -> None:
        """End with a value, which no stream does: the other end sent invalid data."""
        call = self()
        if call is not None:
            call.settle(value)
        else:
            self._let_go()

    def settle_as_declared(self, body: object) -> bool:
        """Return False: a stream declares nothing."""
        return False

    def fail(self, error: BaseException) -> None:
        """End with an error."""
        call = self()
        if call is not None:
            call.fail(error)
        else:
            self._let_go()
            self._peer.context.unheard.append((self.label, error))

    def cancel(self) -> None:
        """Close the generator, if it has not ended yet, because the call was dropped and its stream never read."""
        if self._contact.pending.get(self.request.id) is self:
            self._contact.forget_call(self)
            self._let_go()
        if self._incoming.is_read:
            return  # its `Stream` has cancelled it, while another thread held this object
        told = (
            "%s is a generator that was never read, so it was closed: iterate over the call "
            "(`for x in ...` or `async for x in ...`)."
        )
        self._peer.context.complaints.tell((told, self.label), told, self.label, level=logging.WARNING)

    def _let_go(self) -> None:
        self._peer.references.let_go(self._passage)


class Stream(Generic[T]):
    """An iterator over what an exported generator yields, for `for` and for `async for`, on any thread and loop.

    >>> for row in back.rows(query): ...            # doctest: +SKIP
    >>> async for row in back.rows(query): ...      # doctest: +SKIP
    """

    __slots__ = ("__weakref__", "_call", "_incoming", "_peer", "reader")

    def __init__(self, peer: Maker, call: Call[Any], incoming: Incoming) -> None:
        self._peer = peer
        self.reader: object = None
        """The task that asked for an item last, or the work for which a thread reads."""
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
        if self._peer.context.is_abandoned:
            self._peer.context.check_process()
        readers.note_thread(self)
        while not self._incoming.items:
            if self._call.done():
                self._check_end()
                raise StopIteration
            self._wait()
        return self._take()

    def __anext__(self) -> Coroutine[Any, Any, T]:
        readers.note_task(self)  # here and not below, because `asyncio.wait_for` may run that in a task of its own
        return self._next_item()

    async def _next_item(self) -> T:
        if self._peer.context.is_abandoned:
            self._peer.context.check_process()
        while not self._incoming.items:
            if self._call.done():
                self._check_end()
                raise StopAsyncIteration
            await self._wait_async()
        return self._take()

    def _check_end(self) -> None:
        """Raise the error of the stream, unless it reached its own end."""
        if self._incoming.is_over:
            self._call.exception()  # counts as asking for the error
            return
        value = self._call.result()
        raise CallError(
            f"{self._call.label} is not a generator, so it cannot be iterated over. It returned a "
            f"{type(value).__name__}: `await` the call, or ask for its `.result()`.",
            executed="yes",
        )

    def close(self) -> None:
        """Close the stream at both ends."""
        self._call.cancel()

    async def aclose(self) -> None:
        """Close the stream at both ends, for `contextlib.aclosing`."""
        self._call.cancel()

    def __del__(self) -> None:
        if not self._call.done():
            self._peer.context.abandoned.append(self._call)

    def _take(self) -> T:
        item: T = self._incoming.items.popleft()
        count = self._incoming.debt.read()
        if count and not self._call.done():
            self._peer.context.check_process()
            self._call.contact.post(m.More(self._call.request.id, count))
        return item

    def _is_new(self) -> bool:
        return bool(self._incoming.items) or self._call.done()

    def _wait(self) -> None:
        self._peer.context.check_process()
        reactor = self._peer.context.reactor
        if reactor.is_mine:
            self._peer.blocking.drive([self._call], self._is_new)
            return
        arrival = Lock()
        arrival.acquire()
        self._incoming.when_new(lambda: arrival.locked() and arrival.release())
        if not self._is_new():  # checked after registering: it may have come meanwhile
            reactor.stand_in.wait_for(arrival)

    async def _wait_async(self) -> None:
        self._peer.context.check_process()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        self._incoming.when_new(partial(self._peer.handover.give, loop, _finish, future, None))
        if self._is_new():
            return
        if loop is self._peer.context.reactor.loop:
            await future
        else:
            await self._peer.blocking.wait_elsewhere(future, [self._call])


class RemoteIterator:
    """An iterator that lives in another process and was sent here as an argument; it is drawn from as it is read.

    `for` and `async for` both take it. Errors while it is drawn from are raised here; `Lost` if its process ended.

    >>> def store(rows):                            # doctest: +SKIP
    ...     for row in rows: ...
    """

    __slots__ = ("_convert", "_function", "_stream")

    def __init__(self, function: Callable[[], Call[Any]], convert: Callable[[Any], Any] | None = None) -> None:
        self._function = function
        self._convert = convert
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
        return self._converted(next(self._opened()))

    async def __anext__(self) -> Any:
        return self._converted(await self._opened().__anext__())

    def converted_by(self, convert: Callable[[Any], Any]) -> RemoteIterator:
        """Return the same iterator with its items converted to their annotation."""
        return RemoteIterator(self._function, convert)

    def _converted(self, item: Any) -> Any:
        if self._convert is None:
            return item
        try:
            return self._convert(item)
        except ValueError as failure:
            self.close()
            raise ArgumentError(f"an item of {self!r}: {said_of(failure, item)}", executed="yes") from failure

    def close(self) -> None:
        """Close it at both ends."""
        self._opened().close()


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def not_a_value(label: str) -> CallError:
    """Return the error for a call that was waited for although it streams."""
    return CallError(
        f"{label} is a generator: iterate over the call (`for x in ...` or `async for x in ...`) instead of waiting "
        f"for its result.",
        executed="yes",
    )
