"""What the commands that connect to a running app share: choosing the app, a client of it, JSON, and completion.

Problems are reported as `CommandError` with an exit code (the table `EXIT_CODES` is the only one). During shell
completion nothing is an error: what cannot be determined is not offered.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, cast

import click
import msgspec
from click.shell_completion import CompletionItem

from mob import client
from mob.cli.here import app_of
from mob.core.printable import json_printable, plain, printable
from mob.errors import AppNotRunning, MobError
from mob.plan import place_name
from mob.rim.addresses import all_apps, running_apps

DONE, FAILED, MISSPELLED, NOT_RUNNING, INTERRUPTED = 0, 1, 2, 3, 130
EXIT_CODES = {
    DONE: "done",
    FAILED: "the app or the request failed",
    MISSPELLED: "wrong usage, or it is unclear which app is meant",
    NOT_RUNNING: "no such app is running, or it belongs to another user",
    INTERRUPTED: "ended by Ctrl-C",
}
"""Meaning of each exit status."""
VARIABLE = "MOB_APP"
"""Environment variable that names the app."""


class CommandError(click.ClickException):
    """An error message and the exit status that goes with it."""

    def __init__(self, message: str, exit_code: int = FAILED) -> None:
        super().__init__(printable(message))
        self.exit_code = exit_code  # pyright: ignore[reportAttributeAccessIssue]  click has it for each class


# ------------------------------------------------------------------------------------------------------ which app


def complete_app(_context: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the running apps."""
    try:
        return _items(running_apps(), incomplete)
    except OSError:
        return []


Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

app_option: Decorator = click.option(
    "-a",
    "--app",
    "name",
    metavar="NAME",
    shell_complete=complete_app,
    help="Name of the app, needed only if several run. Default: $MOB_APP, or the app of this directory.",
)
"""Option that names the app; the function receives it as `name`."""


def app_argument(command: Callable[..., Any]) -> Callable[..., Any]:
    """Let a command take the app's name as its argument or as `-a NAME`; the function receives it as `name`."""

    @wraps(command)
    def named(app: str | None, name: str | None, **options: Any) -> Any:
        if app and name and app != name:
            raise CommandError(f"two apps given: {app!r} and {name!r}. Name only one.", MISSPELLED)
        return command(name=app or name, **options)

    return click.argument("app", required=False, metavar="[APP]", shell_complete=complete_app)(app_option(named))


