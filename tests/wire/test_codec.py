"""The codec: functions are counted, malformed bytes are distinguished from unfit ones, types can be registered."""

from __future__ import annotations

import collections
import contextlib
import datetime as dt
import functools
import threading
import typing
import uuid
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from mob.errors import BadMessage, Busy, GarbageFrame
from mob.wire.codec import CALLBACK, Codec, Reference
from mob.wire.refusals import UnsendableValue
from tests.wire.samples import (
    CALLER,
    HUGE,
    Cash,
    Circle,
    Color,
    Mob,
    Money,
    Names,
    Point,
    Stranger,
    User,
    over,
    register_money,
    short,
)

# --- functions --------------------------------------------------------------------------------------------------------


FUNCTIONS = [len, print, lambda: 1, functools.partial(print, 1), CALLER, CALLER.method, "x".join, np.add, typing.cast]


@pytest.mark.parametrize("function", FUNCTIONS, ids=short)
def test_a_function_is_lent_and_borrowed(mob: Mob, function: Callable[..., Any]) -> None:
    assert over(mob.codec, function) == function
    assert len(mob.lent) == len(mob.borrowed) == 1


COUNTED = [
    [len],
    [len, print, len],
    {"a": [len, {"b": (print,)}]},
    [len, HUGE],
    {len: HUGE},
    User("u", extra=[len, HUGE]),
    Circle(1.0, len),
    [memoryview(b"abcd")[::2], len, np.arange(3)],
    collections.deque([len, print]),
]


@pytest.mark.parametrize("value", COUNTED, ids=short)
def test_each_reference_is_lent_once_and_borrowed_once(mob: Mob, value: Any) -> None:
    data = mob.codec.encode(value)
    mob.codec.decode(data)
    assert mob.lent
    assert sorted(mob.lent) == sorted(mob.borrowed)


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        ([len, HUGE], list[Any]),
        ([len, HUGE], tuple[Callable[..., int], int]),
        ([1, len, 1j], tuple[int, Any, complex]),
        ([len, {"name": "u"}], tuple[Callable[..., int], User]),
        ([len], list[Callable[..., int] | int]),
        ({"retries": HUGE, "f": len}, dict[str, Any]),
    ],
    ids=short,
)
def test_a_typed_decoder_borrows_once_too(mob: Mob, value: Any, annotation: Any) -> None:
    mob.codec.decoder(annotation)(mob.codec.encode(value))
    assert mob.lent == mob.borrowed == [id(len)]


def test_a_typed_decoder_borrows_once_even_if_it_refuses(mob: Mob) -> None:
    data = mob.codec.encode([len, "x", print])
    with pytest.raises(msgspec.ValidationError):
        mob.codec.decoder(tuple[Any, int, Any])(data)
    assert mob.lent == mob.borrowed == [id(len), id(print)]


def test_nothing_is_lent_for_a_message_that_cannot_be_sent(mob: Mob) -> None:
    for bad in ([len, Stranger()], [len, HUGE, "\ud800"], {"a": len, "b": {"c": Stranger()}}):
        with pytest.raises(BadMessage):
            mob.codec.encode(bad)
    assert mob.lent == []


def test_what_lend_says_is_not_reworded() -> None:
    def refuse(function: Any) -> Reference:
        raise Busy("too many callbacks")

    with pytest.raises(Busy, match="too many callbacks"):
        Codec(refuse, lambda reference: None).encode([len])


@pytest.mark.parametrize(
    ("failure", "text"),
    [
        (RuntimeError("no table"), r"cannot send args: encoding it raised RuntimeError: no table\."),
        (UnsendableValue("it is closed."), r"cannot send args: it is closed\."),
    ],
)
def test_what_goes_wrong_while_a_function_is_lent_is_named(failure: Exception, text: str) -> None:
    def break_down(function: Any) -> Reference:
        raise failure

    with pytest.raises(BadMessage, match=text):
        Codec(break_down, lambda reference: None).encode([len], "args")


def test_encode_data_lends_nothing(mob: Mob) -> None:
    assert mob.codec.encode_data((1, len)) is None
    assert mob.codec.encode_data(Stranger()) is None
    assert mob.codec.decode(mob.codec.encode_data([HUGE]) or b"") == [HUGE]
    assert mob.lent == []


# --- malformed bytes --------------------------------------------------------------------------------------------------


def ext(code: int, data: bytes) -> bytes:
    return msgspec.msgpack.encode(msgspec.msgpack.Ext(code, data))


