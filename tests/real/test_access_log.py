"""The access log of served roles, by real requests: ASGI, WSGI, WebSockets, lost clients, other handlers."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from websockets.sync.client import connect

from tests.patience import patient
from tests.running import Apps, RunningApp, apps_in

SHOP = """
    import asyncio

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            return
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            await receive()
            return
        if scope["path"] == "/wait":
            print("it waits", flush=True)
            while (await receive())["type"] != "http.disconnect":
                pass
            return
        if scope["path"] == "/broken":
            raise RuntimeError("broken")
        headers = [(b"content-length", b"5"), (b"x-a", b"1")]
        await send({"type": "http.response.start", "status": 201, "headers": headers})
        await send({"type": "http.response.body", "body": b"he", "more_body": True})
        await send({"type": "http.response.body", "body": b"llo"})
    """
WSGI = """
    def app(environ, start_response):
        if environ["PATH_INFO"] == "/file":
            start_response("200 OK", [])
            return environ["wsgi.file_wrapper"](open("file", "rb"))
        start_response("202 Fine", [("Content-Length", "3")])
        return [b"abc"]
    """
HANDLED = (
    """
    import logging
    logger = logging.getLogger("uvicorn.access")
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("own %(args)s"))
    logger.addHandler(handler)
    """
    + SHOP
)
Start = Callable[..., "Site"]


class Site:
    """A role that serves HTTP, and its log."""

    def __init__(self, app: RunningApp) -> None:
        self.app = app
        (found,) = app.wait_for(r"serving on http://127\.0\.0\.1:(\d+)$")
        self.port = int(found[1])

    def get(self, path: str, method: str = "GET", **headers: str) -> bytes:
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=patient(60))) as connection:
            connection.request(method, path, headers={"User-Agent": "tester", **headers})
            return connection.getresponse().read()

    def line(self, pattern: str) -> str:
        """Return the log lines that match, without the prefix of the line."""
        (found,) = self.app.wait_for(rf"web\.0 \d+ \| ({pattern})$")
        return found[1]


@pytest.fixture
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    with apps_in(tmp_path_factory.mktemp("access")) as apps:

        def start(shop: str = SHOP, access: object = True, more: str = "") -> Site:
            return Site(running(apps, shop, access, more))

        yield start


def running(apps: Apps, shop: str, access: object, more: str) -> RunningApp:
    role = f'.role("web", "./shop.py:app", serve="127.0.0.1:0", serve_options={{"access_log": {access!r}}}){more}'
    app = apps.start(role, shop=shop)
    app.wait_ready()
    return app


TIME = r"\[\d\d/\w{3}/\d{4}:[\d:]{8} [+-]\d{4}\]"


def test_a_line_has_client_time_request_status_size_referer_agent_and_seconds(start: Start) -> None:
    site = start()
    site.get("/a%20b?c=d", Referer="http://x/")
    site.line(rf'127\.0\.0\.1 - - {TIME} "GET /a%20b\?c=d HTTP/1\.1" 201 5 "http://x/" "tester" 0\.\d+')


def test_of_head_no_body_was_sent(start: Start) -> None:
    site = start(access="%(m)s %(s)s %(B)s %({x-a}o)s")
    site.get("/", method="HEAD")
    site.line("HEAD 201 0 1")


def test_a_request_that_fails_is_logged_with_500(start: Start) -> None:
    site = start(access="%(U)s %(s)s")
    site.get("/broken")
    site.line("/broken 500")


def test_a_visitor_who_leaves_is_logged_with_499(start: Start) -> None:
    site = start(access="%(U)s %(s)s")
    with socket.create_connection(("127.0.0.1", site.port), timeout=patient(60)) as sock:
        sock.sendall(b"GET /wait HTTP/1.1\r\nhost: x\r\n\r\n")
        site.line("it waits")
    site.line("/wait 499")


def test_a_websocket_is_logged_when_it_ends(start: Start) -> None:
    site = start(access="%(r)s %(s)s")
    with connect(f"ws://127.0.0.1:{site.port}/chat"):
        pass
    site.line(r"GET /chat HTTP/1\.1 101")


def test_wsgi_is_logged_as_well(start: Start) -> None:
    site = start(WSGI, access="%(r)s %(s)s %(B)s")
    site.get("/x")
    site.line(r"GET /x HTTP/1\.1 202 3")
    (site.app.directory / "file").write_bytes(bytes(1_000_000))
    assert len(site.get("/file")) == 1_000_000
    site.line(r"GET /file HTTP/1\.1 200 1000000")


def test_as_json(start: Start) -> None:
    site = start(access="json")
    site.get("/x", **{"X-Request-Id": "order-1"})
    fields = json.loads(site.line(r'\{"time".*\}'))
    assert (fields["path"], fields["status"], fields["bytes"], fields["request_id"]) == ("/x", 201, 5, "order-1")


def test_in_an_app_whose_log_is_json_each_request_is_an_object(tmp_path_factory: pytest.TempPathFactory) -> None:
    with apps_in(tmp_path_factory.mktemp("json")) as apps:
        app = running(apps, SHOP, True, '.logs(format="json")')
        (found,) = app.wait_for(r"serving on http://127\.0\.0\.1:(\d+)\"")
        with closing(http.client.HTTPConnection("127.0.0.1", int(found[1]), timeout=patient(60))) as connection:
            connection.request("GET", "/x")
            connection.getresponse().read()
        (line,) = app.wait_for(r'^\{.*"logger":"mob\.access".*\}$')
        fields = json.loads(line[0])
        assert (fields["path"], fields["status"], fields["role"]) == ("/x", 201, "web")


def test_nothing_is_logged_unless_it_is_asked_for(start: Start) -> None:
    site = start(access=False)
    site.get("/x")
    assert site.app.stop() == 0
    assert not [line for line in site.app.lines if "/x" in line or "GET" in line]


def test_an_application_that_has_handlers_of_its_own_gets_records_as_uvicorns(start: Start) -> None:
    site = start(HANDLED)
    site.get("/x?y=z")
    site.line(r"own \('127\.0\.0\.1:\d+', 'GET', '/x\?y=z', '1\.1', 201\)")
