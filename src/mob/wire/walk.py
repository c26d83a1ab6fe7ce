"""The slow walk over a value that msgspec refused: it finds the culprit, and rewrites what can be sent after all.

Strategy. The walk goes where msgspec goes, in the same order, and makes a copy that msgspec can encode: ints beyond 64
bits become extensions, structures become tuples and dicts, and values that have an encoder are encoded. It keeps the
path to its current place, so that after an exception `where()` names the part that cannot be sent.

Limits. It runs after a failure, or when a type that msgspec knows was registered; it may be slow, and may run a
registered encoder once more. Functions, objects, sockets and files stay as they are: the packer lends or duplicates
them.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any

from msgspec import UNSET, Struct
from msgspec.msgpack import Encoder, Ext

from mob.wire.encoders import (
    Encoders,
    Sealed,
    as_buffer,
    as_function,
    as_object,
    as_opened,
    as_viewed,
    as_writable,
    bytes_of_int,
)
from mob.wire.extensions import BIG_INT, Named
from mob.wire.kinds import INERT, LEAVES, MAX_INT, MIN_INT, field_names, is_record, named_tuple_fields
from mob.wire.refusals import UnsendableValue, brief

_kind: Callable[[Any], type[Any]] = type
_pack = Encoder().encode


class Walk:
    """A walk over one value, which goes where msgspec goes and rewrites what msgspec cannot encode.

    Functions, objects, sockets and files stay as they are. An exception leaves `path` at the place where it happened.
    """

    def __init__(self, encoders: Encoders, root: str = "args") -> None:
        self.encoders = encoders
        self.root = root
        self.path: list[tuple[str, Any]] = []
        self.open: set[int] = set()

    def where(self) -> str:
        """Return the current path as text, shortened in the middle."""
        steps = (style.format(brief(key)) if "{}" in style else style + key for style, key in self.path)
        text = self.root + "".join(steps)
        return text if len(text) <= 300 else f"{text[:150]} ... {text[-150:]}"

    def enter(self, style: str, key: Any, value: Any) -> Any:
        """Rewrite a part of a value, with its step in the path meanwhile."""
        self.path.append((style, key))
        result = self.rewrite(value)
        self.path.pop()
        return result

    def rewrite(self, value: Any) -> Any:
        """Return a copy of a value that msgspec can encode."""
        kind = _kind(value)
        if kind in INERT:
            return value
        if kind is int:
            return value if MIN_INT <= value <= MAX_INT else Ext(BIG_INT, bytes_of_int(value))
        if kind is str:
            return _checked_text(value)
        if kind is bytearray:
            return as_writable(value)
        if id(value) in self.open:
            raise UnsendableValue(f"a {kind.__name__} that contains itself is not data. Break the circle.")
        self.open.add(id(value))
        result = self.rewrite_compound(value, kind)
        self.open.discard(id(value))
        return result

    def rewrite_compound(self, value: Any, kind: Any) -> Any:
        """Rewrite a value that may have parts."""
        if issubclass(kind, Named):
            return kind(value.name, self.rewrite(value.data))
        if registration := self.encoders.registration(kind):
            name, encode = registration
            return Named(name, self.rewrite(encode(value)))
        if issubclass(kind, dict):
            return {self.key(key): self.enter("[{}]", key, part) for key, part in value.items()}
        if fields := named_tuple_fields(kind):
            return tuple(self.enter(".", name, part) for name, part in zip(fields, value, strict=True))
        if issubclass(kind, list | tuple):
            return tuple(self.enter("[{}]", index, part) for index, part in enumerate(value))
        if issubclass(kind, set | frozenset):
            return tuple(self.enter("", "{...}", part) for part in value)
        if issubclass(kind, enum.Enum):
            return self.enter(".", "value", value._value_)
        if issubclass(kind, Struct):
            return self.rewrite_struct(value, kind)
        if is_record(kind):
            parts = {name: getattr(value, name, UNSET) for name in field_names(kind)}
            return {name: self.enter(".", name, part) for name, part in parts.items() if part is not UNSET}
        return self.rewrite_other(value, kind)

    def rewrite_struct(self, value: Struct, kind: Any) -> Any:
        """Rewrite a Struct field by field."""
        config = kind.__struct_config__
        names = zip(kind.__struct_fields__, kind.__struct_encode_fields__, strict=True)
        found = [(name, wire_name, getattr(value, name)) for name, wire_name in names]
        if config.array_like:
            parts = [self.enter(".", name, part) for name, _, part in found]
            return parts if config.tag is None else [config.tag, *parts]
        named = {wire_name: self.enter(".", name, part) for name, wire_name, part in found if part is not UNSET}
        return named if config.tag is None else {config.tag_field: config.tag, **named}

    def rewrite_other(self, value: Any, kind: Any) -> Any:
        """Rewrite a value of a type that msgspec sends as one piece, or does not know."""
        if kind is memoryview:
            return as_viewed(value)
        if kind in LEAVES:
            _pack(value)  # raises if it cannot be sent
            return value
        encoder = self.encoders.of(value)
        if encoder is as_function or encoder is as_object:
            return value
        if encoder is as_opened:
            self.encoders.check_opened(value)
            return value
        result = encoder(value)
        return result if isinstance(result, Ext) or encoder is as_buffer else self.rewrite(result)

    def key(self, key: Any) -> Any:
        """Return a rewritten key of a dict, hashable."""
        if _kind(key) is memoryview:
            return key.tobytes()
        result = self.enter("", ".keys()", key)
        return result if type(result) in (str, int) or type(result) in INERT else Sealed(result)


def _checked_text(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as failure:
        hint = "Send it as bytes: text.encode('utf-8', 'surrogateescape')."
        raise UnsendableValue(f"a str with a lone surrogate is not text. {hint}") from failure
    return value
