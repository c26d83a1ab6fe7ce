"""The codec: what goes in comes out as the table in the docs says, and what cannot go in is named with its place.

`Mob` plays the processes: it keeps lent functions by number and counts, so that a test can see that every reference in
the bytes was lent once and borrowed once.
"""

from __future__ import annotations

import array
import collections
import contextlib
import dataclasses
import datetime as dt
import decimal
import enum
import functools
import pathlib
import threading
import typing
import uuid
from collections.abc import Callable
from types import MappingProxyType
from typing import Annotated, Any, Literal, NamedTuple, Protocol, TypedDict, TypeVar, runtime_checkable

import attrs
import msgspec
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mob.errors import BadMessage, Busy, GarbageFrame
from mob.wire.codec import CALLBACK, Codec, Reference

HUGE = 2**200


class Mob:
    def __init__(self) -> None:
        self.functions: dict[int, Callable[..., Any]] = {}
        self.lent: list[int] = []
        self.borrowed: list[int] = []
        self.codec = Codec(self.lend, self.borrow)

    def lend(self, function: Callable[..., Any]) -> Reference:
        self.functions[id(function)] = function
        self.lent.append(id(function))
        return Reference(7, id(function))

    def borrow(self, reference: Reference) -> Callable[..., Any]:
        assert reference.owner == 7
        self.borrowed.append(reference.id)
        return self.functions[reference.id]


@pytest.fixture
def mob() -> Mob:
    return Mob()


@pytest.fixture
def codec(mob: Mob) -> Codec:
    return mob.codec


def over(codec: Codec, value: Any) -> Any:
    return codec.decode(codec.encode(value))


# --- the types of the test --------------------------------------------------------------------------------------------


@dataclasses.dataclass
class User:
    name: str
    tags: list[str] = dataclasses.field(default_factory=list)
    extra: Any = None


@dataclasses.dataclass(frozen=True)
class Point:
    x: int
    y: int


@attrs.define
class Car:
    doors: int
    owner: User | None = None


class Circle(msgspec.Struct, tag=True, rename="camel"):
    outer_radius: float
    data: Any = None


class Square(msgspec.Struct, tag=True):
    side: float


class Row(msgspec.Struct, array_like=True, tag="row"):
    id: int
    data: Any = None


class Pair(NamedTuple):
    left: Any
    right: Any


class Options(TypedDict, total=False):
    retries: int


