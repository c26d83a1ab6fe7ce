"""What calls, callbacks, clients and deaths used is released: descriptors, memory and entries of tables.

Every test measures, does something very often, and measures again; the values settle within moments, not immediately.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import pytest

import mob
from tests.patience import patient
from tests.running import RunningApp, apps_in, wait_until

SIZES = """
import gc

from mob.mobster import api

def sizes():
    gc.collect()
    peer = api.current("sizes")
    found = {**peer.statistics(), "contacts": len(list(peer.contacts)), "members": len(peer.context.roster)}
    del found["served"]
    return found
"""

RIGHT = """
import os
import sizes

kept = {}

def statistics():
    return sizes.sizes()

async def call_back(function, number):
    return await function(number)

def call_back_by_hand(function, number):
    return function(number).result()

def keep(function, number):
    kept[number] = function

async def call_kept(number):
    return await kept.pop(number)(number)

def forget():
    kept.clear()

def who():
    return os.getpid()
"""

LEFT = """
import asyncio
import mob
import sizes

right = mob.require("right")

def statistics():
    return sizes.sizes()

async def in_coroutines(count):
    async def one(number):
        assert await right.call_back(lambda n: 2 * n, number) == 2 * number

    for start in range(0, count, 100):
        await asyncio.gather(*map(one, range(start, start + 100)))

def by_hand(count):
    for number in range(count):
        assert right.call_back_by_hand(lambda n: 2 * n, number).result() == 2 * number

