"""The paths of the dashboard, as one ASGI application.

They are the page, the feed, crash reports, actions, `/metrics`, and `/livez` and `/readyz` for probes. Every request
passes the guard first, whatever its path; every response carries the guard's headers. One table lists the paths and
their purposes; all others are not found.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from mob.dashboard.actions import Actions, Senseless
from mob.dashboard.feed import Feed
from mob.dashboard.guard import ACT, HEADERS, OPEN, PROBE, READ, Guard
from mob.dashboard.probes import Probes
from mob.errors import MobError
from mob.exposition import CONTENT_TYPE, exposition
from mob.peer.operating.steering import Steering
from mob.plan import place_name
from mob.rim.crashes import Crash, Crashes

STATIC = Path(__file__).parent / "static"
TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}

MOST_BYTES = 16 * 1024
"""Maximum size of the body of a request."""
STALLED = 15.0
"""Seconds that a viewer may take to read what was sent."""

Handler = Callable[[Request], Awaitable[Response]]


class Site:
    """The ASGI application of the dashboard."""

    def __init__(self, guard: Guard, feed: Feed, actions: Actions, steering: Steering, app: str) -> None:
        self._guard = guard
        self._feed = feed
        self._actions = actions
        self._steering = steering
        self._app = app
        self._probes = Probes(steering)
        self._files = {path.name: path for path in STATIC.iterdir() if path.suffix in TYPES}
        self._paths: dict[str, tuple[str, str, Handler]] = {
            "/": (OPEN, "GET", self._page),
            "/livez": (PROBE, "GET", self._probes.live),
            "/readyz": (PROBE, "GET", self._probes.ready),
            "/metrics": (READ, "GET", self._metrics),
            "/api/feed": (READ, "GET", self._page),  # answered as a stream, below
            "/api/crashes": (READ, "GET", self._crashes),
            "/api/login": (ACT, "POST", self._login),
            **{f"/api/{name}": (ACT, "POST", self._act) for name in ("reload", "restart", "scale", "stacks")},
            **{f"/static/{name}": (OPEN, "GET", self._file) for name in self._files},
        }

    def __repr__(self) -> str:
        return f"<Site of {self._app!r}, {self._feed}>"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; refuse WebSockets."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        request = Request(scope, receive)
        path = request.url.path
        purpose, method, handle = self._paths.get(path, (OPEN, "GET", self._nothing))
        refusal = self._guard.refusal(purpose, request.method, request.headers)
        if refusal is not None:
            response = said(refusal.status, refusal.text)
        elif request.method not in (method, "HEAD" if method == "GET" else method):
            response = said(405, f"{path} only accepts {method}.")
        elif path == "/api/feed" and request.method == "GET":
            await self._stream(request, send)
            return
        else:
            response = await self._answer(handle, request)
        response.headers.update(HEADERS)
        await response(scope, receive, send)

    async def _answer(self, handle: Handler, request: Request) -> Response:
        """Return the response of a handler, or one that explains its error."""
        try:
            return await handle(request)
        except Senseless as error:
            return said(400, str(error))
        except TimeoutError:
            return said(504, "No answer in time. Is the Kingpin busy?")
        except ClientDisconnect:
            return said(400, "The request was interrupted.")
        except MobError as error:
            return said(409, str(error))

    # --------------------------------------------------------------------------------------------- to read

    async def _nothing(self, request: Request) -> Response:
        return said(404, f"There is nothing at {request.url.path[:100]!r}. The page is at /, metrics are at /metrics.")

    async def _page(self, request: Request) -> Response:
        return _sent(self._files["index.html"])

    async def _file(self, request: Request) -> Response:
        return _sent(self._files[request.url.path.rpartition("/")[2]])

    async def _metrics(self, request: Request) -> Response:
        return Response(exposition((await self._steering.metrics()).metrics), headers={"content-type": CONTENT_TYPE})

    async def _crashes(self, request: Request) -> Response:
        crashes = await asyncio.to_thread(Crashes(self._app).all)
        return _json([_report(crash) for crash in reversed(crashes)])

    async def _stream(self, request: Request, send: Send) -> None:
        """Send the feed until it ends, or the viewer disconnects or does not read; then cut the viewer off."""
        if self._feed.is_full:
            response = said(503, "Too many viewers are connected.")
            response.headers.update(HEADERS)
            await response(request.scope, request.receive, send)
            return
        headers = {**HEADERS, "Content-Type": "text/event-stream", "X-Accel-Buffering": "no"}
        raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": 200, "headers": raw})
        gone = asyncio.create_task(_wait_gone(request.receive))
        pump = asyncio.create_task(self._pump(send))
        try:
            await asyncio.wait([gone, pump], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (gone, pump):
                task.cancel()
            await asyncio.gather(gone, pump, return_exceptions=True)

    async def _pump(self, send: Send) -> None:
        events = self._feed.watch()
        try:
            await send({"type": "http.response.body", "body": b"retry: 1000\n\n", "more_body": True})
            async for event in events:
                body = {"type": "http.response.body", "body": event, "more_body": True}
                await asyncio.wait_for(send(body), STALLED)
            await asyncio.wait_for(send({"type": "http.response.body", "body": b""}), STALLED)
        finally:
            await events.aclose()

    # ------------------------------------------------------------------------------------------------- to do

    async def _login(self, request: Request) -> Response:
        response = _json({"text": "The token is correct."})
        response.headers["set-cookie"] = self._guard.cookie
        return response

    async def _act(self, request: Request) -> Response:
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > MOST_BYTES:
                return said(413, f"The body of a request may have at most {MOST_BYTES:,} bytes.")
        return _json(await self._actions.act(request.url.path.rpartition("/")[2], body))


def said(status: int, text: str) -> Response:
    """Return a response with a sentence that says why there is no other."""
    response = _json({"error": text})
    response.status_code = status
    return response


def _json(data: Any) -> Response:
    return Response(msgspec.json.encode(data), media_type="application/json")


def _sent(path: Path) -> Response:
    return Response(path.read_bytes(), media_type=TYPES[path.suffix])


def _report(crash: Crash) -> dict[str, Any]:
    return {
        "at": crash.at,
        "name": place_name(crash.role, crash.index),
        "role": crash.role,
        "pid": crash.pid,
        "why": crash.why,
        "text": crash.text(),
    }


async def _wait_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
