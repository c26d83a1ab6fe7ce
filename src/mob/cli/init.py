"""`mob init`: writes a small app to start from. It overwrites nothing: it writes all files, or none."""

from __future__ import annotations

import os
from pathlib import Path

import click

from mob.cli.apps import CommandError
from mob.cli.starter import files, name_for
from mob.plan import check_app_name


@click.command()
@click.argument("directory", default=".", type=click.Path(file_okay=False, path_type=Path))
@click.option("--minimal", is_flag=True, help="Write only main.py and back.py.")
def init(directory: Path, minimal: bool) -> None:
    """Write a small app to start from.

    The files go into DIRECTORY (default: the current one). Existing files are never touched: if one of the files exists
    already, nothing is written and the exit status is 1.
    """
    app = check_app_name(name_for(directory.resolve().name))
    new = files(app, is_minimal=minimal)
    there = [name for name in new if os.path.lexists(directory / name)]
    if there:
        raise CommandError(
            f"nothing was written: {directory} already has {', '.join(there)}. Name another directory: "
            f"`mob init my-{app}`."
        )
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, text in new.items():
            with open(directory / name, "x", encoding="utf-8") as file:
                file.write(text)
    except OSError as error:
        raise CommandError(f"{error.filename} cannot be written: {error.strerror}.") from error
    click.echo(f"Wrote the app {app} into {directory}: {', '.join(new)}.\n\nNext:\n")
    for command, about in _next(directory, minimal):
        click.echo(f"    {command:<34} {f'# {about}' if about else ''}".rstrip())


def _next(directory: Path, minimal: bool) -> list[tuple[str, str]]:
    """Return the next commands to try, each with an explanation."""
    enter = [] if directory.resolve() == Path.cwd() else [(f"cd {directory}", "")]
    whole = [("curl http://127.0.0.1:8000/Ada", ""), ("pytest", "the tests, in test_app.py")]
    return [
        *enter,
        ("mob run --watch main.py", "reloads when a file changes; Ctrl-C stops it"),
        ("mob ps", "in another terminal: list its processes"),
        ("mob call back.greet Ada", "call a function of the role back"),
        *([] if minimal else whole),
    ]
