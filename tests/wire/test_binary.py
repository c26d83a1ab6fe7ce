"""Binary data keeps its type, in every place, whatever its size."""

from __future__ import annotations

import array
import collections
import ctypes
import dataclasses
import enum
import mmap
import random
from decimal import Decimal
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
import numpy as np
import pytest
from msgspec.msgpack import Ext

from mob.wire.arguments import Parameters
from mob.wire.binary import Given, Unread, asks_for_views, holds_others, may_hold_binary, settled
from mob.wire.codec import Codec, HasLargeBuffer
from mob.wire.sharing import LARGE, BufferLocation
from tests.wire.samples import Color, User

SIZES = [0, 5, LARGE]
KINDS = [bytes, bytearray, memoryview]


class Both:
    """A codec, and memory that both ends see."""

    def __init__(self) -> None:
        self.buffers: list[bytearray] = []
        self.codec = Codec(lambda f: None, lambda r: None, self.look)  # type: ignore[arg-type, return-value]

    def share(self, length: int, fill: Any) -> BufferLocation:
        self.buffers.append(bytearray(length))
        fill(memoryview(self.buffers[-1]))
        return BufferLocation(7, len(self.buffers) - 1, 0, length)

    def look(self, place: BufferLocation) -> memoryview:
        return memoryview(self.buffers[place.number]).toreadonly()

    def over(self, value: Any, shares: bool) -> bytes:
        if shares:
            try:
                return self.codec.encode_sharing(value, self.share)
            except OverflowError:  # then it is encoded slowly, as in a process
                pass
        return self.codec.encode(value)

    def is_looked_at(self, view: memoryview) -> bool:
        """Return whether a view shows the memory that both ends see."""
        return any(np.shares_memory(np.frombuffer(view, "u1"), np.frombuffer(each, "u1")) for each in self.buffers)


@pytest.fixture
def both() -> Both:
    return Both()


def same(found: Any, wanted: Any) -> None:
    assert type(found) is type(wanted)
    assert found == wanted
    if type(wanted) is memoryview:
        assert found.format == "B"


class Holder(msgspec.Struct):
    data: Any


@dataclasses.dataclass
class Job:
    data: Any
    number: int = 0


class Pair(NamedTuple):
    left: Any
    right: Any


class Coded(enum.Enum):
    A = bytearray(b"a")
    B = 1.5


class Items(dict[Any, Any]): ...


class Listed(list[Any]): ...


def first_of(value: Any) -> Any:
    """Return the first thing in a value that is neither a list nor a dict."""
    while isinstance(value, list | dict):
        value = next(iter(value.values() if isinstance(value, dict) else value))
    return value


WITHIN: list[Any] = [
    lambda data: data,
    lambda data: [data, 1.5],
    lambda data: {"a": {"b": [data]}},
    lambda data: (data,),
    lambda data: Job(data),
    lambda data: [Job([data])],
    lambda data: Holder(data),
    lambda data: Pair(data, 1),
    lambda data: collections.deque([data]),
    lambda data: Items(a=data),
    lambda data: Listed([data]),
    lambda data: {"a": data, "n": 2**70},
    lambda data: [data, np.arange(3)],
]


@pytest.mark.parametrize("shares", [False, True])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("within", range(len(WITHIN)))
def test_it_keeps_its_type_in_every_place(both: Both, within: int, kind: Any, size: int, shares: bool) -> None:
    data = kind(b"x" * size)
    found = first_of(both.codec.decode(both.over(WITHIN[within](data), shares)))
    same(found, data)
    assert kind is not memoryview or found.readonly


@pytest.mark.parametrize("shares", [False, True])
@pytest.mark.parametrize("size", [8, LARGE])
def test_what_else_has_a_buffer_arrives_as_bytes(both: Both, size: int, shares: bool) -> None:
    mapped = mmap.mmap(-1, size)
    for sent in (array.array("H", bytes(size)), (ctypes.c_char * size)(), mapped):
        same(both.codec.decode(both.over([sent], shares))[0], bytes(size))
    same(both.codec.decode(both.over(memoryview(array.array("d", bytes(size))), shares)), memoryview(bytes(size)))


