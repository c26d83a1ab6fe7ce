"""Every message crosses its conversation unchanged, and nothing else is mistaken for one."""

from __future__ import annotations

import contextlib
import functools
import types
import typing
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings, strategies as st
from msgspec import Raw

from mob.errors import GarbageFrame
from mob.wire import messages as m
from mob.wire.failures import Failure

FAILURE = Failure("ValueError", "ValueError", "text")
CONVERSATIONS: dict[str, tuple[Any, Callable[[Any], list[Any]]]] = {
    "peer": (m.PeerMessage, m.decode_peer),
    "up": (m.Up, m.decode_up),
    "down": (m.Down, m.decode_down),
    "order": (m.ForkOrder, m.decode_order),
    "report": (m.ForkReport, m.decode_report),
    "vital": (m.Vital, m.decode_vital),
    "heed": (m.Heed, m.decode_heed),
}


def classes_of(union: Any) -> list[type[Any]]:
    """Return the messages of a conversation."""
    return list(typing.get_args(union)) or [union]


MESSAGES = [(name, cls) for name, (union, _) in CONVERSATIONS.items() for cls in classes_of(union)]
DECODERS = [(name, decode) for name, (_, decode) in CONVERSATIONS.items()]

int64 = st.integers(-(2**63), 2**63 - 1)
text = st.text(max_size=20)
leaf = st.none() | st.booleans() | int64 | st.floats(allow_nan=False) | text | st.binary(max_size=20)
plain = leaf | st.lists(leaf, max_size=3) | st.dictionaries(text, leaf | st.lists(leaf, max_size=2), max_size=3)
bodies = plain.map(lambda value: Raw(msgspec.msgpack.encode(value)))


SIMPLE: dict[Any, st.SearchStrategy[Any]] = {
    Raw: bodies,
    Any: plain,
    bool: st.booleans(),
    int: int64,
    float: st.floats(allow_nan=False),
    str: text,
    bytes: st.binary(max_size=20),
    type(None): st.none(),
}


@functools.cache
def values_of(annotation: Any) -> st.SearchStrategy[Any]:
    """Return values that a field of this type can have."""
    if annotation in SIMPLE:
        return SIMPLE[annotation]
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        return instances_of(annotation)
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return st.sampled_from(args)
    if origin is tuple and args[-1] is ...:
        return st.lists(st.deferred(lambda: values_of(args[0])), max_size=3).map(tuple)  # it may hold its own kind
    if origin is tuple:
        return st.tuples(*map(values_of, args))
    if origin is dict:
        return st.dictionaries(values_of(args[0]), values_of(args[1]), max_size=3)
    if origin in (typing.Union, types.UnionType):
        return st.one_of(*map(values_of, args))
    raise AssertionError(f"this test knows no values of {annotation!r}; teach it some")


@functools.cache
def instances_of(cls: type[Any]) -> st.SearchStrategy[Any]:
    """Return instances of a message, made from its annotations. Recursive ones are nested once."""
    kinds = typing.get_type_hints(cls)
    nested = [name for name, kind in kinds.items() if cls in typing.get_args(kind)]
    fields = {name: values_of(kind) for name, kind in kinds.items() if name not in nested}
    flat = st.builds(cls, **fields)
    if not nested:
        return flat
    some = {
        name: st.lists(flat, max_size=2).map(tuple) if typing.get_origin(kinds[name]) is tuple else flat
        for name in nested
    }
    return flat | st.builds(cls, **fields, **some)


