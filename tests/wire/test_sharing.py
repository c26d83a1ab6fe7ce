"""Bytes that look like a large buffer in a packed value, and bytes that are one."""

from __future__ import annotations

import array
import random
from typing import Any

import numpy as np
import pytest
from msgspec.msgpack import Ext, decode, encode

from mob.wire.arrays import head_of
from mob.wire.binary import BYTES, GIVEN, VIEW, Given
from mob.wire.codec import Codec
from mob.wire.extensions import SHARED
from mob.wire.refusals import UnsendableValue
from mob.wire.sharing import (
    LARGE,
    LARGE_BUFFER,
    OTHER,
    PLAIN,
    BufferLocation,
    Share,
    inlined,
    looked_at,
    may_hold_large,
    place_of,
)
from tests.wire.samples import Color

LOOKALIKES = [50688, 5, 6, 7]
"""Packed as cd, c6, 00, 05, 06, 07: the mark of binary data and its length, except for the first byte."""
chance = random.Random(7)
WITHOUT: dict[str, Any] = {
    "small": [1] * 100_000,
    "all numbers of two bytes": list(range(65536)),
    "the number": [50688] * 100_000,
    "the number and a length": LOOKALIKES * 50_000,
    "that of an extension": [51456, 1, 2, 3] * 50_000,
    "numbers of two bytes": [chance.randrange(2**16) for _ in range(100_000)],
    "numbers of four bytes": [chance.randrange(2**32) for _ in range(100_000)],
    "negative numbers": [-chance.randrange(2**31) for _ in range(100_000)],
    "numbers of eight bytes": [chance.randrange(2**60) for _ in range(100_000)],
    "floats": [chance.random() for _ in range(100_000)],
    "text": ["Æ\0\1" * 100] * 1_000,
    "small binary data": [chance.randbytes(20) for _ in range(20_000)],
    "binary data with a mark": [b"\xc6\x00\x01\x00\x00", *range(100_000)],
}
WITH: dict[str, Any] = {
    "at the end": [LOOKALIKES * 10_000, [bytes(LARGE)]],
    "at the beginning": [[bytes(LARGE)], LOOKALIKES * 10_000],
    "behind a float": [[1.5, bytes(LARGE)], [chance.random() for _ in range(10_000)]],
    "in a dict": [{"a": {"b": bytes(3 * LARGE)}}],
    "alone": bytes(LARGE),
    "as an extension": [[Ext(5, bytes(LARGE))]],
    "with marks within": [[b"\xc6\x00\x01\x00\x00" * LARGE]],
    "behind what seems to be a number": [["\x02\xcd", b"\xcd", bytes(LARGE)]],
    "of 16 MiB": [bytes(1 << 24)],
}


@pytest.mark.parametrize("kind", WITHOUT)
def test_numbers_and_small_things_are_not_taken_for_large_buffers(kind: str) -> None:
    assert not may_hold_large(encode(WITHOUT[kind]))


@pytest.mark.parametrize("kind", WITH)
def test_a_large_buffer_is_found(kind: str) -> None:
    assert may_hold_large(encode(WITH[kind]))


@pytest.mark.parametrize(
    ("value", "seen"),
    [
        ((1, "a", None), PLAIN),
        ((1, b"a", [2]), OTHER),
        ((1, bytes(LARGE)), LARGE_BUFFER),
        ([[1], bytearray(LARGE)], LARGE_BUFFER),
        ((memoryview(bytes(LARGE)),), LARGE_BUFFER),
        (np.zeros(LARGE, np.uint8), LARGE_BUFFER),
        (np.zeros(4), OTHER),
        ({"a": bytes(LARGE)}, LARGE_BUFFER),  # as arguments by name
        ({"a": 1, "b": b"b"}, OTHER),
        (({"a": bytes(LARGE)},), OTHER),  # deeper than the look before packing goes
        (dict.fromkeys(range(21), bytes(LARGE)), OTHER),
        ([bytes(LARGE)] * 21, LARGE_BUFFER),
        ([1] * 20 + [bytes(LARGE)], OTHER),
        ((1, [memoryview(b""), memoryview(bytes(LARGE))]), LARGE_BUFFER),  # as the buffers of a pickled value
        ((1, [memoryview(b"a")] * 20 + [memoryview(bytes(LARGE))]), OTHER),
        ([b"a", (np.zeros(LARGE),)], LARGE_BUFFER),
        ((1, [], [2, bytes(LARGE)]), OTHER),
        ((1, [Given(memoryview(b"")), Given(memoryview(bytes(LARGE)))]), LARGE_BUFFER),
        ((1, Given(memoryview(b""))), OTHER),
        (([[bytes(LARGE)]],), OTHER),
        ("a" * LARGE, PLAIN),
    ],
)
def test_a_look_at_the_top_of_a_value(value: Any, seen: int) -> None:
    assert looked_at(value) == seen


