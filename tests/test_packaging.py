"""What a newcomer and a package index see: the readme, the license, the command."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


@pytest.mark.parametrize("command", ["make run", "make test"])
def test_the_readme_names_the_first_commands(command: str) -> None:
    assert command in (ROOT / PROJECT["readme"]).read_text("utf-8")


def test_the_licence_is_mit_everywhere() -> None:
    assert PROJECT["license"] == "MIT"
    assert (ROOT / "LICENSE").read_text("utf-8").startswith("MIT License\n")


def test_the_command_exists() -> None:
    module, _, function = PROJECT["scripts"]["mob"].partition(":")
    source = (ROOT / "src" / module.replace(".", "/")).with_suffix(".py").read_text("utf-8")
    assert f"\ndef {function}(" in source


def test_the_changelog_tells_of_this_version_or_the_next() -> None:
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert f"## [{PROJECT['version']}]" in text or "## [Unreleased]" in text


def test_only_the_system_on_which_the_tests_run_is_claimed() -> None:
    systems = [each for each in PROJECT["classifiers"] if each.startswith("Operating System ::")]
    assert systems == ["Operating System :: POSIX :: Linux"]


def test_who_finds_a_vulnerability_finds_out_how_to_report_it() -> None:
    assert "private vulnerability reporting" in (ROOT / "SECURITY.md").read_text("utf-8")
    assert "(SECURITY.md)" in (ROOT / PROJECT["readme"]).read_text("utf-8")
