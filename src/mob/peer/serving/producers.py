"""The producer's end of a stream: a generator that is drawn for a caller in another process.

It is drawn as long as there is credit, in slices, so that other work gets its turn. When the caller wants no more or
exits, the generator is closed: `GeneratorExit` runs in it. Its code sees the call that it serves like the code of any
export (`mob.caller`, `mob.cancelled`, deadlines that travel), whichever message gave the credit. The consumer's end is
`streams`.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from threading import Lock
from time import monotonic, perf_counter
from typing import TYPE_CHECKING, Any

from mob.core.streams import Credit
from mob.peer.links.served import SERVED, Served
from mob.rim.link import Link
from mob.wire import messages as m

if TYPE_CHECKING:
    from mob.peer.links.contact import Contact
    from mob.peer.serving.measure.tallies import ExportTally
    from mob.peer.serving.serving import Serving

Submit = Callable[[Callable[[], None]], object]
SLICE = 0.002
"""Seconds that a generator may run on the loop before other work gets its turn."""


class OutgoingStream:
    """A generator that is drawn for a caller."""

    def __init__(self, serving: Serving, contact: Contact, link: Link, call: m.Invoke) -> None:
        self._serving = serving
        self._link = link
        self._call = call
        self._served: Served = contact, call, link
        self.credit: Credit = Credit()
        self.is_closed: bool = False
        self.first: Any = None
        """The coroutine or iterator whose first step is that of the call; None before it starts."""
        self.began: float = monotonic()
        self.tally: ExportTally | None = None
        """Where it is counted as a call; None if it is not a call of an export."""

    def __repr__(self) -> str:
        return f"<OutgoingStream of call {self._call.id}, {self.credit}>"

    @property
    def export(self) -> str:
        """The export that it counts for; "" if it is not a call of an export."""
        target = self._call.target
        return target if self.tally is not None and isinstance(target, str) else ""

    @property
    def is_over(self) -> bool:
        """True if it will yield nothing more, even if it is not answered yet."""
        raise NotImplementedError

    def look_after(self) -> None:
        """Draw if nothing else is going to; once a second."""

    def start(self) -> None:
        """Begin to draw."""
        raise NotImplementedError

    def more(self, count: int) -> None:
        """Add credit, because the caller has read items."""
        raise NotImplementedError

    def close(self) -> None:
        """Close the generator, because the caller wants no more or has exited."""
        raise NotImplementedError

    def send(self, value: Any) -> None:
        """Send an item."""
        self.credit.spend()
        self._serving.answers.send_item(self._link, self._call.id, value)


class OutgoingSync(OutgoingStream):
    """The stream of a plain generator: drawn in slices, by one thread at a time."""

    is_closed: bool

    def __init__(
        self,
        serving: Serving,
        contact: Contact,
        link: Link,
        call: m.Invoke,
        iterator: Iterator[Any],
        submit: Submit,
    ) -> None:
        super().__init__(serving, contact, link, call)
        self._iterator = iterator
        self._submit = submit  # runs a function where the generator may run
        self._lock = Lock()
        self._is_drawing = False
        self._has_ended = False

    @property
    def is_over(self) -> bool:
        """True if the generator ended."""
        return self._has_ended

    def look_after(self) -> None:
        """Draw or close if nothing else is going to; once a second."""
        if not self._is_drawing and (self.credit.left or self.is_closed):
            self._submit(self._close if self.is_closed else self._draw)

    def start(self) -> None:
        """Begin to draw."""
        self.first: Any = self._iterator
        self._submit(self._draw)

    def more(self, count: int) -> None:
        """Add credit, and draw if no thread does."""
        with self._lock:
            self.credit.receive(count)
            if self._is_drawing or self.is_closed:
                return
        self._submit(self._draw)

    def close(self) -> None:
        """Close the generator, or have the thread that draws close it."""
        with self._lock:
            if self.is_closed:
                return
            self.is_closed = True
            if self._is_drawing:
                return  # the thread that draws sees it and closes
        self._submit(self._close)

    def _close(self) -> None:
        try:
            self._close_iterator()
        except BaseException as error:  # noqa: BLE001  becomes the end of the stream
            self._finish(error)

    def _finish(self, error: BaseException | None) -> None:
        self._has_ended = True
        self._serving.finish_stream(self._link, self._call, error)

    def _close_iterator(self) -> None:
        token = SERVED.set(self._served)
        left = self._serving.plain.enter()
        try:
            close: Callable[[], object] | None = getattr(self._iterator, "close", None)
            if close is not None and inspect.isgenerator(self._iterator):
                self._serving.call_plain(close)
        except BaseException as error:  # noqa: BLE001  a generator may raise anything when it is closed
            self._finish(error)
        else:
            self._finish(asyncio.CancelledError())
        finally:
            self._serving.plain.leave(left)
            SERVED.reset(token)

    def _draw(self) -> None:
        try:
            self._draw_slice()
        except BaseException as error:  # noqa: BLE001  becomes the end of the stream
            self.is_closed, self._is_drawing = True, False
            self._finish(error)

    def _draw_slice(self) -> None:
        with self._lock:
            if self._is_drawing or self.is_closed:
                return
            self._is_drawing = True
        end = perf_counter() + SLICE
        error: BaseException | None = None
        is_over = again = False
        token = SERVED.set(self._served)  # this runs because of the caller's credit, or after another slice
        left = self._serving.plain.enter()
        is_loops = False
        try:
            is_loops = self._serving.reactor.go_away()  # once for all items: any thread may send one
            while self.credit.left and not self.is_closed:
                self.send(next(self._iterator))
                if perf_counter() > end:
                    again = True
                    break
        except StopIteration:
            is_over = True
        except BaseException as raised:  # noqa: BLE001  becomes the end of the stream
            is_over, error = True, raised
        finally:
            if is_loops:
                self._serving.reactor.come_back()
            self._serving.plain.leave(left)
            SERVED.reset(token)
        with self._lock:
            self._is_drawing = False
            must_close = self.is_closed and not is_over
            again = again or (bool(self.credit.left) and not is_over)
            self.is_closed = self.is_closed or is_over
        if is_over:
            self._finish(error)
        elif must_close:
            self._close()
        elif again:
            self._submit(self._draw)


class OutgoingAsync(OutgoingStream):
    """The stream of an async generator: drawn by a task of the loop."""

    is_closed: bool

    def __init__(
        self,
        serving: Serving,
        contact: Contact,
        link: Link,
        call: m.Invoke,
        iterator: AsyncIterator[Any],
    ) -> None:
        super().__init__(serving, contact, link, call)
        self._iterator = iterator
        self._has_credit = asyncio.Event()
        self._has_credit.set()
        self._task: asyncio.Task[BaseException | None] | None = None
        self._is_left = False

    @property
    def is_over(self) -> bool:
        """True if the task that draws ended."""
        return self._task is None or self._task.done()

    def start(self) -> None:
        """Start the task that draws."""
        token = SERVED.set(self._served)  # for the task, which copies what is set now
        self.first: Any = self._draw()
        self._task = self._serving.loop.create_task(self.first)
        self._task.add_done_callback(self._handle_done)  # a task that is cancelled at once never runs
        SERVED.reset(token)

    def more(self, count: int) -> None:
        """Add credit, and wake the task that draws."""
        self.credit.receive(count)
        self._has_credit.set()

    def close(self) -> None:
        """Cancel the task that draws."""
        if not self.is_closed and self._task is not None:
            self.is_closed = True
            self._serving.cancelling.cancel(self._task, self._handle_left)

    async def _draw(self) -> BaseException | None:
        """Draw to the end; return what the generator raised."""
        error: BaseException | None = None
        try:
            async for value in self._iterator:
                if self.is_closed:  # it swallowed its cancellation, so it is closed where it yields
                    self._log_swallowed()
                    break
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
        return error

    def _log_swallowed(self) -> None:
        frame = getattr(self._iterator, "ag_frame", None)
        place = "" if frame is None else f" ({frame.f_code.co_filename}:{frame.f_lineno})"
        text = "the generator %s%s swallowed its cancellation, so it was closed. Let CancelledError through."
        name = getattr(self._iterator, "__qualname__", repr(type(self._iterator)))
        self._serving.tell(text, name, place)

    def _handle_left(self) -> None:
        """Stop waiting for a generator that swallows each cancellation and yields no more."""
        self._is_left = True
        self._serving.finish_stream(self._link, self._call, asyncio.CancelledError())

    def _handle_done(self, task: asyncio.Task[BaseException | None]) -> None:
        if self._is_left:
            return
        try:
            self.is_closed = True
            error = asyncio.CancelledError() if task.cancelled() else task.result()
        except BaseException as raised:  # noqa: BLE001  becomes the end of the stream
            error = raised
        self._serving.finish_stream(self._link, self._call, error)
