"""Frames, series and indexes of pandas <-> arrays, lists and a few words, without Arrow where NumPy is enough.

Strategy. A frame travels by its columns: (columns, index, parts). A part is a kind, followed by the arguments with
which `_MADE` makes a column of it again. Columns of NumPy's dtypes are sent as the arrays that they are; those that lie
side by side in memory are sent as one, so that each large block of a frame is copied once by the sender, and nowhere
else. Objects travel as plain data if they are plain data; everything else goes through pyarrow, if it gives the same
objects back. Only the public names of pandas are used.

What arrives is a view of read-only memory. `copied_on_write` makes pandas copy a column before it writes to it.

Limits. pandas 2 copies on write only if that mode is on, and a frame made from one that arrived may outlive it: then
writing raises, and `.copy()` helps. `attrs` and flags are lost. A frame of many parts is copied once more on arrival.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import decimal
import sys
from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from typing import Any, cast

from mob.errors import BadMessage
from mob.wire import pandas_as_arrow
from mob.wire.refusals import UnsendableValue, text_of
from mob.wire.tables import column_alone, column_of, imported, pyarrow_for, stream_of

_kind: Callable[[Any], type[Any]] = type
MOST_PARTS = 64
"""Number of parts beyond which an arriving frame is merged into as few pieces as possible: pandas is slow on many."""
FEW = 1000
"""Maximum number of texts that travel as a list even if they are stored in Arrow."""
_PLAIN = frozenset({str, bytes, int, float, bool, type(None)})
"""Types that MessagePack gives back exactly as they were."""
_ALIKE = ({dt.date}, {dt.timedelta}, {decimal.Decimal})
"""Types of objects that pyarrow gives back as they were if a column holds no other type."""

_CONVERT = "Convert them to one type, such as a dtype of pandas, texts, or lists of plain data."


# -- sending -----------------------------------------------------------------------------------------------------------


def parts_of(kind: str, value: Any) -> Any:
    """Return the parts of a frame, a series or an index."""
    if kind == "Index":
        return _index(value, "the index")
    if kind == "Series":
        where = f"the Series {value.name!r}" if value.name is not None else "the Series"
        return _label(value.name), _index(value.index, f"the index of {where}"), _values(value, where)
    parts = [_values(column, f"the column {name!r}") for name, column in value.items()]
    columns, index = _index(value.columns, "the column index"), _index(value.index, "the index")
    return columns, index, _side_by_side(parts)


def _values(values: Any, where: str) -> tuple[Any, ...]:
    """Return a series or an index as a part. `where` names it in errors."""
    dtype = values.dtype
    if isinstance(dtype, sys.modules["numpy"].dtype):
        array = values.to_numpy()
        return _objects(array, where) if dtype.hasobject else ("array", array)
    pandas = sys.modules["pandas"]
    if isinstance(dtype, pandas.CategoricalDtype):
        array = values.array
        return "category", array.codes, _index(array.categories, f"the categories of {where}"), array.ordered
    if isinstance(dtype, pandas.DatetimeTZDtype) and pandas.api.types.pandas_dtype(str(dtype)) == dtype:
        return "zoned", values.array.tz_convert(None).to_numpy(), str(dtype)
    if isinstance(dtype, pandas.PeriodDtype):
        return "period", values.array.asi8, str(dtype)
    if isinstance(dtype, pandas.IntervalDtype):
        left, right = (_values(pandas.Index(side), where) for side in (values.array.left, values.array.right))
        return "interval", left, right, dtype.closed
    if isinstance(values.array, (pandas.arrays.IntegerArray, pandas.arrays.FloatingArray, pandas.arrays.BooleanArray)):
        missing = values.isna()
        data = values.array.to_numpy(dtype.numpy_dtype, na_value=dtype.numpy_dtype.type())
        return "masked", data, getattr(missing, "array", missing).__array__(), str(dtype)
    if isinstance(dtype, pandas.StringDtype) and (dtype.storage == "python" or len(values) <= FEW):
        return "texts", values.array.to_numpy(object, na_value=None).tolist(), str(dtype)
    return _by_arrow(values, where)


def _by_arrow(values: Any, where: str) -> tuple[Any, ...]:
    """Return a part for what pandas can only send with pyarrow: Arrow dtypes, and dtypes that support Arrow."""
    dtype = values.dtype
    if not (hasattr(_kind(values.array), "__arrow_array__") and hasattr(_kind(dtype), "__from_arrow__")):
        raise UnsendableValue(f"{where} has the dtype {dtype}, which cannot be sent. Convert it to another dtype.")
    arrow = _in_arrow(values.array, where)
    is_arrows = isinstance(dtype, sys.modules["pandas"].ArrowDtype)
    return "arrow", stream_of(column_alone(arrow)), None if is_arrows else str(dtype)


def _objects(values: Any, where: str) -> tuple[Any, ...]:
    found = values.tolist()
    if _PLAIN.issuperset(map(type, found)) or all(map(_is_plain, found)):
        return "objects", found
    found = [*map(_in_python, found)]
    if all(map(_is_plain, found)):
        return "objects", found
    arrow = _in_arrow(_made_objects(found), where)
    if {*map(type, found)} - {type(None)} not in _ALIKE:
        _check_kept(found, arrow.to_pylist(), where)
    return "arrow objects", stream_of(column_alone(arrow))


def _in_python(value: Any) -> Any:
    """Return a value with NumPy's numbers and texts replaced by Python's."""
    if type(value) is list:
        return [*map(_in_python, cast("list[Any]", value))]
    if type(value) is dict:
        return {_in_python(key): _in_python(item) for key, item in cast("dict[Any, Any]", value).items()}
    if isinstance(value, sys.modules["numpy"].generic):
        item = value.item()
        return item if type(item) in _PLAIN else value
    return value


def _is_plain(value: Any) -> bool:
    if type(value) is list:
        return all(map(_is_plain, cast("list[Any]", value)))
    if type(value) is dict:
        return all(map(_is_plain, chain(*cast("dict[Any, Any]", value).items())))
    return type(value) in _PLAIN or (type(value) is sys.modules["numpy"].ndarray and not value.dtype.hasobject)


def _check_kept(values: list[Any], kept: list[Any], where: str) -> None:
    """Refuse objects that pyarrow would change, except that missing values may become None."""
    is_missing = sys.modules["pandas"].isna
    for value, other in zip(values, kept, strict=True):
        if not (_is_same(value, other) or (other is None and is_missing(value) is True)):
            kinds = ", ".join(sorted({type(value).__name__ for value in values}))
            as_what = "a missing value" if other is None else f"{other!r:.100} ({type(other).__name__})"
            raise UnsendableValue(
                f"{where} holds objects ({kinds}) that Arrow does not keep as they are: {value!r:.100}"
                f" ({type(value).__name__}) would arrive as {as_what}. {_CONVERT}"
            )


def _is_same(one: Any, other: Any) -> bool:
    """Return True if two objects have the same type and are equal, and so has everything in them."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return _is_same([*chain(*cast("dict[Any, Any]", one).items())], [*chain(*other.items())])
    if isinstance(one, list):
        return len(cast("list[Any]", one)) == len(other) and all(map(_is_same, cast("list[Any]", one), other))
    if isinstance(one, (dt.datetime, dt.time)):  # these equal the same moment in another zone
        return one == other and one.fold == other.fold and one.utcoffset() == other.utcoffset()
    return bool(one == other) or (one != one and other != other)


