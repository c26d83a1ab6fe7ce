"""Annotated types arrive: each table, tensor and column as every other type that can hold it."""

from __future__ import annotations

import dataclasses
import sys
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from mob.errors import BadMessage
from mob.wire.arrays import head_of
from mob.wire.codec import Codec
from mob.wire.foreign import origin_of
from mob.wire.references import references_in
from mob.wire.sharing import BufferLocation
from tests.wire.samples import Stranger, over
from tests.wire.test_sharing import Memory

TABLES = [pd.DataFrame, pl.DataFrame, pl.LazyFrame, pa.Table, pa.RecordBatch]
COLUMNS = [pd.Series, pd.Index, pl.Series, pa.Array, pa.ChunkedArray]
SENT_TABLES = [
    pd.DataFrame({"a": [1, 2]}),
    pl.DataFrame({"a": [1, 2]}),
    pa.table({"a": pa.chunked_array([[1], [2]])}),
    pa.record_batch({"a": [1, 2]}),
]
SENT_COLUMNS = [
    pd.Series([1, 2], name="n"),
    pd.Index([1, 2]),
    pl.Series("n", [1, 2]),
    pa.array([1, 2]),
    pa.chunked_array([[1], [2]]),
    np.array([1, 2]),
]
each_table = pytest.mark.parametrize("sent", SENT_TABLES, ids=lambda sent: str(origin_of(type(sent))))
each_column = pytest.mark.parametrize("sent", SENT_COLUMNS, ids=lambda sent: str(origin_of(type(sent))))


def values_of(found: Any) -> list[Any]:
    if isinstance(found, pl.LazyFrame):
        found = found.collect()
    if isinstance(found, pa.Table | pa.RecordBatch):
        found = found.column(0)
    elif isinstance(found, pd.DataFrame | pl.DataFrame):
        found = found["a"]
    if hasattr(found, "to_pylist"):
        return found.to_pylist()
    return list(found)


@each_table
@pytest.mark.parametrize("kind", TABLES, ids=str)
def test_a_table_arrives_as_the_one_that_is_annotated(codec: Codec, sent: Any, kind: Any) -> None:
    arrived = codec.decoder(kind)(codec.encode(sent))
    assert isinstance(arrived, kind)
    assert values_of(arrived) == [1, 2]


@each_column
@pytest.mark.parametrize("kind", COLUMNS, ids=str)
def test_a_column_arrives_as_the_one_that_is_annotated(codec: Codec, sent: Any, kind: Any) -> None:
    arrived = codec.decoder(kind)(codec.encode(sent))
    assert isinstance(arrived, kind)
    assert values_of(arrived) == [1, 2]
    if isinstance(sent, pd.Series | pl.Series) and isinstance(arrived, pd.Series | pl.Series):
        assert arrived.name == "n"


@each_table
def test_a_table_arrives_as_an_array_if_that_is_annotated(codec: Codec, sent: Any) -> None:
    assert codec.decoder(np.ndarray)(codec.encode(sent)).tolist() == [[1], [2]]


@each_column
def test_a_column_arrives_as_an_array_if_that_is_annotated(codec: Codec, sent: Any) -> None:
    assert codec.decoder(np.ndarray)(codec.encode(sent)).tolist() == [1, 2]


@dataclasses.dataclass
class Job:
    frame: pl.DataFrame
    rest: Any = None


def test_annotations_are_heard_wherever_they_stand(codec: Codec) -> None:
    frame = pd.DataFrame({"a": [1, 2]})
    body = codec.encode([frame])
    assert type(codec.decoder(list[pl.DataFrame])(body)[0]) is pl.DataFrame
    assert type(codec.decoder(tuple[pa.Table])(body)[0]) is pa.Table
    job = codec.decoder(Job)(codec.encode({"frame": frame, "rest": frame}))
    assert (type(job.frame), type(job.rest)) == (pl.DataFrame, pd.DataFrame)
    assert type(codec.decoder(dict[str, pd.DataFrame])(codec.encode({"x": pl.DataFrame(frame)}))["x"]) is pd.DataFrame
    assert codec.decoder(pd.DataFrame | None)(codec.encode(None)) is None


