"""The page and its requests. Any worker gets any request; what must be remembered is elsewhere."""

from __future__ import annotations

import asyncio
import json
import math
import secrets
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import books
import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

import mob

__all__ = ["app"]  # no exports for other roles

baskets, orders, cache = mob.require("baskets"), mob.require("orders"), mob.store("cache")

books.prepare()


def visitor_of(request: Request) -> str:
    """Return the visitor, from the cookie that the page set."""
    if not (visitor := request.cookies.get("visitor")):
        raise HTTPException(403, "Please allow cookies, and open the page again.")
    return visitor


async def text_of(request: Request, name: str) -> str:
    """Return the text that the page sent under a name, in JSON."""
    try:
        return msgspec.json.decode(await request.body(), type=dict[str, str])[name]
    except (msgspec.DecodeError, KeyError, ClientDisconnect):
        raise HTTPException(400, f'Expected JSON such as {{"{name}": "..."}}.') from None


async def refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


async def page(request: Request) -> Response:
    answer = FileResponse(Path(__file__).with_name("page.html"))
    if "visitor" not in request.cookies:
        answer.set_cookie("visitor", secrets.token_hex(8), httponly=True, samesite="strict")
    return answer


async def show_goods(request: Request) -> Response:
    """Return goods and prices, from the cache for half a minute."""
    goods = await cache.get("goods")
    if goods is None:
        goods = await asyncio.to_thread(books.goods)
        await cache.set("goods", goods, ttl=30)
    return JSONResponse(goods)


async def show_basket(request: Request) -> Response:
    return JSONResponse(await baskets.show(visitor_of(request)))


async def add_to_basket(request: Request) -> Response:
    visitor, good = visitor_of(request), await text_of(request, "good")
    if good not in {each["name"] for each in await asyncio.to_thread(books.goods)}:
        raise HTTPException(404, "We do not sell that.")
    return JSONResponse(await baskets.add(visitor, good))


async def place_order(request: Request) -> Response:
    """Store the order before saying thank you. From then on it will be packed, whatever crashes.

    The page sends the number of the basket that it shows. If it sends that twice (a double click, a retry after an
    error), the second request finds the first order, and there is only one.
    """
    visitor, number = visitor_of(request), await text_of(request, "number")
    thanks = JSONResponse({"number": number}, 202)
    basket = await baskets.show(visitor)
    if not basket["goods"] or basket["number"] != number:
        if await asyncio.to_thread(books.state, number):
            return thanks
        raise HTTPException(409, "Your basket has changed. Please check it, and order again.")
    allowed = await cache.allow(f"orders of {visitor}", "10/minute")
    if not allowed:
        wait = {"Retry-After": str(math.ceil(allowed.retry_after))}
        raise HTTPException(429, "You have placed ten orders in a minute. Please wait a little.", wait)
    goods, day = basket["goods"], today()
    prices = {each["name"]: each["cents"] for each in await asyncio.to_thread(books.goods)}
    cents = sum(prices[good] * count for good, count in goods.items())
    await orders.options(durable=True, key=number).pack(number, visitor, day, cents, goods).stored
    # The order is safe. If this process crashes from here on, `pack` does the rest.
    await asyncio.to_thread(books.accept, number, day, cents, json.dumps(goods))
    mob.all("front").send("orders changed")
    await baskets.take_out(visitor, number, goods)
    return thanks


def today() -> str:
    return str(datetime.now(ZoneInfo("Europe/Berlin")).date())


# ------------------------------------------------------------------------------------------------------ the live list

changed = asyncio.Condition()
changes = 0


@mob.on("message")
async def hear(message: str) -> None:
    """Wake all open pages here, which then get the new list, because an order changed."""
    global changes
    async with changed:
        changes += 1
        changed.notify_all()


async def live(request: Request) -> Response:
    return StreamingResponse(news(), media_type="text/event-stream")


async def news() -> AsyncIterator[str]:
    while True:
        seen = changes  # changes while the list is read or sent count as news, too
        state = {
            "today": await asyncio.to_thread(books.totals, today()),
            "latest": await asyncio.to_thread(books.latest),
        }
        yield f"data: {json.dumps(state)}\n\n"
        async with changed:
            while changes == seen:
                await changed.wait()


app = Starlette(
    routes=[
        Route("/", page),
        Route("/goods", show_goods),
        Route("/basket", show_basket),
        Route("/basket", add_to_basket, methods=["POST"]),
        Route("/orders", place_order, methods=["POST"]),
        Route("/live", live),
    ],
    exception_handlers={HTTPException: refuse},
)
