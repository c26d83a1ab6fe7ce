"""How each type crosses: the table of the encoders of types that msgspec does not know.

Strategy. `ENCODERS` gives, for a type and its subclasses, the function that makes a value sendable; `MAKERS` gives, for
each of mob's MessagePack extensions, the function that makes a value of it again. `Encoders` is the table of one
process, with the types that it registered; it finds the encoder of a type once and remembers it. Four are only marks
for the packer: functions and objects are lent, sockets and files are duplicated, and what a registered encoder returns
is packed separately. Tables and tensors of other libraries are taken apart into named parts (foreign.py), which are
also packed separately.

Limits. An encoder returns something simpler, and never looks into what a value contains: that is the task of the walk.
What msgspec encodes without calling a hook is not in here; docs/types.md shows all types.
"""

from __future__ import annotations

import collections
import datetime
import functools
import pathlib
import re
import struct
import types
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from msgspec.msgpack import Ext

from mob.wire import models
from mob.wire.arrays import array_of, bytes_of_array, item_of
from mob.wire.binary import Given, bytearray_of, view_of
from mob.wire.extensions import ARRAY, BIG_INT, COMPLEX, RANGE, VIEWED, WRITABLE, Foreign, Named
from mob.wire.foreign import is_foreign, parts_of
from mob.wire.kinds import BUILT_IN, LEAVES, is_a, is_opened, is_stream
from mob.wire.methods import ByReference
from mob.wire.refusals import UnsendableValue, complaint
from mob.wire.tables import ArrowStream

Conversion = Callable[[Any], Any]
_kind: Callable[[Any], type[Any]] = type


class Encoders:
    """The encoders of one process: the table, and the registered types.

    `check_opened` raises `UnsendableValue` if a socket or a file cannot be handed over.
    """

    def __init__(self, check_opened: Callable[[Any], None]) -> None:
        self.check_opened = check_opened
        self.registered: dict[type, tuple[str, Conversion]] = {}
        self.services: set[type] = set()
        self._found: dict[type, Conversion] = {}

    def __repr__(self) -> str:
        return f"<Encoders: {len(self.registered)} registered types>"

    def of(self, value: Any) -> Conversion:
        """Return how to send a value of a type that msgspec does not know; `UnsendableValue` if it cannot be sent."""
        return self._found.get(_kind(value)) or self._find(value)

    def registration(self, kind: type[Any]) -> tuple[str, Conversion] | None:
        """Return the name and the encoder registered for a type or its nearest base."""
        bases = kind.__mro__ if self.registered else ()
        return next((self.registered[base] for base in bases if base in self.registered), None)

    def register(self, kind: type[Any], encode: Conversion) -> str:
        """Add a type; return the name under which its values travel."""
        if kind in BUILT_IN or kind in LEAVES:
            raise TypeError(f"{kind.__qualname__} cannot be registered: it is sent as it is.")
        name = f"{kind.__module__}:{kind.__qualname__}"
        self.registered[kind] = (name, encode)
        self._found = {}
        return name

    def serve(self, kind: type[Any]) -> None:
        """Send objects of a class and of its subclasses by reference, unless msgspec encodes them by itself."""
        self.services.add(kind)
        self._found = {}

    def _find(self, value: Any) -> Conversion:
        kind = _kind(value)
        if len(self._found) > 2000:  # types created at run time must not pile up
            self._found = {}
        encoder: Conversion | None = as_registered if self.registration(kind) or issubclass(kind, Named) else None
        encoder = encoder or (as_object if self.services and not self.services.isdisjoint(kind.__mro__) else None)
        encoder = (
            encoder
            or next((ENCODERS[base] for base in kind.__mro__ if base in ENCODERS), None)
            or _odd_encoder(value, kind)
        )
        self._found[kind] = encoder
        return encoder