def laid_open(value: Any) -> Any:
    """Return something that compares by contents: `Raw` compares by identity."""
    if isinstance(value, Raw):
        return ("raw", bytes(value))
    if isinstance(value, msgspec.Struct):
        return type(value), {name: laid_open(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, (list, tuple)):
        return [laid_open(item) for item in typing.cast("list[Any]", value)]
    return value


@pytest.mark.parametrize(("conversation", "cls"), MESSAGES, ids=lambda value: getattr(value, "__name__", value))
@settings(max_examples=25)
@given(data=st.data())
def test_every_message_crosses_unchanged(conversation: str, cls: type[Any], data: st.DataObject) -> None:
    batch = data.draw(st.lists(instances_of(cls), min_size=1, max_size=3))
    decode = CONVERSATIONS[conversation][1]
    arrived = decode(m.encode(batch))
    assert laid_open(arrived) == laid_open(batch)
    assert all(type(message) is cls for message in arrived)


@settings(max_examples=25)
@given(data=st.data())
def test_messages_of_one_conversation_share_a_frame_in_order(data: st.DataObject) -> None:
    for union, decode in CONVERSATIONS.values():
        batch = data.draw(st.lists(st.one_of(*map(instances_of, classes_of(union))), max_size=4))
        assert laid_open(decode(m.encode(batch))) == laid_open(batch)


def test_a_tag_belongs_to_one_message_only() -> None:
    tags = [cls.__struct_config__.tag for _, cls in MESSAGES]
    assert None not in tags
    assert sorted(tags) == sorted(set(tags))


def test_what_belongs_to_another_conversation_is_garbage() -> None:
    order = m.encode([m.Adopt(1)])
    for name, decode in DECODERS:
        if name != "order":
            with pytest.raises(GarbageFrame, match="does not decode to messages"):
                decode(order)


@pytest.mark.parametrize(("conversation", "decode"), DECODERS)
@given(payload=st.one_of(st.binary(max_size=60), plain.map(msgspec.msgpack.encode)))
def test_garbage_raises_garbage_frame_only(
    conversation: str, decode: Callable[[bytes], list[Any]], payload: bytes
) -> None:
    try:
        messages = decode(payload)
    except GarbageFrame:
        return
    kinds = [*classes_of(CONVERSATIONS[conversation][0]), float]  # by chance not garbage; or an empty frame; or a stamp
    assert all(type(message) in kinds for message in messages)


@pytest.mark.parametrize(("conversation", "cls"), MESSAGES, ids=lambda value: getattr(value, "__name__", value))
@settings(max_examples=25)
@given(data=st.data())
def test_a_message_with_one_byte_changed_is_a_message_or_garbage(
    conversation: str, cls: type[Any], data: st.DataObject
) -> None:
    payload = bytearray(m.encode([data.draw(instances_of(cls))]))
    payload[data.draw(st.integers(0, len(payload) - 1))] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(GarbageFrame):
        CONVERSATIONS[conversation][1](bytes(payload))


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xc1",  # the one byte that MessagePack never uses
        b"\x91" * 100_000,  # lists in lists, deeper than any stack
        b"\x91\x93\x01\x01\xa2\xff\xfe",  # a Call whose target is no UTF-8
        b"\xdd\xff\xff\xff\xff",  # four billion messages announced, none present
    ],
    ids=["nothing", "never used", "deep", "no utf-8", "many"],
)
def test_bytes_that_must_not_get_through(payload: bytes) -> None:
    with pytest.raises(GarbageFrame, match=f"a frame of {len(payload):,} bytes does not decode to messages") as caught:
        m.decode_peer(payload)
    assert str(caught.value).endswith("The other end does not speak mob, or speaks another version of it.")


def test_port_0_is_any_free_port() -> None:
    assert [m.SocketAddress(2, "::", numbers).has_free_port() for numbers in ((0,), (80,), ())] == [True, False, False]


def test_what_is_too_deep_for_the_room_that_is_left_is_garbage() -> None:
    error = RecursionError()

    def decode(payload: Any) -> Any:
        raise error

    with pytest.raises(RecursionError) as caught:
        m._decode_shallow(decode, m.encode([]), error)
    assert caught.value is error


@pytest.mark.parametrize(
    "answer", [m.Reply(7, 1, Raw(b"\x01")), m.Failed(7, 1, FAILURE), m.Item(7, Raw(b"\x01")), m.Ended(7, 1)]
)
def test_a_failure_goes_in_place_of_an_answer_that_cannot_be_encoded(answer: m.Base) -> None:
    failed = m.in_place_of(answer)
    assert isinstance(failed, m.Failed)
    assert m.decode_peer(m.encode([failed])) == [failed]
    assert (failed.id, failed.failure.kind, failed.failure.executed) == (7, "CallError", "maybe")


@pytest.mark.parametrize("message", [m.Cancel(7), m.Farewell(), m.More(7, 1), object()])
def test_nothing_goes_in_place_of_another_message(message: Any) -> None:
    assert m.in_place_of(message) is None


@pytest.mark.parametrize(
    ("target", "export"),
    [
        ("foo", "foo"),
        ("map!foo", "foo"),
        ("foo#1f", "foo"),
        ("map!foo#1f", "foo"),
        ("foo#", "foo"),
        (7, 7),
        (m.HANDLE, m.HANDLE),
    ],
)
def test_the_export_that_a_target_is_of(target: str | int, export: str | int) -> None:
    assert m.export_of(target) == export
