"""What is measured of a running app: every call once, whoever has served it, whatever became of that one."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator

import pytest

import mob
from mob.core.latency import quantile
from mob.wire.messages import ExportMetrics, MobsterMetrics
from tests.running import Apps, RunningApp, apps_in, free_port, wait_until

BACK = """
import asyncio, os, time
import mob

def foo(x): return x
def slow(seconds): time.sleep(seconds)
async def later(seconds): await asyncio.sleep(seconds)
def bad(): raise ValueError("bad")
async def worse(): raise KeyError("worse")
def rows(n): yield from range(n)
def burn(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end: pass
def die(): os.kill(os.getpid(), 9)
"""
GATED = BACK + "foo, slow, later = mob.export(foo), mob.export(concurrency=1)(slow), mob.export(concurrency=1)(later)\n"
FRONT = """
import socket, threading
server = socket.create_server(("127.0.0.1", PORT))
held = []

def accept():
    held.append(server.accept())
    return len(held)
"""


class Site:
    def __init__(self, app: RunningApp, port: int) -> None:
        self.app, self.port = app, port
        self.client = app.wait_ready()

    def export(self, role: str, name: str) -> ExportMetrics | None:
        return next((each for each in self.client.metrics().exports if (each.role, each.export) == (role, name)), None)

    def wait_counted(self, role: str, name: str, calls: int) -> ExportMetrics:
        """When so many calls have been counted; never more."""

        def counted() -> ExportMetrics | None:
            metrics = self.export(role, name)
            assert metrics is None or metrics.calls <= calls
            return metrics if metrics is not None and metrics.calls == calls else None

        found = wait_until(counted, f"{calls} calls of {role}.{name} are counted")
        assert found is not None
        return found

    def mobster(self, role: str, index: int = 0) -> MobsterMetrics:
        return next(each for each in self.client.metrics().mobsters if (each.role, each.index) == (role, index))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    port = free_port()
    with apps_in(tmp_path_factory.mktemp("metrics")) as apps:
        app = apps.start(
            '.role("back", "./back.py", workers=2).role("threaded", "./threaded.py", threads=3)'
            '.role("gated", "./gated.py").role("front", "./front.py", workers=2)',
            back=BACK,
            threaded=BACK,
            gated=GATED,
            front=FRONT.replace("PORT", str(port)),
        )
        yield Site(app, port)


@pytest.mark.parametrize("role", ["back", "threaded"])
def test_every_call_is_counted_once_however_it_was_run(site: Site, role: str) -> None:
    proxy = site.client.require(role)
    for call in [proxy.foo(n) for n in range(500)]:
        call.result()
    for call in [proxy.later(0.02) for _ in range(20)]:
        call.result()
    assert list(proxy.rows(100)) == list(range(100))
    assert site.wait_counted(role, "foo", 500).in_flight == 0
    later = site.wait_counted(role, "later", 20)
    assert 0.015 < quantile(later.ran, 0.5) < 5.0
    assert later.ran_seconds > 0.35
    site.wait_counted(role, "rows", 1)


def test_the_time_in_the_queue_is_told_apart_from_the_time_that_a_call_runs(site: Site) -> None:
    back = site.client.require("back").options(pid=site.app.ready(site.client, "back")[0].pid)
    for call in [back.slow(0.05) for _ in range(5)]:
        call.result()
    slow = site.wait_counted("back", "slow", 5)
    assert slow.ran_seconds >= 0.25
    assert slow.waited_seconds > 0.4  # 0, 50, 100, 150 and 200 ms
    assert quantile(slow.ran, 0.5) < quantile(slow.waited, 0.99)


@pytest.mark.parametrize("name", ["slow", "later"])
def test_calls_that_wait_at_the_gate_of_their_export_have_waited(site: Site, name: str) -> None:
    gated = site.client.require("gated").options(pid=site.app.ready(site.client, "gated")[0].pid)
    for call in [getattr(gated, name)(0.05) for _ in range(4)]:
        call.result()
    metrics = site.wait_counted("gated", name, 4)
    assert metrics.ran_seconds >= 0.2
    assert metrics.waited_seconds > 0.25


def test_failures_are_told_apart_by_kind(site: Site) -> None:
    back = site.client.require("back")
    for _ in range(3):
        with pytest.raises(ValueError, match="bad"):
            back.bad().result()
    with pytest.raises(KeyError):
        back.worse().result()
    with pytest.raises(mob.ArgumentError):
        back.bad(1).result()
    assert site.wait_counted("back", "worse", 1).failed == {"KeyError": 1}

    def all_are_told() -> bool:
        bad = site.wait_counted("back", "bad", 3)  # what was not run is no call
        return bad.failed == {"ValueError": 3, "ArgumentError": 1}

    wait_until(all_are_told, "all failures are told")


def test_counts_survive_those_who_have_counted(site: Site) -> None:
    proxy = site.client.require("gated")
    for n in range(10):
        proxy.foo(n).result()
    site.wait_counted("gated", "foo", 10)
    before = site.mobster("gated")
    os.kill(before.pid, signal.SIGKILL)
    wait_until(lambda: before.pid not in [member.pid for member in site.client.members()], "its end is known")
    proxy.options(wait=30).foo(1).result()
    site.wait_counted("gated", "foo", 11)
    site.client.reload("gated")
    for n in range(5):  # of one that ends in order nothing is lost, not even its last second
        proxy.foo(n).result()
    site.client.reload("gated")
    site.wait_counted("gated", "foo", 16)
    after = site.mobster("gated")
    assert after.restarts > before.restarts
    role = next(each for each in site.client.metrics().roles if each.name == "gated")
    assert role.launches >= 4
    assert role.crashes >= 1


def test_a_call_that_nobody_has_answered_is_counted_where_it_was_made(tmp_path_factory: pytest.TempPathFactory) -> None:
    caller = """
import mob
back = mob.require("back")

def lose():
    try:
        back.die().result()
    except mob.Lost:
        return "lost"
"""
    with apps_in(tmp_path_factory.mktemp("unserved")) as apps:
        app = apps.start('.role("back", "./back.py").role("caller", "./caller.py")', back=BACK, caller=caller)
        client = app.wait_ready()
        assert client.require("caller").lose().result() == "lost"
        wait_until(
            lambda: any(each.unserved == {"Lost": 1} for each in client.metrics().exports if each.export == "die"),
            "the loss is counted",
        )


def test_what_a_mobster_uses_is_told(site: Site) -> None:
    pid = site.app.ready(site.client, "back")[1].pid
    cpu = site.mobster("back", 1).cpu
    site.client.require("back").options(pid=pid).burn(0.5).result()
    wait_until(lambda: site.mobster("back", 1).cpu >= cpu + 0.5, "its time is told")
    mobster = site.mobster("back", 1)
    assert mobster.memory > 1_000_000
    assert 0 < mobster.lag < 30


def test_a_loop_that_is_held_up_lags(site: Site) -> None:
    pid = site.app.ready(site.client, "back")[0].pid
    call = site.client.require("back").options(pid=pid).slow(3.0)
    wait_until(lambda: site.mobster("back").lag > 0.5, "it lags")
    call.result()
    wait_until(lambda: site.mobster("back").lag < 0.5, "it does not any more")


def test_traffic_is_told_by_who_has_sent_it(site: Site) -> None:
    back = site.client.require("back")
    mine = next(member.uid for member in site.client.members() if member.pid == os.getpid())

    def is_seen() -> bool:
        for call in [back.foo(n) for n in range(100)]:
            call.result()
        return any(mobster.traffic.get(mine, 0) > 0 for mobster in site.client.metrics().mobsters)

    wait_until(is_seen, "what this client sends is seen")


def test_connections_of_a_shared_port_are_told_by_worker(site: Site) -> None:
    address = f"127.0.0.1:{site.port}"
    pids = [member.pid for member in site.app.ready(site.client, "front")]
    with socket.create_connection(("127.0.0.1", site.port)), socket.create_connection(("127.0.0.1", site.port)):
        for pid in (pids[0], pids[0]):
            site.client.require("front").options(pid=pid).accept().result()
        wait_until(
            lambda: [site.mobster("front", n).connections.get(address) for n in (0, 1)] == [2, 0], "they are told"
        )


def test_calls_that_wait_for_a_worker_are_told(tmp_path_factory: pytest.TempPathFactory) -> None:
    caller = 'import mob\nback = mob.require("back")\ndef ask(n): return [back.foo(i) for i in range(n)] and None\n'
    with apps_in(tmp_path_factory.mktemp("parked")) as apps:
        app = apps.start(
            '.role("back", "./back.py").role("caller", "./caller.py")',
            back="import time\ntime.sleep(1_000_000)\n",
            caller=caller,
        )
        client = app.wait_ready(1)
        client.require("caller").ask(7).result()
        wait_until(lambda: next(r for r in client.metrics().roles if r.name == "back").parked == 7, "seven are told")


def test_it_can_be_turned_off(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py")', options="metrics=False", back=BACK)
    client = app.wait_ready()
    client.require("back").foo(1).result()
    wait_until(lambda: client.metrics().mobsters[0].cpu > 0, "a beat has come")
    assert client.metrics().exports == ()


def test_an_upgrade_of_the_kingpin_goes_on_counting(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py")', back=BACK)
    client = app.wait_ready()
    client.require("back").foo(1).result()
    wait_until(lambda: client.metrics().exports, "it is counted")
    client.upgrade()
    client.require("back").foo(1).result()
    wait_until(lambda: client.metrics().exports[0].calls == 2, "both are counted")
    assert client.metrics().uptime > client.metrics().mobsters[0].uptime - 1
