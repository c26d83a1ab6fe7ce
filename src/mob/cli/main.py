"""The `mob` command: its parts are put together here. Each command is a thin view: it connects as a client, asks, and
draws; one module holds a command or a small family. What they share is in `cli/apps.py`.

A command's module is imported when it is wanted: `mob run` becomes a Kingpin, which needs nothing of the others.
"""

from __future__ import annotations

import importlib
from typing import Any, cast

import click

from mob.cli import apps, entry
from mob.core.printable import printable
from mob.errors import nearest

COMMANDS = {
    "apps": "every",
    "call": "call",
    "chaos": "chaos.command",
    "check": "check",
    "completion": "completion",
    "crashes": "reports",
    "doctor": "doctor.command",
    "init": "init",
    "jobs": "jobs",
    "logs": "logs",
    "metrics": "reports",
    "nats": "nats",
    "profile": "profile",
    "ps": "ps",
    "reload": "steer",
    "restart": "steer",
    "run": "run",
    "scale": "steer",
    "send": "call",
    "shell": "shell",
    "stacks": "stacks",
    "stop": "steer",
    "stubs": "typed",
    "systemd": "systemd",
    "timers": "timers",
    "top": "top.command",
    "upgrade": "steer",
}
"""Every command, and the module below `mob.cli` in which it is found under its name."""


class Main(click.Group):
    """The group: a misspelled command is told the nearest one, and Ctrl-C has an exit status of its own."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Their names."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Imports it."""
        if cmd_name not in COMMANDS:
            return None
        command = cast(click.Command, getattr(importlib.import_module(f"mob.cli.{COMMANDS[cmd_name]}"), cmd_name))
        entry.begin()
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that is meant."""
        if args and args[0] not in COMMANDS and args[0][:1] != "-" and not ctx.resilient_parsing:
            ctx.fail(f"there is no command {args[0]!r}. {nearest(args[0], COMMANDS)}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Runs it."""
        try:
            return super().invoke(ctx)
        except click.ClickException as error:
            error.message = printable(error.message)  # pyright: ignore[reportAttributeAccessIssue]  declared Final
            raise
        except KeyboardInterrupt:
            click.echo(err=True)  # the shell's prompt begins a line of its own
            ctx.exit(apps.INTERRUPTED)


CODES = "\n".join(f"{code:>5}  {meaning}" for code, meaning in apps.EXIT_CODES.items())


@click.group(
    cls=Main,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=f"\b\nExit status:\n{CODES}",
)
@click.version_option(package_name="mobsters", prog_name="mob")
def main() -> None:
    """mob runs one Python application over several supervised processes."""
