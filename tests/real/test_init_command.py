"""`mob init` writes an app that runs as it is, and never over anything."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from mob.cli.main import main
from mob.cli.starter import MINIMAL, WHOLE, name_for
from mob.plan import check_app_name
from tests.docs.blocks import ROOT
from tests.patience import patient
from tests.running import Apps


def init(*words: str) -> str:
    done = CliRunner().invoke(main, ["init", *words])
    assert done.exit_code == 0, done.output
    return done.output


def test_the_tests_that_it_writes_pass(tmp_path: Path) -> None:
    told = init(str(tmp_path / "shop"))
    assert {path.name for path in (tmp_path / "shop").iterdir()} == set(WHOLE)
    assert f"    cd {tmp_path / 'shop'}\n    mob run --watch main.py" in told
    line = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error"]
    done = subprocess.run(line, cwd=tmp_path / "shop", capture_output=True, text=True, timeout=patient(100))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout


def test_the_small_one_runs(apps: Apps, tmp_path: Path) -> None:
    name = f"small-{os.getpid()}"
    assert "test_app.py" not in init("--minimal", str(tmp_path / name))
    assert {path.name for path in (tmp_path / name).iterdir()} == set(MINIMAL)
    app = apps.run(name, [sys.executable, str(tmp_path / name / "main.py")])
    client = app.wait_ready()
    assert len(app.ready(client, "back")) == 2
    assert client.require("back").greet("Ada").result(patient(10)).startswith("Hello Ada, says process ")
    assert app.stop() == 0


@pytest.mark.parametrize(
    "text", [*WHOLE.values(), *MINIMAL.values()], ids=[*WHOLE, *(f"small-{each}" for each in MINIMAL)]
)
def test_no_line_is_too_long_for_a_screen(text: str) -> None:
    assert max(map(len, text.splitlines())) <= 120


@pytest.mark.parametrize("file", MINIMAL)
def test_the_page_for_beginners_shows_what_it_writes(file: str) -> None:
    page = (ROOT / "docs" / "start.md").read_text("utf-8")
    assert f'title="first/{file}"\n{MINIMAL[file].replace("NAME", "first")}```' in page


def test_what_is_there_is_never_touched(tmp_path: Path) -> None:
    (tmp_path / "back.py").write_text("precious")
    (tmp_path / "web.py").symlink_to("nowhere")
    done = CliRunner().invoke(main, ["init", str(tmp_path)])
    assert done.exit_code == 1
    assert f"nothing was written: {tmp_path} already has back.py, web.py." in done.output
    assert (tmp_path / "back.py").read_text() == "precious"
    assert {path.name for path in tmp_path.iterdir()} == {"back.py", "web.py"}


def test_it_goes_into_the_directory_where_one_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    assert "    cd " not in init()
    assert (tmp_path / "main.py").is_file()


def test_a_directory_that_cannot_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = CliRunner().invoke(main, ["init", str(tmp_path / "file" / "shop")])
    assert done.exit_code == 1
    assert done.output.startswith(f"Error: {tmp_path / 'file' / 'shop'} cannot be written: Not a directory.")


@pytest.mark.parametrize("directory", ["shop", "My Shop", "3 shops", "..", "", "-x-", "ä" * 70, "a" * 200, "日本"])
def test_every_directory_gives_a_name(directory: str) -> None:
    assert check_app_name(name_for(directory))


def test_the_script_is_one_that_other_commands_can_read(tmp_path: Path) -> None:
    init(str(tmp_path / "shop"))
    done = CliRunner().invoke(main, ["doctor", str(tmp_path / "shop" / "main.py")])
    assert "this machine, for shop: back x 2, web x 2" in done.output
    assert "Warning" not in done.output
