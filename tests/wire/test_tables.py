"""Tables of polars and pyarrow: what arrives is what was sent, without a copy where Arrow allows it."""

from __future__ import annotations

import datetime as dt
import decimal
import struct
import sys
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from msgspec.msgpack import Ext
from polars.testing import assert_frame_equal

from mob.errors import BadMessage
from mob.wire.codec import Codec
from mob.wire.sharing import LARGE, LARGE_BUFFER, inlined, looked_at
from mob.wire.tables import CHECKED_FULLY, ArrowStream
from tests.wire.samples import Mob, over
from tests.wire.test_sharing import Memory

DAY, NOON = dt.date(2020, 1, 1), dt.datetime(2020, 1, 1, 12)
FRAMES = {
    "plain": pl.DataFrame({"a": [1, None], "s": ["x", None], "b": [b"x", None], "bo": [True, None], "n": [None, None]}),
    "nested": pl.DataFrame({"l": [[1], []], "st": [{"a": 1}, {"a": None}], "ls": [[{"a": "b"}], None]}),
    "times": pl.DataFrame({"d": [DAY], "dt": [NOON], "td": [dt.timedelta(1)], "t": [dt.time(1)]}),
    "zones": pl.DataFrame({"z": pl.Series([NOON]).dt.replace_time_zone("Europe/Berlin")}),
    "decimal": pl.DataFrame({"d": [decimal.Decimal("1.10"), None]}),
    "categorical": pl.DataFrame({"c": pl.Series(["a", "b", None], dtype=pl.Categorical)}),
    "enum": pl.DataFrame({"e": pl.Series(["a", "b", None], dtype=pl.Enum(["b", "a", "c"]))}),
    "narrow": pl.DataFrame({"i": pl.Series([1, 2], dtype=pl.Int8), "f": pl.Series([1, 2], dtype=pl.Float32)}),
    "array": pl.DataFrame({"a": pl.Series([[1, 2], [3, 4]], dtype=pl.Array(pl.Int64, 2))}),
    "int128": pl.DataFrame({"i": pl.Series([1, 2**100], dtype=pl.Int128)}),
    "empty": pl.DataFrame(),
    "without rows": pl.DataFrame({"a": [], "s": []}, schema={"a": pl.Int64, "s": pl.String}),
    "in chunks": pl.concat([pl.DataFrame({"a": [1]}), pl.DataFrame({"a": [2]})], rechunk=False),
}
EMPTY_ARRAY = pl.Array(pl.Int8, (2, 0))
SERIES = [pl.Series("x", [1, None]), pl.Series([], dtype=pl.Int8), pl.Series("s", [{"a": 1}])]
TABLE = pa.table(
    {"a": pa.chunked_array([[1], [2, 3]]), "d": pa.array(["x", "y", "x"]).dictionary_encode(), "s": ["p", "q", None]}
).replace_schema_metadata({"key": "value"})
ARROWS = [
    TABLE,
    TABLE.slice(1, 1),
    TABLE.to_batches()[0],
    TABLE.schema.empty_table(),
    TABLE.column("a"),
    pa.table({}),
    pa.record_batch({"a": [1], "b": [None]}),
    pa.array([1, None]),
    pa.array([{"a": 1}]),
    pa.array([b"0" * 16], pa.uuid()),
]


