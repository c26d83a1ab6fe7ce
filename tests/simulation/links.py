"""Fake links: messages arrive in order, after a random delay, and a death cuts what had not left.

Like a Unix socket, a pipe holds what was sent until it is read, also if the sender has died meanwhile; it takes so much
and no more, the rest waits with the sender as `unsent`. What waits there dies with it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any, Protocol

from tests.simulation.clock import Clock

CAPACITY = 200
"""Messages that a socket takes."""
LATE = 0.03
"""How often something is not sent at once, but at the end of the turn."""
END = ("end",)
"""What is read last."""


class Reader(Protocol):
    """Who reads a pipe."""

    def handle_readable(self, pipe: Pipe) -> None:
        """Something has arrived."""
        ...


class Pipe:
    """One direction of a link."""

    __slots__ = ("_clock", "_is_ringing", "_last", "end", "flight", "is_flushing", "is_open", "reader", "unsent")

    def __init__(self, clock: Clock, reader: Reader, end: Any = None) -> None:
        self._clock = clock
        self._last = 0.0
        self._is_ringing = False
        self.reader = reader
        self.end: Any = end
        """The reader's end of the link, if there is one."""
        self.flight: deque[tuple[float, Any]] = deque()
        self.unsent: deque[Any] = deque()
        self.is_flushing = False
        self.is_open = True

    def __str__(self) -> str:
        return f"to {self.reader}"

    def post(self, message: Any) -> None:
        """Sends it now, or later."""
        if not self.is_open:
            return
        if not self.unsent and len(self.flight) < CAPACITY and self._clock.luck() > LATE:
            self._send(message)
            return
        self.unsent.append(message)
        if not self.is_flushing and len(self.flight) < CAPACITY:
            self.is_flushing = True
            self._clock.after(0.0005 * self._clock.luck(), self.flush)

    def flush(self) -> None:
        """The end of the sender's turn."""
        self.is_flushing = False
        while self.is_open and self.unsent and len(self.flight) < CAPACITY:
            self._send(self.unsent.popleft())

    def close(self, flush: bool = False) -> None:
        """The sender has closed its end, perhaps after it has sent everything."""
        if not self.is_open:
            return
        while flush and self.unsent:
            self._send(self.unsent.popleft())
        self._send(END)
        self.is_open = False

    def take(self, everything: bool = False) -> list[Any]:
        """What has arrived."""
        now, flight, taken = self._clock.now, self.flight, []
        while flight and (everything or flight[0][0] <= now):
            taken.append(flight.popleft()[1])
        if self.unsent:
            self.flush()
            while everything and flight:
                taken.append(flight.popleft()[1])
        if flight and not self._is_ringing:
            self._ring()
        return taken

    def _send(self, message: Any) -> None:
        clock = self._clock
        luck = clock.luck()
        when = clock.now + (0.00002 + 0.0001 * luck if luck < 0.95 else 0.05 * clock.luck())
        self._last = when = max(when, self._last)
        self.flight.append((when, message))
        if not self._is_ringing:
            self._ring()

    def _ring(self) -> None:
        self._is_ringing = True
        self._clock.at(self.flight[0][0], self.arrive)

    def arrive(self) -> None:
        """Something has come through."""
        self._is_ringing = False
        if self.flight:
            self.reader.handle_readable(self)


class Link:
    """One end of a link between two members: a pipe out, a pipe in."""

    __slots__ = ("contact", "into", "is_broken", "is_closed", "is_late", "other", "out")

    def __init__(self) -> None:
        self.contact: Any = None
        self.is_closed = False
        self.is_late = False
        """The truth: it was made when one of both had ended, which nobody knew."""
        self.other: Link
        self.out: Pipe
        self.into: Pipe

        self.is_broken = False
        """The truth: whether one of both ends has broken it."""

    def __str__(self) -> str:
        return f"link {self.into} {self.out}"

    unsent_bytes = 0

    def post(self, message: Any) -> None:
        """Says something."""
        self.out.post(message)

    def unsent(self) -> Iterable[Any]:
        """What has not left."""
        return self.out.unsent

    def close(self, flush: bool = False) -> None:
        """Says no more."""
        self.is_closed = True
        self.out.close(flush)


def pair(clock: Clock, first: Reader, second: Reader) -> tuple[Link, Link]:
    """The two ends of a new link."""
    ends = Link(), Link()
    ends[0].other, ends[1].other = ends[1], ends[0]
    ends[0].out = ends[1].into = Pipe(clock, second, ends[1])
    ends[1].out = ends[0].into = Pipe(clock, first, ends[0])
    return ends