class Color(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    LOW = 1


class Access(enum.Flag):
    READ = 1
    WRITE = 2


class Ratio(enum.Enum):
    HALF = 0.5
    SIZE = (1, 2)


class Name(str):
    pass


class Count(int):
    pass


class Share(float):
    pass


class Blob(bytes):
    pass


class Moment(dt.datetime):
    pass


class Names(list[str]):
    pass


class Caller:
    def __call__(self) -> str:
        return "called"

    def method(self) -> str:
        return "method"


class Quacks(Protocol):
    def quack(self) -> str: ...


@runtime_checkable
class Closes(Protocol):
    def close(self) -> None: ...


class Stranger:
    pass


T = TypeVar("T")
CALLER = Caller()
UTC = dt.UTC

# --- without annotations ----------------------------------------------------------------------------------------------

AS_IT_IS = [
    *(None, True, False, 0, -1, 2**63, 2**64 - 1, -(2**63), 1.5, float("inf"), "", "grüße", b"", b"\0\xff"),
    *([], {}, [1, [2, [3]]], {"a": {1: None, 2.5: True, None: 0, b"b": 1}}),
    *(2**64, -(2**63) - 1, HUGE, -HUGE, [HUGE], {"a": [HUGE, {"b": -HUGE}]}, {HUGE: 1}),
    *(1j, 2 - 3j, [1j], {"z": 1j}),
    *(range(3), range(5, 1, -2), range(HUGE), [range(0)]),
    dt.datetime(2024, 2, 29, 12, 30, 1, 5, tzinfo=UTC),
]


@pytest.mark.parametrize("value", AS_IT_IS, ids=repr)
def test_what_comes_out_as_it_went_in(codec: Codec, value: Any) -> None:
    result = over(codec, value)
    assert result == value
    assert type(result) is type(value)


COMES_OUT_AS = [
    ((1, (2,)), [1, [2]]),
    ({1}, [1]),
    (frozenset({1}), [1]),
    (collections.deque([1, 2]), [1, 2]),
    ({"a": 1}.keys(), ["a"]),
    ({"a": 1}.values(), [1]),
    ({"a": 1}.items(), [["a", 1]]),
    (MappingProxyType({"a": 1}), {"a": 1}),
    (collections.OrderedDict(a=1), {"a": 1}),
    (Names(["a"]), ["a"]),
    ({(1, 2): "x"}, {(1, 2): "x"}),
    ({(1, HUGE): "x"}, {(1, HUGE): "x"}),
    ({frozenset({HUGE}): "x"}, {(HUGE,): "x"}),
    (bytearray(b"ab"), b"ab"),
    (memoryview(b"ab"), b"ab"),
    (memoryview(b"abcdef")[::2], b"ace"),
    (array.array("H", [1, 2]), array.array("H", [1, 2]).tobytes()),
    (pathlib.PurePosixPath("/a/b"), "/a/b"),
    (pathlib.Path("a"), "a"),
    (Name("n"), "n"),
    (Count(3), 3),
    (Count(HUGE), HUGE),
    (Share(0.5), 0.5),
    (Blob(b"b"), b"b"),
    (Moment(2024, 1, 2, 3), "2024-01-02T03:00:00"),
    (dt.datetime(2024, 1, 2, 3), "2024-01-02T03:00:00"),
    (dt.date(2024, 1, 2), "2024-01-02"),
    (dt.timedelta(days=1), "P1D"),
    (uuid.UUID(int=5), "00000000-0000-0000-0000-000000000005"),
    (decimal.Decimal("1.10"), "1.10"),
    (Color.RED, "red"),
    (Level.LOW, 1),
    (User("u", ["t"]), {"name": "u", "tags": ["t"], "extra": None}),
    (User("u", extra=HUGE), {"name": "u", "tags": [], "extra": HUGE}),
    (Car(4, User("u")), {"doors": 4, "owner": {"name": "u", "tags": [], "extra": None}}),
    (Car(HUGE), {"doors": HUGE, "owner": None}),
    (Circle(1.0), {"type": "Circle", "outerRadius": 1.0, "data": None}),
    (Circle(1.0, [HUGE]), {"type": "Circle", "outerRadius": 1.0, "data": [HUGE]}),
    (Circle(1.0, msgspec.UNSET), {"type": "Circle", "outerRadius": 1.0}),
    (Row(1), ["row", 1, None]),
    (Row(HUGE, 1j), ["row", HUGE, 1j]),
    (Pair(1, HUGE), [1, HUGE]),
    (np.float64(1.5), 1.5),
    (np.int8(-3), -3),
    (np.bool_(True), True),
    (np.str_("s"), "s"),
    (np.bytes_(b"s"), b"s"),
    (np.complex64(1j), 1j),
    (np.longdouble(0.5), 0.5),
    (np.datetime64("2024-01-02T03:04:05.000006"), "2024-01-02T03:04:05.000006"),
    (np.datetime64("2024-01-02T03:04:05.000006789"), "2024-01-02T03:04:05.000006"),
    ([HUGE, {"k": np.float32(0.5)}], [HUGE, {"k": 0.5}]),
    (msgspec.msgpack.Ext(99, b"x"), msgspec.msgpack.Ext(99, b"x")),
]


@pytest.mark.parametrize(("value", "wanted"), COMES_OUT_AS, ids=lambda value: repr(value)[:50])
def test_what_comes_out_as_something_simpler(codec: Codec, value: Any, wanted: Any) -> None:
    result = over(codec, value)
    assert result == wanted
    assert type(result) is type(wanted)


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.binary() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers() | st.none(), inner),
    max_leaves=20,
)


@settings(deadline=None)
@given(PLAIN)
def test_any_plain_value_comes_out_equal(value: Any) -> None:
    assert over(Mob().codec, value) == value


@settings(deadline=None)
@given(st.integers())
def test_any_int_comes_out_of_a_typed_decoder(value: int) -> None:
    codec = Mob().codec
    assert codec.decoder(list[int])(codec.encode([value])) == [value]


def has_surrogate(value: Any) -> bool:
    if isinstance(value, str):
        return any("\ud800" <= character <= "\udfff" for character in value)
    return any(map(has_surrogate, [*value, *value.values()] if isinstance(value, dict) else value))


@settings(deadline=None)
@given(
    st.recursive(
        st.text(st.characters()), lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters()), inner)
    )
)
def test_any_text_is_sent_or_refused(value: Any) -> None:
    codec = Mob().codec
    if has_surrogate(value):
        with pytest.raises(BadMessage, match="surrogate"):
            codec.encode(value)
    else:
        assert over(codec, value) == value


