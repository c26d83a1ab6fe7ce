"""`mob run`: an app that a TOML file describes, and the options that change what an app says of itself."""

from __future__ import annotations

import json
import sys
import urllib.request
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner

import mob
from mob.cli.main import main
from tests.patience import patient
from tests.running import Apps, RunningApp, free_port, wait_until

RUN = [sys.executable, "-m", "mob", "run"]
BACK = """
    import mob
    import helper

    def answer():
        return helper.ANSWER

    print("back is up")
    """


def describe(apps: Apps, name: str, more: str = "", file: str = "mob.toml") -> Path:
    """Writes an app that a file describes."""
    prefix = "tool.mob." if file == "pyproject.toml" else ""
    head = "[tool.mob]\n" if prefix else ""
    path = apps.directory / file
    path.write_text(f'{head}name = "{name}"\n[{prefix}roles.back]\nmodule = "./back.py"\nworkers = 2\n{more}')
    apps.write(back=BACK, helper="ANSWER = 42")
    return path


def test_the_file_is_found_here(apps: Apps) -> None:
    describe(apps, "t-here", file="pyproject.toml")
    app = apps.run("t-here", RUN)
    client = app.wait_ready(2)
    assert client.require("back").answer().result(patient(10)) == 42
    assert app.stop() == 0


def test_the_file_is_found_above(apps: Apps) -> None:
    describe(apps, "t-above")
    below = apps.directory / "a" / "b"
    below.mkdir(parents=True)
    app = RunningApp(below, "t-above", RUN, {})
    apps.running.append(app)
    assert app.wait_ready(2).require("back").answer().result(patient(10)) == 42


def test_an_app_of_a_file_of_any_name_is_upgraded_and_reloaded(apps: Apps) -> None:
    path = describe(apps, "t-file-up", file="staging.toml")
    app = apps.run("t-file-up", [*RUN, "--log-format", "text", "staging.toml"])
    client = app.wait_ready(2)
    pids = [member.pid for member in app.ready(client)]
    path.write_text(path.read_text() + '[roles.front]\nmodule = "./front.py"\n')
    apps.write(front="", helper="ANSWER = 43")
    assert client.upgrade(30) == "the new Kingpin took over 2 mobsters."
    assert [member.pid for member in app.ready(client, "back")] == pids
    wait_until(lambda: app.ready(client, "front"), "the role that the file has now is there")
    client.reload(timeout=patient(30))
    assert client.require("back").answer().result(patient(10)) == 43
    path.write_text("name = ")
    with pytest.raises(mob.MobError, match="is not valid TOML"):
        client.upgrade(30)
    assert app.stop() == 0


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("[roles.back]\nmodule = 3\n", "mob.toml: the app has no name."),
        ('name = "t-x"\n[roles.back]\nmodule = 3\n', "mob.toml: role 'back': 3 is not a module."),
        ('name = "t-x"\n[roles.back]\nmodule = "./back.py"\nneeds = ["fornt"]\n', "'fornt', which is not a role."),
        ('name = "t-x"\n', "the app 't-x' has no role, so there is nothing to run."),
    ],
)
def test_what_does_not_fit_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, wanted: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "back.py").write_text("")
    (tmp_path / "mob.toml").write_text(text)
    done = CliRunner().invoke(main, ["run"])
    assert done.exit_code == 1
    (line,) = done.output.splitlines()
    assert line.startswith("Error: ")
    assert wanted in line


def test_nothing_to_run(apps: Apps) -> None:
    app = apps.run("t-x", RUN)
    assert app.wait() == 1
    assert app.lines[0].startswith("Error: there is no mob.toml, and no pyproject.toml with a table [tool.mob], in ")


def test_a_script_that_is_not_there(apps: Apps) -> None:
    apps.write(main="", other="")
    app = apps.run("t-x", [*RUN, "mian.py"])
    assert app.wait() == 2
    assert app.lines[-1].endswith("there is no file 'mian.py'. Did you mean 'main.py'?")


def test_a_file_takes_no_arguments(apps: Apps) -> None:
    describe(apps, "t-x")
    app = apps.run("t-x", [*RUN, "mob.toml", "more"])
    assert app.wait() == 2
    assert app.lines[-1] == "Error: unexpected arguments more: there is no script to receive them. Put options first."


# ------------------------------------------------------------------------------------------------------ the options


def test_the_logs_go_where_the_command_line_says(apps: Apps) -> None:
    describe(apps, "t-logs", '[logs]\nformat = "json"\nkeep = 3\n')
    file = apps.directory / "here.log"
    app = apps.run("t-logs", [*RUN, "--log-file", "here.log"])
    app.wait_ready(2)

    def records() -> list[dict[str, object]]:
        with suppress(OSError, ValueError):
            return [json.loads(line) for line in file.read_text().splitlines()]
        return []

    wait_until(lambda: sum("back is up" in str(each) for each in records()) == 2, "both lines are in the file, as JSON")
    assert "back is up" not in app.output


def test_a_dashboard_that_the_app_does_not_describe(apps: Apps) -> None:
    pytest.importorskip("starlette")
    pytest.importorskip("uvicorn")
    apps.write(back="", main='import mob\nmob.start("t-board").base(__file__).role("back", "./back.py").run()\n')
    port = free_port()
    app = apps.run("t-board", [*RUN, "--dashboard-port", str(port), "main.py", "--dashboard"])
    client = app.wait_ready(2)
    assert {member.role for member in app.ready(client)} == {"back", "dashboard"}
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=patient(20)) as page:
        assert page.status == 200


def test_a_dashboard_that_the_app_describes(apps: Apps) -> None:
    pytest.importorskip("starlette")
    pytest.importorskip("uvicorn")
    port = free_port()
    describe(apps, "t-board", f"[dashboard]\nport = {port}\n")
    app = apps.run("t-board", [*RUN, "--dashboard"])
    app.wait_ready(3)
    assert [line for line in app.lines if f":{port}/" in line and line.startswith("dashboard: ")]
    other = apps.run("t-board", [*RUN, "--dashboard-port", "5000"])
    assert other.wait() == 2
    assert other.lines[-1] == "Error: t-board configures its dashboard itself: set its port there."


def test_an_app_of_a_file_is_watched(apps: Apps) -> None:
    pytest.importorskip("watchfiles")
    describe(apps, "t-file-watch")
    app = apps.run("t-file-watch", [*RUN, "mob.toml", "--watch"])
    client = app.wait_ready(2)
    app.wait_for("watching .* for changes")
    apps.write(helper="ANSWER = 44")
    wait_until(lambda: client.require("back").answer().result(patient(10)) == 44, "the new code is there")
    assert psutil.pid_exists(app.process.pid)