class Memory:
    """Memory that both ends see."""

    def __init__(self) -> None:
        self.buffers: list[bytearray] = []

    def share(self, length: int, fill: Any) -> BufferLocation:
        self.buffers.append(bytearray(length))
        fill(memoryview(self.buffers[-1]))
        return BufferLocation(7, len(self.buffers) - 1, 0, length)

    def look(self, place: BufferLocation) -> memoryview:
        return memoryview(self.buffers[place.number])


LARGE_ARRAY = np.arange(LARGE)


@pytest.mark.parametrize(
    ("value", "count"),
    [
        ([bytes(LARGE), b"small", 1], 1),
        ([memoryview(b"small"), [1, 2], bytes(LARGE)], 1),
        ({"a": memoryview(bytes(2 * LARGE))[::2]}, 1),
        ([{1, 2}, bytearray(LARGE)], 1),
        ([1j, bytes(LARGE)], 1),
        ((Color.RED, b"small"), 0),
        (np.arange(3), 0),
        (LARGE_ARRAY, 1),
    ],
    ids=range(8),
)
def test_a_body_with_its_large_buffers_in_it_is_that_of_the_value(codec: Codec, value: Any, count: int) -> None:
    memory = Memory()
    body = codec.encode_sharing(value, memory.share)
    assert len(memory.buffers) == count
    assert inlined(body, memory.look) == codec.encode(value)


@pytest.mark.parametrize("value", [memoryview(bytes(LARGE)), [bytes(LARGE), 1], {"a": LARGE_ARRAY}])
def test_a_body_can_refer_to_another_place(codec: Codec, value: Any) -> None:
    here = Memory()
    body = codec.encode_sharing(value, here.share)
    copied = inlined(body, lambda place: BufferLocation(9, place.number, place.offset, place.length))
    asked: list[BufferLocation] = []

    def look(place: BufferLocation) -> memoryview:
        asked.append(place)
        return here.look(place)

    assert inlined(copied, look) == codec.encode(value)
    assert [place.owner for place in asked] == [9]


def test_without_room_a_buffer_stays_where_it_is(codec: Codec) -> None:
    no_room: Share = lambda length, fill: None  # noqa: E731  a function with a type
    for value in (bytes(LARGE), LARGE_ARRAY):
        assert codec.encode_sharing(value, no_room) == codec.encode(value)


def test_what_lies_in_shared_memory_already_is_not_copied(codec: Codec) -> None:
    memory = Memory()
    place = BufferLocation(9, 4, 8, LARGE)
    for value, head in ((memoryview(bytes(LARGE)), None), (np.zeros(LARGE, "u1"), head_of(np.zeros(LARGE, "u1")))):
        extension = decode(codec.encode_sharing([value], memory.share, lambda found, sent: place))
        assert place_of(extension[0].data) == place._replace(kind=VIEW if head is None else BYTES, head=head)
    assert memory.buffers == []
    for value in (bytes(LARGE), bytearray(LARGE), np.zeros(2 * LARGE)[::2]):  # never in that memory, or with gaps
        codec.encode_sharing(value, memory.share, lambda found, sent: place)
    assert len(memory.buffers) == 3


def test_a_small_buffer_beside_a_large_one(codec: Codec) -> None:
    value = [array.array("B", b"abc"), array.array("B", bytes(LARGE)), np.ma.zeros(2)]
    with pytest.raises(UnsendableValue):
        codec.encode_sharing(value, Memory().share)
    assert decode(codec.encode_sharing(value[:1], Memory().share)) == [b"abc"]


def test_an_array_is_shared_with_what_says_how_it_is_read(codec: Codec) -> None:
    extension = decode(codec.encode_sharing(LARGE_ARRAY, Memory().share))
    assert extension.code == SHARED
    assert decode(extension.data)[-1] == head_of(LARGE_ARRAY)


def test_what_is_given_away_is_copied_wherever_it_lies(codec: Codec) -> None:
    memory = Memory()
    place = BufferLocation(9, 4, 8, LARGE)
    given = Given(memoryview(bytes(LARGE)))
    body = codec.encode_sharing(given, memory.share, lambda found, sent: place)
    assert place_of(decode(body).data) == BufferLocation(7, 0, 0, LARGE, GIVEN)
    assert inlined(body, memory.look) == codec.encode(given) == codec.encode(bytearray(LARGE))
