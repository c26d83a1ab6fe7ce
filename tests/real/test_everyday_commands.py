"""What people type and write every day: where an app may be run, which app a command means, what it says then."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import zipapp
from collections.abc import Iterator
from pathlib import Path

import pytest

import mob
from mob.rim.addresses import running_apps
from tests.patience import patient
from tests.running import Apps, RunningApp, apps_in, freeze, mob_command, wait_until

MOB = (sys.executable, "-m", "mob")
SCRIPT = """\
import mob
app = mob.start({name!r}).base(__file__).role("back", "./back.py")
"""
IN_COROUTINE = "import asyncio\nasync def main():\n    app.run()\nasyncio.run(main())\n"
IN_UVLOOP = "import uvloop\nasync def main():\n    app.run()\nuvloop.run(main())\n"
IN_CALLBACK = """\
import asyncio
loop = asyncio.new_event_loop()
def go():
    try:
        app.run()
    except mob.MobError as error:
        print(error)
    loop.stop()
loop.call_soon(go)
loop.run_forever()
raise SystemExit(1)
"""
IN_THREAD = """\
import sys, threading
def go():
    try:
        app.run()
    except mob.MobError as error:
        print(error)
thread = threading.Thread(target=go, name="starter")
thread.start()
thread.join()
raise SystemExit(1)
"""


def run_in(directory: Path, *command: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Runs a command in a directory as a person would; its output and its status."""
    there = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "MOB_APP", "PYTHONPATH")}
    there["XDG_STATE_HOME"] = str(directory / "state")
    return subprocess.run(
        command,
        cwd=directory,
        env={**there, **env},
        capture_output=True,
        text=True,
        timeout=patient(60),
        stdin=subprocess.DEVNULL,
    )


@pytest.mark.parametrize("runs", [IN_COROUTINE, IN_UVLOOP, IN_CALLBACK])
def test_run_where_a_loop_runs_is_refused_at_once(tmp_path: Path, runs: str) -> None:
    name = f"t-loop-{os.getpid()}"
    (tmp_path / "back.py").write_text("")
    (tmp_path / "main.py").write_text(SCRIPT.format(name=name) + runs)
    shown = run_in(tmp_path, sys.executable, "main.py")
    said = shown.stdout + shown.stderr
    assert shown.returncode == 1
    assert "run() was called where an event loop is already running" in said
    assert f"mob.connect('{name}')" in said
    assert "back.0" not in said
    assert "never run" not in said
    assert name not in running_apps()


def test_run_in_a_thread_is_refused_at_once(tmp_path: Path) -> None:
    name = f"t-thread-{os.getpid()}"
    (tmp_path / "back.py").write_text("")
    (tmp_path / "main.py").write_text(SCRIPT.format(name=name) + IN_THREAD)
    shown = run_in(tmp_path, sys.executable, "main.py")
    assert shown.returncode == 1
    assert "run() was called in the thread 'starter'" in shown.stdout
    assert name not in running_apps()


def test_mob_run_says_it_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "back.py").write_text("")
    (tmp_path / "main.py").write_text(SCRIPT.format(name="t-said") + IN_COROUTINE)
    shown = run_in(tmp_path, *MOB, "run", "main.py")
    assert shown.returncode == 1
    assert shown.stderr.startswith("Error: run() was called where an event loop is already running")
    assert "Traceback" not in shown.stderr


# ------------------------------------------------------------------------------------------------------- which app

BACK = "def answer():\n    return 42\n\nprint('back is up')\n"


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[RunningApp]]:
    """Two apps that run at once, each in a directory of its own."""
    with apps_in(tmp_path_factory.mktemp("one")) as first, apps_in(tmp_path_factory.mktemp("other")) as second:
        running = [
            apps.start('.role("back", "./back.py")', name=f"t-{word}-{os.getpid()}", back=BACK)
            for apps, word in ((first, "one"), (second, "other"))
        ]
        for app in running:
            app.wait_ready()
            app.wait_for("back is up")
        yield running


def test_ps_without_a_name_shows_all_apps(two: list[RunningApp], tmp_path: Path) -> None:
    shown = mob_command(tmp_path, "ps")
    assert all(f"{app.name} · Kingpin {app.process.pid}" in shown.stdout for app in two)
    rows = json.loads(mob_command(tmp_path, "ps", "--json").stdout)
    assert {app.name for app in two} <= {row["app"] for row in rows}


