"""`map` at the caller: an export called for many items, as an iterator over its results.

The reader of the map draws the items and sends them in chunks, as far as `core.mapping.Pace` allows. Nothing runs in
the background except a task that draws from an async iterable. `batches` keeps what is under way.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from functools import partial
from threading import Lock
from time import monotonic, perf_counter
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from mob.core.mapping import GOAL, Pace
from mob.peer.calls.batches import FailedItem, Run
from mob.peer.results import readers
from mob.peer.results.call import deadlock_of

if TYPE_CHECKING:
    from mob.peer.calls.outgoing import Outgoing
    from mob.peer.calls.proxy import RemoteExport

T = TypeVar("T")
Arguments = tuple[Any, ...]


class Map(Generic[T]):
    """The iterator over results that `back.foo.map(items)` returns, for `for` and `async for`.

    `len()` is the total number of items, if they have one. Leaving the loop early, an error, `close()` and the end of a
    `with` block cancel what is under way and draw no more items. See docs/calls.md.

    >>> for price in back.price.map(orders): ...            # doctest: +SKIP
    >>> async for price in back.price.map(orders): ...      # doctest: +SKIP
    """

    __slots__ = ("__weakref__", "_feeding", "_iterables", "_raises", "_reading", "_run", "_source", "reader")

    def __init__(
        self,
        peer: Outgoing,
        export: RemoteExport,
        chunked: RemoteExport,
        iterables: Sequence[Any],
        *,
        ahead: int | None,
        unordered: bool,
        chunk: int | None,
        return_exceptions: bool,
    ) -> None:
        _check(export.label, iterables, ahead=ahead, chunk=chunk)
        self.reader: object = None
        """The thread or task that read from it last (`readers`)."""
        self._reading = Lock()
        self._feeding: asyncio.Task[None] | None = None
        self._raises = not return_exceptions
        self._iterables: Sequence[Any] | None = iterables
        self._source: Iterator[Arguments] | None = None
        total = _length(iterables)
        self._run = Run(peer, export, chunked, Pace(chunk, ahead), total, not unordered)
        if total is not None and not any(map(_is_async, iterables)):
            self._fill(perf_counter() + GOAL)  # a collection: begin the work at once

    def __repr__(self) -> str:
        return repr(self._run)

    def __len__(self) -> int:
        if self._run.total is None:
            raise TypeError(f"the items of {self._run.label}.map(...) have no len(), so the map has none.")
        return self._run.total

    def __bool__(self) -> bool:
        return True

    def __length_hint__(self) -> int:
        total = self._run.total
        return NotImplemented if total is None else max(0, total - self._run.read)

    def __iter__(self) -> Iterator[T]:
        return self

    def __aiter__(self) -> AsyncIterator[T]:
        return self

    def __enter__(self) -> Map[T]:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    async def __aenter__(self) -> Map[T]:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.aclose()

    def close(self) -> None:
        """Cancel what is under way and draw no more items; drop what was not read."""
        self._run.is_read = True
        self._run.cancel()
        self._iterables = self._source = None

    async def aclose(self) -> None:
        """Close the map as `close` does, for `contextlib.aclosing`; async items can be closed afterwards."""
        self.close()
        task = self._feeding
        if task is not None and task.get_loop() is asyncio.get_running_loop():
            await asyncio.wait([task])

    def __del__(self) -> None:
        run: Run | None = getattr(self, "_run", None)
        if run is not None and not run.is_over:
            run.peer.context.abandoned.append(run)

    # -------------------------------------------------------------------------------------------------- reading

    def __next__(self) -> T:
        outcomes = self._run.outcomes
        if not outcomes:
            readers.note_thread(self)
            self._enter()
            try:
                if not self._advance():
                    raise StopIteration
            finally:
                self._reading.release()
        outcome = outcomes.popleft()
        return self._opened(outcome) if outcome.__class__ is FailedItem else outcome

    async def __anext__(self) -> T:
        outcomes = self._run.outcomes
        if not outcomes:
            readers.note_task(self)
            self._enter()
            try:
                if not await self._advance_async():
                    raise StopAsyncIteration
            finally:
                self._reading.release()
        outcome = outcomes.popleft()
        return self._opened(outcome) if outcome.__class__ is FailedItem else outcome

    def _enter(self) -> None:
        if not self._reading.acquire(blocking=False):
            raise ValueError(f"{self._run.label}.map(...) is already being read by another thread or task.")
        self._run.is_read = True

    def _opened(self, outcome: FailedItem) -> Any:
        error = outcome.error
        if not self._raises:
            return error
        self.close()
        try:
            raise error
        finally:
            del self, error, outcome  # otherwise error, traceback and frame form a cycle

    def _advance(self) -> bool:
        """Wait until something can be read; return False if nothing more will come."""
        run = self._run
        if run.is_over:
            return False
        self._fill()
        while not run.take():
            if self._is_at_end():
                return False
            self._wait()
            self._fill()
        return True

    async def _advance_async(self) -> bool:
        run = self._run
        if run.is_over:
            return False
        if self._source is None and run.stop_drawing is None and any(map(_is_async, self._iterables or ())):
            self._start_feeding()
        is_fed = run.stop_drawing is not None
        self._fill_or_resend(is_fed)
        while not run.take():
            if self._is_at_end():
                return False
            await self._wait_async()
            self._fill_or_resend(is_fed)
        return True

    def _is_at_end(self) -> bool:
        """Return True if nothing more can be read; raise the error of the items' iterator after all results."""
        run = self._run
        if run.is_over:
            return True
        if not run.is_finished:
            return False
        error = run.error
        self.close()
        if error is not None:
            try:
                raise error
            finally:
                del self, error, run
        return True

    # -------------------------------------------------------------------------------------------------- filling

    def _fill(self, deadline: float | None = None) -> None:
        if self._source is None:
            iterables = self._iterables or ()
            for each in iterables:
                if _is_async(each) and not hasattr(each, "__iter__"):
                    raise TypeError(
                        f"the items of {self._run.label}.map(...) come from a {type(each).__name__}, which only "
                        f"`async for` can iterate over: read the map with `async for`, too."
                    )
            self._source = zip(*iterables, strict=False)
        self._run.fill(self._source, deadline)

    def _fill_or_resend(self, is_fed: bool) -> None:
        if is_fed:
            self._run.send_refused()
        else:
            self._fill()

    def _start_feeding(self) -> None:
        run = self._run
        iterables, self._iterables = self._iterables or (), None
        loop = asyncio.get_running_loop()
        task = self._feeding = loop.create_task(_feed(run, iterables))
        run.stop_drawing = partial(run.peer.handover.give, loop, _cancel, task, None)

    # -------------------------------------------------------------------------------------------------- waiting

    def _wait(self) -> None:
        run = self._run
        run.peer.context.check_process()
        reactor = run.peer.context.reactor
        is_stuck = run.is_stuck
        pause = run.next_pause() if is_stuck else None
        if reactor.is_mine:
            self._drive(pause)
            return
        arrival = Lock()
        arrival.acquire()
        run.when_news(lambda: arrival.locked() and arrival.release())
        if not run.is_news and run.is_stuck == is_stuck:  # checked after registering, it may have come meanwhile
            reactor.stand_in.wait_for(arrival, pause)

    def _drive(self, pause: float | None) -> None:
        """Wait on the loop's own thread, which drives reading and writing itself meanwhile."""
        run = self._run
        peer = run.peer
        calls = run.calls()
        deadline = None if pause is None else monotonic() + pause

        def is_news() -> bool:
            for call in calls:
                if (error := deadlock_of(call)) is not None:
                    call.contact.forget_call(call)
                    peer.fail(call, error)
            return run.is_news or (pause is None and run.is_stuck)

        peer.blocking.drive(calls, is_news, deadline)

    async def _wait_async(self) -> None:
        run = self._run
        run.peer.context.check_process()
        loop = asyncio.get_running_loop()
        is_stuck = run.is_stuck
        future: asyncio.Future[None] = loop.create_future()
        run.when_news(partial(run.peer.handover.give, loop, _finish, future, None))
        timer = loop.call_later(run.next_pause(), _finish, future) if is_stuck else None
        try:
            if run.is_news or run.is_stuck != is_stuck:
                return
            if loop is run.peer.context.reactor.loop:
                await future
            else:
                await run.peer.blocking.wait_elsewhere(future, run.calls())
        finally:
            if timer is not None:
                timer.cancel()


