"""Tables of polars, pyarrow and other libraries that support Arrow <-> Arrow's IPC stream.

Strategy. A table travels as one stream in Arrow's IPC format, which is written directly into the memory that is sent:
its size is found first by writing it to a null sink. At the other end pyarrow reads it without a copy. In programs
that did not import pyarrow, polars writes and reads the format itself, at the cost of a copy at each end.

Limits. Imports only libraries that the program imported, except pyarrow if no other library can hold what arrives or
take apart what is sent. Knows nothing of pandas: its frames have their own layout (pandas_tables.py).
"""

from __future__ import annotations

import contextlib
import importlib
import io
import sys
from collections.abc import Callable
from typing import Any

from mob.errors import BadMessage
from mob.wire.refusals import UnsendableValue

CHECKED_FULLY = 1 << 20
"""Size in bytes below which streams are checked to their last value: for a MiB that takes less than 0.1 ms."""
_kind: Callable[[Any], type[Any]] = type


class ArrowStream:
    """Bytes that are not written yet: their number, and a function that writes them into memory of that size."""

    __slots__ = ("nbytes", "write")

    def __init__(self, nbytes: int, write: Callable[[memoryview], None]) -> None:
        self.nbytes: int = nbytes
        self.write: Callable[[memoryview], None] = write

    def __repr__(self) -> str:
        return f"<ArrowStream of {self.nbytes:,} bytes>"


def imported(library: str) -> Any:
    """Return a library if the program imported it, else None."""
    return sys.modules.get(library)


def pyarrow_for(what: str) -> Any:
    """Return pyarrow, importing it if need be; if it is not installed, the `BadMessage` says what needs it."""
    try:
        return imported("pyarrow") or importlib.import_module("pyarrow")
    except ImportError as failure:
        raise BadMessage(f"{what}: this needs pyarrow, which is not installed here (pip install pyarrow).") from failure


# -- sending -----------------------------------------------------------------------------------------------------------


def polars_stream(kind: str, value: Any) -> ArrowStream:
    """Return the stream of a polars frame or series."""
    if kind == "LazyFrame":
        raise UnsendableValue("a polars LazyFrame is a query, not data. Send its result: .collect().")
    frame = value.to_frame() if kind == "Series" else value
    polars = sys.modules["polars"]
    for name, dtype in frame.schema.items():
        if dtype == polars.Object:
            raise UnsendableValue(f"the column {name!r} of the {kind} holds Python objects, which are not data.")
        if _has_empty_arrays(dtype):
            raise UnsendableValue(
                f"the column {name!r} of the {kind} has the dtype {dtype}, and polars cannot read arrays without items"
                " at the other end. Send lists: .cast(polars.List(...))."
            )
    if imported("pyarrow") is not None:
        with contextlib.suppress(Exception):  # some dtypes exist only in polars
            return stream_of(frame.to_arrow())
    pieces = _Pieces()
    frame.write_ipc_stream(pieces)
    return ArrowStream(pieces.nbytes, pieces.copy_to)


def _has_empty_arrays(dtype: Any) -> bool:
    if 0 in getattr(dtype, "shape", ()):
        return True
    inner = getattr(dtype, "inner", None)
    within = [inner] if inner is not None else [field.dtype for field in getattr(dtype, "fields", ())]
    return any(map(_has_empty_arrays, within))


def arrow_stream(kind: str, value: Any) -> ArrowStream:
    """Return the stream of a pyarrow table, batch or array."""
    if kind in ("Array", "ChunkedArray"):
        value = column_alone(value)
    return stream_of(value)


def column_alone(values: Any) -> Any:
    """Return a pyarrow table with this single column."""
    return sys.modules["pyarrow"].table([values], names=[""])


def stream_of(table: Any) -> ArrowStream:
    """Return the stream of a pyarrow table or batch."""
    pyarrow = sys.modules["pyarrow"]

    def write_to(sink: Any) -> None:
        with pyarrow.ipc.new_stream(sink, table.schema) as writer:
            writer.write(table)

    def write(memory: memoryview) -> None:
        write_to(pyarrow.FixedSizeBufferWriter(pyarrow.py_buffer(memory)))

    counter = pyarrow.MockOutputStream()
    write_to(counter)
    return ArrowStream(counter.size(), write)


