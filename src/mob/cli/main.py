"""The `mob` command: puts the subcommands together.

Each command is a thin view: it connects as a client, asks, and draws; a module holds one command or a small family.
What they share is in `cli/apps.py`. A command's module is imported only when it is used: `mob run` becomes a Kingpin,
which needs none of the others.
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
"""Every command, and the module below `mob.cli` that defines it under its name."""


class Main(click.Group):
    """The group of commands. A misspelled command gets a suggestion, and Ctrl-C has an exit status of its own."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        if cmd_name not in COMMANDS:
            return None
        command = cast(click.Command, getattr(importlib.import_module(f"mob.cli.{COMMANDS[cmd_name]}"), cmd_name))
        entry.begin()
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or suggest the nearest name."""
        if args and args[0] not in COMMANDS and args[0][:1] != "-" and not ctx.resilient_parsing:
            ctx.fail(f"there is no command {args[0]!r}. {nearest(args[0], COMMANDS)}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
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
    """Run one Python application as several supervised processes."""
