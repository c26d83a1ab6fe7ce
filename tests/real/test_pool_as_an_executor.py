"""What code for `ProcessPoolExecutor` expects of any executor, besides results."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor
from multiprocessing.managers import SyncManager
from typing import Any

import pytest

import mob
from tests.patience import PATIENCE

SECONDS = 0.3


@pytest.fixture
def manager() -> Iterator[SyncManager]:
    with multiprocessing.get_context("spawn").Manager() as manager:
        yield manager


def raise_an_error() -> None:
    raise ValueError("no model")


@pytest.mark.parametrize("threads", [1, 2])
def test_a_worker_that_must_be_set_up_first_does_not_make_a_function_seem_short(threads: int) -> None:
    with mob.Pool(1, threads=threads) as pool:
        pool.submit(time.sleep, SECONDS).result(PATIENCE)
        tasks: Any = pool._tasks
        (export,) = tasks._exports.values()
        deadline = time.monotonic() + PATIENCE
        while not (microseconds := tasks.peer.context.cost_of(export.mark)):
            assert time.monotonic() < deadline, "nothing was measured"
        assert microseconds >= 0.9 * SECONDS * 1e6


def test_submit_raises_once_the_initializer_has_failed() -> None:
    with mob.Pool(1, initializer=raise_an_error) as pool:
        assert isinstance(pool.submit(int).exception(PATIENCE), BrokenExecutor)
        with pytest.raises(BrokenExecutor, match="its initializer raised ValueError: no model"):
            pool.submit(int)
        with pytest.raises(BrokenExecutor, match="its initializer raised ValueError: no model"):
            pool.map(abs, [1])


LATE = """
import atexit

@atexit.register
def run_last():
    for pool in (used, fresh):
        try:
            pool.submit(print, "too late")
        except RuntimeError as error:
            print(error)

import mob

if __name__ == "__main__":
    used, fresh = mob.Pool(1), mob.Pool(1)
    print(used.submit(pow, 2, 5).result())
"""


def test_submit_raises_when_the_interpreter_ends() -> None:
    ended = subprocess.run([sys.executable, "-c", LATE], capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert ended.stdout.splitlines() == ["32", *["cannot schedule new futures after shutdown"] * 2]
    assert not ended.stderr


def test_proxies_of_a_manager_can_be_sent(manager: SyncManager) -> None:
    started, queue = manager.Event(), manager.Queue()
    with mob.Pool(1, initializer=started.set) as pool:
        pool.submit(queue.put, "from a worker").result(PATIENCE)
    assert started.is_set()
    assert queue.get(timeout=PATIENCE) == "from a worker"


def test_a_lost_task_is_named_whatever_its_function_refers_to() -> None:
    changing: list[int] = []

    def die() -> None:
        os._exit(len(changing))

    with mob.Pool(1) as pool:
        assert "die was lost: pool.0" in str(pool.submit(die).exception(PATIENCE))
