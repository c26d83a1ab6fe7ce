"""The example `batch`: interrupted and run again, with files that fail, and with a worker that crashes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys

import pytest

from mob.testing.leaks import processes_with
from tests.examples.copies import EXAMPLES
from tests.patience import patient
from tests.running import Apps, RunningApp, wait_until

TEXTS = {"a": "one two two", "b": "three", "c": "four four"}
MARK = "MOB_TEST_MARK"


class Batch:
    """A copy of the example with a few texts."""

    def __init__(self, apps: Apps) -> None:
        self._apps = apps
        self.directory = apps.directory
        self.counts = self.directory / "counts"
        shutil.copytree(
            EXAMPLES / "batch", self.directory, dirs_exist_ok=True, ignore=shutil.ignore_patterns("texts", "counts")
        )
        self.texts = self.directory / "texts"
        self.texts.mkdir()
        for name, text in TEXTS.items():
            (self.texts / f"{name}.txt").write_text(text)

    def run(self) -> RunningApp:
        env = {**os.environ, MARK: str(self.directory)}
        return self._apps.run("batch", [sys.executable, "main.py"], env)

    def counted(self) -> dict[str, dict[str, int]]:
        return {path.stem: json.loads(path.read_text()) for path in self.counts.glob("*.json")}


@pytest.fixture
def batch(apps: Apps) -> Batch:
    return Batch(apps)


def test_ctrl_c_in_the_middle_stops_it_and_the_next_run_does_the_rest(batch: Batch) -> None:
    slow = batch.texts / "slow.txt"
    os.mkfifo(slow)  # it has no writer, so its reader waits
    run = batch.run()
    wait_until(lambda: len(batch.counted()) == len(TEXTS), "the others are done")
    run.signal(signal.SIGINT)
    assert run.wait() == 1
    assert "Stopped. Run it again to do the rest." in run.output
    assert "3 of 4 texts done" in run.output
    assert "Traceback" not in run.output
    wait_until(lambda: not processes_with(MARK, str(batch.directory), set()), "nothing is left of it")
    before = {path: path.stat().st_mtime_ns for path in batch.counts.iterdir()}
    slow.unlink()
    slow.write_text("at last")
    run = batch.run()
    assert run.wait() == 0
    assert "1 of 1 texts done, 2 words. 0 failed." in run.output
    assert batch.counted() == {
        "a": {"one": 1, "two": 2},
        "b": {"three": 1},
        "c": {"four": 2},
        "slow": {"at": 1, "last": 1},
    }
    assert {path: path.stat().st_mtime_ns for path in before} == before, "what was done is not done again"


def test_what_fails_is_told_at_the_end_and_costs_nothing_else(batch: Batch) -> None:
    (batch.texts / "bad.txt").write_bytes(b"\xff")
    (batch.texts / "deadly.txt").write_text("")
    main = batch.directory / "main.py"
    death = 'if text.stem == "deadly":\n        import os; os.abort()\n    words = Counter'
    main.write_text(main.read_text().replace("words = Counter", death, 1))
    run = batch.run()
    assert run.wait() == 1
    assert "3 of 5 texts done, 6 words. 2 failed." in run.output
    bad, deadly = run.lines[-2:]
    assert bad.startswith("bad.txt: UnicodeDecodeError: 'utf-8' codec can't decode byte 0xff")
    assert deadly.startswith("deadly.txt: Lost: __main__.count was lost: ")
    assert deadly.endswith("was killed by SIGABRT (signal 6).")
    assert sorted(batch.counted()) == sorted(TEXTS)


def test_it_makes_texts_of_its_own(batch: Batch) -> None:
    shutil.rmtree(batch.texts)
    run = batch.run()
    assert run.wait(patient(100)) == 1  # a few seconds of processor time
    assert "99 of 100 texts done, 4,950,000 words. 1 failed." in run.output
    assert len(list(batch.texts.iterdir())) == 100
