"""The page, and what it asks for. Any worker gets any request; what must be remembered is elsewhere."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import books
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

import mob

__all__ = ["app"]  # nothing here is for other roles

baskets, orders, cache = mob.require("baskets"), mob.require("orders"), mob.store("cache")

books.prepare()


def visitor_of(request: Request) -> str:
    """Return who asks, by the cookie that the page has set."""
    if not (visitor := request.cookies.get("visitor")):
        raise HTTPException(403, "Please allow cookies, and open the page again.")
    return visitor


async def refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code)


async def page(request: Request) -> Response:
    answer = FileResponse(Path(__file__).with_name("page.html"))
    if "visitor" not in request.cookies:
        answer.set_cookie("visitor", secrets.token_hex(8), httponly=True, samesite="strict")
    return answer


async def show_goods(request: Request) -> Response:
    """Goods and prices, from the cache for half a minute."""
    goods = await cache.get("goods")
    if goods is None:
        goods = await asyncio.to_thread(books.goods)
        await cache.set("goods", goods, ttl=30)
    return JSONResponse(goods)


async def show_basket(request: Request) -> Response:
    return JSONResponse(await baskets.show(visitor_of(request)))


async def add_to_basket(request: Request) -> Response:
    try:
        good = (await request.json())["good"]
    except (ValueError, TypeError, KeyError):
        raise HTTPException(400, 'Wanted: JSON such as {"good": "Teapot"}.') from None
    if good not in {each["name"] for each in await asyncio.to_thread(books.goods)}:
        return JSONResponse({"error": "We do not sell that."}, 404)
    return JSONResponse(await baskets.add(visitor_of(request), good))


async def place_order(request: Request) -> Response:
    """Store the order before we say thank you. From then on it is packed, whatever crashes."""
    visitor = visitor_of(request)
    if not await cache.allow(f"orders of {visitor}", "10/minute"):
        return JSONResponse({"error": "You have placed ten orders in a minute. Please wait a little."}, 429)
    basket = await baskets.show(visitor)
    if not basket:
        return JSONResponse({"error": "The basket is empty."}, 409)
    prices = {each["name"]: each["cents"] for each in await asyncio.to_thread(books.goods)}
    cents = sum(prices[good] * count for good, count in basket.items())
    number = f"{await cache.add('orders')}-{secrets.token_hex(2)}"  # the count alone would begin again with the cache
    await orders.options(durable=True, key=number).pack(number, today(), cents, json.dumps(basket)).stored
    await baskets.empty(visitor)
    return JSONResponse({"number": number}, 202)


def today() -> str:
    return str(datetime.now(ZoneInfo("Europe/Berlin")).date())


# ------------------------------------------------------------------------------------------------------ the live list

changed = asyncio.Condition()
changes = 0


@mob.on("message")
async def hear(message: str) -> None:
    """An order has changed: all pages that are open here are sent the new list."""
    global changes
    async with changed:
        changes += 1
        changed.notify_all()


async def live(request: Request) -> Response:
    return StreamingResponse(news(), media_type="text/event-stream")


async def news() -> AsyncIterator[str]:
    while True:
        seen = changes  # what changes while the list is read or sent is news, too
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
