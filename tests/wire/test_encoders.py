"""Values that are sent as they are, or as something simpler, when nothing is annotated."""

from __future__ import annotations

import array
import collections
import datetime as dt
import decimal
import pathlib
import uuid
from types import MappingProxyType
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, strategies as st

from mob.errors import BadMessage
from mob.wire.codec import Codec
from tests.wire.samples import (
    HUGE,
    UTC,
    Blob,
    Car,
    Circle,
    Color,
    Count,
    Level,
    Mob,
    Moment,
    Name,
    Names,
    Pair,
    Row,
    Share,
    User,
    over,
    short,
)

AS_IT_IS = [
    bytearray(b"ab"),
    memoryview(b"ab"),
    *(None, True, False, 0, -1, 2**63, 2**64 - 1, -(2**63), 1.5, float("inf"), "", "grüße", b"", b"\0\xff"),
    *([], {}, [1, [2, [3]]], {"a": {1: None, 2.5: True, None: 0, b"b": 1}}),
    *(2**64, -(2**63) - 1, HUGE, -HUGE, [HUGE], {"a": [HUGE, {"b": -HUGE}]}, {HUGE: 1}),
    *(1j, 2 - 3j, [1j], {"z": 1j}),
    *(range(3), range(5, 1, -2), range(HUGE), [range(0)]),
    dt.datetime(2024, 2, 29, 12, 30, 1, 5, tzinfo=UTC),
]


@pytest.mark.parametrize("value", AS_IT_IS, ids=short)
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


@pytest.mark.parametrize(("value", "wanted"), COMES_OUT_AS, ids=short)
def test_what_comes_out_as_something_simpler(codec: Codec, value: Any, wanted: Any) -> None:
    result = over(codec, value)
    assert result == wanted
    assert type(result) is type(wanted)


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.binary() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers() | st.none(), inner),
    max_leaves=20,
)


@given(PLAIN)
def test_any_plain_value_comes_out_equal(value: Any) -> None:
    assert over(Mob().codec, value) == value


@given(st.integers())
def test_any_int_comes_out_of_a_typed_decoder(value: int) -> None:
    codec = Mob().codec
    assert codec.decoder(list[int])(codec.encode([value])) == [value]


def has_surrogate(value: Any) -> bool:
    if isinstance(value, str):
        return any("\ud800" <= character <= "\udfff" for character in value)
    return any(map(has_surrogate, [*value, *value.values()] if isinstance(value, dict) else value))


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
