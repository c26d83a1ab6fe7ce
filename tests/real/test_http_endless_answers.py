"""Responses without an end, when their worker ends: event streams, polls, downloads of unknown length."""

from __future__ import annotations

import contextlib
import re
import select
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.patience import patient
from tests.real.test_serve import is_listening
from tests.running import RunningApp, apps_in, wait_until

WEB = """
    import asyncio, os, signal
    import mob
    import uvicorn
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import StreamingResponse
    from starlette.routing import Route

    heard = asyncio.Condition()
    newest = []
    before = uvicorn.Server.handle_exit
    has_exit_been_handled = asyncio.Event()

    def handle_exit(self, *args):  # as sse-starlette does it
        has_exit_been_handled.set()
        before(self, *args)

    uvicorn.Server.handle_exit = handle_exit

    @mob.on("message")
    async def hear(text):
        async with heard:
            newest[:] = [text]
            heard.notify_all()

    @mob.on("stop")
    def stop():
        print("stops", flush=True)

    def tell(text):
        mob.all("web").send(text)

    async def events():
        yield "data: begun\\n\\n"
        while True:
            async with heard:
                await heard.wait()
            yield f"data: {newest[0]}\\n\\n"

    async def polite():
        yield "data: begun\\n\\n"
        while not signal.getsignal(signal.SIGTERM).__self__.should_exit:
            await asyncio.sleep(0.01)
        yield "data: goodbye\\n\\n"

    async def patched():
        yield "data: begun\\n\\n"
        await has_exit_been_handled.wait()
        yield "data: goodbye\\n\\n"

    async def rows():
        yield "begun\\n"
        while not os.path.exists("go"):
            await asyncio.sleep(0.01)
        yield "all\\n"

    def answers(make, kind):
        async def answer(request):
            return StreamingResponse(make(), media_type=kind)
        return answer

    kind = "text/event-stream"
    starlette = Starlette(routes=[
        Route("/events", answers(events, kind)),
        Route("/polite", answers(polite, kind)),
        Route("/patched", answers(patched, kind)),
        Route("/rows", answers(rows, "text/csv")),
    ])

    async def app(scope, receive, send):
        if scope["type"] != "http" or not scope["path"].startswith("/deaf"):
            return await starlette(scope, receive, send)
        headers = [(b"content-type", kind.encode())] if scope["path"] != "/deaf-rows" else []
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        while True:
            try:
                await asyncio.sleep(1_000_000)
            except asyncio.CancelledError:
                if scope["path"] != "/deaf-for-ever":
                    raise
    """


class Visitor:
    """A client that sent a request and received the beginning of the response."""

    def __init__(self, port: int, path: str) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=patient(60))
        self.sock.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        self.text = ""
        self.read_to("begun")

    def read_to(self, text: str) -> None:
        """Read until that text has arrived."""
        while text not in self.text:
            data = self.sock.recv(4096)
            assert data, f"it ended with {self.text!r}"
            self.text += data.decode()

    def read_some(self) -> str:
        """Return everything that arrived so far or arrives in the next moment."""
        if select.select([self.sock], [], [], 0.05)[0]:
            self.text += self.sock.recv(4096).decode()
        return self.text

    def read_all(self) -> str:
        """Return everything that arrives until the connection is closed."""
        with contextlib.suppress(ConnectionResetError):
            while data := self.sock.recv(4096):
                self.text += data.decode()
        return self.text

    @property
    def is_whole(self) -> bool:
        """Return whether the response was complete."""
        return self.text.endswith("0\r\n\r\n")


class Site:
    """An app with one worker that serves HTTP."""

    def __init__(self, app: RunningApp, visitors: ExitStack) -> None:
        self.app = app
        self.port = int(app.wait_for(r"serving on http://127\.0\.0\.1:(\d+)$")[0][1])
        self._visitors = visitors

    def visit(self, path: str) -> Visitor:
        visitor = Visitor(self.port, path)
        self._visitors.callback(visitor.sock.close)
        return visitor

    def reload(self) -> None:
        """Wait until the old worker begins to end."""
        old = self.app.ready(self.app.clients[0], "web")[0].pid
        self.app.clients[0].reload("web")
        wait_until(lambda: not is_listening(old), "it begins to end")


@pytest.fixture(params=["httptools", "h11"])
def start(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Callable[..., Site]]:
    with apps_in(tmp_path) as apps, ExitStack() as visitors:

        def started(options: str = "grace=60", **serve_options: object) -> Site:
            serve = f'serve="127.0.0.1:0", serve_options={ {"http": request.param, **serve_options}!r}'
            app = apps.start(f'.role("web", "./web.py:app", {serve})', options=options, web=WEB)
            app.wait_ready()
            return Site(app, visitors)

        yield started