@pytest.mark.parametrize("annotation", [pd.DataFrame | pl.DataFrame, pl.DataFrame | pd.DataFrame | None])
def test_one_of_several_stays_what_it_is(codec: Codec, annotation: Any) -> None:
    for sent in (pd.DataFrame({"a": [1]}), pl.DataFrame({"a": [1]})):
        assert type(codec.decoder(annotation)(codec.encode(sent))) is type(sent)
    assert type(codec.decoder(annotation)(codec.encode(pa.table({"a": [1]})))) in (pd.DataFrame, pl.DataFrame)


@pytest.mark.parametrize(
    ("annotation", "sent"),
    [
        (pd.DataFrame, pd.Series([1])),
        (pd.Series, pd.DataFrame({"a": [1]})),
        (pl.DataFrame, [1, 2]),
        (pa.Table, np.zeros((2, 2))),
        (list[int], pd.DataFrame({"a": [1]})),
        (pd.DataFrame | pl.DataFrame, pd.Series([1])),
        (pl.Series, np.zeros((2, 2))),
        (np.ma.MaskedArray, np.zeros(2)),
    ],
)
def test_what_does_not_fit_is_refused(codec: Codec, annotation: Any, sent: Any) -> None:
    with pytest.raises(msgspec.ValidationError):
        codec.decoder(annotation)(codec.encode(sent))


