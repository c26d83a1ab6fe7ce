"""The responses of a worker that ends: each says `Connection: close` once; the rest is refused with 503."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from tests.patience import patient
from tests.real.test_reload_under_load import Clients
from tests.real.test_serve import is_listening
from tests.running import RunningApp, apps_in, wait_until

WEB = """
    import asyncio, os
    import mob

    async def until(name):
        while not os.path.exists(name):
            await asyncio.sleep(0.005)

    SAYS = {"/close": b"close", "/Close": b"Close", "/keep": b"keep-alive"}

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        path = scope["path"]
        headers = [(b"content-length", b"4")]
        if said := SAYS.get(path):
            headers.append((b"Connection", said))
        if path == "/long":
            await asyncio.sleep(0.3)
        elif path == "/begun":
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": b"do", "more_body": True})
            print("begun", flush=True)
            await until("go")
            await send({"type": "http.response.body", "body": b"ne"})
            return
        elif path == "/error":
            print("begun", flush=True)
            await until("go")
            raise ValueError("no")
        elif path != "/":
            print("begun", flush=True)
            await until("go" if path != "/never" else "never")
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"done"})
    """

Answer = tuple[int, list[str], bytes]


class Browser:
    """One connection that writes requests as they are given, and reads responses with all their headers."""

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=patient(30))
        self.file = self.sock.makefile("rb")

    def send(self, *paths: str, version: str = "1.1", more: str = "") -> None:
        """Send requests, all at once."""
        text = "".join(f"GET {path} HTTP/{version}\r\nHost: localhost\r\n{more}\r\n" for path in paths)
        self.sock.sendall(text.encode())

    def head(self) -> tuple[int, http.client.HTTPMessage]:
        """Return the status and the headers of the next response."""
        line = self.file.readline()
        assert line, "the connection was closed without a response"
        return int(line.split()[1]), http.client.parse_headers(self.file)

    def read(self) -> Answer:
        """Return the next response: its status, its Connection headers, its body."""
        status, headers = self.head()
        assert len(headers.get_all("content-length", [])) <= 1
        length = headers.get("content-length")
        body = self.file.read(int(length)) if length else self.file.read()
        return status, headers.get_all("connection", []), body

    def is_closed(self) -> bool:
        """Read to the end of the connection."""
        try:
            return self.file.read() == b""
        except ConnectionResetError:
            return True

    def close(self) -> None:
        self.file.close()
        self.sock.close()


class Site:
    """An app with one worker that serves HTTP, and can be stopped."""

    def __init__(self, app: RunningApp) -> None:
        self.app = app
        self.port = int(app.wait_for(r"serving on http://127\.0\.0\.1:(\d+)$")[0][1])
        self.browsers: list[Browser] = []

    def browser(self) -> Browser:
        """Open a connection; the worker answers a request on it."""
        browser = Browser(self.port)
        self.browsers.append(browser)
        browser.send("/")
        assert browser.read()[0] == 200
        return browser

    def reload(self) -> None:
        """Wait until the old worker begins to end; it may take its time."""
        old = self.app.ready(self.app.clients[0], "web")[0].pid
        self.app.clients[0].reload("web")
        wait_until(lambda: not is_listening(old), "it begins to end")

    def allow(self, name: str) -> None:
        """Let the application go on that waits at the door."""
        (self.app.directory / name).touch()


@pytest.fixture(params=["httptools", "h11"])
def parser(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def start(tmp_path: Path, parser: str) -> Iterator[Callable[[str], Site]]:
    with apps_in(tmp_path) as apps, ExitStack() as browsers:

        def started(options: str = "grace=60") -> Site:
            serve = f'serve="127.0.0.1:0", serve_options={{"http": "{parser}"}}'
            app = apps.start(f'.role("web", "./web.py:app", {serve})', options=options, web=WEB)
            app.wait_ready()
            site = Site(app)
            browsers.callback(lambda: [each.close() for each in site.browsers])
            return site

        yield started


def test_each_answer_after_the_end_has_begun_is_the_last_one_on_its_connection(start: Callable[..., Site]) -> None:
    site = start()
    said: dict[str, Browser] = {}
    for path in ("/slow", "/close", "/Close", "/keep", "/error", "/1.0", "/head"):
        said[path] = browser = site.browser()
        if path == "/1.0":
            browser.send(path, version="1.0", more="Connection: keep-alive\r\n")
        elif path == "/head":
            browser.sock.sendall(b"HEAD /slow HTTP/1.1\r\nHost: localhost\r\n\r\n")
        else:
            browser.send(path)
    pipelined = site.browser()
    pipelined.send("/slow", "/")
    begun = site.browser()
    begun.send("/begun")
    assert begun.head()[0] == 200
    site.app.wait_for("begun$", len(said) + 2)
    idle, malformed = site.browser(), site.browser()
    site.reload()
    idle.send("/")
    assert idle.read() == (200, ["close"], b"done")
    malformed.sock.sendall(b"\0\r\n\r\n")
    assert malformed.read()[:2] == (400, ["close"])
    site.allow("go")
    assert begun.file.read(4) == b"done"
    begun.send("/")
    assert begun.read() == (200, ["close"], b"done")
    status, headers = said.pop("/head").head()
    assert (status, headers.get_all("connection")) == (200, ["close"])
    assert said.pop("/error").read()[:2] == (500, ["close"])
    for path, browser in said.items():
        assert browser.read() == (200, ["close"], b"done"), path
        assert browser.is_closed()
    assert pipelined.read() == (200, ["close"], b"done")
    assert pipelined.is_closed()


def test_a_request_that_cannot_be_served_any_more_is_refused(start: Callable[..., Site]) -> None:
    """Before its response began: with 503, and one line in the log for all of them."""
    site = start("grace=2")
    waiting = [site.browser() for _ in range(3)]
    for browser in waiting:
        browser.send("/never")
    begun = site.browser()
    begun.send("/begun")
    begun.head()
    site.app.wait_for("begun$", 4)
    site.reload()
    for browser in waiting:
        status, headers = browser.head()
        assert (status, headers.get_all("connection"), headers["retry-after"]) == (503, ["close"], "1")
    assert begun.file.read() == b"do"
    told = r"^web\.0 .*4 requests did not end within the grace period: 3 answered with status 503, 1 cut in the middle"
    site.app.wait_for(told)
    assert "Traceback" not in site.app.output


def test_a_request_that_is_not_sent_to_its_end_is_refused(start: Callable[..., Site]) -> None:
    """Its connection was silent for too long."""
    site = start()
    browser, begun = site.browser(), site.browser()
    begun.send("/begun")
    begun.head()
    site.app.wait_for("begun$")
    browser.sock.sendall(b"GET / HTTP/1.1\r\nHost:")
    site.reload()
    status, headers = browser.head()
    assert (status, headers.get_all("connection"), headers["retry-after"]) == (503, ["close"], "1")
    site.allow("go")
    assert begun.file.read(4) == b"done"


def test_no_long_request_on_a_kept_connection_fails_in_a_reload(start: Callable[..., Site]) -> None:
    site = start()
    them = Clients()
    connections = [http.client.HTTPConnection("127.0.0.1", site.port, timeout=patient(30)) for _ in range(6)]

    def ask(connection: http.client.HTTPConnection) -> int:
        connection.request("POST", "/long")
        response = connection.getresponse()
        response.read()
        if response.status != 200:
            raise ValueError(response.status)
        return response.status

    with ThreadPoolExecutor(len(connections)) as pool:
        for connection in connections:
            pool.submit(them.ask_again_and_again, partial(ask, connection))
        for _ in range(3):
            so_far = them.answers.total()
            wait_until(lambda so_far=so_far: them.answers.total() > so_far + 8, "they are answered")
            site.reload()
        them.is_over.set()
    for connection in connections:
        connection.close()
    assert them.failures == []
