"""NumPy arrays: the array that was sent arrives, read-only."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

from mob.errors import BadMessage
from mob.wire.arrays import array_over, copy_array, head_of
from mob.wire.codec import Codec
from tests.wire.samples import (
    over,
)

ARRAYS = [
    np.arange(6),
    np.arange(6, dtype="i1"),
    np.arange(6, dtype=">u4"),
    np.arange(6.0).reshape(2, 3),
    np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    np.arange(24).reshape(2, 3, 4).transpose(1, 0, 2),
    np.arange(10)[::-3],
    np.array(3.5),
    np.array([]),
    np.zeros((0, 3)),
    np.zeros((2, 0), "<M8[s]"),
    np.array([True, False]),
    np.array([1j]),
    np.array(["ab", "ü"]),
    np.array([b"ab", b""]),
    np.zeros(2, "V0"),
    np.array(["2024-01-02", "NaT"], "M8[ns]"),
    np.array([1, 2], "m8[h]"),
    np.array([(1, 2.5, b"x")], [("a", "<i4"), ("b", "<f8"), ("c", "S3")]),
    np.array([(1, [[1, 2]], (3, "u"))], [("a", "i1"), ("b", "<i2", (1, 2)), ("c", [("d", "<i8"), ("e", "<U2")])]),
    np.zeros(2, np.dtype([("a", "i1"), ("b", "<i8")], align=True)),
    np.zeros(2, [(("a title", "a"), "i1")]),
    np.rec.array([(1, 2.0)], dtype=[("a", "<i4"), ("b", "<f8")]),
    np.arange(1_000_000, dtype="f4"),
]


@pytest.mark.parametrize("value", ARRAYS, ids=lambda value: f"{value.dtype}{value.shape}")
@pytest.mark.parametrize("lead", range(4))
def test_an_array_keeps_all_but_the_right_to_be_written(codec: Codec, value: Any, lead: int) -> None:
    result = over(codec, [*[None] * lead, value])[-1]
    assert type(result) is np.ndarray
    assert result.dtype == value.dtype
    assert result.dtype.isalignedstruct is False or value.dtype.isalignedstruct
    assert result.shape == value.shape
    assert result.tobytes() == value.tobytes()
    assert result.flags.f_contiguous == value.flags.f_contiguous or not value.flags.forc
    assert result.flags.aligned
    assert not result.flags.writeable


def test_an_array_is_read_only_even_in_writable_bytes(codec: Codec) -> None:
    result = codec.decode(bytearray(codec.encode(np.zeros(8, "u1"))))
    with pytest.raises(ValueError, match="read-only"):
        result[0] = 1


def test_a_large_array_of_bytes_aliases_the_message(codec: Codec) -> None:
    data = codec.encode(np.zeros(100_000, "u1"))
    assert np.shares_memory(codec.decode(data), np.frombuffer(data, "u1"))


@pytest.mark.parametrize("array", [*ARRAYS[:7], np.arange(24).reshape(4, 6)[::2, ::3]], ids=repr)
def test_an_array_is_copied_to_shared_memory_in_the_order_that_its_head_tells(array: Any) -> None:
    memory = memoryview(bytearray(array.nbytes))
    copy_array(array, memory)
    assert np.array_equal(array_over(memory, head_of(array)), array)


def test_without_numpy_an_array_that_arrives_says_so(codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    body = codec.encode(np.arange(3))
    monkeypatch.setitem(sys.modules, "numpy", None)
    with pytest.raises(BadMessage, match=r"the message contains an array, but NumPy is not installed here\."):
        codec.decode(body)
