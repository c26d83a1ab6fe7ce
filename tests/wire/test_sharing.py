"""What looks like a large buffer in packed bytes, and is one."""

from __future__ import annotations

import random
from typing import Any

import pytest
from msgspec.msgpack import Ext, encode

from mob.wire.sharing import LARGE, may_hold_large

LOOKALIKES = [50688, 5, 6, 7]
"""Packed as cd, c6, 00, 05, 06, 07: the mark of binary data and its length, but for the first byte."""
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