@pytest.mark.parametrize("shares", [False, True])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", KINDS)
def test_it_arrives_as_annotated(both: Both, kind: Any, size: int, shares: bool) -> None:
    body = both.over([kind(b"x" * size)], shares)
    for wanted in KINDS:
        same(both.codec.decoder(list[wanted])(body)[0], wanted(b"x" * size))
        same(both.codec.decoder(list[wanted | None])(body)[0], wanted(b"x" * size))
        if size == LARGE and shares and wanted is memoryview:
            assert both.is_looked_at(both.codec.decoder(list[memoryview])(body)[0])


@pytest.mark.parametrize("kind", KINDS)
def test_each_parameter_gets_what_it_asks_for(both: Both, kind: Any) -> None:
    def f(view: memoryview, one: bytes, rest: Any = None, /, *, other: Any = None) -> None: ...

    data = kind(b"x" * LARGE)
    args = both.over((data, data, {"a": [data]}), True)
    kwargs = both.over({"other": [data]}, True)
    (view, one, rest), named = Parameters.of(f, both.codec).decode(args, kwargs)
    same(view, memoryview(b"x" * LARGE))
    assert both.is_looked_at(view)
    same(one, b"x" * LARGE)
    same(rest["a"][0], data)
    same(named["other"][0], data)


@dataclasses.dataclass
class Open:
    view: memoryview
    data: Any


def test_a_view_beside_what_is_open_is_one_of_a_copy(both: Both) -> None:
    body = both.over({"view": b"x" * LARGE, "data": b"y" * LARGE}, True)
    found = both.codec.decoder(Open)(body)
    same(found.view, memoryview(b"x" * LARGE))
    same(found.data, b"y" * LARGE)


@pytest.mark.parametrize(
    ("annotation", "asks"),
    [
        (memoryview, True),
        (list[memoryview] | None, True),
        (dict[str, tuple[memoryview, ...]], True),
        (Annotated[memoryview, "x"], True),
        (tuple[memoryview, Literal[1], Color], True),
        (bytes, False),
        (Any, False),
        (tuple[memoryview, Any], False),
        (tuple[memoryview, list], False),
        (tuple[memoryview, object], False),
        (Open, False),
    ],
)
def test_which_annotations_ask_for_views(annotation: Any, asks: bool) -> None:
    assert asks_for_views(annotation) is asks


class Broken(NamedTuple):
    view: memoryview
    other: NoSuchName  # type: ignore[name-defined]  # noqa: F821


class Node(msgspec.Struct):
    view: memoryview
    next: Node | None = None


def test_annotations_that_do_not_resolve_are_open_and_circles_end() -> None:
    assert not asks_for_views(Broken)
    assert asks_for_views(Node)


class Money:
    def __init__(self, data: Any) -> None:
        self.data = data


def test_registered_types(both: Both) -> None:
    both.codec.register(Money, lambda money: money.data, Money)
    for kind in KINDS:
        for size in SIZES:
            data = kind(b"x" * size)
            for shares in (False, True):
                same(both.codec.decode(both.over([Money([data])], shares))[0].data[0], data)
                body = both.over([Money([data]), data], shares)
                same(both.codec.decoder(tuple[Money, memoryview])(body)[1], memoryview(b"x" * size))


def test_what_an_error_was_made_of_keeps_its_type(both: Both) -> None:
    body = both.codec.encode_data((bytearray(b"a"), b"b"))
    assert body is not None
    same(both.codec.decode(body)[0], bytearray(b"a"))
    assert both.codec.encode_data((1, b"\xc4")) is not None


