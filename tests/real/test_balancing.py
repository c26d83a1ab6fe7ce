"""How calls are spread over the workers of a role, and that one worker keeps one state."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator

import pytest

import mob
from tests.patience import patient
from tests.running import RunningApp, apps_in, wait_until

WORKER = """
import asyncio
import os

def who():
    return os.getpid()

async def who_slowly():
    await asyncio.sleep(0.01)
    return os.getpid()

async def hold():
    await asyncio.Event().wait()
"""

COLLECTOR = """
import asyncio
import mob

workers = mob.require("worker")

def one_after_the_other(count):
    return [workers.who().result() for _ in range(count)]

async def all_at_once(count):
    return await asyncio.gather(*(workers.who_slowly() for _ in range(count)))
"""


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    with apps_in(tmp_path_factory.mktemp("balancing")) as apps:
        app = apps.start(
            '.role("worker", "./worker.py", workers=4).role("collector", "./collector.py")',
            worker=WORKER,
            collector=COLLECTOR,
        )
        app.wait_ready()
        yield app


@pytest.fixture(scope="module")
def client(app: RunningApp) -> mob.Client:
    return app.clients[0]


def pids_of_workers(app: RunningApp) -> set[int]:
    return {member.pid for member in app.ready(app.clients[0], "worker")}


def test_calls_one_after_the_other_go_to_each_worker_in_turn(app: RunningApp, client: mob.Client) -> None:
    served = Counter(client.require("collector").one_after_the_other(40).result(patient(20)))
    assert served == dict.fromkeys(pids_of_workers(app), 10)


def test_calls_at_once_are_shared_out_evenly(app: RunningApp, client: mob.Client) -> None:
    served = Counter(client.require("collector").all_at_once(200).result(patient(20)))
    assert set(served) == pids_of_workers(app)
    assert max(served.values()) - min(served.values()) <= 10


def test_calls_from_outside_are_spread_too(app: RunningApp, client: mob.Client) -> None:
    async def ask() -> list[int]:
        worker = client.require("worker")
        return await asyncio.gather(*(worker.who_slowly() for _ in range(200)))

    served = Counter(asyncio.run(ask()))
    assert set(served) == pids_of_workers(app)
    assert max(served.values()) - min(served.values()) <= 10


def test_a_worker_with_calls_outstanding_gets_no_more_while_others_are_free(
    app: RunningApp, client: mob.Client
) -> None:
    busy = app.ready(client, "worker")[2].pid
    worker = client.require("worker")
    held = [worker.options(pid=busy).hold() for _ in range(3)]
    free = dict.fromkeys(pids_of_workers(app) - {busy}, 10)
    wait_until(  # a worker may still have to report that earlier calls ended
        lambda: Counter(worker.who().result(patient(20)) for _ in range(30)) == free, "the free ones get their turns"
    )
    for call in held:
        call.cancel()
