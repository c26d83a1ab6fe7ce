"""All trunks of a gateway, and the links of this machine's members that are spliced to them.

Acts upon what `core.trunk` and `core.circuits` decide. What was said in one turn of the loop leaves in one packet for
each trunk, or in several if it is much. It is given its clock, its loop and its splices, so the simulation runs it too.
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
"""Seconds between two looks at whether packets have to be sent again."""
IDLE_INTERVAL = 1.0
"""Seconds between two looks at whether the other gateway is still there, while there are circuits."""
TOMBS = 1000
"""So many trunks of gateways that are gone are remembered: what still comes from there is known to be over."""


class TrunkLine:
    """A trunk to one other gateway, its circuits and splices."""

    def __init__(self, uid: int, trunk: Trunk) -> None:
        self.uid = uid
        """The other gateway."""
        self.trunk = trunk
        self.circuits: Circuits = Circuits()
        self.splices: dict[int, Splice] = {}
        """By the number of the circuit."""
        self.is_dirty = False
        """Whether it is to be flushed at the end of this turn."""
        self.is_acknowledging = False
        self.look: asyncio.TimerHandle | None = None
        """When it is looked at next."""
        self.is_idle = False
        """Whether that look is not urgent."""
        self.is_held = False
        """Whether no socket is read, for the trunk is full."""

    def __repr__(self) -> str:
        return f"<TrunkLine to {self.uid}, {self.trunk}, {self.circuits}>"


class Trunks:
    """All of them."""

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
        """The sizes of the tables."""
        lines = self._lines.values()
        return {
            "lines": len(self._lines),
            "circuits": sum(len(line.circuits) for line in lines),
            "splices": sum(len(line.splices) for line in lines),
            "unacknowledged": sum(line.trunk.unacked_bytes for line in lines),
        }

    # ------------------------------------------------------------------------------------------------ links

    def carry(self, number: int, local: int, remote: int, sock: socket.socket, gateway: int | None) -> None:
        """A link of a member here to one on another machine, whose gateway this is; None if there is none."""
        wanted = self._wanted.get((local, remote))
        if wanted:  # it was asked for, by the other machine
            line, circuit = wanted.popleft()
            if not wanted:
                del self._wanted[local, remote]
            self._on_taken(number)
            if m.is_kingpin(local):  # it does not speak first, as members do
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
        """The member here that was wanted is not there."""
        wanted = self._wanted.pop((local, remote), deque())
        for line, circuit in wanted:
            line.circuits.close(circuit)
            self._flush_soon(line)

    def forget(self, uid: int) -> None:
        """Another gateway is gone."""
        if (line := self._lines.pop(uid, None)) is not None:
            line.trunk.restart()
            self._hang_up(line)
            self._tombs[uid] = line.trunk  # it may come back, if it was only out of reach
            if len(self._tombs) > TOMBS:
                del self._tombs[next(iter(self._tombs))]
            self._carrier.send(uid, line.trunk.acknowledge())  # perhaps it misses nobody, and is to hang up as well

    def resume(self) -> None:
        """The connection is there again: what was said meanwhile is said now."""
        now = self._clock()
        for line in list(self._lines.values()):
            for packet in line.trunk.resume(now, is_used=len(line.circuits) > 0):
                self._carrier.send(line.uid, packet)
            self._flush_soon(line)

    def close(self) -> None:
        """Ends all links."""
        for uid in list(self._lines):
            self.forget(uid)

    def _line(self, uid: int) -> TrunkLine:
        line = self._lines.get(uid)
        if line is None:
            trunk = self._tombs.pop(uid, None) or Trunk(int(self._clock() * 1e9), self._carrier.address)
            line = self._lines[uid] = TrunkLine(uid, trunk)
        return line

    def _hang_up(self, line: TrunkLine) -> None:
        """All that went over this trunk is over."""
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
        """A member here has said something. With its first word it is known to be there."""
        if not splice.circuit.has_opened:
            line.circuits.accept(splice.circuit)
        line.circuits.send(splice.circuit, data)
        if splice.circuit.room <= 0:
            splice.set_reading(False)
        self._flush_soon(line)

    def _handle_taken(self, line: TrunkLine, splice: Splice, count: int) -> None:
        """A member here has been given something."""
        line.circuits.give_room(splice.circuit, count)
        if line.circuits.has_cells:
            self._flush_soon(line)

    def _handle_end(self, line: TrunkLine, splice: Splice) -> None:
        """The link of a member here has ended; if its trunk has, nobody is left to tell."""
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
        """Sends what there is, as far as the window reaches."""
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
            self._begin_anew(line)
            return
        for packet in packets:
            self._carrier.send(line.uid, packet)
        self._look_soon(line)

    def _begin_anew(self, line: TrunkLine) -> None:
        """The other end does not answer, or makes no sense. It is told, so that it hangs up as well."""
        line.trunk.restart()
        self._hang_up(line)
        self._carrier.send(line.uid, line.trunk.acknowledge())

    def handle_packet(self, uid: int, packet: memoryview) -> None:
        """Another gateway has sent something."""
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
                self._begin_anew(line)
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
        """What members here were given is mostly answered at once."""
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
