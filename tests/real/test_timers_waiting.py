"""Which worker runs a timer: one that can begin it now, or else the first that becomes free."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TextIO

import pytest

import mob
from tests.patience import PATIENCE
from tests.real.test_idle import MOST, SECONDS, wakes
from tests.real.test_timers import known, runs, wait_timer
from tests.running import RunningApp, apps_in

BACK = """
import asyncio
import os
import mob


@mob.every(3600)
def rare():
    print(f"rare in {os.getpid()}", flush=True)


@mob.every(3600, each=True)
def everywhere(): ...


@mob.export
def hold(fifo):
    with open(fifo) as file:
        return file.read()  # until its writer closes it


may_end = asyncio.Event()


@mob.export
async def wait():
    print(f"waits in {os.getpid()}", flush=True)
    await may_end.wait()


@mob.export
async def end_waiting():
    may_end.set()
"""
TICKING = """

@mob.every(0.1)
def tick():
    print(f"tick in {os.getpid()}", flush=True)


@mob.every(0.1)
async def async_tick():
    print(f"async_tick in {os.getpid()}", flush=True)
"""


class Workers:
    """Two workers of one thread, each of which can be blocked by a call."""

    def __init__(self, app: RunningApp) -> None:
        self.app = app
        self.client = app.wait_ready()
        self.first, self.second = (member.pid for member in app.ready(self.client))
        self.back: Any = self.client.require("back")
        self._held: dict[int, tuple[TextIO, Any]] = {}

    def hold(self, pid: int) -> None:
        """Have a call run in a worker until it is released."""
        fifo = Path(self.app.directory) / f"fifo-{pid}"
        os.mkfifo(fifo)
        call = self.back.options(pid=pid).hold(str(fifo))
        self._held[pid] = fifo.open("w"), call  # opened as soon as the worker has opened it
        fifo.unlink()

    def let_go(self, pid: int) -> None:
        """End that call."""
        writer, call = self._held.pop(pid)
        writer.close()
        call.result(PATIENCE)

    def close(self) -> None:
        """Release everything, so that the app can end."""
        for writer, _ in self._held.values():
            writer.close()

    def run_in_worker(self, name: str, since: int) -> list[int]:
        """Return the workers in which runs were printed, from a line of the output on."""
        found = (re.search(rf"{name} in (\d+)", line) for line in self.app.lines[since:])
        return [int(each[1]) for each in found if each is not None]


@pytest.fixture
def ticking(tmp_path: Path) -> Iterator[Workers]:
    with apps_in(tmp_path) as apps:
        workers = Workers(apps.start('.role("back", "./back.py", workers=2)', back=BACK + TICKING))
        yield workers
        workers.close()


@pytest.fixture
def quiet(tmp_path: Path) -> Iterator[Workers]:
    with apps_in(tmp_path) as apps:
        workers = Workers(apps.start('.role("back", "./back.py", workers=2)', back=BACK))
        yield workers
        workers.close()


@pytest.mark.parametrize("name", ["tick", "async_tick"])
@pytest.mark.parametrize("at", [0, 1])
def test_a_worker_that_runs_a_long_call_gets_none_while_another_is_free(ticking: Workers, name: str, at: int) -> None:
    pids = ticking.first, ticking.second
    ticking.hold(pids[at])
    before, since = runs(known(ticking.client, f"back.{name}")), len(ticking.app.lines)
    wait_timer(ticking.client, f"back.{name}", lambda each: runs(each) >= before + 10, "goes on")
    assert set(ticking.run_in_worker(name, since)) == {pids[1 - at]}
    ticking.let_go(pids[at])


@pytest.mark.parametrize("name", ["tick", "async_tick"])
def test_calls_that_wait_beside_others_keep_no_timer_away(ticking: Workers, name: str) -> None:
    calls = [ticking.back.options(pid=ticking.first).wait() for _ in range(3)]
    ticking.app.wait_for(f"waits in {ticking.first}", count=3)
    ticking.hold(ticking.second)
    before, since = runs(known(ticking.client, f"back.{name}")), len(ticking.app.lines)
    wait_timer(ticking.client, f"back.{name}", lambda each: runs(each) >= before + 10, "goes on")
    assert set(ticking.run_in_worker(name, since)) == {ticking.first}
    ticking.back.options(pid=ticking.first).end_waiting().result(PATIENCE)
    for call in calls:
        call.result(PATIENCE)
    ticking.let_go(ticking.second)


@pytest.mark.parametrize("at", [0, 1])
def test_a_run_waits_for_the_first_worker_that_becomes_free(quiet: Workers, at: int) -> None:
    pids = quiet.first, quiet.second
    quiet.hold(pids[at])
    quiet.hold(pids[1 - at])
    with ThreadPoolExecutor(1) as pool:
        wish = pool.submit(quiet.client.run_timer, "back.rare", timeout=PATIENCE)
        found = wait_timer(quiet.client, "back.rare", lambda each: each.note, "waits")
        assert (found.note, found.running) == ("waits for a free worker of 'back'", 0)
        with pytest.raises(mob.MobError, match=r"back\.rare is already waiting for a free worker \(overlap=False\)"):
            quiet.client.run_timer("back.rare")
        quiet.let_go(pids[at])
        assert wish.result(PATIENCE).startswith("back.rare: ok after ")
    quiet.app.wait_for(f"rare in {pids[at]}")
    quiet.let_go(pids[1 - at])
    quiet.client.run_timer("back.rare")  # the other one has no run left over
    assert runs(known(quiet.client, "back.rare")) == 2


def test_runs_that_no_worker_was_free_for_are_missed_and_told_as_such(ticking: Workers) -> None:
    ticking.hold(ticking.first)
    ticking.hold(ticking.second)
    before, since = known(ticking.client, "back.tick").runs.get("missed", 0), len(ticking.app.lines)
    wait_timer(ticking.client, "back.tick", lambda each: each.runs.get("missed", 0) >= before + 3, "is missed")
    assert not [line for line in ticking.app.lines[since:] if "still running" in line]
    assert known(ticking.client, "back.tick").note == "waits for a free worker of 'back'"
    ticking.let_go(ticking.second)
    ticking.app.wait_for(r"timer back\.tick: \d+ runs missed: no worker of 'back' was free\.")
    ticking.let_go(ticking.first)


def test_what_a_run_takes_counts_from_its_beginning(quiet: Workers) -> None:
    quiet.hold(quiet.first)
    began = time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        wish = pool.submit(quiet.client.run_timer, "back.everywhere", timeout=PATIENCE)
        wait_timer(quiet.client, "back.everywhere", lambda each: each.running == 1, "waits in one worker")
        quiet.let_go(quiet.first)
        held = time.monotonic() - began
        wish.result(PATIENCE)
    assert known(quiet.client, "back.everywhere").seconds < held


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="proc(5)")
def test_a_run_that_waits_wakes_no_process(quiet: Workers) -> None:
    quiet.hold(quiet.first)
    quiet.hold(quiet.second)
    with ThreadPoolExecutor(1) as pool:
        wish = pool.submit(quiet.client.run_timer, "back.rare", timeout=PATIENCE)
        wait_timer(quiet.client, "back.rare", lambda each: each.note, "waits")
        before = wakes(quiet.app.process.pid)
        time.sleep(SECONDS)
        assert wakes(quiet.app.process.pid) - before <= MOST
        quiet.let_go(quiet.second)
        wish.result(PATIENCE)
    quiet.let_go(quiet.first)


def test_a_run_that_waits_outlives_an_upgrade_and_a_worker_that_dies(ticking: Workers) -> None:
    ticking.hold(ticking.first)
    ticking.hold(ticking.second)
    wait_timer(ticking.client, "back.tick", lambda each: each.note, "waits")
    ticking.client.upgrade(PATIENCE)
    ticking.let_go(ticking.second)
    before = runs(known(ticking.client, "back.tick"))
    wait_timer(ticking.client, "back.tick", lambda each: runs(each) > before, "goes on")
    ticking.hold(ticking.second)
    wait_timer(ticking.client, "back.tick", lambda each: each.note, "waits")
    os.kill(ticking.first, 9)
    before = runs(known(ticking.client, "back.tick"))
    wait_timer(ticking.client, "back.tick", lambda each: runs(each) > before, "goes on in its successor")
    ticking.let_go(ticking.second)
