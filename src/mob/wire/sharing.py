"""Large buffers in a value: found, and taken out of the bytes of its message.

Strategy. Hardly any message has a large buffer, so checking must cost next to nothing: `looked_at` looks at the top of
a value before it is packed, and `may_hold_large` at the bytes of a long body after it was packed, where a large buffer
cannot hide. `BufferSharing` then walks over the value once more and replaces each large buffer with an extension that
says where the receiver finds it.

A buffer that already lies in shared memory is not copied: `find` knows its place.

Limits. Where the memory comes from, and how long it lives, is not decided here: `share` provides it, and if there is
none the buffer stays in the message. An array with gaps is always copied. Keys of dicts are not looked at.
"""

from __future__ import annotations

import re
import types
from collections.abc import Callable, Iterator
from functools import cache
from itertools import islice
from typing import Any, NamedTuple

from msgspec import DecodeError, Raw
from msgspec.msgpack import Decoder, Encoder, Ext

from mob.wire.arrays import bytes_from, copy_array, head_of, memory_of, sendable
from mob.wire.binary import BYTES, GIVEN, VIEW, Given, kind_of
from mob.wire.encoders import Encoders, as_array, as_buffer, as_stream
from mob.wire.extensions import ARRAY, NESTING, SHARED, VIEWED, WRITABLE, WithTags
from mob.wire.kinds import LEAVES
from mob.wire.tables import ArrowStream
from mob.wire.walk import Walk

LARGE = 64 * 1024
"""Minimum size in bytes of a buffer that is put into shared memory."""
PLAIN, OTHER, LARGE_BUFFER = 0, 1, 2
"""Results of a look at the top of a value."""
MOST_PARTS = 20
"""Number of parts beyond which a value is data rather than arguments: it is not looked at before it is packed, unless
it begins with a buffer."""


class BufferLocation(NamedTuple):
    """The place of a buffer: a segment in the pool of a member; `head` is set if it is an array, else `kind`."""

    owner: int
    number: int
    offset: int
    length: int
    kind: int = BYTES
    head: bytes | None = None


Fill = Callable[[memoryview], None]
Share = Callable[[int, Fill], "BufferLocation | None"]
"""(length, fill) -> the place of the buffer, written there by `fill`; None if there is no room."""
Find = Callable[[memoryview, Any], "BufferLocation | None"]
"""(contiguous memory, the value that it is the memory of) -> its place if it already lies in shared memory: then it is
not copied."""

BINARY, NIL = 0xC6, b"\xc0"
NUMBERS = {2: rb"\xcd\xd1", 4: rb"\xca\xce\xd2", 8: rb"\xcb\xcf\xd3"}
"""The marks of numbers, by their sizes in bytes."""
MOST_TRIED = 4
"""Maximum number of apparent buffers that are examined closely."""
_pack = Encoder().encode
_skip = Decoder(Raw).decode
_unpack = Decoder(BufferLocation).decode
_kind: Callable[[Any], type[Any]] = type
_BYTES = frozenset({bytes, bytearray})
_BUFFERS = _BYTES | {memoryview, Given}
_OTHERS = frozenset({types.NoneType, bool, int, float, str})
_ARRAYS = frozenset({"ndarray", "Tensor", "Parameter", "ArrayImpl"})
_TABLES = frozenset({"DataFrame", "Series", "Table", "RecordBatch", "ChunkedArray", "DuckDBPyRelation"})
"""Names of classes, so that nothing need be imported; a class of the program with such a name is only walked over."""


def looked_at(value: Any) -> int:
    """Return PLAIN if a value holds only scalars, LARGE_BUFFER if it is or has a large buffer near the top, else OTHER.

    Near the top means: among its parts, or in a list of buffers that is one of them. On the hot path.
    """
    if value.__class__ is tuple:
        for part in value:
            if part.__class__ not in _OTHERS:
                return LARGE_BUFFER if _has_large(value) else OTHER
        return PLAIN
    if value.__class__ in _OTHERS:
        return PLAIN
    return LARGE_BUFFER if _has_large(value) else OTHER


