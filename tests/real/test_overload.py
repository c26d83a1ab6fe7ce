"""Slow calls hold nobody up, and what is too much is refused."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

import mob
from tests.running import Apps, RunningApp, apps_in, wait_until

BACK = """
import asyncio, os, time
import mob

def work(seconds):
    time.sleep(seconds)
    return os.getpid()

async def wait(seconds):
    await asyncio.sleep(seconds)
"""


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    with apps_in(tmp_path_factory.mktemp("overload")) as apps:
        app = apps.start('.role("back", "./back.py", workers=3)', back=BACK)
        app.wait_ready()
        yield app


def test_no_call_waits_behind_a_slow_one_while_another_worker_idles(app: RunningApp) -> None:
    client = app.connect()
    back = client.require("back")
    for member in app.ready(client, "back"):  # all learn that a call takes its time
        back.options(pid=member.pid).work(0.02).result(20)
    slow = back.work(3)
    begun = time.monotonic()
    pids = {call.result(20) for call in [back.work(0.005) for _ in range(60)]}
    assert time.monotonic() - begun < 2.5
    assert not slow.done()
    assert len(pids) == 2
    assert slow.result(20) not in pids


def test_another_caller_sees_the_slow_call_too(app: RunningApp) -> None:
    client = app.connect()
    one, other = client.require("back"), app.connect().require("back")
    slow = one.work(3)
    board = client._peer.board
    assert board is not None
    wait_until(lambda: any(board.load(member.uid) for member in app.ready(client, "back")), "it has begun")
    begun = time.monotonic()
    for _ in range(20):
        other.work(0.005).result(20)
    assert time.monotonic() - begun < 2.5
    assert not slow.done()
    slow.result(20)


def test_a_full_queue_refuses(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py", queue=5)', back=BACK)
    back = app.wait_ready().require("back")
    calls = [back.work(0.05) for _ in range(40)]
    errors = [error for call in calls if (error := call.exception(20)) is not None]
    assert errors
    assert {type(error) for error in errors} == {mob.Busy}
    assert {error.executed for error in errors if isinstance(error, mob.Busy)} == {"no"}
    assert len(errors) < 40
