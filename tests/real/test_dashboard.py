"""The dashboard of real apps, as programs ask it: the feed, actions, metrics, and what becomes of it in bad times."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

import mob
from tests.patience import patient
from tests.running import Apps, RunningApp, free_port, wait_until

TOKEN = "the-token-of-the-tests"
BACK = """
    import os, time
    def foo(n):
        print("foo", n)
        return n + 1
    def die():
        os._exit(3)
    def block(seconds):
        time.sleep(seconds)
    """


class Site:
    """A dashboard, as a program sees it."""

    def __init__(self, port: int) -> None:
        self.port = port

    def ask(
        self, path: str, method: str = "GET", body: Any = None, token: str = "", **headers: str
    ) -> tuple[int, dict[str, str], str]:
        """Status, headers in lower case, and body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=patient(30))
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if token:
            named["X-Mob-Token"] = token
        try:
            connection.request(method, path, None if body is None else json.dumps(body), named)
            answer = connection.getresponse()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read().decode()
        finally:
            connection.close()

    def act(self, name: str, body: Any, token: str = TOKEN) -> tuple[int, dict[str, Any]]:
        """What an action is answered."""
        status, _, text = self.ask(f"/api/{name}", "POST", body, token)
        return status, json.loads(text)

    def events(self) -> Iterator[tuple[str, Any]]:
        """The feed, until it ends."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=patient(30))
        connection.request("GET", "/api/feed")
        answer = connection.getresponse()
        assert answer.status == 200
        assert answer.getheader("content-type") == "text/event-stream"
        try:
            kind = ""
            while line := answer.readline().decode():
                name, _, value = line.rstrip("\n").partition(": ")
                if name == "event":
                    kind = value
                elif name == "data":
                    yield kind, json.loads(value)
        finally:
            connection.close()

    def next(self, events: Iterator[tuple[str, Any]], kind: str) -> Any:
        """The data of the next event of a kind."""
        return next(data for name, data in events if name == kind)


def start(apps: Apps, workers: int = 2, dashboard: str = "", **more: Any) -> tuple[RunningApp, mob.Client, Site]:
    port = free_port()
    roles = f'.role("back", "./back.py", workers={workers}).dashboard(port={port}, {dashboard or f"token={TOKEN!r}"})'
    app = apps.start(roles, back=BACK, **more)
    return app, app.wait_ready(), Site(port)


def can_ask(site: Site) -> bool:
    with contextlib.suppress(OSError, http.client.HTTPException):
        return site.ask("/")[0] == 200
    return False


def test_what_it_answers_and_what_it_refuses(apps: Apps) -> None:
    _, client, site = start(apps)
    status, headers, page = site.ask("/")
    assert status == 200
    assert headers["content-type"].startswith("text/html")
    assert headers["content-security-policy"].startswith("default-src 'self'")
    assert headers["x-frame-options"] == "DENY"
    assert headers["cache-control"] == "no-store"
    assert "<script>" not in page
    assert "style=" not in page
    for path in re.findall(r'(?:src|href)="(/[^"]*)"', page):
        assert site.ask(path)[0] == 200, path
    for path in ("/nothing", "/static/../app.py", "/static/%2e%2e/app.py", "/api/", "/docs"):
        status, headers, text = site.ask(path)
        assert (status, headers["x-content-type-options"]) == (404, "nosniff"), path
        assert "There is nothing at" in text
    for path in ("/", "/api/feed", "/api/crashes", "/metrics", "/static/app.js", "/nothing"):
        assert site.ask(path, Host="evil.example")[0] == 403, path
        assert site.ask(path, Origin="http://evil.example")[0] == 403, path
        assert site.ask(path, Sec_Fetch_Site="cross-site")[0] == 403, path
        assert not [name for name in site.ask(path, Origin="http://evil.example")[1] if "access-control" in name]
    assert site.ask("/api/crashes", "DELETE")[0] == 405
    assert site.ask("/api/scale", "GET", token=TOKEN)[0] == 405
    for name in ("scale", "reload", "restart", "stacks", "login"):
        assert site.act(name, {}, token="")[0] == 401
        assert site.act(name, {}, token="wrong")[0] == 401
        assert site.ask(f"/api/{name}", "POST", {}, TOKEN, Origin="http://evil.example")[0] == 403
    assert len(client.members()) == 4, "nothing of that has done anything"


def test_there_is_no_websocket(apps: Apps) -> None:
    _, _, site = start(apps)
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "x"}
    assert site.ask("/", **upgrade)[0] == 200, "it is answered as any request"


def test_actions_with_the_token(apps: Apps) -> None:
    app, client, site = start(apps)
    assert site.act("scale", {"role": "back", "change": 1}) == (200, {"text": "back: 3 workers wanted, 2 ready."})
    wait_until(lambda: len(app.ready(client, "back")) == 3, "there is one worker more")
    victim = app.ready(client, "back")[0]
    status, answer = site.act("stacks", {"uid": victim.uid})
    assert status == 200
    assert "MainThread" in answer["text"] or "Thread" in answer["text"]
    assert site.act("restart", {"pid": victim.pid})[0] == 200
    wait_until(lambda: victim.pid not in [m.pid for m in app.ready(client, "back")], "another one is in its place")
    wait_until(lambda: len(app.ready(client, "back")) == 3, "all are back")
    before = {m.pid for m in app.ready(client, "back")}
    assert site.act("reload", {"roles": ["back"]})[0] == 200
    wait_until(lambda: not before & {m.pid for m in app.ready(client, "back")}, "all are new ones")


SENSELESS = [
    ("scale", {"role": "bock", "change": 1}, 409, "this app has no role 'bock'. Did you mean 'back'?"),
    ("scale", {"role": "back"}, 400, "missing required field `change`"),
    ("scale", {"role": "back", "change": "1"}, 400, "Expected `int`, got `str`"),
    ("scale", {"role": "back", "change": 1, "x": 2}, 400, "unknown field `x`"),
    ("scale", {"role": "back", "change": -9}, 409, ""),
    ("restart", {}, 400, 'expected a role or a pid: {"role": "back"} or {"pid": 4242}.'),
    ("restart", {"pid": 1}, 409, ""),
    ("reload", {"roles": ["nobody"]}, 409, "this app has no role 'nobody'"),
    ("stacks", {"uid": 99999}, 409, "no longer exists"),
    ("stacks", [], 400, "Expected `object`, got `array`"),
    ("scale", "x" * 20_000, 413, "may have at most 16,384 bytes"),
]


def test_what_makes_no_sense_is_told(apps: Apps) -> None:
    _, _, site = start(apps)
    for name, body, expected, text in SENSELESS:
        status, answer = site.act(name, body)
        assert (status, text in answer["error"]) == (expected, True), (name, body, answer)


def test_metrics_for_prometheus(apps: Apps) -> None:
    _, client, site = start(apps)
    for number in range(20):
        client.require("back").foo(number).result(patient(10))

    def served() -> float:
        status, headers, text = site.ask("/metrics")
        assert status == 200
        assert headers["content-type"].startswith("text/plain; version=0.0.4")
        samples = [each for family in text_string_to_metric_families(text) for each in family.samples]
        return sum(each.value for each in samples if each.name == "mob_calls_total" and each.labels["export"] == "foo")

    wait_until(lambda: served() == 20, "all calls are counted")


def test_the_feed_tells_what_happens(apps: Apps) -> None:
    app, client, site = start(apps)
    events = site.events()
    whole = site.next(events, "whole")
    assert whole["head"]["app"] == app.name
    assert set(whole["roles"]["put"]) == {"back", "dashboard"}
    victim = app.ready(client, "back")[0]
    assert whole["mobsters"]["put"][str(victim.uid)]["pid"] == victim.pid
    client.require("back").foo(41).result(patient(10))
    assert "foo 41" in [line[5] for line in site.next(events, "lines")["lines"]]
    os.kill(victim.pid, signal.SIGKILL)
    told = next(data for kind, data in events if kind == "tick" and str(victim.uid) in data["mobsters"]["gone"])
    while not any(kind == "crash" for _, kind, _ in told["events"]):
        told = site.next(events, "tick")
    reports = json.loads(site.ask("/api/crashes")[2])
    assert [report["pid"] for report in reports] == [victim.pid]
    assert "SIGKILL" in reports[0]["text"]


def test_its_death_hurts_nobody(apps: Apps) -> None:
    app, client, site = start(apps)
    others = [m.pid for m in app.ready(client, "back")]
    for _ in range(2):
        dead = app.ready(client, "dashboard")[0]
        os.kill(dead.pid, signal.SIGKILL)
        assert client.require("back").foo(1).result(patient(10)) == 2
        wait_until(
            lambda dead=dead: [m.pid for m in app.ready(client, "dashboard")] not in ([], [dead.pid]), "it is back"
        )
    assert [m.pid for m in app.ready(client, "back")] == others
    assert site.act("scale", {"role": "back", "change": 1})[0] == 200, "the token is the same"


def test_a_reload_ends_streams_and_need_not_wait_for_them(apps: Apps) -> None:
    app, client, site = start(apps)
    streams = [site.events() for _ in range(3)]
    for each in streams:
        site.next(each, "whole")
    old = app.ready(client, "dashboard")[0].pid
    began = time.monotonic()
    client.reload("dashboard")
    for each in streams:
        assert [kind for kind, _ in each if kind == "whole"] == [], "the stream ends"
    wait_until(lambda: old not in [m.pid for m in client.members()], "the old one has gone")
    assert time.monotonic() - began < patient(5)
    assert site.next(site.events(), "whole")


def test_it_can_reload_itself(apps: Apps) -> None:
    app, client, site = start(apps)
    before = {m.pid for m in app.ready(client)}
    assert site.act("reload", {})[0] == 200
    wait_until(lambda: not before & {m.pid for m in app.ready(client)}, "all are new ones")
    wait_until(lambda: len(app.ready(client)) == 3, "all are ready")


def test_an_app_with_viewers_stops_soon(apps: Apps) -> None:
    app, _, site = start(apps)
    events = site.events()
    site.next(events, "whole")
    began = time.monotonic()
    assert app.stop() == 0
    assert time.monotonic() - began < patient(6)
    app.wait_gone()


def test_one_who_does_not_read_delays_nothing(apps: Apps) -> None:
    app, client, site = start(apps)
    with socket.create_connection(("127.0.0.1", site.port)) as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        deaf.sendall(b"GET /api/feed HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n" % site.port)
        events = site.events()
        site.next(events, "whole")
        began = time.monotonic()
        client.reload("dashboard")
        old = app.ready(client, "dashboard")[0].pid
        assert old
        assert app.stop() == 0
        assert time.monotonic() - began < patient(12)


def test_the_token_is_made_up_and_printed_and_no_log_has_it(apps: Apps) -> None:
    app, _, site = start(apps)
    found = app.wait_for(rf"^dashboard: http://127\.0\.0\.1:{site.port}/(#token=(\S+))?$")
    assert found[0][2] is None, "one that was given is known"
    port = free_port()
    other = apps.start(f'.role("back", "./back.py").dashboard(port={port})', back=BACK)
    ready = other.wait_ready()
    token = other.wait_for(rf"^dashboard: http://127\.0\.0\.1:{port}/#token=(\S+)$")[0][1]
    answer = Site(port).act("scale", {"role": "back", "change": 1}, token)
    assert answer == (200, {"text": "back: 2 workers wanted, 1 ready."})
    assert not [line for line in ready.logs(last=1000) if token in line.text]
    os.kill(other.ready(ready, "dashboard")[0].pid, signal.SIGKILL)
    wait_until(lambda: can_ask(Site(port)), "another one serves")
    assert Site(port).act("scale", {"role": "back", "change": 1}, token)[0] == 200


def test_a_kingpin_with_new_code_has_the_same_token(apps: Apps) -> None:
    port = free_port()
    app = apps.start(f'.role("back", "./back.py").dashboard(port={port})', back=BACK)
    client = app.wait_ready()
    pattern = rf"^dashboard: http://127\.0\.0\.1:{port}/#token=(\S+)$"
    token = app.wait_for(pattern)[0][1]
    client.upgrade(30)
    assert {found[1] for found in app.wait_for(pattern, 2)} == {token}
    again = app.wait_ready(2)
    again.reload("dashboard")
    assert Site(port).act("scale", {"role": "back", "change": 1}, token)[0] == 200


def test_beyond_the_loopback_nothing_is_shown_without_the_token(apps: Apps) -> None:
    _, _, site = start(apps, dashboard=f"host='0.0.0.0', token={TOKEN!r}")
    for path in ("/api/feed", "/api/crashes", "/metrics"):
        assert site.ask(path)[0] == 401, path
        assert site.ask(path, Authorization="Bearer wrong")[0] == 401, path
    assert site.ask("/")[0] == 200, "the page is in every copy of mob"
    assert site.ask("/metrics", Authorization=f"Bearer {TOKEN}")[0] == 200
    assert site.ask("/api/login", "POST", {}, "wrong")[0] == 401
    status, headers, _ = site.ask("/api/login", "POST", {}, TOKEN)
    assert status == 200
    cookie, _, attributes = headers["set-cookie"].partition("; ")
    assert attributes == "Path=/; HttpOnly; SameSite=Strict"
    assert site.ask("/api/crashes", Cookie=cookie)[0] == 200
    assert site.ask("/api/scale", "POST", {"role": "back", "change": 1}, Cookie=cookie)[0] == 401


def test_a_port_that_is_held_is_told(apps: Apps) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        app = apps.start(f'.role("back", "./back.py").dashboard(port={port})', back=BACK)
        app.wait_ready(1)
        app.wait_for(rf"127\.0\.0\.1:{port}.*")


@pytest.mark.parametrize("module", ["starlette", "uvicorn", "mob.dashboard"])
def test_other_mobsters_load_nothing_of_it(apps: Apps, module: str) -> None:
    port = free_port()
    app = apps.start(
        f'.role("back", "./back.py").dashboard(port={port})',
        back="import sys\ndef has(name): return name in sys.modules",
    )
    assert app.wait_ready().require("back").has(module).result(patient(10)) is False
