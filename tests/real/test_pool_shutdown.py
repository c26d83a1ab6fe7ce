"""What `shutdown` does with tasks that run and that wait."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

import mob
from tests.patience import PATIENCE
from tests.running import wait_until


def block(path: Path) -> str:
    while not path.exists():
        time.sleep(0.01)
    return path.read_text("ascii")


def test_shutdown_without_waiting_lets_tasks_end(tmp_path: Path) -> None:
    pool, gate = mob.Pool(1), tmp_path / "gate"
    blocked = pool.submit(block, gate)
    waiting = [pool.submit(pow, 2, 3) for _ in range(300)]
    pool.shutdown(wait=False)
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        pool.submit(pow, 2, 3)
    assert not blocked.done()
    gate.write_text("on")
    assert blocked.result(PATIENCE) == "on"
    assert [future.result(PATIENCE) for future in waiting] == [8] * 300


def test_shutdown_cancels_what_waits(tmp_path: Path) -> None:
    pool, gate = mob.Pool(1), tmp_path / "gate"
    blocked = pool.submit(block, gate)
    wait_until(blocked.running, "it is sent")
    waiting = [pool.submit(block, gate) for _ in range(300)]
    pool.shutdown(wait=False, cancel_futures=True)
    assert waiting[-1].cancelled()
    gate.write_text("on")
    assert blocked.result(PATIENCE) == "on"
    pool.shutdown()


def test_a_task_that_runs_is_not_cancelled_any_more(tmp_path: Path) -> None:
    """This includes the first worker of a pool, which must be set up before it can begin a task."""
    gate = tmp_path / "gate"
    for _ in range(5):
        with mob.Pool(1) as pool:
            blocked = pool.submit(block, gate)
            deadline = time.monotonic() + PATIENCE
            while not blocked.running():
                assert time.monotonic() < deadline
            assert not blocked.cancel()
            gate.write_text("on")
            assert blocked.result(PATIENCE) == "on"
            gate.unlink()
