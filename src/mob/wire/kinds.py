"""Questions about types, in the same words everywhere in wire/.

Strategy. msgspec looks at a value in its own way. Code that examines a value alongside it must tell types apart exactly
as msgspec does: which types it knows, and which fields of a structure it sees.

Limits. Asks the class, never the value: touching an object may run any code. Knows NumPy by name only.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import functools
import io
import types
import uuid
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.msgpack import Ext

MIN_INT, MAX_INT = -(2**63), 2**64 - 1
"""The smallest and the largest int of MessagePack."""

BUILT_IN = frozenset(
    {types.NoneType, bool, int, float, str, bytes, bytearray, memoryview, list, tuple, set, frozenset, dict}
)
"""Types that MessagePack and msgspec support themselves."""

INERT = frozenset({types.NoneType, bool, float, bytes})
"""Built-in types whose values can always be sent."""

LEAVES = frozenset(
    {datetime.datetime, datetime.date, datetime.time, datetime.timedelta, uuid.UUID, decimal.Decimal, Ext, msgspec.Raw}
)
"""Types that msgspec sends as one piece; some of their values cannot be sent."""

OPENED = ("socket.socket", "multiprocessing.connection.Connection", "tempfile._TemporaryFileWrapper")
"""Classes other than those of files whose objects stand for a descriptor."""


def is_a(kind: Any, base: type | str) -> bool:
    """Return whether `kind` is a class that derives from `base`.

    `base` is a class, or the dotted name of one that need not be imported.
    """
    return isinstance(kind, type) and any(
        each is base or f"{each.__module__}.{each.__name__}" == base for each in kind.__mro__
    )


def stands_in(kind: type[Any]) -> bool:
    """Return whether objects of a class stand in for others: lazy settings, proxies, mocks.

    They answer everything, `isinstance` included, on behalf of the object that they stand for, and may have to create
    it first (which may fail). So nothing but their type may be looked at.
    """
    return any("__class__" in vars(each) for each in kind.__mro__ if each is not object)


def is_opened_by_msgspec(kind: type[Any]) -> bool:
    """Return whether msgspec encodes objects of a class by their parts or value, without calling a hook."""
    return issubclass(kind, (list, tuple, set, frozenset, dict, Struct, enum.Enum)) or is_record(kind)


def is_record(kind: type[Any]) -> bool:
    """Return whether a class is a dataclass or an attrs class."""
    return hasattr(kind, "__dataclass_fields__") or hasattr(kind, "__attrs_attrs__")


def field_names(kind: Any) -> list[str]:
    """Return the names of the fields of a record that travel."""
    if hasattr(kind, "__dataclass_fields__"):
        return [field.name for field in dataclasses.fields(kind)]
    return [field.name for field in kind.__attrs_attrs__ if not field.name.startswith("_")]


def named_tuple_fields(kind: Any) -> tuple[str, ...]:
    """Return the field names of a named tuple class, and nothing for other classes."""
    fields: tuple[str, ...] = getattr(kind, "_fields", ())
    return fields if issubclass(kind, tuple) else ()


def is_opened(kind: type[Any]) -> bool:
    """Return whether objects of a class, such as sockets and open files, stand for a descriptor and nothing else."""
    return issubclass(kind, io.IOBase) or (any(is_a(kind, base) for base in OPENED) and not is_a(kind, "ssl.SSLSocket"))


def is_stream(value: object) -> bool:
    """Return whether a value is read item by item: a generator or any other iterator, but not a file."""
    return _is_stream(type(value))


@functools.lru_cache(2000)  # some classes are slow to look up attributes that they lack
def _is_stream(kind: type[Any]) -> bool:
    return (hasattr(kind, "__next__") or hasattr(kind, "__anext__")) and not issubclass(kind, io.IOBase)
