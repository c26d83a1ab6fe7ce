"""A trunk: what joins two gateways, over a carrier that may lose packets and never says so.

NATS delivers at most once: what a reconnect or a slow reader costs is gone, silently. A trunk makes of that a stream
that is whole and in order, or ends. Packets are numbered and kept until the other end has them (go-back-N with
cumulative acknowledgements, as in Tanenbaum's *Computer Networks*); so many bytes may be unacknowledged and no more.

Each end gives its half of the conversation a number, its *session*, and repeats the other's in every packet (as TCP
does with initial sequence numbers, Tomlinson 1975). Who has lost its place begins a new session; the other end sees
that, and both know that what was said before is over. Nothing is taken that does not repeat one's own number: so a
session belongs to one session of the other end and no more, and late packets cannot bring two ends to begin anew
because of each other for ever.

How many bytes may be under way is found out: more and more, as long as they are acknowledged within half a second, and
half as many when they are not. So a thin line has a short queue, and what is said next is not long behind it. (By delay
and not by loss, as in TCP Vegas, Brakmo and Peterson 1995: a line that does lose nothing.) When nothing comes back, the
first packet is sent once more, alone. It cannot overtake those sent before, so what its receiver then lacks is lost.
A stranger takes nothing, so one packet is sent to it and no more.

An end that has nothing to say, but is in use, asks now and then whether the other is still there: it might wait for
an answer from one that has begun anew and could not say so.

Bytes only; what they mean is `circuits`. No clock: `now` is passed in.
"""

from __future__ import annotations

import struct
from collections import deque
from typing import NamedTuple

HEAD = struct.Struct("<QQQQB")  # own session, the other's (0: not known), number, acknowledged, kind
ACK, DATA, AGAIN, PROBE, ALONE = range(5)
WINDOW = 8 * 1024 * 1024
"""Bytes that may be under way at most."""
FIRST_WINDOW = 256 * 1024
"""Bytes that may be under way at first; a line of 2 Mbit/s needs a second for them, and one to answer."""
LEAST_WINDOW = 128 * 1024
GROWTH = 8
"""After a window has shrunk once it grows so many times more slowly: its size is nearly found."""
SLOW = 0.5
"""Seconds until an acknowledgement beyond which less may be under way."""
ACK_EVERY = 512 * 1024
"""Bytes after whose arrival the other end is told at once."""
ACK_DELAY = 0.02
"""Seconds within which it is told anyway; mostly something goes back before that."""
RESEND_AFTER = 0.25
"""Seconds without any progress after which something is sent again, if that is more than twice what acknowledgements
take; doubled each time."""
RESEND_LIMIT = 1.0
RTT_WEIGHT = 0.125
"""What one measured time counts for in the average (as in RFC 6298)."""
LOST_AFTER = 3.0
"""Seconds without any progress after which the other end is taken to be gone."""
PROBE_AFTER = 1.0
"""Seconds of silence after which it is asked whether it is there, if this trunk is in use."""
STALL_GAP = 2.0
"""Seconds between two looks after which this process has stood still, and it was not the other end that was silent."""


class Received(NamedTuple):
    """What has come of a packet."""

    payload: memoryview | None = None
    """The next part of the stream."""
    answers: tuple[bytes, ...] = ()
    """Packets to be sent at once."""
    has_ended: bool = False
    """Whether the other end has begun anew: all that went over this trunk before is over."""


class Packet:
    """One that is not acknowledged."""

    __slots__ = ("number", "payload", "sent_at")

    def __init__(self, number: int, payload: bytes | memoryview, now: float) -> None:
        self.number: int = number
        self.payload: bytes | memoryview = payload
        self.sent_at: float | None = now
        """When it was sent; None if that was more than once."""

    def __repr__(self) -> str:
        return f"<Packet {self.number}, {len(self.payload):,} bytes>"


