"""What the commands that ask a running app share: which app is meant, a client of it, JSON, and completion.

What goes wrong is said as the command's own error, with its exit code (the table `EXIT_CODES` is the only one). While a
shell completes a word nothing is an error: what cannot be had is not offered.
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
    MISSPELLED: "the command was misspelled, or does not say which app",
    NOT_RUNNING: "no such app is running, or it belongs to another user",
    INTERRUPTED: "ended by Ctrl-C",
}
"""What a command's exit status says."""
VARIABLE = "MOB_APP"
"""In the environment: which app is meant."""


class CommandError(click.ClickException):
    """What has gone wrong, and the exit status that says so."""

    def __init__(self, message: str, exit_code: int = FAILED) -> None:
        super().__init__(printable(message))
        self.exit_code = exit_code  # pyright: ignore[reportAttributeAccessIssue]  click has it for each class


# ------------------------------------------------------------------------------------------------------ which app


def complete_app(_context: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The apps that run."""
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
    help="The app's name; needed only when several run. Default: $MOB_APP, or the app of this directory.",
)
"""Says which app is meant; the function gets it as `name`."""


def app_argument(command: Callable[..., Any]) -> Callable[..., Any]:
    """Has a command take the app's name as its argument, or as `-a NAME`; the function gets it as `name`."""

    @wraps(command)
    def named(app: str | None, name: str | None, **options: Any) -> Any:
        if app and name and app != name:
            raise CommandError(f"two apps are named: {app!r} and {name!r}. Name one.", MISSPELLED)
        return command(name=app or name, **options)

    return click.argument("app", required=False, metavar="[APP]", shell_complete=complete_app)(app_option(named))


def complete_node(context: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The machines of the app that is meant."""
    return _items(_ask(context, lambda app: [machine.name for machine in app.nodes()]), incomplete)


def node_option(text: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Says which machine of the cluster is meant; the function gets it as `node`. `text`: what it is without it."""
    return click.option("--node", metavar="NAME", shell_complete=complete_node, help=f"The machine; {text}.")


def default_app() -> str:
    """The app that is meant without a name, whatever else runs: that of $MOB_APP, else that of this directory's main
    script or TOML file, if it runs; "" if there is none."""
    if name := os.environ.get(VARIABLE, ""):
        return name
    name = described_here()
    return name if name in app_names() else ""


def app_names() -> set[str]:
    """The apps of this user that run here, by their own names: one may be several machines of a cluster."""
    return {name.partition("@")[0] for name in running_apps()}


def described_here() -> str:
    """The app that this directory's main script or TOML file describes, whether it runs or not; "" if there is none."""
    try:
        return app_of(Path.cwd())
    except OSError:  # the directory is gone
        return ""


def only_app(any_node: bool = False) -> str:
    """The name of the default app, or of the only one of this user that runs; for root, who has none, of anybody. A
    `CommandError` if that is not clear. `any_node`: of several machines of a cluster that are this one, each will
    do."""
    if os.environ.get(VARIABLE):
        return os.environ[VARIABLE]
    names, others = running_apps(), {name for user, name in all_apps() if user != os.getuid()}
    if not names and os.getuid() == 0:
        names = sorted(others)
    known = {name.partition("@")[0] for name in names}
    if (here := described_here()) and here not in known and len(known) == 1:
        raise CommandError(
            f"{here!r}, the app of this directory, is not running. {names[0]!r} is; if you mean that one, say "
            f"-a {names[0]}.",
            NOT_RUNNING,
        )
    if len(names) == 1 or (any_node and len(known) == 1):
        return names[0]
    if here in known and (here in names or any_node):
        return here
    if names:
        raise CommandError(
            f"several apps are running: {', '.join(names)}. Say which with -a NAME, or set {VARIABLE}.", MISSPELLED
        )
    of_others = f" (Of other users: {', '.join(sorted(others))}.)" if others else ""
    hint = "Start one with `mob run main.py`."
    raise CommandError(f"no app of yours is running on this machine. {hint}{of_others}", NOT_RUNNING)


def _one_node(name: str) -> str:
    """Of an app that runs as several machines on this one, the first."""
    names = running_apps()
    return next((each for each in names if each.startswith(f"{name}@")), name) if name not in names else name


@contextmanager
def connected(name: str | None, node: str | None = None, any_node: bool = False) -> Generator[client.Client]:
    """A client of that app, or of the only one that runs, on that machine; what goes wrong is said as the command's own
    error. `any_node`: whichever machine it runs on."""
    was_named = bool(name)
    try:
        name = name or only_app(any_node or node is not None)
        with client.connect(_one_node(name) if any_node and node is None else name, node) as app:
            yield app
    except AppNotRunning as error:
        hint = f" {VARIABLE} names it." if name == os.environ.get(VARIABLE) and not was_named else ""
        raise CommandError(f"{error}{hint}", FAILED if error.pid else NOT_RUNNING) from error
    except MobError as error:
        raise CommandError(str(error)) from error
    except TimeoutError as error:
        who = f"the Kingpin of {node!r}" if node else "the Kingpin"
        raise CommandError(
            f"{who} did not answer within {client.CONNECT_TIMEOUT:g} s. Is it stopped (Ctrl-Z)?"
        ) from error


# ----------------------------------------------------------------------------------------------------------- JSON

json_option: Decorator = click.option("--json", "as_json", is_flag=True, help="Print JSON, for other programs.")
"""The function gets it as `as_json`."""


def print_json(obj: Any) -> None:
    """Prints it as JSON: indented for a person, one line for a program. Structs become objects with named fields."""
    data = json_printable(msgspec.json.encode(_named(obj), enc_hook=repr))
    if sys.stdout.isatty():
        data = msgspec.json.format(data)
    click.echo(data)


def _named(obj: Any) -> Any:
    """Messages are arrays on the wire; who reads JSON wants names."""
    if isinstance(obj, msgspec.Struct):
        return {field: _named(getattr(obj, field)) for field in obj.__struct_fields__}
    if isinstance(obj, (list, tuple)):
        return [_named(each) for each in cast(Iterable[Any], obj)]
    if isinstance(obj, dict):
        return {key: _named(value) for key, value in cast(dict[Any, Any], obj).items()}
    return obj


# ----------------------------------------------------------------------------------------------------- completion


def complete_role(context: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The roles of the app that is meant."""
    return _items(_ask(context, lambda app: app.roles()), incomplete)


def complete_pid(context: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The pids of its mobsters on the machine that is meant, each with what it is."""
    found = _ask(
        context, lambda app: [(member.pid, place_name(member.role, member.index)) for member in _mobsters(app)]
    )
    return [CompletionItem(str(pid), help=label) for pid, label in found if str(pid).startswith(incomplete)]


def complete_role_or_pid(context: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Both."""
    return [*complete_role(context, param, incomplete), *complete_pid(context, param, incomplete)]


def _mobsters(app: client.Client) -> list[Any]:
    return sorted((each for each in app.members(here=True) if each.role), key=lambda each: (each.role, each.index))


def _ask(context: click.Context, question: Callable[[client.Client], Iterable[Any]]) -> list[Any]:
    """What the app says; nothing if it says nothing."""
    try:
        node = context.params.get("node")
        node = None if node == "all" else node
        with client.connect(context.params.get("name") or only_app(any_node=True), node) as app:
            return list(question(app))
    except (click.ClickException, MobError, OSError):  # `TimeoutError` is one
        return []


def _items(names: Iterable[str], incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(plain(name)) for name in sorted(names) if name.startswith(incomplete)]
