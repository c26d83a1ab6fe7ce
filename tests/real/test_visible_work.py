"""Work is visible: what runs, whatever it does with its loop, and what waits at callers, including clients.

An export `hold` runs until the test opens the other end of its pipe, so nothing here depends on its duration.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any

import pytest

import mob
from mob.exposition import exposition
from mob.wire.messages import MobsterMetrics
from tests.patience import patient
from tests.running import Apps, RunningApp, apps_in, wait_until

BACK = """
    import asyncio, time, mob

    def foo(x): return x

    def slow(seconds): time.sleep(seconds)

    def hold(path):
        with open(path) as pipe:
            pipe.read()

    async def hold_task(path):
        await asyncio.to_thread(hold, path)

    def hold_stream(path):
        yield 1
        hold(path)

    @mob.on("message")
    def hear(path):
        hold(path)
    """
GATED = BACK + "\n    foo, hold = mob.export(foo), mob.export(concurrency=2)(hold)\n"
WEB = """
    import asyncio

    def hold(path):
        with open(path) as pipe:
            pipe.read()

    async def app(scope, receive, send):
        path = scope["path"]
        if scope["type"] != "http":
            return
        if path == "/broken":
            raise RuntimeError("broken")
        if path.startswith("/hold"):
            await asyncio.to_thread(hold, path.removeprefix("/hold"))
        status = 404 if path == "/nothing" else 200
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})
    """
ROLES = """
    .role("back", "./back.py").role("threaded", "./back.py", threads=2).role("gated", "./gated.py")
    .role("web", "./web.py:app", serve="127.0.0.1:0")
    """.replace("\n", "")


class Pipes:
    """Pipes in a directory; a reader of one is held until it is released."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._numbers = count()

    def make(self) -> str:
        path = str(self._directory / f"pipe{next(self._numbers)}")
        os.mkfifo(path)
        return path

    @staticmethod
    def let_go(path: str) -> None:
        """Return when a reader was released, and so ended."""
        with open(path, "w"):
            pass


class Site:
    """The app, and what is shown of it."""

    def __init__(self, app: RunningApp, pipes: Pipes) -> None:
        self.app, self.pipes = app, pipes
        self.client = app.wait_ready()

    def mobster(self, role: str) -> MobsterMetrics:
        return next(each for each in self.client.metrics().mobsters if each.role == role)

    def flight(self, role: str) -> dict[str, int]:
        """Return the exports of a role that run, and the number of calls of each."""
        exports = self.client.metrics().exports
        return {each.export: each.in_flight for each in exports if each.role == role and each.in_flight}

    def wait(self, role: str, hand: int, **flight: int) -> None:
        """Wait until that many calls are in hand there, and these in flight."""
        wait_until(
            lambda: (self.mobster(role).in_hand, self.flight(role)) == (hand, flight),
            f"{role} has {hand} in hand and {flight} in flight",
        )

    def ps(self) -> list[dict[str, Any]]:
        return json.loads(ps(self.app, "--json"))


def ps(app: RunningApp, *options: str) -> str:
    command = [sys.executable, "-m", "mob", "ps", "-a", app.name, *options]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("visible")
    with apps_in(directory) as apps:
        yield Site(apps.start(ROLES, back=BACK, gated=GATED, web=WEB), Pipes(directory))


# ------------------------------------------------------------------------------------------------------ what runs


@pytest.mark.parametrize(
    ("role", "name"),
    [(role, name) for role in ("back", "threaded") for name in ("hold", "hold_task", "hold_stream")]
    + [("gated", "hold")],
)
def test_a_call_that_runs_is_in_hand_and_in_flight(site: Site, role: str, name: str) -> None:
    path, proxy = site.pipes.make(), site.client.require(role)
    call = getattr(proxy, name)(path)
    if name == "hold_stream":
        reader = threading.Thread(target=lambda: list(call))
        reader.start()
    site.wait(role, 1, **{name: 1})
    site.pipes.let_go(path)
    if name == "hold_stream":
        reader.join()
    else:
        call.result(patient(30))
    site.wait(role, 0)
    calls = next(e.calls for e in site.client.metrics().exports if (e.role, e.export) == (role, name))
    assert calls == 1, "it is counted once"


