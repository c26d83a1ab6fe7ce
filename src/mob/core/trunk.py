"""A trunk: what joins two gateways, over a carrier that may lose packets and never says so.

NATS delivers at most once: what a reconnect or a slow reader costs is gone, silently. A trunk makes of that a stream
that is whole and in order, or ends. Packets are numbered and kept until the other end has them (go-back-N with
cumulative acknowledgements, as in Tanenbaum's *Computer Networks*); so many bytes may be unacknowledged and no more.

Each end gives its half of the conversation a number, its *session*, and repeats the other's in every packet (as TCP
does with initial sequence numbers, Tomlinson 1975). Who has lost its place begins a new session; the other end sees
that, and both know that what was said before is over.

Bytes only; what they mean is `circuits`. No clock: `now` is passed in.
"""

from __future__ import annotations

import struct
from collections import deque
from typing import NamedTuple

HEAD = struct.Struct("<QQQQB")  # own session, the other's (0: not known), number, acknowledged, kind
ACK, DATA, AGAIN = 0, 1, 2
WINDOW = 8 * 1024 * 1024
"""Bytes that may be under way."""
ACK_EVERY = WINDOW // 8
"""Bytes after whose arrival the other end is told at once."""
ACK_DELAY = 0.02
"""Seconds within which it is told anyway; mostly something goes back before that."""
RESEND_AFTER = 0.25
"""Seconds without any progress after which what is not acknowledged is sent again; doubled each time."""
RESEND_LIMIT = 1.0
LOST_AFTER = 3.0
"""Seconds without any progress after which the other end is taken to be gone."""


class Received(NamedTuple):
    """What has come of a packet."""

    payload: memoryview | None = None
    """The next part of the stream."""
    answers: tuple[bytes, ...] = ()
    """Packets to be sent at once."""
    has_ended: bool = False
    """Whether the other end has begun anew: all that went over this trunk before is over. What `payload` brings
    belongs to what begins."""


class Trunk:
    """One end."""

    __slots__ = (
        "_asked_for",
        "_dead",
        "_expected",
        "_next",
        "_other",
        "_pause",
        "_progress_at",
        "_sent_at",
        "_told",
        "_unacked",
        "_untold",
        "session",
        "unacked_bytes",
    )

    def __init__(self, session: int) -> None:
        self.session = session
        """The number of this end's half; greater than that of any trunk that this gateway had with the other."""
        self._dead = 0  # sessions of the other end up to this one are over
        self._other = 0
        self._begin()

    def __repr__(self) -> str:
        return f"<Trunk {self.session} to {self._other or 'nobody yet'}, {self.unacked_bytes:,} bytes under way>"

    def _begin(self) -> None:
        self._next = self._expected = 1
        self._told = 0  # the last number whose arrival was acknowledged
        self._untold = 0  # bytes that came after it
        self._asked_for = 0  # the number that was asked for again
        self._unacked: deque[tuple[int, bytes]] = deque()
        self.unacked_bytes = 0
        """Bytes that the other end has not acknowledged."""
        self._progress_at = self._sent_at = 0.0
        self._pause = RESEND_AFTER

    @property
    def is_full(self) -> bool:
        """Whether nothing more should be sent for now."""
        return self.unacked_bytes >= WINDOW

    @property
    def is_waiting(self) -> bool:
        """Whether something is not acknowledged: `wake` is to be called now and then."""
        return bool(self._unacked)

    @property
    def owes_word(self) -> bool:
        """Whether something has come that was not acknowledged: `acknowledge` within ACK_DELAY."""
        return self._expected - 1 > self._told

    # -------------------------------------------------------------------------------------------- sending

    def send(self, payload: bytes, now: float) -> bytes:
        """The packet with the next part of the stream."""
        number = self._next
        self._next += 1
        if not self._unacked:
            self._progress_at, self._sent_at, self._pause = now, now, RESEND_AFTER
        self._unacked.append((number, payload))
        self.unacked_bytes += len(payload)
        return self._packet(number, payload)

    def acknowledge(self) -> bytes:
        """The packet that says what has come."""
        return self._head(0, ACK)

    def resend(self, now: float) -> list[bytes]:
        """All that is not acknowledged, once more: packets may have been lost."""
        self._sent_at = now
        return [self._packet(number, payload) for number, payload in self._unacked]

    def wake(self, now: float) -> list[bytes] | None:
        """Time has passed: what is to be sent again; None if the other end is gone. `restart` follows then."""
        if not self._unacked:
            return []
        if now - self._progress_at >= LOST_AFTER:
            return None
        if now - max(self._sent_at, self._progress_at) < self._pause:
            return []
        self._pause = min(2 * self._pause, RESEND_LIMIT)
        return self.resend(now)

    def restart(self) -> None:
        """Begins anew: what is under way is given up, and what still comes of it is not heard."""
        self._dead = max(self._dead, self._other)
        self._other = 0
        self.session += 1
        self._begin()

    def _packet(self, number: int, payload: bytes) -> bytes:
        return self._head(number, DATA) + payload

    def _head(self, number: int, kind: int) -> bytes:
        self._told, self._untold = self._expected - 1, 0
        return HEAD.pack(self.session, self._other, number, self._told, kind)

    # ------------------------------------------------------------------------------------------ receiving

    def receive(self, packet: bytes, now: float) -> Received:
        """A packet has come; garbage is not heard."""
        if len(packet) < HEAD.size:
            return Received()
        session, echo, number, acknowledged, kind = HEAD.unpack_from(packet)
        if session <= self._dead:
            return Received(answers=(self.acknowledge(),))  # it learns from this that something new has begun
        if echo not in (0, self.session):
            # It speaks to what was here before. If it has not yet seen that this is over, it is told; not for an
            # acknowledgement, lest two that misunderstand each other never stop.
            return Received(answers=() if kind == ACK else (self.acknowledge(),))
        has_ended = False
        if session != self._other:
            if self._other:
                has_ended = True
                self.restart()
            self._other = session
        self._handle_acknowledged(acknowledged, now)
        if kind == AGAIN and not has_ended:
            return Received(answers=tuple(self.resend(now)))
        if kind != DATA:
            return Received(None, (), has_ended)
        return self._take(number, memoryview(packet)[HEAD.size :], has_ended)

    def _take(self, number: int, payload: memoryview, has_ended: bool) -> Received:
        if number != self._expected:
            if number < self._expected or self._asked_for == self._expected:
                return Received(None, (self.acknowledge(),), has_ended)
            self._asked_for = self._expected
            return Received(None, (self._head(0, AGAIN),), has_ended)
        self._expected += 1
        self._untold += len(payload)
        answers = (self.acknowledge(),) if self._untold >= ACK_EVERY else ()
        return Received(payload, answers, has_ended)

    def _handle_acknowledged(self, acknowledged: int, now: float) -> None:
        unacked = self._unacked
        while unacked and unacked[0][0] <= acknowledged:
            self.unacked_bytes -= len(unacked.popleft()[1])
            self._progress_at, self._pause = now, RESEND_AFTER