def _has_large(value: Any) -> bool:
    if value.__class__ is tuple or value.__class__ is list:
        return any(map(_is_or_has_large, value)) if len(value) <= MOST_PARTS else _has_large_buffers(value)
    if value.__class__ is dict:  # arguments by name
        parts = value.values()
        return len(parts) <= MOST_PARTS and not _OTHERS.issuperset(map(type, parts)) and any(map(_is_large, parts))
    if value.__class__ is WithTags:
        return _has_large(value.data)
    return _is_large(value)


def _is_or_has_large(value: Any) -> bool:
    if value.__class__ is list or value.__class__ is tuple:
        return bool(value) and _has_large_buffers(value)
    return _is_large(value)


def _has_large_buffers(parts: list[Any] | tuple[Any, ...]) -> bool:
    """Return whether a non-empty list begins with a buffer, as lists of buffers do, and has a large one."""
    kind = _kind(parts[0])
    return (kind in _BUFFERS or kind.__name__ in _ARRAYS) and any(map(_is_large, parts[:MOST_PARTS]))


def _is_large(value: Any) -> bool:
    kind = _kind(value)
    if kind in _BYTES:
        return len(value) >= LARGE
    name = kind.__name__
    if name in _TABLES:
        return True  # finding out its size takes longer than sharing its large parts
    return (kind is memoryview or kind is Given or name in _ARRAYS) and value.nbytes >= LARGE


def may_hold_large(body: bytes) -> bool:
    """Return False if there is no large buffer in packed bytes.

    A buffer comes after a mark and its length. Numbers may look like that: in 50688 the mark is the first of its two
    bytes. So the length has to fit into the body, and the body has to be complete without the apparent buffer. Marks
    that may be part of a number come last, and only a few of them are tried: a body full of numbers has many.
    """
    if len(body) >= 1 << 24:
        return True
    most = len(body) >> 16
    for tried, (at, end) in enumerate(_candidates(body, _marks(most, beside_numbers=True))):
        if tried == MOST_TRIED or _is_whole(body[:at] + NIL + body[end:]):
            return True
    within = islice(_candidates(body, _marks(most)), MOST_TRIED)
    return any(_is_whole(body[:at] + NIL + body[end:]) for at, end in within)


def _candidates(body: bytes, marks: re.Pattern[bytes]) -> Iterator[tuple[int, int]]:
    """Yield where a large buffer may begin and end."""
    for mark in marks.finditer(body):
        at = mark.start()
        end = at + (5 if body[at] == BINARY else 6) + int.from_bytes(body[at + 1 : at + 5])
        if end <= len(body):
            yield at, end


@cache
def _marks(most: int, beside_numbers: bool = False) -> re.Pattern[bytes]:
    """Return a pattern for the mark and length of binary data or of an extension between 64 KiB and `most` times that.

    With `beside_numbers`, it matches only where no mark of a number shortly before could make this a part of the
    number. It looks back from behind the first byte: at each byte of a long text that would take a thousand times as
    long.
    """
    before = b""
    for distance in range(1, 9) if beside_numbers else ():
        marks = b"".join(numbers for size, numbers in NUMBERS.items() if distance <= size)
        before += b"(?<![" + marks + b"]" + b"." * distance + b")"
    return re.compile(rb"[\xc6\xc9]" + before + rb"\x00(?=[\x01-" + re.escape(bytes([max(1, most)])) + b"])", re.DOTALL)


def _is_whole(body: bytes) -> bool:
    """Return whether these are the bytes of exactly one value."""
    try:
        _skip(body)
    except (DecodeError, RecursionError):
        return False
    return True


def _find_nothing(memory: memoryview, value: Any) -> None:
    """Return None: nothing lies in shared memory already."""


