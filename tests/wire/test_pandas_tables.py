"""Frames, series and indexes of pandas: what arrives is what was sent, including the type of each value."""

from __future__ import annotations

import copy
import datetime as dt
import decimal
import pickle
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings, strategies as st
from msgspec.msgpack import Ext

from mob.errors import BadMessage
from mob.wire.codec import Codec
from mob.wire.pandas_tables import FEW, MOST_PARTS
from mob.wire.sharing import LARGE
from tests.wire.samples import Mob, over
from tests.wire.test_sharing import Memory
from tests.wire.test_tables import sharing_codec

DAYS = pd.date_range("2020", periods=3)
FRAMES = {
    "numbers": pd.DataFrame({"a": [1.5, float("nan")], "b": [1, 2], "c": np.array([1, 2], "i1")}),
    "of one dtype": pd.DataFrame(np.arange(12.0).reshape(4, 3)),
    "bools and complex": pd.DataFrame({"b": [True, False], "c": [1j, 2]}),
    "texts": pd.DataFrame({"s": ["a", None, "ü"]}),
    "many texts": pd.DataFrame({"s": [f"text {i}" for i in range(FEW + 1)]}),
    "objects": pd.DataFrame({"o": pd.Series(["a", None, 1, 2.5, b"x", True, [1, {"a": 2**60}]], dtype=object)}),
    "missing objects": pd.DataFrame({"o": pd.Series(["a", float("nan"), None], dtype=object)}),
    "objects of Arrow": pd.DataFrame({"d": [decimal.Decimal("1.1"), None], "e": [dt.date(2020, 1, 1), None]}),
    "nested objects of Arrow": pd.DataFrame({"d": [[dt.date(2020, 1, 1)], []]}),
    "moments of one zone": pd.DataFrame({"d": pd.Series([dt.datetime(2020, 1, 1, tzinfo=dt.UTC)], dtype=object)}),
    "arrays in cells": pd.DataFrame({"a": [np.arange(3.0), np.arange(3.0)], "b": [np.array([1], "i2"), None]}),
    "lists and dicts": pd.DataFrame({"l": [[1], [2.5, "x"]], "d": [{"a": 1}, {"b": [None], 2: {}}]}),
    "categories": pd.DataFrame(
        {"c": pd.Categorical(["a", "b", None, "a"]), "o": pd.Categorical([3, 1, 2, 1], ordered=True)}
    ),
    "times": pd.DataFrame({"n": pd.date_range("2020", periods=3, unit="s"), "d": pd.timedelta_range("1h", periods=3)}),
    "zones": pd.DataFrame({zone: pd.date_range("2020-03-29", periods=3, tz=zone) for zone in ("Europe/Berlin", "UTC")}),
    "an offset": pd.DataFrame({"z": pd.date_range("2020", periods=3, tz="+02:00")}),
    "no time": pd.DataFrame(
        {"z": pd.to_datetime(["2020-01-01", None]).tz_localize("Asia/Tokyo"), "n": [pd.NaT, pd.NaT]}
    ),
    "nullable": pd.DataFrame(
        {
            "i": pd.array([1, None], dtype="Int64"),
            "b": pd.array([True, None], dtype="boolean"),
            "f": pd.array([1.5, None], dtype="Float32"),
            "s": pd.array(["x", None], dtype="string"),
        }
    ),
    "periods": pd.DataFrame({"p": pd.period_range("2020-01", periods=3, freq="M")}),
    "intervals": pd.DataFrame(
        {"i": pd.interval_range(0, 3, closed="left"), "t": pd.interval_range(DAYS[0], periods=3)}
    ),
    "Arrow dtypes": pd.DataFrame(
        {
            "i": pd.array([1, None], dtype="int64[pyarrow]"),
            "l": pd.array([["a"], None], pd.ArrowDtype(pa.list_(pa.string()))),
        }
    ),
    "empty": pd.DataFrame(),
    "without rows": pd.DataFrame({"a": np.array([], "f8"), "s": [], "c": pd.Categorical([])}),
    "without columns": pd.DataFrame(index=[1, 2, 3]),
    "duplicate columns": pd.DataFrame([[1, 2.5, "x"]], columns=["a", "a", "b"]),
    "number columns": pd.DataFrame([[1, 2]], columns=[0, 7]),
    "mixed columns": pd.DataFrame([[1, 2, 3, 4]], columns=[0, "a", None, 1.5]),
    "date columns": pd.DataFrame([[1, 2, 3]], columns=DAYS),
    "nanosecond columns": pd.DataFrame([[1, 2, 3]], columns=DAYS.as_unit("ns")),
    "duration columns": pd.DataFrame([[1, 2]], columns=pd.to_timedelta([1, 2], unit="ns")),
    "columns of several levels": pd.DataFrame(
        [[1, 2]], columns=pd.MultiIndex.from_tuples([("a", 1), ("b", 2)], names=["x", None])
    ),
    "tuple columns": pd.DataFrame([[1, 2]], columns=pd.Index([("a", 1), "b"], tupleize_cols=False)),
    "columns and index of dates": pd.DataFrame(
        [[1, 2]], index=pd.Index([dt.date(2020, 1, 1)]), columns=pd.Index([dt.date(2020, 1, 1), dt.date(2021, 1, 1)])
    ),
    "columns of moments and texts": pd.DataFrame(
        [[1, 2, 3]],
        columns=pd.Index([dt.datetime(2020, 1, 1), "x", pd.Timestamp("2020").as_unit("ns")], dtype=object),
    ),
    "numbers of NumPy among labels": pd.DataFrame([[1, 2]], columns=pd.Index([np.int64(1), "x"], dtype=object)),
    "categories of several types": pd.DataFrame({"c": pd.Categorical([1, "a", ("b", 2)])}),
    "levels of several types": pd.DataFrame(
        {"a": [1, 2, 3]}, index=pd.MultiIndex.from_tuples([(1, "a"), ("b", dt.date(2020, 1, 1)), (None, 2.5)])
    ),
    "day columns": pd.DataFrame(
        [[1, 2]], columns=pd.Index([("a", DAYS[0]), pd.Period("2020", "Y")], tupleize_cols=False)
    ),
    "named index": pd.DataFrame({"a": [1, 2]}, index=pd.Index([3.5, 4], name="k")),
    "text index": pd.DataFrame({"a": [1, 2]}, index=["x", "y"]),
    "index of several levels": pd.DataFrame(
        {"a": [1, 2, 3]}, index=pd.MultiIndex.from_arrays([["x", "y", None], DAYS], names=["k", ("t", 1)])
    ),
    "days": pd.DataFrame({"a": [1, 2, 3]}, index=pd.date_range("2020", periods=3, freq="D", name="when")),
    "hours of a zone": pd.DataFrame(
        {"a": [1, 2, 3]}, index=pd.date_range("2020", periods=3, freq="h", tz="Asia/Tokyo")
    ),
    "steps": pd.DataFrame({"a": [1, 2, 3]}, index=pd.timedelta_range("1h", periods=3, freq="2h")),
    "index of categories": pd.DataFrame({"a": [1, 2]}, index=pd.CategoricalIndex(["a", "b"])),
    "index of periods": pd.DataFrame({"a": [1, 2]}, index=pd.period_range("2020", periods=2, freq="Q")),
    "days of Arrow": pd.DataFrame({"a": [1, 2, 3]}, index=pd.Index(DAYS).astype("timestamp[us][pyarrow]")),
    "range": pd.DataFrame({"a": [1, 2]}, index=pd.RangeIndex(10, 30, 10, name="r")),
    "reversed": pd.DataFrame({"a": np.arange(4.0), "b": np.arange(4.0)})[["b", "a"]].iloc[::-1],
    "every other column": pd.DataFrame(np.arange(20.0).reshape(4, 5)).iloc[:, [0, 2, 4, 3]],
    "wide": pd.DataFrame({i: np.arange(3.0) if i % 2 else np.arange(3) for i in range(MOST_PARTS + 1)}),
}
SERIES = [
    pd.Series([1, 2], name="x"),
    pd.Series([1.5], index=["k"], name=("a", 1)),
    pd.Series([1, 2], name=DAYS[0]),
    pd.Series([1, 2], name=pd.Period("2020", "Y")),
    pd.Series([1, 2], name=dt.date(2020, 1, 1)),
    pd.Series([1, 2], name=dt.datetime(2020, 1, 1)),
    pd.Series([], dtype=object),
    pd.Series([[1], None], dtype=object),
    pd.Series(pd.Categorical(["a"])),
    pd.Series(["a", None]),
]