def test_ps_goes_on_if_one_of_them_does_not_answer(two: list[RunningApp], tmp_path: Path) -> None:
    freeze(two[0].process.pid)
    try:
        shown = mob_command(tmp_path, "ps")
    finally:
        two[0].signal(signal.SIGCONT)
    assert shown.returncode == 1
    assert f"{two[1].name} · Kingpin" in shown.stdout
    assert f"{two[0].name}: " in shown.stderr
    assert f"its Kingpin (pid {two[0].process.pid}) did not answer in 10 s" in shown.stderr


def test_apps_lists_them(two: list[RunningApp], tmp_path: Path) -> None:
    shown = mob_command(tmp_path, "apps")
    for app in two:
        assert re.search(rf"{app.name} +{app.process.pid} +\S+ +1/1 +back", shown.stdout)
    found = {each["app"]: each for each in json.loads(mob_command(tmp_path, "apps", "--json").stdout)}
    assert [found[app.name]["pid"] for app in two] == [app.process.pid for app in two]


def test_the_app_of_this_directory_is_the_default(two: list[RunningApp]) -> None:
    for app in two:
        shown = mob_command(app.directory, "metrics")
        assert f'mob_kingpin_info{{app="{app.name}"' in shown.stdout
        assert [row["app"] for row in json.loads(mob_command(app.directory, "ps", "--json").stdout)] == [app.name]


@pytest.mark.parametrize(("file", "text"), [("mob.toml", 'name = "{}"'), ("pyproject.toml", '[tool.mob]\nname = "{}"')])
def test_a_toml_file_says_which_one(two: list[RunningApp], tmp_path: Path, file: str, text: str) -> None:
    (tmp_path / file).write_text(text.format(two[1].name))
    assert f'app="{two[1].name}"' in mob_command(tmp_path, "metrics").stdout


def test_the_environment_says_which_one_and_a_name_overrides_it(two: list[RunningApp]) -> None:
    here, there = two[0], two[1].name
    assert f'app="{there}"' in mob_command(here.directory, "metrics", MOB_APP=there).stdout
    assert f'app="{here.name}"' in mob_command(here.directory, "metrics", here.name, MOB_APP=there).stdout
    assert f'app="{here.name}"' in mob_command(here.directory, "metrics", "-a", here.name, MOB_APP=there).stdout
    gone = mob_command(here.directory, "call", "back.answer", MOB_APP="t-is-not-there")
    assert gone.returncode == 3
    assert "no app named 't-is-not-there'" in gone.stderr
    assert gone.stderr.endswith("Its name comes from MOB_APP.\n")
    named = mob_command(here.directory, "call", "-a", "t-is-no-app", "back.answer", MOB_APP="t-is-not-there")
    assert "MOB_APP" not in named.stderr


@pytest.mark.parametrize(
    ("text", "is_refused"),
    [
        ("import mob\nmob.start('t-not-up')", True),
        ("import mob as m\nm.start('t-not-up')", True),
        ("from mob import start as begin\nbegin('t-not-up')", True),
        ("from server import start\nstart('t-not-up')", False),
        ("print('hello')", False),
    ],
)
def test_a_command_acts_on_no_other_app_than_that_of_its_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, is_refused: bool
) -> None:
    monkeypatch.setattr("mob.cli.apps.running_apps", lambda: ["another"])  # what else runs here is not known
    (tmp_path / "main.py").write_text(text)
    shown = mob_command(tmp_path, "stop")
    assert shown.returncode == 3
    refusal = "Error: 't-not-up', the app of this directory, is not running. 'another' is; to use that one, add "
    assert (shown.stderr == f"{refusal}-a another.\n") is is_refused
    assert ("no app named 'another'" in shown.stderr) is not is_refused
    crashes = mob_command(tmp_path, "crashes")
    assert crashes.stdout == f"No crash of '{'t-not-up' if is_refused else 'another'}' is recorded.\n"


def test_commands_take_the_name_as_a_word(two: list[RunningApp], tmp_path: Path) -> None:
    name = two[1].name
    assert f"{name} · Kingpin" in mob_command(tmp_path, "ps", name).stdout
    for words in ((name,), (name, "back"), ("-a", name, "back"), (name, "back.0")):
        shown = mob_command(tmp_path, "logs", *words)
        assert "back is up" in shown.stdout, shown
    both = mob_command(tmp_path, "stop", name, "-a", "t-another")
    assert both.returncode == 2
    assert "two apps given" in both.stderr
    assert "expected at most an app and a role" in mob_command(tmp_path, "logs", "-a", name, "back", "more").stderr


