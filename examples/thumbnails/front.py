"""The page and its requests. Any worker gets any request: `stats` does the counting, `back` the work."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

import mob

__all__ = ["app"]  # no exports for other roles

back, stats = mob.require("back"), mob.require("stats")

LARGEST = 25_000_000
"""Maximum size of a file in bytes; the page knows it too, and does not send larger ones."""


async def page(request: Request) -> Response:
    return FileResponse(Path(__file__).with_name("page.html"))


# ------------------------------------------------------------------------------------------------------ thumbnails


async def thumbnail(request: Request) -> Response:
    """Receive a file; send lines of JSON while it is processed, the last one with the thumbnail."""
    data = bytearray()
    async for part in request.stream():
        data += part
        if len(data) > LARGEST:
            return JSONResponse({"error": f"The file is larger than {LARGEST // 10**6} MB."}, 413)
    return StreamingResponse(lines(data), media_type="application/x-ndjson")


async def lines(data: bytearray) -> AsyncIterator[str]:
    news: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()

    def progress(done: float, step: str) -> None:  # called by `back` in another process; runs here
        news.put_nowait({"done": done, "step": step})

    call = back.thumbnail(data, progress)
    call.add_done_callback(lambda _: news.put_nowait(None))
    try:
        while (line := await news.get()) is not None:
            yield json.dumps(line) + "\n"
        yield json.dumps(await outcome(call)) + "\n"
    finally:
        call.cancel()  # if the page was closed, this stops the work; if the call is done, it does nothing


async def outcome(call: mob.Call[Any]) -> dict[str, Any]:
    try:
        made = await call
    except ValueError as error:  # from `back`: what is wrong with the file
        return {"error": getattr(error, "message", str(error))}
    except mob.CallError as error:
        return {"error": f"The thumbnail could not be made: {error}"}
    image = base64.b64encode(made.pop("image")).decode()
    return {**made, "bytes": len(image) * 3 // 4, "image": f"data:image/webp;base64,{image}"}


# ---------------------------------------------------------------------------------------------------------- totals

open_pages: set[WebSocket] = set()


@mob.on("message")
async def hear(totals: dict[str, Any]) -> None:
    """Send the new totals of `stats` to all open pages."""
    sent = (page.send_json(totals) for page in open_pages)
    await asyncio.gather(*sent, return_exceptions=True)  # one that was just closed does not delay the others


async def follow(socket: WebSocket) -> None:
    """Send the totals whenever they change. In a reload mob closes the WebSocket, and the page reconnects."""
    await socket.accept()
    open_pages.add(socket)
    try:
        await socket.send_json(await stats.so_far())
        async for _ in socket.iter_text():
            pass  # the page sends nothing; this notices when it closes
    except WebSocketDisconnect:
        pass
    finally:
        open_pages.discard(socket)


app = Starlette(
    routes=[
        Route("/", page),
        Route("/thumbnails", thumbnail, methods=["POST"]),
        WebSocketRoute("/totals", follow),
    ]
)
