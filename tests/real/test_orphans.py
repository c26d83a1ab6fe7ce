"""All processes of an app are killed at the same moment, as `pkill -9 NAME` does: nothing that it started remains."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.patience import patient
from tests.running import Apps, RunningApp, is_alive, wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="there is a guardian on Linux only")

FAMILY = """
import multiprocessing
import os
import subprocess
import sys
import time

SLEEP = [sys.executable, "-c", "import time; time.sleep(3000)"]
QUIET = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}

def sleep():
    time.sleep(3000)

def detach():
    if not os.fork():
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 1)
        os.dup2(null, 2)
        if os.fork():
            os._exit(0)
        sleep()

children = [
    subprocess.Popen(["sleep", "3000"]),
    subprocess.Popen(["sh", "-c", "trap '' TERM; sleep 3000; sleep 3000"]),
    subprocess.Popen([sys.executable, "-c", "import subprocess; subprocess.run(['sleep', '3000'])"]),
    subprocess.Popen(SLEEP, env={}, **QUIET),
    subprocess.Popen(SLEEP, start_new_session=True, **QUIET),
    subprocess.Popen(SLEEP, start_new_session=True, env={}),
]
detach()
multiprocessing.get_context("fork").Process(target=sleep, daemon=True).start()
multiprocessing.get_context("spawn").Process(target=time.sleep, args=(3000,), daemon=True).start()

def pid():
    return os.getpid()
"""
MARK = "TEST_ORPHANS"


class Killed:
    """An app whose processes are all known, however they were started."""

    def __init__(self, apps: Apps, roles: str = '.role("back", "./back.py", workers=2)', **files: Any) -> None:
        self.mark = uuid.uuid4().hex
        files = files or {"back": FAMILY}
        self.app: RunningApp = apps.start(roles, options="grace=30", env={MARK: self.mark}, **files)
        self._known: dict[int, psutil.Process] = {}

    def look(self) -> list[psutil.Process]:
        """Return all processes of it: descendants, and those with the variable in their environment."""
        for pid in self.app.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                self._known.setdefault(pid, psutil.Process(pid))
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if f"{MARK}={self.mark}".encode() in Path(f"/proc/{process.pid}/environ").read_bytes():
                    self._known.setdefault(process.pid, process)
        return [each for each in self._known.values() if each.is_running() and is_alive(each.pid)]

    def named(self) -> list[psutil.Process]:
        """Return what `pkill -f` finds by the name of the app or of its program."""
        found: list[psutil.Process] = []
        for process in self.look():
            with contextlib.suppress(psutil.NoSuchProcess):
                command = " ".join(process.cmdline())
                if self.app.name in command or "main.py" in command:
                    found.append(process)
        return found

    def kill(self, order: str = "") -> None:
        """Send SIGKILL to all of those, first to those whose titles contain `order`."""
        victims = sorted(self.named(), key=lambda each: not order or order not in " ".join(_title(each)))
        if not order:
            random.shuffle(victims)
        for victim in victims:
            with contextlib.suppress(psutil.NoSuchProcess):
                victim.kill()
        self.app.process.wait()

    def wait_gone(self) -> None:
        """Wait until nothing is left."""
        wait_until(lambda: not self.look(), f"nothing is left, except {self.look()}")

    def end(self) -> None:
        """Kill what is left, whatever happened."""
        for process in self.look():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


def _title(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


@pytest.fixture
def killed(apps: Apps) -> Iterator[Killed]:
    app = Killed(apps)
    yield app
    app.end()


def guardians(app: RunningApp) -> list[int]:
    """Return the app's current guardians."""
    found: list[int] = []
    for pid in app.processes():
        with contextlib.suppress(psutil.NoSuchProcess):
            if psutil.Process(pid).cmdline()[:1] == [f"guardian of pid {app.process.pid}"]:
                found.append(pid)
    return found


@pytest.mark.parametrize("order", ["(kingpin)", "(fork server)", "(mobster)", ""])
def test_all_killed_at_rest(killed: Killed, order: str) -> None:
    killed.app.wait_ready()
    killed.kill(order)
    killed.wait_gone()


