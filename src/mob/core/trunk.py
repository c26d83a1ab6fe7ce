"""A trunk: the connection of two gateways, over a carrier that may lose packets without notice.

NATS delivers at most once: what a reconnect or a slow reader costs is lost silently. A trunk turns that into a stream
that is complete and in order, or ends. Packets are numbered and kept until the other end has them (go-back-N with
cumulative acknowledgements, as in Tanenbaum's *Computer Networks*); the number of unacknowledged bytes is limited.

Each end gives its half of the conversation a number, its *session*, and repeats the other's in every packet (as TCP
does with initial sequence numbers, Tomlinson 1975). An end that lost its place begins a new session; the other end sees
that, and both know that what was sent before is over. No packet is accepted that does not repeat the receiver's own
number: so a session belongs to exactly one session of the other end, and late packets cannot make two ends restart
because of each other forever.

The number of bytes that may be under way is found by trial: it grows as long as they are acknowledged within half a
second, and halves when they are not. So a slow line has a short queue, and the next packet is not long behind it. (By
delay and not by loss, as in TCP Vegas, Brakmo and Peterson 1995: a line that does lose nothing.) When no
acknowledgement comes, the first packet is sent once more, alone. It cannot overtake those sent before, so what its
receiver then lacks is lost. An end that does not know this one yet accepts no data, so it is sent only one packet.

An end that has nothing to send, but is in use, asks from time to time if the other is still there: it might wait for an
answer from one that restarted and could not say so.

It handles bytes only; what they mean is up to `circuits`. No clock: `now` is passed in.
"""

from __future__ import annotations

import struct
from collections import deque
from typing import NamedTuple

HEAD = struct.Struct("<QQQQB")  # own session, the other's (0: not known), number, acknowledged, kind
ACK, DATA, AGAIN, PROBE, ALONE = range(5)
WINDOW = 8 * 1024 * 1024
"""Maximum number of bytes that may be under way."""
FIRST_WINDOW = 256 * 1024
"""Bytes that may be under way at first; a line of 2 Mbit/s needs a second for them, and one to answer."""
LEAST_WINDOW = 128 * 1024
GROWTH = 8
"""Factor by which a window grows more slowly after it shrank once: its size is almost found."""
SLOW = 0.5
"""Seconds until an acknowledgement beyond which fewer bytes may be under way."""
ACK_EVERY = 512 * 1024
"""Bytes after whose arrival an acknowledgement is sent at once."""
ACK_DELAY = 0.02
"""Seconds within which an acknowledgement is sent anyway; mostly a packet goes back before that."""
RESEND_AFTER = 0.25
"""Seconds without progress after which a packet is sent again; doubled each time.

The time is longer if twice the usual time of an acknowledgement is.
"""
RESEND_LIMIT = 1.0
RTT_WEIGHT = 0.125
"""Weight of one measured time in the average (as in RFC 6298)."""
LOST_AFTER = 3.0
"""Seconds without progress after which the other end is considered gone."""
PROBE_AFTER = 1.0
"""Seconds of silence after which a trunk in use asks if the other end is there."""
STALL_GAP = 2.0
"""Seconds between two checks beyond which this process was suspended, and it was not the other end that was silent."""


class Received(NamedTuple):
    """The result of a packet that came in."""

    payload: memoryview | None = None
    """The next part of the stream."""
    answers: tuple[bytes, ...] = ()
    """Packets to send at once."""
    has_ended: bool = False
    """True if the other end restarted: all that went over this trunk before is over."""


class Packet:
    """A packet that is not acknowledged."""

    __slots__ = ("number", "payload", "sent_at")

    def __init__(self, number: int, payload: bytes | memoryview, now: float) -> None:
        self.number: int = number
        self.payload: bytes | memoryview = payload
        self.sent_at: float | None = now
        """Time at which it was sent; None if it was sent more than once."""

    def __repr__(self) -> str:
        return f"<Packet {self.number}, {len(self.payload):,} bytes>"


