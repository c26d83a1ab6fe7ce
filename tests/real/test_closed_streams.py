"""Apps and commands that were started without standard streams, or whose main script closed them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.patience import patient
from tests.running import Apps

FILES = {"back": "import os\ndef streams(): return [os.readlink(f'/proc/self/fd/{n}') for n in (0, 1, 2)]\n"}
CLOSED = {"2>&-": [2], ">&-": [1], "<&-": [0], "<&- >&- 2>&-": [0, 1, 2]}


def links(pid: int) -> list[str]:
    """Return what is open as 0, 1 and 2."""
    return [os.readlink(f"/proc/{pid}/fd/{number}") for number in range(3)]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("redirection", CLOSED)
def test_an_app_that_was_started_without_streams_runs(apps: Apps, redirection: str) -> None:
    apps.write(**FILES)
    main = "import mob\nmob.start('t-closed').base(__file__).role('back', './back.py').logs(file='log.txt').run()\n"
    (apps.directory / "main.py").write_text(main)
    app = apps.run("t-closed", ["bash", "-c", f'exec "$0" main.py {redirection}', sys.executable])
    client = app.wait_ready(1)
    null, out, err = client.require("back").streams().result(patient(30))
    assert null == "/dev/null"
    assert out.startswith("pipe:")
    assert err.startswith("pipe:")
    for pid in (client.kingpin_pid, app.fork_server()):
        assert all(links(pid)[number] == "/dev/null" for number in CLOSED[redirection])
    assert "1 mobster" in client.upgrade()
    assert all(links(client.kingpin_pid)[number] == "/dev/null" for number in CLOSED[redirection])
    assert client.require("back").streams().result(patient(30))[0] == "/dev/null"
    assert app.stop() == 0
    assert "stopping." in (apps.directory / "log.txt").read_text()


@pytest.mark.parametrize("what", ["sys.stdout.close(); sys.stderr.close()", "os.close(1); os.close(2)"])
def test_a_main_script_may_close_its_streams(apps: Apps, what: str) -> None:
    apps.write(**FILES)
    main = f"import os, sys, mob\n{what}\nmob.start('t-shut').base(__file__).role('back', './back.py').run()\n"
    (apps.directory / "main.py").write_text(main)
    app = apps.run("t-shut", [sys.executable, "main.py"])
    client = app.wait_ready(1)
    assert client.require("back").streams().result(patient(30))[1].startswith("pipe:")
    assert app.stop() == 0


@pytest.mark.parametrize("redirection", CLOSED)
def test_commands_run_without_streams(redirection: str, tmp_path: Path) -> None:
    line = ["bash", "-c", f'exec "$0" -m mob apps --json {redirection}', sys.executable]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=patient(60))
    assert (done.returncode, done.stderr) == (0, "")


def test_a_file_that_was_opened_as_number_2_gets_nothing_of_ours(tmp_path: Path) -> None:
    code = (
        "import os; file = open('mine.txt', 'w'); number = file.fileno()\n"
        "import sys, mob; print('for no one', file=sys.stderr, flush=True); sys.exit(number)"
    )
    done = subprocess.run(
        ["bash", "-c", 'exec "$0" -c "$1" 2>&-', sys.executable, code], cwd=tmp_path, timeout=patient(60)
    )
    assert done.returncode == 2
    assert (tmp_path / "mine.txt").read_text() == ""
