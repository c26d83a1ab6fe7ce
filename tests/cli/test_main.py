"""The `mob` command as a whole: its table of commands, and what is imported for one of them."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from mob.cli.apps import EXIT_CODES
from mob.cli.main import COMMANDS, main
from tests.patience import patient

CONTEXT = click.Context(main)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_of_the_table_is_there(name: str) -> None:
    command = main.get_command(CONTEXT, name)
    assert isinstance(command, click.Command)
    assert command.name == name


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_says_what_it_does(name: str) -> None:
    shown = CliRunner().invoke(main, [name, "--help"])
    assert shown.exit_code == 0
    assert shown.output.startswith(f"Usage: main {name} ")


@pytest.mark.parametrize(
    ("typed", "wanted"),
    [
        ("restrat", "Did you mean 'restart'?"),
        ("stop-all", "Did you mean 'stop'?"),
        ("xyzzy", "There are: 'apps', 'call', "),
    ],
)
def test_a_misspelled_command_is_told_the_nearest(typed: str, wanted: str) -> None:
    shown = CliRunner().invoke(main, [typed])
    assert shown.exit_code == 2
    assert f"there is no command {typed!r}. {wanted}" in shown.output


def test_the_help_tells_all_exit_statuses() -> None:
    shown = CliRunner().invoke(main, ["-h"]).output
    assert all(f"{code}  {meaning}" in shown for code, meaning in EXIT_CODES.items())


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("mob.cli.main", ("rich", "psutil", "mob.cli.run", "mob.cli.ps")),
        ("mob.cli.run", ("rich", "watchfiles", "mob.cli.ps", "mob.cli.steer", "mob.cli.chaos")),
    ],
)
def test_what_a_command_does_not_need_is_not_imported(module: str, unwanted: tuple[str, ...]) -> None:
    code = f"import sys, {module}; print(*sorted({set(unwanted)!r} & sys.modules.keys()))"
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=patient(30), check=True
    )
    assert shown.stdout == "\n"
