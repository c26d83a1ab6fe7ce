"""Turns: the lines in which calls wait until they may run, and the gates before exports that limit themselves.

A line keeps the order of arrival, and still a call that is given up leaves it at once, from anywhere; one whose time is
over leaves it at that moment. `Turns` knows where each waiting call of the process stands, so it can be found by its
link and number, and all of them can be counted without looking at a line.

Nothing here runs a call or answers one. Only the loop's thread comes here.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop, TimerHandle
from collections import OrderedDict
from collections.abc import Callable
from time import monotonic
from typing import Any, NamedTuple

from mob.rim.link import Link
from mob.wire import messages as m

Key = tuple[Link, int]
"""A call among those of all links."""


class Waiting(NamedTuple):
    """A call in a line, and what is to be done when its turn comes."""

    link: Link
    call: m.Call
    work: Any
    is_read: bool
    """Whether its arguments were decoded."""
    timer: TimerHandle | None


Line = OrderedDict[Key, Waiting]
"""Calls that wait for the same thing, in order."""


class Gate:
    """Lets so many calls of one export run at once; the others stand in its line.

    >>> gate = Gate(1)
    >>> gate.enter(), gate.enter()
    (True, False)
    """

    __slots__ = ("limit", "line", "running")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.running = 0
        self.line: Line = OrderedDict()

    def __repr__(self) -> str:
        return f"<Gate, {self.running} of {self.limit} run, {len(self.line)} wait>"

    def enter(self) -> bool:
        """Takes a place if one is free."""
        if self.running >= self.limit:
            return False
        self.running += 1
        return True

    def leave(self) -> bool:
        """Gives a place back. True if it is kept, for one that waits: so nobody can overtake those in the line."""
        if self.line:
            return True
        self.running -= 1
        return False


class Turns:
    """Where each waiting call of a process stands."""

    def __init__(self, loop: AbstractEventLoop, handle_expired: Callable[[Waiting], None]) -> None:
        self._loop = loop
        self._handle_expired = handle_expired
        self.lines: dict[Key, Line] = {}
        """The line of each waiting call; its length is how many there are."""

    def __repr__(self) -> str:
        return f"<Turns, {len(self.lines)} calls wait>"

    def put(self, line: Line, link: Link, call: m.Call, work: Any, is_read: bool = True) -> None:
        """Has a call wait. If its time is over before its turn has come, `handle_expired` is told."""
        key = link, call.id
        timer = None
        if call.times is not None:
            timer = self._loop.call_later(max(0.0, call.times[1] - monotonic()), self._expire, key)
        line[key] = Waiting(link, call, work, is_read, timer)
        self.lines[key] = line

    def take(self, line: Line) -> Waiting | None:
        """The first of a line, which waits no longer; None if nobody is there."""
        return self.drop(*next(iter(line))) if line else None

    def drop(self, link: Link, number: int) -> Waiting | None:
        """The call of that number, which waits no longer; None if it did not wait."""
        line = self.lines.pop((link, number), None)
        if line is None:
            return None
        waiting = line.pop((link, number))
        if waiting.timer is not None:
            waiting.timer.cancel()
        return waiting

    def of_link(self, link: Link) -> list[int]:
        """The numbers of the calls that came on a link."""
        return [number for where, number in self.lines if where is link]

    def take_all(self) -> list[Waiting]:
        """All that wait, whatever for: none does any longer."""
        return [waiting for key in list(self.lines) if (waiting := self.drop(*key)) is not None]

    def _expire(self, key: Key) -> None:
        waiting = self.drop(*key)
        if waiting is not None:
            self._handle_expired(waiting)
