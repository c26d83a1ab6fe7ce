"""`mob profile`: of busy and of idle workers, of those that end meanwhile, and of those that may not be looked at."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

import mob
from mob.cli.profile import problem_of
from tests.patience import patient
from tests.running import RunningApp, apps_in, wait_until

BACK = """
    from pathlib import Path
    def spin_around(until):
        while not Path(until).exists():
            sum(range(100_000))
    """


def may_look() -> bool:
    """Return whether the system lets a process read another one that is not its child."""
    scope = Path("/proc/sys/kernel/yama/ptrace_scope")
    return os.geteuid() == 0 or not scope.exists() or scope.read_text().strip() == "0"


pytestmark = pytest.mark.skipif(not may_look(), reason="this user may not read other processes")


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    with apps_in(tmp_path_factory.mktemp("profile")) as apps:
        running = apps.start(
            '.role("back", "./back.py", workers=2, intensity=100).role("idle", "./idle.py")', back=BACK, idle=""
        )
        running.wait_ready()
        yield running


def command(app: RunningApp, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "mob", "profile", "-a", app.name, *arguments]


def run(app: RunningApp, directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(app, *arguments), cwd=directory, capture_output=True, text=True, timeout=patient(60))


def spies() -> list[psutil.Process]:
    """The py-spies that run for this test or its commands."""
    return [each for each in psutil.Process().children(recursive=True) if each.name() == "py-spy"]


def test_a_busy_worker_as_a_flame_graph(app: RunningApp, tmp_path: Path) -> None:
    client = app.clients[0]
    worker = app.ready(client, "back")[0]
    call = client.pid(worker.pid).call.spin_around("first")
    done = run(app, tmp_path, "back.0", "--seconds", "1", "-o", "flame.svg")
    assert done.returncode == 0, done
    assert re.fullmatch(rf"flame\.svg: back\.0 \(pid {worker.pid}\), \d+ samples\n", done.stdout)
    text = (tmp_path / "flame.svg").read_text()
    assert text.startswith("<?xml")
    assert "spin_around (back.py:" in text
    (app.directory / "first").touch()
    call.result(patient(20))
    assert spies() == []


def test_by_pid_and_in_other_formats(app: RunningApp, tmp_path: Path) -> None:
    client = app.clients[0]
    worker = app.ready(client, "back")[1]
    call = client.pid(worker.pid).call.spin_around("second")
    for file in ("a.json", "a.speedscope", "a.txt"):
        assert run(app, tmp_path, str(worker.pid), "--seconds", "1", "-o", file).returncode == 0
    frames = json.loads((tmp_path / "a.json").read_text())["shared"]["frames"]
    assert "spin_around" in {each["name"] for each in frames}
    assert json.loads((tmp_path / "a.speedscope").read_text())["shared"]
    assert re.search(r"spin_around \(back\.py:\d+\) \d+$", (tmp_path / "a.txt").read_text(), re.MULTILINE)
    (app.directory / "second").touch()
    call.result(patient(20))


def test_each_of_several_workers_has_a_file(app: RunningApp, tmp_path: Path) -> None:
    done = run(app, tmp_path, "back", "--seconds", "1", "--idle", "-o", "flame.svg")
    assert done.returncode == 0, done
    assert sorted(each.name for each in tmp_path.iterdir()) == ["flame-back.0.svg", "flame-back.1.svg"]
    assert run(app, tmp_path, "back", "--seconds", "1", "--idle", "--threads").returncode == 0
    assert {"back.0.svg", "back.1.svg"} < {each.name for each in tmp_path.iterdir()}


def test_an_idle_worker(app: RunningApp, tmp_path: Path) -> None:
    done = run(app, tmp_path, "idle", "--seconds", "1", "--idle", "-o", "idle.txt")
    assert done.returncode == 0, done
    assert "run (mob/mobster/life.py" in (tmp_path / "idle.txt").read_text()


def test_a_worker_that_ends_meanwhile_keeps_what_was_recorded(app: RunningApp, tmp_path: Path) -> None:
    client = app.clients[0]
    worker = app.ready(client, "back")[0]
    call = client.pid(worker.pid).call.spin_around("never")
    process = start(app, tmp_path, "back.0", "--seconds", "600", "-o", "flame.svg")
    os.kill(worker.pid, signal.SIGKILL)
    out, err = process.communicate(timeout=patient(60))
    assert (process.returncode, "; the worker exited during the recording\n" in out) == (0, True), (out, err)
    with pytest.raises(mob.Lost):
        call.result(patient(20))
    wait_until(lambda: len(app.ready(client, "back")) == 2, "its successor is there")


def start(app: RunningApp, directory: Path, *arguments: str) -> subprocess.Popen[str]:
    """Begin to record; when py-spy has taken its first samples."""
    process = subprocess.Popen(
        command(app, *arguments),
        cwd=directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    )
    wait_until(lambda: [each for each in spies() if _samples(each)], "py-spy samples")
    return process


def _samples(spy: psutil.Process) -> bool:
    try:
        return spy.cpu_times().user + spy.cpu_times().system > 0.05
    except psutil.NoSuchProcess:
        return False


def test_ctrl_c_keeps_what_was_recorded_and_leaves_no_process(app: RunningApp, tmp_path: Path) -> None:
    process = start(app, tmp_path, "idle", "--seconds", "600", "--idle", "-o", "flame.svg")
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=patient(60))
    assert process.returncode == 130, (out, err)
    assert "flame.svg: idle.0 (pid " in out
    assert (tmp_path / "flame.svg").read_text().startswith("<?xml")
    assert spies() == []


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
def test_a_command_that_is_killed_takes_py_spy_along(app: RunningApp, tmp_path: Path, signum: int) -> None:
    process = start(app, tmp_path, "idle", "--seconds", "600", "--idle", "-o", "flame.svg")
    (spy,) = spies()
    process.send_signal(signum)
    process.communicate(timeout=patient(60))
    wait_until(lambda: not spy.is_running() or spy.status() == psutil.STATUS_ZOMBIE, "py-spy has ended")
    idle = app.ready(app.clients[0], "idle")[0]
    assert psutil.Process(idle.pid).status() != psutil.STATUS_STOPPED


def test_what_is_refused(app: RunningApp, tmp_path: Path) -> None:
    for arguments, status, text in (
        (("bakc",), 1, "no role 'bakc'"),
        (("back.7",), 1, "there is no back.7 right now. There are: back.0, back.1."),
        (("99999999",), 1, "no worker has pid 99999999"),
        (
            ("b:back",),
            2,
            "'b:back' is on the machine 'b', and only processes of this machine can be profiled. Run `mob ",
        ),
        (("back", "-o", "x.pdf"), 2, "must be one of .svg, .json,"),
        (("back", "-o", "there/x.svg"), 2, "there is no directory 'there'"),
        (("back", "--seconds", "0"), 2, "--seconds"),
    ):
        done = run(app, tmp_path, *arguments)
        assert done.returncode == status, done
        assert text in " ".join(done.stderr.split())
        assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("setpriv") is None, reason="needs root and setpriv")
def test_where_the_system_does_not_allow_it(app: RunningApp, tmp_path: Path) -> None:
    line = ["setpriv", "--bounding-set=-sys_ptrace", *command(app, "back.0", "--seconds", "1")]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=patient(60))
    assert done.returncode == 1
    assert "this user may not read other processes (ptrace)" in done.stderr
    assert "SYS_PTRACE" in done.stderr


def test_without_py_spy(app: RunningApp, tmp_path: Path) -> None:
    code = "import sys; sys.executable = '/nowhere/python'; from mob.cli.main import main; main()"
    line = [sys.executable, "-c", code, "profile", "-a", app.name, "back"]
    env = {**os.environ, "PATH": "/nowhere"}
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=patient(60), env=env)
    assert done.returncode == 1
    assert done.stderr == "Error: `mob profile` needs py-spy. Install it: pip install 'mobsters[profile]'\n"


@pytest.mark.parametrize(
    ("said", "status", "expected"),
    [
        ("Error: Failed to suspend process\nReason: EPERM: Operation not permitted", 1, "SYS_PTRACE"),
        ("Error: Failed to get process executable name. Check that the process is running.", 1, "it has exited."),
        ("py-spy> Sampling\n\nError: No stack counts found\n", 1, "--idle shows where it waits"),
        ("py-spy> Sampling\nError: Failed to find python version\nmore", 1, "status 1: Failed to find python version"),
        ("", 1, "no output"),
        ("", None, "py-spy is still running 10 s after it was asked to end."),
    ],
)
def test_what_is_said_of_failures(said: str, status: int | None, expected: str) -> None:
    assert expected in problem_of(said, status)
