"""Circuits: each brings its bytes to the right member, meets its other end, ends once, and waits for no other."""

from __future__ import annotations

from collections import defaultdict
from itertools import count
from random import Random

import pytest
from hypothesis import given, settings, strategies as st

from mob.core.circuits import (
    CELL,
    CLOSE,
    COUNT,
    DATA,
    GIVEN_BACK,
    OPEN,
    PAIR,
    ROOM,
    WINDOW,
    Came,
    Circuit,
    Circuits,
    Closed,
    Happening,
    HasRoom,
    Met,
    Wanted,
)

LIMIT = 64 * 1024


def cell(kind: int, number: int, data: bytes = b"") -> bytes:
    return CELL.pack(kind, number, len(data)) + data


def carry(one: Circuits, other: Circuits) -> list[Happening]:
    """Deliver everything that one side has to send to the other."""
    happenings: list[Happening] = []
    while one.has_cells:
        happenings += other.handle(memoryview(one.take(LIMIT)))
    return happenings


@pytest.fixture
def pair() -> tuple[Circuits, Circuits, Circuit, Circuit]:
    """Two gateways, and both ends of a circuit of member 1 with member 2."""
    here, there = Circuits(), Circuits()
    near = here.open(1, 2)
    (wanted,) = carry(here, there)
    assert isinstance(wanted, Wanted)
    there.accept(wanted.circuit)
    assert carry(there, here) == [Met(near)]
    return here, there, near, wanted.circuit


# --- byte by byte -----------------------------------------------------------------------------------------------------


def test_cells() -> None:
    here = Circuits()
    circuit = here.open(1, 2)
    here.send(circuit, b"abc")
    here.close(circuit)
    assert here.take(LIMIT) == cell(OPEN, 1, PAIR.pack(1, 2)) + cell(DATA, 1, b"abc") + cell(CLOSE, 1)
    assert not here.has_cells
    assert repr(circuit) == "<Circuit 1 of 1 with 2, room for 4,194,301 bytes>"


def test_an_end_that_is_wanted_opens_when_it_is_accepted() -> None:
    here, there = Circuits(), Circuits()
    near = here.open(1, 2)
    (wanted,) = carry(here, there)
    assert isinstance(wanted, Wanted)
    assert not wanted.circuit.has_opened
    assert not there.has_cells
    there.accept(wanted.circuit)
    assert there.take(LIMIT) == cell(OPEN, 1, PAIR.pack(2, 1))
    assert near.other == 0


def turned_away() -> tuple[Circuits, Circuits, Circuit, Circuit]:
    """Member 1 wants member 2, which is not there."""
    here, there = Circuits(), Circuits()
    near = here.open(1, 2)
    (wanted,) = carry(here, there)
    there.close(wanted.circuit)
    return here, there, near, wanted.circuit


def test_one_that_is_not_there_opens_and_closes_in_one_breath() -> None:
    here, there, near, far = turned_away()
    there.close(far)
    packet = there.take(LIMIT)
    assert packet == cell(OPEN, 1, PAIR.pack(2, 1)) + cell(CLOSE, 1)
    assert repr(there) == "<Circuits 1, 0 bytes to send>"
    assert here.handle(memoryview(packet)) == [Met(near), Closed(near)]
    assert near.other_has_closed, "before any of it is acted upon"
    here.close(near)
    assert carry(here, there) == [Closed(far)]
    assert len(here) == len(there) == 0


@pytest.mark.parametrize("limit", [1, CELL.size + PAIR.size, 2 * CELL.size + PAIR.size, 60, LIMIT])
def test_that_breath_is_never_divided(limit: int) -> None:
    _, there, near, far = turned_away()
    other = there.open(5, 6)
    there.send(other, bytes(30))
    packets = [there.take(limit)]
    while there.has_cells:
        packets.append(there.take(max(limit, 60)))
    assert packets[0].startswith(cell(OPEN, far.number, PAIR.pack(2, 1)) + cell(CLOSE, far.number))
    whole = Circuits()
    whole.open(near.local, near.remote)
    kinds = [type(each) for packet in packets for each in whole.handle(memoryview(packet))]
    assert kinds[:3] == [Met, Closed, Wanted]


