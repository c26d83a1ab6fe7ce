"""The commands that do something with a running app: reload, restart, scale, stop, upgrade.

They end when it is done, and with status 1 if it does not come to that. In a cluster a reload goes over all machines,
one after the other; all else is for this machine, unless `--node` says otherwise.
"""

from __future__ import annotations

import math
import signal
from contextlib import closing, suppress
from time import monotonic

import click
from click.shell_completion import CompletionItem

from mob.cli.apps import (
    CommandError,
    Decorator,
    app_argument,
    app_option,
    complete_role,
    complete_role_or_pid,
    connected,
    node_option,
)
from mob.cli.machines import ALL, chosen, in_turn, label
from mob.cli.output import echo
from mob.cli.waiting import Workers, wait_ready
from mob.client import Client
from mob.core.handing import STARTS_WITHOUT
from mob.core.selector import selector_of
from mob.errors import AppNotRunning, counted
from mob.plan import GATEWAY
from mob.rim.pidfds import ProcessHandle
from mob.rim.processes import is_stopped

STEER_TIMEOUT = 60.0
STOP_RETRY = 2.0
"""Seconds after which `mob stop --now` sends another signal to a Kingpin that lets nobody in."""
HERE = f"without it, this one; {ALL!r}: all of them"

wait_option: Decorator = click.option(
    "--wait/--no-wait", default=True, help="Whether to wait until the new ones are ready (yes)."
)
timeout_option: Decorator = click.option(
    "--timeout",
    type=click.FloatRange(min=0),
    default=STEER_TIMEOUT,
    show_default=True,
    help="Seconds to wait for that.",
)


@click.command()
@click.argument("roles", nargs=-1, shell_complete=complete_role)
@app_option
@node_option("without it, all of them, one after the other")
def reload(roles: tuple[str, ...], name: str | None, node: str | None) -> None:
    """Replace workers by new ones with new code, without a gap.

    Those of ROLES, or of all roles.
    If the new ones do not come up, the old ones stay, and the exit status is 1; machines whose turn has not come are
    left as they are.
    """
    with connected(name, any_node=True) as app:
        in_turn(app, chosen(app, node or ALL), lambda there: _reload(there, app, roles))


def _reload(there: Client, here: Client, roles: tuple[str, ...]) -> str:
    try:
        return there.reload(*roles)
    except AppNotRunning:
        if GATEWAY not in roles or there is here:
            raise
        return "its gateways are replaced, and the link to it has ended with the old one; `mob ps` shows the new ones."


@click.command()
@click.argument("targets", nargs=-1, required=True, metavar="ROLE...|PID", shell_complete=complete_role_or_pid)
@app_option
@node_option(HERE)
@wait_option
@timeout_option
def restart(targets: tuple[str, ...], name: str | None, node: str | None, wait: bool, timeout: float) -> None:
    """End workers and launch others in their places.

    Those of these roles, or the one with that pid. Each finishes what it has first. There is a gap; for new code
    without one there is `mob reload`.
    """
    pids = [pid for target in targets if (pid := selector_of(target).pid) is not None]
    if pids and len(targets) > 1:
        raise click.BadParameter("wanted are roles, or one pid.")
    if pids and node == ALL:
        raise click.BadParameter("a pid is of one machine: say which.", param_hint="--node")

    def act(app: Client) -> str:
        before = app.metrics()
        roles = {each.role for each in before.mobsters if each.pid in pids} or set(targets)
        places = {(each.role, each.index) for each in before.mobsters if each.pid in pids}
        since = app.history(math.inf).now if wait else 0.0
        text = app.restart(*targets)
        if not wait:
            return text
        echo(label(app) + text)
        ready = wait_ready(app, Workers(before, roles, places).replacing(before), timeout)
        return "\n".join([ready, *_lost(app, since)])

    with connected(name, any_node=node is not None) as app:
        in_turn(app, chosen(app, node), act)


def _lost(app: Client, since: float) -> list[str]:
    """Return what the log says of data that was to be handed over since then, and is lost."""
    return [event.text for event in app.history(since).events if event.text.endswith(STARTS_WITHOUT)]


