"""The HTTP requests of a served role, counted as they pass."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from mob.mobster.http.requests import Requests

HTTP = {"type": "http"}


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Does what it receives."""
    for each in await receive():
        if isinstance(each, BaseException):
            raise each
        await send({"type": "http.response.start", "status": each} if isinstance(each, int) else each)


def served(*steps: list[Any], scope: Any = HTTP) -> Requests:
    requests, sent = Requests(application), []

    async def send(message: Any) -> None:
        sent.append((message, requests.open))

    async def run() -> None:
        for each in steps:

            async def receive(each: list[Any] = each) -> list[Any]:
                return each

            try:
                await requests.serve(scope, receive, send)
            except (ValueError, asyncio.CancelledError):
                pass

    asyncio.run(run())
    assert all(count == (scope is HTTP) for _, count in sent), "one is open while it runs"
    assert requests.open == 0
    return requests


@pytest.mark.parametrize(
    ("steps", "counted"),
    [
        ([200], {"2xx": 1}),
        ([404, {"type": "http.response.body"}], {"4xx": 1}),
        ([], {"5xx": 1}),
        ([ValueError("before")], {"5xx": 1}),
        ([201, ValueError("after")], {"2xx": 1}),
        ([asyncio.CancelledError()], {"none": 1}),
        ([302, asyncio.CancelledError()], {"3xx": 1}),
    ],
)
def test_a_request_is_counted_by_the_status_of_its_answer(steps: list[Any], counted: dict[str, int]) -> None:
    assert served(steps).answered == counted


def test_requests_add_up() -> None:
    requests = served([200], [204], [500])
    assert (requests.answered, requests.ended) == ({"2xx": 2, "5xx": 1}, 3)


@pytest.mark.parametrize("kind", ["websocket", "lifespan"])
def test_what_is_no_request_passes_uncounted(kind: str) -> None:
    assert served([{"type": "websocket.accept"}], scope={"type": kind}).ended == 0
