"""`mob call` and `mob send`: call an export or send a message from a shell. JSON goes in and comes out.

A result is one JSON value; a stream is one line for each item, printed as it arrives. An error goes to stderr together
with the remote traceback. Ctrl-C cancels the call, or closes the stream, at the other end too.
"""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Generator
from contextlib import closing, contextmanager
from typing import Any

import click
import msgspec
from click.shell_completion import CompletionItem

from mob.cli.apps import CommandError, app_option, complete_pid, complete_role, connected
from mob.cli.output import console, echo
from mob.cli.values import arguments_of, as_json, value_of
from mob.client import Client
from mob.core.printable import json_printable
from mob.core.roster import is_ready
from mob.core.states import CallState
from mob.errors import CallError, MobError, PartialFailure, RemoteError, counted, nearest, summary_of
from mob.peer.results.call import Call

NUMBER = re.compile(r"-[\d.].*")
QUIET = 1.0
"""Seconds after which a call that no worker can take is explained."""


class WithNumbers(click.Command):
    """A command whose arguments may be negative numbers, which click would parse as options."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Let numbers through; report unknown options as usual."""
        known = [name for param in self.get_params(ctx) for name in (*param.opts, *param.secondary_opts)]
        for arg in args:
            if arg == "--" or ctx.resilient_parsing:  # a shell is completing a word
                break
            name = arg.partition("=")[0] if arg.startswith("--") else arg[:2]
            if arg.startswith("-") and arg != "-" and name not in known and not NUMBER.fullmatch(arg):
                raise click.NoSuchOption(
                    name,
                    f"There is no option {name!r}. {nearest(name, [each for each in known if each.startswith('--')])} "
                    f"To pass an argument that begins with a dash, put `--` before it.",
                    ctx=ctx,
                )
        return super().parse_args(ctx, args)


