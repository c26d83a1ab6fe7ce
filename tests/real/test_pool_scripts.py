"""A script with a pool ends in any way: submitted tasks run, or no process stays."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.patience import PATIENCE
from tests.running import is_alive, unmeasured, wait_until

SCRIPT = """
import os, sys, time
import mob

def report(path):
    open(path, "a").write(f"{os.getpid()}\\n")

def task(path, seconds):
    report(path)
    time.sleep(seconds)

def main(path, how):
    pool = mob.Pool(2)
    if how == "exit":
        for _ in range(20):
            pool.submit(task, path, 0.01)
        return
    if how == "gc":
        futures = [pool.submit(task, path, 0.01) for _ in range(20)]
        del pool
        assert [future.result() for future in futures] == [None] * 20
        return
    with pool:
        for _ in range(20):
            pool.submit(task, path, 0 if how == "raise" else 3000)
        if how == "raise":
            raise ValueError("in the block")
        print("up", flush=True)
        time.sleep(3000)

if __name__ == "__main__":
    main(*sys.argv[1:])
"""


class Script:
    """A script with a pool."""

    def __init__(self, directory: Path, how: str) -> None:
        (directory / "script.py").write_text(SCRIPT)
        self._began = directory / "began"
        self.process = subprocess.Popen(
            [sys.executable, "script.py", str(self._began), how],
            cwd=directory,
            env=unmeasured(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            process_group=0,
        )
        self._seen: list[psutil.Process] = []

    def began(self) -> list[int]:
        """Return the workers that have begun a task, once for each task."""
        return [int(line) for line in self._began.read_text().splitlines()] if self._began.exists() else []

    def wait_running(self) -> None:
        wait_until(lambda: len(self.began()) >= 2, "both workers run a task")
        self._seen = psutil.Process(self.process.pid).children(recursive=True)
        assert len(self._seen) >= 4

    def left(self) -> list[int]:
        return [each.pid for each in self._seen if each.is_running() and is_alive(each.pid)]

    def end(self) -> tuple[str, str]:
        """Wait for its end, and return its output."""
        try:
            return self.process.communicate(timeout=PATIENCE)
        finally:
            self.process.kill()


@pytest.mark.parametrize(
    ("signum", "status"),
    [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, -signal.SIGTERM), (signal.SIGINT, -signal.SIGINT)],
)
def test_a_script_that_is_ended_leaves_no_process(tmp_path: Path, signum: int, status: int) -> None:
    script = Script(tmp_path, "run")
    try:
        script.wait_running()
        script.process.send_signal(signum)
    finally:
        out, err = script.end()
    assert (script.process.returncode, out) in ((status, "up\n"), (1, "up\n"))
    assert "never" not in err
    wait_until(lambda: not script.left(), f"nothing is left of {script.left()}")


@pytest.mark.parametrize("how", ["exit", "gc", "raise"])
def test_what_was_submitted_is_run_although_nobody_shuts_down(tmp_path: Path, how: str) -> None:
    script = Script(tmp_path, how)
    _, err = script.end()
    assert len(script.began()) == 20
    assert ("ValueError: in the block" in err) is (how == "raise")
    assert script.process.returncode == (how == "raise")
    wait_until(lambda: not any(map(is_alive, script.began())), "no worker is left")