class Trunk:
    """One end of a trunk."""

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
        self._prefix = prefix  # before every packet, for the carrier; removed before it is received
        self.session: int = session
        """Number of this end's half; greater than that of any trunk that this gateway had with the other."""
        self._dead = 0  # sessions of the other end up to this one are over
        self._other = 0
        self._is_bound = False  # True if that session has spoken to this one: it will speak to no other
        self._woken_at = 0.0
        self._begin()

    def __repr__(self) -> str:
        return f"<Trunk {self.session} to {self._other or 'no session yet'}, {self.unacked_bytes:,} bytes under way>"

    def _begin(self) -> None:
        self._next = self._expected = 1
        self._told = 0  # the last number whose arrival was acknowledged
        self._untold = 0  # bytes that came after that
        self._asked_for = 0  # the number that was requested again
        self._alone_after = 0  # the last number that was sent before a packet was sent again alone
        self._unacked: deque[Packet] = deque()
        self.unacked_bytes: int = 0
        """Number of bytes that the other end has not acknowledged."""
        self._progress_at = self._sent_at = self._heard_at = 0.0
        self._pause = RESEND_AFTER
        self._window = FIRST_WINDOW
        self._shrunk_at = 0.0
        self._rtt = 0.0

    @property
    def is_full(self) -> bool:
        """True if nothing more should be sent for now. An unknown other end gets one packet only, which it answers."""
        return self.unacked_bytes >= self._window if self._other else self.is_waiting

    @property
    def packet_limit(self) -> int:
        """Maximum size of a packet: small parts make progress visible on a slow line."""
        return self._window // 4

    @property
    def is_waiting(self) -> bool:
        """True if a packet is not acknowledged: `wake` has to be called from time to time."""
        return bool(self._unacked)

    @property
    def is_fresh(self) -> bool:
        """True if nothing has come through since this end began: the other end has missed nothing."""
        return self._expected == 1 and (self._next == 1 or (self.is_waiting and self._unacked[0].number == 1))

    @property
    def owes_word(self) -> bool:
        """True if data came in that was not acknowledged: call `acknowledge` within ACK_DELAY."""
        return self._expected - 1 > self._told

    # -------------------------------------------------------------------------------------------- sending

    def send(self, payload: bytes | memoryview, now: float) -> bytes:
        """Return the packet with the next part of the stream."""
        number = self._next
        self._next += 1
        if not self._unacked:
            self._progress_at, self._sent_at, self._pause = now, now, self._patience
        self._unacked.append(Packet(number, payload, now))
        self.unacked_bytes += len(payload)
        return self._packet(number, payload)

    def acknowledge(self) -> bytes:
        """Return the packet that acknowledges what came in."""
        return self._head(0, ACK)

    def resend(self, now: float) -> list[bytes]:
        """Return all unacknowledged packets once more: some may be lost."""
        self._sent_at = now
        for packet in self._unacked:
            packet.sent_at = None
        return [self._packet(packet.number, packet.payload) for packet in self._unacked]

    def resume(self, now: float, is_used: bool) -> list[bytes]:
        """Return the packets to send when the carrier is back after an interruption.

        They are the unacknowledged ones. If there are none, and the trunk is in use, a probe tells both ends at once
        that the other is there; the next regular probe may come too late for that.
        """
        packets = self.resend(now)
        return packets or ([self._head(0, PROBE)] if is_used else [])

    def wake(self, now: float, is_used: bool = False) -> list[bytes] | None:
        """Return the packets to send again by now; None if the other end is lost. Then `restart` follows.

        `is_used`: a member may be waiting for data from the other end.
        """
        if now - self._woken_at > STALL_GAP:
            self._progress_at = self._heard_at = now
        elif not self._heard_at:  # this end has just begun
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
        """Reduce the window; once for all packets that are under way."""
        if now - self._shrunk_at > max(self._rtt, SLOW):
            self._shrunk_at = now
            self._window = max(self._window // 2, LEAST_WINDOW)

    def restart(self) -> None:
        """Begin a new session: drop what is under way, and ignore what still comes of it.

        A session of the other end that has never spoken to this one may speak to the next: it does not know that there
        was one before, so it would wait without success if it was ignored, and both would restart because of that.
        """
        if self._is_bound:
            self._dead = max(self._dead, self._other)
        self._other, self._is_bound = 0, False
        self.session += 1
        self._begin()

    def _follow(self) -> None:
        """Begin a new session because the other end did: its previous one is over."""
        self._is_bound = True
        self.restart()

    def _packet(self, number: int, payload: bytes | memoryview, kind: int = DATA) -> bytes:
        return b"".join((self._head(number, kind), payload))

    def _head(self, number: int, kind: int) -> bytes:
        self._told, self._untold = self._expected - 1, 0
        return self._prefix + HEAD.pack(self.session, self._other, number, self._told, kind)

    # ------------------------------------------------------------------------------------------ receiving

    def receive(self, packet: bytes | memoryview, now: float) -> Received:
        """Handle a packet; ignore invalid data."""
        if len(packet) < HEAD.size:
            return Received()
        session, echo, number, acknowledged, kind = HEAD.unpack_from(packet)
        if session <= self._dead or session < self._other or not session:
            return Received(answers=(self.acknowledge(),))  # this shows it that a new session has begun
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
            answers = tuple(self.resend(now))  # packets sent before it knew this end were not accepted
        self._heard_at = now
        if not echo:
            return Received(None, answers if kind == ACK else (*answers, self.acknowledge()))
        self._is_bound = True
        self._handle_acknowledged(acknowledged, now)
        if kind in (DATA, ALONE):
            received = self._take(number, memoryview(packet)[HEAD.size :], answers)
            # All that was sent before it has arrived or is lost: request what is missing.
            return received if kind == DATA else received._replace(answers=(*answers, self._head(number, AGAIN)))
        if kind == AGAIN:
            # If all that was sent before the packet alone came, nothing is lost; later packets are still under way.
            was_only_late = number > 0 and acknowledged >= self._alone_after
            return Received(answers=answers if was_only_late else tuple(self.resend(now)))
        return Received(None, (*answers, self.acknowledge()) if kind == PROBE else answers)

    def _handle_stale(self, session: int, kind: int) -> Received:
        """Handle a packet for a session that is over: tell the other end if it does not know that yet.

        An acknowledgement is not answered, so that two ends that misunderstand each other stop at some time.
        """
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
            return  # invalid
        while unacked and unacked[0].number <= acknowledged:
            packet = unacked.popleft()
            self.unacked_bytes -= len(packet.payload)
            self._progress_at = now
            if packet.sent_at is not None:  # if it was sent twice, it is unknown which one arrived
                self._measure(now - packet.sent_at, len(packet.payload), now)
            self._pause = self._patience

    def _measure(self, seconds: float, size: int, now: float) -> None:
        self._rtt += RTT_WEIGHT * (seconds - self._rtt) if self._rtt else seconds
        if seconds > SLOW:
            self._shrink(now)
        else:
            self._window = min(self._window + (size // GROWTH if self._shrunk_at else size), WINDOW)
