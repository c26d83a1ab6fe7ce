"""Messages about a value or an error never fail themselves."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import types
from collections.abc import Callable
from typing import Any

import pytest

from mob.errors import BadMessage
from mob.peer.results.call import Call
from mob.peer.results.typed import TypedCall
from mob.wire.codec import Codec
from mob.wire.references import Reference
from mob.wire.refusals import brief, text_of

FUTURE = "concurrent.futures._base.Future"
ITER = "Send what it yields, or iter(...) of it."
CODEC = Codec(lambda function: Reference(1, 1), lambda reference: reference)


class Broken(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("no"), "ValueError: no"),
        (ValueError(), "ValueError"),
        (KeyError("a"), "KeyError: 'a'"),
        (Broken("never seen"), "Broken"),
    ],
)
def test_an_error_in_words(error: Exception, text: str) -> None:
    assert text_of(error) == text


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("a", "'a'"),
        (1, "1"),
        (None, "None"),
        (b"x", "b'x'"),
        (2**200, "<int>"),
        (Broken(), "<Broken>"),
        ("a" * 100, "'" + "a" * 39 + "..." + "a" * 14 + "'"),
    ],
)
def test_a_key_in_words(key: Any, text: str) -> None:
    assert brief(key) == text


# --- the forgotten await ----------------------------------------------------------------------------------------------


def call_of(label: str, kind: type[Call[Any]] = Call, incoming: Any = None) -> Call[Any]:
    """Return a call as far as it can be looked at; none of these is made or answered."""
    call = kind.__new__(kind)
    call.label, call.incoming = label, incoming
    return call


async def fetch() -> None: ...


def future_of_a_loop() -> asyncio.Future[None]:
    with contextlib.closing(asyncio.new_event_loop()) as loop:
        return loop.create_future()


class Later:
    def __await__(self) -> Any: ...


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: call_of("back.hi"), "the call back.hi() is not data. Await it, or send its .result()."),
        (lambda: call_of("back.hi", TypedCall), "the call back.hi() is not data. Await it, or send its .result()."),
        (
            lambda: call_of("back.rows", incoming=1),
            f"the stream back.rows() is not data. {ITER}",
        ),
        (fetch, "the coroutine fetch() is not data. Await it, and send its result."),
        (Later, "an awaitable (tests.wire.test_refusals.Later) is not data. Await it, and send its result."),
        (
            future_of_a_loop,
            "an unfinished result (_asyncio.Future) is not data. Await it, and send its result.",
        ),
        (
            concurrent.futures.Future,
            f"an unfinished result ({FUTURE}) is not data. Send its .result().",
        ),
    ],
)
def test_what_was_not_awaited_says_the_way_out(make: Callable[[], Any], text: str) -> None:
    value = make()
    try:
        with pytest.raises(BadMessage) as caught:
            CODEC.encode({"x": value}, "result")
    finally:
        if value.__class__ is types.CoroutineType:
            value.close()
    assert str(caught.value) == f"cannot send result['x']: {text}"
