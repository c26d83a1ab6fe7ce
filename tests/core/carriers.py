"""Two ends of a trunk, and a carrier between them that loses, repeats, delays and overtakes, or is thin; by a seed.

An `End` does on a small scale what `mob.cluster.trunks` does around a trunk. It checks the guarantee: of what one
end has sent since it began, the other gets a complete beginning, in order, once, and never mixed with anything else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from heapq import heappop, heappush
from random import Random
from typing import Any

from mob.core.trunk import ACK_DELAY, ALONE, DATA, HEAD, Trunk

LOOK = 0.1
LATENCY = 0.001
PREFIX = b"to deliver"


@dataclass
class Faults:
    """The faults that the carrier inflicts on packets."""

    loss: float = 0.0
    repetition: float = 0.0
    delay: float = 0.0
    """Maximum seconds by which a packet is late, so that others overtake it."""
    is_cut: bool = False
    rate: float = 0.0
    """Bytes a second that the line carries in each direction; the others wait in a queue. 0: no limit."""


class Carrier:
    """A simulated carrier: time, chance and packets."""

    def __init__(self, seed: int = 0, faults: Faults | None = None) -> None:
        self.now = 1000.0
        self.random = Random(seed)
        self.faults = faults or Faults()
        self.packets = 0
        self._free_at: dict[str, float] = {}  # time at which the queue of the line to an end is empty
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._count = 0

    def after(self, seconds: float, action: Callable[..., None], *args: Any) -> None:
        self._count += 1
        heappush(self._heap, (self.now + seconds, self._count, action, args))

    def carry(self, to: End, packet: bytes) -> None:
        self.packets += 1
        faults, luck = self.faults, self.random.random
        assert packet.startswith(PREFIX)
        data = memoryview(packet)[len(PREFIX) :]
        for _ in range(1 + (luck() < faults.repetition)):
            if not faults.is_cut and luck() >= faults.loss:
                self.after(self._queue(to, len(packet)) + LATENCY + luck() * faults.delay, to.receive, data)

    def stand_still(self, end: End, seconds: float) -> None:
        """Suspend one end for a while; packets for it wait."""
        end.still_until = self.now + seconds

    def _queue(self, to: End, size: int) -> float:
        """Return the seconds until a packet has left."""
        if not self.faults.rate:
            return 0.0
        self._free_at[to.name] = max(self.now, self._free_at.get(to.name, 0.0)) + size / self.faults.rate
        return self._free_at[to.name] - self.now

    def run(self, seconds: float) -> None:
        """Let time pass."""
        until = self.now + seconds
        while self._heap and self._heap[0][0] <= until:
            self.now, _, action, args = heappop(self._heap)
            action(*args)
        self.now = until


class End:
    """One end: what it sent and received since it began, and what it did before."""

    def __init__(self, name: str, session: int, carrier: Carrier, is_used: bool = True) -> None:
        self.name = name
        self.carrier = carrier
        self.trunk = Trunk(session, PREFIX)
        self.other: End = self
        self.is_used = is_used
        self.epoch = 0
        self.said = 0
        self.unsent: list[bytes] = []
        self.heard: list[bytes] = []
        self.all_heard: set[bytes] = set()
        self.still_until = 0.0
        self.most_under_way = 0
        self.parts = 0
        """Number of packets with a part of the stream that it sent."""
        self.parts_again = 0
        """Number of those packets that were sent again."""
        self._parts: set[tuple[int, int]] = set()
        self._is_acknowledging = False
        carrier.after(LOOK, self._look)

    def __repr__(self) -> str:
        return f"<End {self.name}.{self.epoch}, {self.trunk}>"

    def send(self, packet: bytes) -> None:
        session, _, number, _, kind = HEAD.unpack_from(packet, len(PREFIX))
        if kind in (DATA, ALONE):
            self.parts += 1
            self.parts_again += (session, number) in self._parts
            self._parts.add((session, number))
        self.carrier.carry(self.other, packet)

    # what it does

    def say(self, size: int = 0) -> None:
        """Send the next message, which differs from all others."""
        self.unsent.append(f"{self.name} {self.epoch} {self.said} ".encode().ljust(size, b"."))
        self.said += 1
        self.flush()

    def flush(self) -> None:
        while self.unsent and not self.trunk.is_full:
            self.send(self.trunk.send(self.unsent.pop(0), self.carrier.now))
            self.most_under_way = max(self.most_under_way, self.trunk.unacked_bytes)

    def give_up(self) -> None:
        """Restart by itself."""
        self.trunk.restart()
        self._end()
        self.send(self.trunk.acknowledge())

    def _end(self) -> None:
        self.epoch += 1
        self.said = 0
        self.unsent.clear()
        self.heard.clear()

    def _look(self) -> None:
        if self.carrier.now < self.still_until:
            self.carrier.after(self.still_until - self.carrier.now, self._look)
            return
        packets = self.trunk.wake(self.carrier.now, self.is_used)
        if packets is None:
            self.give_up()
        for packet in packets or ():
            self.send(packet)
        self.carrier.after(LOOK, self._look)

    # what happens

    def receive(self, packet: memoryview) -> None:
        if self.carrier.now < self.still_until:
            self.carrier.after(self.still_until - self.carrier.now, self.receive, packet)
            return
        received = self.trunk.receive(packet, self.carrier.now)
        assert not (received.has_ended and received.payload), "what ends brings nothing"
        if received.has_ended:
            self._end()
        for answer in received.answers:
            self.send(answer)
        if received.payload is not None:
            self._hear(bytes(received.payload))
        self.flush()
        if self.trunk.owes_word and not self._is_acknowledging:
            self._is_acknowledging = True
            self.carrier.after(ACK_DELAY, self._acknowledge)

    def _acknowledge(self) -> None:
        self._is_acknowledging = False
        if self.trunk.owes_word and self.carrier.now >= self.still_until:
            self.send(self.trunk.acknowledge())

    def _hear(self, said: bytes) -> None:
        _, epoch, number, *_ = said.split(b" ")
        assert said not in self.all_heard, f"{said[:40]!r} came twice"
        assert int(number) == len(self.heard), f"{said[:40]!r} came as number {len(self.heard)}"
        assert not self.heard or self.heard[0].split(b" ")[1] == epoch, (
            f"{said[:40]!r} was mixed with {self.heard[0]!r}"
        )
        self.all_heard.add(said)
        self.heard.append(said)


def joined(seed: int = 0, faults: Faults | None = None, is_used: bool = True) -> tuple[Carrier, End, End]:
    """Two ends and a carrier between them."""
    carrier = Carrier(seed, faults)
    left, right = End("left", 10, carrier, is_used), End("right", 700, carrier, is_used)
    left.other, right.other = right, left
    return carrier, left, right


def check_agreed(left: End, right: End) -> None:
    """Return True if all that was sent since both began has arrived."""
    for one, other in ((left, right), (right, left)):
        assert not one.unsent
        assert not one.trunk.is_waiting
        assert len(other.heard) == one.said
        assert all(int(each.split(b" ")[1]) == one.epoch for each in other.heard)