def test_what_was_sent_before_it_was_turned_away_is_not_heard() -> None:
    here, there, near, _ = turned_away()
    here.send(near, b"to nobody")
    assert carry(here, there) == []


def test_who_closes_before_it_is_accepted_is_met_all_the_same() -> None:
    here, there = Circuits(), Circuits()
    near = here.open(1, 2)
    here.send(near, b"last words")
    here.close(near)
    wanted, came, closed = carry(here, there)
    assert came == Came(wanted.circuit, memoryview(b"last words"))
    assert closed == Closed(wanted.circuit)
    there.accept(wanted.circuit)
    there.close(wanted.circuit)
    assert carry(there, here) == [Met(near), Closed(near)]
    assert len(here) == len(there) == 0


def test_both_ends_know_each_other(pair: tuple[Circuits, Circuits, Circuit, Circuit]) -> None:
    here, there, near, far = pair
    assert (far.local, far.remote) == (2, 1)
    assert (near.other, far.other) == (far.number, near.number)
    assert len(here) == len(there) == 1
    assert repr(here) == "<Circuits 1, 0 bytes to send>"


def test_bytes_in_both_directions(pair: tuple[Circuits, Circuits, Circuit, Circuit]) -> None:
    here, there, near, far = pair
    here.send(near, b"there")
    there.send(far, b"and back")
    assert carry(here, there) == [Came(far, memoryview(b"there"))]
    assert carry(there, here) == [Came(near, memoryview(b"and back"))]


def test_each_end_closes(pair: tuple[Circuits, Circuits, Circuit, Circuit]) -> None:
    here, there, near, far = pair
    here.send(near, b"last")
    here.close(near)
    here.close(near)
    there.send(far, b"to nobody")
    assert carry(here, there) == [Came(far, memoryview(b"last")), Closed(far)]
    assert carry(there, here) == []
    there.close(far)
    assert carry(there, here) == [Closed(near)]
    assert len(here) == len(there) == 0


def test_whoever_is_closed_before_it_is_met(pair: tuple[Circuits, Circuits, Circuit, Circuit]) -> None:
    here, there, _, _ = pair
    first = here.open(1, 2)
    here.close(first)
    second = here.open(1, 2)
    happenings = carry(here, there)
    assert [type(each) for each in happenings] == [Wanted, Closed, Wanted]
    for each in (happenings[0], happenings[2]):
        there.accept(each.circuit)
    assert carry(there, here) == [Met(first), Met(second)]
    assert second.other == happenings[2].circuit.number
    there.close(happenings[0].circuit)
    assert carry(there, here) == [Closed(first)]
    assert len(here) == len(there) == 2


def test_two_that_want_each_other_at_once_get_one_circuit() -> None:
    here, there = Circuits(), Circuits()
    near, far = here.open(1, 2), there.open(2, 1)
    first, second = here.take(LIMIT), there.take(LIMIT)
    assert here.handle(memoryview(second)) == [Met(near)]
    assert there.handle(memoryview(first)) == [Met(far)]
    assert (near.other, far.other) == (far.number, near.number)
    assert not here.has_cells
    assert not there.has_cells


def test_two_circuits_of_one_pair_meet_in_order() -> None:
    here, there = Circuits(), Circuits()
    near, far = [here.open(1, 2) for _ in range(3)], [there.open(2, 1) for _ in range(2)]
    first, second = here.take(LIMIT), there.take(LIMIT)
    assert here.handle(memoryview(second)) == [Met(near[0]), Met(near[1])]
    *met, wanted = there.handle(memoryview(first))
    assert met == [Met(far[0]), Met(far[1])]
    assert isinstance(wanted, Wanted)
    there.accept(wanted.circuit)
    assert carry(there, here) == [Met(near[2])]
    assert [each.other for each in near] == [far[0].number, far[1].number, wanted.circuit.number]


# --- windows ----------------------------------------------------------------------------------------------------------


