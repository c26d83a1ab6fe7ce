"""What is thrown: bytes without any meaning, and real messages that were changed here and there."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import msgspec
from hypothesis import strategies as st

from mob.wire import messages as m
from tests.wire.test_messages import CONVERSATIONS, classes_of, instances_of

Change = Callable[[bytes], bytes]
HEADS = [
    b"\xdd\xff\xff\xff\xff",
    b"\xdf\xff\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff",
    b"\xc9\xff\xff\xff\xff\x01",
    b"\xc1",
]
"""MessagePack: an array, a map, bytes and an extension of four thousand million each; and a byte that means nothing."""
NESTS = [b"\x91" * 2000, b"\x81\xa1a" * 2000, b"\xc7\x05\x01" * 300]
"""Arrays within arrays, maps within maps, extensions within extensions."""


def _put(at: int, new: bytes, over: int) -> Change:
    def change(data: bytes) -> bytes:
        place = at % (len(data) + 1)
        return data[:place] + new + data[place + over :]

    return change


positions = st.integers(0, 2**16)
nests = st.integers(0, len(NESTS) - 1).map(lambda number: NESTS[number])  # sampled ones would be written out
snippets = st.binary(max_size=4) | st.sampled_from(HEADS) | nests
changes = st.builds(_put, positions, snippets, st.integers(0, 4))


def changed(originals: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """These, each with up to four changes."""

    def apply(data: bytes, steps: list[Change]) -> bytes:
        for step in steps:
            data = step(data)
        return data

    return st.builds(apply, originals, st.lists(changes, max_size=4))


def messages(conversation: str) -> st.SearchStrategy[list[Any]]:
    """What is said in a conversation."""
    kinds = classes_of(CONVERSATIONS[conversation][0])
    return st.lists(st.sampled_from(kinds).flatmap(instances_of), min_size=1, max_size=3)


def payloads(conversation: str) -> st.SearchStrategy[bytes]:
    """The contents of frames, true ones and changed ones."""
    return changed(messages(conversation).map(m.encode)) | st.binary(max_size=200)


def _framed(payload: bytes, length: int | None) -> bytes:
    return struct.pack("<I", len(payload) if length is None else length) + payload


def streams(conversation: str) -> st.SearchStrategy[list[bytes]]:
    """What somebody sends, piece by piece: frames whose length may be a lie, and what is no frame at all."""
    lengths = st.none() | st.none() | st.sampled_from([0, 1, 2**16, 2**28, 2**32 - 1])
    pieces = st.builds(_framed, payloads(conversation), lengths) | st.binary(max_size=64)
    return st.lists(pieces, min_size=1, max_size=6)


def bodies() -> st.SearchStrategy[bytes]:
    """Values as they travel, true ones and changed ones."""
    leaf = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=9)
    leaf = leaf | st.binary(max_size=9) | st.builds(msgspec.msgpack.Ext, st.integers(-128, 127), st.binary(max_size=40))
    value = st.recursive(leaf, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner))
    return changed(value.map(msgspec.msgpack.encode)) | st.binary(max_size=200)
