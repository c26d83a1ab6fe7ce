"""Which tasks of a pool wait behind a long one."""

from __future__ import annotations

import os
from pathlib import Path

import mob
from tests.patience import PATIENCE


def read(path: str) -> str:
    return Path(path).read_text("ascii")


def test_without_prefetch_no_task_waits_behind_a_long_one(tmp_path: Path) -> None:
    slow, fast = tmp_path / "slow", tmp_path / "fast"
    os.mkfifo(slow)
    fast.write_text("fast")
    with mob.Pool(2, prefetch=False) as pool:
        for _ in range(200):  # by now it is known that the function takes no time
            pool.submit(read, str(fast)).result(PATIENCE)
        long = pool.submit(read, str(slow))
        short = [pool.submit(read, str(fast)) for _ in range(200)]
        assert [each.result(PATIENCE) for each in short] == ["fast"] * 200
        assert not long.done()
        slow.write_text("slow")
        assert long.result(PATIENCE) == "slow"
