"""All trunks of a gateway, and the links of this machine's members that are spliced to them.

It carries out what `core.trunk` and `core.circuits` decide. Everything from one turn of the loop leaves in one packet
for each trunk, or in several if it is large. Clock, loop and splices are passed in, so the simulation runs this too.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING

from mob.cluster.splice import Splice
from mob.core.circuits import Came, Circuit, Circuits, Closed, Happening, HasRoom, Met, Wanted
from mob.core.trunk import ACK_DELAY, Trunk
from mob.rim.reactor import Reactor
from mob.wire import messages as m

if TYPE_CHECKING:
    from mob.cluster.carrier import Carrier

RESEND_INTERVAL = 0.1
"""Seconds between two checks whether packets must be sent again."""
IDLE_INTERVAL = 1.0
"""Seconds between two checks whether the other gateway is still there, while there are circuits."""
TOMBS = 1000
"""Maximum number of trunks to former gateways that are remembered, to recognize their late packets as outdated."""


class TrunkLine:
    """A trunk to one other gateway, its circuits and splices."""

    def __init__(self, uid: int, trunk: Trunk) -> None:
        self.uid = uid
        """The uid of the other gateway."""
        self.trunk = trunk
        self.circuits: Circuits = Circuits()
        self.splices: dict[int, Splice] = {}
        """The splices by the number of their circuit."""
        self.is_dirty = False
        """True if it must be flushed at the end of this turn."""
        self.is_acknowledging = False
        self.look: asyncio.TimerHandle | None = None
        """The timer of the next check."""
        self.is_idle = False
        """True if that check is not urgent."""
        self.is_held = False
        """True if no socket is read, because the trunk is full."""

    def __repr__(self) -> str:
        return f"<TrunkLine to {self.uid}, {self.trunk}, {self.circuits}>"


class Trunks:
    """The trunks of this gateway."""

    def __init__(
        self,
        reactor: Reactor,
        carrier: Carrier,
        on_arriving: Callable[[int, int], None],
        on_taken: Callable[[int], None],
        on_hung: Callable[[int], None],
        clock: Callable[[], float] = monotonic,
        splice: type[Splice] = Splice,
    ) -> None:
        self._reactor = reactor
        self._clock = clock
        self._splice = splice
        self._carrier = carrier
        self._on_arriving = on_arriving
        self._on_taken = on_taken
        self._on_hung = on_hung
        self._lines: dict[int, TrunkLine] = {}
        self._tombs: dict[int, Trunk] = {}
        self._dirty: list[TrunkLine] = []
        self._is_lingering = False
        self._wanted: dict[tuple[int, int], deque[tuple[TrunkLine, Circuit]]] = {}
        """Circuits that wait for a socket of the member here."""

    def __repr__(self) -> str:
        return f"<Trunks {len(self._lines)}>"

    def statistics(self) -> dict[str, int]:
        """Return the sizes of the tables."""
        lines = self._lines.values()
        return {
            "lines": len(self._lines),
            "circuits": sum(len(line.circuits) for line in lines),
            "splices": sum(len(line.splices) for line in lines),
            "unacknowledged": sum(line.trunk.unacked_bytes for line in lines),
        }

    # ------------------------------------------------------------------------------------------------ links

    def carry(self, number: int, local: int, remote: int, sock: socket.socket, gateway: int | None) -> None:
        """Carry a link of a member here to one on another machine, over that machine's `gateway`; None for none."""
        wanted = self._wanted.get((local, remote))
        if wanted:  # the other machine requested it
            line, circuit = wanted.popleft()
            if not wanted:
                del self._wanted[local, remote]
            self._on_taken(number)
            if m.is_kingpin(local):  # unlike a member it does not speak first
                line.circuits.accept(circuit)
        elif gateway is None:
            sock.close()
            self._on_hung(number)
            return
        else:
            line = self._line(gateway)
            circuit = line.circuits.open(local, remote)
        splice = self._splice(
            self._reactor,
            number,
            sock,
            circuit,
            partial(self._handle_data, line),
            partial(self._handle_taken, line),
            partial(self._handle_end, line),
        )
        line.splices[circuit.number] = splice
        if circuit.other_has_closed:
            splice.end()
        splice.set_reading(not line.is_held)
        self._flush_soon(line)

    def turn_away(self, local: int, remote: int) -> None:
        """Refuse circuits to a member here that does not exist."""
        wanted = self._wanted.pop((local, remote), deque())
        for line, circuit in wanted:
            line.circuits.close(circuit)
            self._flush_soon(line)

    def forget(self, uid: int) -> None:
        """End the trunk to another gateway, which left."""
        if (line := self._lines.pop(uid, None)) is not None:
            line.trunk.restart()
            self._hang_up(line)
            self._tombs[uid] = line.trunk  # it may come back, if it was only unreachable
            if len(self._tombs) > TOMBS:
                del self._tombs[next(iter(self._tombs))]
            self._carrier.send(uid, line.trunk.acknowledge())  # it may still think the trunk is open

    def resume(self) -> None:
        """Send what waited for the connection, which is back."""
        now = self._clock()
        for line in list(self._lines.values()):
            for packet in line.trunk.resume(now, is_used=len(line.circuits) > 0):
                self._carrier.send(line.uid, packet)
            self._flush_soon(line)

    def close(self) -> None:
        """End all links."""
        for uid in list(self._lines):
            self.forget(uid)

    def _line(self, uid: int) -> TrunkLine:
        line = self._lines.get(uid)
        if line is None:
            trunk = self._tombs.pop(uid, None) or Trunk(int(self._clock() * 1e9), self._carrier.address)
            line = self._lines[uid] = TrunkLine(uid, trunk)
        return line

    def _hang_up(self, line: TrunkLine) -> None:
        """End everything that went over this trunk."""
        line.circuits = Circuits()
        splices, line.splices = line.splices, {}
        for splice in splices.values():
            splice.close()
        for pair, wanted in list(self._wanted.items()):
            left = deque(each for each in wanted if each[0] is not line)
            if left:
                self._wanted[pair] = left
            else:
                del self._wanted[pair]

    # ------------------------------------------------------------------------------------- from the sockets

    def _handle_data(self, line: TrunkLine, splice: Splice, data: bytes) -> None:
        """Send data of a member here. Its first data shows that it is there."""
        if not splice.circuit.has_opened:
            line.circuits.accept(splice.circuit)
        line.circuits.send(splice.circuit, data)
        if splice.circuit.room <= 0:
            splice.set_reading(False)
        self._flush_soon(line)

    def _handle_taken(self, line: TrunkLine, splice: Splice, count: int) -> None:
        """Give the other end room, because a member here took data."""
        line.circuits.give_room(splice.circuit, count)
        if line.circuits.has_cells:
            self._flush_soon(line)

    def _handle_end(self, line: TrunkLine, splice: Splice) -> None:
        """Handle the end of a member's link; if its trunk ended, there is no one left to notify."""
        if line.splices.pop(splice.circuit.number, None) is not None:
            line.circuits.close(splice.circuit)
            self._flush_soon(line)
        self._on_hung(splice.number)

    # ------------------------------------------------------------------------------------------ the packets

    def _flush_soon(self, line: TrunkLine) -> None:
        if not line.is_dirty:
            line.is_dirty = True
            if not self._dirty:
                self._reactor.loop.call_soon(self._flush)
            self._dirty.append(line)

    def _flush(self) -> None:
        dirty, self._dirty = self._dirty, []
        for line in dirty:
            line.is_dirty = False
            self._flush_line(line)

    def _flush_line(self, line: TrunkLine) -> None:
        """Send what waits, as far as the window allows."""
        trunk, circuits, carrier = line.trunk, line.circuits, self._carrier
        now = self._clock()
        while circuits.has_cells and not trunk.is_full:
            limit = min(carrier.packet_limit, trunk.packet_limit)
            carrier.send(line.uid, trunk.send(circuits.take(limit), now))
        if trunk.is_full != line.is_held:
            line.is_held = trunk.is_full
            for splice in line.splices.values():
                splice.set_reading(not line.is_held and splice.circuit.room > 0)
        if (trunk.is_waiting and line.is_idle) or (line.look is None and (trunk.is_waiting or len(circuits))):
            self._look_soon(line)

    def _look_soon(self, line: TrunkLine) -> None:
        if line.look is not None:
            line.look.cancel()
        line.is_idle = not line.trunk.is_waiting
        line.look = self._reactor.loop.call_later(IDLE_INTERVAL if line.is_idle else RESEND_INTERVAL, self._look, line)

    def _look(self, line: TrunkLine) -> None:
        line.look = None
        is_used = len(line.circuits) > 0
        if self._lines.get(line.uid) is not line or not (line.trunk.is_waiting or is_used):
            return
        packets = line.trunk.wake(self._clock(), is_used)
        if packets is None:
            self._restart(line)
            return
        for packet in packets:
            self._carrier.send(line.uid, packet)
        self._look_soon(line)

    def _restart(self, line: TrunkLine) -> None:
        """Restart a trunk whose other end does not answer or sends nonsense, and notify it so that it does the same."""
        line.trunk.restart()
        self._hang_up(line)
        self._carrier.send(line.uid, line.trunk.acknowledge())

    def handle_packet(self, uid: int, packet: memoryview) -> None:
        """Handle a packet of another gateway."""
        line = self._line(uid)
        trunk = line.trunk
        received = trunk.receive(packet, self._clock())
        if received.has_ended:
            self._hang_up(line)
        for answer in received.answers:
            self._carrier.send(uid, answer)
        if received.payload is not None:
            try:
                happenings = line.circuits.handle(received.payload)
            except ValueError:
                self._restart(line)
                return
            for happening in happenings:
                self._handle(line, happening)
            if not self._is_lingering:
                self._is_lingering = True
                self._reactor.loop.call_soon(self._linger)
        if line.circuits.has_cells or line.is_held:
            self._flush_soon(line)
        if trunk.owes_word and not line.is_acknowledging:
            line.is_acknowledging = True
            self._reactor.loop.call_later(ACK_DELAY, self._acknowledge, line)

    def _linger(self) -> None:
        """Wait briefly for answers: members usually answer at once."""
        self._is_lingering = False
        self._reactor.linger()

    def _acknowledge(self, line: TrunkLine) -> None:
        line.is_acknowledging = False
        if line.trunk.owes_word:
            self._carrier.send(line.uid, line.trunk.acknowledge())

    def _handle(self, line: TrunkLine, happening: Happening) -> None:
        circuit = happening.circuit
        splice = line.splices.get(circuit.number)
        match happening:
            case Wanted():
                pair = (circuit.local, circuit.remote)
                self._wanted.setdefault(pair, deque()).append((line, circuit))
                self._on_arriving(*pair)
            case Met():
                if splice is not None and not circuit.other_has_closed:
                    self._on_taken(splice.number)
            case Came(data=data):
                if splice is not None:
                    splice.write(data)
            case Closed():
                if splice is not None:
                    splice.end()
                elif not self._is_wanted(circuit):
                    line.circuits.close(circuit)
            case HasRoom():
                if splice is not None and not line.is_held:
                    splice.set_reading(circuit.room > 0)

    def _is_wanted(self, circuit: Circuit) -> bool:
        return any(each is circuit for _, each in self._wanted.get((circuit.local, circuit.remote), ()))