def complete_size(context: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The roles, each with the sign that follows."""
    return [CompletionItem(f"{item.value}=") for item in complete_role(context, param, incomplete)]


@click.command()
@click.argument("sizes", nargs=-1, required=True, metavar="ROLE=N...", shell_complete=complete_size)
@app_option
@node_option(HERE)
@wait_option
@timeout_option
def scale(sizes: tuple[str, ...], name: str | None, node: str | None, wait: bool, timeout: float) -> None:
    """Give roles another number of workers.

    `mob scale back=8` makes it eight, `back=+1` one more, `back=-1` one less.
    """
    wanted = [_size(size) for size in sizes]

    def act(app: Client) -> str:
        before = app.metrics()
        told = [app.scale(role, number, relative=relative) for role, number, relative in wanted]
        if not wait:
            return "\n".join(told)
        echo("\n".join(label(app) + text for text in told))
        return wait_ready(app, Workers(before, {role for role, *_ in wanted}), timeout)

    with connected(name, any_node=node is not None) as app:
        in_turn(app, chosen(app, node), act)


def _size(text: str) -> tuple[str, int, bool]:
    """The role, the number, and whether it is so many more."""
    role, _, count = text.partition("=")
    if not role or not count.lstrip("+-").isdigit():
        raise click.BadParameter(f"{text!r} is not ROLE=N, such as back=8 or back=+1.")
    try:
        return role, int(count), count[0] in "+-"
    except ValueError:
        raise click.BadParameter(f"{text!r} is not ROLE=N, such as back=8 or back=+1.") from None


@click.command()
@app_argument
@node_option(HERE)
@click.option("--now", is_flag=True, help="Kill, without waiting for what is under way.")
@click.option(
    "--timeout", type=click.FloatRange(min=0), help="Seconds to wait for the end; without it, as long as it takes."
)
def stop(name: str | None, node: str | None, now: bool, timeout: float | None) -> None:
    """Stop an app in order, and wait until it has ended.

    As Ctrl-C and SIGTERM do. --now is for an app that hangs. A Kingpin that lets nobody in is sent the signal.
    """

    def act(app: Client) -> str:
        try:
            app.stop(at_once=now)
        except AppNotRunning:
            if app is not here:
                raise  # perhaps it is only out of reach
        if not app.wait_stopped(timeout):
            raise CommandError(f"{app.app} is still stopping after {timeout:g} s. `mob stop --now` ends it at once.")
        return f"{app.app} has stopped."

    try:
        with connected(name, any_node=node is not None) as here:
            in_turn(here, chosen(here, node)[::-1], act)  # this machine last: the others are reached through it
    except CommandError as failure:
        error = failure.__cause__
        if not isinstance(error, AppNotRunning) or not error.pid or is_stopped(error.pid):
            raise
        if not _stop_by_signal(error.pid, now, timeout):
            raise
        echo(f"{error} It was sent SIGTERM, and has stopped.")


def _stop_by_signal(pid: int, now: bool, timeout: float | None) -> bool:
    """Stop an app whose Kingpin lets nobody in; return whether it has ended in time."""
    deadline = math.inf if timeout is None else monotonic() + timeout
    with suppress(ProcessLookupError), closing(ProcessHandle(pid)) as kingpin:
        kingpin.signal(signal.SIGTERM)
        while not kingpin.has_ended(min(STOP_RETRY, max(0.0, deadline - monotonic()))):
            if monotonic() >= deadline:
                return False
            if now:
                kingpin.signal(signal.SIGTERM)  # the second one is "at once"
    return True


@click.command()
@app_argument
@node_option(HERE)
def upgrade(name: str | None, node: str | None) -> None:
    """Replace the Kingpin by one with new code, without a gap.

    New code of mob, of the main script. If the new one does not come up, the old one stays, and the exit status is 1.
    The workers go on as they are; `mob reload` replaces them.
    """
    with connected(name, any_node=node is not None) as app:
        in_turn(app, chosen(app, node), _upgrade)


def _upgrade(app: Client) -> str:
    app.upgrade()
    count = sum(1 for row in app.overview() if row.pid)
    return f"the Kingpin of {app.app} runs new code; its {counted(count, 'worker')} went on."
