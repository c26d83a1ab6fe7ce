"""Interpreters like this one, with a function of mob as the program."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mob.errors import PlanError
from mob.rim import interpreter


def test_it_has_the_module_path_and_flags_and_files_of_the_app_hide_nothing_of_mob(tmp_path: Path) -> None:
    """The app's files hide mob's dependencies only from the program, whose path is the requested one."""
    (tmp_path / "queue.py").write_text("raise AssertionError('this is a role')")
    (tmp_path / "like_mob.py").write_text("import queue, sys\ndef main(arguments): print(arguments, sys.path[:1])")
    command = interpreter.command("like_mob", (1, "a"), [str(tmp_path), *sys.path], {str(tmp_path)})
    assert command[1:-2] == interpreter.flags()
    ran = subprocess.run(command, check=True, capture_output=True, text=True)
    assert ran.stdout == f"(1, 'a') {[str(tmp_path)]}\n"


def test_a_frozen_program_cannot_start_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    with pytest.raises(PlanError, match=r"this program is frozen .* Deploy the app with a virtual"):
        interpreter.check()


def test_an_embedded_interpreter_cannot_start_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nonexistent")
    with pytest.raises(PlanError, match=r"'/nonexistent'\) is not an interpreter: this one is embedded"):
        interpreter.check()
