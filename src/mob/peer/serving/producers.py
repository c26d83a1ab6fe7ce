"""The producer's end of a stream: a generator that is drawn from for a caller in another process.

It is drawn from as long as there is credit, in slices, so that nobody else starves. When the caller wants no more, or
is gone, it is closed: `GeneratorExit` runs in it. Its code sees the call that it serves, as that of any export does
(`mob.caller`, `mob.cancelled`, deadlines that travel), whoever has given the credit. The other end is `streams`.
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
"""Seconds that a generator may run on the loop before others get a turn."""


class OutgoingStream:
    """A generator that is drawn from for a caller."""

    def __init__(self, serving: Serving, contact: Contact, link: Link, call: m.Invoke) -> None:
        self._serving = serving
        self._link = link
        self._call = call
        self._served: Served = contact, call, link
        self.credit: Credit = Credit()
        self.is_closed: bool = False
        self.first: Any = None
        """The coroutine or iterator whose first step is that of the call, once it has started."""
        self.began: float = monotonic()
        self.tally: ExportTally | None = None
        """Where it is counted as a call, if it is one of an export."""

    def __repr__(self) -> str:
        return f"<OutgoingStream of call {self._call.id}, {self.credit}>"

    @property
    def export(self) -> str:
        """The export that it counts as a call of; nothing if it is none of an export."""
        target = self._call.target
        return target if self.tally is not None and isinstance(target, str) else ""

    @property
    def is_over(self) -> bool:
        """Whether nothing more can come of it, though it may not have been answered yet."""
        raise NotImplementedError

    def look_after(self) -> None:
        """Draws if nobody else is going to; once a second."""

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
        self._serving.answers.send_item(self._link, self._call.id, value)


class OutgoingSync(OutgoingStream):
    """Of a plain generator: drawn in slices, by one thread at a time."""

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
        return self._has_ended

    def look_after(self) -> None:
        if not self._is_drawing and (self.credit.left or self.is_closed):
            self._submit(self._close if self.is_closed else self._draw)

    def start(self) -> None:
        self.first: Any = self._iterator
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
        token = SERVED.set(self._served)  # what runs this is the caller's credit, or another slice
        left = self._serving.plain.enter()
        is_loops = False
        try:
            is_loops = self._serving.reactor.go_away()  # once for all items: to send one is what any thread may do
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
    """Of an async generator: drawn by a task of the loop."""

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
        return self._task is None or self._task.done()

    def start(self) -> None:
        token = SERVED.set(self._served)  # for the task, which copies what is set now
        self.first: Any = self._draw()
        self._task = self._serving.loop.create_task(self.first)
        self._task.add_done_callback(self._handle_done)  # a task that is cancelled at once never runs
        SERVED.reset(token)

    def more(self, count: int) -> None:
        self.credit.receive(count)
        self._has_credit.set()

    def close(self) -> None:
        if not self.is_closed and self._task is not None:
            self.is_closed = True
            self._serving.cancelling.cancel(self._task, self._handle_left)

    async def _draw(self) -> BaseException | None:
        """Return what the generator has raised."""
        error: BaseException | None = None
        try:
            async for value in self._iterator:
                if self.is_closed:  # it has swallowed its cancellation: it is closed where it yields
                    self._tell_swallowed()
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

    def _tell_swallowed(self) -> None:
        frame = getattr(self._iterator, "ag_frame", None)
        place = "" if frame is None else f" ({frame.f_code.co_filename}:{frame.f_lineno})"
        told = "the generator %s%s swallowed its cancellation and went on; it is closed. Let CancelledError through."
        name = getattr(self._iterator, "__qualname__", repr(type(self._iterator)))
        self._serving.tell(told, name, place)

    def _handle_left(self) -> None:
        """The generator swallows each cancellation and yields no more: nobody waits for it."""
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
