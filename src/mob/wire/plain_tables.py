"""Plain data, such as JSON from a command line, where a table or a column is annotated.

Strategy. A frame is made from a list of rows, which is how `mob call` prints one, or from a dict of columns; a column
is made from a list of values. The annotated library makes it; it is imported, because its class is annotated.

Limits. Only plain lists and dicts. Texts stay texts: they are not searched for dates. No arrays and tensors.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any, cast

_kind: Callable[[Any], type[Any]] = type
_Maker = Callable[[Any, Any], Any]
"""(the library, columns by their names or the values of one column) -> what is annotated."""

_FRAMES: Mapping[tuple[str, str], _Maker] = {
    ("pandas", "DataFrame"): lambda pandas, columns: pandas.DataFrame(columns),
    ("polars", "DataFrame"): lambda polars, columns: polars.DataFrame(columns),
    ("polars", "LazyFrame"): lambda polars, columns: polars.LazyFrame(columns),
    ("pyarrow", "Table"): lambda pyarrow, columns: pyarrow.table(columns),
    ("pyarrow", "RecordBatch"): lambda pyarrow, columns: pyarrow.RecordBatch.from_pydict(columns),
}
_COLUMNS: Mapping[tuple[str, str], _Maker] = {
    ("pandas", "Series"): lambda pandas, values: pandas.Series(values),
    ("pandas", "Index"): lambda pandas, values: pandas.Index(values),
    ("polars", "Series"): lambda polars, values: polars.Series(values),
    ("pyarrow", "Array"): lambda pyarrow, values: pyarrow.array(values),
    ("pyarrow", "ChunkedArray"): lambda pyarrow, values: pyarrow.chunked_array([pyarrow.array(values)]),
}


def made(library: str, name: str, data: Any) -> Any:
    """Return plain data as the annotated class; None if such data is not for it.

    Raises `ValueError` for lists and dicts of the wrong shape.
    """
    if (make := _FRAMES.get((library, name))) is not None:
        if _kind(data) not in (list, dict):
            return None
        columns = _columns_of(name, data)
        return make(sys.modules[library], {key: _numbers_alike(column) for key, column in columns.items()})
    make = _COLUMNS.get((library, name))
    return None if make is None or _kind(data) is not list else make(sys.modules[library], _numbers_alike(data))


def _columns_of(name: str, data: Any) -> dict[Any, list[Any]]:
    if _kind(data) is dict:
        columns = cast("dict[Any, list[Any]]", data)
        for key, column in columns.items():
            if _kind(column) is not list:
                raise _misshapen(name, f"the column {key!r} is of type {type(column).__name__}")
        if len(lengths := sorted({*map(len, columns.values())})) > 1:
            raise _misshapen(name, f"the columns have {' and '.join(map(str, lengths))} values")
        return columns
    rows = cast("list[dict[Any, Any]]", data)
    for at, row in enumerate(rows):
        if _kind(row) is not dict:
            raise _misshapen(name, f"row {at} is of type {type(row).__name__}")
    names = dict.fromkeys(key for row in rows for key in row)
    return {key: [row.get(key) for row in rows] for key in names}


def _misshapen(name: str, seen: str) -> ValueError:
    wanted = f'expected {name}, as plain data a list of rows ([{{"a": 1}}]) or a dict of columns ({{"a": [1]}})'
    return ValueError(f"{wanted}, but {seen}")


def _numbers_alike(values: list[Any]) -> list[Any]:
    """Return integers as floats if there are floats among them: JSON has only one number type, polars refuses a mix."""
    if float not in map(type, values):
        return values
    return [float(value) if _kind(value) is int else value for value in values]
