"""References to things outside a body are read once or given back once, whatever is wrong with the body."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings, strategies as st
from msgspec.msgpack import Ext

from mob.errors import ArgumentError, BadMessage, MobError
from mob.wire.arguments import Parameters
from mob.wire.codec import Codec
from mob.wire.extensions import CALLBACK, DESCRIPTOR, REGISTERED, SHARED
from mob.wire.references import AnyReference, Handle, Reference, references_in
from mob.wire.sharing import BufferLocation

pack = msgspec.msgpack.encode
FUNCTION, PLACE, HANDLE = Reference(7, 1), BufferLocation(7, 2, 0, 65536), Handle(7, 3, "socket", (None,))
CODES = {Reference: CALLBACK, BufferLocation: SHARED, Handle: DESCRIPTOR}
BROKEN = b"\xc1"
"""A byte that MessagePack does not have."""


def ext(reference: AnyReference) -> Ext:
    return Ext(CODES[type(reference)], pack(reference))


def registered(data: Any, name: str = "unknown:Type") -> Ext:
    return Ext(REGISTERED, pack((name, data)))


# --- finding them -----------------------------------------------------------------------------------------------------

REFERENCES = st.builds(Reference, st.integers(0, 2**63), st.integers(0, 2**63), st.booleans()) | st.builds(
    lambda number, kind: Handle(7, number, kind, (1.5, None, "x" * 300)), st.integers(0, 2**40), st.text(max_size=40)
)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=40)
    | st.binary(max_size=40)
    | st.sampled_from([1000, 70_000]).map(bytes)
    | st.sampled_from([1000, 70_000]).map("x".__mul__)
    | st.lists(st.none(), min_size=20, max_size=20)
    | REFERENCES.map(ext)
    | REFERENCES.map(lambda reference: registered([reference.owner, ext(reference)]))
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=5),
    max_leaves=10,
)


def all_in(value: Any) -> list[AnyReference]:
    """Return the references in a value that is about to be packed, in the order of packing."""
    if isinstance(value, dict):
        return [found for part in value.values() for found in all_in(part)]
    if isinstance(value, list):
        return [found for part in value for found in all_in(part)]
    if isinstance(value, Ext) and value.code == REGISTERED:
        return all_in(msgspec.msgpack.decode(value.data)[1])
    if not isinstance(value, Ext):
        return []
    kind = Reference if value.code == CALLBACK else Handle
    return [msgspec.msgpack.decode(value.data, type=kind)]


@settings(max_examples=200)
@given(VALUES)
def test_all_are_found_in_their_order_in_what_can_be_decoded_and_what_cannot(value: Any) -> None:
    body = pack(value)
    assert references_in(body) == references_in(body + BROKEN) == all_in(value)


def test_they_are_found_in_long_arrays_and_maps() -> None:
    value = {**{str(number): number for number in range(70_000)}, "all": [ext(FUNCTION)] * 70_000}
    body = pack(value)
    assert references_in(body) == references_in(body + BROKEN) == [FUNCTION] * 70_000


def test_they_are_found_where_decoding_is_impossible() -> None:
    key = b"\x81\x81\xa1a\x01" + pack(ext(FUNCTION))  # a dict whose key is a dict
    deep = b"\x91" * 100_000 + pack(ext(PLACE))
    for body, wanted in ((key, FUNCTION), (deep, PLACE)):
        assert references_in(msgspec.Raw(body)) == [wanted]


@pytest.mark.parametrize("cut", range(1, 20))
def test_what_is_cut_off_is_no_reference(cut: int) -> None:
    body = pack([ext(FUNCTION), ext(HANDLE)])
    assert references_in(body[:-cut]) in ([FUNCTION], [])


# --- giving them back -------------------------------------------------------------------------------------------------


class Receiver:
    """A receiver that keeps the references that were read, and those that were given back."""

    def __init__(self) -> None:
        self.read: list[AnyReference] = []
        self.given_back: list[AnyReference] = []
        self.codec = Codec(lend=self.never, borrow=self.keep, attach=self.view, descriptors=self, give_back=self.back)

    def never(self, function: Any) -> Reference:
        raise AssertionError(f"{function!r} was to be lent")

    def keep(self, reference: Reference) -> Any:
        self.read.append(reference)
        return lambda: None

    def view(self, place: BufferLocation) -> memoryview:
        if place.owner != 7:
            raise BadMessage("no such pool")
        self.read.append(place)
        return memoryview(b"x")

    def check(self, value: Any) -> None:
        self.never(value)

    def duplicate(self, value: Any) -> Handle:
        raise AssertionError

    def open(self, handle: Handle) -> Any:
        if handle.kind == "lost":
            raise BadMessage("a socket was lost")
        self.read.append(handle)
        return object()

    def back(self, reference: AnyReference) -> None:
        self.given_back.append(reference)


LOST = Handle(7, 9, "lost")
ROW = [FUNCTION, PLACE, HANDLE]
BROKEN_BODIES = {
    "a registered type that is unknown": ([*map(ext, ROW), registered([ext(FUNCTION)]), ext(HANDLE)], 4),
    "a buffer of a pool that is unknown": ([ext(FUNCTION), ext(BufferLocation(8, 1, 0, 1)), ext(HANDLE)], 1),
    "a descriptor that was lost": ([*map(ext, ROW), ext(LOST), *map(ext, ROW)], 3),
    "a key that cannot be one": ([*map(ext, ROW), msgspec.Raw(b"\x81\x81\xa1a\x01\x02"), *map(ext, ROW)], 3),
    "what is nested too deeply": ([ext(HANDLE), msgspec.Raw(b"\x91" * 50_000 + b"\x01"), ext(FUNCTION)], 1),
}


def untyped(receiver: Receiver) -> Callable[[bytes], Any]:
    def exported(*args: Any) -> None: ...

    decode = Parameters.of(exported, receiver.codec).decode
    return lambda body: decode(body, None)


def typed(receiver: Receiver) -> Callable[[bytes], Any]:
    def exported(first: Any, *rest: int) -> None: ...

    decode = Parameters.of(exported, receiver.codec).decode
    return lambda body: decode(body, None)


def as_names(receiver: Receiver) -> Callable[[bytes], Any]:
    def exported(**named: Any) -> None: ...

    decode = Parameters.of(exported, receiver.codec).decode
    return lambda body: decode(b"\x90", b"\x81\xa1a" + body)


@pytest.mark.parametrize("way", [untyped, typed, as_names, lambda receiver: receiver.codec.decode])
@pytest.mark.parametrize("what", BROKEN_BODIES)
def test_what_cannot_be_decoded_gives_back_what_was_not_read(way: Any, what: str) -> None:
    receiver = Receiver()
    parts, read = BROKEN_BODIES[what]
    body = pack(parts)
    with pytest.raises((BadMessage, ArgumentError)):
        way(receiver)(body)
    everything = references_in(body)
    assert receiver.read == everything[:read]
    assert receiver.given_back == everything[read:]


def test_names_are_given_back_if_positions_cannot_be_decoded() -> None:
    receiver = Receiver()
    with pytest.raises(MobError):
        receiver.codec.decode_both(pack([ext(FUNCTION), ext(LOST)]), pack({"a": ext(HANDLE)}))
    assert (receiver.read, receiver.given_back) == ([FUNCTION], [LOST, HANDLE])


@pytest.mark.parametrize("body", [pack(3), pack([1, "a", b"b"]), b"", b"\x90", pack(Ext(99, b""))])
def test_what_has_no_references_gives_nothing_back(body: bytes) -> None:
    receiver = Receiver()
    receiver.codec.discard(body)
    assert receiver.given_back == []


def test_what_is_discarded_is_given_back() -> None:
    receiver = Receiver()
    receiver.codec.discard(msgspec.Raw(pack({"a": [ext(FUNCTION), {"b": ext(PLACE)}], "c": registered(ext(HANDLE))})))
    assert (receiver.read, receiver.given_back) == ([], ROW)


def test_arguments_that_do_not_fit_are_read_once_and_not_given_back() -> None:
    def exported(first: int, second: Any) -> None: ...

    receiver = Receiver()
    with pytest.raises(ArgumentError):
        Parameters.of(exported, receiver.codec).decode(pack(["x", ext(HANDLE)]), None)
    assert (receiver.read, receiver.given_back) == ([HANDLE], [])
