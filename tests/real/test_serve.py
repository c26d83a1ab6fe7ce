"""A role that serves HTTP: all its workers on one port, started and ended as its application needs it."""

from __future__ import annotations

import contextlib
import http.client
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import psutil
import pytest

from tests.patience import patient
from tests.running import RunningApp, apps_in, wait_until

SHOP = """
    import asyncio, os
    import mob

    back = mob.require("back")
    started = []

    @mob.on("start")
    def start():
        started.append("start")

    @mob.on("stop")
    def stop():
        print("stop")

    def status():
        return os.getpid()

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            await receive()
            started.append("lifespan")
            print("startup after", *started)
            await send({"type": "lifespan.startup.complete"})
            await receive()
            print("shutdown")
            await send({"type": "lifespan.shutdown.complete"})
            return
        body = str(await ROUTES[scope["path"]](scope)).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
        await send({"type": "http.response.body", "body": body})

    async def pid(scope):
        return os.getpid()

    async def ask_back(scope):
        return await back.double(21)

    async def slow(scope):
        print("slow begins")
        while not os.path.exists("go"):
            await asyncio.sleep(0.005)
        return os.getpid()

    async def caller(scope):
        return mob.caller()

    ROUTES = {"/": pid, "/back": ask_back, "/slow": slow, "/caller": caller}
    """

BACK = """
    def double(x):
        return 2 * x
    """


@dataclass
class Site:
    """An app with two workers that serve on one port."""

    app: RunningApp
    port: int

    def ask(self, path: str = "/") -> str:
        """Return the response to a request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=patient(30))
        try:
            connection.request("GET", path)
            return connection.getresponse().read().decode()
        finally:
            connection.close()

    def pids(self) -> set[int]:
        """Return the pids of the ready workers."""
        return {member.pid for member in self.app.ready(self.app.clients[0], "web")}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with apps_in(tmp_path_factory.mktemp("site")) as apps:
        roles = '.role("back", "./back.py").role("web", "./shop.py:app", workers=2, serve="127.0.0.1:0")'
        app = apps.start(roles, options="grace=10", shop=SHOP, back=BACK)
        app.wait_ready()
        found = app.wait_for(r"web\.0 \d+ \| serving on http://127\.0\.0\.1:(\d+)$")
        yield Site(app, int(found[0][1]))


def is_listening(pid: int) -> bool:
    """Return whether a worker still accepts connections."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return any(each.status == psutil.CONN_LISTEN for each in psutil.Process(pid).net_connections("tcp"))
    return False


def test_all_workers_answer_on_one_port_as_soon_as_they_are_ready(site: Site) -> None:
    answers = Counter(int(site.ask()) for _ in range(60))
    assert set(answers) == site.pids()
    assert len(site.app.wait_for("startup after start lifespan", 2)) == 2


def test_handlers_call_other_roles_and_the_module_exports(site: Site) -> None:
    assert site.ask("/back") == "42"
    assert site.ask("/caller") == "None"
    assert site.app.clients[0].require("web").status().result(patient(10)) in site.pids()


def test_a_reload_finishes_requests_and_replaces_the_workers(site: Site) -> None:
    old = site.pids()
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=patient(30))
    connection.request("GET", "/slow")
    site.app.wait_for("slow begins")
    dates: dict[int, set[str]] = {pid: set() for pid in old}

    def has_made_new_headers() -> bool:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", site.port, timeout=patient(30))) as other:
            other.request("GET", "/")
            answer = other.getresponse()
            dates[int(answer.read())].add(answer.headers["date"])
        return any(len(each) > 2 for each in dates.values())  # connections go to the worker that has none

    wait_until(has_made_new_headers, "the request is older than the headers that it is answered with")
    site.app.clients[0].reload("web")
    wait_until(lambda: len(site.pids()) == 2 and not site.pids() & old, "the new ones are ready")
    wait_until(lambda: not any(map(is_listening, old)), "the old ones begin to end")
    (site.app.directory / "go").touch()
    response = connection.getresponse()
    assert response.headers["connection"] == "close"
    assert int(response.read()) in old
    connection.close()
    assert int(site.ask()) in site.pids()
    site.app.wait_for(r"\| shutdown", 2)


def test_a_stop_ends_the_lifespan_once_and_then_the_handlers(site: Site) -> None:
    site.ask()
    last = site.pids()
    assert site.app.stop() == 0
    for pid in last:
        lines = [line.partition(" | ")[2] for line in site.app.lines if f" {pid} | " in line]
        assert lines[-2:] == ["shutdown", "stop"]
    with pytest.raises(ConnectionRefusedError):
        site.ask()
