"""A pool whose app dies or is blocked: every future ends."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor
from pathlib import Path

import psutil
import pytest

import mob
from tests.patience import PATIENCE
from tests.running import wait_until


def block(path: str) -> str:
    return Path(path).read_text("ascii")


def child(title: str) -> psutil.Process:
    """Return the process of a pool's app with that text in its title."""
    for each in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # a process that has just ended
            if title in " ".join(each.cmdline()):
                return each
    raise AssertionError(f"there is no {title}")


@pytest.fixture
def pool() -> Iterator[mob.Pool]:
    with mob.Pool(2, max_memory=1 << 40) as pool:  # a kind of its own, so that other pools do not take over its app
        yield pool


@pytest.fixture
def gate(tmp_path: Path) -> str:
    path = str(tmp_path / "gate")
    os.mkfifo(path)
    return path


def test_the_kingpin_dies_and_all_futures_end(pool: mob.Pool, gate: str) -> None:
    pool.submit(pow, 2, 3).result(PATIENCE)
    futures = [pool.submit(block, gate) for _ in range(5000)]
    # Not always the first: a worker that is not set up yet turns it down, and it is sent again behind others.
    wait_until(lambda: any(each.running() for each in futures[:100]), "the first ones run")
    child("(kingpin)").kill()
    errors = [future.exception(PATIENCE) for future in futures]
    assert {type(error) for error in errors} <= {mob.Lost, BrokenExecutor}
    assert isinstance(errors[-1], BrokenExecutor)
    assert isinstance(pool.submit(pow, 2, 3).exception(PATIENCE), BrokenExecutor)
    pool.shutdown()
    with mob.Pool(2, max_memory=1 << 40) as another:
        assert another.submit(pow, 2, 3).result(PATIENCE) == 8


def test_workers_that_cannot_start_break_the_pool() -> None:
    with mob.Pool(1, env={"OPENBLAS_NUM_THREADS": "1"}, preload=("numpy",)) as pool:
        assert isinstance(pool.submit(pow, 2, 3).exception(PATIENCE), BrokenExecutor)


def test_the_fork_server_dies_and_nothing_is_lost(pool: mob.Pool) -> None:
    pool.submit(pow, 2, 3).result(PATIENCE)
    child("(fork server)").kill()
    assert list(pool.map(abs, range(-1000, 0))) == list(range(1000, 0, -1))
    assert isinstance(pool.submit(os._exit, 3).exception(PATIENCE), mob.Lost)
    assert isinstance(pool.submit(os._exit, 3).exception(PATIENCE), BrokenExecutor)
    assert pool.submit(pow, 2, 3).result(PATIENCE) == 8


def test_a_worker_that_stands_still_for_a_while_loses_nothing(pool: mob.Pool) -> None:
    list(pool.map(abs, range(100)))
    wait_until(lambda: len(pool.pids) == 2, "both are ready")
    frozen = pool.pids[0]
    os.kill(frozen, signal.SIGSTOP)
    try:
        futures = [pool.submit(pow, 2, i) for i in range(300)]
        wait_until(lambda: any(future.done() for future in futures), "the other one works")
    finally:
        os.kill(frozen, signal.SIGCONT)
    assert [future.result(PATIENCE) for future in futures] == [2**i for i in range(300)]


def test_thousands_that_cannot_be_sent_fail_one_after_the_other(pool: mob.Pool) -> None:
    pool.submit(pow, 2, 3).result(PATIENCE)
    futures = [pool.submit(id, threading.Lock()) for _ in range(3000)]
    assert all(isinstance(future.exception(PATIENCE), mob.BadMessage) for future in futures)
    assert pool.submit(pow, 2, 3).result(PATIENCE) == 8
