"""Tables and tensors of other libraries: the library of each class, and how its objects are taken apart and rebuilt.

Strategy. A class is recognized by its name and its library (`LIBRARIES`), so nothing is imported for that. A value is
taken apart into plain data, arrays and streams, which travel under its name; large ones go through shared memory as any
other buffer does. On arrival they become what was sent, if that library is imported there, else the equivalent of
pyarrow or NumPy. `converted` makes that, or plain data, into what is annotated.

Limits. The parts of each are defined in tables.py, pandas_tables.py and tensors.py, plain data in plain_tables.py.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

from mob.errors import BadMessage, MobError
from mob.wire import pandas_tables, plain_tables, tables, tensors
from mob.wire.refusals import UnsendableValue, text_of

LIBRARIES: Mapping[str, frozenset[str]] = {
    "pandas": frozenset({"DataFrame", "Series", "Index"}),
    "polars": frozenset({"DataFrame", "LazyFrame", "Series"}),
    "pyarrow": frozenset({"Table", "RecordBatch", "ChunkedArray", "Array"}),
    "torch": frozenset({"Tensor"}),
    "jax": frozenset({"Array"}),
    "jaxlib": frozenset({"Array", "ArrayImpl"}),
    "numpy": frozenset({"ndarray"}),
}
"""Names of the supported classes, by the package in which they are."""
_kind: Callable[[Any], type[Any]] = type
_NOT_THEIRS = (UnsendableValue, MobError, KeyboardInterrupt, SystemExit)
"""Exceptions that pass unchanged. All others are errors of a library, even a polars panic, which is no `Exception`."""
_PROTOCOLS = ("__dlpack__", "__arrow_c_stream__", "__arrow_c_array__")


def origin_of(kind: Any) -> tuple[str, str] | None:
    """Return the library and the name of a class that is supported, or that derives from such a one."""
    for base in kind.__mro__ if isinstance(kind, type) else ():
        library, name = base.__module__.partition(".")[0], base.__name__.rpartition(".")[2]
        if name in LIBRARIES.get(library, ()):
            return ("jax", "Array") if library == "jaxlib" else (library, name)
    return None


def is_foreign(kind: type[Any]) -> bool:
    """Return True if a class is supported, or if it implements the protocols of Arrow or DLPack."""
    return origin_of(kind) is not None or any(hasattr(kind, protocol) for protocol in _PROTOCOLS)


def parts_of(value: Any) -> tuple[str, Any]:
    """Return the name under which a value travels, and its parts; the name is "" if the parts alone are enough."""
    library, kind = origin_of(type(value)) or ("", "")
    try:
        if library == "pandas":
            return f"pandas.{kind}", pandas_tables.parts_of(kind, value)
        if library == "polars":
            return f"polars.{kind}", tables.polars_stream(kind, value)
        if library != "pyarrow" and hasattr(_kind(value), "__dlpack__"):
            parts = tensors.parts_of(library, value)
            return (f"{library}.{kind}", parts) if library else ("", parts[0])
        if library != "pyarrow":
            kind, value = tables.from_protocol(value)
        return f"pyarrow.{kind}", tables.arrow_stream(kind, value)
    except _NOT_THEIRS:
        raise
    except BaseException as failure:
        name = f"{library}.{kind}" if library else type(value).__name__
        raise UnsendableValue(f"this {name} cannot be taken apart: {text_of(failure)}") from failure


def rebuilt(name: str, parts: Any) -> Any:
    """Return what was taken apart, or its equivalent in pyarrow or NumPy; `BadMessage` if it cannot be rebuilt here."""
    library, _, kind = name.partition(".")
    try:
        if library == "pandas":
            return pandas_tables.made(kind, parts)
        if library in ("torch", "jax"):
            return tensors.made(library, *parts)
        return tables.made(library, kind, parts)
    except _NOT_THEIRS:
        raise
    except BaseException as failure:
        raise BadMessage(f"a {name} arrived that cannot be rebuilt here: {text_of(failure)}") from failure


# -- what is annotated -------------------------------------------------------------------------------------------------


def converted(kind: Any, value: Any) -> Any:
    """Return a table or tensor that arrived as the annotated class; None if either is not one that mob can convert.

    Plain data is converted if it has the right shape; if not, a `ValueError` says which shape is expected.
    """
    wanted, origin = origin_of(kind), origin_of(type(value))
    if wanted is None:
        return None
    if origin is None:
        return plain_tables.made(*wanted, value)
    (library, name), (source, sent) = wanted, origin
    if library in _TENSORS and source in _TENSORS and not library == source == "numpy":
        return tensors.made(library, *((value, None) if source == "numpy" else tensors.parts_of(source, value)))
    if library == "numpy" != source:
        return _as_array(value)
    if library not in _MAKERS or source in ("torch", "jax") or (name in _FRAMES) is not (sent in _FRAMES):
        return None
    if name == "LazyFrame" and source == "polars":
        return value.lazy()
    found = _MAKERS[library](name, _as_arrow(source, sent, value))
    label = getattr(value, "name", None)
    if label is not None and name == "Series":
        found = found.rename(label)
    return pandas_tables.copied_on_write(found) if library == "pandas" and name != "Index" else found


_FRAMES = ("DataFrame", "LazyFrame", "Table", "RecordBatch")
_TENSORS = ("numpy", "torch", "jax")


def _as_array(value: Any) -> Any:
    if not hasattr(value, "to_numpy"):  # a pyarrow table
        value = value.to_pandas()
    needs_word = origin_of(type(value)) == ("pyarrow", "Array")
    return value.to_numpy(zero_copy_only=False) if needs_word else value.to_numpy()


def _as_arrow(library: str, kind: str, value: Any) -> Any:
    """Return a pyarrow table or chunked array."""
    pyarrow = tables.pyarrow_for("a table of one library for an annotation of another")
    if library == "polars":
        value = value.to_arrow()
    elif library == "pandas" and kind == "DataFrame":
        value = pyarrow.Table.from_pandas(value)
    elif library in ("pandas", "numpy"):
        value = pyarrow.array(value, from_pandas=True)
    if isinstance(value, pyarrow.RecordBatch):
        return pyarrow.Table.from_batches([value])
    return pyarrow.chunked_array([value]) if isinstance(value, pyarrow.Array) else value


def _pandas_from(kind: str, arrow: Any) -> Any:
    found = arrow.to_pandas()
    return sys.modules["pandas"].Index(found) if kind == "Index" else found


def _polars_from(kind: str, arrow: Any) -> Any:
    polars = sys.modules["polars"]
    try:
        found = polars.from_arrow(arrow)
    except polars.exceptions.PanicException as failure:
        raise ValueError(f"polars cannot hold the data that arrived: {text_of(failure)}") from failure
    return found.lazy() if kind == "LazyFrame" else found


def _pyarrow_from(kind: str, arrow: Any) -> Any:
    if kind == "RecordBatch":
        columns = [tables.in_one(column) for column in arrow.columns]
        return sys.modules["pyarrow"].RecordBatch.from_arrays(columns, schema=arrow.schema)
    return tables.in_one(arrow) if kind == "Array" else arrow


_MAKERS: Mapping[str, Callable[[str, Any], Any]] = {
    "pandas": _pandas_from,
    "polars": _polars_from,
    "pyarrow": _pyarrow_from,
}