def from_protocol(value: Any) -> tuple[str, Any]:
    """Return the pyarrow kind, and the pyarrow value, of an object that implements Arrow's C interface."""
    try:
        pyarrow = pyarrow_for(f"sending a {type(value).__name__}")
    except BadMessage as failure:
        raise UnsendableValue(str(failure)) from failure
    is_stream = hasattr(_kind(value), "__arrow_c_stream__")
    whole, values = (pyarrow.table, pyarrow.chunked_array) if is_stream else (pyarrow.record_batch, pyarrow.array)
    try:
        made = whole(value)
    except (TypeError, ValueError):  # it is not a table but a single column
        made = values(value)
    kinds = ("Table", "ChunkedArray", "RecordBatch")
    return next((kind for kind in kinds if isinstance(made, getattr(pyarrow, kind))), "Array"), made


class _Pieces:
    """A file object that keeps the pieces that polars writes to it."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.nbytes = 0

    def write(self, piece: bytes) -> int:
        self.pieces.append(piece)
        self.nbytes += len(piece)
        return len(piece)

    def flush(self) -> None:
        """Do nothing; polars calls it."""

    def copy_to(self, memory: memoryview) -> None:
        at = 0
        for piece in self.pieces:
            memory[at : at + len(piece)] = piece
            at += len(piece)


# -- receiving ---------------------------------------------------------------------------------------------------------


def made(library: str, kind: str, stream: bytes | memoryview) -> Any:
    """Return what was sent if its library is imported here, else the pyarrow equivalent."""
    polars = imported("polars") if library == "polars" else None
    if polars is None:
        return _arrow_of(kind, stream, f"a {library}.{kind} arrived")
    frame = _frame_of(polars, stream)
    return frame.to_series() if kind == "Series" else frame


def _frame_of(polars: Any, stream: bytes | memoryview) -> Any:
    if imported("pyarrow") is not None:
        try:
            table = table_of(stream, "")
            frame = polars.from_arrow(table)
        except BadMessage:
            raise
        except Exception:  # noqa: BLE001  as above
            pass
        else:
            frame.columns = table.column_names  # polars replaced empty names
            return frame
    return polars.read_ipc_stream(io.BytesIO(stream))


def table_of(stream: bytes | memoryview, what: str) -> Any:
    """Return the pyarrow table in a stream; it uses the memory of the stream."""
    return _checked(_reader(stream, what).read_all(), stream)


def column_of(stream: bytes | memoryview, what: str) -> Any:
    """Return the only column of a table."""
    return table_of(stream, what).column(0)


def _arrow_of(kind: str, stream: bytes | memoryview, what: str) -> Any:
    if kind == "RecordBatch":
        return _checked(_reader(stream, what).read_next_batch(), stream)
    if kind == "Array":
        return in_one(column_of(stream, what))
    return column_of(stream, what) if kind in ("Series", "ChunkedArray") else table_of(stream, what)


def in_one(values: Any) -> Any:
    """Return a pyarrow chunked array as an array, copied if there are several chunks."""
    return values.chunk(0) if values.num_chunks == 1 else values.combine_chunks()


def _reader(stream: bytes | memoryview, what: str) -> Any:
    pyarrow = pyarrow_for(what)
    return pyarrow.ipc.open_stream(pyarrow.py_buffer(stream))


def _checked(values: Any, stream: bytes | memoryview) -> Any:
    """Return a table or a batch; raise `BadMessage` if damaged bytes would make pyarrow or polars read outside of them.

    Lengths are always checked, which costs nothing; the contents are checked only if the table is small.
    """
    try:
        values.validate(full=len(stream) < CHECKED_FULLY)
    except ValueError as failure:
        raise BadMessage(f"a table arrived damaged: {failure}") from failure
    return values
