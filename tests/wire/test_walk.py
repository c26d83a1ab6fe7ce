"""Errors name the place of what cannot be sent."""

from __future__ import annotations

import collections
import datetime as dt
import os
import threading
import typing
from typing import Any

import numpy as np
import pytest

from mob.errors import BadMessage
from mob.wire.codec import Codec
from tests.wire.samples import (
    HUGE,
    Car,
    Circle,
    Color,
    Duplicates,
    Mob,
    Pair,
    Row,
    Stranger,
    User,
    over,
)


def circle() -> list[Any]:
    value: list[Any] = []
    value.append({"again": value})
    return value


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


class LyingClass:
    @property
    def __class__(self) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        raise ZeroDivisionError("no class")


class NoAttributes:
    def __getattribute__(self, name: str) -> Any:
        raise KeyError(name)


class BadRepr:
    def __repr__(self) -> str:
        raise RuntimeError

    def __hash__(self) -> int:
        return 1


HINT = "Send what it describes, or register the type with mob.register(...)."
REFUSED = [
    (
        ({"user": User("u", extra=1), "x": 1}, [{"user": Car(1, threading.Lock())}]),  # type: ignore[arg-type]
        "args[1][0]['user'].owner",
        f"a thread lock (_thread.lock) is not data. {HINT}",
    ),
    ((Stranger(),), "args[0]", f"an object of type {Stranger.__module__}.Stranger is not data. {HINT}"),
    (([{1: (1, {2: object()})}],), "args[0][0][1][1][2]", f"an object of type object is not data. {HINT}"),
    ((Circle(1.0, [object()]),), "args[0].data[0]", f"an object of type object is not data. {HINT}"),
    ((Row(1, object()),), "args[0].data", f"an object of type object is not data. {HINT}"),
    ((Pair(1, [object()]),), "args[0].right[0]", f"an object of type object is not data. {HINT}"),
    (({object()},), "args[0]{...}", f"an object of type object is not data. {HINT}"),
    (({object(): 1},), "args[0].keys()", f"an object of type object is not data. {HINT}"),
    ((collections.deque([object()]),), "args[0][0]", f"an object of type object is not data. {HINT}"),
    (({BadRepr(): object()},), "args[0].keys()", f"an object of type {__name__}.BadRepr is not data. {HINT}"),
    (
        ({"k" * 500: object()},),
        f"args[0]['{'k' * 39}...{'k' * 14}']",
        f"an object of type object is not data. {HINT}",
    ),
    (({HUGE**20: object()},), "args[0][<int>]", f"an object of type object is not data. {HINT}"),
    ((ValueError("x"),), "args[0]", "an exception (ValueError) is not data. Raise it, or send its text."),
    ((User,), "args[0]", "a class (type) is not data. Send its name."),
    ((list[int],), "args[0]", "a class (types.GenericAlias) is not data. Send its name."),
    ((typing,), "args[0]", "a module is not data. Send its name."),
    (
        ("\ud800",),
        "args[0]",
        "a str with a lone surrogate is not text. Send it as bytes: text.encode('utf-8', 'surrogateescape').",
    ),
    (
        ({"a": {"\udcff": 1}},),
        "args[0]['a'].keys()",
        "a str with a lone surrogate is not text. Send it as bytes: text.encode('utf-8', 'surrogateescape').",
    ),
    ((circle(),), "args[0][0]['again']", "a list that contains itself is not data. Break the circle."),
    ((np.array([object()]),), "args[0]", "an array of dtype object is not data. Send a list, or another dtype."),
    ((np.ma.zeros(2),), "args[0]", "a masked array is not data. Send its .data and its .mask."),
    ((LyingClass(),), "args[0]", "encoding it raised ZeroDivisionError: no class."),
    ((NoAttributes(),), "args[0]", "encoding it raised KeyError: '__class__'."),
    (
        (dt.datetime.max.replace(tzinfo=dt.timezone.min),),
        "args[0]",
        "encoding it raised OverflowError: date value out of range.",
    ),
]


@pytest.mark.parametrize(("value", "where", "why"), REFUSED, ids=lambda value: value if isinstance(value, str) else "")
def test_a_refusal_says_where_and_why_and_what_to_do(codec: Codec, value: Any, where: str, why: str) -> None:
    with pytest.raises(BadMessage) as caught:
        codec.encode(value)
    assert str(caught.value) == f"cannot send {where}: {why}"
    assert caught.value.where == where


def test_the_root_of_the_path_is_the_callers(codec: Codec) -> None:
    with pytest.raises(BadMessage) as caught:
        codec.encode({"a": [object()]}, "result")
    assert caught.value.where == "result['a'][0]"


def test_the_cause_of_a_refusal_is_kept(codec: Codec) -> None:
    with pytest.raises(BadMessage) as caught:
        codec.encode([LyingClass()])
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_what_is_nested_too_deeply_is_refused(codec: Codec) -> None:
    with pytest.raises(BadMessage, match="nested too deeply") as caught:
        codec.encode(nested(100_000))
    assert len(caught.value.where) < 400


def test_the_same_object_twice_is_no_circle(codec: Codec) -> None:
    twice = [HUGE]
    assert over(codec, [twice, twice, {"a": twice}]) == [[HUGE], [HUGE], {"a": [HUGE]}]


def test_an_enumeration_beside_what_must_be_rewritten_is_its_value(codec: Codec) -> None:
    assert over(codec, [Color.RED, HUGE]) == ["red", HUGE]


def test_a_file_beside_what_must_be_rewritten_is_handed_over(mob: Mob) -> None:
    codec = Codec(mob.lend, mob.borrow, descriptors=Duplicates())
    with open(os.devnull, "rb") as file:
        _, arrived = over(codec, [HUGE, file])
    with arrived:
        assert arrived.read() == b""
