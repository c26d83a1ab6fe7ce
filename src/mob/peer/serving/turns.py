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

CallKey = tuple[Link, int]
"""A call among those of all links."""


class QueuedCall(NamedTuple):
    """A call in a line, and what is to be done when its turn comes."""

    link: Link
    call: m.Invoke
    work: Any
    is_read: bool
    """Whether its arguments were decoded."""
    timer: TimerHandle | None


GateQueue = OrderedDict[CallKey, QueuedCall]
"""Calls that wait for the same thing, in order."""


class Gate:
    """Lets so many calls of one export run at once; the others stand in its line.

    >>> gate = Gate(1)
    >>> gate.enter((link, 1)), gate.enter((link, 2)), gate.leave((link, 1)), gate.enter((link, 2))  # doctest: +SKIP
    (True, False, False, True)
    """

    __slots__ = ("_inside", "handed", "kept", "limit", "line")

    def __init__(self, limit: int) -> None:
        self.limit: int = limit
        self._inside: set[CallKey] = set()
        self.kept: int = 0
        """Places that are kept for those in the line."""
        self.handed: int = 0
        """How many of these were given on."""
        self.line: GateQueue = OrderedDict()

    def __repr__(self) -> str:
        return f"<Gate, {self.running} of {self.limit} run, {len(self.line)} wait>"

    @property
    def running(self) -> int:
        """How many places are taken."""
        return len(self._inside) + self.kept

    @property
    def inside(self) -> list[CallKey]:
        """The calls that have a place."""
        return list(self._inside)

    def enter(self, key: CallKey) -> bool:
        """Takes a place if one is free."""
        if len(self._inside) + self.kept >= self.limit:
            return False
        self._inside.add(key)
        return True

    def leave(self, key: CallKey) -> bool:
        """Gives a place back, if the call has one. True if it is kept, for one that waits: so nobody can overtake those
        in the line."""
        if key not in self._inside:
            return False
        is_kept = bool(self.line)
        self.kept += is_kept  # before it is given back: between the two it is taken twice, and never free
        self._inside.discard(key)
        return is_kept

    def hand_over(self, key: CallKey | None) -> None:
        """Gives a place that was kept to a call, or back if nobody waits any more."""
        if key is not None:
            self._inside.add(key)
        self.handed += 1
        self.kept -= 1


class Turns:
    """Where each waiting call of a process stands."""

    def __init__(self, loop: AbstractEventLoop, handle_expired: Callable[[QueuedCall], None]) -> None:
        self._loop = loop
        self._handle_expired = handle_expired
        self.lines: dict[CallKey, GateQueue] = {}
        """The line of each waiting call; its length is how many there are."""

    def __repr__(self) -> str:
        return f"<Turns, {len(self.lines)} calls wait>"

    def put(self, line: GateQueue, link: Link, call: m.Invoke, work: Any, is_read: bool = True) -> None:
        """Has a call wait. If its time is over before its turn has come, `handle_expired` is told."""
        key = link, call.id
        timer = None
        if call.times is not None:
            timer = self._loop.call_later(max(0.0, call.times[1] - monotonic()), self._expire, key)
        self.lines[key] = line  # first: what is in a line can be found
        line[key] = QueuedCall(link, call, work, is_read, timer)

    def drop(self, link: Link, number: int) -> QueuedCall | None:
        """The call of that number, which waits no longer; None if it did not wait."""
        key = link, number
        line = self.lines.get(key)
        if line is None:
            return None
        waiting = line.get(key)
        if waiting is not None and waiting.timer is not None:
            waiting.timer.cancel()
        line.pop(key, None)
        self.lines.pop(key, None)  # last: until then it can be found and dropped
        return waiting

    def of_link(self, link: Link) -> list[int]:
        """The numbers of the calls that came on a link."""
        return [number for where, number in self.lines if where is link]

    def take_all(self) -> list[QueuedCall]:
        """All that wait, whatever for: none does any longer."""
        return [waiting for key in list(self.lines) if (waiting := self.drop(*key)) is not None]

    def _expire(self, key: CallKey) -> None:
        waiting = self.drop(*key)
        if waiting is not None:
            self._handle_expired(waiting)