# --- arrays -----------------------------------------------------------------------------------------------------------

ARRAYS = [
    np.arange(6),
    np.arange(6, dtype="i1"),
    np.arange(6, dtype=">u4"),
    np.arange(6.0).reshape(2, 3),
    np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    np.arange(24).reshape(2, 3, 4).transpose(1, 0, 2),
    np.arange(10)[::-3],
    np.array(3.5),
    np.array([]),
    np.zeros((0, 3)),
    np.zeros((2, 0), "<M8[s]"),
    np.array([True, False]),
    np.array([1j]),
    np.array(["ab", "ü"]),
    np.array([b"ab", b""]),
    np.zeros(2, "V0"),
    np.array(["2024-01-02", "NaT"], "M8[ns]"),
    np.array([1, 2], "m8[h]"),
    np.array([(1, 2.5, b"x")], [("a", "<i4"), ("b", "<f8"), ("c", "S3")]),
    np.array([(1, [[1, 2]], (3, "u"))], [("a", "i1"), ("b", "<i2", (1, 2)), ("c", [("d", "<i8"), ("e", "<U2")])]),
    np.zeros(2, np.dtype([("a", "i1"), ("b", "<i8")], align=True)),
    np.zeros(2, [(("a title", "a"), "i1")]),
    np.rec.array([(1, 2.0)], dtype=[("a", "<i4"), ("b", "<f8")]),
    np.arange(1_000_000, dtype="f4"),
]


@pytest.mark.parametrize("value", ARRAYS, ids=lambda value: f"{value.dtype}{value.shape}")
@pytest.mark.parametrize("lead", range(4))
def test_an_array_keeps_all_but_the_right_to_be_written(codec: Codec, value: Any, lead: int) -> None:
    result = over(codec, [*[None] * lead, value])[-1]
    assert type(result) is np.ndarray
    assert result.dtype == value.dtype
    assert result.dtype.isalignedstruct is False or value.dtype.isalignedstruct
    assert result.shape == value.shape
    assert result.tobytes() == value.tobytes()
    assert result.flags.f_contiguous == value.flags.f_contiguous or not value.flags.forc
    assert result.flags.aligned
    assert not result.flags.writeable


def test_an_array_is_read_only_even_in_writable_bytes(codec: Codec) -> None:
    result = codec.decode(bytearray(codec.encode(np.zeros(8, "u1"))))
    with pytest.raises(ValueError, match="read-only"):
        result[0] = 1


def test_a_large_array_of_bytes_aliases_the_message(codec: Codec) -> None:
    data = codec.encode(np.zeros(100_000, "u1"))
    assert np.shares_memory(codec.decode(data), np.frombuffer(data, "u1"))


# --- functions --------------------------------------------------------------------------------------------------------

FUNCTIONS = [len, print, lambda: 1, functools.partial(print, 1), CALLER, CALLER.method, "x".join, np.add, typing.cast]


@pytest.mark.parametrize("function", FUNCTIONS, ids=repr)
def test_a_function_is_lent_and_borrowed(mob: Mob, function: Callable[..., Any]) -> None:
    assert over(mob.codec, function) == function
    assert len(mob.lent) == len(mob.borrowed) == 1


COUNTED = [
    [len],
    [len, print, len],
    {"a": [len, {"b": (print,)}]},
    [len, HUGE],
    {len: HUGE},
    User("u", extra=[len, HUGE]),
    Circle(1.0, len),
    [memoryview(b"abcd")[::2], len, np.arange(3)],
    collections.deque([len, print]),
]


@pytest.mark.parametrize("value", COUNTED, ids=repr)
def test_each_reference_is_lent_once_and_borrowed_once(mob: Mob, value: Any) -> None:
    data = mob.codec.encode(value)
    mob.codec.decode(data)
    assert mob.lent
    assert sorted(mob.lent) == sorted(mob.borrowed)


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        ([len, HUGE], list[Any]),
        ([len, HUGE], tuple[Callable[..., int], int]),
        ([1, len, 1j], tuple[int, Any, complex]),
        ([len, {"name": "u"}], tuple[Callable[..., int], User]),
        ([len], list[Callable[..., int] | int]),
        ({"retries": HUGE, "f": len}, dict[str, Any]),
    ],
    ids=repr,
)
def test_a_typed_decoder_borrows_once_too(mob: Mob, value: Any, annotation: Any) -> None:
    mob.codec.decoder(annotation)(mob.codec.encode(value))
    assert mob.lent == mob.borrowed == [id(len)]


