"""The page and its WebSockets. Each front has some of the sockets; all of them receive what happens in the room."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

import mob

__all__ = ["app"]  # no exports for other roles

COME_AGAIN = 1012
"""Close code of a WebSocket whose server restarts: the page reconnects, and repeats what was not answered."""

room = mob.require("room")
sockets: dict[str, WebSocket] = {}


async def page(request: Request) -> Response:
    return FileResponse(Path(__file__).with_name("page.html"))


@mob.on("message")
async def hear(event: dict[str, Any]) -> None:
    """Pass an event of the room on to all sockets."""
    sent = (socket.send_json(event) for socket in sockets.values())
    await asyncio.gather(*sent, return_exceptions=True)  # one that was just closed does not delay the others


@mob.on("leave")
async def start_over(member: Any) -> None:
    """Close all sockets if the room died: a restarted room knows no one, so all pages enter again."""
    if member.role == "room":
        closed = (socket.close(COME_AGAIN) for socket in sockets.values())
        await asyncio.gather(*closed, return_exceptions=True)


async def chat(socket: WebSocket) -> None:
    await socket.accept()
    name = uuid.uuid4().hex
    try:
        hello = await socket.receive_json()
        sockets[name] = socket  # before it enters: the page copes with early or repeated events, not with missing ones
        here = await room.enter(name, **hello)
        await socket.send_json({"what": "entered", **here, "front": f"front.{mob.me().index} ({mob.me().pid})"})
        while True:
            await serve(socket, hello["visitor"], await socket.receive_json())
    except WebSocketDisconnect:
        pass
    except (TypeError, ValueError) as error:  # the name is taken, or the message is invalid
        await socket.send_json({"what": "refused", "why": getattr(error, "message", str(error))})
        await socket.close()
    except mob.CallError:  # the room crashed in the meantime
        with contextlib.suppress(RuntimeError):  # it is closed already
            await socket.close(COME_AGAIN)
    finally:
        sockets.pop(name, None)
        room.leave(name)


async def serve(socket: WebSocket, visitor: str, wish: Any) -> None:
    """Handle a message of the page."""
    match wish:
        case {"say": text, "key": key}:
            await room.say(visitor, text, key)
        case {"typing": True}:
            room.typing(visitor)
        case {"since": number, "room": which}:  # it noticed a gap between two numbers
            await socket.send_json({"what": "missed", "history": await room.since(which, number)})
        case _:
            raise ValueError(f"Unknown message: {wish!r}.")


app = Starlette(routes=[Route("/", page), WebSocketRoute("/chat", chat)])
