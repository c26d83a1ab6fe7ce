"""A call of a pool is ended, whatever it does: with its worker if it runs, and without a death otherwise."""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import CancelledError
from pathlib import Path

import pytest

import mob
from tests.patience import PATIENCE, patient
from tests.running import wait_until


def backtrack(path: str) -> object:
    """Never end, in C code that holds the interpreter."""
    Path(path).touch()
    return re.match(r"(a+)+$", "a" * 40 + "b")


def wait_for(begun: str, door: str) -> int:
    Path(begun).touch()
    while not Path(door).exists():
        time.sleep(0.005)
    return os.getpid()


def pid(number: int = 0) -> int:
    return os.getpid()


@pytest.fixture
def pool() -> Iterator[mob.Pool]:
    with mob.Pool(2) as made:
        made.submit(pid).result(PATIENCE)
        wait_until(lambda: len(made.pids) == 2, "both workers are ready")
        yield made


def test_what_holds_the_interpreter_is_ended_and_nothing_else(pool: mob.Pool, tmp_path: Path) -> None:
    begun, other, door = (str(tmp_path / name) for name in ("begun", "other", "door"))
    stuck = pool.submit(backtrack, begun)
    waiting = pool.submit(wait_for, other, door)
    wait_until(lambda: Path(begun).exists() and Path(other).exists(), "both run")
    behind = [pool.submit(pid, number) for number in range(20)]
    began = time.monotonic()
    assert pool.kill(stuck)
    with pytest.raises(mob.Lost, match="was killed to end the task that it ran"):
        stuck.result(patient(5))
    assert time.monotonic() - began < patient(1)
    Path(door).touch()
    survivor = waiting.result(PATIENCE)
    assert survivor in {future.result(PATIENCE) for future in behind} | set(pool.pids)
    assert not pool.kill(stuck)
    assert not pool.kill(waiting)


def test_many_deaths_in_a_row_are_no_fault_of_the_pool(pool: mob.Pool, tmp_path: Path) -> None:
    for number in range(8):
        begun = str(tmp_path / f"begun{number}")
        stuck = pool.submit(backtrack, begun)
        wait_until(lambda begun=begun: Path(begun).exists(), "it runs")
        assert pool.kill(stuck)
        assert isinstance(stuck.exception(PATIENCE), mob.Lost)
    assert pool.submit(pid).result(PATIENCE) in pool.pids


def test_what_has_not_begun_never_does(pool: mob.Pool, tmp_path: Path) -> None:
    door = str(tmp_path / "door")
    running = [pool.submit(wait_for, str(tmp_path / str(number)), door) for number in range(2)]
    wait_until(lambda: len(list(tmp_path.iterdir())) == 2, "both run")
    before = set(pool.pids)
    behind = [pool.submit(wait_for, str(tmp_path / f"behind{number}"), door) for number in range(20)]
    assert all(pool.kill(future) for future in behind)
    assert all(future.cancelled() for future in behind)
    Path(door).touch()
    assert {future.result(PATIENCE) for future in running} == before
    assert pool.submit(pid).result(PATIENCE) in before
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("behind")]


def test_a_kill_at_any_moment_ends_the_call_or_nobody(pool: mob.Pool) -> None:
    outcomes: Counter[tuple[bool, str]] = Counter()
    deaths = 0
    for number in range(150):
        before = set(pool.pids)
        future, innocent = pool.submit(pid, number), pool.submit(pid, -1)
        for _ in range(number % 10 * 100):
            pass
        was_killed = pool.kill(future)
        try:
            future.result(PATIENCE)
            outcomes[was_killed, "value"] += 1
        except (CancelledError, mob.Lost) as ended:
            outcomes[was_killed, "ended"] += 1
            deaths += isinstance(ended, mob.Lost) and ended.executed == "maybe"
        if not deaths:  # an answer that the worker had not sent dies with it
            assert innocent.result(PATIENCE) in before | set(pool.pids)
        deaths = 0
    assert {*outcomes} <= {(True, "ended"), (False, "value")}
