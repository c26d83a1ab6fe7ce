"""The links to other machines: carries out what `core.pairing` decides, with sockets.

Each link is a socket pair. A gateway gets one end; the other is held here until the remote member has its own.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Iterable
from functools import partial

from mob.core.pairing import Drop, GiveEnd, MakeLink, Pairing, PairStep, TurnAway
from mob.kingpin.cluster.surroundings import Surroundings
from mob.kingpin.connections import Connections
from mob.wire import messages as m


class Links:
    """The ends that are held, and the way to the members and gateways here."""

    def __init__(self, around: Surroundings, pairing: Pairing) -> None:
        self._around = around
        self._pairing = pairing
        self._held: dict[int, socket.socket] = {}  # by the number of the link

    def __repr__(self) -> str:
        return f"<Links, {len(self._held)} ends held>"

    def carry_out(self, steps: Iterable[PairStep]) -> None:
        """Carry out steps in order."""
        name_of = self._around.connections.name_of
        for step in steps:
            match step:
                case MakeLink(local=local, remote=remote):
                    what = f"{name_of(local)} and {name_of(remote)} cannot be linked"
                    self._around.shortage.attempt(what, partial(self._carry, step))
                case GiveEnd():
                    self._meet(step)
                case Drop(number=number):
                    if (own := self._held.pop(number, None)) is not None:
                        own.close()
                case TurnAway(gateway=gateway, local=local, remote=remote, why=why):
                    if (connection := self._around.connections.get(gateway)) is not None:
                        connection.link.post(m.Turned(local, remote, why))

    def _carry(self, carry: MakeLink) -> None:
        connection = self._around.connections.get(carry.gateway)
        if connection is None or not self._pairing.is_held(carry.number):
            return  # the member exited while there were no file descriptors
        self._held[carry.number], other = socket.socketpair()
        connection.link.post_with(m.Carry(carry.number, carry.local, carry.remote), [other.detach()])

    def _meet(self, meet: GiveEnd) -> None:
        own = self._held.pop(meet.number)
        if m.is_kingpin(meet.local):  # a process on another machine becomes a client of this Kingpin
            self._around.handle_client(own, 0)
        elif (connection := self._around.connections.get(meet.local)) is not None:
            connection.link.post_with(m.Meet(meet.remote), [own.detach()])
        else:
            own.close()


def is_there(connections: Connections, uid: int) -> bool:
    """Return whether a process is still there: its socket shows its end before its exit is reported."""
    connection = connections.get(uid)
    if connection is None or connection.link.is_closed:
        return False
    poll = select.poll()
    poll.register(connection.link.fd, 0)
    return not poll.poll(0)
