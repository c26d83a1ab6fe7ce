"""A pandas frame in a program that did not import pandas: the table that pyarrow makes of it."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from mob.errors import BadMessage
from mob.wire.codec import Codec
from tests.wire.test_pandas_tables import FRAMES


def without_pandas(codec: Codec, value: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    body = codec.encode(value)
    monkeypatch.delitem(sys.modules, "pandas")
    try:
        return codec.decode(body)
    finally:
        monkeypatch.undo()


@pytest.mark.parametrize(
    "name",
    [
        "numbers",
        "of one dtype",
        "texts",
        "many texts",
        "objects of Arrow",
        "categories",
        "times",
        "zones",
        "an offset",
        "nullable",
        "Arrow dtypes",
        "empty",
        "number columns",
        "range",
        "wide",
    ],
)
def test_a_frame_arrives_as_the_table_that_pyarrow_makes_of_it(
    codec: Codec, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = FRAMES[name]
    expected = pa.Table.from_pandas(frame, preserve_index=None if frame.index.name is None else True)
    arrived = without_pandas(codec, frame, monkeypatch)
    assert arrived.column_names == expected.column_names
    assert arrived.to_pylist() == expected.to_pylist()


@pytest.mark.parametrize(
    ("name", "columns", "row"),
    [
        ("named index", ["a", "k"], [1, 3.5]),
        ("text index", ["a", "__index_level_0__"], [1, "x"]),
        ("index of categories", ["a", "__index_level_0__"], [1, "a"]),
        ("index of several levels", ["a", "k", "('t', 1)"], [1, "x", dt.datetime(2020, 1, 1)]),
        ("duplicate columns", ["a", "a", "b"], [1, 2.5, "x"]),
        ("mixed columns", ["0", "a", "None", "1.5"], [1, 2, 3, 4]),
        ("columns of several levels", ["('a', 1)", "('b', 2)"], [1, 2]),
        ("nanosecond columns", ["2020-01-01 00:00:00", "2020-01-02 00:00:00", "2020-01-03 00:00:00"], [1, 2, 3]),
        ("tuple columns", ["('a', 1)", "b"], [1, 2]),
        (
            "intervals",
            ["i", "t"],
            [{"left": 0, "right": 1}, {"left": dt.datetime(2020, 1, 1), "right": dt.datetime(2020, 1, 2)}],
        ),
    ],
)
def test_the_index_and_odd_columns_arrive_as_columns_with_texts_as_names(
    codec: Codec, name: str, columns: list[str], row: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    arrived = without_pandas(codec, FRAMES[name], monkeypatch)
    assert arrived.column_names == columns
    assert [column[0].as_py() for column in arrived.columns] == row


def test_an_index_of_labels_arrives_as_their_texts(codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    index = FRAMES["tuple columns"].columns
    assert without_pandas(codec, index, monkeypatch).to_pylist() == ["('a', 1)", "b"]


def test_a_series_and_an_index_arrive_as_arrays(codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    assert without_pandas(codec, pd.Series([1, None]), monkeypatch).equals(pa.array([1.0, None]))
    assert without_pandas(codec, pd.Series(["a", [1]])[:1], monkeypatch).to_pylist() == ["a"]
    assert without_pandas(codec, pd.RangeIndex(3), monkeypatch).equals(pa.array([0, 1, 2]))


@pytest.mark.parametrize("name", ["periods", "bools and complex", "objects"])
def test_what_pyarrow_cannot_hold_says_so(codec: Codec, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadMessage, match=r"a pandas\.DataFrame arrived that cannot be rebuilt here: "):
        without_pandas(codec, FRAMES[name], monkeypatch)


def test_without_pandas_and_pyarrow_the_error_says_what_is_missing(
    codec: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(BadMessage, match=r"did not import pandas: .* \(pip install pyarrow\)"):
        without_pandas(codec, pd.DataFrame({"a": [1]}), monkeypatch)


def test_pandas_is_not_imported_on_the_way(codec: Codec) -> None:
    """`pyarrow.array` would import it, and the next frame would arrive as a pandas frame."""
    names = ["numbers", "texts", "categories", "times", "zones", "nullable", "index of several levels"]
    names += ["date columns", "nanosecond columns", "duration columns"]
    bodies = codec.encode([codec.encode(FRAMES[name]) for name in names])
    code = """if True:
        import sys
        from tests.wire.samples import Mob
        codec = Mob().codec
        for body in codec.decode(bytes.fromhex(sys.stdin.read())):
            assert type(codec.decode(body)).__name__ == "Table"
        assert "pyarrow" in sys.modules and "pandas" not in sys.modules
    """
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, input=bodies.hex(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("series", "expected"),
    [
        (pd.Series([True, False, True]), pa.array([True, False, True])),
        (pd.Series(np.arange(20) % 3 == 0), pa.array((np.arange(20) % 3 == 0).tolist())),
        (pd.Series(pd.array([True, None, False] * 5, dtype="boolean")), pa.array([True, None, False] * 5)),
        (pd.Series([b"x", None], dtype=object), pa.array([b"x", None], pa.large_binary())),
        (pd.Series(["x", float("nan")], dtype=object), pa.array(["x", None], pa.large_string())),
        (pd.Series([[1], None], dtype=object), pa.array([[1], None])),
        (pd.Series(np.arange(6)[::2]), pa.array([0, 2, 4])),
        (pd.Series([1.5, 2], dtype="f2"), pa.array(np.array([1.5, 2], "f2"))),
    ],
    ids=["bools", "many bools", "nullable bools", "bytes", "texts", "lists", "every other", "halves"],
)
def test_columns_of_all_kinds(codec: Codec, series: Any, expected: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert without_pandas(codec, series, monkeypatch).equals(expected)