def test_stop_takes_the_name_as_a_word(apps: Apps, two: list[RunningApp]) -> None:
    app = apps.start('.role("back", "./back.py")', name=f"t-third-{os.getpid()}", back=BACK)
    app.wait_ready()
    shown = mob_command(two[0].directory, "stop", app.name)
    assert shown.stdout == f"{app.name} has stopped.\n"
    assert app.wait() == 0
    assert two[0].process.poll() is None


def test_two_who_stop_an_app_at_once_are_both_done(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py")', name=f"t-both-{os.getpid()}", back=BACK)
    app.wait_ready()
    stops = [subprocess.Popen([*MOB, "stop", app.name], text=True, stdout=-1, stderr=-1) for _ in range(4)]
    said = [(*stop.communicate(timeout=patient(60)), stop.returncode) for stop in stops]
    assert (f"{app.name} has stopped.\n", "", 0) in said
    for out, errors, status in said:
        late = status == 3 and re.search("no app named|cannot connect to the app", errors)
        assert late or (out, errors, status) == (f"{app.name} has stopped.\n", "", 0)
    assert app.wait() == 0


def test_a_second_stop_loses_no_call(apps: Apps) -> None:
    back = """
    import pathlib, time
    def work():
        pathlib.Path("begun").touch()
        while not pathlib.Path("go").exists():
            time.sleep(0.01)
        return "done"
    """
    app = apps.start('.role("back", "./back.py")', back=back)
    client = app.wait_ready()
    call = client.require("back").work()
    wait_until((app.directory / "begun").exists, "the call runs")
    for _ in range(3):
        assert client.stop() == "stopping."
    (app.directory / "go").touch()
    assert call.result(patient(20)) == "done"
    assert app.wait() == 0


# ---------------------------------------------------------------------------------------------------- forgotten, early


def test_the_traceback_of_a_script_begins_with_the_script(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text("import mob, helper\nhelper.prepare()\n")
    (tmp_path / "helper.py").write_text("def prepare():\n    1 / 0\n")
    shown = run_in(tmp_path, *MOB, "run", "main.py")
    assert shown.returncode == 1
    assert re.findall(r'File "(?:.*/)?([^/"]+)"', shown.stderr) == ["main.py", "helper.py"]
    assert shown.stderr.startswith("Traceback (most recent call last):\n")
    assert shown.stderr.endswith("ZeroDivisionError: division by zero\n")
    (tmp_path / "main.py").write_text("import mob\nmob.start(\n")
    shown = run_in(tmp_path, *MOB, "run", "main.py")
    assert shown.returncode == 1
    assert re.findall(r'File "(?:.*/)?([^/"]+)"', shown.stderr) == ["main.py"]
    assert "SyntaxError: '(' was never closed" in shown.stderr
    (tmp_path / "main.py").write_text("raise SystemExit(7)\n")
    assert run_in(tmp_path, *MOB, "run", "main.py").returncode == 7


def test_mob_run_of_a_script_that_forgets_run_has_status_2(tmp_path: Path) -> None:
    (tmp_path / "back.py").write_text("")
    (tmp_path / "main.py").write_text(SCRIPT.format(name="t-forgotten"))
    shown = run_in(tmp_path, *MOB, "run", "main.py")
    assert shown.returncode == 2
    assert shown.stderr == (
        "Error: main.py describes the app 't-forgotten' but never runs it. Did you forget .run() at the end?\n"
    )


def test_a_script_that_describes_no_app_is_run_as_python_would(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text("print('hello')")
    shown = run_in(tmp_path, *MOB, "run", "main.py")
    assert (shown.returncode, shown.stdout, shown.stderr) == (0, "hello\n", "")


EXPORTS = """
    def add(a: int, b: int = 2) -> int:
        "Adds two numbers. \\n\\n And more."
        return a + b

    def plain(): ...
    """


def test_call_lists_the_exports(apps: Apps) -> None:
    roles = '.role("back", "./back.py").role("front", "./front.py").role("late", "./late.py")'
    app = apps.start(roles, back=EXPORTS, front="def page(): ...", late="import threading; threading.Event().wait()")
    app.wait_ready(2)
    shown = mob_command(app.directory, "call", "back")
    assert shown.stdout == "back.add(a: int, b: int = 2) -> int    Adds two numbers.\nback.plain()\n"
    shown = mob_command(app.directory, "call", "-a", app.name)
    assert shown.stdout.endswith("back.plain()\nfront.page()\n")
    assert shown.stderr == "No worker of 'late' has been ready yet, so its exports are not known yet.\n"
    shown = mob_command(app.directory, "call", "bakc")
    assert shown.returncode == 1
    assert "this app has no role 'bakc'. Did you mean 'back'?" in shown.stderr


def test_a_role_that_cannot_be_imported_is_explained(apps: Apps) -> None:
    app = apps.start('.role("bad", "./bad.py").role("mute", "./mute.py")', bad="import not_a_module", mute="")
    client = app.connect()
    wait_until(lambda: bool(client.roles()["bad"].failing), "it has failed")
    why = "bad.0: ModuleNotFoundError: No module named 'not_a_module'"
    shown = mob_command(app.directory, "call", "-a", app.name, "bad.run", "--timeout", "4")
    assert shown.returncode == 1
    assert f"No worker of 'bad' is ready ({why}); waiting for one. Press Ctrl-C to give up.\n" in shown.stderr
    shown = mob_command(app.directory, "call", "-a", app.name, "bad")
    assert shown.stderr == f"No worker of 'bad' has been ready yet, so its exports are not known yet. {why}\n"
    shown = mob_command(app.directory, "logs", "-a", app.name, "mute")
    assert shown.stderr == "mute has printed nothing. For messages about it: `mob logs kingpin`.\n"
    assert "not_a_module" in mob_command(app.directory, "logs", "-a", app.name, "kingpin").stdout


GATED = """
    import os, pathlib, time, mob

    while not pathlib.Path("open").exists():
        time.sleep(0.01)

    def index():
        return mob.me().index
    """


def test_a_call_on_all_workers_waits_for_the_first_one(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py", workers=2)', back=GATED)
    client = app.connect()
    calls = [client.all("back").call.index() for _ in range(3)]
    given_up = client.all("back").call.index()
    given_up.cancel()
    assert not any(call.done() for call in calls)
    (app.directory / "open").touch()
    answers = [call.result(patient(60)) for call in calls]
    assert all(answer and set(answer.values()) <= {0, 1} for answer in answers)
    assert given_up.cancelled()


def test_a_call_on_all_workers_ends_with_the_app(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py")', options="grace=1", back=GATED)
    client = app.connect()
    call = client.all("back").call.index()
    app.stop()
    with pytest.raises(mob.Unavailable):
        call.result(patient(60))
    with pytest.raises(mob.AppNotRunning):
        client.all("back")


def test_a_call_on_all_workers_of_a_role_that_was_given_up_fails(apps: Apps) -> None:
    roles = '.role("back", "./back.py", intensity=0).role("other", "./other.py")'
    app = apps.start(roles, back="raise ValueError('no')", other="")
    client = app.connect()
    with pytest.raises(mob.Unavailable, match="given up"):
        client.all("back").call.index().result(patient(60))


@pytest.mark.parametrize(("tries", "count"), [(1, 1), (3, 3)])
def test_an_app_that_cannot_start_ends_with_status_3_if_it_is_to(apps: Apps, tries: int, count: int) -> None:
    app = apps.start(
        f'.role("back", "./back.py", boot_tries={tries}).role("other", "./other.py")', back="1/0", other=""
    )
    assert app.wait() == 3
    assert app.output.count("ZeroDivisionError: division by zero") >= 1
    app.wait_for(rf"no worker of 'back' was ever ready, and {count} starts? failed \(boot_tries\)")
    app.wait_for("the app ends with status 3, because 'back' cannot start")


def test_an_app_in_a_zip_archive(apps: Apps) -> None:
    name = f"t-zip-{os.getpid()}"
    source = apps.directory / "source"
    source.mkdir()
    (source / "__main__.py").write_text(
        f"import mob\nmob.start({name!r}).base(__file__).role('back', 'back').role('near', './near.py').run()\n"
    )
    (source / "back.py").write_text(BACK)
    apps.write(near="def where():\n    return __file__")
    zipapp.create_archive(source, apps.directory / "app.pyz")
    app = apps.run(name, [sys.executable, "app.pyz"])
    client = app.wait_ready(2)
    assert client.require("back").answer().result(patient(10)) == 42
    assert client.require("near").where().result(patient(10)) == str(apps.directory / "near.py")
