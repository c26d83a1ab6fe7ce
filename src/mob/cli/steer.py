"""The commands that change a running app: reload, restart, scale, stop, upgrade.

They return when the change is complete, with status 1 if it failed. In a cluster a reload covers all machines, one by
one; the other commands act on this machine, unless `--node` names others.
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
"""Seconds after which `mob stop --now` sends another signal to a Kingpin that accepts no connection."""
HERE = f"default: this machine; {ALL!r} for all machines"

wait_option: Decorator = click.option(
    "--wait/--no-wait", default=True, help="Wait until the new workers are ready (default), or return at once."
)
timeout_option: Decorator = click.option(
    "--timeout",
    type=click.FloatRange(min=0),
    default=STEER_TIMEOUT,
    show_default=True,
    help="Seconds to wait until the new workers are ready.",
)


@click.command()
@click.argument("roles", nargs=-1, shell_complete=complete_role)
@app_option
@node_option("default: all machines, one by one")
def reload(roles: tuple[str, ...], name: str | None, node: str | None) -> None:
    """Replace workers with new ones, without downtime.

    The new workers run new code. Name ROLES, or none for all. If the new workers do not start, the old ones keep
    running, and the exit status is 1; the remaining machines are left unchanged.
    """
    with connected(name, any_node=True) as app:
        in_turn(app, chosen(app, node or ALL), lambda there: _reload(there, app, roles))


def _reload(there: Client, here: Client, roles: tuple[str, ...]) -> str:
    try:
        return there.reload(*roles)
    except AppNotRunning:
        if GATEWAY not in roles or there is here:
            raise
        return "its gateways are being replaced, which closed the connection to it; `mob ps` shows the new ones."


@click.command()
@click.argument("targets", nargs=-1, required=True, metavar="ROLE...|PID", shell_complete=complete_role_or_pid)
@app_option
@node_option(HERE)
@wait_option
@timeout_option
def restart(targets: tuple[str, ...], name: str | None, node: str | None, wait: bool, timeout: float) -> None:
    """Stop workers and start new ones in their places.

    Name roles, or the pid of one worker. Each worker finishes its current work first. There is a gap until the new
    workers are ready; `mob reload` loads new code without downtime.
    """
    pids = [pid for target in targets if (pid := selector_of(target).pid) is not None]
    if pids and len(targets) > 1:
        raise click.BadParameter("expected roles, or exactly one pid.")
    if pids and node == ALL:
        raise click.BadParameter("a pid belongs to one machine: name it instead of 'all'.", param_hint="--node")

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
    """Return the log lines since then about data that should have been handed over and was lost."""
    return [event.text for event in app.history(since).events if event.text.endswith(STARTS_WITHOUT)]


def complete_size(context: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the roles, each with the sign that follows."""
    return [CompletionItem(f"{item.value}=") for item in complete_role(context, param, incomplete)]


@click.command()
@click.argument("sizes", nargs=-1, required=True, metavar="ROLE=N...", shell_complete=complete_size)
@app_option
@node_option(HERE)
@wait_option
@timeout_option
def scale(sizes: tuple[str, ...], name: str | None, node: str | None, wait: bool, timeout: float) -> None:
    """Change the number of workers of roles.

    `mob scale back=8` sets it to eight, `back=+1` adds one, `back=-1` removes one.
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
    """Return the role, the number, and whether the number is relative."""
    role, _, count = text.partition("=")
    if not role or not count.lstrip("+-").isdigit():
        raise click.BadParameter(f"{text!r} does not have the form ROLE=N, as in back=8 or back=+1.")
    try:
        return role, int(count), count[0] in "+-"
    except ValueError:
        raise click.BadParameter(f"{text!r} does not have the form ROLE=N, as in back=8 or back=+1.") from None


@click.command()
@app_argument
@node_option(HERE)
@click.option("--now", is_flag=True, help="Kill the workers without waiting for running calls.")
@click.option(
    "--timeout", type=click.FloatRange(min=0), help="Seconds to wait for the end; by default there is no limit."
)
def stop(name: str | None, node: str | None, now: bool, timeout: float | None) -> None:
    """Stop an app gracefully, and wait until it has ended.

    This does the same as Ctrl-C or SIGTERM. --now is for an app that hangs. If the Kingpin (supervisor) accepts no
    connection, it is sent a signal instead.
    """

    def act(app: Client) -> str:
        try:
            app.stop(at_once=now)
        except AppNotRunning:
            if app is not here:
                raise  # it may only be unreachable
        if not app.wait_stopped(timeout):
            raise CommandError(
                f"{app.app} is still stopping after {timeout:g} s (--timeout). `mob stop --now` kills it at once."
            )
        return f"{app.app} has stopped."

    try:
        with connected(name, any_node=node is not None) as here:
            in_turn(here, chosen(here, node)[::-1], act)  # this machine last, because the others are reached through it
    except CommandError as failure:
        error = failure.__cause__
        if not isinstance(error, AppNotRunning) or not error.pid or is_stopped(error.pid):
            raise
        if not _stop_by_signal(error.pid, now, timeout):
            raise
        echo(f"{error} It was sent SIGTERM and has stopped.")


def _stop_by_signal(pid: int, now: bool, timeout: float | None) -> bool:
    """Stop an app whose Kingpin accepts no connection; return whether it ended in time."""
    deadline = math.inf if timeout is None else monotonic() + timeout
    with suppress(ProcessLookupError), closing(ProcessHandle(pid)) as kingpin:
        kingpin.signal(signal.SIGTERM)
        while not kingpin.has_ended(min(STOP_RETRY, max(0.0, deadline - monotonic()))):
            if monotonic() >= deadline:
                return False
            if now:
                kingpin.signal(signal.SIGTERM)  # the second signal means "at once"
    return True


@click.command()
@app_argument
@node_option(HERE)
def upgrade(name: str | None, node: str | None) -> None:
    """Replace the Kingpin (supervisor), without downtime.

    The new one runs new code of mob and of the main script. If it does not start, the old one keeps running, and the
    exit status is 1. The workers keep running unchanged; `mob reload` replaces them.
    """
    with connected(name, any_node=node is not None) as app:
        in_turn(app, chosen(app, node), _upgrade)


def _upgrade(app: Client) -> str:
    app.upgrade()
    count = sum(1 for row in app.overview() if row.pid)
    return f"the Kingpin of {app.app} runs new code; its {counted(count, 'worker')} kept running."