def test_a_typed_decoder_borrows_once_even_if_it_refuses(mob: Mob) -> None:
    data = mob.codec.encode([len, "x", print])
    with pytest.raises(msgspec.ValidationError):
        mob.codec.decoder(tuple[Any, int, Any])(data)
    assert mob.lent == mob.borrowed == [id(len), id(print)]


def test_nothing_is_lent_for_a_message_that_cannot_be_sent(mob: Mob) -> None:
    for bad in ([len, Stranger()], [len, HUGE, "\ud800"], {"a": len, "b": {"c": Stranger()}}):
        with pytest.raises(BadMessage):
            mob.codec.encode(bad)
    assert mob.lent == []


def test_what_lend_says_is_not_reworded() -> None:
    def refuse(function: Any) -> Reference:
        raise Busy("too many callbacks")

    with pytest.raises(Busy, match="too many callbacks"):
        Codec(refuse, lambda reference: None).encode([len])


def test_encode_data_lends_nothing(mob: Mob) -> None:
    assert mob.codec.encode_data((1, len)) is None
    assert mob.codec.encode_data(Stranger()) is None
    assert mob.codec.decode(mob.codec.encode_data([HUGE]) or b"") == [HUGE]
    assert mob.lent == []


# --- what cannot be sent ----------------------------------------------------------------------------------------------


def circle() -> list[Any]:
    value: list[Any] = []
    value.append({"again": value})
    return value


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


class LyingClass:
    @property
    def __class__(self) -> Any:
        raise ZeroDivisionError("no class")


class NoAttributes:
    def __getattribute__(self, name: str) -> Any:
        raise KeyError(name)


class BadRepr:
    def __repr__(self) -> str:
        raise RuntimeError

    def __hash__(self) -> int:
        return 1


HINT = "Send what it describes, or register the type with mob.register(...)."
REFUSED = [
    (
        ({"user": User("u", extra=1), "x": 1}, [{"user": Car(1, threading.Lock())}]),  # type: ignore[arg-type]
        "args[1][0]['user'].owner",
        f"a thread lock (_thread.lock) is not data. {HINT}",
    ),
    ((Stranger(),), "args[0]", f"an object of the type {__name__}.Stranger is not data. {HINT}"),
    (([{1: (1, {2: object()})}],), "args[0][0][1][1][2]", f"an object of the type object is not data. {HINT}"),
    ((Circle(1.0, [object()]),), "args[0].data[0]", f"an object of the type object is not data. {HINT}"),
    ((Row(1, object()),), "args[0].data", f"an object of the type object is not data. {HINT}"),
    ((Pair(1, [object()]),), "args[0].right[0]", f"an object of the type object is not data. {HINT}"),
    (({object()},), "args[0]{...}", f"an object of the type object is not data. {HINT}"),
    (({object(): 1},), "args[0].keys()", f"an object of the type object is not data. {HINT}"),
    ((collections.deque([object()]),), "args[0][0]", f"an object of the type object is not data. {HINT}"),
    (({BadRepr(): object()},), "args[0].keys()", f"an object of the type {__name__}.BadRepr is not data. {HINT}"),
    (
        ({"k" * 500: object()},),
        f"args[0]['{'k' * 39}...{'k' * 14}']",
        f"an object of the type object is not data. {HINT}",
    ),
    (({HUGE**20: object()},), "args[0][<int>]", f"an object of the type object is not data. {HINT}"),
    ((ValueError("x"),), "args[0]", "an exception (ValueError) is not data. Raise it, or send its text."),
    ((User,), "args[0]", "a class (type) is not data. Send its name."),
    ((list[int],), "args[0]", "a class (types.GenericAlias) is not data. Send its name."),
    ((typing,), "args[0]", "a module is not data. Send its name."),
    (
        ((x for x in ()),),
        "args[0]",
        "a generator is not data. Send a list, or export the generator function: its caller can iterate over it.",
    ),
    (
        ("\ud800",),
        "args[0]",
        "a str with a lone surrogate is not text. Send it as bytes: text.encode('utf-8', 'surrogateescape').",
    ),
    (
        ({"a": {"\udcff": 1}},),
        "args[0]['a'].keys()",
        "a str with a lone surrogate is not text. Send it as bytes: text.encode('utf-8', 'surrogateescape').",
    ),
    ((circle(),), "args[0][0]['again']", "a list that contains itself is not data. Break the circle."),
    ((np.array([object()]),), "args[0]", "an array of the dtype object is not data. Send a list, or another dtype."),
    ((np.ma.zeros(2),), "args[0]", "a masked array is not data. Send its data and its mask."),
    ((LyingClass(),), "args[0]", "encoding it raised ZeroDivisionError: no class."),
    ((NoAttributes(),), "args[0]", "encoding it raised KeyError: '__class__'."),
    (
        (dt.datetime.max.replace(tzinfo=dt.timezone.min),),
        "args[0]",
        "encoding it raised OverflowError: date value out of range.",
    ),
]