def test_ps_and_prometheus_show_a_call_that_blocks_the_loop(site: Site) -> None:
    path = site.pipes.make()
    call = site.client.require("back").hold(path)
    site.wait("back", 1, hold=1)
    assert {row["role"]: row["hand"] for row in site.ps()} == {"back": 1, "threaded": 0, "gated": 0, "web": 0}
    text = exposition(site.client.metrics())
    assert 'mob_calls_in_flight{role="back",export="hold"} 1\n' in text
    pid = site.mobster("back").pid
    assert f'mob_mobster_calls_in_hand{{role="back",index="0",pid="{pid}"}} 1\n' in text
    site.pipes.let_go(path)
    call.result(patient(30))
    site.wait("back", 0)


def test_calls_that_wait_for_a_thread_are_in_hand_and_not_in_flight(site: Site) -> None:
    paths = [site.pipes.make() for _ in range(3)]
    directly = site.client.require("threaded").options(pid=site.mobster("threaded").pid)
    calls = [directly.hold(path) for path in paths]
    site.wait("threaded", 3, hold=2)
    for path, call in zip(paths, calls, strict=True):
        site.pipes.let_go(path)
        call.result(patient(30))
    site.wait("threaded", 0)


def test_a_message_that_is_being_handled_is_in_hand_and_no_call_of_an_export(site: Site) -> None:
    path, back = site.pipes.make(), site.client.require("back")
    pid = site.mobster("back").pid
    calls = [back.options(pid=pid).foo(n) for n in range(20)]
    site.client.pid(pid).send(path)
    site.wait("back", 1)
    site.pipes.let_go(path)
    for call in calls:  # their answers may have been sent with what follows them
        call.result(patient(30))
    site.wait("back", 0)


def test_what_ran_in_a_worker_that_died_runs_no_more(site: Site) -> None:
    calls = [site.client.require("gated").hold(site.pipes.make())]
    site.wait("gated", 1, hold=1)
    os.kill(site.mobster("gated").pid, signal.SIGKILL)
    with pytest.raises(mob.Lost):
        calls[0].result(patient(30))
    site.wait("gated", 0)


def test_http_requests_are_counted(site: Site) -> None:
    port = int(site.app.wait_for(r"^web\.0 +\d+ \| serving on http://127\.0\.0\.1:(\d+)$")[0][1])
    path = site.pipes.make()
    with ExitStack() as stack:
        connections = [http.client.HTTPConnection("127.0.0.1", port, timeout=patient(60)) for _ in range(2)]
        for connection in connections:
            stack.callback(connection.close)
        held, other = connections
        held.request("GET", f"/hold{path}")
        wait_until(lambda: site.mobster("web").open_requests == 1, "it is open")
        assert site.mobster("web").in_hand == 1
        for path_, status in (("/", 200), ("/", 200), ("/nothing", 404), ("/broken", 500)):
            other.request("GET", path_)
            answer = other.getresponse()
            answer.read()
            assert answer.status == status
        site.pipes.let_go(path)
        assert held.getresponse().status == 200
    wanted = {"2xx": 3, "4xx": 1, "5xx": 1}
    wait_until(lambda: [r.requests for r in site.client.metrics().roles if r.name == "web"] == [wanted], "all count")
    wait_until(lambda: (site.mobster("web").in_hand, site.mobster("web").calls) == (0, 5), "none is open any longer")
    assert 'mob_http_requests_total{role="web",status="2xx"} 3\n' in exposition(site.client.metrics())
    assert next(row["calls"] for row in site.ps() if row["role"] == "web") == 5


# ------------------------------------------------------------------------------------------ what waits at callers

LATE = """
    with open("gate") as gate:
        gate.read()

    def foo(x): return x
    """


