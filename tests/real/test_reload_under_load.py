"""Reloads under load: no call fails, and no request to a shared port."""

from __future__ import annotations

import asyncio
import http.client
import os
import signal
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

import mob
from tests.patience import patient
from tests.real.servers import SERVERS, ask, source_of
from tests.running import Apps, RunningApp, apps_in, free_port, wait_until

BACK = """
    import os

    def pid():
        return os.getpid()
    """

FRONT = """
    import mob
    back = mob.require("back")

    async def relay():
        return await back.pid()
    """


def test_no_call_fails_in_many_reloads_in_a_row(apps: Apps) -> None:
    roles = '.role("back", "./back.py", workers=2).role("front", "./front.py").role("steady", "./front.py")'
    app = apps.start(roles, back=BACK, front=FRONT)
    client, other = app.wait_ready(), app.connect()
    back, front, steady = (client.require(role) for role in ("back", "front", "steady"))
    calls = [back.pid] * 25 + [front.relay] * 15 + [steady.relay] * 10
    answers: Counter[int] = Counter()

    async def ask_until(over: Callable[[], bool], call: Callable[[], mob.Call[int]]) -> None:
        while not over():
            answers[await call()] += 1

    async def ask_all() -> None:
        loop = asyncio.get_running_loop()
        reloads = loop.run_in_executor(None, lambda: [other.reload("back", "front") for _ in range(8)])
        await asyncio.gather(*(ask_until(reloads.done, call) for call in calls))
        assert all(text.startswith("reloaded 3 workers") for text in await reloads)

    asyncio.run(ask_all())
    assert len(answers) > 8, answers
    assert answers.total() > 500
    assert "killing" not in app.output


class Clients:
    """Clients that send requests to a port without pause: which workers answered, and the errors."""

    def __init__(self) -> None:
        self.answers: Counter[int] = Counter()
        self.failures: list[str] = []
        self.is_over = threading.Event()

    def ask_again_and_again(self, once: Callable[[], int]) -> None:
        while not self.is_over.is_set():
            try:
                self.answers[once()] += 1
            except (OSError, http.client.HTTPException, ValueError) as error:
                self.failures.append(repr(error))


@contextmanager
def asking(once: Callable[[], int], clients: int = 4) -> Iterator[Clients]:
    """Run clients until the end of the block."""
    them = Clients()
    with ThreadPoolExecutor(clients) as pool:
        for _ in range(clients):
            pool.submit(them.ask_again_and_again, once)
        try:
            yield them
        finally:
            them.is_over.set()


class Site:
    """An app in which each make of server has a role of two workers."""

    def __init__(self, app: RunningApp, ports: dict[str, int]) -> None:
        self.app = app
        self.client = app.wait_ready()
        self.ports = ports

    def ready(self, make: str) -> list[int]:
        return [member.pid for member in self.app.ready(self.client, role_of(make))]

    @contextmanager
    def asking(self, make: str) -> Iterator[Clients]:
        """Run clients until the end of the block. (uvloop accepts below Python, so a busy one is ready very late.)"""
        with asking(lambda: ask(self.ports[make]), clients=1 if make == "uvicorn" else 4) as them:
            wait_until(lambda: them.answers.total() > 20, "they ask")
            yield them


def role_of(make: str) -> str:
    return f"s{list(SERVERS).index(make)}"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    ports = {make: free_port() for make in SERVERS}
    with apps_in(tmp_path_factory.mktemp("site")) as apps:
        roles = "".join(f'.role("{role_of(make)}", "./{role_of(make)}.py", workers=2)' for make in SERVERS)
        apps.write(**{role_of(make): source_of(make, ports[make]) for make in SERVERS})
        yield Site(apps.start(roles, options="grace=10"), ports)


@pytest.mark.parametrize("make", SERVERS)
def test_no_request_fails_while_its_server_is_reloaded(site: Site, make: str) -> None:
    with site.asking(make) as them:
        for _ in range(2):
            site.client.reload(role_of(make))
        new = site.ready(make)
        wait_until(lambda: set(new) & set(them.answers), "the last ones answer too")
    assert them.failures == []
    wait_until(lambda: len(site.client.overview()) == 2 * len(SERVERS), "those that were replaced have ended")
    assert "killing" not in site.app.output


OWN_HANDLER = ("uvicorn", "aiohttp")
"""Servers that handle SIGTERM themselves: mob does not notice it, and they would lose the same requests anywhere."""


@pytest.mark.parametrize("make", [make for make in SERVERS if make not in OWN_HANDLER])
def test_no_request_fails_when_a_worker_is_told_to_end(site: Site, make: str) -> None:
    with site.asking(make) as them:
        for _ in range(2):
            pid = site.ready(make)[0]
            os.kill(pid, signal.SIGTERM)
            wait_until(lambda gone=pid: len({*site.ready(make)} - {gone}) == 2, "its successor is ready")
    assert them.failures == []


# ------------------------------------------------------------------------------------------------ long connections