class BufferSharing(Walk):
    """A walk that rewrites a value with each large buffer in it replaced."""

    def __init__(self, encoders: Encoders, share: Share, find: Find | None = None) -> None:
        super().__init__(encoders)
        self.share = share
        self.find: Find = find or _find_nothing

    def rewrite(self, value: Any) -> Any:
        """Return a value with its large buffers replaced."""
        kind = _kind(value)
        if kind in _OTHERS:  # packing reports what is wrong with one of these
            return value
        if kind in _BYTES:
            if len(value) < LARGE:
                return value if kind is bytes else super().rewrite(value)
            return self.place_bytes(value, kind_of(value))
        if kind in (list, tuple, set, frozenset) and _OTHERS.issuperset(map(type, value)):
            return value
        if kind.__name__ == "ndarray" and self.encoders.of(value) is as_array:
            return self.place_array(value)
        if kind is tuple:  # packing reports the path of an error, too
            return tuple(map(self.rewrite, value))
        return super().rewrite(value)

    def rewrite_other(self, value: Any, kind: Any) -> Any:
        """Replace a value that is a large buffer; rewrite others as `Walk` does."""
        if kind is memoryview:
            if value.nbytes < LARGE:
                return super().rewrite_other(value, kind)
            return self.place_bytes(value, VIEW)
        if kind is Given and value.nbytes >= LARGE:
            return self.place_bytes(value.memory, GIVEN)
        encoder = None if kind in LEAVES else self.encoders.of(value)
        if encoder is as_array:
            return self.place_array(value)
        if encoder is as_buffer:
            memory = as_buffer(value)
            return memory if memoryview(memory).nbytes < LARGE else self.place_bytes(memory, BYTES)
        if encoder is as_stream:
            return self.place_stream(value)
        return super().rewrite_other(value, kind)

    def key(self, key: Any) -> Any:
        """Return a key without replacing anything."""
        return Walk(self.encoders).key(key)  # a view cannot be a key

    def place_bytes(self, value: bytes | bytearray | memoryview, kind: int) -> Any:
        """Return what is sent for large binary data: a reference to its place, or the data if there is no room."""
        view = memoryview(value)
        view = view.cast("B") if view.c_contiguous else memoryview(view.tobytes())

        def fill(memory: memoryview) -> None:
            memory[:] = view

        place = (self.find(view, value) if kind == VIEW else None) or self.share(view.nbytes, fill)
        return inline(kind, view) if place is None else Ext(SHARED, _pack(place._replace(kind=kind)))

    def place_array(self, value: Any) -> Any:
        """Return what is sent for an array: a reference to its place if it is large and there is room."""
        array = sendable(value)
        if array.nbytes < LARGE:
            return as_array(value)
        place = None
        if array.flags.c_contiguous or array.flags.f_contiguous:
            place = self.find(memory_of(array), value)
        place = place or self.share(array.nbytes, lambda memory: copy_array(array, memory))
        return as_array(value) if place is None else Ext(SHARED, _pack(place._replace(head=head_of(array))))

    def place_stream(self, value: ArrowStream) -> Any:
        """Return what is sent for a stream: a reference to its place if it is large and there is room."""
        place = self.share(value.nbytes, value.write) if value.nbytes >= LARGE else None
        return as_stream(value) if place is None else Ext(SHARED, _pack(place._replace(kind=VIEW)))


def inline(kind: int, memory: memoryview) -> memoryview | Ext:
    """Return how binary data of a kind is written in the bytes of its message."""
    return memory if kind == BYTES else Ext(VIEWED if kind == VIEW else WRITABLE, memory)


def place_of(data: memoryview) -> BufferLocation:
    """Return the place in the data of a `SHARED` extension."""
    return _unpack(data)


def inlined(body: bytes | memoryview, found: Callable[[BufferLocation], memoryview | BufferLocation]) -> bytes:
    """Return a body that contains its large buffers, for a receiver that cannot read the memory they are in.

    `found` returns the memory of a place, or another place to refer to.
    """

    def replace(code: int, data: memoryview) -> Any:
        if code in NESTING:
            return Ext(code, inlined(data, found))
        if code != SHARED:
            return Ext(code, bytes(data))
        place = place_of(data)
        view = found(place)
        if isinstance(view, BufferLocation):
            return Ext(SHARED, _pack(view._replace(kind=place.kind, head=place.head)))
        return inline(place.kind, view) if place.head is None else Ext(ARRAY, bytes_from(place.head, view))

    return _pack(Decoder(ext_hook=replace).decode(body))