def test_room_is_given_back_in_large_parts(pair: tuple[Circuits, Circuits, Circuit, Circuit]) -> None:
    here, there, near, far = pair
    here.send(near, bytes(GIVEN_BACK))
    carry(here, there)
    there.give_room(far, GIVEN_BACK - 1)
    assert not there.has_cells
    assert near.room == WINDOW - GIVEN_BACK
    there.give_room(far, 1)
    assert carry(there, here) == [HasRoom(near)]
    assert near.room == WINDOW


def test_one_that_has_not_opened_gives_room_when_it_does() -> None:
    here, there = Circuits(), Circuits()
    near = here.open(1, 2)
    here.send(near, bytes(GIVEN_BACK))
    wanted, *_ = carry(here, there)
    there.give_room(wanted.circuit, GIVEN_BACK)
    assert not there.has_cells
    there.accept(wanted.circuit)
    assert carry(there, here) == [Met(near), HasRoom(near)]
    assert near.room == WINDOW


def test_one_that_has_closed_gives_no_room(pair: tuple[Circuits, Circuits, Circuit, Circuit]) -> None:
    _, there, _, far = pair
    there.close(far)
    there.take(LIMIT)
    there.give_room(far, WINDOW)
    assert not there.has_cells


@pytest.mark.parametrize("limit", [CELL.size + 1, 100, 1000, LIMIT])
def test_a_packet_is_never_larger_than_its_limit(pair: tuple[Circuits, Circuits, Circuit, Circuit], limit: int) -> None:
    here, there, near, _ = pair
    data = Random(1).randbytes(3000)
    here.send(near, data)
    here.send(near, b"rest")
    came = bytearray()
    while here.has_cells:
        packet = here.take(limit)
        assert len(packet) <= limit
        for each in there.handle(memoryview(packet)):
            assert isinstance(each, Came)
            came += each.data
    assert came == data + b"rest"
    assert repr(here) == "<Circuits 1, 0 bytes to send>"


# --- anything -------------------------------------------------------------------------------------------------------


class Gateway:
    """One side, with members that send numbered messages on their circuits."""

    def __init__(self) -> None:
        self.circuits = Circuits()
        self.every: list[Circuit] = []
        self.open: list[Circuit] = []
        self.wanted: list[Circuit] = []
        """Circuits that wait for a member here."""
        self.met: set[int] = set()
        self.said: dict[int, bytes] = defaultdict(bytes)
        self.heard: dict[int, bytes] = defaultdict(bytes)
        self.packets: list[bytes] = []
        self.closed: set[int] = set()

    # what it does

    def want(self, local: int, remote: int) -> None:
        """Give a member here a link to one there; if the other side requested one, it is that one."""
        for circuit in self.wanted:
            if (circuit.local, circuit.remote) == (local, remote):
                self.wanted.remove(circuit)
                self.circuits.accept(circuit)
                break
        else:
            circuit = self.circuits.open(local, remote)
            self.every.append(circuit)
        self.open.append(circuit)

    def turn_away(self, local: int, remote: int) -> None:
        """Refuse a circuit: its member is not there."""
        for circuit in list(self.wanted):
            if (circuit.local, circuit.remote) == (local, remote):
                self.wanted.remove(circuit)
                self.circuits.close(circuit)

    def say(self, circuit: Circuit, data: bytes) -> None:
        data = data[: max(0, circuit.room)]
        self.said[circuit.number] += data
        self.circuits.send(circuit, data)
        assert circuit.room >= 0

    # what happens

    def handle(self, packet: bytes) -> None:
        for each in self.circuits.handle(memoryview(packet)):
            match each:
                case Wanted(circuit=circuit):
                    self.wanted.append(circuit)
                    self.every.append(circuit)
                case Met(circuit=circuit):
                    assert circuit.number not in self.met, "met twice"
                    self.met.add(circuit.number)
                case Came(circuit=circuit, data=data):
                    assert circuit.number not in self.closed
                    self.heard[circuit.number] += bytes(data)
                    self.circuits.give_room(circuit, len(data))
                case Closed(circuit=circuit):
                    assert circuit.number not in self.closed, "closed twice"
                    self.closed.add(circuit.number)
                case HasRoom(circuit=circuit):
                    assert circuit.room <= WINDOW