def assert_equal(found: pd.DataFrame, wanted: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(found, wanted, check_freq=True)
    for one, other in ((found.index, wanted.index), (found.columns, wanted.columns)):
        pd.testing.assert_index_equal(one, other, exact=True)
        assert [*map(kinds_of, one)] == [*map(kinds_of, other)]
    cells, others = (frame.to_numpy(object).ravel() for frame in (found, wanted))
    assert [*map(kinds_of, cells)] == [*map(kinds_of, others)]


def kinds_of(value: Any) -> Any:
    """Return the type of a value, and of everything in it."""
    if isinstance(value, dict):
        return dict, [*map(kinds_of, [*value, *value.values()])]
    return (type(value), [*map(kinds_of, value)]) if isinstance(value, (list, tuple)) else type(value)


@pytest.mark.parametrize("name", FRAMES)
def test_a_frame_arrives_as_it_was(codec: Codec, name: str) -> None:
    assert_equal(over(codec, {"df": FRAMES[name]})["df"], FRAMES[name])


def test_ints_of_any_size_are_plain_data_in_a_column_too(codec: Codec) -> None:
    frame = pd.DataFrame({"o": pd.Series([2**70, {"a": -(2**90)}], dtype=object)})
    assert_equal(over(codec, frame), frame)


@pytest.mark.parametrize(
    ("sent", "arrives"),
    [
        ([np.int64(1), 2.5], [1, 2.5]),
        ([np.int64(2**53 + 1), 0.5], [2**53 + 1, 0.5]),
        ([np.str_("x"), b"y"], ["x", b"y"]),
        ([{"a": np.int64(1)}, {np.str_("b"): [np.float32(0.5)]}], [{"a": 1}, {"b": [0.5]}]),
        ([np.True_, None], [True, None]),
    ],
    ids=str,
)
def test_numbers_and_texts_of_numpy_among_objects_arrive_as_those_of_python(
    codec: Codec, sent: list[Any], arrives: list[Any]
) -> None:
    found = over(codec, pd.Series(sent, dtype=object)).tolist()
    assert found == arrives
    assert kinds_of(found) == kinds_of(arrives)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([dt.date(2020, 1, 1), pd.NaT], [dt.date(2020, 1, 1), None]),
        (["a", pd.NA], ["a", None]),
        ([dt.time(1), float("nan")], [dt.time(1), None]),
        ([decimal.Decimal("NaN"), decimal.Decimal(1)], [None, decimal.Decimal(1)]),
    ],
    ids=str,
)
def test_what_is_missing_among_objects_of_arrow_arrives_as_none(
    codec: Codec, values: list[Any], expected: list[Any]
) -> None:
    assert over(codec, pd.Series(values, dtype=object)).tolist() == expected