async def _feed(run: Run, iterables: Sequence[Any]) -> None:
    """Draw from async iterables while there is room; a task of the reader's loop."""
    loop = asyncio.get_running_loop()
    draw = [aiter(each).__anext__ if _is_async(each) else partial(_next, iter(each)) for each in iterables]
    try:
        while True:
            while not run.has_room():
                await _news(run, loop)
            size = run.next_size()
            timer = loop.call_later(GOAL, run.flush)  # a chunk does not wait for slow items
            while not run.add(tuple([await each() for each in draw]), size):
                pass
            timer.cancel()
    except StopAsyncIteration:
        pass
    except asyncio.CancelledError:
        raise
    except BaseException as error:  # noqa: BLE001  raised in its place, after the items drawn before
        run.error = error
    run.is_exhausted = True
    run.flush()
    run.wake()


async def _next(iterator: Iterator[Any]) -> Any:
    for item in iterator:
        return item
    raise StopAsyncIteration


async def _news(run: Run, loop: asyncio.AbstractEventLoop) -> None:
    future: asyncio.Future[None] = loop.create_future()
    run.when_news(partial(run.peer.handover.give, loop, _finish, future, None))
    if not run.has_room():
        await future


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()


def _is_async(iterable: Any) -> bool:
    return hasattr(iterable, "__aiter__")


def _length(iterables: Sequence[Any]) -> int | None:
    try:
        return min(map(len, iterables))
    except TypeError:
        return None


def _check(label: str, iterables: Sequence[Any], **numbers: int | None) -> None:
    if not iterables:
        raise TypeError(f"{label}.map() needs the items to call it with: {label}.map(items), as the built-in map does.")
    for each in iterables:
        if not hasattr(each, "__iter__") and not hasattr(each, "__aiter__") and not hasattr(each, "__getitem__"):
            raise TypeError(
                f"{label}.map() takes iterables, one for each argument, and {each!r} is a {type(each).__name__}: write "
                f"{label}.map([...])."
            )
    for name, number in numbers.items():
        if number is not None and (type(number) is not int or number < 1):
            raise ValueError(f"{label}.map({name}={number!r}): it must be a whole number of at least 1, or None.")