def complete_node(context: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the machines of the chosen app."""
    return _items(_ask(context, lambda app: [machine.name for machine in app.nodes()]), incomplete)


def node_option(text: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return the option that names a machine of the cluster; the function receives it as `node`.

    `text` says what is meant without the option.
    """
    return click.option("--node", metavar="NAME", shell_complete=complete_node, help=f"Name of the machine; {text}.")


def default_app() -> str:
    """Return the app that is meant without a name, whatever else runs, or "".

    That is the one in $MOB_APP, else the one of this directory's main script or TOML file, if it runs.
    """
    if name := os.environ.get(VARIABLE, ""):
        return name
    name = described_here()
    return name if name in app_names() else ""


def app_names() -> set[str]:
    """Return this user's apps that run here, by their own names: one may run as several machines of a cluster."""
    return {name.partition("@")[0] for name in running_apps()}


def described_here() -> str:
    """Return the app that this directory's main script or TOML file describes, running or not, or ""."""
    try:
        return app_of(Path.cwd())
    except OSError:  # the directory was deleted
        return ""


def only_app(any_node: bool = False) -> str:
    """Return the name of the default app, or of the only running app of this user (for root without one: of any user).

    Raises `CommandError` if that is ambiguous. `any_node`: if several machines of a cluster run here, any of them will
    do.
    """
    if os.environ.get(VARIABLE):
        return os.environ[VARIABLE]
    names, others = running_apps(), {name for user, name in all_apps() if user != os.getuid()}
    if not names and os.getuid() == 0:
        names = sorted(others)
    known = {name.partition("@")[0] for name in names}
    if (here := described_here()) and here not in known and len(known) == 1:
        raise CommandError(
            f"{here!r}, the app of this directory, is not running. {names[0]!r} is; to use that one, add "
            f"-a {names[0]}.",
            NOT_RUNNING,
        )
    if len(names) == 1 or (any_node and len(known) == 1):
        return names[0]
    if here in known and (here in names or any_node):
        return here
    if names:
        raise CommandError(
            f"several apps are running: {', '.join(names)}. Choose one with -a NAME, or set {VARIABLE}.", MISSPELLED
        )
    of_others = f" (Apps of other users: {', '.join(sorted(others))}.)" if others else ""
    hint = "Start one with `mob run main.py`."
    raise CommandError(f"no app of yours is running on this machine. {hint}{of_others}", NOT_RUNNING)


def _one_node(name: str) -> str:
    """Return the first machine of an app that runs as several machines on this one."""
    names = running_apps()
    return next((each for each in names if each.startswith(f"{name}@")), name) if name not in names else name


@contextmanager
def connected(name: str | None, node: str | None = None, any_node: bool = False) -> Generator[client.Client]:
    """Yield a client of the named app, or of the only one that runs, on that machine; errors become `CommandError`.

    `any_node`: connect to any machine on which the app runs.
    """
    was_named = bool(name)
    try:
        name = name or only_app(any_node or node is not None)
        with client.connect(_one_node(name) if any_node and node is None else name, node) as app:
            yield app
    except AppNotRunning as error:
        hint = f" Its name comes from {VARIABLE}." if name == os.environ.get(VARIABLE) and not was_named else ""
        raise CommandError(f"{error}{hint}", FAILED if error.pid else NOT_RUNNING) from error
    except MobError as error:
        raise CommandError(str(error)) from error
    except TimeoutError as error:
        who = f"the Kingpin (supervisor) of {node!r}" if node else "the Kingpin (supervisor)"
        raise CommandError(
            f"{who} did not answer within {client.CONNECT_TIMEOUT:g} s. Is it stopped (Ctrl-Z)?"
        ) from error


# ----------------------------------------------------------------------------------------------------------- JSON

json_option: Decorator = click.option("--json", "as_json", is_flag=True, help="Print JSON, for other programs.")
"""The function receives it as `as_json`."""


def print_json(obj: Any) -> None:
    """Print an object as JSON: indented on a terminal, one line in a pipe. Structs become objects with named fields."""
    data = json_printable(msgspec.json.encode(_named(obj), enc_hook=repr))
    if sys.stdout.isatty():
        data = msgspec.json.format(data)
    click.echo(data)


def _named(obj: Any) -> Any:
    """Return messages as dicts, because they are arrays on the wire and readers of JSON expect names."""
    if isinstance(obj, msgspec.Struct):
        return {field: _named(getattr(obj, field)) for field in obj.__struct_fields__}
    if isinstance(obj, (list, tuple)):
        return [_named(each) for each in cast(Iterable[Any], obj)]
    if isinstance(obj, dict):
        return {key: _named(value) for key, value in cast(dict[Any, Any], obj).items()}
    return obj


# ----------------------------------------------------------------------------------------------------- completion


def complete_role(context: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the roles of the chosen app."""
    return _items(_ask(context, lambda app: app.roles()), incomplete)


def complete_pid(context: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the pids of the app's workers on the chosen machine, each with its place."""
    found = _ask(
        context, lambda app: [(member.pid, place_name(member.role, member.index)) for member in _mobsters(app)]
    )
    return [CompletionItem(str(pid), help=label) for pid, label in found if str(pid).startswith(incomplete)]


def complete_role_or_pid(context: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return roles and pids."""
    return [*complete_role(context, param, incomplete), *complete_pid(context, param, incomplete)]


def _mobsters(app: client.Client) -> list[Any]:
    return sorted((each for each in app.members(here=True) if each.role), key=lambda each: (each.role, each.index))


def _ask(context: click.Context, question: Callable[[client.Client], Iterable[Any]]) -> list[Any]:
    """Return the app's answer; an empty list if it does not answer."""
    try:
        node = context.params.get("node")
        node = None if node == "all" else node
        with client.connect(context.params.get("name") or only_app(any_node=True), node) as app:
            return list(question(app))
    except (click.ClickException, MobError, OSError):  # `TimeoutError` is one
        return []


def _items(names: Iterable[str], incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(plain(name)) for name in sorted(names) if name.startswith(incomplete)]