@pytest.mark.parametrize(("value", "where", "why"), REFUSED, ids=lambda value: value if isinstance(value, str) else "")
def test_a_refusal_says_where_and_why_and_what_to_do(codec: Codec, value: Any, where: str, why: str) -> None:
    with pytest.raises(BadMessage) as caught:
        codec.encode(value)
    assert str(caught.value) == f"cannot send {where}: {why}"
    assert caught.value.where == where


def test_the_root_of_the_path_is_the_callers(codec: Codec) -> None:
    with pytest.raises(BadMessage) as caught:
        codec.encode({"a": [object()]}, "result")
    assert caught.value.where == "result['a'][0]"


def test_the_cause_of_a_refusal_is_kept(codec: Codec) -> None:
    with pytest.raises(BadMessage) as caught:
        codec.encode([LyingClass()])
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_what_is_nested_too_deeply_is_refused(codec: Codec) -> None:
    with pytest.raises(BadMessage, match="nested too deeply") as caught:
        codec.encode(nested(100_000))
    assert len(caught.value.where) < 400


def test_the_same_object_twice_is_no_circle(codec: Codec) -> None:
    twice = [HUGE]
    assert over(codec, [twice, twice, {"a": twice}]) == [[HUGE], [HUGE], {"a": [HUGE]}]


# --- malformed bytes --------------------------------------------------------------------------------------------------


def ext(code: int, data: bytes) -> bytes:
    return msgspec.msgpack.encode(msgspec.msgpack.Ext(code, data))


MALFORMED = [
    *(b"", b"\xc1", b"\x92\x01", b"\x01\x02", b"\xa1\xff", b"\xdd\xff\xff\xff\xff", b"\xd9"),
    *(ext(code, b"\xff\xff") for code in (1, 3, 4, 5, 6)),
    *(ext(3, b""), ext(5, b"1 2 x"), ext(5, b"0 1 0"), ext(6, b"\x92\x01"), ext(1, b"\x91\x01")),
    ext(3, (10).to_bytes(4, "big") + msgspec.msgpack.encode(("<i8", [2], "C")) + bytes(15)),
    ext(3, (10).to_bytes(4, "big") + msgspec.msgpack.encode(("|O", [1], "C")) + bytes(8)),
]


@pytest.mark.parametrize("data", MALFORMED, ids=repr)
def test_malformed_bytes_are_garbage(codec: Codec, data: bytes) -> None:
    with pytest.raises(GarbageFrame):
        codec.decode(data)
    with pytest.raises(GarbageFrame):
        codec.decoder(list[int])(data)


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=30))
def test_any_bytes_are_a_value_or_garbage_or_cannot_be_understood(data: bytes) -> None:
    codec = Codec(lambda function: Reference(0, 0), lambda reference: len)
    with contextlib.suppress(GarbageFrame, BadMessage):
        codec.decode(data)


def test_what_is_only_not_understood_is_not_garbage(codec: Codec) -> None:
    with pytest.raises(BadMessage, match="nested too deeply"):
        codec.decode(b"\x91" * 100_000 + b"\x01")
    with pytest.raises(BadMessage, match="keys that arrive as dicts"):
        codec.decode(codec.encode({Point(1, 2): 3}))
    assert codec.decoder(dict[Point, int])(codec.encode({Point(1, 2): 3})) == {Point(1, 2): 3}


# --- with annotations -------------------------------------------------------------------------------------------------

