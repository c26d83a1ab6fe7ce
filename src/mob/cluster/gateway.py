"""The module of the role "gateway".

A gateway carries letters between Kingpins, and links between members on different machines. It opens neither: a link is
a stream of bytes that comes from a socket and goes into a circuit, or the other way round. A gateway is a mobster like
any other. When it dies the links that it carries end, and its successor carries those that are requested again.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from mob.cluster.carrier import Carrier
from mob.cluster.durable import Durable
from mob.cluster.inheritances import StoredInheritances
from mob.cluster.leases import LeaseBucket
from mob.cluster.trunks import Trunks
from mob.core.routing import gateway_for
from mob.mobster import api
from mob.peer.peer import Peer
from mob.peer.serving.selection import export
from mob.plan import GATEWAY
from mob.wire import messages as m

if TYPE_CHECKING:
    from nats.aio.client import Client


class Gateway:
    """The gateway that this process is."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._context = peer.context
        self._carrier: Carrier | None = None
        self._trunks: Trunks | None = None
        self._durable = Durable(peer, self._client)
        self._leases: LeaseBucket | None = None
        self._left: StoredInheritances | None = None
        self._carried = 0  # the number of the latest `Carry`

    def __repr__(self) -> str:
        return f"<Gateway {self._carrier or 'not joined'}>"

    def open(self) -> None:
        """Tell the Kingpin that this process is a gateway; `JoinCluster` follows."""
        self._peer.control.on_cluster = self.handle
        self._peer.control.post(m.OpenGateway())

    def handle(self, message: m.Down, descriptors: list[int]) -> None:
        """Handle a message of the Kingpin."""
        match message:
            case m.JoinCluster():
                self._join(message)
            case m.Send(node=node, letter=letter) if self._carrier is not None:
                self._carrier.write(node, letter)
            case m.ReadLease() | m.WriteLease() | m.GiveBack() if self._leases is not None:
                self._leases.handle(message, self._publish)
            case m.PutLeft() | m.GetLeft() | m.DropLeft() if self._left is not None:
                self._left.handle(message, descriptors)
            case m.Carry(number=number, local=local, remote=remote):
                self._carry(number, local, remote, descriptors)
            case m.Turned(local=local, remote=remote) if self._trunks is not None:
                self._trunks.turn_away(local, remote)
            case _:
                pass

    def _join(self, message: m.JoinCluster) -> None:
        peer = self._peer
        if self._carrier is not None:  # a Kingpin that replaced another asks for the state of the connection
            peer.control.post(m.Connected(self._carrier.why_not, keeps=True))
            return
        self._carrier = Carrier(
            peer.context.app, message.node, peer.context.uid, message.cluster, self._handle_letter, self._handle_change
        )
        self._leases = LeaseBucket(peer.context.app, message.node, self._client, peer.control.post)
        self._left = StoredInheritances(peer.context.app, self._client, peer.control.post_with)
        self._trunks = Trunks(
            peer.context.reactor, self._carrier, self._handle_arriving, self._handle_taken, self._handle_hung
        )
        self._carrier.on_packet = self._trunks.handle_packet
        self._carrier.open()

    def _publish(self, letter: bytes) -> None:
        if self._carrier is not None:
            self._carrier.write(0, letter)

    def _client(self) -> Client | None:
        return None if self._carrier is None else self._carrier.client

    async def store(self, role: str, body: bytes, key: str) -> None:
        """Store a durable message."""
        await self._durable.store(role, body, key)

    def _carry(self, number: int, local: int, remote: int, descriptors: list[int]) -> None:
        self._carried = number
        if not descriptors or self._trunks is None:
            self._handle_hung(number)
            return
        sock = socket.socket(fileno=descriptors[0])
        self._trunks.carry(number, local, remote, sock, self._gateway_for(local, remote))

    def _gateway_for(self, local: int, remote: int) -> int | None:
        """Return the gateway of the other machine that carries this pair; None without one."""
        node = m.node_of(remote)
        able = [each.uid for each in self._context.roster.ready(GATEWAY) if m.node_of(each.uid) == node]
        return gateway_for(local, remote, able)

    def handle_leave(self, member: m.Member) -> None:
        """Note that a mobster left, here or elsewhere."""
        if member.role == GATEWAY and self._trunks is not None:
            self._trunks.forget(member.uid)

    async def close(self) -> None:
        """Close everything, because this gateway ends."""
        if self._leases is not None:
            await self._leases.close()
        if self._left is not None:
            self._left.close()
        await self._durable.close()
        if self._trunks is not None:
            self._trunks.close()
        if self._carrier is not None:
            await self._carrier.close()

    def _handle_letter(self, letter: bytes) -> None:
        self._peer.control.post(m.Heard(letter))

    def _handle_change(self, why_not: str) -> None:
        if not why_not and self._trunks is not None:
            self._trunks.resume()
        if not why_not:
            self._durable.handle_connected()
        self._peer.control.post(m.Connected(why_not, keeps=True))

    def _handle_arriving(self, local: int, remote: int) -> None:
        self._peer.control.post(m.Arriving(local, remote, self._carried))

    def _handle_taken(self, number: int) -> None:
        self._peer.control.post(m.Taken(number))

    def _handle_hung(self, number: int) -> None:
        self._peer.control.post(m.Hung(number))


_gateway = Gateway(api.current("gateway"))
api.on("start", _gateway.open)
api.on("leave", _gateway.handle_leave)
api.on("stop", _gateway.close)


@export(idempotent=True)
async def store(role: str, body: bytes, key: str) -> None:
    """Store a durable message. A message with the same key is stored only once."""
    await _gateway.store(role, body, key)