def _in_arrow(values: Any, where: str) -> Any:
    try:
        return pyarrow_for(f"{where} holds objects").array(values, from_pandas=True)
    except BadMessage as failure:
        raise UnsendableValue(str(failure)) from failure
    except Exception as failure:
        kinds = sorted({type(value).__name__ for value in values})
        what = f"{where} holds objects ({', '.join(kinds)}) that are not plain data and that Arrow cannot hold"
        raise UnsendableValue(f"{what}: {text_of(failure)}. {_CONVERT}") from failure


def _index(index: Any, where: str) -> tuple[Any, ...]:
    pandas = sys.modules["pandas"]
    if isinstance(index, pandas.RangeIndex):
        return "range", index.start, index.stop, index.step, _label(index.name)
    if isinstance(index, pandas.MultiIndex):
        levels = [_index(level, where) for level in index.levels]
        return "levels", levels, [*map(_codes, index.codes)], [*map(_label, index.names)]
    if index.dtype == object and not _PLAIN.issuperset(kinds := {*map(type, index)}) and kinds not in _ALIKE:
        return "labels", [*map(_label, index)], _label(index.name)
    freq = getattr(index, "freqstr", None) if index.dtype.kind in "mM" else None
    return "index", _values(index, where), _label(index.name), freq


def _codes(codes: Any) -> Any:
    return codes.__array__()


