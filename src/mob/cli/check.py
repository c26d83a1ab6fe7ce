"""`mob check`: tells whether the app is alive or ready. For probes, which look only at the exit status."""

from __future__ import annotations

import click

from mob.cli.apps import (
    FAILED,
    NOT_RUNNING,
    CommandError,
    app_argument,
    complete_role,
    connected,
    json_option,
    node_option,
    print_json,
)
from mob.cli.output import echo


@click.command()
@app_argument
@click.option(
    "--ready", "is_ready", is_flag=True, help="Check that every role can take work, not only that the app is alive."
)
@click.option(
    "--role",
    "roles",
    multiple=True,
    metavar="ROLE",
    shell_complete=complete_role,
    help="Check only this role; may be repeated. Implies --ready.",
)
@node_option("default: this machine")
@json_option
def check(name: str | None, is_ready: bool, roles: tuple[str, ...], node: str | None, as_json: bool) -> None:
    """Check whether an app is alive, or ready for work.

    The exit status is 0 if so, and 1 if not. The app is alive if its Kingpin (supervisor) answers. With --ready, every
    role must also have a ready worker, and the app must not be stopping.
    """
    try:
        with connected(name, node, any_node=node is None) as app:
            problems = app.not_ready(*roles)
    except CommandError as error:
        raise CommandError(error.message, FAILED if error.exit_code == NOT_RUNNING else error.exit_code) from error
    problems = problems if is_ready or roles else []
    if as_json:
        print_json({"ok": not problems, "problems": problems})
    elif not problems:
        echo("ready" if is_ready or roles else "alive")
    else:
        raise CommandError("not ready: " + "; ".join(problems))
    if problems:
        raise click.exceptions.Exit(FAILED)
