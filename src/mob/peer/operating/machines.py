"""The machines of a cluster, as a process of the app knows them, and the way to the Kingpin of each.

To see or control what runs on another machine, a process becomes a client of that machine's Kingpin: its own Kingpin
makes a link to it, which gateways carry like any other (`Control.reach`), and the process says "hello" on that link.
No Kingpin sends requests to another one for a client, so none ever waits for another.

What is known here comes from the roster, and is as old as that: a machine that has just died is still listed for up to
three seconds. A request to it fails after the timeout that the caller chose.
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
"""Maximum number of seconds to wait for a link to the Kingpin of another machine."""


class Machine(Base, frozen=True):
    """A machine of the cluster."""

    name: str
    number: int
    """Number of this run of its Kingpin; never used again."""
    is_here: bool
    """True for the machine that this process is connected to."""
    why_not: str = ""
    """Why it cannot be reached now; "" if it can."""
    places: tuple[tuple[str, int], ...] = ()
    """Each role with its number of workers there."""


def machines(context: Context) -> list[Machine]:
    """Return all machines, this one first, the others by name; none if there is no cluster."""
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
    """Return the machine of that name.

    Raises `UnknownTarget`, with the nearest names, for an unknown one, and `Unavailable` if it cannot be reached.
    """
    known = {machine.name: machine for machine in machines(context)}
    if not known:
        raise UnknownTarget(f"{name!r} names a machine, but the app {app!r} is in no cluster of machines.")
    if name not in known:
        cut = f" (The other machines cannot be reached now: {context.roster.cut}.)" if context.roster.cut else ""
        raise UnknownTarget(f"there is no machine {name!r} in the cluster of {app!r}. {nearest(name, known)}{cut}")
    machine = known[name]
    if machine.why_not:
        raise Unavailable(f"the machine {name!r} of {app!r} cannot be reached: {machine.why_not}")
    return machine


def link_to(control: Control, app: str, machine: Machine, patience: float = REACH) -> socket.socket:
    """Return a link to the Kingpin of another machine; not on the loop's thread. `Unavailable` if it does not come."""
    call = control.reach(machine.number)
    why = ""
    try:
        return call.result(patience)
    except TimeoutError:
        call.cancel()
        why = f"no link to it within {patience:g} s"
    except MobError as error:
        why = str(error)
    raise Unavailable(f"the machine {machine.name!r} of {app!r} cannot be reached: {why}.")
