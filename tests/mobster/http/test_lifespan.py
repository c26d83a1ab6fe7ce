"""The start and the end of an ASGI application: which failures keep it from being served, and which do not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from mob.mobster.http.lifespan import Lifespan, LifespanFailed

heard: list[str] = []


async def lives(
    scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Callable[..., Awaitable[None]]
) -> None:
    """Answers every message that it receives, and sends one answer too many."""
    scope["state"]["pool"] = 1
    for _ in range(2):
        kind = (await receive())["type"]
        heard.append(kind)
        await send({"type": f"{kind}.complete"})
        await send({"type": f"{kind}.complete"})


async def knows_none(scope: Any, receive: Any, send: Any) -> None:
    raise TypeError(f"no {scope['type']}")


async def returns_at_once(scope: Any, receive: Any, send: Any) -> None:
    pass


async def fails(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "no database"})


async def fails_silently(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "lifespan.startup.failed"})


async def breaks(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    raise OSError("no database")


async def is_cancelled(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    raise asyncio.CancelledError


def run(application: Any, mode: str) -> dict[str, Any]:
    """Start and end an application; return the state that it kept."""

    async def both() -> dict[str, Any]:
        lifespan = Lifespan(application, mode)
        assert repr(lifespan) == "<Lifespan, not there>"
        lifespan.cancel()
        try:
            await lifespan.start()
            assert mode == "off" or repr(lifespan) == "<Lifespan, under way>"
            await lifespan.end()
        finally:
            lifespan.cancel()
        return lifespan.state

    heard.clear()
    return asyncio.run(both())


@pytest.mark.parametrize("mode", ["auto", "on"])
def test_it_is_told_to_start_and_to_end(mode: str) -> None:
    assert run(lives, mode) == {"pool": 1}
    assert heard == ["lifespan.startup", "lifespan.shutdown"]


def test_it_is_not_called_where_lifespans_are_off() -> None:
    assert run(breaks, "off") == {}


@pytest.mark.parametrize("application", [knows_none, returns_at_once])
def test_one_that_knows_no_lifespans_is_served_all_the_same(application: Any) -> None:
    assert run(application, "auto") == {}


def test_one_that_has_to_know_them_fails_with_what_it_has_raised() -> None:
    with pytest.raises(TypeError, match="no lifespan"):
        run(knows_none, "on")


@pytest.mark.parametrize(
    ("application", "kind", "text"),
    [
        (fails, LifespanFailed, "the application sent lifespan.startup.failed: no database"),
        (fails_silently, LifespanFailed, "the application sent lifespan.startup.failed: -"),
        (breaks, OSError, "no database"),
        (is_cancelled, LifespanFailed, "was cancelled before it sent lifespan.startup.complete"),
    ],
)
def test_one_that_has_listened_and_fails_is_not_served(application: Any, kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=text):
        run(application, "auto")