@pytest.mark.parametrize(
    "value",
    [
        b"x",
        [b"x", 1.5, "\u0104", None],
        {"a": (1, {2: [b"x"]}), "b": {b"y"}},
        User("Ann"),
        [Job(b"x"), Holder(b"y"), Pair(b"l", 1), Coded.B, Color.RED],
        [Items(a=b"x"), Listed([1]), [1, b"x"]],
        [Decimal(1), np.arange(3.0)],
    ],
)
def test_there_are_no_others(value: Any) -> None:
    assert not holds_others(value)


@pytest.mark.parametrize(
    "value",
    [
        bytearray(b"x"),
        memoryview(b"x"),
        [1, {"a": [bytearray()]}],
        Job([memoryview(b"")]),
        [Holder(bytearray()), 1],
        Coded.A,
        Items(a=bytearray()),
        Money(1),  # unknown to the codec
    ],
)
def test_there_are_others_or_may_be(value: Any) -> None:
    assert holds_others(value)


def test_a_body_without_a_mark_has_no_binary_data(codec: Codec) -> None:
    assert not may_hold_binary(codec.encode([1, "a", {"b": None}, [2**30] * 100]))
    for size in (1, 300, 70_000):
        assert may_hold_binary(codec.encode([1, bytes(size)]))


def test_keys_stay_bytes(both: Both) -> None:
    for shares in (False, True):
        found = both.codec.decode(both.over({memoryview(b"k"): bytearray(b"v"), (1, b"k"): 2}, shares))
        assert found == {b"k": bytearray(b"v"), (1, b"k"): 2}
        assert {type(key) for key in found} == {bytes, tuple}


def test_an_extension_of_ones_own_stays_as_it_is(both: Both) -> None:
    assert both.codec.decode(both.codec.encode([Ext(99, bytearray(b"x"))])) == [Ext(99, b"x")]


def test_a_small_view_keeps_no_message(both: Both) -> None:
    body = bytearray(both.codec.encode([memoryview(b"x"), random.Random(7).randbytes(100)]))
    view = both.codec.decode(body)[0]
    body.append(0)  # a BufferError if there were a view of it
    assert view == b"x"


def test_what_is_unread_says_so() -> None:
    unread = Unread(1, memoryview(b"abc"))
    assert repr(unread) == "<Unread 3 bytes>"
    assert settled({"a": [unread]}, False) == {"a": [b"abc"]}
    assert settled(unread, True) == memoryview(b"abc")


# --- given away -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shares", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_what_was_given_away_arrives_writable(both: Both, size: int, shares: bool) -> None:
    body = both.over([Given(memoryview(b"x" * size)), 1], shares)
    (found, _) = both.codec.decode(body)
    if shares and size >= LARGE:
        assert found == b"x" * size
        assert both.is_looked_at(found)  # writable, if `attach` returns such memory
        assert type(both.codec.decode(both.codec.encode_sharing([Given(found)], lambda *_: None))[0]) is bytearray
    else:
        same(found, bytearray(b"x" * size))


def test_where_views_are_asked_for_what_was_given_away_is_one(both: Both) -> None:
    body = both.over([Given(memoryview(bytes(LARGE)))], True)
    assert both.is_looked_at(both.codec.decoder(list[memoryview])(body)[0])


def test_beside_binary_data_what_was_given_away_is_no_reason_to_pack_again() -> None:
    given = Given(memoryview(b"abc"))
    assert not holds_others([b"abc", given])
    assert repr(given) == "<Given 3 bytes>"
    assert given.nbytes == 3


def test_packing_stops_at_large_buffers_that_are_given_away() -> None:
    codec = Both().codec
    assert codec.decode(codec.pack([Given(memoryview(b"abc"))])) == [b"abc"]
    value = [{"a": [Given(memoryview(bytes(LARGE)))]}]
    with pytest.raises(HasLargeBuffer):
        codec.pack(value)
    assert codec.decode(codec.encode(value)) == [{"a": [bytes(LARGE)]}]
