"""Questions about types, asked in the same words everywhere in wire/.

Strategy. msgspec looks at a value in its own way; whoever walks beside it has to tell types apart exactly as it does:
what it knows outright, and of which fields it sees a structure made.

Limits. Asks the class, never the value: an object may do anything when it is touched. Knows NumPy by name only.
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
"""Beyond these an int is no int of MessagePack."""

BUILT_IN = frozenset(
    {types.NoneType, bool, int, float, str, bytes, bytearray, memoryview, list, tuple, set, frozenset, dict}
)
"""What MessagePack and msgspec have themselves."""

INERT = frozenset({types.NoneType, bool, float, bytes})
"""Those of them with which nothing can be wrong."""

LEAVES = frozenset(
    {datetime.datetime, datetime.date, datetime.time, datetime.timedelta, uuid.UUID, decimal.Decimal, Ext, msgspec.Raw}
)
"""What msgspec sends as one piece; there may be something wrong with it."""

OPENED = ("socket.socket", "multiprocessing.connection.Connection", "tempfile._TemporaryFileWrapper")
"""Classes, besides those of files, whose objects stand for a descriptor."""


def is_a(kind: Any, base: type | str) -> bool:
    """Whether it is a class and derives from `base`: a class, or the dotted name of one that need not be imported."""
    return isinstance(kind, type) and any(
        each is base or f"{each.__module__}.{each.__name__}" == base for each in kind.__mro__
    )


def stands_in(kind: type[Any]) -> bool:
    """Return whether objects of a class stand for others: lazy settings, proxies, mocks.

    What they are asked, `isinstance` included, they answer by what they stand for, which may be made for it (and fail).
    So nothing may be asked of them but their type.
    """
    return any("__class__" in vars(each) for each in kind.__mro__ if each is not object)


def is_opened_by_msgspec(kind: type[Any]) -> bool:
    """Whether msgspec encodes it by its parts or its value, so that no hook is asked about it."""
    return issubclass(kind, (list, tuple, set, frozenset, dict, Struct, enum.Enum)) or is_record(kind)


def is_record(kind: type[Any]) -> bool:
    """Whether it is a dataclass or an attrs class."""
    return hasattr(kind, "__dataclass_fields__") or hasattr(kind, "__attrs_attrs__")


def field_names(kind: Any) -> list[str]:
    """The fields of a record that travel."""
    if hasattr(kind, "__dataclass_fields__"):
        return [field.name for field in dataclasses.fields(kind)]
    return [field.name for field in kind.__attrs_attrs__ if not field.name.startswith("_")]


def named_tuple_fields(kind: Any) -> tuple[str, ...]:
    fields: tuple[str, ...] = getattr(kind, "_fields", ())
    return fields if issubclass(kind, tuple) else ()


def is_opened(kind: type[Any]) -> bool:
    """Whether it is a socket, an open file or the like: something that stands for a descriptor, and for no more."""
    return issubclass(kind, io.IOBase) or (any(is_a(kind, base) for base in OPENED) and not is_a(kind, "ssl.SSLSocket"))


def is_stream(value: object) -> bool:
    """Whether a value is drawn from, item by item: a generator or any other iterator, but not a file."""
    return _is_stream(type(value))


@functools.lru_cache(2000)  # some classes take long to say what they do not have
def _is_stream(kind: type[Any]) -> bool:
    return (hasattr(kind, "__next__") or hasattr(kind, "__anext__")) and not issubclass(kind, io.IOBase)