ANNOTATED = [
    (1, int, 1),
    (HUGE, int, HUGE),
    (1, float, 1.0),
    ([HUGE], list[int], [HUGE]),
    ((1, HUGE), tuple[int, ...], (1, HUGE)),
    ({"a": HUGE}, dict[str, int], {"a": HUGE}),
    ({1, 2}, set[int], {1, 2}),
    (frozenset({1}), frozenset[int], frozenset({1})),
    ((1, "a"), tuple[int, str], (1, "a")),
    (User("u", ["a"]), User, User("u", ["a"])),
    (User("u", extra=HUGE), User, User("u", extra=HUGE)),
    (User("u", extra=len), User, User("u", extra=len)),
    ([User("u")], list[User], [User("u")]),
    ({"name": "u"}, User, User("u")),
    (Car(4, User("u")), Car, Car(4, User("u"))),
    (Circle(1.5), Circle | Square, Circle(1.5)),
    (Square(1.5), Circle | Square, Square(1.5)),
    (Circle(1.5, HUGE), Circle | Square, Circle(1.5, HUGE)),
    (Row(1, HUGE), Row, Row(1, HUGE)),
    (Pair(1, "b"), Pair, Pair(1, "b")),
    (Options(retries=2), Options, {"retries": 2}),
    (Color.RED, Color, Color.RED),
    (Level.LOW, Level, Level.LOW),
    (Access.READ | Access.WRITE, Access, Access.READ | Access.WRITE),
    (Ratio.HALF, Ratio, Ratio.HALF),
    (Ratio.SIZE, Ratio, Ratio.SIZE),
    ([Ratio.HALF, None], list[Ratio | None], [Ratio.HALF, None]),
    (uuid.UUID(int=5), uuid.UUID, uuid.UUID(int=5)),
    (decimal.Decimal("1.10"), decimal.Decimal, decimal.Decimal("1.10")),
    (dt.datetime(2024, 1, 2), dt.datetime, dt.datetime(2024, 1, 2)),
    (dt.datetime(2024, 1, 2, tzinfo=UTC), dt.datetime, dt.datetime(2024, 1, 2, tzinfo=UTC)),
    (dt.date(2024, 1, 2), dt.date, dt.date(2024, 1, 2)),
    (dt.time(1, 2), dt.time, dt.time(1, 2)),
    (dt.timedelta(1, 2), dt.timedelta, dt.timedelta(1, 2)),
    (None, int | None, None),
    (HUGE, int | None, HUGE),
    ("a", Literal["a", "b"], "a"),
    (5, Annotated[int, msgspec.Meta(ge=0)], 5),
    (5, Annotated[int, []], 5),
    (5, Annotated[int, msgspec.Meta(min_length=3)], 5),
    (b"a", bytes, b"a"),
    (b"a", bytearray, bytearray(b"a")),
    (pathlib.Path("a"), pathlib.Path, pathlib.Path("a")),
    (collections.deque([1]), collections.deque[int], collections.deque([1])),
    (Name("n"), Name, Name("n")),
    (Count(3), Count, Count(3)),
    (Share(3.5), Share, Share(3.5)),
    (Blob(b"b"), Blob, Blob(b"b")),
    (1j, complex, 1j),
    (2, complex, 2 + 0j),
    (range(3), range, range(3)),
    ([1j], list[complex], [1j]),
    (np.float32(0.5), np.float32, np.float32(0.5)),
    (len, Callable[..., int], len),
    (len, Callable, len),
    (len, Callable[..., int] | None, len),
    (None, Callable[..., int] | None, None),
    ([len], list[Callable[..., int]], [len]),
    ({"f": len, "n": HUGE}, dict[str, Any], {"f": len, "n": HUGE}),
    (len, Quacks, len),
    ([1, "x"], list[Quacks], [1, "x"]),
    ("x", str | bytes, "x"),
    (b"x", str | bytes, b"x"),
    (uuid.UUID(int=5), uuid.UUID | str, uuid.UUID(int=5)),
    ("x", uuid.UUID | str, "x"),
    ([b"x", "y"], list[str | bytes], [b"x", "y"]),
    ({"a": [1, 2j]}, dict[str, list[int | complex]], {"a": [1, 2j]}),
    ([1], Any, [1]),
    ([1], object, [1]),
    ([1], T, [1]),
    ([1], "NotResolved", [1]),
    ([1], typing.NoReturn, [1]),
]