def test_a_frame_is_made_lazy_and_back_without_pyarrow(codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    body = codec.encode(pl.DataFrame({"a": [1]}))
    assert codec.decoder(pl.LazyFrame)(body).collect().equals(pl.DataFrame({"a": [1]}))
    with pytest.raises(msgspec.ValidationError, match=r"for an annotation of another: .* \(pip install pyarrow\)"):
        codec.decoder(pd.DataFrame)(body)


class Frame(pd.DataFrame):
    pass


def test_a_class_that_derives_from_a_frame_is_sent_as_the_frame(codec: Codec) -> None:
    assert type(over(codec, Frame({"a": [1]}))) is pd.DataFrame
    with pytest.raises(msgspec.ValidationError, match="Expected `Frame`"):
        codec.decoder(Frame)(codec.encode(Frame({"a": [1]})))


def test_a_registered_frame_goes_its_own_way(codec: Codec) -> None:
    codec.register(pd.DataFrame, lambda frame: frame.to_dict("list"), lambda data: ["made of", data])
    assert over(codec, pd.DataFrame({"a": [1]})) == ["made of", {"a": [1]}]


def test_what_comes_from_a_library_that_is_known_and_is_no_table_is_refused(codec: Codec) -> None:
    assert origin_of(Stranger) is None
    assert origin_of(list[int]) is None
    with pytest.raises(BadMessage, match=r"pyarrow\.lib\.Schema"):
        codec.encode(pa.schema({"a": pa.int64()}))


def test_whatever_goes_wrong_says_which_table_it_was(codec: Codec) -> None:
    class Bad:
        def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
            raise RuntimeError("out of ink")

    with pytest.raises(BadMessage, match="this Bad cannot be taken apart: RuntimeError: out of ink"):
        codec.encode(Bad())

    class Torn(pd.DataFrame):
        def items(self) -> Any:
            raise RuntimeError("torn")

    with pytest.raises(BadMessage, match=r"this pandas\.DataFrame cannot be taken apart: RuntimeError: torn"):
        codec.encode(Torn({"a": [1]}))


def test_a_panic_of_polars_is_a_misfit_as_any_other(codec: Codec) -> None:
    table = pa.table({"e": pa.array([[], []], pa.list_(pa.int8(), 0))})
    with pytest.raises(msgspec.ValidationError, match="polars cannot hold the data that arrived: PanicException"):
        codec.decoder(pl.DataFrame)(codec.encode(table))


def test_references_in_a_table_are_found_though_nobody_reads_it(codec: Codec) -> None:
    body = codec.encode_sharing([pd.DataFrame({"a": np.arange(100_000)})], Memory().share)
    assert references_in(body) == [BufferLocation(7, 0, 0, 800_000, head=head_of(np.arange(100_000)))]


# -- plain data --------------------------------------------------------------------------------------------------------

ROWS = [{"price": 2, "name": "x"}, {"price": 2.5}]
COLUMNS_OF_ROWS = {"price": [2, 2.5], "name": ["x", None]}


@pytest.mark.parametrize("kind", TABLES, ids=str)
@pytest.mark.parametrize("data", [ROWS, COLUMNS_OF_ROWS], ids=["rows", "columns"])
def test_rows_and_columns_of_plain_data_become_the_table_that_is_annotated(codec: Codec, kind: Any, data: Any) -> None:
    arrived = codec.decoder(kind)(codec.encode(data))
    assert isinstance(arrived, kind)
    found = codec.decoder(pa.Table)(codec.encode(arrived.collect() if isinstance(arrived, pl.LazyFrame) else arrived))
    assert found.to_pydict() == COLUMNS_OF_ROWS
    assert codec.decoder(kind | None)(codec.encode(data)) is not None


@pytest.mark.parametrize("kind", TABLES, ids=str)
@pytest.mark.parametrize("data", [[], {}, {"a": []}])
def test_no_rows_are_a_table_without_rows(codec: Codec, kind: Any, data: Any) -> None:
    arrived = codec.decoder(kind)(codec.encode(data))
    assert isinstance(arrived, kind)
    assert len(arrived.collect() if isinstance(arrived, pl.LazyFrame) else arrived) == 0


@pytest.mark.parametrize("kind", COLUMNS, ids=str)
@pytest.mark.parametrize("data", [[1, 2], [1, 2.5], ["a", "b"], []], ids=str)
def test_a_list_becomes_the_column_that_is_annotated(codec: Codec, kind: Any, data: Any) -> None:
    arrived = codec.decoder(kind)(codec.encode(data))
    assert isinstance(arrived, kind)
    assert values_of(arrived) == data


@pytest.mark.parametrize(
    ("kind", "data", "said"),
    [
        (
            pd.DataFrame,
            [1, 2],
            r'expected DataFrame, as plain data a list of rows \(\[\{"a": 1\}\]\) .*, but row 0 is of .* int',
        ),
        (pl.DataFrame, [{"a": 1}, None], "row 1 is of type NoneType"),
        (pa.Table, {"a": 1}, r"expected Table, .* dict of columns .*, but the column .a. is of type int"),
        (pl.LazyFrame, {"a": [1], "b": [1, 2]}, "the columns have 1 and 2 values"),
        (pd.DataFrame, "text", "Expected `DataFrame`, got `str`"),
        (pd.Series, {"a": 1}, "Expected `Series`, got `dict`"),
        (np.ndarray, [1, 2], "Expected `ndarray`, got `list`"),
        (pl.DataFrame, {"a": [1, "x"]}, "unexpected value"),
    ],
)
def test_plain_data_of_another_shape_is_told_which_shape_is_expected(
    codec: Codec, kind: Any, data: Any, said: str
) -> None:
    with pytest.raises(msgspec.ValidationError, match=said):
        codec.decoder(kind)(codec.encode(data))


@pytest.mark.parametrize(
    ("annotation", "data", "kind"),
    [
        (pd.DataFrame | list[dict[str, Any]], ROWS, list),
        (pd.DataFrame | tuple[dict[str, Any], ...], ROWS, tuple),
        (pd.DataFrame | dict[str, Any], COLUMNS_OF_ROWS, dict),
        (pd.Series | tuple[int, ...], [1, 2], tuple),
        (pd.DataFrame | str | None, ROWS, pd.DataFrame),
        (pl.DataFrame | pd.DataFrame, ROWS, pl.DataFrame),
    ],
)
def test_plain_data_stays_that_if_another_member_of_a_union_is_plain_data(
    codec: Codec, annotation: Any, data: Any, kind: Any
) -> None:
    assert type(codec.decoder(annotation)(codec.encode(data))) is kind
