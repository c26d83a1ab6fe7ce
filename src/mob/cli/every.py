"""`mob apps`: the apps running on this machine."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import click
import msgspec
from rich import box
from rich.markup import escape
from rich.table import Table

from mob.cli.apps import NOT_RUNNING, CommandError, connected, json_option, only_app, print_json
from mob.cli.machines import MOST
from mob.cli.ps import console_for_tables
from mob.cli.shown import duration
from mob.core.printable import printable
from mob.rim.addresses import running_apps


class AppRow(msgspec.Struct, frozen=True):
    """A line of the table; JSON uses the same field names."""

    app: str
    pid: int
    """Pid of the Kingpin; 0 if it does not answer."""
    uptime: float
    """Seconds since the app started."""
    ready: int
    workers: int
    """Target number of workers."""
    roles: tuple[str, ...]
    problem: str = ""
    """Why nothing is known about the app; empty if it answered."""


@click.command()
@json_option
def apps(as_json: bool) -> None:
    """List the running apps of this user. If several machines of a cluster run here, each is listed."""
    with ThreadPoolExecutor(MOST, "mob-ask") as threads:
        found = [each for each in threads.map(_running, running_apps()) if each is not None]
    if as_json:
        print_json(found)
    elif found:
        console_for_tables().print(_table(found))
    else:
        only_app()  # raises if no app runs
        raise CommandError("no app of yours is running on this machine.", NOT_RUNNING)


def _running(name: str) -> AppRow | None:
    """Return the row of an app; None if it has ended in the meantime."""
    try:
        with connected(name) as app:
            seen = app.metrics()
    except CommandError as error:
        return None if error.exit_code == NOT_RUNNING else AppRow(name, 0, 0.0, 0, 0, (), error.message)
    ready, workers = sum(role.ready for role in seen.roles), sum(role.target for role in seen.roles)
    return AppRow(name, seen.kingpin_pid, seen.uptime, ready, workers, tuple(role.name for role in seen.roles))


def _table(found: list[AppRow]) -> Table:
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading, justify in (("app", "left"), ("kingpin", "right"), ("uptime", "right"), ("ready", "right")):
        made.add_column(heading, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    made.add_column("roles")
    for each in found:
        if each.problem:
            made.add_row(each.app, "-", "-", "-", f"[red]{escape(printable(each.problem))}[/]")
        else:
            ready = f"{each.ready}/{each.workers}"
            made.add_row(each.app, str(each.pid), duration(each.uptime), ready, ", ".join(each.roles))
    return made
