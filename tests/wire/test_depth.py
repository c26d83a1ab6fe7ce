"""Values that are nested too deeply are sealed, and the rest of a frame is read."""

from __future__ import annotations

import inspect
import sys

import msgspec
import pytest
from hypothesis import given, strategies as st
from msgspec import Raw
from msgspec.msgpack import Ext

from mob.errors import BadMessage, GarbageFrame
from mob.wire import messages as m
from mob.wire.codec import Codec
from mob.wire.depth import TOO_DEEP, sealed
from mob.wire.extensions import CALLBACK
from mob.wire.references import references_in

pack, unpack = msgspec.msgpack.encode, msgspec.msgpack.decode

plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def nested(depth: int, inner: bytes = b"\x01") -> bytes:
    return b"\x91" * depth + inner


@given(plain)
def test_what_is_not_too_deep_stays_as_it_is(value: object) -> None:
    assert sealed(pack(value), 100) == pack(value)


@pytest.mark.parametrize("count", [0, 1, 20, 70_000])
def test_long_and_short_arrays_and_maps(count: int) -> None:
    value = {"a": list(range(count)), "b": {n: [n] for n in range(count)}}
    assert sealed(pack(value), 3) == pack(value)
    found = unpack(sealed(pack(value), 1))
    assert {type(part) for part in found.values()} <= ({Ext} if count else {list, dict})


def test_what_was_sealed_has_its_bytes() -> None:
    found = unpack(sealed(pack([1, [2, [3]], 4]), 2))
    assert found == [1, [2, Ext(TOO_DEEP, pack([3]))], 4]


@pytest.mark.parametrize("body", [b"", b"\x92\x01", b"\x91" * 1000, b"\xdd\xff\xff\xff\xff\x01"])
def test_bytes_that_end_too_early(body: bytes) -> None:
    with pytest.raises(ValueError, match="in the middle of a value"):
        sealed(body, 5)


def frame(*bodies: bytes) -> bytes:
    return m.encode([m.Invoke(number, "foo", Raw(body)) for number, body in enumerate(bodies)])


def test_one_call_of_a_frame_is_too_deep(codec: Codec) -> None:
    first, deep, last = m.decode_peer(frame(pack([1]), nested(20_000), pack([2])))
    assert codec.decode(first.args) == [1]
    assert codec.decode(last.args) == [2]
    assert (deep.id, deep.target) == (1, "foo")
    for decode in (codec.decode, codec.decoder(list[int])):
        with pytest.raises(BadMessage, match="nested too deeply"):
            decode(deep.args)


def test_a_stack_that_has_little_room_left(codec: Codec) -> None:
    def dig(levels: int) -> list[m.Invoke]:
        return dig(levels - 1) if levels else m.decode_peer(frame(pack([1]), nested(20_000)))

    depth = 0
    stands = inspect.currentframe()
    while stands is not None and (stands := stands.f_back) is not None:
        depth += 1
    first, _ = dig(sys.getrecursionlimit() - depth - 130)
    assert codec.decode(first.args) == [1]


def test_functions_in_what_is_too_deep_are_given_back() -> None:
    function = pack(Ext(CALLBACK, pack((3, 7))))
    (call,) = m.decode_peer(frame(b"\x92" + nested(20_000, function) + function))
    assert [reference.id for reference in references_in(call.args)] == [7, 7]  # type: ignore[union-attr]


def test_a_value_that_is_too_deep_and_has_no_end_is_garbage() -> None:
    with pytest.raises(GarbageFrame):
        m.decode_peer(nested(20_000, b""))


@pytest.mark.parametrize("size", [1, 2, 4, 8, 16, 3, 300, 70_000])
def test_extensions_of_any_size_are_stepped_over(size: int) -> None:
    """msgpack has marks for some sizes, and the length in one, two or four bytes for the others."""
    value = pack([Ext(77, bytes(size)), 5])
    assert sealed(value, 100) == value
