"""How each type crosses: the table of the ways in which types that msgspec does not know are sent.

Strategy. `WAYS` says for a type and its subclasses which function makes something sendable of a value; `MAKERS` says
for each of mob's MessagePack extensions how it becomes a value again. `Ways` is the table as one process sees it, with
the types that it registered; it finds the way of a type once and remembers it. Four ways are marks, which the packer
knows: functions and objects are lent, sockets and files are duplicated, and what a registered encoder returns is packed
apart. Tables and tensors of other libraries are taken apart into named parts (foreign.py), which are packed apart as
well.

Limits. A way gives something simpler, and never looks into what a value contains: that is the walk's business. What
msgspec encodes without asking is not in here; docs/types.md shows all types.
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

Way = Callable[[Any], Any]
_kind: Callable[[Any], type[Any]] = type


class Ways:
    """The ways of one process: the table, and the types that were registered.

    `check_opened` raises `UnsendableValue` if a socket or a file cannot be handed over.
    """

    def __init__(self, check_opened: Callable[[Any], None]) -> None:
        self.check_opened = check_opened
        self.registered: dict[type, tuple[str, Way]] = {}
        self.services: set[type] = set()
        self._found: dict[type, Way] = {}

    def __repr__(self) -> str:
        return f"<Ways: {len(self.registered)} registered types>"

    def of(self, value: Any) -> Way:
        """How to send a value of a type that msgspec does not know; raises `UnsendableValue` if it cannot be sent."""
        return self._found.get(_kind(value)) or self._find(value)

    def registration(self, kind: type[Any]) -> tuple[str, Way] | None:
        """The name and the encoder of a registered type, its own or its nearest base's."""
        bases = kind.__mro__ if self.registered else ()
        return next((self.registered[base] for base in bases if base in self.registered), None)

    def register(self, kind: type[Any], encode: Way) -> str:
        """Returns the name under which values of this type travel."""
        if kind in BUILT_IN or kind in LEAVES:
            raise TypeError(f"{kind.__qualname__} cannot be registered: it is sent as it is.")
        name = f"{kind.__module__}:{kind.__qualname__}"
        self.registered[kind] = (name, encode)
        self._found = {}
        return name

    def serve(self, kind: type[Any]) -> None:
        """Have objects of a class and of its subclasses cross by reference, unless msgspec encodes them by itself."""
        self.services.add(kind)
        self._found = {}

    def _find(self, value: Any) -> Way:
        kind = _kind(value)
        if len(self._found) > 2000:  # types made on the fly must not pile up
            self._found = {}
        way: Way | None = as_registered if self.registration(kind) or issubclass(kind, Named) else None
        way = way or (as_object if self.services and not self.services.isdisjoint(kind.__mro__) else None)
        way = way or next((WAYS[base] for base in kind.__mro__ if base in WAYS), None) or _odd_way(value, kind)
        self._found[kind] = way
        return way


class Sealed:
    """Keeps a rewritten key of a dict hashable; its way opens it."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value: Any = value


def as_function(value: Any) -> NoReturn:
    raise AssertionError("a mark, not called: the packer decides about functions")


def as_object(value: Any) -> NoReturn:
    raise AssertionError("a mark, not called: the packer has objects lent")


def as_opened(value: Any) -> NoReturn:
    raise AssertionError("a mark, not called: the packer decides about sockets and files")


def as_registered(value: Any) -> NoReturn:
    raise AssertionError("a mark, not called: the packer packs what the registered encoder returns")


def itself(value: Any) -> Any:
    return value


TEXTUAL = ("ipaddress._IPAddressBase",)
"""Classes of the standard library, by name, whose objects are sent as their text."""


def _odd_way(value: Any, kind: type) -> Way:
    """The way of a type that is not in the table, by what such values can do."""
    if is_a(kind, "numpy.generic"):
        return item_of
    if (way := models.way_of(kind)) is not None:
        return way
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
    view = memoryview(value)
    return view if view.c_contiguous else view.tobytes()


def as_foreign(value: Any) -> Any:
    """Take apart a table or tensor; one of a library that mob does not know becomes a NumPy array."""
    name, parts = parts_of(value)
    return Foreign(name, parts) if name else parts


def as_stream(value: ArrowStream) -> bytearray:
    memory = bytearray(value.nbytes)
    value.write(memoryview(memory))
    return memory


def as_writable(value: bytearray) -> Ext:
    return Ext(WRITABLE, memoryview(value))


def as_viewed(value: memoryview) -> Ext:
    return Ext(VIEWED, value if value.c_contiguous else value.tobytes())


def as_given(value: Given) -> Ext:
    return Ext(WRITABLE, as_buffer(value.memory))


def as_array(value: Any) -> Ext:
    return Ext(ARRAY, bytes_of_array(value))


def _encode_datetime(value: datetime.datetime) -> datetime.datetime:
    return datetime.datetime.combine(value.date(), value.timetz())


def _encode_complex(value: complex) -> Ext:
    return Ext(COMPLEX, struct.pack(">dd", value.real, value.imag))


def _encode_range(value: range) -> Ext:
    return Ext(RANGE, f"{value.start} {value.stop} {value.step}".encode())


def _encode_pattern(value: re.Pattern[Any]) -> Any:
    """What it was compiled from, with its flags in front of it."""
    letters = "".join(letter for letter, flag in _FLAGS.items() if value.flags & flag)
    text: Any = value.pattern
    if not letters or re.compile(text).flags == value.flags:
        return text
    return f"(?{letters}){text}" if isinstance(text, str) else b"(?" + letters.encode() + b")" + text


_FLAGS = {"a": re.ASCII, "i": re.IGNORECASE, "L": re.LOCALE, "m": re.MULTILINE, "s": re.DOTALL, "x": re.VERBOSE}


def bytes_of_int(value: int) -> bytes:
    return value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True)


_EMPTY: dict[Any, Any] = {}
_VIEWS: tuple[type[Any], ...] = (type(_EMPTY.keys()), type(_EMPTY.values()), type(_EMPTY.items()))

WAYS: Mapping[type, Way] = {
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
"""By type, for its subclasses too."""

MAKERS: Mapping[int, Callable[[memoryview], Any]] = {
    BIG_INT: lambda data: int.from_bytes(data, "big", signed=True),
    ARRAY: array_of,
    COMPLEX: lambda data: complex(*struct.unpack(">dd", data)),
    WRITABLE: bytearray_of,
    VIEWED: view_of,
    RANGE: lambda data: range(*map(int, str(data, "ascii").split())),
}
"""By code, what makes a value of an extension."""