@pytest.mark.parametrize(("value", "annotation", "wanted"), ANNOTATED, ids=lambda value: repr(value)[:40])
def test_what_is_annotated_arrives_as_annotated(codec: Codec, value: Any, annotation: Any, wanted: Any) -> None:
    data = codec.encode(value)
    for result in (codec.decoder(annotation)(data), codec.converter(annotation)(codec.decode(data))):
        assert result == wanted
        assert type(result) is type(wanted)


@pytest.mark.parametrize("annotation", [np.ndarray, npt.NDArray[np.int64], np.ndarray | None, np.ndarray | list, Any])
def test_an_annotated_array_arrives(codec: Codec, annotation: Any) -> None:
    assert codec.decoder(annotation)(codec.encode(np.arange(3))).tolist() == [0, 1, 2]


MISFITS = [
    ("x", int, "Expected `int`, got `str`"),
    (True, int, "Expected `int`, got `bool`"),
    ([1, "x"], list[int], r"Expected `int`, got `str` - at `$[1]`"),
    ({"name": 3}, User, r"Expected `str`, got `int` - at `$.name`"),
    ({}, User, "Object missing required field `name`"),
    (HUGE, str, "Expected `str`, got `int`"),
    (1, Callable[..., int], "Expected `a function`, got `int`"),
    (1, Stranger, "Expected `Stranger`, got `int`"),
    ([1], list[Stranger], "Expected `Stranger`, got `int` - at `$[0]`"),
    ([1], np.ndarray, "Expected `ndarray`, got `list`"),
    (1, Closes, "Expected `Closes`, got `int`"),
    (1, str | bytes, "Expected `str | bytes`, got `int`"),
    ([1], dict[str, str | bytes], "Expected `object`, got `array`"),
    ("abcd", bytes, "Expected `bytes`, got `str`"),
    (0.75, Ratio, "0.75 is not a valid Ratio"),
    (-1, Annotated[int, msgspec.Meta(ge=0)], "Expected `int` >= 0"),
]


@pytest.mark.parametrize(("value", "annotation", "text"), MISFITS, ids=lambda value: repr(value)[:40])
def test_what_does_not_fit_is_a_validation_error(codec: Codec, value: Any, annotation: Any, text: str) -> None:
    with pytest.raises(msgspec.ValidationError) as caught:
        codec.decoder(annotation)(codec.encode(value))
    assert str(caught.value) == text


def test_a_constructor_that_raises_is_a_misfit(codec: Codec) -> None:
    with pytest.raises(msgspec.ValidationError, match="must be positive"):
        codec.decoder(Positive)(codec.encode({"number": -1}))
    with pytest.raises(msgspec.ValidationError, match="KeyError"):
        codec.decoder(Positive)(codec.encode({"number": 0}))


@dataclasses.dataclass
class Positive:
    number: int

    def __post_init__(self) -> None:
        if self.number < 0:
            raise ValueError("must be positive")
        if self.number == 0:
            raise KeyError(self.number)


def test_decoders_are_made_once(codec: Codec) -> None:
    assert codec.decoder(list[int]) is codec.decoder(list[int])
    assert repr(codec) == "<Codec: 0 registered types, 1 compiled annotations>"


# --- registered types -------------------------------------------------------------------------------------------------


class Money:
    def __init__(self, cents: Any, unit: str = "EUR") -> None:
        self.cents = cents
        self.unit = unit

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and vars(other) == vars(self)

    def __hash__(self) -> int:
        return hash(self.unit)


class Cash(Money):
    pass


def register_money(codec: Codec) -> None:
    codec.register(Money, lambda money: (money.cents, money.unit), lambda data: Money(*data))


@pytest.fixture
def rich(mob: Mob) -> Mob:
    register_money(mob.codec)
    return mob


