"""The example `pricing`: right prices, one copy of the scenarios, a worker that crashes, and no app at all."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.examples.copies import EXAMPLES, started
from tests.patience import patient
from tests.running import RunningApp, apps_in, freeze, wait_until

PATHS = 40_000
OPTIONS, PARTS = 15, 8
ROW = re.compile(r"│ +(\d+) +│ +([\d.]+) +│ +([\d.]+) +│ +([\d.]+) +│ +([\d.]+) +│ +([\d.]+) +│ +([+-][\d.]+) +│")


def notebook(directory: Path, paths: int = PATHS) -> subprocess.Popen[str]:
    env = {**os.environ, "PATHS": str(paths), "COLUMNS": "120", "XDG_STATE_HOME": str(directory / "state")}
    command = [sys.executable, "notebook.py"]
    return subprocess.Popen(command, cwd=directory, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finished(process: subprocess.Popen[str]) -> str:
    output, errors = process.communicate(timeout=patient(60))
    assert process.returncode == 0, output + errors
    assert errors == ""
    return output


def rows(output: str) -> list[list[float]]:
    """Return the table of prices, as numbers."""
    return [[float(cell) for cell in row] for row in ROW.findall(output)]


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    with apps_in(tmp_path_factory.mktemp("pricing")) as apps:
        app = started(apps, "pricing")
        app.wait_ready(os.cpu_count() or 1)
        yield app


@pytest.fixture(scope="module")
def output(app: RunningApp) -> str:
    return finished(notebook(app.directory))


def test_the_prices_are_right(output: str) -> None:
    table = rows(output)
    assert len(table) == OPTIONS
    for strike, years, price, margin, known, formula, off in table:
        assert abs(off) < 4, f"{strike} for {years} years"
        assert price > formula, "an arithmetic average is never below the geometric one"
        assert 0 < margin < 0.01 < price
        assert abs(known - formula) < 0.5
    assert f"{OPTIONS * PARTS}/{OPTIONS * PARTS}" in output


def test_all_workers_see_the_same_pages(app: RunningApp, output: str) -> None:
    (found,) = re.findall(
        r"(\d+) MiB of scenarios, (\d+) workers, copies for them: (\d+)\. .* each: ([\d +]+) MiB", output
    )
    assert found[:3] == (str(round(PATHS * 64 * 4 / 2**20)), str(len(app.ready(app.clients[0]))), "1")
    assert sum(map(int, found[3].split(" + "))) <= int(found[0]) + len(app.ready(app.clients[0]))


def test_the_speed_up_is_told(output: str) -> None:
    (found,) = re.findall(r"(\d+) workers: ([\d.]+) s\. One process: ([\d.]+) s\. ([\d.]+) times as fast", output)
    assert float(found[3]) == pytest.approx(float(found[2]) / float(found[1]), rel=0.1)


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one core, one worker: no other worker can continue")
def test_a_worker_that_dies_changes_no_price(app: RunningApp, output: str) -> None:
    client = app.clients[0]
    victim, *others = (member.pid for member in app.ready(client))

    def calls() -> int:
        return sum(row.calls for row in client.overview() if row.pid in others)

    freeze(victim)  # so that it has calls in hand, and finishes none of them
    before = calls()
    process = notebook(app.directory)
    wait_until(lambda: calls() > before, "the others work")
    os.kill(victim, signal.SIGKILL)
    assert rows(finished(process)) == rows(output)
    app.wait_for(rf"{victim}.* killed")


def test_a_notebook_without_its_app_says_what_to_do(tmp_path: Path) -> None:
    shutil.copytree(EXAMPLES / "pricing", tmp_path, dirs_exist_ok=True)
    path = tmp_path / "notebook.py"
    path.write_text(path.read_text().replace('connect("pricing")', 'connect("no-such-app")'))
    process = notebook(tmp_path)
    output, errors = process.communicate(timeout=patient(60))
    assert (process.returncode, output) == (1, "")
    assert "no-such-app" in errors
    assert errors.endswith("Start it first, in another terminal: python examples/pricing/main.py\n")
