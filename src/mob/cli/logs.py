"""`mob logs`: what the mobsters of a running app print, as its Kingpin keeps the latest of it, and what follows.

A view of `Client.logs`; the lines have the forms in which the Kingpin writes them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import click

from mob.cli.apps import Failure, app_option, complete_role_or_pid, connected
from mob.client import Client
from mob.kingpin.lines import BOLD, COLORS, KINGPIN, Chunk, Form, Origin, as_json, as_painted_text, as_text
from mob.wire.messages import Line

LAST = 50


@click.command()
@click.argument("target", required=False, metavar="[ROLE|ROLE.INDEX|PID]", shell_complete=complete_role_or_pid)
@app_option
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes, until Ctrl-C or the end of the app.")
@click.option("-n", "--last", type=click.IntRange(min=0), default=LAST, show_default=True, help="How many lines first.")
@click.option("--json", "as_objects", is_flag=True, help="Print a JSON object for each line.")
@click.option("--no-color", is_flag=True, help="Print the prefixes without colour, as into a pipe.")
def logs(target: str | None, name: str | None, follow: bool, last: int, as_objects: bool, no_color: bool) -> None:
    """Show what the mobsters print.

    Those of a role, or one of them; or "kingpin", for the Kingpin's own words.
    The Kingpin keeps the latest 2,000 lines of the app (1 MiB at most), also of mobsters that have died.
    """
    color = sys.stdout.isatty() and not no_color and "NO_COLOR" not in os.environ
    form = as_json if as_objects else as_painted_text if color else as_text
    with connected(name) as app:
        wanted = int(target) if target and target.isdecimal() else target or ""
        is_there = _is_there(app, wanted)
        count = _show(app, wanted, last, follow and is_there, form)
        if not is_there and not count:
            raise Failure(f"{_named(wanted)} is not there, and no line of it is kept. `mob ps` lists what is there.")
        if follow and app.wait_stopped(0.0 if isinstance(wanted, int) else 1.0):
            click.echo(f"the app {app.app!r} has ended.", err=True)
        elif follow:
            click.echo(f"{_named(wanted)} has ended.", err=True)


def _show(app: Client, target: str | int, last: int, follow: bool, form: Form) -> int:
    """Prints the lines; how many there were."""
    color_of = _colors(app)
    out, count = sys.stdout.buffer, 0
    for count, line in enumerate(app.logs(target, last=last, follow=follow), 1):  # noqa: B007  the last one is wanted
        out.write(form(_chunk(line, color_of)))
        out.flush()  # a line is seen when it comes
    return count


def _chunk(line: Line, color_of: Callable[[str], int]) -> Chunk:
    role = line.role or KINGPIN  # nobody's: what was left out
    origin = Origin(role, line.index, line.pid or os.getpid(), line.is_error, color_of(role))
    return Chunk(line.at, origin, f"{line.text}\n".encode(errors="replace"), 1)


def _colors(app: Client) -> Callable[[str], int]:
    """The colour of each role; the same as on the terminal of the Kingpin, as long as no role was slow to start."""
    colors = {role: COLORS[number % len(COLORS)] for number, role in enumerate(app.roles())}
    return lambda role: colors.get(role, BOLD)


def _is_there(app: Client, target: str | int) -> bool:
    """Whether somebody prints there at this moment. A role always is, or `logs` says that it is none."""
    if isinstance(target, int):
        return any(member.pid == target and member.role for member in app.members())
    role, _, index = target.rpartition(".")
    if target in app.roles() or role not in app.roles() or not index.isdecimal():
        return True
    return any((row.role, row.index) == (role, int(index)) for row in app.overview())


def _named(target: str | int) -> str:
    return f"the mobster with pid {target}" if isinstance(target, int) else str(target)