@pytest.mark.parametrize("name", FRAMES)
def test_large_or_small_it_is_the_same_frame(name: str) -> None:
    memory = Memory()
    codec = sharing_codec(memory)
    rows = len(FRAMES[name])
    frame = FRAMES[name].take(np.arange(20_000 * rows) % rows) if rows in (3, 4) else FRAMES[name]
    arrived = codec.decode(codec.encode_sharing(frame, memory.share))
    pd.testing.assert_frame_equal(arrived, frame)
    assert bool(memory.buffers) is (frame is not FRAMES[name])


@pytest.mark.parametrize("series", SERIES, ids=lambda series: f"{series.dtype} {series.name}")
def test_a_series_arrives_as_it_was(codec: Codec, series: pd.Series) -> None:
    arrived = over(codec, series)
    pd.testing.assert_series_equal(arrived, series)
    assert type(arrived.name) is type(series.name)


@pytest.mark.parametrize("name", FRAMES)
def test_an_index_arrives_as_it_was(codec: Codec, name: str) -> None:
    pd.testing.assert_index_equal(over(codec, FRAMES[name].index), FRAMES[name].index, exact=True)
    pd.testing.assert_index_equal(over(codec, FRAMES[name].columns), FRAMES[name].columns, exact=True)


@pytest.mark.parametrize("name", ["numbers", "texts", "objects", "categories", "zones", "nullable", "periods", "days"])
def test_without_pyarrow_it_is_the_same(codec: Codec, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert_equal(over(codec, FRAMES[name]), FRAMES[name])


def test_a_frequency_with_holidays_is_lost(codec: Codec) -> None:
    days = pd.bdate_range("2020-01-01", periods=3, freq="C", holidays=["2020-01-02"])
    arrived = over(codec, pd.DataFrame({"a": [1, 2, 3]}, index=days)).index
    assert list(arrived) == list(days)
    assert arrived.freq is None


def test_columns_that_lie_side_by_side_travel_as_one_and_none_is_copied_where_it_arrives() -> None:
    memory = Memory()
    codec = sharing_codec(memory)
    frame = pd.DataFrame({"a": np.arange(LARGE) / 2, "b": np.arange(LARGE) / 3, "c": np.arange(LARGE)})
    body = codec.encode_sharing(frame, memory.share)
    assert [len(buffer) for buffer in memory.buffers] == [16 * LARGE, 8 * LARGE]
    arrived = codec.decode(body)
    for name, buffer in (("a", 0), ("b", 0), ("c", 1)):
        assert np.shares_memory(arrived[name].to_numpy(), np.frombuffer(memory.buffers[buffer], "u1"))


def test_a_frame_of_one_array_is_shared_as_that_array() -> None:
    memory = Memory()
    codec = sharing_codec(memory)
    frame = pd.DataFrame(np.random.default_rng(1).random((LARGE, 5)))
    arrived = codec.decode(codec.encode_sharing(frame, memory.share))
    assert len(memory.buffers) == 1
    assert np.shares_memory(arrived.to_numpy(), np.frombuffer(memory.buffers[0], "u1"))
    pd.testing.assert_frame_equal(arrived, frame)


def test_a_slice_does_not_send_what_it_is_a_slice_of(codec: Codec) -> None:
    frame = pd.DataFrame({"a": range(LARGE), "s": [f"text {i}" for i in range(LARGE)]})
    assert len(codec.encode(frame.iloc[100:105])) < 500
    pd.testing.assert_frame_equal(over(codec, frame.iloc[100:105]), frame.iloc[100:105])


# -- writing to what has arrived ---------------------------------------------------------------------------------------


IS_COPIED_ON_WRITE = int(pd.__version__.partition(".")[0]) >= 3


def _set(at: Any, value: Any) -> Callable[[pd.DataFrame], None]:
    return lambda df: df.loc.__setitem__(at(df), value)


def _clip(df: pd.DataFrame) -> None:
    df[df > 1] = 0


WRITES: dict[str, Callable[[pd.DataFrame], Any]] = {
    "one cell": _set(lambda df: (0, "a"), 7),
    "a whole column": _set(lambda df: (slice(None), "a"), 1),
    "where a mask is set": _set(lambda df: (df["a"] > 1, "a"), 0),
    "by place": lambda df: df.iloc.__setitem__((0, 0), 7.0),
    "one value": lambda df: df.at.__setitem__((0, "a"), 7.0),
    "a mask of the frame": _clip,
    "fillna of a column": lambda df: df.fillna({"a": 0}, inplace=True),
    "fillna": lambda df: df.fillna(0, inplace=True),
    "ffill": lambda df: df.ffill(inplace=True),
    "replace": lambda df: df.replace(1, 2, inplace=True),
    "where": lambda df: df.where(df > 1, 0, inplace=True),
    "clip": lambda df: df.clip(0, 1, inplace=True),
    "update": lambda df: df.update(df + 1),
}
NUMBERS = pd.DataFrame({"a": [1.0, float("nan"), 3.0], "b": [4.0, 5.0, float("nan")]})


@pytest.mark.skipif(not IS_COPIED_ON_WRITE, reason="pandas 2 writes in place")
@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_pandas_copies_what_has_arrived_before_it_writes(codec: Codec, write: Callable[[pd.DataFrame], Any]) -> None:
    arrived, own = over(codec, NUMBERS), NUMBERS.copy()
    before = arrived["a"].to_numpy()
    write(arrived)
    write(own)
    pd.testing.assert_frame_equal(arrived, own)
    np.testing.assert_array_equal(before, NUMBERS["a"])


@pytest.mark.skipif(not IS_COPIED_ON_WRITE, reason="pandas 2 writes in place")
@pytest.mark.parametrize("name", [name for name, frame in FRAMES.items() if frame.size])
def test_columns_of_every_dtype_can_be_written_to(codec: Codec, name: str) -> None:
    arrived, own = over(codec, FRAMES[name]), FRAMES[name].copy()
    for frame in (arrived, own):
        frame.iloc[0, 0] = frame.iloc[-1, 0]
    assert_equal(arrived, own)


@pytest.mark.skipif(not IS_COPIED_ON_WRITE, reason="pandas 2 writes in place")
@pytest.mark.parametrize(
    "sent", [pd.Series([1.0, 2.0]), pl.Series([1.0, 2.0]), pa.array([1.0, 2.0])], ids=["pandas", "polars", "pyarrow"]
)
def test_a_series_can_be_written_to(codec: Codec, sent: Any) -> None:
    arrived = codec.decoder(pd.Series)(codec.encode(sent))
    arrived[0] = 7
    assert list(arrived) == [7, 2]


def test_a_large_frame_is_written_to_without_a_trace_in_the_shared_memory() -> None:
    memory = Memory()
    codec = sharing_codec(memory)
    arrived = codec.decode(codec.encode_sharing(pd.DataFrame({"a": np.arange(LARGE)}), memory.share))
    assert np.shares_memory(arrived["a"].to_numpy(), np.frombuffer(memory.buffers[0], "u1"))
    before = bytes(memory.buffers[0])
    if not IS_COPIED_ON_WRITE:
        with pytest.raises(ValueError, match="read-only"):
            arrived.iloc[0, 0] = 7
        arrived = arrived.copy()
    arrived.iloc[0, 0] = 7
    assert arrived.iloc[0, 0] == 7
    assert bytes(memory.buffers[0]) == before


def test_columns_of_what_has_arrived_can_be_replaced(codec: Codec) -> None:
    arrived = over(codec, FRAMES["numbers"])
    arrived["b"] = arrived["b"] + 1
    arrived["new"] = 0
    assert list(arrived["b"]) == [2, 3]
    assert list(arrived["new"]) == [0, 0]


def test_what_was_made_of_what_has_arrived_never_writes_to_read_only_memory(codec: Codec) -> None:
    made = over(codec, NUMBERS).iloc[:]  # outlives the frame that arrived
    with pytest.raises(ValueError, match="read-only"):
        made.iloc[0, 0] = 7.0
    made = made.copy()
    made.iloc[0, 0] = 7.0
    assert made.iloc[0, 0] == 7


def test_what_has_arrived_can_be_copied_and_pickled_as_any_frame(codec: Codec) -> None:
    arrived = over(codec, NUMBERS)
    for found in (
        copy.copy(arrived),
        copy.deepcopy(arrived),
        pickle.loads(pickle.dumps(arrived)),
        over(codec, arrived),
    ):
        pd.testing.assert_frame_equal(found, NUMBERS)
    assert list(arrived.columns) == ["a", "b"]


# -- what cannot be sent -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (
            pd.DataFrame({"good": [1], "bad": [object()]}),
            r"the column 'bad' holds objects \(object\) that are not plain",
        ),
        (pd.Series([{1}, "a"], name="bad"), r"the Series 'bad' holds objects \(set, str\) that are not plain"),
        (pd.Series([{1}, "a"]), r"the Series holds objects \(set, str\) that are not plain"),
        (pd.DataFrame({"bad": pd.arrays.SparseArray([0, 0, 1])}), r"the column 'bad' has the dtype Sparse"),
        (pd.Series([1], name=frozenset({1})), "a name or label of type frozenset"),
    ],
)
def test_a_column_that_cannot_be_sent_is_named(codec: Codec, value: Any, said: str) -> None:
    with pytest.raises(BadMessage, match=rf"cannot send args\[0\]: .*{said}"):
        codec.encode([value])