STEPS = ["open", "open", "say", "say", "close", "turn away", "send", "come"]
END = ["settle", "send", "come"] * 6


@settings(max_examples=150)
@given(st.integers(0, 2**32), st.lists(st.sampled_from(STEPS), max_size=150))
def test_whatever_two_gateways_do(seed: int, steps: list[str]) -> None:
    random, words = Random(seed), count()
    limit = random.choice([50, 5000, LIMIT])
    sides = Gateway(), Gateway()
    for step in [*steps, *END]:
        for number in (0, 1) if step in ("send", "come", "settle") else (random.randrange(2),):
            side, other = sides[number], sides[1 - number]
            members = 1 + random.randrange(2), 3 + random.randrange(2)
            pair = members if number == 0 else members[::-1]
            match step:
                case "open":
                    side.want(*pair)
                case "turn away":
                    side.turn_away(*pair)
                case "say" if side.open:
                    data = (b"%d " % next(words)) * random.randrange(1, limit)
                    side.say(random.choice(side.open), data[: 10 * limit])
                case "close" if side.open:
                    side.circuits.close(side.open.pop(random.randrange(len(side.open))))
                case "settle":
                    for circuit in list(side.wanted):
                        act = side.want if random.random() < 0.5 else side.turn_away
                        act(circuit.local, circuit.remote)
                case "send":
                    while side.circuits.has_cells:
                        side.packets.append(side.circuits.take(limit))
                        assert len(side.packets[-1]) <= limit
                case "come":
                    while other.packets:
                        side.handle(other.packets.pop(0))
                case _:
                    pass
    for side, other in (sides, sides[::-1]):
        check_met(side, other)


def check_met(side: Gateway, other: Gateway) -> None:
    """Check that each end met another, of the right members, and received what that sent."""
    for circuit in side.every:
        assert circuit.other, "every end has met another"
        (far,) = [each for each in other.every if each.number == circuit.other]
        assert (far.other, far.local, far.remote) == (circuit.number, circuit.remote, circuit.local)
        assert circuit.number in side.met or far.number in other.met, "one has opened before the other"
        heard, said = side.heard[circuit.number], other.said[far.number]
        assert said.startswith(heard)
        assert circuit.has_closed or heard == said, "a listening end receives everything"
        assert circuit.other_has_closed == far.has_closed
    left = {each.number for each in side.circuits}
    assert left == {each.number for each in side.every if not (each.has_closed and each.other_has_closed)}


# --- garbage ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("garbage", "why"),
    [
        (b"abc", "a cell of 3 bytes"),
        (cell(DATA, 1, b"abc")[:-1], "a cell that ends 1 bytes early"),
        (cell(DATA, 7, b"abc"), "a cell of kind 1 for circuit 7, which was never opened"),
        (cell(CLOSE, 7), "a cell of kind 2 for circuit 7, which was never opened"),
        (cell(OPEN, 1, PAIR.pack(2, 1)), "circuit 1 is opened twice"),
        (cell(ROOM, 1, b"abc"), "a cell of kind 3 with 3 bytes"),
        (cell(9, 1), "a cell of kind 9 with 0 bytes"),
        (cell(OPEN, 1, b"abc"), "a cell of kind 0 with 3 bytes"),
        (cell(CLOSE, 1) + cell(DATA, 1, b"x"), "a cell of kind 1 for circuit 1, which is closed"),
        (cell(CLOSE, 1) + cell(CLOSE, 1), "a cell of kind 2 for circuit 1, which is closed"),
        (cell(ROOM, 1, COUNT.pack(1))[: CELL.size + 2], "a cell that ends 2 bytes early"),
    ],
)
def test_garbage_is_complained_of(pair: tuple[Circuits, Circuits, Circuit, Circuit], garbage: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=f"^{why}$"):
        pair[0].handle(memoryview(garbage))


@settings(max_examples=300)
@given(st.binary(max_size=60))
def test_any_garbage_is_complained_of_or_makes_sense(data: bytes) -> None:
    try:
        Circuits().handle(memoryview(data))
    except ValueError:
        pass
