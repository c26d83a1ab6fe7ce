"""`mob stubs`: writes the typed interfaces of an app's roles. `cli/stubs.py` does the work."""

from __future__ import annotations

from pathlib import Path

import click

from mob.cli import stubs as stub_maker
from mob.cli.output import echo
from mob.errors import MobError


@click.command()
@click.argument("script", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write to this file instead of standard output.",
)
def stubs(script: Path, output: Path | None) -> None:
    """Write a typed interface of every role of an app.

    The result is for `mob.require("back", Back)`. SCRIPT is the app's main script or its TOML file. Neither it nor the
    modules of the roles are run.
    """
    try:
        sources, warnings = stub_maker.read(script)
        made = stub_maker.written(sources, script.name)
    except (MobError, OSError, UnicodeDecodeError) as error:
        raise click.ClickException(str(error)) from error
    for warning in (*warnings, *made.warnings):
        echo(f"Warning: {warning}", err=True)
    if not sources:
        raise click.ClickException(f"no role of {script} could be read.")
    if output is None:
        echo(made.text, nl=False)
    else:
        output.write_text(made.text, "utf-8")
