"""The commands that report on an app: crashes, metrics."""

from __future__ import annotations

import os

import click

from mob.cli.apps import (
    VARIABLE,
    CommandError,
    app_argument,
    connected,
    described_here,
    json_option,
    node_option,
    only_app,
    print_json,
)
from mob.cli.output import echo
from mob.exposition import exposition
from mob.rim.crashes import Crashes


@click.command()
@app_argument
@click.option(
    "-n",
    "--number",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Number of crashes to show, the latest last.",
)
@node_option("default: this machine")
@json_option
def crashes(name: str | None, number: int, node: str | None, as_json: bool) -> None:
    """Show the last crash of an app, or the last few.

    This works also for an app that has ended, by its name or in its directory.
    """
    try:
        name = name or os.environ.get(VARIABLE) or described_here() or only_app(any_node=True)
    except CommandError as error:
        raise CommandError(
            f"{error.message} To see the crashes of an app that has ended, name it: `mob crashes APP`.", error.exit_code
        ) from error
    if node is None:
        reports = Crashes(name.partition("@")[0]).all()[-number:]  # all nodes on this machine share one directory
    else:
        with connected(name, node) as client:
            reports = client.crashes(number)
    if as_json:
        print_json(reports)
    elif reports:
        echo("\n\n".join(report.text() for report in reports))
    else:
        echo(f"No crash of {name!r} is recorded.")


@click.command()
@app_argument
@node_option("default: this machine")
@json_option
def metrics(name: str | None, node: str | None, as_json: bool) -> None:
    """Print the app's metrics in the text format of Prometheus.

    Calls by role and export, their failures, and how long they waited and ran; workers, memory, processor time,
    connections. Counters start with the app and survive its workers.
    """
    with connected(name, node) as app:
        measured = app.metrics()
    if as_json:
        print_json(measured)
    else:
        echo(exposition(measured), nl=False)
