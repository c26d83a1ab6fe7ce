"""NumPy arrays and scalars <-> bytes, without importing NumPy before there is one.

Strategy. The bytes of an array are: the length of the head in four bytes, big-endian; the head, the MessagePack of
(dtype, shape, order); the memory of the array as it lies. So an array is copied by its sender but not by its receiver,
where it is a view of the bytes of the message, and therefore read-only.

Limits. Only plain memory travels: no objects, no masks, no foreign dtypes. The metadata of a dtype and its `align` are
lost.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

from msgspec.msgpack import Decoder, Encoder

from mob.errors import BadMessage
from mob.wire.kinds import is_a
from mob.wire.refusals import UnsendableValue

_pack = Encoder().encode
_unpack = Decoder().decode


def bytes_of_array(value: Any) -> bytes:
    """Return the bytes of an array or scalar."""
    array = sendable(value)
    if not (array.flags.c_contiguous or array.flags.f_contiguous):
        array = array.copy(order="C")
    return bytes_from(head_of(array), memory_of(array) if array.nbytes else b"")


def bytes_from(head: bytes, memory: bytes | memoryview) -> bytes:
    """Return the bytes of an array with that head and memory."""
    return b"".join((len(head).to_bytes(4, "big"), head, memory))


def array_of(data: memoryview) -> Any:
    """Return the array, read-only; a view of `data` unless that would leave it unaligned."""
    end = 4 + int.from_bytes(data[:4], "big")
    return array_over(data[end:], data[4:end])


def sendable(value: Any) -> Any:
    """Return the value as an array of plain memory; raise `UnsendableValue` if it is not one."""
    if is_a(type(value), "numpy.ma.MaskedArray") or is_a(type(value), "numpy.ma.core.MaskedArray"):
        raise UnsendableValue("a masked array is not data. Send its .data and its .mask.")
    array = _numpy().asarray(value)
    dtype = array.dtype
    if dtype.hasobject or (dtype.kind == "V" and dtype.names is None and dtype.type.__module__ != "numpy"):
        raise UnsendableValue(f"an array of dtype {dtype} is not data. Send a list, or another dtype.")
    return array


def head_of(array: Any) -> bytes:
    """Return dtype, shape and order of an array, packed. Arrays that are not contiguous travel in C order."""
    dtype = array.dtype
    return _pack((dtype.str if dtype.names is None else dtype.descr, array.shape, "F" if array.flags.fnc else "C"))


def copy_array(array: Any, memory: memoryview) -> None:
    """Copy the items of an array to memory of the right size, in the order given in its head."""
    if array.flags.c_contiguous or array.flags.f_contiguous:
        memory[:] = memory_of(array)
    else:
        _numpy().frombuffer(memory, array.dtype).reshape(array.shape)[...] = array


def array_over(memory: memoryview, head: bytes | memoryview) -> Any:
    """Return the array that lies in `memory`, read-only; a copy if the memory is not aligned for it."""
    numpy = _numpy()
    described, shape, order = _unpack(head)
    if isinstance(described, str):
        dtype = numpy.dtype(described)
    else:
        dtype = importlib.import_module("numpy.lib.format").descr_to_dtype(_fields_of(described))
    if not dtype.itemsize:
        array = numpy.empty(shape, dtype, order)
    elif not len(memory):
        array = numpy.empty(0, dtype).reshape(shape, order=order)
    else:
        array = numpy.frombuffer(memory, dtype).reshape(shape, order=order)
    if not array.flags.aligned:
        array = array.copy(order="K")
    array.flags.writeable = False
    return array


def memory_of(array: Any) -> memoryview:
    """Return the memory of an array without gaps, as it lies."""
    return memoryview(array.reshape(-1, order="A").view("u1"))


def item_of(value: Any) -> Any:
    """Return the nearest Python object for a NumPy scalar."""
    item = value.item()
    if value.dtype.kind in "mM" and isinstance(item, int):  # finer than microseconds
        item = value.astype(f"{value.dtype.kind}8[us]").item()
    if type(item).__module__ == "numpy":  # a long double has no Python item
        return complex(item) if value.dtype.kind == "c" else float(item)
    return item


def _fields_of(described: Any) -> Any:
    """Return the fields of a structured dtype; its tuples became lists on the way."""
    if isinstance(described, str):
        return described
    return [
        (name if isinstance(name, str) else tuple(name), _fields_of(kind), *map(tuple, shape))
        for name, kind, *shape in described
    ]


def _numpy() -> Any:
    try:
        return sys.modules.get("numpy") or importlib.import_module("numpy")
    except ImportError as failure:
        raise BadMessage("the message contains an array, but NumPy is not installed here.") from failure