EAST = dt.timezone(dt.timedelta(hours=5))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([dt.date(2020, 1, 1), dt.datetime(2020, 1, 1, 5, 30)], r"datetime.datetime\(2020, 1, 1, 5, 30\)"),
        ([dt.datetime(2020, 1, 1, tzinfo=dt.UTC), dt.datetime(2020, 1, 1)], r"datetime.datetime\(2020, 1, 1, 0, 0\)"),
        ([dt.datetime(2020, 1, 1), dt.datetime(2020, 1, 1, tzinfo=EAST)], r"datetime.datetime\(2020, 1, 1, 0, 0, tz"),
        (
            [dt.datetime(2020, 1, 1, tzinfo=dt.UTC), dt.datetime(2020, 1, 1, 5, tzinfo=EAST)],
            r"datetime.datetime\(2020, 1, 1, 5, 0, tz",
        ),
        ([dt.datetime(2020, 10, 25, 2, fold=1)], r"datetime.datetime\(2020, 10, 25, 2, 0, fold=1\)"),
        ([dt.time(1, tzinfo=dt.UTC)], r"datetime.time\(1, 0, tz"),
        ([pd.Timestamp("2020-01-01 00:00:00.000000001")], r"Timestamp\('2020-01-01 00:00:00.000000001'\)"),
        ([pd.Timedelta(1, "ns")], r"Timedelta\('0 days 00:00:00.000000001'\)"),
        ([{"a": 1, "d": dt.date(2020, 1, 1)}, {"b": 2}], r"\{'a': 1, 'd': datetime.date\(2020, 1, 1\)\}"),
        ([(1, 2), (3,)], r"\(1, 2\)"),
        ([1, decimal.Decimal("2.5")], "1"),
        ([bytearray(b"x")], r"bytearray\(b'x'\)"),
        ([[dt.date(2020, 1, 1), float("nan")]], r"\[datetime.date\(2020, 1, 1\), nan\]"),
    ],
    ids=str,
)
def test_objects_that_arrow_would_change_are_refused(codec: Codec, values: list[Any], said: str) -> None:
    frame = pd.DataFrame({"good": range(len(values)), "bad": pd.Series(values, dtype=object)})
    refused = rf"cannot send args: the column 'bad' holds objects \(.*\) that Arrow does not keep as they are: {said}"
    with pytest.raises(BadMessage, match=rf"{refused}.* would arrive as .*\. Convert them to one type"):
        codec.encode(frame)


