"""The machines of a cluster, as a process of the app knows them, and the way to the Kingpin of each.

Whoever wants to see or steer what runs on another machine becomes a client of its Kingpin: the own Kingpin makes a link
to it, which gateways carry like any other (`Control.reach`), and on that link the other one is told "hello". No
Kingpin asks another on behalf of somebody, so none ever waits for one.

What is known here is the roster's, and as old as that: a machine that has just died is still named for up to three
seconds. Who asks it then waits in vain, for no longer than he has said.
"""

from __future__ import annotations

import socket
from collections.abc import Container, Iterable
from typing import TYPE_CHECKING

from mob.errors import MobError, Unavailable, UnknownTarget, nearest
from mob.wire import messages as m
from mob.wire.messages.base import Base

if TYPE_CHECKING:
    from mob.core.roster import Roster
    from mob.peer.context import Context
    from mob.peer.links.control import Control

REACH = 5.0
"""Seconds within which a link to the Kingpin of another machine has to be there."""


class Machine(Base, frozen=True):
    """A machine of the cluster."""

    name: str
    number: int
    """Of this run of its Kingpin; it never comes again."""
    is_here: bool
    """Whether it is the one that was connected to."""
    why_not: str = ""
    """Why it cannot be reached now; nothing if it can."""
    places: tuple[tuple[str, int], ...] = ()
    """How many places each role has there."""


def machines(context: Context) -> list[Machine]:
    """All of them, the own one first, the others by name; none if there is no cluster."""
    roster, own = context.roster, m.node_of(context.uid)
    found = [_machine(roster, node, own) for node in list(roster.nodes.values())]
    return sorted(found, key=lambda machine: (not machine.is_here, machine.name))


def _machine(roster: Roster, node: m.Node, own: int) -> Machine:
    is_here = node.number == own
    places = node.places
    if is_here:
        places = tuple(sorted((role.name, role.workers) for role in list(roster.roles.values()) if role.workers))
    return Machine(node.name, node.number, is_here, "" if is_here else roster.cut, places)


def newcomers(found: Iterable[Machine], known: Container[str]) -> list[str]:
    """Return the names of the machines that can be reached now and are not known yet."""
    return [machine.name for machine in found if not machine.why_not and machine.name not in known]


def machine_of(context: Context, app: str, name: str) -> Machine:
    """The machine of that name. `UnknownTarget` if there is none, with the nearest names; `Unavailable` if it cannot
    be reached."""
    known = {machine.name: machine for machine in machines(context)}
    if not known:
        raise UnknownTarget(f"{name!r} is meant to be a machine, and the app {app!r} is in no cluster of machines.")
    if name not in known:
        cut = f" (The others cannot be reached now: {context.roster.cut}.)" if context.roster.cut else ""
        raise UnknownTarget(f"there is no machine {name!r} in the cluster of {app!r}. {nearest(name, known)}{cut}")
    machine = known[name]
    if machine.why_not:
        raise Unavailable(f"the machine {name!r} of {app!r} cannot be reached: {machine.why_not}")
    return machine


def link_to(control: Control, app: str, machine: Machine, patience: float = REACH) -> socket.socket:
    """A link to the Kingpin of another machine; not on the loop's thread. `Unavailable` if it does not come."""
    call = control.reach(machine.number)
    why = ""
    try:
        return call.result(patience)
    except TimeoutError:
        call.cancel()
        why = f"no link to it was there within {patience:g} s"
    except MobError as error:
        why = str(error)
    raise Unavailable(f"the machine {machine.name!r} of {app!r} cannot be reached: {why}.")
