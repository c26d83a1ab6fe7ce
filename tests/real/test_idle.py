"""A process that waits uses no CPU: it wakes for its heartbeat and for what happens, and looks at nothing at intervals.

Counted are the times at which a process has gone to sleep by itself (`voluntary_ctxt_switches` of proc(5)): a busy
machine makes them no more. The bounds are far above the heartbeats, and far below any look at intervals that mob had.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import urllib.request
from pathlib import Path

import pytest

from tests.patience import patient
from tests.running import Apps, free_port

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="proc(5)")
SECONDS = 2.0
MOST = 60
"""Wake-ups within that time. A look each 10 ms would make 200."""
COUNTING = """
import asyncio, os

def wakes():
    with open(f"/proc/self/task/{os.getpid()}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("voluntary_ctxt"))

async def hold(seconds):
    before = wakes()
    await asyncio.sleep(seconds)
    return wakes() - before
"""


def wakes(pid: int) -> int:
    """How often all threads of a process have gone to sleep."""
    lines = [line for status in Path(f"/proc/{pid}/task").glob("*/status") for line in status.read_text().splitlines()]
    return sum(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt"))


def test_idle_processes_wake_for_their_heartbeats_only(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py", workers=2)', back="def foo(): return 1")
    client = app.wait_ready()
    assert client.require("back").foo().result() == 1
    pids = [app.process.pid, os.getpid(), *(member.pid for member in app.ready(client))]
    time.sleep(0.5)  # what belongs to the start is over, mostly
    before = [wakes(pid) for pid in pids]
    time.sleep(SECONDS)
    after = [wakes(pid) for pid in pids]
    assert max(now - then for now, then in zip(after, before, strict=True)) <= MOST


def test_a_store_that_nobody_uses_wakes_for_its_heartbeats_only(apps: Apps, tmp_path: Path) -> None:
    app = apps.start(f'.store("cache", file={str(tmp_path / "store.db")!r})')
    client = app.wait_ready()
    cache = client.store("cache")
    cache.set("a", 1, ttl=3600).result()
    changes = cache.watch("a")
    with cache.lock("a", ttl=3600), cache.lock("b"):
        time.sleep(1.5)  # it tells its metrics once
        (store,) = [member.pid for member in app.ready(client)]
        before = wakes(store)
        time.sleep(SECONDS)
        assert wakes(store) - before <= MOST
    changes.close()


def test_a_worker_that_ends_waits_for_its_calls_without_looking_for_them(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py")', back=COUNTING)
    client = app.wait_ready()
    held = client.require("back").hold(SECONDS)
    client.restart("back")
    assert held.result() <= MOST


def test_a_web_worker_that_ends_waits_for_its_requests_without_looking_for_them(apps: Apps) -> None:
    application = f"""
async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    begun.set()
    count = await hold({SECONDS})
    await send({{"type": "http.response.start", "status": 200, "headers": []}})
    await send({{"type": "http.response.body", "body": str(count).encode()}})

begun = asyncio.Event()

async def wait_begun():
    await begun.wait()
"""
    port = free_port()
    app = apps.start(f'.role("web", "./web.py:app", serve="127.0.0.1:{port}")', web=COUNTING + application)
    client = app.wait_ready()
    answers: list[int] = []

    def ask() -> None:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=patient(30)) as answer:
            answers.append(int(answer.read()))

    asking = threading.Thread(target=ask)
    asking.start()
    client.require("web").wait_begun().result()
    client.restart("web")
    asking.join()
    assert answers[0] <= MOST
