"""The parts of a pandas frame (pandas_tables.py) -> a pyarrow table, in programs that did not import pandas.

Strategy. Arrays become Arrow columns without a copy, with a bitmap of missing values if there are any. The index
becomes columns behind the others, unless it only counts; labels become texts.

Limits. `pyarrow.array` imports pandas if that is installed, and then the next frame would arrive as a pandas frame. So
columns are made from buffers; only objects that are neither all texts nor all bytes are left to pyarrow. Nanoseconds in
labels are cut off.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

from mob.wire.tables import column_of, in_one, pyarrow_for


def made(kind: str, parts: Any) -> Any:
    """Return a table for a frame, an array for a series or an index."""
    return _MAKERS[kind](parts)


def _table(parts: Any) -> Any:
    columns, index, values = parts
    arrays = [array for part in values for array in _columns(part)]
    names = [*map(_text_of, _labels(columns))]
    for number, (name, array) in enumerate(_levels(index)):
        names.append(f"__index_level_{number}__" if name is None else _text_of(name))
        arrays.append(array)
    return _pyarrow().table(arrays, names=names)


def _column(parts: Any) -> Any:
    """Return the values of a series."""
    return _array(parts[2])


# -- names and indexes -------------------------------------------------------------------------------------------------


def _text_of(label: Any) -> str:
    return str(tuple(cast("list[Any]", label)) if isinstance(label, list) else label)


def _labels(index: Any) -> Iterable[Any]:
    """Return the names of columns."""
    kind, *rest = index
    if kind == "range":
        return range(*rest[:3])
    if kind == "labels":
        return rest[0]
    if kind == "index" and rest[0][0] in ("objects", "texts"):
        return rest[0][1]
    levels = [_listed(array) for _, array in _levels(index)]
    return levels[0] if kind == "index" else map(str, zip(*levels, strict=True))


def _listed(array: Any) -> list[Any]:
    """Return the items as Python objects, cut to microseconds, because for nanoseconds pyarrow would import pandas."""
    kind, pyarrow = array.type, _pyarrow()
    if getattr(kind, "unit", "") == "ns":
        in_micros = pyarrow.timestamp("us", kind.tz) if hasattr(kind, "tz") else pyarrow.duration("us")
        array = array.cast(in_micros, safe=False)
    return array.to_pylist()


def _levels(index: Any) -> list[tuple[Any, Any]]:
    """Return the name and the array of each level of an index; nothing for one that only counts and has no name."""
    kind, *rest = index
    if kind == "range":
        return [] if rest[3] is None else [(rest[3], _alone(index))]
    if kind == "labels":
        return [(rest[1], _texts([*map(_text_of, rest[0])]))]
    if kind == "index":
        return [(rest[1], _array(rest[0]))]
    levels, codes, names = rest
    taken = (_categories(code, _alone(level)).dictionary_decode() for level, code in zip(levels, codes, strict=True))
    return [*zip(names, taken, strict=True)]


def _alone(index: Any) -> Any:
    """Return the values of an index with one level."""
    if index[0] == "range":
        return _numbers(_numpy().arange(*index[1:4]))
    return _levels(index)[0][1]


# -- columns -----------------------------------------------------------------------------------------------------------


def _columns(part: Any) -> Iterable[Any]:
    """Return the columns of a part; only an array can have several."""
    if part[0] == "array" and part[1].ndim == 2:
        return map(_numbers, part[1].T)
    return (_array(part),)


def _array(part: Any) -> Any:
    kind, values, *rest = part
    if kind in ("arrow", "arrow objects"):
        return in_one(column_of(values, "a column arrived"))
    if kind == "period":
        raise TypeError(f"pyarrow has no {rest[0]}: import pandas in the receiving process")
    return _ENCODERS[kind](values, *rest)


def _categories(codes: Any, values: Any, ordered: bool = False) -> Any:
    return _pyarrow().DictionaryArray.from_arrays(_numbers(codes, codes < 0), values, ordered=ordered)


def _numbers(values: Any, missing: Any = None, zone: str | None = None) -> Any:
    """Return a NumPy array as a pyarrow array; NaN and NaT become missing values."""
    pyarrow, numpy = _pyarrow(), _numpy()
    if missing is None and values.dtype.kind in "fmM":
        missing = numpy.isnan(values) if values.dtype.kind == "f" else numpy.isnat(values)
    kind, length = _kind_of(values.dtype, zone), len(values)
    if values.dtype.kind == "b":
        values = numpy.packbits(values, bitorder="little")
    elif values.dtype.kind in "mM":
        values = values.view("i8")
    return pyarrow.Array.from_buffers(kind, length, [_bitmap(missing), _buffer(values)])


def _kind_of(dtype: Any, zone: str | None) -> Any:
    pyarrow = _pyarrow()
    if dtype.kind not in "mM":
        return pyarrow.from_numpy_dtype(dtype)
    unit, _ = _numpy().datetime_data(dtype)
    return pyarrow.duration(unit) if dtype.kind == "m" else pyarrow.timestamp(unit, zone)


def _bitmap(missing: Any) -> Any:
    if missing is None or not missing.any():
        return None
    return _buffer(_numpy().packbits(~missing, bitorder="little"))


def _buffer(values: Any) -> Any:
    return _pyarrow().py_buffer(_numpy().ascontiguousarray(values))


def _texts(texts: list[Any], _dtype: str = "") -> Any:
    return _strings([text if text is None else text.encode() for text in texts], _pyarrow().large_string())


def _strings(strings: list[bytes | None], kind: Any) -> Any:
    numpy = _numpy()
    ends = numpy.cumsum([0, *(len(string or b"") for string in strings)], dtype="i8")
    missing = numpy.array([string is None for string in strings], bool)
    data = _pyarrow().py_buffer(b"".join(string or b"" for string in strings))
    return _pyarrow().Array.from_buffers(kind, len(strings), [_bitmap(missing), _buffer(ends), data])


def _objects(values: list[Any]) -> Any:
    values = [None if type(value) is float and value != value else value for value in values]
    kinds = {*map(type, values)} - {type(None)}
    if kinds <= {str}:
        return _texts(values)
    return _strings(values, _pyarrow().large_binary()) if kinds == {bytes} else _pyarrow().array(values)


def _zoned(values: Any, dtype: str) -> Any:
    zone = dtype.removesuffix("]").partition(", ")[2]
    return _numbers(values, zone=zone.removeprefix("UTC") or zone)


def _masked(values: Any, missing: Any, _dtype: str) -> Any:
    return _numbers(values, missing)


def _category(codes: Any, categories: Any, ordered: bool) -> Any:
    return _categories(codes, _alone(categories), ordered)


def _interval(left: Any, right: Any, _closed: str) -> Any:
    return _pyarrow().StructArray.from_arrays([_array(left), _array(right)], ["left", "right"])


_ENCODERS: Mapping[str, Callable[..., Any]] = {
    "array": _numbers,
    "category": _category,
    "zoned": _zoned,
    "interval": _interval,
    "masked": _masked,
    "texts": _texts,
    "objects": _objects,
}
_MAKERS: Mapping[str, Callable[[Any], Any]] = {"DataFrame": _table, "Series": _column, "Index": _alone}


def _pyarrow() -> Any:
    return pyarrow_for("a pandas table arrived in a process that did not import pandas")


def _numpy() -> Any:
    return importlib.import_module("numpy")
