"""Workers that do not get ready, and workers that hang: killed in time, with an explanation."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

import mob
from mob.rim.crashes import Crash, Crashes
from tests.patience import patient
from tests.running import Apps, RunningApp, apps_in, freeze, wait_until

HANG_TIMEOUT = 2.0
BACK = """
    import asyncio, os, re, sys, time, threading
    import mob

    def pid():
        return os.getpid()

    def busy(seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            pass
        return os.getpid()

    def sleeps_for_ever():
        print("is about to sleep")
        time.sleep(1_000_000)

    async def spins_in_a_task():
        await asyncio.sleep(0)
        while True:
            pass

    def holds_the_lock():
        print("is about to count")
        return sum(range(10**15))  # one call into C that never lets go of the interpreter

    def searches():
        return re.match("(a+)+b", "a" * 60)  # so is this

    async def waits(seconds):
        await asyncio.sleep(seconds)
        return os.getpid()

    def last():
        return mob.last_error()
    """
PATIENT = """
    import os, time, mob

    @mob.export(timeout=60)
    def may_take_its_time(seconds):
        time.sleep(seconds)
        return os.getpid()

    @mob.export
    def may_not(seconds):
        time.sleep(seconds)
    """


def crashes_of(app: RunningApp, monkeypatch: pytest.MonkeyPatch) -> list[Crash]:
    """Return the reports on disk."""
    monkeypatch.setenv("XDG_STATE_HOME", str(app.directory / "state"))
    return Crashes(app.name).all()


@pytest.fixture(scope="module")
def hanging(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    with apps_in(tmp_path_factory.mktemp("hangs")) as apps:
        options = f"hang_timeout={HANG_TIMEOUT}"
        roles = f'.role("back", "./back.py", {options}).role("patient", "./patient.py", {options})'
        app = apps.start(roles, options="grace=2", back=BACK, patient=PATIENT)
        app.wait_ready()
        yield app


def ready_pid(app: RunningApp, client: mob.Client) -> int:
    """Return the pid of the worker, once there is one."""
    return int(wait_until(lambda: app.ready(client, "back"), "it is ready")[0].pid)


@pytest.mark.parametrize(("export", "seconds"), [("busy", HANG_TIMEOUT - 0.8), ("waits", HANG_TIMEOUT + 2)])
def test_what_may_take_so_long_is_not_killed(hanging: RunningApp, export: str, seconds: float) -> None:
    client = hanging.connect()
    pid = ready_pid(hanging, client)
    assert getattr(client.require("back"), export)(seconds).result(patient(30)) == pid


def test_an_export_that_says_how_long_it_may_take_may_take_so_long(hanging: RunningApp) -> None:
    client = hanging.connect()
    (old,) = (member.pid for member in hanging.ready(client, "patient"))
    role = client.require("patient")
    assert role.may_take_its_time(5.0).result(patient(30)) == old
    with pytest.raises(mob.Lost):
        role.may_not(60.0).result(patient(30))
    assert role.may_take_its_time(0.0).result(patient(30)) != old


def test_many_busy_calls_in_a_row_are_no_hang(hanging: RunningApp) -> None:
    client = hanging.connect()
    pid = ready_pid(hanging, client)
    calls = [client.require("back").busy(0.5) for _ in range(8)]
    assert {call.result(patient(30)) for call in calls} == {pid}


@pytest.mark.parametrize(
    ("export", "where"),
    [
        ("sleeps_for_ever", "time.sleep(1_000_000)"),
        ("spins_in_a_task", "in spins_in_a_task"),
        ("holds_the_lock", "in holds_the_lock"),
        ("searches", "in searches"),
    ],
)
def test_what_stands_still_is_killed_and_explained(
    hanging: RunningApp, monkeypatch: pytest.MonkeyPatch, export: str, where: str
) -> None:
    client = hanging.connect()
    old = ready_pid(hanging, client)
    begun = time.monotonic()
    with pytest.raises(mob.Lost):
        getattr(client.require("back"), export)().result(patient(30))
    assert HANG_TIMEOUT <= time.monotonic() - begun < HANG_TIMEOUT + patient(5)
    hanging.wait_for(rf"mob \| back\.0 \(pid {old}\) hangs: .* \(hang_timeout=2\); killing it\.")
    report = client.require("back").last().result(patient(20))
    assert f"(pid {old}) hangs: " in report
    assert where in report, report
    crash = crashes_of(hanging, monkeypatch)[-1]
    assert crash.pid == old
    assert crash.memory > 1024 * 1024
    assert f"back.{export}" in report


def test_one_that_was_stopped_is_killed(hanging: RunningApp, monkeypatch: pytest.MonkeyPatch) -> None:
    client = hanging.connect()
    old = ready_pid(hanging, client)
    freeze(old)
    wait_until(lambda: [m.pid for m in hanging.ready(client, "back") if m.pid != old], "its successor is ready")
    crash = crashes_of(hanging, monkeypatch)[-1]
    assert (crash.pid, crash.index) == (old, 0)
    assert "no heartbeat for" in crash.why


def test_a_kingpin_that_has_stood_still_itself_blames_nobody(hanging: RunningApp) -> None:
    client = hanging.connect()
    pid = ready_pid(hanging, client)
    freeze(hanging.process.pid)
    began = time.monotonic()
    wait_until(lambda: time.monotonic() - began > HANG_TIMEOUT + 2.5, "more than the limit has passed")
    os.kill(hanging.process.pid, 18)  # SIGCONT
    assert client.require("back").waits(2.5).result(patient(20)) == pid


@pytest.mark.parametrize(
    ("module", "where"),
    [
        ("import time\ntime.sleep(1_000_000)", "back.py"),
        (
            "import mob\n@mob.on('start')\nasync def wait():\n    import asyncio\n    await asyncio.sleep(1000)",
            "in wait",
        ),
        ("print('counts')\nsum(range(10**15))", "back.py"),
    ],
    ids=["sleeps", "awaits", "holds the lock"],
)
def test_one_that_does_not_get_ready_is_killed_and_explained(
    apps: Apps, monkeypatch: pytest.MonkeyPatch, module: str, where: str
) -> None:
    app = apps.start('.role("back", "./back.py", boot_timeout=3)', options="grace=1", back=module)
    app.wait_for(r"mob \| back\.0 \(pid \d+\) was not ready within 3 s \(boot_timeout\); killing it\.")

    def explained() -> list[Crash]:  # on a busy machine one may be killed before it has come to its module
        return [crash for crash in crashes_of(app, monkeypatch) if where in crash.text()]

    (crash, *_) = wait_until(explained, f"a report says {where}")
    assert crash.why == "was not ready within 3 s (boot_timeout)"
    app.wait_for(r"was not ready within 3 s \(boot_timeout\); restarting it in 0\.\d s\.")
