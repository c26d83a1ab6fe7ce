"""The `mob` command. Each command is a thin view: it connects as a client, asks, and draws.

Exit codes: 0 done; 1 the app or the request failed; 2 the command was misspelled (click's own).
"""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import click
import psutil
from rich import box
from rich.console import Console
from rich.table import Table

from mob import client
from mob.cli import stubs as stub_maker, watch as watcher
from mob.cli.chaos.command import chaos
from mob.errors import MobError, PlanError
from mob.rim.addresses import running_apps
from mob.rim.crashes import Crashes
from mob.wire.messages import Row

STATE_STYLES = {
    "ready": "green",
    "booting": "yellow",
    "launching": "yellow",
    "draining": "cyan",
    "failing": "red",
    "failed": "red",
}


app_option = click.option("-a", "--app", "name", help="The app's name; needed only when several run.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="mobsters", prog_name="mob")
def main() -> None:
    """mob runs one Python application over several supervised processes."""


main.add_command(chaos)


@main.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("script", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
@click.option("--watch", is_flag=True, help="Reload whenever a Python file below the app's base has changed.")
def run(script: Path, args: tuple[str, ...], watch: bool) -> None:
    """Run an app: SCRIPT is its main script, as `python SCRIPT` would run it.

    --watch may also stand right after SCRIPT; what comes after it goes to the script.
    """
    if args[:1] == ("--watch",):
        watch, args = True, args[1:]
    if watch:
        watcher.prepare()
    sys.argv = [str(script), *args]
    sys.path[0] = str(script.resolve().parent)
    try:
        runpy.run_path(str(script), run_name="__main__")
    except MobError as error:
        sys.last_value = error  # as the interpreter says that it has shown an error
        raise click.ClickException(str(error)) from error


@main.command()
@app_option
def ps(name: str | None) -> None:
    """Show the processes of a running app."""
    with _connected(name) as app:
        rows, kingpin = app.overview(), app.kingpin_pid
    console = Console()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = 160  # into a pipe: lines are for another program, not for a window
    console.print(_table(f"{app.app} · Kingpin {kingpin}", rows))


@main.command()
@click.argument("roles", nargs=-1)
@app_option
def reload(roles: tuple[str, ...], name: str | None) -> None:
    """Replace the workers by new ones with new code, without a gap: of ROLES, or of all roles.

    If the new ones do not come up, the old ones stay, and the exit code is 1.
    """
    with _connected(name) as app:
        click.echo(app.reload(*roles))


@main.command()
@app_option
def upgrade(name: str | None) -> None:
    """Replace the Kingpin by one with new code (of mob, of the main script), without a gap.

    If the new one does not come up, the old one stays, and the exit code is 1. The workers go on as they are; `mob
    reload` replaces them.
    """
    with _connected(name) as app:
        click.echo(app.upgrade())


@main.command()
@click.argument("sizes", nargs=-1, required=True, metavar="ROLE=N...")
@app_option
def scale(sizes: tuple[str, ...], name: str | None) -> None:
    """Give roles another number of workers: `mob scale back=8`, or `back=+1`, `back=-1`."""
    wanted: list[tuple[str, int, bool]] = []
    for size in sizes:
        role, _, count = size.partition("=")
        if not role or not count.lstrip("+-").isdigit():
            raise click.BadParameter(f"{size!r} is not ROLE=N, such as back=8 or back=+1.")
        wanted.append((role, int(count), count[0] in "+-"))
    with _connected(name) as app:
        for role, number, relative in wanted:
            click.echo(app.scale(role, number, relative=relative))


@main.command()
@click.argument("name", metavar="APP", required=False)
@click.option("-n", "--number", default=1, show_default=True, help="How many reports, the latest last.")
def crashes(name: str | None, number: int) -> None:
    """Show the reports of the last crashes of an app, also when it does not run any more."""
    try:
        name = name or _only_app()
    except MobError as error:
        raise click.ClickException(f"{error} Or name the app: `mob crashes APP`.") from error
    reports = Crashes(name).all()[-number:]
    if not reports:
        click.echo(f"No crash of {name!r} is on record.")
        return
    click.echo("\n\n".join(report.text() for report in reports))


@main.command()
@click.argument("script", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Write into this file, not to the screen."
)
def stubs(script: Path, output: Path | None) -> None:
    """Write a typed interface of every role of an app, for `mob.require("back", Back)`.

    SCRIPT is the app's main script. Neither it nor the modules of the roles are run.
    """
    try:
        sources, warnings = stub_maker.read(script)
        made = stub_maker.written(sources, script.name)
    except (MobError, OSError, UnicodeDecodeError) as error:
        raise click.ClickException(str(error)) from error
    for warning in (*warnings, *made.warnings):
        click.echo(f"Warning: {warning}", err=True)
    if not sources:
        raise click.ClickException(f"nothing is known of any role of {script}.")
    if output is None:
        click.echo(made.text, nl=False)
    else:
        output.write_text(made.text, "utf-8")


@contextmanager
def _connected(name: str | None) -> Generator[client.Client]:
    """A client of that app, or of the only one that runs; what goes wrong is said as the command's own error."""
    try:
        with client.connect(name or _only_app()) as app:
            yield app
    except MobError as error:
        raise click.ClickException(str(error)) from error


def _only_app() -> str:
    names = running_apps()
    if len(names) == 1:
        return names[0]
    if not names:
        raise PlanError("no app of yours is running on this machine. Start one with `mob run main.py`.")
    raise PlanError(f"several apps are running: {', '.join(names)}. Say which with -a NAME.")


def _table(title: str, rows: tuple[Row, ...]) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, collapse_padding=True, pad_edge=False)
    for heading in ("role", "index", "pid", "state", "uptime", "restarts", "calls", "memory", "shared", "note"):
        justify = "left" if heading in ("role", "state", "note") else "right"
        table.add_column(heading, justify=justify, no_wrap=heading != "note", overflow="fold")
    for row in rows:
        style = STATE_STYLES.get(row.state, "white")
        table.add_row(
            row.role,
            str(row.index),
            str(row.pid or "-"),
            f"[{style}]{row.state}[/]",
            _duration(row.uptime) if row.pid else "-",
            str(row.restarts),
            f"{row.calls:,}",
            _memory(row.pid),
            f"{row.shared / 1024 / 1024:.0f} MB" if row.pid else "-",
            row.note,
        )
    return table


def _duration(seconds: float) -> str:
    """Short and readable: `8s`, `3m 05s`, `2h 10m`, `4d 6h`.

    >>> [_duration(s) for s in (8.4, 185, 7800, 367200)]
    ['8s', '3m 05s', '2h 10m', '4d 6h']
    """
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02}s"
    if whole < 86400:
        return f"{whole // 3600}h {whole % 3600 // 60:02}m"
    return f"{whole // 86400}d {whole % 86400 // 3600}h"


def _memory(pid: int) -> str:
    try:
        return f"{psutil.Process(pid).memory_info().rss / 1024 / 1024:.0f} MB" if pid else "-"
    except psutil.Error:
        return "-"
