"""Waiting for several calls in sync code: `mob.wait` and `mob.as_completed`, like those of `concurrent.futures`.

They work in any thread. On the loop's own thread, which reads the answers, they read and write the links themselves
meanwhile, as `call.result()` does. (`concurrent.futures` takes calls as well: see `futures`.)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION
from threading import Condition, get_ident
from time import monotonic
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from mob.errors import CallTimeout
from mob.peer.results.call import Call

if TYPE_CHECKING:
    from mob.peer.results.maker import Maker

T = TypeVar("T")
CONDITIONS = (FIRST_COMPLETED, FIRST_EXCEPTION, ALL_COMPLETED)


class Waited(NamedTuple, Generic[T]):
    """The result of `mob.wait`."""

    done: set[Call[T]]
    not_done: set[Call[T]]


def wait(calls: Iterable[Call[T]], timeout: float | None = None, return_when: str = ALL_COMPLETED) -> Waited[T]:
    """Wait for several calls; in async code use `asyncio.gather`, `asyncio.as_completed` or tasks.

    Args:
        calls: The calls.
        timeout: Seconds to wait. Default: None, no limit. Calls that have not ended by then go on.
        return_when: "ALL_COMPLETED", "FIRST_COMPLETED", or "FIRST_EXCEPTION" (when the first call fails, or all have
            ended). Default: "ALL_COMPLETED".

    Returns:
        `(done, not_done)`, two sets of calls.

    Raises:
        TypeError: `calls` contains something other than calls.
        ValueError: There is no such `return_when`.

    Example:
        >>> done, not_done = mob.wait([back.foo(1), back.foo(2)], timeout=2)      # doctest: +SKIP
    """
    if return_when not in CONDITIONS:
        raise ValueError(f"mob.wait(return_when={return_when!r}): expected one of {', '.join(map(repr, CONDITIONS))}.")
    with _Watch("wait", calls) as watch:
        watch.wait(watch.is_met_by(return_when), timeout)
        done = {call for call in watch.calls if call.done()}
        return Waited(done, watch.calls - done)


def as_completed(calls: Iterable[Call[T]], timeout: float | None = None) -> Iterator[Call[T]]:
    """Iterate over calls as they end, each once; in async code use `asyncio.as_completed`.

    Args:
        calls: The calls.
        timeout: Seconds in which all must end. Default: None, no limit.

    Returns:
        An iterator over the ended calls.

    Raises:
        CallTimeout: Not all calls ended within `timeout` seconds; the others go on.
        TypeError: `calls` contains something other than calls.

    Example:
        >>> for call in mob.as_completed([back.foo(1), back.foo(2)]): print(call.result())       # doctest: +SKIP
    """
    watch = _Watch("as_completed", calls)
    return _ended(watch, timeout, None if timeout is None else monotonic() + timeout)


def _ended(watch: _Watch[T], timeout: float | None, deadline: float | None) -> Iterator[Call[T]]:
    left = len(watch.calls)
    with watch:
        while left:
            rest = None if deadline is None else max(0.0, deadline - monotonic())
            if not watch.wait(lambda: bool(watch.ended), rest):
                raise CallTimeout(
                    f"as_completed: {left} of {len(watch.calls)} calls did not end within {timeout} s; they go on."
                )
            left -= 1
            yield watch.ended.popleft()


class _Watch(Generic[T]):
    """Observes the ends of calls, from the beginning of a `with` block to its end."""

    def __init__(self, name: str, calls: Iterable[Call[T]]) -> None:
        if isinstance(calls, Call):
            raise TypeError(f"mob.{name} takes several calls: mob.{name}([call]). For a single call use call.result().")
        self.calls = set(calls)
        for call in self.calls:
            if not isinstance(call, Call):  # pyright: ignore[reportUnnecessaryIsInstance]
                if hasattr(type(call), "outcome"):
                    raise TypeError(
                        f"mob.{name} takes calls, and {call!r} is a {type(call).__name__}. Its outcome is a call: "
                        f"mob.{name}([job.outcome])."
                    )
                raise TypeError(
                    f"mob.{name} takes calls, as back.foo(1) returns them, and {call!r} is a {type(call).__name__}. "
                    f"concurrent.futures.{name} takes calls and futures together."
                )
        self.ended: deque[Call[T]] = deque()
        """The ended calls, in the order of their ends."""
        self.failed = 0
        self._news = Condition()
        self._driven: Maker | None = None

    def __enter__(self) -> _Watch[T]:
        for call in self.calls:
            if call.peer.context.reactor.is_mine:
                self._driven = call.peer
        for call in self.calls:
            call.refuse_if_streaming()
            call.when_done(self._handle_done)
        return self

    def __exit__(self, *_: object) -> None:
        for call in self.calls:
            if not call.done():
                call.remove_done_callback(self._handle_done)

    def _handle_done(self, call: Call[T]) -> None:
        """Note the end of a call, in the thread that settled it."""
        with self._news:
            self.failed += call.has_failed and not call.cancelled()
            self.ended.append(call)
            self._news.notify()
        driven = self._driven
        if driven is not None and get_ident() != driven.context.reactor.thread:
            driven.context.reactor.wake()

    def is_met_by(self, return_when: str) -> Any:
        """Return a function that is true when the wait is over."""
        if return_when == FIRST_COMPLETED:
            return lambda: bool(self.ended) or not self.calls
        if return_when == FIRST_EXCEPTION:
            return lambda: bool(self.failed) or len(self.ended) == len(self.calls)
        return lambda: len(self.ended) == len(self.calls)

    def wait(self, is_met: Any, timeout: float | None) -> bool:
        """Wait until `is_met` is true; return True if it was, in time."""
        if is_met():
            return True
        if self._driven is not None:
            return self._driven.blocking.drive_all([call for call in self.calls if not call.done()], is_met, timeout)
        reactors = {call.peer.context.reactor for call in self.calls}
        for reactor in reactors:
            reactor.stand_in.begin_to_wait(self)
        try:
            with self._news:
                return self._news.wait_for(is_met, timeout)
        finally:
            for reactor in reactors:
                reactor.waiters.discard(self)
