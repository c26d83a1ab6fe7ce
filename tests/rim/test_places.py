"""Paths as the user spelled them, and places that may not exist."""

from __future__ import annotations

import os
import pwd
import sys
from pathlib import Path

import pytest

from mob.cli.doctor import facts
from mob.rim import crashes, places
from mob.wire.messages import Running


@pytest.fixture
def current(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a link to a release, through which no one came here so far."""
    root = Path(os.path.realpath(tmp_path))
    (root / "r1" / "pkg").mkdir(parents=True)
    (root / "current").symlink_to("r1")
    monkeypatch.setattr(sys, "argv", ["main.py"])
    monkeypatch.delenv("PWD", raising=False)
    return root / "current"


def test_a_working_directory_that_was_removed_is_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = Path(os.path.realpath(tmp_path)) / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    monkeypatch.setenv("PWD", "/typed")
    gone.rmdir()
    assert places.here() == str(gone)
    assert places.spelled("main.py") == f"{gone}/main.py"


def test_a_path_has_the_link_of_the_working_directory(current: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(current)
    release = os.getcwd()
    assert places.here() == release
    assert places.spelled(f"{release}/pkg/a.py") == f"{release}/pkg/a.py"
    monkeypatch.setenv("PWD", str(current))
    assert places.here() == str(current)
    assert places.spelled(f"{release}/pkg/a.py") == f"{current}/pkg/a.py"
    assert places.spelled("main.py") == f"{current}/main.py"
    assert places.spelled("pkg/../main.py") == f"{current}/main.py"
    assert places.spelled(f"{release}0/main.py") == f"{release}0/main.py"


def test_a_path_has_the_link_of_the_script_or_of_the_interpreter(
    current: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = os.path.realpath(current)
    monkeypatch.setattr(sys, "argv", [f"{current}/main.py"])
    assert places.spelled(f"{release}/a.py") == f"{current}/a.py"
    monkeypatch.setattr(sys, "argv", ["main.py"])
    monkeypatch.setattr(sys, "executable", f"{current}/venv/bin/python")
    assert places.spelled(f"{release}/a.py") == f"{current}/a.py"


def test_a_working_directory_that_was_left_is_not_believed(current: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(current.parent)
    monkeypatch.setenv("PWD", str(current))  # as in the shell that started this process
    assert places.here() == str(current.parent)
    monkeypatch.setenv("PWD", "/nowhere")
    assert places.here() == str(current.parent)


def test_a_user_without_a_home_is_told_where_reports_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", nobody)
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    why = "this user has no home directory, and XDG_STATE_HOME is not set"
    with pytest.raises(FileNotFoundError, match=why):
        places.state_directory()
    reports = crashes.Crashes("myapp")
    report = crashes.Crash(1.0, "myapp", "back", 0, 7, 1, "died", 1.0, 0, (Running("f", 1.0, "front.0"),), "", ())
    reports.add(report)
    assert reports.problem == f"crash reports cannot be written: {why}"
    assert reports.last("back") == report
    assert reports.all() == []
    assert crashes.latest("myapp", 3) == ()
    assert facts.look().state == why
