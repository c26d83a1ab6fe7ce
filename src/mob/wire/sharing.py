"""Large buffers in a value: found, and taken out of the bytes of its message.

Strategy. Nearly no message has a large buffer, so asking must cost next to nothing: `holds_large` looks at the top of a
value before it is packed, and `may_hold_large` at the bytes of a long body that was packed, where a large buffer cannot
hide. `Sharing` then walks over the value once more and puts an extension in the place of each large buffer, which says
where the receiver finds it.

Limits. Where the memory comes from, and how long it lives, is not known here: `share` is asked for it, and when it has
none the buffer stays where it is. Keys of dicts are not looked at.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any, NamedTuple

from msgspec.msgpack import Decoder, Encoder, Ext

from mob.wire.arrays import bytes_from, copy_array, head_of, sendable
from mob.wire.kinds import LEAVES
from mob.wire.walk import Walk
from mob.wire.ways import ARRAY, SHARED, Ways, as_array, as_buffer

LARGE = 64 * 1024
"""Bytes from which a buffer is worth a place in shared memory."""
MOST_PARTS = 20
"""What has more of them is data, not arguments, and is not looked at before it is packed."""


class Place(NamedTuple):
    """Where a buffer lies: in the pool of a member, in a segment of a number; `head` if it is an array."""

    owner: int
    number: int
    offset: int
    length: int
    head: bytes | None = None


Fill = Callable[[memoryview], None]
Share = Callable[[int, Fill], "Place | None"]
"""(length, fill) -> the place of the buffer, which `fill` has written there; None if there is no room."""

_pack = Encoder().encode
_unpack = Decoder(Place).decode
_kind: Callable[[Any], type[Any]] = type
_BYTES = frozenset({bytes, bytearray})
_OTHERS = frozenset({types.NoneType, bool, int, float, str})


def holds_large(value: Any) -> bool:
    """Whether it is a large buffer, or has one among its parts; deeper it is not looked. On the hot path."""
    if value.__class__ is tuple:
        for part in value:
            if part.__class__ not in _OTHERS:
                return _has_large(value)
        return False
    return value.__class__ not in _OTHERS and _has_large(value)


def _has_large(value: Any) -> bool:
    if value.__class__ is tuple or value.__class__ is list:
        return len(value) <= MOST_PARTS and any(map(_is_large, value))
    return _is_large(value)


def _is_large(value: Any) -> bool:
    kind = _kind(value)
    if kind in _BYTES:
        return len(value) >= LARGE
    return (kind is memoryview or kind.__name__ == "ndarray") and value.nbytes >= LARGE


def may_hold_large(body: bytes) -> bool:
    """False if there is certainly no large buffer in packed bytes: it would stand behind one of these marks."""
    if len(body) >= 1 << 24:
        return True
    return b"\xc6\x00" in body or b"\xc9\x00" in body  # binary, extension, of 64 KiB to 16 MiB


class Sharing(Walk):
    """Rewrites a value, each large buffer in it replaced."""

    def __init__(self, ways: Ways, share: Share) -> None:
        super().__init__(ways)
        self.share = share

    def rewrite(self, value: Any) -> Any:
        kind = _kind(value)
        if kind in _OTHERS:  # what is wrong with one of these is found when it is packed
            return value
        if kind in _BYTES:
            return value if len(value) < LARGE else self.place_bytes(value)
        if kind in (list, tuple, set, frozenset) and _OTHERS.issuperset(map(type, value)):
            return value
        return super().rewrite(value)

    def rewrite_other(self, value: Any, kind: Any) -> Any:
        if kind is memoryview:
            if value.nbytes < LARGE:
                return super().rewrite_other(value, kind)
            return self.place_bytes(value if value.c_contiguous else value.tobytes())
        way = None if kind in LEAVES else self.ways.of(value)
        if way is as_array:
            return self.place_array(value)
        if way is as_buffer:
            return self.rewrite(as_buffer(value))
        return super().rewrite_other(value, kind)

    def key(self, key: Any) -> Any:
        return Walk(self.ways).key(key)  # a view cannot be a key

    def place_bytes(self, value: bytes | bytearray | memoryview) -> Any:
        view = memoryview(value).cast("B")

        def fill(memory: memoryview) -> None:
            memory[:] = view

        place = self.share(view.nbytes, fill)
        return value if place is None else Ext(SHARED, _pack(place))

    def place_array(self, value: Any) -> Any:
        array = sendable(value)
        if array.nbytes < LARGE:
            return as_array(value)
        place = self.share(array.nbytes, lambda memory: copy_array(array, memory))
        return as_array(value) if place is None else Ext(SHARED, _pack(place._replace(head=head_of(array))))


def place_of(data: memoryview) -> Place:
    """What a `SHARED` extension says."""
    return _unpack(data)


def inlined(body: bytes | memoryview, view_of: Callable[[Place], memoryview]) -> bytes:
    """A body with the large buffers in it that it only refers to: for who cannot look into the memory here."""

    def replace(code: int, data: memoryview) -> Any:
        if code != SHARED:
            return Ext(code, bytes(data))
        place = place_of(data)
        view = view_of(place)
        return view if place.head is None else Ext(ARRAY, bytes_from(place.head, view))

    return _pack(Decoder(ext_hook=replace).decode(body))