class Trunk:
    """One end."""

    __slots__ = (
        "_alone_after",
        "_asked_for",
        "_dead",
        "_expected",
        "_heard_at",
        "_is_bound",
        "_next",
        "_other",
        "_pause",
        "_prefix",
        "_progress_at",
        "_rtt",
        "_sent_at",
        "_shrunk_at",
        "_told",
        "_unacked",
        "_untold",
        "_window",
        "_woken_at",
        "session",
        "unacked_bytes",
    )

    def __init__(self, session: int, prefix: bytes = b"") -> None:
        self._prefix = prefix  # of every packet, for whoever delivers it; not there when it is received
        self.session: int = session
        """The number of this end's half; greater than that of any trunk that this gateway had with the other."""
        self._dead = 0  # sessions of the other end up to this one are over
        self._other = 0
        self._is_bound = False  # whether that one has spoken to this session, and so will to no other
        self._woken_at = 0.0
        self._begin()

    def __repr__(self) -> str:
        return f"<Trunk {self.session} to {self._other or 'nobody yet'}, {self.unacked_bytes:,} bytes under way>"

    def _begin(self) -> None:
        self._next = self._expected = 1
        self._told = 0  # the last number whose arrival was acknowledged
        self._untold = 0  # bytes that came after it
        self._asked_for = 0  # the number that was asked for again
        self._alone_after = 0  # the last number that was sent before a packet was sent again alone
        self._unacked: deque[Packet] = deque()
        self.unacked_bytes: int = 0
        """Bytes that the other end has not acknowledged."""
        self._progress_at = self._sent_at = self._heard_at = 0.0
        self._pause = RESEND_AFTER
        self._window = FIRST_WINDOW
        self._shrunk_at = 0.0
        self._rtt = 0.0

    @property
    def is_full(self) -> bool:
        """Whether nothing more should be sent for now. To a stranger goes one packet: it takes none, and answers."""
        return self.unacked_bytes >= self._window if self._other else self.is_waiting

    @property
    def packet_limit(self) -> int:
        """How long a packet should be at most: what goes through a thin line in small parts is seen to go through."""
        return self._window // 4

    @property
    def is_waiting(self) -> bool:
        """Whether something is not acknowledged: `wake` is to be called now and then."""
        return bool(self._unacked)

    @property
    def is_fresh(self) -> bool:
        """Whether nothing has gone through since this end began: whoever is at the other end has missed nothing."""
        return self._expected == 1 and (self._next == 1 or (self.is_waiting and self._unacked[0].number == 1))

    @property
    def owes_word(self) -> bool:
        """Whether something has come that was not acknowledged: `acknowledge` within ACK_DELAY."""
        return self._expected - 1 > self._told

    # -------------------------------------------------------------------------------------------- sending

    def send(self, payload: bytes | memoryview, now: float) -> bytes:
        """The packet with the next part of the stream."""
        number = self._next
        self._next += 1
        if not self._unacked:
            self._progress_at, self._sent_at, self._pause = now, now, self._patience
        self._unacked.append(Packet(number, payload, now))
        self.unacked_bytes += len(payload)
        return self._packet(number, payload)

    def acknowledge(self) -> bytes:
        """The packet that says what has come."""
        return self._head(0, ACK)

    def resend(self, now: float) -> list[bytes]:
        """All that is not acknowledged, once more: packets may have been lost."""
        self._sent_at = now
        for packet in self._unacked:
            packet.sent_at = None
        return [self._packet(packet.number, packet.payload) for packet in self._unacked]

    def resume(self, now: float, is_used: bool) -> list[bytes]:
        """The carrier was away and is back: what is not acknowledged, once more. If there is nothing, and the trunk is
        in use, both ends learn at once that the other is there; the next probe may come too late for that."""
        packets = self.resend(now)
        return packets or ([self._head(0, PROBE)] if is_used else [])

    def wake(self, now: float, is_used: bool = False) -> list[bytes] | None:
        """Time has passed: what is to be sent again; None if the other end is gone. `restart` follows then.

        `is_used`: somebody may be waiting for what the other end has to say."""
        if now - self._woken_at > STALL_GAP:
            self._progress_at = self._heard_at = now
        elif not self._heard_at:  # it has just begun
            self._heard_at = now
        self._woken_at = now
        if self._unacked:
            return self._wake_waiting(now)
        silence = now - self._heard_at
        if not is_used or silence < PROBE_AFTER or now - self._sent_at < PROBE_AFTER:
            return []
        if silence >= LOST_AFTER:
            return None
        self._sent_at = now
        return [self._head(0, PROBE)]

    def _wake_waiting(self, now: float) -> list[bytes] | None:
        if now - self._progress_at >= LOST_AFTER:
            return None
        if now - max(self._sent_at, self._progress_at) < self._pause:
            return []
        self._pause = min(2 * self._pause, max(RESEND_LIMIT, self._patience))
        self._shrink(now)
        self._sent_at = now
        self._alone_after = self._next - 1
        first = self._unacked[0]
        first.sent_at = None
        return [self._packet(first.number, first.payload, ALONE)]

    @property
    def _patience(self) -> float:
        return min(max(RESEND_AFTER, 2 * self._rtt), LOST_AFTER / 2)

    def _shrink(self, now: float) -> None:
        """Less may be under way; once for all that is."""
        if now - self._shrunk_at > max(self._rtt, SLOW):
            self._shrunk_at = now
            self._window = max(self._window // 2, LEAST_WINDOW)

    def restart(self) -> None:
        """Begins again: what is under way is given up, and what still comes of it is not heard.

        A session of the other end that has never spoken to this one may speak to the next: it does not know that there
        was one before, so it would wait in vain if it was not heard, and both would begin again because of that.
        """
        if self._is_bound:
            self._dead = max(self._dead, self._other)
        self._other, self._is_bound = 0, False
        self.session += 1
        self._begin()

    def _follow(self) -> None:
        """Begins again because the other end has: its session before is over."""
        self._is_bound = True
        self.restart()

    def _packet(self, number: int, payload: bytes | memoryview, kind: int = DATA) -> bytes:
        return b"".join((self._head(number, kind), payload))

    def _head(self, number: int, kind: int) -> bytes:
        self._told, self._untold = self._expected - 1, 0
        return self._prefix + HEAD.pack(self.session, self._other, number, self._told, kind)

    # ------------------------------------------------------------------------------------------ receiving

    def receive(self, packet: bytes | memoryview, now: float) -> Received:
        """A packet has come; garbage is not heard."""
        if len(packet) < HEAD.size:
            return Received()
        session, echo, number, acknowledged, kind = HEAD.unpack_from(packet)
        if session <= self._dead or session < self._other or not session:
            return Received(answers=(self.acknowledge(),))  # it learns from this that something new has begun
        if echo not in (0, self.session):
            return self._handle_stale(session, kind)
        answers: tuple[bytes, ...] = ()
        if session > self._other:
            if self._other and not (echo and self.is_fresh):
                self._follow()
                self._other, self._heard_at = session, now
                return Received(None, () if kind == ACK else (self.acknowledge(),), has_ended=True)
            self._other, self._progress_at = session, now
            self._is_bound = False
            answers = tuple(self.resend(now))  # what was said before it knew this end was not taken
        self._heard_at = now
        if not echo:
            return Received(None, answers if kind == ACK else (*answers, self.acknowledge()))
        self._is_bound = True
        self._handle_acknowledged(acknowledged, now)
        if kind in (DATA, ALONE):
            received = self._take(number, memoryview(packet)[HEAD.size :], answers)
            # All that was sent before it has arrived or is lost: what is missing is wanted now.
            return received if kind == DATA else received._replace(answers=(*answers, self._head(number, AGAIN)))
        if kind == AGAIN:
            # If all came that was sent before the one alone, nothing is lost; what was sent since is still under way.
            was_only_late = number > 0 and acknowledged >= self._alone_after
            return Received(answers=answers if was_only_late else tuple(self.resend(now)))
        return Received(None, (*answers, self.acknowledge()) if kind == PROBE else answers)

    def _handle_stale(self, session: int, kind: int) -> Received:
        """It speaks to what was here before. If it has not yet seen that this is over, it is told; not for an
        acknowledgement, lest two that misunderstand each other never stop."""
        has_ended = 0 != self._other < session
        if has_ended:
            self._follow()
        return Received(None, () if kind == ACK and not has_ended else (self.acknowledge(),), has_ended)

    def _take(self, number: int, payload: memoryview, answers: tuple[bytes, ...]) -> Received:
        if number != self._expected:
            if number < self._expected or self._asked_for == self._expected:
                return Received(None, (*answers, self.acknowledge()))
            self._asked_for = self._expected
            return Received(None, (*answers, self._head(0, AGAIN)))
        self._expected += 1
        self._untold += len(payload)
        if self._untold >= ACK_EVERY:
            answers = (*answers, self.acknowledge())
        return Received(payload, answers)

    def _handle_acknowledged(self, acknowledged: int, now: float) -> None:
        unacked = self._unacked
        if acknowledged >= self._next:
            return  # garbage
        while unacked and unacked[0].number <= acknowledged:
            packet = unacked.popleft()
            self.unacked_bytes -= len(packet.payload)
            self._progress_at = now
            if packet.sent_at is not None:  # of one that was sent twice it is not known which has arrived
                self._measure(now - packet.sent_at, len(packet.payload), now)
            self._pause = self._patience

    def _measure(self, seconds: float, size: int, now: float) -> None:
        self._rtt += RTT_WEIGHT * (seconds - self._rtt) if self._rtt else seconds
        if seconds > SLOW:
            self._shrink(now)
        else:
            self._window = min(self._window + (size // GROWTH if self._shrunk_at else size), WINDOW)
