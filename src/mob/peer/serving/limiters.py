"""Limiters of exports that limit how many of their calls run at once, and the lines in which calls wait.

A line keeps the order of arrival, yet a call that is cancelled can leave it at once from anywhere, and a call whose
deadline passes leaves it at that moment. `WaitingCalls` knows the line of each waiting call of the process, so a call
can be found by its link and number, and all of them can be counted without looking at a line.

Nothing here runs a call or answers one. Everything runs on the loop's thread.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop, TimerHandle
from collections import OrderedDict
from collections.abc import Callable
from time import monotonic
from typing import Any, NamedTuple

from mob.rim.link import Link
from mob.wire import messages as m

CallKey = tuple[Link, int]
"""A call among those of all links: its link and its number."""


class QueuedCall(NamedTuple):
    """A call in a line, and what to do when its turn comes."""

    link: Link
    call: m.Invoke
    work: Any
    is_read: bool
    """True if its arguments were decoded."""
    timer: TimerHandle | None


CallLine = OrderedDict[CallKey, QueuedCall]
"""Calls that wait for the same thing, in order."""


class Limiter:
    """A limit on the calls of one export that run at once; the others wait in its line.

    >>> limiter = Limiter(1)
    >>> limiter.enter((link, 1)), limiter.enter((link, 2))    # doctest: +SKIP
    (True, False)
    >>> limiter.leave((link, 1)), limiter.enter((link, 2))    # doctest: +SKIP
    (False, True)
    """

    __slots__ = ("_inside", "handed", "kept", "limit", "line")

    def __init__(self, limit: int) -> None:
        self.limit: int = limit
        self._inside: set[CallKey] = set()
        self.kept: int = 0
        """Number of places that are reserved for calls in the line."""
        self.handed: int = 0
        """Number of reserved places that were passed on so far."""
        self.line: CallLine = OrderedDict()

    def __repr__(self) -> str:
        return f"<Limiter, {self.running} of {self.limit} run, {len(self.line)} wait>"

    @property
    def running(self) -> int:
        """Number of places that are taken."""
        return len(self._inside) + self.kept

    @property
    def inside(self) -> list[CallKey]:
        """The calls that have a place."""
        return list(self._inside)

    def enter(self, key: CallKey) -> bool:
        """Take a place if one is free; return whether that worked."""
        if len(self._inside) + self.kept >= self.limit:
            return False
        self._inside.add(key)
        return True

    def leave(self, key: CallKey) -> bool:
        """Give a place back, if the call has one.

        Return True if the place is reserved for a waiting call, so that no other call can overtake the line.
        """
        if key not in self._inside:
            return False
        is_kept = bool(self.line)
        self.kept += is_kept  # before it is given back: in between it is taken twice, and never free
        self._inside.discard(key)
        return is_kept

    def hand_over(self, key: CallKey | None) -> None:
        """Give a reserved place to a call, or free it if no call waits any longer."""
        if key is not None:
            self._inside.add(key)
        self.handed += 1
        self.kept -= 1


class WaitingCalls:
    """The lines of all waiting calls of a process."""

    def __init__(self, loop: AbstractEventLoop, handle_expired: Callable[[QueuedCall], None]) -> None:
        self._loop = loop
        self._handle_expired = handle_expired
        self.lines: dict[CallKey, CallLine] = {}
        """The line of each waiting call; its length is the number of waiting calls."""

    def __repr__(self) -> str:
        return f"<WaitingCalls, {len(self.lines)} calls wait>"

    def put(self, line: CallLine, link: Link, call: m.Invoke, work: Any, is_read: bool = True) -> None:
        """Let a call wait in a line. `handle_expired` is called if its deadline passes before its turn."""
        key = link, call.id
        timer = None
        if call.times is not None:
            timer = self._loop.call_later(max(0.0, call.times[1] - monotonic()), self._expire, key)
        self.lines[key] = line  # first: everything in a line can be found
        line[key] = QueuedCall(link, call, work, is_read, timer)

    def drop(self, link: Link, number: int) -> QueuedCall | None:
        """Remove a call from its line and return it; None if it did not wait."""
        key = link, number
        line = self.lines.get(key)
        if line is None:
            return None
        waiting = line.get(key)
        if waiting is not None and waiting.timer is not None:
            waiting.timer.cancel()
        line.pop(key, None)
        self.lines.pop(key, None)  # last: until then it can still be found and dropped
        return waiting

    def of_link(self, link: Link) -> list[int]:
        """Return the numbers of the calls that arrived on a link."""
        return [number for where, number in self.lines if where is link]

    def take_all(self) -> list[QueuedCall]:
        """Remove all waiting calls from their lines and return them."""
        return [waiting for key in list(self.lines) if (waiting := self.drop(*key)) is not None]

    def _expire(self, key: CallKey) -> None:
        waiting = self.drop(*key)
        if waiting is not None:
            self._handle_expired(waiting)
