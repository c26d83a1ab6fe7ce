"""`mob check`: is the app alive, is it ready? For probes, which look at the exit status only."""

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
@click.option("--ready", "is_ready", is_flag=True, help="Whether each role can take work, not only whether it lives.")
@click.option(
    "--role",
    "roles",
    multiple=True,
    metavar="ROLE",
    shell_complete=complete_role,
    help="Look at this role only; may be repeated. Implies --ready.",
)
@node_option("without it, this one")
@json_option
def check(name: str | None, is_ready: bool, roles: tuple[str, ...], node: str | None, as_json: bool) -> None:
    """Tell by the exit status whether an app is alive, or ready for work: 0 if so, 1 if not.

    It is alive when its Kingpin answers. With --ready each role must have a ready worker as well, and the app must not
    be stopping.
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