class Sealed:
    """A rewritten key of a dict, kept hashable; its encoder opens it."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value: Any = value


def as_function(value: Any) -> NoReturn:
    """Mark the encoder of functions, which the packer lends."""
    raise AssertionError("a mark, not called: the packer decides about functions")


def as_object(value: Any) -> NoReturn:
    """Mark the encoder of objects that cross by reference."""
    raise AssertionError("a mark, not called: the packer has objects lent")


def as_opened(value: Any) -> NoReturn:
    """Mark the encoder of sockets and open files, which the packer duplicates."""
    raise AssertionError("a mark, not called: the packer decides about sockets and files")


def as_registered(value: Any) -> NoReturn:
    """Mark the encoder of registered types."""
    raise AssertionError("a mark, not called: the packer packs what the registered encoder returns")


def itself(value: Any) -> Any:
    """Return the value unchanged."""
    return value


TEXTUAL = ("ipaddress._IPAddressBase",)
"""Classes of the standard library, by name, whose objects are sent as their text."""


def _odd_encoder(value: Any, kind: type) -> Conversion:
    """Return the encoder of a type that is not in the table, judging by what its values can do."""
    if is_a(kind, "numpy.generic"):
        return item_of
    if (encoder := models.encoder_of(kind)) is not None:
        return encoder
    if any(is_a(kind, base) for base in TEXTUAL):
        return str
    if hasattr(kind, "__array_interface__"):
        return as_array
    if isinstance(value, type | types.GenericAlias | BaseException):
        raise UnsendableValue(complaint(value, kind))
    if is_foreign(kind) and not is_stream(value):
        return as_foreign
    if is_opened(kind):
        return as_opened
    if callable(value) or is_stream(value):
        return as_function
    try:
        memoryview(value)
    except (TypeError, BufferError):
        raise UnsendableValue(complaint(value, kind)) from None
    return as_buffer


def as_buffer(value: Any) -> memoryview | bytes:
    """Return the memory of an object with a buffer, without gaps."""
    view = memoryview(value)
    return view if view.c_contiguous else view.tobytes()


def as_foreign(value: Any) -> Any:
    """Take apart a table or tensor; one of a library that mob does not know becomes a NumPy array."""
    name, parts = parts_of(value)
    return Foreign(name, parts) if name else parts


def as_stream(value: ArrowStream) -> bytearray:
    """Return the bytes of a stream."""
    memory = bytearray(value.nbytes)
    value.write(memoryview(memory))
    return memory


def as_writable(value: bytearray) -> Ext:
    """Return the extension for a bytearray."""
    return Ext(WRITABLE, memoryview(value))


def as_viewed(value: memoryview) -> Ext:
    """Return the extension for a memoryview."""
    return Ext(VIEWED, value if value.c_contiguous else value.tobytes())


def as_given(value: Given) -> Ext:
    """Return the extension for memory that is given away."""
    return Ext(WRITABLE, as_buffer(value.memory))


def as_array(value: Any) -> Ext:
    """Return the extension for a NumPy array."""
    return Ext(ARRAY, bytes_of_array(value))


def _encode_datetime(value: datetime.datetime) -> datetime.datetime:
    return datetime.datetime.combine(value.date(), value.timetz())


def _encode_complex(value: complex) -> Ext:
    return Ext(COMPLEX, struct.pack(">dd", value.real, value.imag))


def _encode_range(value: range) -> Ext:
    return Ext(RANGE, f"{value.start} {value.stop} {value.step}".encode())


def _encode_pattern(value: re.Pattern[Any]) -> Any:
    """Return the source of a pattern, preceded by its flags."""
    letters = "".join(letter for letter, flag in _FLAGS.items() if value.flags & flag)
    text: Any = value.pattern
    if not letters or re.compile(text).flags == value.flags:
        return text
    return f"(?{letters}){text}" if isinstance(text, str) else b"(?" + letters.encode() + b")" + text


_FLAGS = {"a": re.ASCII, "i": re.IGNORECASE, "L": re.LOCALE, "m": re.MULTILINE, "s": re.DOTALL, "x": re.VERBOSE}


def bytes_of_int(value: int) -> bytes:
    """Return the bytes of a large int, big-endian and signed."""
    return value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True)


_EMPTY: dict[Any, Any] = {}
_VIEWS: tuple[type[Any], ...] = (type(_EMPTY.keys()), type(_EMPTY.values()), type(_EMPTY.items()))

ENCODERS: Mapping[type, Conversion] = {
    **dict.fromkeys((types.FunctionType, types.MethodType, types.BuiltinFunctionType, functools.partial), as_function),
    **dict.fromkeys(_VIEWS, list),
    ByReference: as_object,
    collections.deque: list,
    types.MappingProxyType: dict,
    bytearray: as_writable,
    Given: as_given,
    str: str.__str__,
    int: int.__int__,
    float: float.__float__,
    complex: _encode_complex,
    range: _encode_range,
    pathlib.PurePath: str,
    re.Pattern: _encode_pattern,
    datetime.datetime: _encode_datetime,
    datetime.date: lambda value: datetime.date(value.year, value.month, value.day),
    datetime.timedelta: lambda value: datetime.timedelta(value.days, value.seconds, value.microseconds),
    Sealed: lambda sealed: sealed.value,
    ArrowStream: as_stream,
}
"""The encoders by type; they apply to subclasses too."""

MAKERS: Mapping[int, Callable[[memoryview], Any]] = {
    BIG_INT: lambda data: int.from_bytes(data, "big", signed=True),
    ARRAY: array_of,
    COMPLEX: lambda data: complex(*struct.unpack(">dd", data)),
    WRITABLE: bytearray_of,
    VIEWED: view_of,
    RANGE: lambda data: range(*map(int, str(data, "ascii").split())),
}
"""The functions that make a value of an extension, by its code."""
