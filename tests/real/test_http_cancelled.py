"""Requests whose clients disconnect: cancelled if the role says so, with the calls that they wait for."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.patience import patient
from tests.running import RunningApp, apps_in, wait_until

BACK = """
    import asyncio, os

    async def slow(who):
        print("begins:", who, flush=True)
        try:
            while not os.path.exists("go"):
                await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            print("cancelled:", who, flush=True)
            raise
        print("done:", who, flush=True)
        return who
    """

WEB = """
    import mob
    from starlette.applications import Starlette
    from starlette.background import BackgroundTask
    from starlette.middleware import Middleware
    from starlette.middleware.base import BaseHTTPMiddleware
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    back = mob.require("back")

    async def plain(request):
        return PlainTextResponse(await back.slow("plain"))

    async def later(request):
        return PlainTextResponse("answered", background=BackgroundTask(work))

    async def work():
        await back.slow("later")

    async def through(request, call_next):
        return await call_next(request)

    routes = [Route("/plain", plain), Route("/later", later)]
    starlette = Starlette(routes=routes)
    wrapped = Starlette(routes=routes, middleware=[Middleware(BaseHTTPMiddleware, dispatch=through)])

    async def app(scope, receive, send):
        if scope["type"] == "http" and scope["path"].startswith("/wrapped"):
            return await wrapped({**scope, "path": scope["path"].removeprefix("/wrapped")}, receive, send)
        if scope["type"] == "http" and scope["path"] == "/begun":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"x", "more_body": True})
            await back.slow("begun")
        else:
            await starlette(scope, receive, send)
    """


class Site:
    """An app whose web role gets a request and calls another role."""

    def __init__(self, app: RunningApp) -> None:
        self.app = app
        self.port = int(app.wait_for(r"serving on http://127\.0\.0\.1:(\d+)$")[0][1])

    def visit(self, path: str) -> socket.socket:
        """Send a request whose call begins."""
        sock = socket.create_connection(("127.0.0.1", self.port), timeout=patient(30))
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        return sock


@pytest.fixture(params=["httptools", "h11"])
def start(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Callable[..., Site]]:
    with apps_in(tmp_path) as apps:

        def started(**options: object) -> Site:
            serve = f'serve="127.0.0.1:0", serve_options={dict(options, http=request.param)!r}'
            app = apps.start(f'.role("back", "./back.py").role("web", "./web.py:app", {serve})', back=BACK, web=WEB)
            app.wait_ready()
            return Site(app)

        yield started


@pytest.mark.parametrize("path", ["/plain", "/wrapped/plain", "/begun"])
def test_a_visitor_who_leaves_cancels_what_his_request_waits_for(start: Callable[..., Site], path: str) -> None:
    site = start(cancel_on_disconnect=True)
    name = path.rpartition("/")[2]
    with site.visit(path):
        site.app.wait_for(rf"\| begins: {name}$")
    site.app.wait_for(rf"\| cancelled: {name}$")
    client = site.app.clients[0]

    def counted() -> dict[str, int]:
        return next(each.requests for each in client.metrics().roles if each.name == "web")

    wait_until(lambda: counted() == {"2xx" if name == "begun" else "none": 1}, "it ended, and was cancelled")
    assert not re.search("Traceback|Exception in ASGI", site.app.output), site.app.output


def test_what_goes_on_after_a_complete_answer_is_not_cancelled(start: Callable[..., Site]) -> None:
    site = start(cancel_on_disconnect=True)
    with site.visit("/later") as visitor:
        site.app.wait_for(r"\| begins: later$")
        assert visitor.recv(15) == b"HTTP/1.1 200 OK"
    with site.visit("/plain"):
        site.app.wait_for(r"\| begins: plain$")
    site.app.wait_for(r"\| cancelled: plain$")
    (site.app.directory / "go").touch()
    site.app.wait_for(r"\| done: later$")


def test_nothing_is_cancelled_without_the_option(start: Callable[..., Site]) -> None:
    site = start()
    with site.visit("/plain"):
        site.app.wait_for(r"\| begins: plain$")
    with site.visit("/plain"):
        site.app.wait_for(r"\| begins: plain$", 2)
    (site.app.directory / "go").touch()
    site.app.wait_for(r"\| done: plain$", 2)
    assert "cancelled" not in site.app.output