MALFORMED = [
    *(b"", b"\xc1", b"\x92\x01", b"\x01\x02", b"\xa1\xff", b"\xdd\xff\xff\xff\xff", b"\xd9"),
    *(ext(code, b"\xff\xff") for code in (1, 3, 4, 5, 6)),
    *(ext(3, b""), ext(5, b"1 2 x"), ext(5, b"0 1 0"), ext(6, b"\x92\x01"), ext(1, b"\x91\x01")),
    ext(3, (10).to_bytes(4, "big") + msgspec.msgpack.encode(("<i8", [2], "C")) + bytes(15)),
    ext(3, (10).to_bytes(4, "big") + msgspec.msgpack.encode(("|O", [1], "C")) + bytes(8)),
]


@pytest.mark.parametrize("data", MALFORMED, ids=short)
def test_malformed_bytes_are_garbage(codec: Codec, data: bytes) -> None:
    with pytest.raises(GarbageFrame):
        codec.decode(data)
    with pytest.raises(GarbageFrame):
        codec.decoder(list[int])(data)


@settings(max_examples=300)
@given(st.binary(max_size=30))
def test_any_bytes_are_a_value_or_garbage_or_cannot_be_understood(data: bytes) -> None:
    codec = Codec(lambda function: Reference(0, 0), lambda reference: len)
    with contextlib.suppress(GarbageFrame, BadMessage):
        codec.decode(data)


def test_what_is_only_not_understood_is_not_garbage(codec: Codec) -> None:
    with pytest.raises(BadMessage, match="nested too deeply"):
        codec.decode(b"\x91" * 100_000 + b"\x01")
    with pytest.raises(BadMessage, match="keys that arrive as dicts"):
        codec.decode(codec.encode({Point(1, 2): 3}))
    assert codec.decoder(dict[Point, int])(codec.encode({Point(1, 2): 3})) == {Point(1, 2): 3}


# --- registered types -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "annotation", "wanted"),
    [
        (Money(5), Any, Money(5)),
        (Money(5), Money, Money(5)),
        (Money(HUGE), Any, Money(HUGE)),
        ([Money(5), {"a": Money(HUGE)}], list[Any], [Money(5), {"a": Money(HUGE)}]),
        (Money([Money(1), Money(2)]), Any, Money([Money(1), Money(2)])),
        (Money(len), Any, Money(len)),
        ([Money(len), HUGE], Any, [Money(len), HUGE]),
        ({Money(5): HUGE}, Any, {Money(5): HUGE}),
        (User("u", extra=Money(5)), User, User("u", extra=Money(5))),
        (Cash(5), Any, Money(5)),
        (Money(5), Money | int, Money(5)),
    ],
    ids=short,
)
def test_a_registered_type_arrives_as_itself(rich: Mob, value: Any, annotation: Any, wanted: Any) -> None:
    assert rich.codec.decoder(annotation)(rich.codec.encode(value)) == wanted
    assert rich.lent == rich.borrowed


def test_a_subclass_may_be_registered_itself(rich: Mob) -> None:
    rich.codec.encode(Cash(1))
    rich.codec.register(Cash, lambda cash: cash.cents, Cash)
    assert over(rich.codec, [Cash(1), Money(1)]) == [Cash(1), Money(1)]


def test_a_type_that_msgspec_knows_may_be_registered(mob: Mob) -> None:
    codec = mob.codec
    codec.register(Point, lambda point: [point.x, point.y], lambda data: Point(*data))
    codec.register(Color, lambda color: color.name, Color.__getitem__)
    codec.register(Names, " ".join, lambda text: Names(text.split()))
    value = [Point(1, HUGE), {"a": Color.RED}, Names(["x", "y"]), len, User("u", extra=Point(3, 4)), {Point(1, 1): 2}]
    wanted = [*value[:4], {"name": "u", "tags": [], "extra": Point(3, 4)}, {Point(1, 1): 2}]
    result = over(codec, value)
    assert result == wanted
    assert type(result[2]) is Names
    assert mob.lent == mob.borrowed == [id(len)]
    assert codec.decoder(Point)(codec.encode(Point(1, 2))) == Point(1, 2)
    with pytest.raises(BadMessage) as caught:
        codec.encode([Point(1, object())])  # type: ignore[arg-type]
    assert caught.value.where == "args[0][1]"