@pytest.mark.parametrize(
    ("value", "annotation", "wanted"),
    [
        (Money(5), Any, Money(5)),
        (Money(5), Money, Money(5)),
        (Money(HUGE), Any, Money(HUGE)),
        ([Money(5), {"a": Money(HUGE)}], list[Any], [Money(5), {"a": Money(HUGE)}]),
        (Money([Money(1), Money(2)]), Any, Money([Money(1), Money(2)])),
        (Money(len), Any, Money(len)),
        ([Money(len), HUGE], Any, [Money(len), HUGE]),
        ({Money(5): HUGE}, Any, {Money(5): HUGE}),
        (User("u", extra=Money(5)), User, User("u", extra=Money(5))),
        (Cash(5), Any, Money(5)),
        (Money(5), Money | int, Money(5)),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_a_registered_type_arrives_as_itself(rich: Mob, value: Any, annotation: Any, wanted: Any) -> None:
    assert rich.codec.decoder(annotation)(rich.codec.encode(value)) == wanted
    assert rich.lent == rich.borrowed


def test_a_subclass_may_be_registered_itself(rich: Mob) -> None:
    rich.codec.encode(Cash(1))
    rich.codec.register(Cash, lambda cash: cash.cents, Cash)
    assert over(rich.codec, [Cash(1), Money(1)]) == [Cash(1), Money(1)]


def test_a_type_that_msgspec_knows_may_be_registered(mob: Mob) -> None:
    codec = mob.codec
    codec.register(Point, lambda point: [point.x, point.y], lambda data: Point(*data))
    codec.register(Color, lambda color: color.name, Color.__getitem__)
    codec.register(Names, " ".join, lambda text: Names(text.split()))
    value = [Point(1, HUGE), {"a": Color.RED}, Names(["x", "y"]), len, User("u", extra=Point(3, 4)), {Point(1, 1): 2}]
    wanted = [*value[:4], {"name": "u", "tags": [], "extra": Point(3, 4)}, {Point(1, 1): 2}]
    result = over(codec, value)
    assert result == wanted
    assert type(result[2]) is Names
    assert mob.lent == mob.borrowed == [id(len)]
    assert codec.decoder(Point)(codec.encode(Point(1, 2))) == Point(1, 2)
    with pytest.raises(BadMessage) as caught:
        codec.encode([Point(1, object())])  # type: ignore[arg-type]
    assert caught.value.where == "args[0][1]"


@pytest.mark.parametrize("kind", [int, str, dict, list, type(None), dt.datetime, uuid.UUID])
def test_a_type_of_messagepack_cannot_be_registered(codec: Codec, kind: type) -> None:
    with pytest.raises(TypeError, match="cannot be registered: it is sent as it is"):
        codec.register(kind, str, str)


def test_a_type_registered_at_one_end_only_is_named(rich: Mob) -> None:
    with pytest.raises(BadMessage) as caught:
        Mob().codec.decode(rich.codec.encode([Money(5)]))
    assert str(caught.value) == (
        f"a {__name__}:Money arrived, and this process has not registered that type. Call mob.register(...) for it in"
        " both processes, best in a module that both import."
    )


def test_registered_functions_that_raise_are_named(codec: Codec) -> None:
    codec.register(Money, lambda money: 1 / money.cents, lambda data: 1 / (data - 1))
    with pytest.raises(BadMessage) as caught:
        codec.encode([Money(0)])
    assert str(caught.value) == "cannot send args[0]: encoding it raised ZeroDivisionError: division by zero."
    with pytest.raises(BadMessage) as caught:
        over(codec, [Money(1)])
    assert (
        str(caught.value)
        == f"the decoder registered for {__name__}:Money failed: ZeroDivisionError: float division by zero"
    )


def test_what_a_registered_encoder_returns_is_part_of_the_path(codec: Codec) -> None:
    codec.register(Money, lambda money: {"cents": money.cents}, lambda data: data)
    with pytest.raises(BadMessage) as caught:
        codec.encode([Money(object())])
    assert caught.value.where == "args[0]['cents']"


def test_a_registered_encoder_that_returns_its_argument_is_refused(codec: Codec) -> None:
    codec.register(Money, lambda money: money, lambda data: data)
    with pytest.raises(BadMessage, match="contains itself"):
        codec.encode([Money(1)])


def test_a_registered_encoder_that_never_ends_is_refused(codec: Codec) -> None:
    codec.register(Money, lambda money: [Money(1)], lambda data: data)
    with pytest.raises(BadMessage, match="nested too deeply"):
        codec.encode([Money(1)])


# --- several threads --------------------------------------------------------------------------------------------------


def test_threads_share_a_codec() -> None:
    mob = Mob()
    register_money(mob.codec)
    failures: list[Any] = []

    def work(number: int) -> None:
        for turn in range(300):
            value = [number, HUGE + turn, Money(number), {"f": len}, str(number) * turn]
            if over(mob.codec, value) != value:
                failures.append(value)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(mob.lent) == len(mob.borrowed) == 1200


def test_a_reference_is_an_array_of_two_numbers(codec: Codec) -> None:
    found = msgspec.msgpack.decode(codec.encode(len))
    assert (found.code, msgspec.msgpack.decode(found.data)) == (CALLBACK, [7, id(len)])
