"""`mob stubs`: writes the typed interfaces of the roles of an app. The work is done by `cli/stubs.py`."""

from __future__ import annotations

from pathlib import Path

import click

from mob.cli import stubs as stub_maker
from mob.cli.output import echo
from mob.errors import MobError


@click.command()
@click.argument("script", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Write into this file, not to the screen."
)
def stubs(script: Path, output: Path | None) -> None:
    """Write a typed interface of every role of an app.

    For `mob.require("back", Back)`. SCRIPT is the app's main script or its TOML file. Neither it nor the
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
        raise click.ClickException(f"nothing is known of any role of {script}.")
    if output is None:
        echo(made.text, nl=False)
    else:
        output.write_text(made.text, "utf-8")
