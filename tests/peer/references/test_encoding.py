"""Bodies of messages: what is noted with them, where large buffers go, what is refused, and that nothing stays."""

from __future__ import annotations

import os
from itertools import count
from typing import Any

import pytest
from msgspec import Raw

from mob.errors import BadMessage, WrongProcess
from mob.peer.references import encoding
from mob.wire import messages as m
from mob.wire.references import Reference, references_in
from mob.wire.sharing import LARGE, BufferLocation
from tests.peer.references.members import Member, Mob

BIG = b"x" * LARGE
TOO_LONG = "limit is 100,000 .frame_limit of the app.. Send it in parts, or raise the limit"


def f() -> None: ...


class Moody:
    """An object whose encoder raises once."""

    def __init__(self, data: int = 0) -> None: ...


def noted(member: Member) -> list[type]:
    """Return the kinds of references that a body has noted, and forget them."""
    passage = member.references.take()
    member.references.let_go(passage)
    return [type(reference) for reference, _ in passage]


@pytest.fixture
def one(mob: Mob) -> Member:
    return mob.join()


def test_a_plain_value_has_no_references(one: Member) -> None:
    assert one.encoder.encode((1, "x"), "args") == b"\x92\x01\xa1x"
    assert one.references.encoding == {}


SHARED: list[tuple[Any, list[type]]] = [
    (BIG, [BufferLocation]),
    ((1, BIG), [BufferLocation]),
    ({"deep": [[BIG]]}, [BufferLocation]),
    ((f, BIG), [Reference, BufferLocation]),
    ([{"deep": [f, BIG, f]}], [Reference, BufferLocation, Reference]),
    ([f, b"x" * 100], [Reference]),
    (["x" * LARGE], []),
]


@pytest.mark.parametrize(("value", "kinds"), SHARED)
def test_large_buffers_are_put_aside_and_each_reference_is_noted_once(
    one: Member, value: Any, kinds: list[Any]
) -> None:
    body = one.encoder.encode(value, "args")
    assert (len(body) < LARGE) is (BufferLocation in kinds or value == [f, b"x" * 100])
    assert sorted(map(str, noted(one))) == sorted(map(str, kinds))
    assert one.sizes == {}


@pytest.mark.parametrize("value", [BIG, {"deep": BIG}, (f, BIG)])
def test_where_the_receiver_cannot_look_they_stay_in_the_bytes(mob: Mob, value: Any) -> None:
    without = mob.join(shared_memory=0)
    full = mob.join(shared_memory=LARGE)
    kept = full.encoder.encode(BIG, "args"), full.references.take()
    for member, shares in ((mob.join(), False), (without, True), (full, True)):
        assert len(member.encoder.encode(value, "args", shares)) > LARGE
        assert BufferLocation not in noted(member)
    full.references.let_go(kept[1])
    assert full.sizes == {}


@pytest.mark.parametrize("value", [object(), (f, object()), (BIG, object()), {"deep": [BIG, f, object()]}])
def test_what_cannot_be_sent_leaves_nothing(one: Member, value: Any) -> None:
    one.encoder.encode([f, BIG], "args")
    with pytest.raises(BadMessage, match="cannot send kwargs"):
        one.encoder.encode(value, "kwargs")
    assert one.references.encoding == {}
    assert one.sizes == {}


@pytest.mark.parametrize("value", [lambda moody: [f, moody], lambda moody: (f, BIG, moody, {"deep": f})])
@pytest.mark.parametrize("fails_at", range(8))
def test_what_fails_on_the_way_leaves_nothing_and_notes_nothing_twice(one: Member, value: Any, fails_at: int) -> None:
    encoded = count()

    def encode(moody: Moody) -> int:
        if next(encoded) == fails_at:
            raise ValueError("not now")
        return 1

    one.encoder.codec.register(Moody, encode, Moody)
    try:
        body = one.encoder.encode(value(Moody()), "args")
    except BadMessage:
        assert one.references.encoding == {}
    else:
        assert sorted(one.references.noted(), key=repr) == sorted(references_in(body), key=repr)
        noted(one)
    assert one.sizes == {}


@pytest.mark.parametrize("value", [["x" * 120_000], (f, "x" * 120_000), [f, BIG, "x" * 120_000]])
def test_what_is_too_long_leaves_nothing(one: Member, value: Any) -> None:
    one.context.frame_limit = 100_000
    with pytest.raises(BadMessage, match="cannot send result: 1[0-9]{2},[0-9]{3} bytes; the " + TOO_LONG):
        one.encoder.encode(value, "result")
    assert one.references.encoding == {}
    assert one.sizes == {}


def test_to_another_machine_go_the_bytes_themselves(one: Member) -> None:
    body = Raw(one.encoder.encode((1, BIG), "args"))
    named = (Raw(one.encoder.encode({"f": f, "x": BIG}, "kwargs")),)
    passage = one.references.take()
    far = one.encoder.call_for_far(("foo", body, named, None, (), ""), passage)
    assert far[0] == "foo"
    assert one.encoder.codec.decode(far[1]) == [1, BIG]
    assert bytes(far[2][0]).count(BIG) == 1
    one.context.frame_limit = LARGE
    with pytest.raises(BadMessage, match="cannot send a large buffer to another machine: 65,5"):
        one.encoder.body_for_far(body, passage)
    one.references.let_go(passage)
    assert one.sizes == {}


def test_a_call_or_message_that_nobody_looks_into_is_given_back(one: Member) -> None:
    bodies = [Raw(one.encoder.encode([f], "args")) for _ in range(4)]
    one.references.hand_over(passage := one.references.take(), one.look_up(1))
    one.references.let_go(passage)
    assert one.references.lent_to() == [(f, {1: 4})]
    one.encoder.discard(m.Invoke(1, "foo", bodies[0], (bodies[1],), None, ()))
    one.encoder.discard(m.Invoke(1, "foo", bodies[2], (), None, ()))
    assert one.references.lent_to() == [(f, {1: 1})]
    one.encoder.discard(m.Message(bodies[3], ""))
    assert one.sizes == {}


class Money:
    def __init__(self, cents: int) -> None:
        self.cents = cents


def test_a_registered_type_is_known_to_those_that_are_there_and_to_those_that_come(mob: Mob) -> None:
    before = mob.join()
    encoding.register(Money, lambda money: money.cents, Money)
    try:
        for member in (before, mob.join()):
            assert member.encoder.codec.decode(member.encoder.encode(Money(5), "args")).cents == 5
    finally:
        del encoding._registered[Money]


def test_a_peer_of_the_parent_refuses_in_the_child_of_a_fork(one: Member) -> None:
    one.encoder.abandon()
    one.context.is_abandoned = True
    with pytest.raises(WrongProcess, match=f"made in process {os.getpid()}"):
        one.encoder.encode(1, "args")
