"""Tasks of a pool that wait in a worker behind a long one: they go to another worker, and none runs twice."""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

import mob
from mob.peer.calls.taking_back import take_back
from mob.rim import barriers
from tests.patience import PATIENCE
from tests.running import wait_until

pytestmark = pytest.mark.skipif(not barriers.expect(), reason="the system has no barriers for other processes")

WARM = 300
"""Number of calls after which a function is known to take no time."""


def touch(path: str, mode: int) -> int:
    """Open a file and close it: at once, or, for a fifo, as soon as its other end is opened."""
    os.close(os.open(path, mode))
    return os.getpid()


def note(path: str, number: int, seconds: float) -> int:
    """Append a number to a file, in one piece, and sleep."""
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, f"{number}\n".encode())
    os.close(file)
    if seconds:
        time.sleep(seconds)
    return number


@pytest.fixture
def fast(tmp_path: Path) -> str:
    (tmp_path / "fast").touch()
    return str(tmp_path / "fast")


@pytest.fixture
def slow(tmp_path: Path) -> str:
    os.mkfifo(tmp_path / "slow")
    return str(tmp_path / "slow")


def warm(pool: mob.Pool, fast: str) -> None:
    for _ in range(WARM):
        pool.submit(touch, fast, os.O_RDONLY).result(PATIENCE)


@pytest.mark.parametrize("threads", [1, 2])
def test_what_waits_behind_long_tasks_goes_to_another_worker(fast: str, slow: str, threads: int) -> None:
    with mob.Pool(2, threads=threads) as pool:
        warm(pool, fast)
        long = [pool.submit(touch, slow, os.O_RDONLY) for _ in range(threads)]
        short = [pool.submit(touch, fast, os.O_RDONLY) for _ in range(200)]
        for each in short:
            each.result(PATIENCE)
        assert not any(each.done() for each in long)
        os.close(os.open(slow, os.O_WRONLY))
        for each in long:
            each.result(PATIENCE)


def test_two_long_tasks_run_at_once(fast: str, slow: str) -> None:
    with mob.Pool(2) as pool:
        warm(pool, fast)
        ends = [pool.submit(touch, slow, mode) for mode in (os.O_RDONLY, os.O_WRONLY)]
        assert len({each.result(PATIENCE) for each in ends}) == 2


def test_chunks_of_a_map_go_to_another_worker(fast: str, slow: str) -> None:
    with mob.Pool(2) as pool:
        warm(pool, fast)
        paths = [slow] + [fast] * 99
        results = pool.map(touch, paths, [os.O_RDONLY] * 100, chunksize=1)
        others = [pool.submit(touch, fast, os.O_RDONLY) for _ in range(100)]
        for each in others:
            each.result(PATIENCE)
        os.close(os.open(slow, os.O_WRONLY))
        assert len(list(results)) == 100


def test_a_task_that_waits_in_a_worker_can_be_cancelled(fast: str, slow: str, tmp_path: Path) -> None:
    log = str(tmp_path / "log")
    with mob.Pool(1) as pool:
        warm(pool, fast)
        for _ in range(WARM):
            pool.submit(note, log, -1, 0.0).result(PATIENCE)
        long = pool.submit(touch, slow, os.O_RDONLY)
        wait_until(long.running, "the long task has begun")
        behind = [pool.submit(note, log, number, 0.0) for number in range(5)]
        assert not any(each.running() for each in behind)
        assert behind[1].cancel()
        assert behind[1].cancelled()
        assert not long.cancel()
        os.close(os.open(slow, os.O_WRONLY))
        assert [each.result(PATIENCE) for each in behind if each is not behind[1]] == [0, 2, 3, 4]
    assert [line for line in Path(log).read_text().split() if line != "-1"] == ["0", "2", "3", "4"]


@pytest.mark.parametrize("threads", [1, 3])
def test_no_task_runs_twice_and_none_is_lost(tmp_path: Path, threads: int) -> None:
    log, luck, count = str(tmp_path / "log"), random.Random(7), 2000
    with mob.Pool(2, threads=threads) as pool:
        pool.submit(note, log, -1, 0.0).result(PATIENCE)
        taker = Taker(pool)
        taker.start()
        try:
            tasks = [pool.submit(note, log, number, luck.choice([0.02] + [0.0] * 60)) for number in range(count)]
            gone = {number for number, task in enumerate(tasks) if luck.random() < 0.2 and task.cancel()}
            left = [number for number in range(count) if number not in gone]
            assert [tasks[number].result(PATIENCE) for number in left] == left
        finally:
            taker.stop()
        assert taker.taken
    noted = Counter(map(int, Path(log).read_text().split()))
    assert noted == Counter([-1, *left])


class Taker(threading.Thread):
    """Repeatedly takes back what the workers of a pool have not begun."""

    def __init__(self, pool: mob.Pool) -> None:
        super().__init__()
        assert pool._tasks is not None
        self._peer, self._role = pool._tasks.peer, pool._tasks.role
        self._is_over = threading.Event()
        self.taken = 0

    def run(self) -> None:
        while not self._is_over.wait(0.0003):
            for contact in self._peer.contacts.route(self._role).near:
                calls = take_back(self._peer, contact)
                self.taken += len(calls)
                for call in calls:
                    self._peer.parking.losses.send_elsewhere(call)

    def stop(self) -> None:
        self._is_over.set()
        self.join()
