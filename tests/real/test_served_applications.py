"""Real applications, served by roles: Flask, Starlette with WebSockets, TLS, a Unix socket; and bad ones."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect, unix_connect

from tests.patience import patient
from tests.real.test_reload_under_load import Clients, KeepAlive
from tests.running import Apps, RunningApp, apps_in, wait_until

FLASK = """
    import os, threading
    import flask, mob

    back = mob.require("back")
    meeting = threading.Barrier(3)

    def make_app():
        app = flask.Flask("shop")

        @app.post("/double")
        def double():
            return {"value": back.double(flask.request.json["value"]).result(10), "root": flask.request.script_root}

        @app.get("/meet")
        def meet():
            return str(meeting.wait(20))

        @app.get("/broken")
        def broken():
            raise RuntimeError("the till is empty")

        return app
    """

CHAT = """
    import os
    import mob
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse, StreamingResponse
    from starlette.routing import Route, WebSocketRoute

    guests = set()
    back = mob.require("back")

    @mob.on("message")
    async def hear(text):
        for guest in list(guests):
            await guest.send_text(f"{mob.caller().pid} said {text}")

    async def chat(guest):
        await guest.accept()
        guests.add(guest)
        await guest.send_text(str(os.getpid()))
        try:
            async for text in guest.iter_text():
                mob.all("chat").send(text)
        finally:
            guests.discard(guest)

    async def pid(request):
        return PlainTextResponse(str(os.getpid()))

    async def rows(request):
        async def lines():
            async for number in back.count(3):
                yield f"{number}\\n"
        return StreamingResponse(lines())

    app = Starlette(routes=[Route("/", pid), Route("/rows", rows), WebSocketRoute("/chat", chat)])
    """

BACK = """
    def double(x):
        return 2 * x

    def count(n):
        yield from range(n)
    """

ROLES = """
    .role("back", "./back.py")
    .role("flask", "./shop.py:make_app()", serve="127.0.0.1:0", threads=4, serve_options={"root_path": "/shop"})
    .role("chat", "./chat.py:app", workers=2, serve="127.0.0.1:0")
    .role("local", "./chat.py:app", serve="unix:./web.sock")
    """.replace("\n", "")
TLS = '.role("tls", "./chat.py:app", serve="127.0.0.1:0", serve_options={"ssl_keyfile": "key", "ssl_certfile": "cert"})'


@dataclass
class Site:
    """An app, and the addresses of its roles."""

    app: RunningApp
    certificate: Path | None

    def port(self, role: str) -> int:
        """Return the free port that a role got."""
        return int(self.app.wait_for(rf"^{role}\.0 +\d+ \| serving on https?://127\.0\.0\.1:(\d+)$")[0][1])

    def ask(self, role: str, path: str, body: object = None) -> tuple[int, str]:
        """Return the status and the text of a response."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port(role), timeout=patient(30))
        try:
            if body is None:
                connection.request("GET", path)
            else:
                connection.request("POST", path, json.dumps(body), {"content-type": "application/json"})
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def enter(self) -> ClientConnection:
        """Connect a guest to the chat."""
        return connect(f"ws://127.0.0.1:{self.port('chat')}/chat")

    def guests_of_two_workers(self, room: ExitStack) -> tuple[int, ClientConnection, int, ClientConnection]:
        """Connect two guests to different workers; return them with the pids of these."""
        first = room.enter_context(self.enter())
        host = int(first.recv(30))
        for _ in range(100):
            guest = room.enter_context(self.enter())
            if (other := int(guest.recv(30))) != host:
                return host, first, other, guest
        raise AssertionError("a hundred connections, all to one worker")


def made_certificate(directory: Path) -> Path | None:
    """Make a certificate for 127.0.0.1 and its key; None where openssl is not installed."""
    if shutil.which("openssl") is None:
        return None
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    command = ["openssl", "req", "-x509", *curve, *subject, "-keyout", "key", "-out", "cert"]
    subprocess.run(command, cwd=directory, check=True, capture_output=True)
    return directory / "cert"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("site")
    certificate = made_certificate(directory)
    with apps_in(directory) as apps:
        roles = ROLES + (TLS if certificate else "")
        app = apps.start(roles, options="grace=10", shop=FLASK, chat=CHAT, back=BACK)
        app.wait_ready()
        yield Site(app, certificate)


def test_a_wsgi_application_made_by_a_function(site: Site) -> None:
    """In threads, where it waits for other roles; under the path that is configured."""
    assert site.ask("flask", "/double", {"value": 21}) == (200, '{"root":"/shop","value":42}\n')


def test_a_wsgi_application_answers_as_many_at_once_as_its_role_has_threads(site: Site) -> None:
    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(lambda _: site.ask("flask", "/meet"), range(3)))
    assert sorted(answers) == [(200, "0"), (200, "1"), (200, "2")]


def test_an_error_of_the_application_is_answered_and_logged(site: Site) -> None:
    status, _ = site.ask("flask", "/broken")
    assert status == 500
    site.app.wait_for(r"^flask\.0 .*RuntimeError: the till is empty")


def test_an_answer_streams_what_another_role_yields(site: Site) -> None:
    assert site.ask("chat", "/rows") == (200, "0\n1\n2\n")


def test_websockets_of_all_workers_hear_a_message(site: Site) -> None:
    with ExitStack() as room:
        host, first, other, second = site.guests_of_two_workers(room)
        first.send("hello")
        assert first.recv(30) == second.recv(30) == f"{host} said hello"
        second.send("welcome")
        assert first.recv(30) == second.recv(30) == f"{other} said welcome"


