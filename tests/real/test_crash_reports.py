"""What is known of a crash afterwards: from `mob.last_error()`, from `mob crashes`, on disk."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import mob
from mob.rim.crashes import MOST, Crash, Crashes, folder
from tests.patience import patient
from tests.real.test_hangs import crashes_of
from tests.real.test_policy import mob_command
from tests.running import Apps, RunningApp, apps_in, wait_until

BACK = """
    import asyncio, ctypes, os, sys, time
    import mob

    def pid():
        return os.getpid()

    def crash(signum):
        for number in range(60):
            print("line", number)
        print("the last word", end="", flush=True)
        os.kill(os.getpid(), signum)

    def reads_nowhere():
        ctypes.string_at(0)

    async def waits():
        print("waits")
        await asyncio.sleep(1000)

    async def leave(status):
        mob.exit(status)

    def die(status):
        os._exit(status)

    def last():
        return mob.last_error()
    """


@pytest.fixture(scope="module")
def crashing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    with apps_in(tmp_path_factory.mktemp("crashes")) as apps:
        app = apps.start('.role("back", "./back.py").role("other", "./back.py")', back=BACK)
        app.wait_ready()
        yield app


def lose(call: Any) -> None:
    """Wait for the end of a call that kills its worker."""
    with pytest.raises(mob.Lost):
        call.result(patient(20))


def test_without_a_crash_there_is_no_report(crashing: RunningApp) -> None:
    assert crashing.connect().require("other").last().result(patient(20)) == ""


def test_a_crash_is_on_record_with_its_last_lines(crashing: RunningApp, monkeypatch: pytest.MonkeyPatch) -> None:
    back = crashing.connect().require("back")
    old = back.pid().result(patient(20))
    lose(back.crash(11))
    report = back.last().result(patient(20))
    assert f"back.0 (pid {old}) was killed by SIGSEGV while it ran back.crash" in report
    crash = crashes_of(crashing, monkeypatch)[-1]
    assert (crash.app, crash.role, crash.index, crash.pid) == (crashing.name, "back", 0, old)
    assert crash.uptime > 0
    assert crash.memory > 1024 * 1024
    assert len(crash.lines) == 50
    assert "the last word" in crash.lines
    assert any("Segmentation fault" in line for line in crash.lines)  # from faulthandler
    assert any("in crash" in line for line in crash.lines)
    assert crash.text() == report


def test_calls_that_ran_beside_are_listed_with_their_age(crashing: RunningApp, monkeypatch: pytest.MonkeyPatch) -> None:
    client = crashing.connect()
    back = client.require("back")
    old = back.pid().result(patient(20))
    calls = [back.waits() for _ in range(3)]
    crashing.wait_for("waits", 3)
    for _ in range(100):
        back.pid().result(patient(20))
    shown = lambda: next(row.calls for row in client.overview() if row.pid == old)  # noqa: E731
    wait_until(lambda: shown() >= 100, "a heartbeat that follows them all arrived")
    for call in (back.die(7), *calls):
        lose(call)
    back.pid().result(patient(20))
    crash = crashes_of(crashing, monkeypatch)[-1]
    assert crash.why == "exited with status 7 while it ran back.die"
    assert [call.label for call in crash.running] == ["back.waits"] * 3
    assert all(call.seconds >= 0 for call in crash.running)


def test_an_end_without_an_error_is_no_crash(crashing: RunningApp, monkeypatch: pytest.MonkeyPatch) -> None:
    client = crashing.connect()
    other = client.require("other")
    old = other.pid().result(patient(20))
    other.leave(0)
    wait_until(lambda: [m for m in crashing.ready(client, "other") if m.pid != old], "it was restarted")
    assert not [crash for crash in crashes_of(crashing, monkeypatch) if crash.pid == old]


def test_an_import_that_fails_is_on_record_with_its_traceback(apps: Apps, monkeypatch: pytest.MonkeyPatch) -> None:
    app = apps.start('.role("back", "./back.py")', back="def foo():\n    1 / 0\nfoo()")
    (crash, *_) = wait_until(lambda: crashes_of(app, monkeypatch), "there is a report")
    assert "ZeroDivisionError: division by zero" in crash.stacks
    assert "in foo" in crash.stacks


def test_reports_outlive_the_kingpin(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py")', back=BACK)
    back = app.wait_ready().require("back")
    pids = []
    for signum in (6, 11):
        pids.append(back.pid().result(patient(20)))
        lose(back.crash(signum))
        back.pid().result(patient(20))
    app.stop()
    latest = mob_command(app, "crashes", app.name)
    assert f"back.0 (pid {pids[1]}) was killed by SIGSEGV" in latest.stdout
    assert str(pids[0]) not in latest.stdout
    both = mob_command(app, "crashes", app.name, "-n", "10").stdout
    assert both.index(f"(pid {pids[0]}) was killed by SIGABRT") < both.index(f"(pid {pids[1]})")
    assert "No crash" in mob_command(app, "crashes", "another-app").stdout


def test_a_new_kingpin_knows_the_last_report(apps: Apps) -> None:
    first = apps.start('.role("back", "./back.py")', name="t-crash-again", back=BACK)
    back = first.wait_ready().require("back")
    old = back.pid().result(patient(20))
    lose(back.die(1))
    back.pid().result(patient(20))
    first.stop()
    again = apps.start('.role("back", "./back.py")', name="t-crash-again", back=BACK)
    assert f"(pid {old})" in again.wait_ready().require("back").last().result(patient(20))


def test_there_are_never_more_than_fifty(apps: Apps, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(apps.directory / "state"))
    name = "t-crash-many"
    records = Crashes(name)
    for number in range(MOST):
        records.add(Crash(1e9 + number, name, "back", 0, number + 1, 1, "died", 1.0, 1, (), "", ()))
    app = apps.start('.role("back", "./back.py")', name=name, back=BACK)
    back = app.wait_ready().require("back")
    old = back.pid().result(patient(20))
    lose(back.die(1))
    back.pid().result(patient(20))
    assert len(list(folder(name).iterdir())) == MOST
    assert [Crashes(name).all()[at].pid for at in (0, -1)] == [2, old]


def test_a_place_that_cannot_be_written_is_told_once(apps: Apps, tmp_path: Path) -> None:
    (apps.directory / "state").write_text("a file where a directory should be")
    app = apps.start('.role("back", "./back.py")', back=BACK)
    back = app.wait_ready().require("back")
    for _ in range(2):
        old = back.pid().result(patient(20))
        lose(back.die(1))
        back.pid().result(patient(20))
    assert f"(pid {old}) exited with status 1" in back.last().result(patient(20))
    told = app.wait_for(r"mob \| crash reports cannot be written to .*: (Not a directory|File exists)")
    assert len(told) == 1
    assert os.path.isfile(tmp_path / "state")
