"""`--join`, `--roles` and `--node` of `mob run`: how this machine takes part in a cluster.

They change the app's own settings through the methods that it could have called (`App.cluster`, `App.place`). An app
that describes its cluster itself keeps what the options do not mention: its credentials, its certificates.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import click
import msgspec

from mob import app as apps, plan as plans

F = TypeVar("F", bound=Callable[..., Any])
REPLACED = ("servers", "node", "is_named")
"""Fields of a cluster that the options replace, or that follow from these."""


def options(command: F) -> F:
    """Add the options to a command."""
    for option in (
        click.option("--node", help="Name of this machine, unique in the cluster."),
        click.option("--roles", help="The only roles to run here, with their number of workers: back=8,front=2."),
        click.option("--join", multiple=True, metavar="URL", help="NATS server of the app's cluster; may be repeated."),
    ):
        command = option(command)
    return command


def taken(args: tuple[str, ...]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the options at the beginning of a script's arguments, and the rest, which belongs to the script.

    >>> taken(("--join", "nats://a", "--roles=back=8", "-v"))
    ({'join': ('nats://a',), 'roles': 'back=8', 'node': None}, ('-v',))
    """
    found: dict[str, list[str]] = {"join": [], "roles": [], "node": []}
    rest = list(args)
    while rest and (name := rest[0].partition("=")[0])[2:] in found and name.startswith("--"):
        _, mark, value = rest.pop(0).partition("=")
        if not mark:
            if not rest:
                raise click.UsageError(f"{name} requires a value.")
            value = rest.pop(0)
        found[name[2:]].append(value)
    single = {name: values[-1] if values else None for name, values in found.items() if name != "join"}
    return {"join": tuple(found["join"]), **single}, tuple(rest)


def prepare(join: tuple[str, ...], roles: str | None, node: str | None) -> None:
    """Register what the options change, to be applied to the app before it runs."""
    if join or node is not None:
        apps.before_run.append(partial(_join, join, node))
    if roles is not None:
        apps.before_run.append(partial(_place, roles))


def _join(servers: tuple[str, ...], node: str | None, app: apps.App) -> None:
    own = app.plan.cluster
    if own is None:
        if not servers:
            raise click.UsageError(
                f"--node {node}: {app.plan.name} is not part of a cluster. Name its server with --join URL."
            )
        app.cluster(*servers, node=node)
        return
    if node is None and own.is_named:
        node = own.node
    rest = {name: value for name, value in msgspec.structs.asdict(own).items() if name not in REPLACED}
    app.cluster(*(servers or own.servers), node=node, **rest)


def _place(roles: str, app: apps.App) -> None:
    app.place(**plans.places_in(roles, app.plan))
