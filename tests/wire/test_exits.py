"""The text of a SystemExit says why it was raised."""

from __future__ import annotations

import argparse
import optparse
import sys
from collections.abc import Callable
from typing import Any

import click
import pytest

from mob.wire.exits import text_of


def parse() -> None:
    argparse.ArgumentParser(prog="tool").parse_args(["--wrong"])


def parse_the_old_way() -> None:
    optparse.OptionParser(prog="tool").parse_args(["--wrong"])


def ask_for_help() -> None:
    argparse.ArgumentParser(prog="tool").parse_args(["--help"])


@click.command()
def command() -> None:
    click.echo("never")


def run_click() -> None:
    command(["--wrong"], prog_name="tool")


def give_up() -> None:
    try:
        int("x")
    except ValueError:
        sys.exit(1)


def leave(*code: Any) -> Callable[[], None]:
    return lambda: sys.exit(*code)


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (parse, "sys.exit(2): tool: error: unrecognized arguments: --wrong"),
        (parse_the_old_way, "sys.exit(2): tool: error: no such option: --wrong"),
        (ask_for_help, "sys.exit(0)"),
        (give_up, "sys.exit(1): invalid literal for int() with base 10: 'x'"),
        (leave(), "sys.exit()"),
        (leave(0), "sys.exit(0)"),
        (leave("no such file"), "no such file"),
        (leave([1]), "sys.exit([1])"),
    ],
)
def test_an_exit_says_why(function: Callable[[], None], text: str) -> None:
    with pytest.raises(SystemExit) as caught:
        function()
    assert text_of(caught.value) == text


def test_an_exit_of_click_says_what_click_has_shown() -> None:
    with pytest.raises(SystemExit) as caught:
        run_click()
    assert text_of(caught.value).startswith("sys.exit(2): No such option")


def test_an_exit_that_was_never_raised_has_no_place() -> None:
    assert text_of(SystemExit(2)) == "sys.exit(2)"
