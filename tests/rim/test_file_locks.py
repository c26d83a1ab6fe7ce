"""A lock on a file: one process has it, and the next one waits for it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mob.rim.file_locks import FileLock, LockHolder
from tests.patience import PATIENCE

HOLD = """
import sys
from mob.rim.file_locks import FileLock
lock = FileLock(sys.argv[1], "shop")
print(lock.take(), flush=True)
input()
"""


def test_who_waits_has_it_when_its_holder_was_killed(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    lock = FileLock(path, "shop")
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "None\n"
        holder = lock.take()
        assert holder == LockHolder(other.pid, "shop")
        assert str(holder) == f"pid {other.pid} of the app 'shop'"

        async def wait() -> None:
            waiting = asyncio.ensure_future(lock.wait())
            await asyncio.sleep(0)
            other.kill()
            await asyncio.wait_for(waiting, PATIENCE)

        asyncio.run(wait())
    assert FileLock(path).take() == LockHolder(os.getpid(), "shop")
    lock.release()
    after = FileLock(path)
    assert after.take() is None
    after.release()


def test_one_that_is_given_up_is_not_taken(tmp_path: Path) -> None:
    first, second, third = (FileLock(tmp_path / "jobs.db") for _ in range(3))

    async def give_up() -> None:
        assert first.take() is None
        waiting = asyncio.ensure_future(second.wait())
        await asyncio.sleep(0)
        second.release()
        first.release()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(waiting, PATIENCE)

    asyncio.run(give_up())
    assert third.take() is None
    third.release()


def test_one_whose_file_was_deleted_is_taken_again(tmp_path: Path) -> None:
    lock = FileLock(tmp_path / "jobs.db")
    assert lock.take() is None
    os.unlink(lock.path)
    assert lock.take() is None
    assert FileLock(tmp_path / "jobs.db").take() == LockHolder(os.getpid(), "")
    lock.release()