def test_event_streams_end_and_hold_nobody(start: Callable[..., Site]) -> None:
    """For applications that notice the end of the server, and for those that have to be cancelled."""
    site = start()
    paths = ["/events", "/polite", "/patched", "/deaf"]
    visitors = {path: site.visit(path) for path in paths}
    begun = time.monotonic()
    site.app.signal(15)
    for path, visitor in visitors.items():
        said = visitor.read_all()
        assert visitor.is_whole, (path, said)
        assert ("goodbye" in said) == (path in ("/polite", "/patched"))
    assert site.app.wait() == 0
    assert time.monotonic() - begun < 30  # of the 60 s of grace
    site.app.wait_for(r"\| stops")
    assert not re.search("Traceback|Exception in ASGI|grace period", site.app.output), site.app.output


def test_a_download_of_unknown_length_is_finished(start: Callable[..., Site]) -> None:
    site = start()
    visitor, other = site.visit("/rows"), site.visit("/events")
    site.reload()
    other.read_all()
    assert not visitor.is_whole
    (site.app.directory / "go").touch()
    assert "all" in visitor.read_all()
    assert visitor.is_whole


def test_a_role_says_how_long_answers_of_unknown_length_have(start: Callable[..., Site]) -> None:
    """They are cut, so that no client takes them for whole."""
    site = start(stream_grace=0.2)
    visitors = [site.visit(path) for path in ("/rows", "/deaf-rows")]
    events = site.visit("/events")
    site.reload()
    for visitor in visitors:
        visitor.read_all()
        assert not visitor.is_whole
    events.read_all()
    assert events.is_whole
    site.app.wait_for(r"\| stops")
    assert not re.search("Traceback|Exception in ASGI|without completing", site.app.output), site.app.output


def test_what_has_no_end_is_cut_at_the_end_of_the_grace_time_without_a_traceback(start: Callable[..., Site]) -> None:
    site = start("grace=2", stream_grace=100)
    visitors = [site.visit(path) for path in ("/rows", "/deaf", "/events")]
    site.reload()
    for visitor in visitors:
        visitor.read_all()
    site.app.wait_for(r"3 requests did not end within the grace period: 0 answered with status 503, 3 cut")
    site.app.wait_for(r"\| stops")
    assert not re.search("Traceback|Exception in ASGI|without completing", site.app.output), site.app.output


def test_an_application_that_swallows_its_cancellation_holds_up_no_handler_of_stop(start: Callable[..., Site]) -> None:
    site = start("grace=60", stream_grace=0)
    visitor = site.visit("/deaf-for-ever")
    site.reload()
    visitor.read_all()
    assert not visitor.is_whole
    site.app.wait_for(r"\| stops")
    site.app.kill()


def test_a_worker_that_ends_hears_what_its_streams_are_made_of(start: Callable[..., Site]) -> None:
    """Both from processes that knew the worker before its end, and from its successor, which did not."""
    site = start(stream_grace=40)
    client = site.app.clients[0]
    client.all("web").send("first")
    visitor = site.visit("/events")
    wait_until(lambda: client.all("web").send("before") or "before" in visitor.read_some(), "it receives before")
    site.reload()
    wait_until(lambda: client.all("web").send("while") or "while" in visitor.read_some(), "it receives while it ends")
    tell = client.require("web").tell
    wait_until(
        lambda: tell("successor").result(patient(30)) or "successor" in visitor.read_some(), "its successor reaches it"
    )
    assert not visitor.is_whole


def test_sse_starlette_ends_by_itself(tmp_path: Path) -> None:
    web = """
        import asyncio
        import mob
        from sse_starlette import EventSourceResponse
        from starlette.applications import Starlette
        from starlette.routing import Route

        async def events():
            yield "begun"
            try:
                await asyncio.sleep(1_000_000)
            finally:
                print("has ended", flush=True)

        async def answer(request):
            return EventSourceResponse(events())

        app = Starlette(routes=[Route("/", answer)])
        """
    with apps_in(tmp_path) as apps:
        options = 'serve="127.0.0.1:0", serve_options={"stream_grace": 50}'
        app = apps.start(f'.role("web", "./web.py:app", {options})', options="grace=60", web=web)
        app.wait_ready()
        visitor = Visitor(int(app.wait_for(r"serving on http://127\.0\.0\.1:(\d+)$")[0][1]), "/")
        begun = time.monotonic()
        assert app.stop() == 0
        assert time.monotonic() - begun < 30
        app.wait_for("has ended")
        visitor.sock.close()