async def in_threads(count):
    def some():
        for number in range(count // 4):
            assert right.call_back(lambda n: 2 * n, number).result() == 2 * number

    await asyncio.gather(*(asyncio.to_thread(some) for _ in range(4)))

async def for_later(count):
    await asyncio.gather(*(right.keep(lambda n: 2 * n, number) for number in range(count)))
    for number in range(count):
        assert await right.call_kept(number) == 2 * number

async def cancelled(count):
    async def hang(number):
        await asyncio.Event().wait()

    for _ in range(count // 50):
        calls = [right.call_back(hang, number) for number in range(50)]
        await right.call_back(lambda n: n, 0)
        for call in calls:
            call.cancel()

def failing(count):
    def fail(number):
        raise ValueError(number)

    for number in range(count):
        assert isinstance(right.call_back(fail, number).exception(), ValueError)
"""

MIB = 1024 * 1024
PROMPT = patient(10.0)
"""Seconds within which everything settles on a loaded machine."""


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    with apps_in(tmp_path_factory.mktemp("leaks")) as apps:
        apps.write(sizes=SIZES)
        app = apps.start(
            '.role("left", "./left.py").role("right", "./right.py").role("mortal", "./right.py", workers=5)',
            left=LEFT,
            right=RIGHT,
        )
        client = app.wait_ready()
        for role in ("left", "right", "mortal"):
            client.all(role).call.statistics().result(PROMPT)  # all links of this client exist
        yield app


def descriptors(app: RunningApp, besides: str = "") -> dict[str, int]:
    """Return the open descriptors of the Kingpin, the fork server, and each mobster that is not of that role."""
    kingpin = psutil.Process(app.process.pid)
    (fork_server,) = kingpin.children()
    counts = {"Kingpin": kingpin.num_fds(), "fork server": fork_server.num_fds()}
    for member in app.ready(app.clients[0]):
        if member.role != besides:
            counts[f"{member.role}.{member.index}"] = psutil.Process(member.pid).num_fds()
    return counts


def tables(app: RunningApp, *roles: str) -> dict[str, Any]:
    """Return the sizes of all tables of the mobsters of these roles."""
    client = app.clients[0]
    return {role: client.require(role).statistics().result(PROMPT) for role in roles}


def quiet_tables(app: RunningApp, *roles: str) -> dict[str, Any]:
    """Return their sizes once nothing is in progress and no function is lent or held."""

    def measure() -> dict[str, Any] | None:
        found = tables(app, *roles)
        busy = [sizes[name] for sizes in found.values() for name in ("pending", "in_hand", "lent", "held")]
        return None if any(busy) else found

    found = wait_until(measure, f"{', '.join(roles)} are quiet", PROMPT)
    assert found is not None
    return found


def check_restored(measure: Callable[[], dict[str, Any]], before: dict[str, Any]) -> None:
    """Wait until everything is as before."""
    last: dict[str, Any] = {}

    def is_restored() -> bool:
        last.update(measure())
        return last == before

    try:
        wait_until(is_restored, "all is as before", PROMPT)
    except AssertionError:
        assert last == before
        raise


@pytest.mark.parametrize(
    ("way", "count"),
    [("in_coroutines", 10_000), ("by_hand", 1_000), ("in_threads", 2_000), ("for_later", 1_000), ("cancelled", 1_000)],
)
def test_callbacks_between_two_roles_leave_nothing(app: RunningApp, way: str, count: int) -> None:
    client = app.clients[0]
    exchange = getattr(client.require("left"), way)
    pids = [app.ready(client, role)[0].pid for role in ("left", "right")]
    exchange(count).result(patient(60))  # everything that is made only once is made now
    before, fds = quiet_tables(app, "left", "right"), descriptors(app)
    memory = [psutil.Process(pid).memory_info().rss for pid in pids]
    exchange(count).result(patient(60))
    check_restored(lambda: tables(app, "left", "right"), before)
    check_restored(lambda: descriptors(app), fds)
    grown = [psutil.Process(pid).memory_info().rss - rss for pid, rss in zip(pids, memory, strict=True)]
    assert max(grown) < 4 * MIB


def test_failing_callbacks_leave_nothing(app: RunningApp) -> None:
    client = app.clients[0]
    client.require("left").failing(100).result(patient(60))
    before = quiet_tables(app, "left", "right")
    client.require("left").failing(1_000).result(patient(60))
    check_restored(lambda: tables(app, "left", "right"), before)


def test_clients_that_come_and_go_leave_nothing(app: RunningApp) -> None:
    """Each makes calls with a callback, leaves one behind that was never called, and disconnects."""
    roles = ("left", "right", "mortal")
    before, fds = quiet_tables(app, *roles), descriptors(app)
    own = psutil.Process().num_fds()
    for number in range(50):
        with mob.connect(app.name) as visitor:
            right = visitor.require("right")
            assert right.call_back(lambda n: n + 1, number).result(PROMPT) == number + 1
            right.keep(print, number).result(PROMPT)
            visitor.all("mortal").call.who().result(PROMPT)
    assert tables(app, "right")["right"]["held"] == 50  # owned by dead clients, and held by the application
    app.clients[0].require("right").forget().result(PROMPT)
    check_restored(lambda: tables(app, *roles), before)
    check_restored(lambda: descriptors(app), fds)
    assert psutil.Process().num_fds() == own
    assert len(app.clients[0].members()) == 8


def test_deaths_leave_nothing(app: RunningApp) -> None:
    """`kill -9` twenty times in a row, each worker in turn."""
    client = app.clients[0]
    before = quiet_tables(app, "left", "right")
    fds, sources = descriptors(app, besides="mortal"), descriptors(app)
    for _ in range(20):
        doomed = min(app.ready(client, "mortal"), key=lambda member: (member.generation, member.index))
        client.require("mortal").options(pid=doomed.pid).who().result(PROMPT)
        os.kill(doomed.pid, signal.SIGKILL)
        wait_until(lambda: doomed not in client.members(), "its end is known", PROMPT)  # noqa: B023  asked at once
        wait_until(lambda: len(app.ready(client, "mortal")) == 5, "its successor is ready", PROMPT)
    assert {member.generation for member in app.ready(client, "mortal")} == {5}
    check_restored(lambda: tables(app, "left", "right"), before)
    check_restored(lambda: descriptors(app, besides="mortal"), fds)
    client.all("mortal").call.who().result(PROMPT)
    check_restored(lambda: descriptors(app), sources)
