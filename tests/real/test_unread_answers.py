"""Unread answers do not grow without limit in the process that gave them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from mob.peer.serving.limits import UNREAD
from tests.patience import patient
from tests.running import RunningApp, apps_in, wait_until

BACK = """
import os

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

def plain():
    return "x" * 1_000_000

async def task():
    return "x" * 1_000_000

import mob

@mob.export(concurrency=2)
async def gated():
    return "x" * 1_000_000

@mob.on("message")
def note(path):  # which has come behind the calls, so all of them have begun, or wait in the queue of their export
    open(path, "w").close()

mob.export(resident), mob.export(plain), mob.export(task)
"""
FRONT = """
import asyncio, os, time
import mob

back = mob.require("back")

async def flood(pid, name, count, path):  # for a `def` that blocks, a thread would read
    calls = [getattr(back.options(pid=pid), name)() for _ in range(count)]
    mob.pid(pid).send(path + ".come")
    await asyncio.sleep(0)  # so that they are sent
    while not os.path.exists(path):  # blocks, and reads no answer
        time.sleep(0.01)
    return [(type(call.exception()).__name__, getattr(call.exception(), "executed", "")) for call in calls]
"""
COUNT = 200


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    with apps_in(tmp_path_factory.mktemp("unread")) as apps:
        app = apps.start('.role("back", "./back.py").role("front", "./front.py")', back=BACK, front=FRONT)
        app.wait_ready()
        yield app


@pytest.mark.parametrize("name", ["plain", "task", "gated"])
def test_calls_of_one_that_does_not_read_are_refused(app: RunningApp, tmp_path: Path, name: str) -> None:
    client, go = app.connect(), tmp_path / "go"
    back, front = client.require("back"), client.require("front")
    before = back.resident().result(patient(20))
    (row,) = (row for row in client.overview() if row.role == "back")
    flood = front.flood(row.pid, name, COUNT, str(go))

    wait_until((tmp_path / "go.come").exists, "the calls have come")
    for _ in range(COUNT):  # gated calls of two callers take turns, so none of the flood is left after as many
        assert getattr(back, name)().result(patient(60))
    after = back.resident().result(patient(20))
    go.touch()
    outcomes = Counter(map(tuple, flood.result(patient(60))))
    assert set(outcomes) == {("NoneType", ""), ("Busy", "no")}
    assert outcomes["NoneType", ""] >= UNREAD // 1_000_000
    assert after - before < 6 * UNREAD  # what was under way is answered, and encoded twice
    assert back.plain().result(patient(20))
