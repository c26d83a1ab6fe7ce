"""The killer ends a process that it was told of, and no other."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.foreign.killer import Killer
from tests.patience import PATIENCE


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
    yield process
    process.kill()
    process.wait()


def test_it_kills_workers_as_long_as_its_block_runs(
    sleeper: subprocess.Popen[bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    with Killer(lambda: [sleeper.pid], seed=7, every=0.01) as killer:
        assert sleeper.wait(PATIENCE) == -signal.SIGKILL
    assert killer.count >= 1
    assert repr(killer) == f"<Killer seed=7 every=0.01 s count={killer.count}>"
    assert capsys.readouterr().out.splitlines() == [
        "killer: a random worker every 0.01 s, seed 7",
        f"killer: {killer.count} killed, seed 7",
    ]


def test_a_worker_that_is_no_longer_named_once_it_is_held_is_left_alone(sleeper: subprocess.Popen[bytes]) -> None:
    answers = iter([[sleeper.pid], []])
    assert not Killer(lambda: next(answers), seed=7).kill_one()
    assert sleeper.poll() is None


def test_a_worker_that_has_ended_is_left_out() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert not Killer(lambda: [ended.pid], seed=7).kill_one()
    assert not Killer(list, seed=7).kill_one()


def test_the_next_is_killed_after_a_task_has_ended(sleeper: subprocess.Popen[bytes]) -> None:
    answers = [0]
    killer = Killer(lambda: [sleeper.pid], seed=7, answered=answers.pop)
    assert not killer.has_progress()
    answers += [1, 1]
    assert killer.has_progress()
    assert killer.kill_one()
    answers += [2, 1]
    assert not killer.has_progress()
    assert killer.has_progress()
