"""What people type and write every day: where an app may be run, which app a command means, what it says then."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mob.rim.addresses import running_apps

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
        timeout=60,
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
    assert "run() was called where an event loop runs already" in said
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
    assert shown.stderr.startswith("Error: run() was called where an event loop runs already")
    assert "Traceback" not in shown.stderr