class KeepAlive:
    """One client with one connection, which it keeps as long as the server does.

    A server may close an idle connection at any time, and a client may not know it yet when it sends the next request:
    then it uses another connection (RFC 9112, 9.3.1), as all clients do that keep connections. On a new one no request
    may fail.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._connection: http.client.HTTPConnection | None = None
        self.fresh = 0

    def ask(self) -> int:
        """Return the pid of the worker that answers."""
        if self._connection is not None:
            try:
                return self._ask(self._connection)
            except (ConnectionError, http.client.RemoteDisconnected):
                self.close()
        self._connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=patient(30))
        self.fresh += 1
        return self._ask(self._connection)

    def _ask(self, connection: http.client.HTTPConnection) -> int:
        connection.request("GET", "/")
        return int(connection.getresponse().read())

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


KEEPS = """
    import os
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # an answer leaves in one piece: between two of them it looks like answered

        def do_GET(self):
            answer = str(os.getpid()).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *args):
            pass

    ThreadingHTTPServer(("127.0.0.1", PORT), Handler).serve_forever()
    """


@pytest.mark.parametrize("make", ["uvicorn", "http.server"])
def test_connections_that_are_kept_move_to_the_new_workers(apps: Apps, make: str) -> None:
    port = free_port()
    source = source_of(make, port) if make == "uvicorn" else KEEPS.replace("PORT", str(port))
    app = apps.start('.role("front", "./front.py", workers=2)', options="grace=4", front=source)
    client = app.wait_ready()
    browsers = [KeepAlive(port) for _ in range(4)]
    them = Clients()
    with ThreadPoolExecutor(len(browsers)) as pool:
        for browser in browsers:
            pool.submit(them.ask_again_and_again, browser.ask)
        wait_until(lambda: them.answers.total() > 20, "they ask")
        client.reload()
        wait_until(lambda: len(client.overview()) == 2, "those that were replaced have ended")
        answered = them.answers.total()
        wait_until(lambda: them.answers.total() > answered + 20, "the last ones answer")
        them.is_over.set()
    for browser in browsers:
        browser.close()
    assert them.failures == []
    assert {m.pid for m in app.ready(client)} & set(them.answers)
    assert all(browser.fresh <= 3 for browser in browsers)  # the second may be one to the old worker of the other place


def test_a_connection_that_is_kept_idle_does_not_hold_up_a_stop(apps: Apps) -> None:
    port = free_port()
    app = apps.start('.role("front", "./front.py")', options="grace=100", front=source_of("asyncio.run", port))
    app.wait_ready()
    with socket.create_connection(("127.0.0.1", port)):
        assert app.stop() == 0


SLOW = """
    import asyncio, time
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            print("begun")
            time.sleep(0.5)
            self.send_response(200)
            self.end_headers()
            for _ in range(5):
                self.wfile.write(b" " * 1000)
                time.sleep(0.1)
            self.wfile.write(b"7")

    ThreadingHTTPServer(("127.0.0.1", PORT), Handler).serve_forever()
    """


def test_a_slow_answer_in_parts_arrives_in_full(apps: Apps) -> None:
    port = free_port()
    app = apps.start('.role("front", "./front.py")', options="grace=10", front=SLOW.replace("PORT", str(port)))
    client = app.wait_ready()
    for count, how in enumerate(("reload", "SIGTERM", "stop"), 1):
        (old,) = [member.pid for member in app.ready(client)]
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(ask, port)
            app.wait_for("begun", count)
            if how == "reload":
                client.reload()
            elif how == "SIGTERM":
                os.kill(old, signal.SIGTERM)
            else:
                app.signal(signal.SIGTERM)
            assert answer.result(patient(30)) == 7
        if how != "stop":
            wait_until(lambda old=old: [m.pid for m in app.ready(client)] not in ([], [old]), "the next one is ready")


SOCKETS = """
    import asyncio, os
    import uvicorn

    async def app(scope, receive, send):
        while True:
            message = await receive()
            if message["type"] == "lifespan.shutdown":
                await send({"type": "lifespan.shutdown.complete"})
                return
            if message["type"] == "lifespan.startup":
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "websocket.connect":
                await send({"type": "websocket.accept"})
            elif message["type"] == "websocket.disconnect":
                return
            else:
                print("heard", message["text"])
                while message["text"] == "hard" and not os.path.exists("go"):
                    await asyncio.sleep(0.005)
                await send({"type": "websocket.send", "text": f"{os.getpid()} to {message['text']}"})

    uvicorn.run(app, host="127.0.0.1", port=PORT, access_log=False)
    """


def answer_on_a_new_websocket(port: int) -> str | bytes:
    while True:
        with connect(f"ws://127.0.0.1:{port}") as websocket, suppress(ConnectionClosed):  # asked to come again
            websocket.send("easy")
            return websocket.recv(30)


def test_a_websocket_gets_the_answer_to_its_message_and_is_then_told_to_come_again(apps: Apps) -> None:
    port = free_port()
    app = apps.start('.role("front", "./front.py")', options="grace=10", front=SOCKETS.replace("PORT", str(port)))
    client = app.wait_ready()
    old = app.ready(client)[0].pid
    with connect(f"ws://127.0.0.1:{port}") as busy:
        busy.send("easy")
        assert busy.recv(30) == f"{old} to easy"
        busy.send("hard")
        app.wait_for("heard hard")
        client.reload()
        wait_until(lambda: answer_on_a_new_websocket(port) != f"{old} to easy", "newcomers get to the new worker")
        (app.directory / "go").touch()
        assert busy.recv(30) == f"{old} to hard"
        with pytest.raises(ConnectionClosed) as caught:
            busy.recv(30)
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1012  # the service restarts
    assert answer_on_a_new_websocket(port)