DATES = [dt.date(2020, 1, 1), dt.datetime(2020, 1, 1, 5), dt.datetime(2020, 1, 1, tzinfo=EAST), dt.timedelta(1)]
ODD = [decimal.Decimal("1.5"), dt.time(1), pd.Timestamp("2020"), (1, dt.date(2020, 1, 1)), {1}]
CELLS = st.sampled_from([1, 2.5, "x", b"y", True, *DATES, *ODD])
NESTED = CELLS | st.lists(CELLS, max_size=2) | st.dictionaries(st.sampled_from("ab"), CELLS, max_size=2)


@settings(deadline=None)
@given(st.lists(NESTED, min_size=1, max_size=3))
def test_objects_of_all_kinds_arrive_as_they_were_or_are_refused(values: list[Any]) -> None:
    array = np.empty(len(values), object)
    array[:] = values
    try:
        found = over(Mob().codec, pd.Series(array, dtype=object)).tolist()
    except BadMessage:
        return
    assert found == values
    assert [*map(kinds_of, found)] == [*map(kinds_of, values)]


def test_a_column_that_takes_pyarrow_says_so(codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(BadMessage, match=r"the column 'd' holds objects: .* \(pip install pyarrow\)"):
        codec.encode(FRAMES["objects of Arrow"])


def test_parts_that_nobody_has_sent_are_a_bad_message(codec: Codec) -> None:
    with pytest.raises(BadMessage, match=r"a pandas\.DataFrame arrived that cannot be rebuilt here: "):
        codec.decode(codec.encode(Ext(10, codec.encode(["pandas.DataFrame", [1, 2, 3]]))))