@pytest.fixture
def late(apps: Apps) -> RunningApp:
    """An app whose role `back` becomes ready only when its gate is opened."""
    os.mkfifo(apps.directory / "gate")
    app = apps.start('.role("back", "./back.py").role("front", "./front.py")', back=LATE, front=BACK)
    app.wait_ready(1)
    return app


def waiting(app: RunningApp) -> list[tuple[str, int, bool]]:
    """Return from `mob ps --json`: the role, how many calls wait for it, and whether they have a size."""
    return [(row["role"], row["waiting"], row["waiting_bytes"] > 0) for row in json.loads(ps(app, "--json"))]


def test_calls_that_wait_in_a_client_are_seen_and_then_not(late: RunningApp) -> None:
    client, other = late.clients[0], late.connect()
    calls = [client.require("back").foo("x" * 1000) for _ in range(3)]
    wait_until(lambda: waiting(late) == [("back", 3, True), ("front", 0, False)], "three wait")
    assert "3 calls to back wait at their callers for a worker, 4 KB: " in ps(late)  # with what mob keeps for each
    assert f"3 in client (pid {os.getpid()})" in ps(late)
    calls += [other.require("back").foo("y")]
    wait_until(lambda: waiting(late)[0] == ("back", 4, True), "those of another one as well")
    metrics = client.metrics()
    assert [(each.calls, each.waits_for, each.role) for each in metrics.callers] == [(3, "back", ""), (1, "back", "")]
    assert 'mob_role_parked_calls{role="back"} 4\n' in exposition(metrics)
    other.close()
    wait_until(lambda: waiting(late)[0] == ("back", 3, True), "one that left waits no more")
    Pipes.let_go(str(late.directory / "gate"))
    assert [len(call.result(patient(30))) for call in calls[:3]] == [1000] * 3
    wait_until(lambda: waiting(late) == [("back", 0, False), ("front", 0, False)], "none wait")
    assert "wait at" not in ps(late)


def test_another_kingpin_learns_what_waits_in_a_client(late: RunningApp) -> None:
    client = late.clients[0]
    call = client.require("back").foo(1)
    wait_until(lambda: client.metrics().callers, "it waits")
    Pipes.let_go(str(late.directory / "gate"))
    assert call.result(patient(30)) == 1
    wait_until(lambda: not client.metrics().callers, "it does not")
    os.kill(late.ready(client, "back")[0].pid, signal.SIGKILL)  # its successor waits at the gate again
    wait_until(lambda: len(late.ready(client, "back")) == 0, "no worker is ready")
    call = client.require("back").foo(2)
    wait_until(lambda: client.metrics().callers, "another waits")
    client.upgrade()
    wait_until(lambda: client.metrics().callers, "the new Kingpin knows of it")
    Pipes.let_go(str(late.directory / "gate"))
    assert call.result(patient(30)) == 2


def test_calls_that_wait_for_busy_workers_are_seen_and_the_role_grows(apps: Apps) -> None:
    pipes = Pipes(apps.directory)
    app = apps.start('.role("back", "./back.py", workers=2, max_workers=3)', back=BACK)
    client = app.wait_ready()
    back = client.require("back")
    for member in app.ready(client, "back"):
        for _ in range(3):
            back.options(pid=member.pid).slow(0.1).result(patient(30))  # all learn that calls to it may take long
    paths = [pipes.make() for _ in range(20)]
    calls = [back.hold(path) for path in paths]
    wait_until(lambda: len(app.ready(client, "back")) == 3, "it has grown")

    def is_seen() -> bool:
        mine = [each for each in client.metrics().callers if each.pid == os.getpid()]
        (shown,) = {row["waiting"] for row in json.loads(ps(app, "--json"))}
        return bool(mine) and mine[0].calls == shown > 10

    wait_until(is_seen, "those that wait here are shown")
    for path in paths:
        threading.Thread(target=pipes.let_go, args=(path,), daemon=True).start()
    for call in calls:
        call.result(patient(30))
    wait_until(lambda: not client.metrics().callers, "nothing waits")