def _label(label: Any) -> Any:
    """Return a name as data: a list for a tuple, and a dict for values that only an index can hold."""
    if type(label) in _PLAIN:
        return label
    if type(label) is tuple:
        return [*map(_label, cast("tuple[Any, ...]", label))]
    pandas = sys.modules["pandas"]
    one = pandas.Index([label], tupleize_cols=False)
    if type(one[0]) is not type(label):
        one = pandas.Index([label], dtype=object, tupleize_cols=False)
    return {"one": _values(one, f"a name or label of type {type(label).__name__}")}


def _side_by_side(parts: Iterable[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Join the arrays of columns that follow each other both in the frame and, at equal distances, in memory."""
    found: list[tuple[Any, ...]] = []
    run: list[Any] = []
    step = 0

    def close() -> None:
        if run:
            found.append(("array", run[0] if len(run) == 1 else _as_block(run, step)))
            run.clear()

    for part in parts:
        array = part[1]
        if part[0] != "array":
            close()
            found.append(part)
            continue
        distance = _distance(run[-1], array) if run else 0
        if not distance or (len(run) > 1 and distance != step):
            close()
        run.append(array)
        step = distance
    close()
    return found


def _distance(one: Any, other: Any) -> int:
    """Return the distance in bytes from the start of one column to the next; 0 if they cannot be one array."""
    same = one.base is not None and one.base is other.base and one.dtype == other.dtype and one.strides == other.strides
    return other.ctypes.data - one.ctypes.data if same else 0


def _as_block(run: list[Any], step: int) -> Any:
    first = run[0]
    as_strided = sys.modules["numpy"].lib.stride_tricks.as_strided
    return as_strided(first, (len(first), len(run)), (*first.strides, step), writeable=False)


# -- receiving ---------------------------------------------------------------------------------------------------------


def _itself(array: Any) -> Any:
    return array


def made(kind: str, parts: Any) -> Any:
    """Return the pandas object, or a pyarrow one if the program did not import pandas here."""
    return pandas_as_arrow.made(kind, parts) if imported("pandas") is None else _MAKERS[kind](parts)


def _made_frame(parts: Any) -> Any:
    columns, index, values = parts
    pandas = sys.modules["pandas"]
    names, index = _made_index(columns), _made_index(index)
    if len(values) == 1 and values[0][0] == "array":
        frame = pandas.DataFrame(values[0][1], index=index, copy=False)
    else:
        made = [column for part in values for column in _made_columns(part, index)]
        frame = pandas.DataFrame(dict(enumerate(made)), index=index, copy=len(made) > MOST_PARTS)
    frame.columns = names
    return copied_on_write(frame)


def copied_on_write(value: Any) -> Any:
    """Return a frame or series for which pandas copies data before writing to it, as it does for shared data.

    Its memory is read-only, which pandas does not check before it writes. But it respects the shallow copy kept here.
    """
    object.__setattr__(value, "_shared_with", value.copy(deep=False))  # setting it normally would warn about columns
    return value


def _made_columns(part: Any, index: Any) -> Iterable[Any]:
    """Return the columns of a part; only an array can have several."""
    if part[0] == "array" and part[1].ndim == 2:
        return part[1].T
    values = _made_values(part)
    if "objects" in part[0]:  # or pandas would infer their type
        values = sys.modules["pandas"].Series(values, index, dtype=object, copy=False)
    return (values,)


def _made_series(parts: Any) -> Any:
    name, index, values = parts
    values = _made_values(values)
    pandas = sys.modules["pandas"]
    dtype = getattr(values, "dtype", None)
    series = pandas.Series(values, index=_made_index(index), name=_made_label(name), dtype=dtype, copy=False)
    return copied_on_write(series)


def _made_values(part: Any) -> Any:
    kind, *rest = part
    return _MADE[kind](*rest)


def _made_category(codes: Any, categories: Any, ordered: bool) -> Any:
    return sys.modules["pandas"].Categorical.from_codes(codes, _made_index(categories), ordered=ordered)


def _made_zoned(array: Any, dtype: str) -> Any:
    pandas = sys.modules["pandas"]
    zone = pandas.api.types.pandas_dtype(dtype).tz
    return pandas.DatetimeIndex(array, copy=False).tz_localize("UTC").tz_convert(zone).array


def _made_interval(left: Any, right: Any, closed: str) -> Any:
    return sys.modules["pandas"].arrays.IntervalArray.from_arrays(_made_values(left), _made_values(right), closed)


def _made_masked(data: Any, mask: Any, dtype: str) -> Any:
    array = sys.modules["pandas"].api.types.pandas_dtype(dtype).construct_array_type()
    return array(data, mask)


def _made_texts(texts: list[Any], dtype: str) -> Any:
    return sys.modules["pandas"].array(texts, dtype=dtype)


def _made_objects(values: list[Any]) -> Any:
    numpy = sys.modules["numpy"]
    array = numpy.empty(len(values), object)
    array[:] = values
    return array


def _made_from_arrow(stream: Any, dtype: str | None) -> Any:
    pandas = sys.modules["pandas"]
    column = column_of(stream, "a pandas column stored in Arrow arrived")
    kind = pandas.ArrowDtype(column.type) if dtype is None else pandas.api.types.pandas_dtype(dtype)
    return kind.__from_arrow__(column)


def _made_objects_from_arrow(stream: Any) -> Any:
    return _made_objects(column_of(stream, "a column of objects arrived").to_pylist())


def _made_period(ordinals: Any, dtype: str) -> Any:
    pandas = sys.modules["pandas"]
    return pandas.arrays.PeriodArray(ordinals, dtype=pandas.api.types.pandas_dtype(dtype))


_MADE: Mapping[str, Callable[..., Any]] = {
    "array": _itself,
    "category": _made_category,
    "zoned": _made_zoned,
    "period": _made_period,
    "interval": _made_interval,
    "masked": _made_masked,
    "texts": _made_texts,
    "objects": _made_objects,
    "arrow": _made_from_arrow,
    "arrow objects": _made_objects_from_arrow,
}


def _made_index(part: Any) -> Any:
    kind, *rest = part
    pandas = sys.modules["pandas"]
    if kind == "range":
        start, stop, step, name = rest
        return pandas.RangeIndex(start, stop, step, name=_made_label(name))
    if kind == "levels":
        levels, codes, names = rest
        return pandas.MultiIndex([*map(_made_index, levels)], codes, names=[*map(_made_label, names)])
    if kind == "labels":
        labels, name = rest
        values = _made_objects([*map(_made_label, labels)])
        return pandas.Index(values, dtype=object, name=_made_label(name), tupleize_cols=False)
    part, name, freq = rest
    values = _made_values(part)
    index = pandas.Index(values, dtype=values.dtype, name=_made_label(name), copy=False)
    if freq is not None:
        with contextlib.suppress(ValueError):  # a frequency with holidays, which are not in its name
            index.freq = freq
    return index


def _made_label(label: Any) -> Any:
    if isinstance(label, list):
        return tuple(map(_made_label, cast("list[Any]", label)))
    if type(label) is not dict:
        return label
    one = _made_values(cast("dict[str, Any]", label)["one"])
    return sys.modules["pandas"].Index(one, dtype=one.dtype)[0]


_MAKERS = {"DataFrame": _made_frame, "Series": _made_series, "Index": _made_index}