@pytest.mark.parametrize("kind", [int, str, dict, list, type(None), dt.datetime, uuid.UUID])
def test_a_type_of_messagepack_cannot_be_registered(codec: Codec, kind: type) -> None:
    with pytest.raises(TypeError, match="cannot be registered: it is sent as it is"):
        codec.register(kind, str, str)


def test_a_type_registered_at_one_end_only_is_named(rich: Mob) -> None:
    with pytest.raises(BadMessage) as caught:
        Mob().codec.decode(rich.codec.encode([Money(5)]))
    assert str(caught.value) == (
        f"a {Money.__module__}:Money arrived, but this process did not register that type. Call mob.register(...) for"
        " it in both processes, best in a module that both import."
    )


def test_registered_functions_that_raise_are_named(codec: Codec) -> None:
    codec.register(Money, lambda money: 1 / money.cents, lambda data: 1 / (data - 1))
    with pytest.raises(BadMessage) as caught:
        codec.encode([Money(0)])
    assert str(caught.value) == "cannot send args[0]: encoding it raised ZeroDivisionError: division by zero."
    with pytest.raises(BadMessage) as caught:
        over(codec, [Money(1)])
    assert (
        str(caught.value)
        == f"the decoder registered for {Money.__module__}:Money failed: ZeroDivisionError: float division by zero"
    )


def test_what_a_registered_encoder_returns_is_part_of_the_path(codec: Codec) -> None:
    codec.register(Money, lambda money: {"cents": money.cents}, lambda data: data)
    with pytest.raises(BadMessage) as caught:
        codec.encode([Money(object())])
    assert caught.value.where == "args[0]['cents']"


def test_a_registered_encoder_that_returns_its_argument_is_refused(codec: Codec) -> None:
    codec.register(Money, lambda money: money, lambda data: data)
    with pytest.raises(BadMessage, match="contains itself"):
        codec.encode([Money(1)])


def test_a_registered_encoder_that_never_ends_is_refused(codec: Codec) -> None:
    codec.register(Money, lambda money: [Money(1)], lambda data: data)
    with pytest.raises(BadMessage, match="nested too deeply"):
        codec.encode([Money(1)])


# --- the bare encoder -------------------------------------------------------------------------------------------------


def test_pack_is_encode_without_functions_and_big_ints(mob: Mob) -> None:
    value = [1, {"a": User("u")}, {2}, Color.RED]
    assert mob.codec.pack(value) == mob.codec.encode(value)
    for other in (len, HUGE, Stranger(), "\ud800"):
        with pytest.raises(Exception):  # noqa: B017, PT011  any: `encode` says what is wrong
            mob.codec.pack([other])
    assert mob.lent == []


def test_pack_walks_once_a_type_is_registered_that_msgspec_knows(mob: Mob) -> None:
    mob.codec.register(Money, lambda money: money.cents, Money)
    mob.codec.register(Point, lambda point: [point.x, point.y], lambda data: Point(*data))
    data = mob.codec.pack([Point(1, 2), Money(3)])
    assert data == mob.codec.encode([Point(1, 2), Money(3)])
    assert mob.codec.decode(data) == [Point(1, 2), Money(3)]


# --- several threads --------------------------------------------------------------------------------------------------


def test_threads_share_a_codec() -> None:
    mob = Mob()
    register_money(mob.codec)
    failures: list[Any] = []

    def work(number: int) -> None:
        for turn in range(300):
            value = [number, HUGE + turn, Money(number), {"f": len}, str(number) * turn]
            if over(mob.codec, value) != value:
                failures.append(value)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(mob.lent) == len(mob.borrowed) == 1200


def test_a_reference_is_an_array_of_owner_number_and_kind(codec: Codec) -> None:
    found = msgspec.msgpack.decode(codec.encode(len))
    assert (found.code, msgspec.msgpack.decode(found.data)) == (CALLBACK, [7, id(len), False])


def test_an_interrupt_in_a_registered_decoder_is_that_of_the_one_who_waits(codec: Codec) -> None:
    def interrupted(data: Any) -> Any:
        raise KeyboardInterrupt

    codec.register(Money, lambda money: money.cents, interrupted)
    with pytest.raises(KeyboardInterrupt):
        over(codec, Money(1))


def test_types_made_on_the_fly_do_not_pile_up(codec: Codec) -> None:
    for _ in range(2100):
        assert over(codec, type("Passing", (complex,), {})(1j)) == 1j
    assert 0 < len(codec._encoders._found) <= 2001