@pytest.fixture(params=["pyarrow", "polars alone"])
def with_pyarrow(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Return whether the program imported pyarrow."""
    if request.param != "pyarrow":
        monkeypatch.setitem(sys.modules, "pyarrow", None)
    return request.param == "pyarrow"


@pytest.mark.usefixtures("with_pyarrow")
@pytest.mark.parametrize("name", FRAMES)
def test_a_frame_of_polars_arrives_as_it_was(codec: Codec, name: str) -> None:
    arrived = over(codec, {"frame": FRAMES[name]})["frame"]
    assert_frame_equal(arrived, FRAMES[name])
    assert arrived.schema == FRAMES[name].schema


@pytest.mark.usefixtures("with_pyarrow")
@pytest.mark.parametrize("series", SERIES, ids=lambda series: str(series.dtype))
def test_a_series_of_polars_keeps_its_name(codec: Codec, series: pl.Series) -> None:
    arrived = over(codec, series)
    assert arrived.equals(series, check_names=True, check_dtypes=True)
    assert arrived.name == series.name


@pytest.mark.usefixtures("with_pyarrow")
def test_a_slice_does_not_send_what_it_is_a_slice_of(codec: Codec) -> None:
    frame = pl.DataFrame({"s": [f"a text that is too long to be kept inline {i}" for i in range(10_000)]})
    assert len(codec.encode(frame.slice(5, 3))) < 2_000
    assert over(codec, frame.slice(5, 3)).equals(frame.slice(5, 3))


@pytest.mark.usefixtures("with_pyarrow")
@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (pl.DataFrame({"things": pl.Series([object()], dtype=pl.Object)}), "the column 'things'"),
        (pl.Series("e", [None], dtype=EMPTY_ARRAY).to_frame(), r"the column 'e' of the DataFrame has the dtype Array"),
        (pl.Series("e", [], dtype=pl.List(EMPTY_ARRAY)), r"the column 'e' of the Series has the dtype List\(Array"),
        (pl.Series("e", [], dtype=pl.Struct({"a": pl.Int8, "e": EMPTY_ARRAY})), r"cast\(polars\.List"),
        (pl.LazyFrame({"a": [1]}), r"a query, not data\. Send .*\.collect\(\)"),
    ],
)
def test_what_polars_cannot_send_is_named(codec: Codec, frame: Any, said: str) -> None:
    with pytest.raises(BadMessage, match=rf"cannot send args\['x'\].*{said}"):
        codec.encode({"x": frame})


@pytest.mark.parametrize("value", ARROWS, ids=lambda value: f"{type(value).__name__} of {len(value)}")
def test_tables_and_arrays_of_pyarrow_arrive_as_they_were(codec: Codec, value: Any) -> None:
    arrived = over(codec, [value])[0]
    assert type(arrived) is type(value)
    assert arrived.equals(value)


def test_a_table_keeps_its_schema_and_its_metadata(codec: Codec) -> None:
    assert over(codec, TABLE).schema.equals(TABLE.schema, check_metadata=True)


def test_a_slice_of_a_table_is_small(codec: Codec) -> None:
    table = pa.table({"s": [f"text {i}" for i in range(10_000)], "n": range(10_000)})
    assert len(codec.encode(table.slice(10, 3))) < 2_000


def stream_of(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write(table)
    return sink.getvalue().to_pybytes()


def sharing_codec(memory: Memory) -> Codec:
    mob = Mob()
    return Codec(mob.lend, mob.borrow, attach=lambda place: memory.look(place).toreadonly())


def addresses(table: Any) -> list[int]:
    return [buffer.address for column in table.columns for buffer in column.chunk(0).buffers() if buffer is not None]


@pytest.mark.parametrize("kind", ["pyarrow", "polars"])
def test_a_large_table_is_written_once_and_read_where_it_lies(kind: str) -> None:
    memory = Memory()
    codec = sharing_codec(memory)
    table = pa.table({"a": range(LARGE), "b": [float(i) for i in range(LARGE)]})
    sent = table if kind == "pyarrow" else pl.DataFrame(table)
    assert looked_at((sent,)) == LARGE_BUFFER
    body = codec.encode_sharing((sent,), memory.share)
    assert len(body) < 100
    assert len(memory.buffers) == 1
    (arrived,) = codec.decode(body)
    assert arrived.equals(sent)
    start = pa.py_buffer(memory.buffers[0]).address
    found = addresses(arrived if kind == "pyarrow" else arrived.to_arrow())
    assert len(found) == 2
    assert all(start <= each < start + len(memory.buffers[0]) for each in found)


def test_a_table_that_goes_to_another_machine_takes_its_bytes_along(codec: Codec) -> None:
    memory = Memory()
    table = pa.table({"a": range(LARGE)})
    body = codec.encode_sharing([table], memory.share)
    assert codec.decode(inlined(body, memory.look))[0].equals(table)


def test_a_small_table_needs_no_memory_and_without_memory_a_large_one_goes_along(codec: Codec) -> None:
    memory = Memory()
    assert over(codec, TABLE).equals(codec.decode(codec.encode_sharing(TABLE, memory.share)))
    assert not memory.buffers
    large = pa.table({"a": range(LARGE)})
    assert codec.decode(codec.encode_sharing(large, lambda length, fill: None)).equals(large)


def test_without_polars_a_frame_arrives_as_a_table_and_a_series_as_a_column(
    codec: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = codec.encode([pl.DataFrame({"a": [1, 2]}), pl.Series("a", [1, 2])])
    monkeypatch.delitem(sys.modules, "polars")
    table, column = codec.decode(body)
    assert table.equals(pa.table({"a": [1, 2]}))
    assert column.equals(pa.chunked_array([[1, 2]]))


def test_where_nothing_can_hold_a_table_the_error_says_what_is_missing(
    codec: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = codec.encode(TABLE)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(BadMessage, match=r"a pyarrow\.Table arrived: .* \(pip install pyarrow\)"):
        codec.decode(body)


@pytest.mark.usefixtures("with_pyarrow")
def test_what_polars_panics_at_is_a_bad_message(codec: Codec) -> None:
    """A panic is not an `Exception`."""
    table = pa.table({"e": pa.array([[], []], pa.list_(pa.int8(), 0))})
    body = codec.encode(Ext(10, codec.encode(["polars.DataFrame", stream_of(table)])))
    with pytest.raises(BadMessage, match=r"a polars\.DataFrame arrived that cannot be rebuilt here: "):
        codec.decode(body)


def test_bytes_that_are_no_table_are_a_bad_message(codec: Codec) -> None:
    body = codec.encode(TABLE).replace(b"ARROW:", b"xxxxxx")
    broken = body[:60] + b"\xff" * 20 + body[80:]
    with pytest.raises(BadMessage, match=r"a pyarrow\.Table arrived that cannot be rebuilt here: "):
        codec.decode(broken)


@pytest.mark.parametrize(
    ("length", "slot"),
    [(9, 5), (CHECKED_FULLY // 4, CHECKED_FULLY // 4)],
    ids=["any of a small one", "ends of a large"],
)
@pytest.mark.parametrize("kind", ["pyarrow.Table", "pyarrow.RecordBatch", "polars.DataFrame", "pandas.Series"])
def test_damaged_bytes_of_a_table_are_a_bad_message_and_nothing_outside_of_them_is_read(
    codec: Codec, kind: str, length: int, slot: int
) -> None:
    """For example a text that claims to end behind all texts: reading it would crash the process."""
    texts = pa.array(["text"] * length)
    sent: Any = Ext(10, codec.encode([kind, stream_of(pa.table({"s": texts}))]))
    if kind == "pandas.Series":
        sent = pd.Series(pd.arrays.ArrowExtensionArray(texts))
    body = codec.encode(sent)
    offsets, damaged = (struct.pack("<2i", 4 * (slot - 1), end) for end in (4 * slot, 2**31 - 1))
    assert body.count(offsets) == 1
    with pytest.raises(BadMessage, match=r"a table arrived damaged: .*(offset|overflow)"):
        codec.decode(body.replace(offsets, damaged))


# -- whatever else speaks Arrow ----------------------------------------------------------------------------------------


class Relation:
    """A relation like DuckDB's: it can be read as a stream."""

    def __init__(self, source: Any) -> None:
        self.source = source

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        return self.source.__arrow_c_stream__(requested_schema)


class Column:
    def __init__(self, source: Any) -> None:
        self.source = source

    def __arrow_c_array__(self, requested_schema: Any = None) -> Any:
        return self.source.__arrow_c_array__(requested_schema)


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (Relation(TABLE), TABLE),
        (Relation(pa.chunked_array([[1], [2]])), pa.chunked_array([[1], [2]])),
        (Column(pa.record_batch({"a": [1]})), pa.record_batch({"a": [1]})),
        (Column(pa.array([1, None])), pa.array([1, None])),
    ],
    ids=["table", "chunks", "batch", "array"],
)
def test_what_offers_itself_by_arrows_interface_arrives_as_pyarrow_has_it(
    codec: Codec, sent: Any, expected: Any
) -> None:
    arrived = over(codec, sent)
    assert type(arrived) is type(expected)
    assert arrived.equals(expected)


def test_without_pyarrow_such_a_thing_cannot_be_sent(codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(BadMessage, match=r"sending a Relation: .* \(pip install pyarrow\)"):
        codec.encode(Relation(TABLE))


def test_a_reader_of_batches_is_a_stream_as_every_iterator_is(mob: Mob) -> None:
    mob.codec.encode(TABLE.to_reader())
    assert len(mob.lent) == 1


def test_a_stream_says_how_long_it_is() -> None:
    assert repr(ArrowStream(1234, lambda memory: None)) == "<ArrowStream of 1,234 bytes>"