def test_a_unix_socket(site: Site) -> None:
    path = site.app.directory / "web.sock"
    site.app.wait_for(rf"^local\.0 +\d+ \| serving on unix:{path}$")
    with unix_connect(str(path), "ws://localhost/chat") as guest:
        assert int(guest.recv(30)) == site.app.ready(site.app.clients[0], "local")[0].pid


def test_tls(site: Site) -> None:
    if site.certificate is None:
        pytest.skip("there is no openssl to make a certificate with")
    context = ssl.create_default_context(cafile=site.certificate)
    connection = http.client.HTTPSConnection("127.0.0.1", site.port("tls"), timeout=patient(30), context=context)
    connection.request("GET", "/")
    assert int(connection.getresponse().read()) == site.app.ready(site.app.clients[0], "tls")[0].pid
    connection.close()


def test_connections_of_workers_are_counted(site: Site) -> None:
    port = site.port("chat")
    with ExitStack() as room:
        site.guests_of_two_workers(room)

        def counts() -> list[int]:
            mobsters = [each for each in site.app.clients[0].metrics().mobsters if each.role == "chat"]
            return [each.connections.get(f"127.0.0.1:{port}", 0) for each in mobsters]

        wait_until(lambda: len(counts()) == 2 and min(counts()) >= 1, "both have some")


def test_no_request_fails_while_the_workers_are_replaced_and_one_is_killed(site: Site) -> None:
    """On connections that are kept open, as proxies do. A worker that is killed loses its own connections."""
    client, port = site.app.clients[0], site.port("chat")
    browsers = [KeepAlive(port) for _ in range(8)]
    them = Clients()
    with ThreadPoolExecutor(len(browsers)) as pool:
        for browser in browsers:
            pool.submit(them.ask_again_and_again, browser.ask)
        for _ in range(3):
            old = {member.pid for member in site.app.ready(client, "chat")}
            so_far = them.answers.total()
            wait_until(lambda so_far=so_far: them.answers.total() > so_far + 100, "they are answered")
            client.reload("chat")
            wait_until(lambda old=old: not any(m.pid in old for m in client.members()), "the old ones have ended")
        assert them.failures == []
        victim = site.app.ready(client, "chat")[0].pid
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: len(site.app.ready(client, "chat")) == 2, "another is there")
        them.is_over.set()
    for browser in browsers:
        browser.close()
    assert len(them.answers) >= 4  # one worker may have all connections, but none for long
    assert len(them.failures) <= len(browsers)


def test_a_websocket_is_told_at_a_reload_to_come_again(site: Site) -> None:
    with site.enter() as guest:
        guest.recv(30)
        site.app.clients[0].reload("chat")
        with pytest.raises(ConnectionClosed) as caught:
            guest.recv(30)
    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code == 1012  # the service restarts
    with site.enter() as guest:
        guest.recv(30)


BAD = {
    "no lifespan": (
        'app = None\nasync def app(scope, receive, send):\n    await receive()\n    raise OSError("no database")',
        "OSError: no database",
    ),
    "says that it failed": (
        (
            "async def app(scope, receive, send):\n    await receive()\n"
            "    await send({'type': 'lifespan.startup.failed', 'message': 'no till'})\n"
            "    print('was told', await receive())"
        ),
        "the application sent lifespan.startup.failed: no till",
    ),
    "is not there": ("application = None", "web has no 'app'. There are: 'application'."),
    "is none": ("app = 7", "web.app is an int, which cannot be called. Expected an application: ASGI"),
    "is made by a function": ("def app():\n    pass", "If it makes the application, write 'app()'."),
}


def test_what_cannot_be_served_fails_to_boot_and_says_why(apps: Apps) -> None:
    roles = "".join(
        f'.role("r{number}", "./r{number}.py:app", serve="127.0.0.1:0", intensity=0)' for number in range(len(BAD))
    )
    option = '.role("option", "./good.py:app", serve="127.0.0.1:0", intensity=0, serve_options={"acces_log": True})'
    modules: dict[str, Any] = {f"r{number}": source for number, (source, _) in enumerate(BAD.values())}
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = stranger.getsockname()[1]
        held = f'.role("held", "./good.py:app", serve="127.0.0.1:{port}", intensity=0)'
        app = apps.start(roles + option + held, good="async def app(scope, receive, send): ...", **modules)
        assert app.wait() != 0
    for number, (_, said) in enumerate(BAD.values()):
        assert said.replace("web", f"r{number}") in app.output
    assert "has an option 'acces_log'. Did you mean 'access_log'?" in app.output
    assert "which is not part of this app" in app.output
    assert "serving on" not in app.output
    assert "was told" not in app.output  # an application that has not started need not end
    assert "src/mob" not in app.output  # no traceback from inside mob


HANGS = """
    import asyncio

    async def app(scope, receive, send):
        await receive()
        print("waits for its database")
        await asyncio.sleep(1000)
    """


def test_an_application_that_never_starts_does_not_hold_up_a_stop(apps: Apps) -> None:
    app = apps.start('.role("web", "./web.py:app", serve="127.0.0.1:0")', options="grace=100", web=HANGS)
    app.wait_for("waits for its database")
    assert app.stop() == 0
    assert "lifespan" not in app.output
