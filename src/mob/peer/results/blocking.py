"""Waits that block the loop's thread, which itself reads and writes the links until the answer is there.

While plain code waits like this, incoming callbacks are run, because the answer may depend on them; all other calls
stay in the inbox. The calls that are waited for are listed here, because a call that comes back to this very thread
could never be served.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections import deque
from collections.abc import Callable, Sequence
from threading import get_ident
from time import monotonic
from typing import TYPE_CHECKING, Any

from mob.core.states import CallState
from mob.rim.reactor import Reactor

if TYPE_CHECKING:
    from mob.peer.results.call import Call

DEEPEST = 120
"""Levels of the stack that reading an answer may take."""


class Blocking:
    """The calls for which the loop's thread is blocked."""

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor
        self.calls: list[Call[Any]] = []
        """Calls for whose answers the loop's thread is blocked."""
        self.serve_callbacks: Callable[[], None] = _serve_nothing
        """Runs the callbacks that have arrived; set by the owner of the inbox."""

    def __repr__(self) -> str:
        return f"<Blocking for {len(self.calls)} calls>"

    def drive(self, calls: Sequence[Call[Any]], until: Callable[[], bool], deadline: float | None = None) -> bool:
        """Block the reading thread until `until()` is true or the deadline passes; return True if it is true.

        Meanwhile it reads and writes the links for these calls, and runs the callbacks that have arrived or arrive.
        """
        reactor = self._reactor
        check_depth()
        before, was_away = len(self.calls), reactor.is_away and reactor.enter()
        try:
            self.calls.extend(calls)
            self.serve_callbacks()
            is_met = reactor.drive(until, deadline)
            for call in calls:
                self.calls.remove(call)
        except BaseException:
            del self.calls[before:]
            raise
        finally:
            if was_away:
                reactor.go_away()
        return is_met

    def drive_all(self, calls: Sequence[Call[Any]], is_met: Callable[[], bool], timeout: float | None) -> bool:
        """Do the same as `drive`, for at most `timeout` seconds, and also for calls that still wait for a worker.

        A call that goes to this very process could never be answered, so it fails; each call is checked once it was
        sent.
        """
        unsent = deque(calls)

        def look() -> bool:
            while unsent and unsent[0].state is not CallState.WAITING:
                unsent.popleft().fail_in_circle(self)
            return is_met()

        return self.drive(calls, look, None if timeout is None else monotonic() + timeout)

    def begin(self, call: Call[Any]) -> None:
        """Note, until `end`, that a call is waited for outside the loop's thread or by a loop within plain code."""
        is_blocked = get_ident() == self._reactor.thread and call not in self.calls
        self._begin(call, [call], is_blocked)

    def end(self, call: Call[Any]) -> None:
        """Note that a call has ended or is no longer waited for; from any thread.

        It does nothing if the call was not waited for.
        """
        waiters = self._reactor.waiters
        if call in waiters:
            waiters.discard(call)
            with contextlib.suppress(ValueError):
                self.calls.remove(call)

    async def wait_elsewhere(self, future: asyncio.Future[None], calls: Sequence[Call[Any]]) -> None:
        """Await a future of a loop other than mob's, which is done by these calls."""
        is_blocked = get_ident() == self._reactor.thread  # plain code runs this loop in the thread of mob's
        self._begin(future, calls, is_blocked)
        try:
            await future
        finally:
            self._reactor.waiters.discard(future)
            for call in calls if is_blocked else ():
                self.calls.remove(call)

    def _begin(self, waiter: Any, calls: Sequence[Call[Any]], is_blocked: bool) -> None:
        """Register a waiter; `is_blocked`: the loop's thread waits until these calls are answered."""
        stand_in = self._reactor.stand_in
        if is_blocked:
            self.calls.extend(calls)
            self._reactor.call(self._serve_what_was_read)
        stand_in.begin_to_wait(waiter)
        if is_blocked:
            stand_in.hurry()

    def _serve_what_was_read(self) -> None:
        """Run the callbacks that have arrived; the call for which the loop's thread began to wait may need them."""
        if self._reactor.is_stood_in:
            self.serve_callbacks()


def check_depth() -> None:
    """Raise RecursionError in the line that waits, while enough stack is left to read an answer.

    The answer may be for others.
    """
    try:
        sys._getframe(sys.getrecursionlimit() - DEEPEST)  # pyright: ignore[reportPrivateUsage]
    except ValueError:
        return
    raise RecursionError(f"too deep to wait for a call: fewer than {DEEPEST} levels of Python's stack are left.")


def _serve_nothing() -> None:
    """Do nothing, in a process without an inbox."""
