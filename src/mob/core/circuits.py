"""Circuits: many links at a time over one trunk, each with a window of its own.

A link between two members on different machines is a Unix socket to the gateway at either end, and a circuit between
the gateways. Each end of a circuit has a number that its own gateway assigned (as the channels of SSH, RFC 4254); cells
carry the sender's number. Each end opens once, when its member is there, and closes once. Ends that meet are those of
one pair of members, in order: so two members that want each other at the same moment get one circuit, not two. For
that, requested ends of one pair are accepted or closed in the order of the requests, and before another of that pair is
opened. An end whose member is not there opens and closes at the same time.

A circuit may send as many bytes as its other end has room for; the reader gives room back. So a member that reads
slowly delays its own circuits and no others.

Bytes go in; bytes and events come out. The trunk makes sure that nothing is lost or duplicated.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

CELL = struct.Struct("<BII")  # kind, the sender's number of the circuit, length
PAIR = struct.Struct("<QQ")  # from, to
COUNT = struct.Struct("<I")
OPEN, DATA, CLOSE, ROOM = range(4)
WINDOW = 4 * 1024 * 1024
"""Bytes that a circuit may send before its other end has read some."""
GIVEN_BACK = WINDOW // 4
"""Bytes of room that are collected before they are given back."""


class Circuit:
    """One end of a circuit."""

    __slots__ = ("_owed", "has_closed", "has_opened", "local", "number", "other", "other_has_closed", "remote", "room")

    def __init__(self, number: int, local: int, remote: int) -> None:
        self.number: int = number
        self.local: int = local
        """Uid of the member here."""
        self.remote: int = remote
        """Uid of the member on the other machine."""
        self.other: int = 0
        """Number of the other end; 0 as long as it has not opened."""
        self.room: int = WINDOW
        """Number of bytes that may be sent."""
        self.has_opened: bool = False
        self.has_closed: bool = False
        self.other_has_closed: bool = False
        self._owed = 0  # bytes read here for which room was not given back yet

    def __repr__(self) -> str:
        return f"<Circuit {self.number} of {self.local} with {self.remote}, room for {self.room:,} bytes>"


class Wanted(NamedTuple):
    """The other end opened a circuit that is new here."""

    circuit: Circuit


class Came(NamedTuple):
    """Bytes for the member here."""

    circuit: Circuit
    data: memoryview


class Closed(NamedTuple):
    """The other end closed, after all that it sent."""

    circuit: Circuit


class HasRoom(NamedTuple):
    """More bytes may be sent."""

    circuit: Circuit


class Met(NamedTuple):
    """The other end opened a circuit that was opened here: the member there has its end of the link.

    If the circuit is closed at the same time, the member was not there.
    """

    circuit: Circuit


Happening = Wanted | Met | Came | Closed | HasRoom


class Circuits:
    """The circuits of one trunk."""

    def __init__(self) -> None:
        self._own: dict[int, Circuit] = {}
        self._others: dict[int, Circuit] = {}
        self._unmet: dict[tuple[int, int], deque[Circuit]] = {}  # opened here, not there yet, by (local, remote)
        self._last = 0
        self._cells: deque[bytes] = deque()
        self._size = 0

    def __repr__(self) -> str:
        return f"<Circuits {len(self._own)}, {self._size:,} bytes to send>"

    def __len__(self) -> int:
        return len(self._own)

    def __iter__(self) -> Iterator[Circuit]:
        return iter(list(self._own.values()))

    @property
    def has_cells(self) -> bool:
        """True if there is something to send."""
        return bool(self._cells)

    # -------------------------------------------------------------------------------------------- sending

    def open(self, local: int, remote: int) -> Circuit:
        """Open a circuit for a member here that wants a link to one there."""
        circuit = self._new(local, remote)
        self.accept(circuit)
        self._unmet.setdefault((local, remote), deque()).append(circuit)
        return circuit

    def accept(self, circuit: Circuit) -> None:
        """Confirm that the requested member here is there."""
        circuit.has_opened = True
        self._put(OPEN, circuit, PAIR.pack(circuit.local, circuit.remote))
        self.give_room(circuit, 0)  # for bytes that were taken before

    def send(self, circuit: Circuit, data: bytes) -> None:
        """Send bytes of the member here; not more than `room`."""
        circuit.room -= len(data)
        self._put(DATA, circuit, data)

    def close(self, circuit: Circuit) -> None:
        """Close an end: its member ended, closed its end, or was not there."""
        if not circuit.has_closed:
            circuit.has_closed = True
            if circuit.has_opened:
                self._put(CLOSE, circuit)
            else:
                self._turn_away(circuit)
            self._forget_if_over(circuit)

    def give_room(self, circuit: Circuit, count: int) -> None:
        """Note how many bytes the member here took."""
        circuit._owed += count  # pyright: ignore[reportPrivateUsage]
        owed = circuit._owed  # pyright: ignore[reportPrivateUsage]
        if owed >= GIVEN_BACK and circuit.has_opened and not circuit.has_closed:
            circuit._owed = 0  # pyright: ignore[reportPrivateUsage]
            self._put(ROOM, circuit, COUNT.pack(owed))

    def take(self, limit: int) -> bytes:
        """Return the next bytes to send, up to a limit, in whole cells. Larger data is cut."""
        taken: list[bytes] = []
        size = 0
        cells = self._cells
        if cells and CELL.size + len(cells[1]) > limit and cells[0][0] == DATA:
            self._cut(limit - CELL.size)
        while cells and (not taken or size + len(cells[0]) + len(cells[1]) <= limit):
            for _ in range(2):
                part = cells.popleft()
                size += len(part)
                taken.append(part)
        self._size -= size
        return b"".join(taken)

    def _cut(self, size: int) -> None:
        """Cut the first cell, which carries data, into two."""
        kind, number, length = CELL.unpack(self._cells.popleft())
        data = self._cells.popleft()
        self._cells.extendleft((data[size:], CELL.pack(kind, number, length - size)))
        self._cells.extendleft((data[:size], CELL.pack(kind, number, size)))
        self._size += CELL.size

    def _new(self, local: int, remote: int) -> Circuit:
        self._last += 1
        circuit = self._own[self._last] = Circuit(self._last, local, remote)
        return circuit

    def _turn_away(self, circuit: Circuit) -> None:
        """Open and close: two cells that travel as one, so that the other end sees at once that no member was there."""
        circuit.has_opened = True
        pair, close = PAIR.pack(circuit.local, circuit.remote), CELL.pack(CLOSE, circuit.number, 0)
        self._cells.append(CELL.pack(OPEN, circuit.number, len(pair)))
        self._cells.append(pair + close)
        self._size += CELL.size + len(pair) + len(close)

    def _put(self, kind: int, circuit: Circuit, data: bytes = b"") -> None:
        self._cells.append(CELL.pack(kind, circuit.number, len(data)))
        self._cells.append(data)
        self._size += CELL.size + len(data)

    # ------------------------------------------------------------------------------------------ receiving

    def handle(self, payload: memoryview) -> list[Happening]:
        """Return the events in data from the trunk; raise `ValueError` if it is invalid."""
        happenings: list[Happening] = []
        at, end = 0, len(payload)
        while at < end:
            if end - at < CELL.size:
                raise ValueError(f"a cell of {end - at} bytes")
            kind, number, length = CELL.unpack_from(payload, at)
            at += CELL.size
            data = payload[at : at + length]
            at += length
            if len(data) < length:
                raise ValueError(f"a cell that ends {length - len(data)} bytes early")
            if kind == OPEN and length == PAIR.size:
                happenings += self._handle_open(number, *PAIR.unpack(data))
                continue
            circuit = self._others.get(number)
            if circuit is None or circuit.other_has_closed:
                was = "was never opened" if circuit is None else "is closed"
                raise ValueError(f"a cell of kind {kind} for circuit {number}, which {was}")
            if kind == DATA:
                if not circuit.has_closed:
                    happenings.append(Came(circuit, data))
            elif kind == ROOM and length == COUNT.size:
                circuit.room += COUNT.unpack(data)[0]
                happenings.append(HasRoom(circuit))
            elif kind == CLOSE:
                circuit.other_has_closed = True
                happenings.append(Closed(circuit))
                self._forget_if_over(circuit)
            else:
                raise ValueError(f"a cell of kind {kind} with {length} bytes")
        return happenings

    def _handle_open(self, number: int, remote: int, local: int) -> list[Happening]:
        if number in self._others:
            raise ValueError(f"circuit {number} is opened twice")
        unmet = self._unmet.get((local, remote))
        if unmet:
            circuit = unmet.popleft()
            if not unmet:
                del self._unmet[local, remote]
            circuit.other = number
            self._others[number] = circuit
            return [Met(circuit)]
        circuit = self._new(local, remote)
        circuit.other = number
        self._others[number] = circuit
        return [Wanted(circuit)]

    def _forget_if_over(self, circuit: Circuit) -> None:
        if circuit.has_closed and circuit.other_has_closed:
            self._own.pop(circuit.number, None)
            self._others.pop(circuit.other, None)