@pytest.mark.parametrize(
    ("signum", "at_once", "order"),
    [
        (signal.SIGHUP, True, ""),
        (signal.SIGHUP, False, "(mobster)"),
        (signal.SIGUSR2, False, ""),
        (signal.SIGTERM, False, "(mobster)"),
    ],
)
def test_all_killed_in_a_reload_an_upgrade_a_stop(killed: Killed, signum: int, at_once: bool, order: str) -> None:
    killed.app.wait_ready()
    before = {process.pid for process in killed.named()}
    killed.app.signal(signum)
    if not at_once:
        changed = lambda: {process.pid for process in killed.named()} != before  # noqa: E731
        wait_until(changed, "something changed")
    killed.kill(order)
    killed.wait_gone()


@pytest.mark.parametrize("count", [2, 4, 9])
def test_kingpin_and_fork_server_killed_at_boot(killed: Killed, count: int) -> None:
    wait_until(lambda: len(killed.look()) >= count, "some processes exist")
    for process in killed.named():
        if "(mobster)" not in " ".join(_title(process)):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
    killed.app.process.wait()
    killed.wait_gone()


def test_all_killed_after_the_guardian_was_killed(killed: Killed) -> None:
    killed.app.wait_ready()
    (old,) = guardians(killed.app)
    os.kill(old, signal.SIGKILL)
    wait_until(lambda: [pid for pid in guardians(killed.app) if pid != old], "there is another guardian")
    killed.kill()
    killed.wait_gone()


def test_all_killed_after_the_fork_server_was_killed(killed: Killed) -> None:
    client = killed.app.wait_ready()
    (old,) = guardians(killed.app)
    os.kill(killed.app.fork_server(), signal.SIGKILL)
    killed.app.wait_for("starting a new one")
    wait_until(lambda: guardians(killed.app) not in ([], [old]) and len(guardians(killed.app)) == 1, "one guards")
    assert old not in guardians(killed.app)
    client.close()
    killed.kill("(mobster)")
    killed.wait_gone()


def test_a_guardian_is_found_by_no_name_and_ends_with_the_app(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py")', back="")
    app.wait_ready()
    (pid,) = guardians(app)
    comm = Path(f"/proc/{pid}/comm").read_text()
    assert app.name[:15] not in comm
    assert "python" not in comm
    assert os.getsid(pid) == pid
    assert not any("pipe" in os.readlink(f"/proc/{pid}/fd/{number}") for number in (0, 1, 2))
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(pid, signum)
    assert guardians(app) == [pid]
    assert app.stop() == 0
    assert not is_alive(pid)


PRELOADED = """
import subprocess
child = subprocess.Popen(["sleep", "3000"])
"""


def test_what_was_started_by_a_preload_does_not_stay(apps: Apps) -> None:
    app = Killed(apps, '.preload("early").role("back", "./back.py", workers=2)', early=PRELOADED, back="")
    try:
        app.app.wait_ready()
        assert len(app.look()) == 6
        app.kill("(fork server)")
        app.wait_gone()
    finally:
        app.end()


# ------------------------------------------------------------------------------------------------ the rehearsal

HANGS = """
import os, subprocess, signal, time
if os.environ.get("MOB_UPGRADE"):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    subprocess.Popen(["sleep", "3000"], stdin=-3, stdout=-3, stderr=-3)
    open("hangs", "w").close()
    time.sleep(3000)
import mob
mob.start({name!r}, grace={grace}).base(__file__).role("back", "./back.py").run()
"""


@pytest.mark.parametrize(
    ("who", "signum"), [("Kingpin", signal.SIGTERM), ("Kingpin", signal.SIGKILL), ("all", signal.SIGKILL)]
)
def test_a_rehearsal_that_hangs_ends_with_the_app(apps: Apps, who: str, signum: int) -> None:
    name = f"t{os.getpid()}-rehearsal"
    grace = 0.5 if signum == signal.SIGKILL and who == "Kingpin" else 30
    directory = apps.write(back="", main=HANGS.format(name=name, grace=grace))
    app = apps.run(name, [sys.executable, "main.py"])
    app.wait_ready()
    app.signal(signal.SIGUSR2)
    wait_until((directory / "hangs").exists, "the rehearsal hangs")
    kingpin = psutil.Process(app.process.pid)
    (rehearsal,) = [each for each in kingpin.children() if "main.py" in " ".join(_title(each))]
    (child,) = wait_until(rehearsal.children, "its child runs")
    victims = [app.process.pid, app.fork_server()] if who == "all" else [app.process.pid]
    for pid in victims:
        os.kill(pid, signum)
    app.process.wait(patient(20))
    wait_until(lambda: not is_alive(rehearsal.pid) and not is_alive(child.pid), "the rehearsal and its child exited")
    app.wait_gone()
