"""Gateways on the fake clock: their trunks are those of the product (`mob.cluster.trunks`), NATS loses their packets as
it loses letters, and a socket is a pair of `End`s.

A `Station` does what `cluster.gateway` does around the trunks, and dies at any moment: its sockets end with it, its
Kingpin sees that at once, and is told a moment later.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mob.cluster.trunks import Trunks
from mob.core.circuits import Circuit
from mob.core.membership import UNCONNECTED
from mob.core.routing import gateway_for
from mob.plan import GATEWAY
from mob.wire import messages as m
from tests.simulation.clock import Clock

if TYPE_CHECKING:
    from tests.simulation.cluster import Node

HOP = 0.0001
"""Seconds from one process of a machine to another."""


class End:
    """One end of a socket. What comes waits until somebody reads."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._unread: list[bytes] = []
        self._read: Callable[[bytes], None] | None = None
        self.other = self
        self.is_closed = False

    @staticmethod
    def pair(clock: Clock) -> tuple[End, End]:
        one, other = End(clock), End(clock)
        one.other, other.other = other, one
        return one, other

    def say(self, data: bytes) -> None:
        if not self.is_closed:
            self._clock.after(HOP, self.other.take, data)

    def close(self) -> None:
        """It ends for the other end, too; `b""` says so there."""
        if not self.is_closed:
            self.is_closed = True
            self._clock.after(HOP, self.other.take, b"")

    def take(self, data: bytes) -> None:
        self._unread.append(data)
        self._deliver()

    def read(self, reader: Callable[[bytes], None] | None) -> None:
        """Has all that comes read by that function, from the next moment on; by nobody for now, if there is none."""
        self._read = reader
        if self._unread:
            self._clock.after(0.0, self._deliver)

    def _deliver(self) -> None:
        while self._unread and self._read is not None and not self.is_closed:
            self._read(self._unread.pop(0))


class Joint:
    """A splice without a socket."""

    def __init__(
        self,
        reactor: object,
        number: int,
        end: End,
        circuit: Circuit,
        on_data: Callable[[Joint, bytes], None],
        on_taken: Callable[[Joint, int], None],
        on_end: Callable[[Joint], None],
    ) -> None:
        self.number = number
        self.circuit = circuit
        self._end, self._on_data, self._on_taken, self._on_end = end, on_data, on_taken, on_end

    def set_reading(self, wanted: bool) -> None:
        self._end.read(self._handle if wanted else None)

    def _handle(self, data: bytes) -> None:
        if data:
            self._on_data(self, data)
        else:
            self.close()

    def write(self, data: memoryview) -> None:
        self._end.say(bytes(data))
        self._on_taken(self, len(data))

    def end(self) -> None:
        self.close()

    def close(self) -> None:
        if not self._end.is_closed:
            self._end.close()
            self._on_end(self)


class Timer:
    """What a loop gives for something that is to happen."""

    def __init__(self) -> None:
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True


class Station:
    """A gateway. It is the loop, the reactor and the carrier of its trunks."""

    packet_limit = 64 * 1024

    def __init__(self, node: Node, uid: int) -> None:
        self.node = node
        self.uid = uid
        self.clock = node.clock
        self.why_not = UNCONNECTED
        self.is_dead = False
        self.loop = self
        self.address = uid.to_bytes(8)
        self._carried = 0
        post, reactor = self.post, self
        self.trunks = Trunks(
            reactor,  # type: ignore[arg-type]
            self,  # type: ignore[arg-type]
            lambda local, remote: post(m.Arriving(local, remote, self._carried)),
            lambda number: post(m.Taken(number)),
            lambda number: post(m.Hung(number)),
            lambda: self.clock.now,
            Joint,  # type: ignore[arg-type]
        )

    def __repr__(self) -> str:
        return f"<Station {self.uid & 0xFFFF} of {self.node.name}>"

    # of the loop

    def call_soon(self, function: Callable[..., object], *args: Any) -> Timer:
        return self.call_later(0.0, function, *args)

    def call_later(self, seconds: float, function: Callable[..., object], *args: Any) -> Timer:
        timer = Timer()
        self.clock.after(seconds, self._ring, timer, function, args)
        return timer

    def _ring(self, timer: Timer, function: Callable[..., object], args: tuple[Any, ...]) -> None:
        if not (timer.is_cancelled or self.is_dead):
            function(*args)

    def linger(self) -> None:
        pass

    # of the carrier

    def send(self, uid: int, packet: bytes) -> None:
        if not self.why_not:
            self.node.letters.carry(self, uid, packet)

    def receive(self, packet: bytes) -> None:
        if not (self.is_dead or self.why_not):
            self.trunks.handle_packet(int.from_bytes(packet[:8]), memoryview(packet)[8:])

    def connect(self, why_not: str) -> None:
        self.why_not = why_not
        if not why_not:
            self.trunks.resume()
        self.post(m.Connected(why_not))

    # of the gateway

    def post(self, message: m.Up) -> None:
        if not self.is_dead:
            self.clock.after(HOP, self.node.receive, self.node.hear_station, self, message)

    def handle(self, message: m.Down, end: End | None = None) -> None:
        """What the Kingpin says."""
        if self.is_dead:
            if end is not None:
                end.close()
            return
        match message:
            case m.JoinCluster():
                self.post(m.Connected(self.why_not))
            case m.Carry(number=number, local=local, remote=remote):
                self._carried = number
                able = [each.uid for each in self.node.roster.ready(GATEWAY)]
                there = [uid for uid in able if m.node_of(uid) == m.node_of(remote)]
                self.trunks.carry(number, local, remote, end, gateway_for(local, remote, there))  # type: ignore[arg-type]
            case m.Turned(local=local, remote=remote):
                self.trunks.turn_away(local, remote)
            case _:
                raise AssertionError(message)

    def forget(self, uid: int) -> None:
        if not self.is_dead:
            self.trunks.forget(uid)

    def die(self) -> None:
        """By SIGKILL: nothing more is said, and its sockets end."""
        self.is_dead = True
        for line in self.trunks._lines.values():
            for joint in list(line.splices.values()):
                joint._end.close()  # type: ignore[attr-defined]
