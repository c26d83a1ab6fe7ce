"""Values arrive as annotated, or are a misfit."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import decimal
import io
import pathlib
import typing
import uuid
from collections.abc import Callable, Iterable, Iterator, Reversible
from typing import Annotated, Any, Literal

import attrs
import msgspec
import numpy as np
import numpy.typing as npt
import pytest

from mob.wire.annotations import converter, fit
from mob.wire.codec import Codec
from tests.wire.samples import (
    HUGE,
    UTC,
    Access,
    Blob,
    Car,
    Circle,
    Closes,
    Color,
    Count,
    Level,
    Name,
    Options,
    Pair,
    Quacks,
    Ratio,
    Row,
    Share,
    Square,
    Stranger,
    T,
    User,
    short,
)

ANNOTATED = [
    (1, int, 1),
    (HUGE, int, HUGE),
    (1, float, 1.0),
    ([HUGE], list[int], [HUGE]),
    ((1, HUGE), tuple[int, ...], (1, HUGE)),
    ((1, 2, 3), tuple[int, ...], (1, 2, 3)),
    ((), tuple[int, ...], ()),
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


@pytest.mark.parametrize(("value", "annotation", "wanted"), ANNOTATED, ids=short)
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
    (1, str | bytes | None, "Expected `str | bytes | None`, got `int`"),
    ("x", list[int] | set[int], "Expected `list[int] | set[int]`, got `str`"),
    ([1], dict[str, str | bytes], "Expected `object`, got `array`"),
    ("abcd", bytes, "Expected `bytes`, got `str`"),
    (HUGE, list[Stranger], "Expected `array`, got `int`"),
    (0.75, Ratio, "0.75 is not a valid Ratio"),
    (-1, Annotated[int, msgspec.Meta(ge=0)], "Expected `int` >= 0"),
]


@pytest.mark.parametrize(("value", "annotation", "text"), MISFITS, ids=short)
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


def test_a_file_is_no_instance_of_what_files_are_annotated_with() -> None:
    with pytest.raises(ValueError, match=r"no file is an instance of `IO`: annotate this field as `io.IOBase`"):
        fit(typing.IO, io.StringIO())


@dataclasses.dataclass
class Box:
    sides: Iterable[int]


class Drawn:
    """An iterator of another process, which converts its items when they are read."""

    def __init__(self, items: list[Any], convert: Callable[[Any], Any] | None = None) -> None:
        self.items = iter(items)
        self.convert = convert

    def __iter__(self) -> Drawn:
        return self

    def __next__(self) -> Any:
        assert self.convert
        return self.convert(next(self.items))

    def converted_by(self, convert: Callable[[Any], Any]) -> Drawn:
        return Drawn(list(self.items), convert)


@pytest.mark.parametrize(
    ("annotation", "value", "found"),
    [
        (Iterable[float], [1], [1.0]),
        (Reversible[tuple[int, str]], [[1, "a"]], [(1, "a")]),
        (Iterable[set[int]] | None, [[1]], [{1}]),
        (Box, {"sides": [1]}, Box([1])),
        (Iterable[Any], ["x", 1], ["x", 1]),
        (Iterable[memoryview], ["unchecked"], ["unchecked"]),
        (Iterable[str], "abc", "abc"),
        (Iterable[int], range(3), range(3)),
        (Iterable[str], {"a": 1}, {"a": 1}),
        (Iterable[int], b"", b""),
    ],
)
def test_what_is_iterated_is_converted_as_a_list(annotation: Any, value: Any, found: Any) -> None:
    made = converter(annotation)(value)
    assert (made, type(made)) == (found, type(found))


@pytest.mark.parametrize(
    ("annotation", "value", "text"),
    [
        (Iterable[int], ["x"], r"\[0\]: expected int, got str 'x'"),
        (Iterable[int], "x", "expected int, got str 'x'"),
        (Iterable[int], {"a": 1}, "expected int, got str"),
        (Iterable[str], range(2), "expected str, got int 0"),
        (Iterable[int], 5, "Expected `Iterable`, got `int`"),
        (Box, {"sides": ["x"]}, r"\.sides\[0\]: expected int|sides\[0\]: expected int"),
    ],
)
def test_what_is_iterated_is_checked_as_a_list(annotation: Any, value: Any, text: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=text):
        converter(annotation)(value)


@pytest.mark.parametrize("annotation", [Iterable[int], Iterator[int], Iterator[int] | None])
def test_an_iterator_of_another_process_converts_as_it_is_read(annotation: Any) -> None:
    found = converter(annotation)(Drawn([1, "x"]))
    assert next(found) == 1
    with pytest.raises(msgspec.ValidationError):
        next(found)


@dataclasses.dataclass(frozen=True)
class Total:
    parts: list[int]
    total: int = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "total", sum(self.parts))


@attrs.define
class Heap:
    size: int
    double: int = attrs.field(init=False)
    _depth: int = attrs.field(init=False, default=0)

    def __attrs_post_init__(self) -> None:
        self.double = 2 * self.size


@dataclasses.dataclass(init=False)
class Odd:
    size: int
    double: int = dataclasses.field(init=False, default=0)

    def __init__(self, anything: int) -> None: ...


def later(made: Any, **values: Any) -> Any:
    for name, value in values.items():
        object.__setattr__(made, name, value)
    return made


@pytest.mark.parametrize(
    ("annotation", "value", "found"),
    [
        (Total, {"parts": [1, 2]}, Total([1, 2])),
        (Total, {"parts": [1, 2], "total": 9}, later(Total([1, 2]), total=9)),
        (list[Total], [{"parts": []}], [Total([])]),
        (Total | None, {"parts": []}, Total([])),
        (Heap, {"size": 2}, Heap(2)),
        (Heap, {"size": 2, "double": 5}, later(Heap(2), double=5)),
        (Odd, {"size": 2, "double": 5}, later(Odd(0), size=2, double=5)),
    ],
)
def test_fields_that_the_constructor_does_not_take(annotation: Any, value: Any, found: Any) -> None:
    assert converter(annotation)(value) == found


def test_a_field_that_the_constructor_does_not_take_is_checked() -> None:
    with pytest.raises(msgspec.ValidationError, match=r"total: expected int, got str 'x'"):
        converter(Total)({"parts": [], "total": "x"})