def complete_export(context: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the exports of all roles, each with its signature."""
    try:
        with connected(context.params.get("name")) as app:
            found = {
                f"{role}.{each.name}": each.signature
                for role, info in app.roles().items()
                for each in info.exports or ()
            }
    except (click.ClickException, OSError):
        return []
    return [CompletionItem(name, help=about) for name, about in sorted(found.items()) if name.startswith(incomplete)]


@click.command(cls=WithNumbers, context_settings={"ignore_unknown_options": True})
@click.argument("export", required=False, metavar="ROLE.EXPORT", shell_complete=complete_export)
@click.argument("arguments", nargs=-1, metavar="[VALUE | NAME=VALUE | -]...")
@click.option(
    "--timeout", type=click.FloatRange(min=0, min_open=True), help="Maximum number of seconds for the whole call."
)
@click.option("--pid", type=int, shell_complete=complete_pid, help="Call this worker of the role instead of any one.")
@click.option("--all", "to_all", is_flag=True, help="Call all workers of the role; the result is {pid: value}.")
@click.option("--text", "as_text", is_flag=True, help="Treat all values as text, even if they are JSON.")
@app_option
def call(
    export: str | None,
    arguments: tuple[str, ...],
    timeout: float | None,
    pid: int | None,
    to_all: bool,
    as_text: bool,
    name: str | None,
) -> None:
    """Call an export of a role and print its result as JSON.

    For example `mob call back.foo 1 x=2`. A VALUE is parsed as JSON if possible, else taken as text; NAME=VALUE is a
    keyword argument; - reads one JSON value from standard input. The items of a stream are printed as they arrive, one
    per line; Ctrl-C closes the stream.

    `mob call back` lists the exports of a role, `mob call` those of all roles.
    """
    if export is None or ("." not in export and not arguments):
        with connected(name) as app:
            _list(app, export)
        return
    role, dot, function = export.rpartition(".")
    if not dot or not role or not function:
        raise click.BadParameter(
            f"{export!r} does not have the form ROLE.EXPORT, as in back.foo.", param_hint="ROLE.EXPORT"
        )
    if to_all and pid is not None:
        raise click.UsageError("--pid calls one worker and --all calls all of them: use only one of the two.")
    if sum(word == "-" or word.endswith("=-") for word in arguments) > 1:
        raise click.UsageError("'-' reads a value from standard input, so it can be used only once.")
    args, kwargs = arguments_of(arguments, lambda: _read(as_text), as_text=as_text)
    with connected(name) as app:
        if (
            role not in (roles := app.roles()) and role.partition(".")[0] in roles
        ):  # a method: the proxy says what to do
            role, _, function = export.partition(".")
        try:
            with (
                _waiting_explained(app, role) as made,
                closing(_results(app, role, function, args, kwargs, timeout, pid, to_all, made)) as results,
            ):
                for result in results:
                    _print(result)
        except PartialFailure as error:
            _print(error.results)
            raise CommandError(_partial(error)) from error
        except RemoteError as error:
            raise CommandError(told_of(error)) from error


def _list(app: Client, wanted: str | None) -> None:
    """Print the exports of a role or of all roles: the signature and the first line of the docstring."""
    roles = app.roles()
    if wanted is not None and wanted not in roles:
        raise MobError(f"this app has no role {wanted!r}. {nearest(wanted, roles)}")
    for role, info in roles.items():
        if wanted not in (None, role):
            continue
        if info.exports is None:
            why = f" {info.failing}" if info.failing else ""
            echo(f"No worker of {role!r} has been ready yet, so its exports are not known yet.{why}", err=True)
        elif not info.exports and wanted is not None:
            echo(f"{role!r} exports nothing.", err=True)
        for each in info.exports or ():
            about = each.doc.strip().partition("\n")[0].rstrip()
            echo(f"{role}.{each.name}{each.signature}" + (f"    {about}" if about else ""))


@contextmanager
def _waiting_explained(app: Client, role: str) -> Generator[list[Call[Any]]]:
    """Explain on stderr why nothing happens if calls in the list still wait after a second and no worker is ready."""
    made: list[Call[Any]] = []
    timer = threading.Timer(QUIET, _explain_waiting, (app, role, made))
    timer.daemon = True
    timer.start()
    try:
        yield made
    finally:
        timer.cancel()


def _explain_waiting(app: Client, role: str, made: list[Call[Any]]) -> None:
    if not any(each.state is CallState.WAITING for each in made):  # else it may run in a worker that is about to end
        return
    try:
        if (info := app.roles().get(role)) is None or any(is_ready(each, role) for each in app.members()):
            return
    except (MobError, TimeoutError):  # the app has ended: the call says so
        return
    why = f" ({info.failing.removesuffix('.')})" if info.failing else ""
    echo(f"No worker of {role!r} is ready{why}; waiting for one. Press Ctrl-C to give up.", err=True)


def _results(
    app: Client,
    role: str,
    function: str,
    args: list[Any],
    kwargs: dict[str, Any],
    timeout: float | None,
    pid: int | None,
    to_all: bool,
    made: list[Call[Any]],
) -> Generator[Any]:
    """Yield what is to be printed: one value, or the items of a stream.

    A call that may have to wait is added to `made`.
    """
    proxy = app.require(role)
    if to_all:
        yield app.all(role).start_call(function, *args, **kwargs).result(timeout)
        return
    if hasattr(type(proxy), function) or function.startswith("_"):  # an export that the proxy's own names hide
        running = app.any(role).start_call(function, *args, **kwargs)
    else:
        running = getattr(proxy.options(timeout=timeout, pid=pid), function)(*args, **kwargs)
    made.append(running)
    yield from results_of(running)


def results_of(running: Call[Any]) -> Generator[Any]:
    """Yield the one value of a call, or the items of its stream as they arrive. Closing this cancels the call."""
    stream = running.stream()
    try:
        yield next(stream)
        yield from stream
    except StopIteration:
        return
    except CallError:
        error = running.exception()
        if error is not None:
            raise error from error.__cause__
        yield running.result()  # it was not a stream
    finally:
        stream.close()


def _read(as_text: bool) -> Any:
    """Return the value read from standard input."""
    text = sys.stdin.read()
    if as_text:
        return text
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        shown = text.strip() if len(text.strip()) <= 60 else f"{text.strip()[:60]}..."
        raise CommandError(
            f"standard input is not one JSON value: {error} ({shown!r}). For plain text use --text."
        ) from error


def _print(value: Any) -> None:
    """Print a value on a line of its own; on a terminal indented and in color."""
    data = json_printable(as_json(value)).decode()
    if sys.stdout.isatty():
        console().print_json(data)
    else:
        echo(data)


def told_of(error: RemoteError) -> str:
    """Return the error as it looked where it was raised."""
    where = f"\n\nIn the worker:\n{error.remote_traceback.strip()}" if error.remote_traceback else ""
    return f"the export raised {summary_of(error)}{where}"


def _partial(error: PartialFailure) -> str:
    told = [f"{pid}: {told_of(each) if isinstance(each, RemoteError) else each}" for pid, each in error.errors.items()]
    return "\n".join([f"{len(told)} of {len(told) + len(error.results)} workers failed.", *told])


# ------------------------------------------------------------------------------------------------------------- send


@click.command(cls=WithNumbers, context_settings={"ignore_unknown_options": True})
@click.argument("message", metavar="JSON|-")
@click.option("--all", "to_all", is_flag=True, help="Send to all workers of the app.")
@click.option("--role", shell_complete=complete_role, help="Send to all workers of this role.")
@click.option(
    "--any", "any_of", metavar="ROLE", shell_complete=complete_role, help="Send to any one worker of this role."
)
@click.option("--pid", type=int, shell_complete=complete_pid, help="Send to the worker with this pid.")
@click.option("--text", "as_text", is_flag=True, help="Treat the message as text, even if it is JSON.")
@app_option
def send(
    message: str,
    to_all: bool,
    role: str | None,
    any_of: str | None,
    pid: int | None,
    as_text: bool,
    name: str | None,
) -> None:
    """Send a message to workers of an app.

    They handle it with `mob.on("message")`: `mob send --role back '{"x": 1}'`. The message is parsed as JSON if
    possible, else taken as text; - reads one JSON value from standard input.
    """
    if sum((to_all, role is not None, any_of is not None, pid is not None)) != 1:
        raise click.UsageError("no receiver given. Use exactly one of --all, --role ROLE, --any ROLE, --pid PID.")
    value = _read(as_text) if message == "-" else value_of(message, as_text=as_text)
    with connected(name) as app:
        receivers = _send(app, value, role, any_of, pid)
        roles = app.roles()
        hear = sum(roles[each].hears for each in receivers)
    those = f"{hear:,} with a handler" if hear else 'none of which has a handler (@mob.on("message"))'
    echo(f"sent to {counted(len(receivers), 'worker')}, {those}.", err=True)


def _send(app: Client, value: Any, role: str | None, any_of: str | None, pid: int | None) -> list[str]:
    """Send the message; return the role of each worker that receives it."""
    if pid is not None:
        there = next((member for member in app.members() if member.pid == pid and member.role), None)
        if there is None:
            raise MobError(f"no worker has pid {pid}. `mob ps` lists the workers.")
        app.pid(pid).send(value)
        return [there.role]
    of = role if role is not None else any_of
    target = None if of is None else app.all(of) if role is not None else app.any(of)
    ready = [member for member in app.members() if is_ready(member, of or "")]
    if not ready:
        raise CommandError(f"not sent: no worker {f'of {of!r} ' if of else ''}is ready.")
    send_it = app.send if target is None else target.send
    send_it(value)
    return [member.role for member in ready[: 1 if any_of is not None else None]]
