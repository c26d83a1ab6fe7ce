"""`mob run`: runs an app in this process, which becomes its Kingpin.

The app is described by a main script, run as `python SCRIPT` would run it, or by a TOML file (`cli/config.py`). The
options change the app's settings through the same methods that it could have called.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import NoneType, TracebackType
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import click
import msgspec
from msgspec.structs import fields

from mob import app as apps
from mob.cli import config, joining, watch as watcher
from mob.cli.apps import FAILED, MISSPELLED, CommandError
from mob.errors import MobError, nearest
from mob.plan import LOG_FORMATS, Logs

F = TypeVar("F", bound=Callable[..., Any])
FLAGS = ("--watch", "--dashboard")
"""Flags that may also follow the script."""
LOGS = {field.name: f"log_{field.name}" for field in fields(Logs)}
"""Options of the logs, and their parameter names in the command."""


class Script(click.Path):
    """An existing main script or TOML file; for a missing one the error suggests the nearest name."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path."""
        path = Path(value)
        if not path.exists():
            near = [each.name for each in path.parent.glob("*") if each.suffix in (".py", ".toml")]
            self.fail(f"there is no file {str(path)!r}. {nearest(path.name, near)}", param, ctx)
        return super().convert(value, param, ctx)


if TYPE_CHECKING:
    Number = click.ParamType[int]
else:
    Number = click.ParamType  # which is generic in the newest click only


class Permissions(Number):
    """Permissions of a file as in chmod: 640."""

    name = "octal"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number."""
        try:
            return value if isinstance(value, int) else int(str(value).removeprefix("0o"), 8)
        except ValueError:
            self.fail(f"{value!r} is not a file mode in octal, such as 640.", param, ctx)


def log_options(command: F) -> F:
    """Add `--log-format` and the like: an option for each that `plan.Logs` declares."""
    for field in reversed(fields(Logs)):
        if field.name == "raw":
            text = "Write every printed byte to a terminal unchanged, as logs(raw=True) does."
            command = click.option("--raw", "--log-raw", "log_raw", is_flag=True, default=None, help=text)(command)
            continue
        kind = next((each for each in get_args(field.type) if each is not NoneType), field.type)
        choice = {"format": click.Choice(LOG_FORMATS), "mode": Permissions()}.get(field.name, kind)
        text = f"Override logs({field.name}=) of the app."
        command = click.option(f"--log-{field.name.replace('_', '-')}", type=choice, help=text)(command)
    return command


@click.command(context_settings={"allow_interspersed_args": False})
@click.argument("script", required=False, type=Script(dir_okay=False, path_type=Path))
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
@click.option("--watch", is_flag=True, help="Reload whenever a Python file below the app's base directory changes.")
@click.option("--dashboard", is_flag=True, help="Serve the web dashboard.")
@click.option("--dashboard-port", type=click.IntRange(1, 65535), help="Port of the dashboard; implies --dashboard.")
@joining.options
@log_options
def run(
    script: Path | None,
    args: tuple[str, ...],
    watch: bool,
    dashboard: bool,
    dashboard_port: int | None,
    join: tuple[str, ...],
    roles: str | None,
    node: str | None,
    **logs: Any,
) -> None:
    """Run an app from its main script or a TOML file.

    SCRIPT is run as `python SCRIPT` would run it; a name that ends in .toml is a file that describes the app. Without
    SCRIPT, mob looks for a mob.toml or the [tool.mob] of a pyproject.toml, here and in the directories above.

    Options stand before SCRIPT. Arguments after it go to the script, except --watch, --dashboard, --join, --roles and
    --node directly after it.
    """
    joined: dict[str, Any] = {"join": join, "roles": roles, "node": node}
    while True:
        more, args = joining.taken(args)
        joined = {name: more[name] or value for name, value in joined.items()}
        if not args or args[0] not in FLAGS:
            break
        watch, dashboard, args = watch or args[0] == "--watch", dashboard or args[0] == "--dashboard", args[1:]
    joining.prepare(**joined)
    if given := {name: logs[key] for name, key in LOGS.items() if logs[key] is not None}:
        apps.before_run.append(partial(_set_logs, given))
    if dashboard or dashboard_port is not None:
        apps.before_run.append(partial(_add_dashboard, dashboard_port))
    if watch:
        watcher.prepare()
    try:
        if script is None or script.suffix == ".toml":
            _run_file(script, args)
        else:
            _run_script(script, args)
    except MobError as error:
        sys.last_value = error  # as the interpreter says that it has shown an error
        raise click.ClickException(str(error)) from error


def _run_script(script: Path, args: tuple[str, ...]) -> None:
    try:
        apps.run_script(script, *args)
    except (MobError, click.ClickException, click.exceptions.Exit):
        raise
    except Exception as error:  # noqa: BLE001  any exception of the script is shown as the interpreter would show it
        error.__traceback__ = _of_script(error.__traceback__)
        sys.last_value = error  # as the interpreter says that it has shown an error
        sys.excepthook(type(error), error, error.__traceback__)
        raise SystemExit(FAILED) from None
    if (app := apps.forgotten()) is not None:
        told = CommandError(
            f"{script} describes the app {app.plan.name!r} but never runs it. Did you forget .run() at the end?",
            MISSPELLED,
        )
        sys.last_value = told  # as the interpreter says that it has shown an error
        raise told


def _of_script(tb: TracebackType | None) -> TracebackType | None:
    """Return the part of a traceback that concerns the script, without the frames that started it."""
    found, runs = tb, False
    while tb is not None and not (runs and not _is_runpy(tb)):
        runs = runs or _is_runpy(tb)
        tb = tb.tb_next
        found = tb if runs else found
    return found


def _is_runpy(tb: TracebackType) -> bool:
    return tb.tb_frame.f_globals.get("__name__") == "runpy"


def _run_file(path: Path | None, args: tuple[str, ...]) -> None:
    if args:
        raise click.UsageError(
            f"unexpected arguments {' '.join(args)}: there is no script to receive them. Put options first."
        )
    app = config.described(path or config.find(Path.cwd()))
    sys.path[0] = app.plan.base
    app.run()


def _set_logs(given: dict[str, Any], app: apps.App) -> None:
    """Set the given options and keep the app's own for the rest.

    A log file is relative to the current directory, not to the base.
    """
    if given.get("file"):
        given = {**given, "file": str(Path(given["file"]).absolute())}
    app.logs(**{**msgspec.structs.asdict(app.plan.logs), **given})


def _add_dashboard(port: int | None, app: apps.App) -> None:
    """Add a dashboard, unless the app has one, which then keeps its own address."""
    if any(role.name == "dashboard" for role in app.plan.roles):
        if port is not None:
            raise click.UsageError(f"{app.plan.name} configures its dashboard itself: set its port there.")
        return
    if port is None:
        app.dashboard()
    else:
        app.dashboard(port)
