"""Binary data keeps its type: `bytes`, `bytearray` and `memoryview` are three kinds, whatever their size.

Strategy. MessagePack has one kind of binary data, and msgspec packs all three as that without calling a hook. So
`bytes` travel as they are, and the other two as extensions. Finding them must cost next to nothing: a body without a
mark of binary data has none (`may_hold_binary`), and in the few remaining values `holds_others` looks for them level by
level.

A large buffer lies in shared memory. What it becomes may depend on an annotation: `memoryview` is a view of that
memory, anything else is a copy of the kind that was sent. So where an annotation asks for views (`asks_for_views`), the
buffer is decoded as `Unread`, and `settled` decides for each parameter.

Limits. Objects of subclasses arrive as the base class. Other objects with a buffer (array.array, mmap, ctypes) arrive
as `bytes`.
"""

from __future__ import annotations

import enum
import typing
from collections.abc import Callable, Iterable
from functools import cache
from gc import get_referents
from typing import Any

from msgspec import Struct

from mob.wire.extensions import Tagged, WithTags
from mob.wire.kinds import BUILT_IN, LEAVES, field_names, is_opened_by_msgspec, is_record

VIEW, BYTES, BYTEARRAY, GIVEN = 0, 1, 2, 3
"""The kinds of binary data, as the places of large buffers give them."""


class Given:
    """Binary data that its sender gives away: it arrives as writable memory, a bytearray or a memoryview.

    The sender never looks at it again, so it can have only one receiver and be sent only once: a call with it must not
    be repeated once it began.
    """

    __slots__ = ("memory",)

    def __init__(self, memory: memoryview) -> None:
        self.memory: memoryview = memory

    def __repr__(self) -> str:
        return f"<Given {self.memory.nbytes:,} bytes>"

    @property
    def nbytes(self) -> int:
        """Its size in bytes."""
        return self.memory.nbytes


SMALL_COPY = 64 * 1024
"""Bytes below which a view is one of a copy: otherwise it would keep the whole message alive that it came with."""

_kind: Callable[[Any], type[Any]] = type
_SCALARS = BUILT_IN - {list, tuple, set, frozenset, dict} | LEAVES
_PLAIN = frozenset({list, tuple, set, frozenset, dict})
_OTHERS = frozenset({bytearray, memoryview})


def kind_of(value: bytes | bytearray | memoryview) -> int:
    """Return the kind of a value."""
    return BYTES if isinstance(value, bytes) else BYTEARRAY if isinstance(value, bytearray) else VIEW


def made_of(kind: int, memory: memoryview) -> bytes | bytearray | memoryview:
    """Return what memory becomes on arrival: a copy, or the memory itself if it was sent as a view or given away."""
    return memory if kind in (VIEW, GIVEN) else bytes(memory) if kind == BYTES else bytearray(memory)


def bytearray_of(data: memoryview) -> bytearray:
    """Return the bytearray for its bytes."""
    return bytearray(data)


def view_of(data: memoryview) -> memoryview:
    """Return the memoryview for its bytes."""
    return memoryview(bytes(data)) if len(data) < SMALL_COPY else data.toreadonly()


# -- finding -----------------------------------------------------------------------------------------------------------


def may_hold_binary(body: bytes) -> bool:
    """Return False if packed bytes hold no binary data. Text and numbers may look like it. On the hot path."""
    return 0xC4 in body or 0xC5 in body or 0xC6 in body


def loses_type(value: Any, body: bytes) -> bool:
    """Return whether a bytearray or a memoryview in a value was, or may have been, packed as bytes."""
    return may_hold_binary(body) and holds_others(value)


def holds_others(value: Any) -> bool:
    """Return whether a packable value has a bytearray or a memoryview among its parts.

    Also returns True if a quick look cannot tell.
    """
    level: Any = value if _kind(value) is tuple else (value,)
    while level:
        kinds = set(map(type, level))
        if kinds <= _SCALARS:  # nearly always, at the first or second level
            return not kinds.isdisjoint(_OTHERS)
        if not kinds.isdisjoint(_OTHERS):
            return True
        kinds -= _SCALARS
        if kinds <= _PLAIN:
            level = get_referents(*level)
        else:
            parts: list[Any] = []
            for each in level:
                kind = _kind(each)
                if kind in _SCALARS:
                    continue
                found = _opener(kind)(each)
                if found is None:
                    return True
                parts.extend(found)
            level = parts
    return False


Opener = Callable[[Any], Iterable[Any] | None]


@cache
def _opener(kind: type[Any]) -> Opener:
    """Return a function that returns the parts of a value of that class, or None if it cannot tell what they are."""
    if kind in _PLAIN:
        return get_referents
    if issubclass(kind, Struct):
        names = kind.__struct_fields__
    elif is_record(kind):
        names = tuple(field_names(kind))
    elif issubclass(kind, enum.Enum):
        names = ("_value_",)
    elif is_opened_by_msgspec(kind):
        return lambda value: list(value.items() if issubclass(kind, dict) else value)
    else:
        is_function = any("__call__" in vars(base) for base in kind.__mro__)
        has_none = is_function or kind.__name__ == "ndarray" or kind is Given
        return (lambda value: ()) if has_none else (lambda value: None)
    return lambda value: [getattr(value, name, None) for name in names]


# -- large ones, as they are annotated ---------------------------------------------------------------------------------


class Unread:
    """A large buffer that arrived and was not made into a value yet."""

    __slots__ = ("kind", "memory")

    def __init__(self, kind: int, memory: memoryview) -> None:
        self.kind: int = kind
        self.memory: memoryview = memory

    def __repr__(self) -> str:
        return f"<Unread {len(self.memory):,} bytes>"


def settled(value: Any, as_views: bool) -> Any:
    """Return a decoded value with each large buffer in it made into a view, or into what was sent."""
    kind = _kind(value)
    if kind is Unread:
        return made_of(VIEW if as_views else value.kind, value.memory)
    if kind is list:
        value[:] = [settled(part, as_views) for part in value]
    elif kind is dict:
        for key, part in value.items():
            value[key] = settled(part, as_views)
    elif kind is Tagged or kind is WithTags:
        value.data = settled(value.data, as_views)
    return value


def asks_for_views(annotation: Any) -> bool:
    """Return whether an annotation names `memoryview` and leaves open nothing that could be of another kind."""
    found = set(_named_in(annotation, set()))
    return memoryview in found and Any not in found


def _named_in(annotation: Any, seen: set[Any]) -> Iterable[Any]:
    """Yield the classes in an annotation, including the fields of classes; `Any` for what may be anything."""
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        yield from _named_in(args[0], seen)
    elif origin is typing.Literal or annotation is Ellipsis:
        return
    elif args:
        for part in args:
            yield from _named_in(part, seen)
    elif not isinstance(annotation, type) or annotation in (object, *_PLAIN):
        yield Any if annotation is not None else type(None)
    elif annotation not in seen:
        seen.add(annotation)
        yield annotation
        if is_opened_by_msgspec(annotation) and not issubclass(annotation, enum.Enum):
            yield from _fields_of(annotation, seen)  # pyright: ignore[reportUnknownArgumentType]


def _fields_of(kind: Any, seen: set[Any]) -> Iterable[Any]:
    try:
        hints = typing.get_type_hints(kind)
    except Exception:  # noqa: BLE001  an annotation may be any expression
        hints = {"": Any}
    for hint in hints.values():
        yield from _named_in(hint, seen)
