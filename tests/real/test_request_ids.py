"""One id in all log records of one request, in all roles that it reaches."""

from __future__ import annotations

import http.client
import json
import re
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.patience import patient
from tests.real.test_traces import SETUP
from tests.running import Apps, RunningApp

FRONT = """
    import logging, mob

    log, back = logging.getLogger("front"), mob.require("back")

    def asked(name):
        log.warning(name)
        return back.work(name).result()

    async def app(scope, receive, send):
        name = scope["path"][1:]
        log.warning(name)
        await back.work(name)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})
    """
BACK = """
    import logging, mob

    log, deep = logging.getLogger("back"), mob.require("deep")

    async def work(name):
        log.warning(name)
        await deep.plain(name)
        async for _ in deep.rows(name):
            pass
        await deep.call_back(lambda: log.warning(name))
        mob.any("deep").send(name)
    """
DEEP = """
    import logging, mob

    log = logging.getLogger("deep")

    def plain(name):
        log.warning(name)

    def rows(name):
        yield 1
        log.warning(name)

    async def call_back(f):
        await f()

    @mob.on("message")
    async def heard(name):
        log.warning(name)
    """
HOPS = ["back", "back", "deep", "deep", "deep", "front"]


def start(apps: Apps, more: str = "", **roles: Any) -> RunningApp:
    path = apps.directory / "front.sock"
    app = apps.start(
        f'.logs(format="json"){more}.role("deep", "./deep.py").role("back", "./back.py")'
        f'.role("front", "./front.py:app", serve="unix:{path}")',
        front=FRONT,
        back=BACK,
        deep=DEEP,
        **roles,
    )
    app.wait_ready(3)
    return app


def get(path: Path, name: str, headers: dict[str, str]) -> None:
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(path))
    connection.request("GET", f"/{name}", headers=headers)
    assert connection.getresponse().status == 200
    connection.close()


def records(app: RunningApp, name: str) -> list[dict[str, Any]]:
    """Return what was logged under that name, when all of it is there."""
    app.wait_for(f'"message":"{name}"', len(HOPS))
    found = [json.loads(line) for line in app.lines if f'"message":"{name}"' in line]
    assert sorted(each["logger"] for each in found) == HOPS
    return found


PARENT = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.mark.parametrize("traces", [False, True], ids=["plain", "traces"])
def test_all_records_of_a_request_have_one_id(apps: Apps, traces: bool) -> None:
    app = start(apps, '.trace("tracing:setup")', tracing=SETUP) if traces else start(apps)
    client = app.clients[0]
    seen: set[str] = set()

    def id_of(name: str) -> str:
        (found,) = {each["request_id"] for each in records(app, name)}
        assert found not in seen
        seen.add(found)
        return found

    path = apps.directory / "front.sock"
    for name in ("one", "two"):
        get(path, name, {})
        assert re.fullmatch("[0-9a-f]{32}", id_of(name))
    get(path, "parent", {"Traceparent": f"00-{PARENT}-00f067aa0ba902b7-01"})
    assert id_of("parent") == PARENT
    get(path, "named", {"X-Request-ID": "order-4711"})
    assert (id_of("named") == "order-4711") is not traces
    get(path, "bad", {"X-Request-ID": 'no "id"'})
    assert re.fullmatch("[0-9a-f]{32}", id_of("bad"))
    for name in ("call", "again"):
        client.require("front").asked(name).result(patient(30))
        assert re.fullmatch("[0-9a-f]{32}" if traces else r"\d+-\d+", id_of(name))
    if traces:
        spans = [json.loads(line) for line in (apps.directory / "spans.jsonl").read_text().splitlines()]
        assert {f"{span['trace']:032x}" for span in spans} >= seen
