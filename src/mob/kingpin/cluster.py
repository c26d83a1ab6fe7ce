"""The Kingpin's part in a cluster of machines: what its mind (`core.membership`) decides, its gateways carry.

A gateway is a mobster of the built-in role "gateway", the only one that knows NATS. The Kingpin gives it letters for
other Kingpins, and ends of links: of a member here that wants one on another machine (`introduce`), or of one that is
wanted from there (`Arriving`). What is said on those links passes the Kingpin by, as anywhere.
"""

from __future__ import annotations

import secrets
import socket
from collections.abc import Iterable
from time import monotonic
from typing import TYPE_CHECKING

from msgspec import Raw

from mob.core import decisions as d
from mob.core.decisions import Decision
from mob.core.membership import SILENCE, UNCONNECTED, Membership
from mob.kingpin.desk import Connection
from mob.plan import GATEWAY, Cluster as ClusterPlan
from mob.wire import messages as m

if TYPE_CHECKING:
    from mob.kingpin.kingpin import Kingpin

NODE_BITS = 30


def draw_number() -> int:
    """A number for a node: no two of a cluster will ever draw one number."""
    return secrets.randbits(NODE_BITS) | 1 << NODE_BITS


class Cluster:
    """This machine in the cluster."""

    def __init__(self, kingpin: Kingpin, plan: ClusterPlan) -> None:
        self._kingpin = kingpin
        self._plan = plan
        self.membership = Membership(kingpin.supervisor.crew, plan.node, monotonic())
        self._gateways: dict[int, str] = {}  # uids of those that are open -> why they cannot reach NATS, if they cannot
        self._numbers = int(monotonic() * 1e6)  # greater than any that a Kingpin before this one has used
        self._carried: dict[tuple[int, int], int] = {}  # (local, remote) -> the number of the latest `Carry`
        self._pairs: dict[int, tuple[int, int]] = {}  # and back
        self._carriers: dict[int, int] = {}  # that number -> the uid of the gateway
        self._waiting: list[tuple[int, int]] = []  # pairs that wait for a gateway
        self._early: list[tuple[float, int, m.Arriving]] = []  # of members that are not known yet: when, gateway, what

    def __repr__(self) -> str:
        return f"<Cluster {self.membership}, {len(self._gateways)} gateways>"

    def is_remote(self, uid: int) -> bool:
        """Whether a member (or a Kingpin) is on another machine."""
        return self.membership.is_remote(uid)

    # ---------------------------------------------------------------------------------------- what gateways say

    def handle(self, connection: Connection, message: m.Up) -> bool:
        """A gateway says something; whether it was that."""
        uid, now, membership = connection.uid, monotonic(), self.membership
        match message:
            case m.OpenGateway() if self._kingpin.role_of(connection) == GATEWAY:
                self.greet(uid)
            case m.Connected(why_not=why_not) if uid in self._gateways:
                self._gateways[uid] = why_not
                self._look_at_gateways()
            case m.Heard(letter=letter):
                self._kingpin.carry_out(membership.handle_letter(letter, now))
                self._handle_early(now)
                self._introduce_waiting()
            case m.Arriving():
                self._arrive(uid, message, now)
            case m.Hung(number=number):
                self._forget(number)
            case _:
                return False
        return True

    def greet(self, uid: int) -> None:
        """A gateway that a Kingpin before this one has known."""
        if (connection := self._kingpin.connections.get(uid)) is not None:
            self._gateways[uid] = UNCONNECTED
            connection.link.post(m.JoinCluster(self._plan, self.membership.number))

    def handle_gone(self, uid: int) -> None:
        """A process has ended; perhaps it was a gateway. The links that it carried have ended with it."""
        if self._gateways.pop(uid, None) is not None:
            for number in [number for number, gateway in self._carriers.items() if gateway == uid]:
                self._forget(number)
            self._early = [each for each in self._early if each[1] != uid]

    def handle_wake(self, now: float) -> list[Decision]:
        """Time has passed."""
        self._handle_early(now)
        return self.membership.handle_wake(now)

    def _look_at_gateways(self) -> None:
        """Whether one of them reaches the others."""
        reasons = [why_not for why_not in self._gateways.values() if why_not != UNCONNECTED]
        if reasons:
            self._kingpin.carry_out(self.membership.handle_connected(min(reasons), monotonic()))
        self._introduce_waiting()

    def _introduce_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        for pair in waiting:
            self.introduce(*pair)

    # ------------------------------------------------------------------------------------------------- links

    def introduce(self, local: int, remote: int) -> None:
        """A member here wants a link to one on another machine, or to that one's Kingpin (uid: its node, and 0)."""
        if local not in self._kingpin.connections or m.node_of(remote) not in self.membership.neighbours:
            return
        if self._choose(local, remote) is None or not self._has_gateway(m.node_of(remote)):
            self._waiting.append((local, remote))
        else:
            self._carry(local, remote)

    def _has_gateway(self, node: int) -> bool:
        """Whether one of that machine is ready to carry."""
        return any(m.node_of(member.uid) == node for member in self._kingpin.supervisor.roster.ready(GATEWAY))

    def _choose(self, local: int, remote: int) -> int | None:
        """The gateway for a pair: always the same one, as long as it is there."""
        able = [uid for uid, why_not in self._gateways.items() if not why_not]
        return able[(local + remote) % len(able)] if able else None

    def _carry(self, local: int, remote: int, gateway: int | None = None) -> None:
        gateway = self._choose(local, remote) if gateway is None else gateway
        carrier = None if gateway is None else self._kingpin.connections.get(gateway)
        if gateway is None or carrier is None:
            return
        own, other = socket.socketpair()
        if local == self.membership.number << m.NODE_SHIFT:  # somebody on another machine is a client of this Kingpin
            self._kingpin.handle_client(own, 0)
        else:
            self._kingpin.connections[local].link.post_with(m.Meet(remote), [own.detach()])
        self._numbers += 1
        self._carried[local, remote] = self._numbers
        self._pairs[self._numbers] = local, remote
        self._carriers[self._numbers] = gateway
        carrier.link.post_with(m.Carry(self._numbers, local, remote), [other.detach()])

    def _forget(self, number: int) -> None:
        self._carriers.pop(number, None)
        pair = self._pairs.pop(number, None)
        if pair is not None and self._carried.get(pair) == number:
            del self._carried[pair]

    def _arrive(self, gateway: int, arriving: m.Arriving, now: float) -> None:
        """From another machine somebody wants a link to a member here."""
        local, remote = arriving.local, arriving.remote
        to_kingpin = local == self.membership.number << m.NODE_SHIFT
        if not to_kingpin and (local, remote) in self._carried:
            return  # the two have wanted each other at the same moment: the `Carry` is on its way
        if not to_kingpin and local not in self._kingpin.supervisor.roster:
            self._turn_away(gateway, arriving, "it has gone")
        elif not to_kingpin and remote not in self._kingpin.supervisor.roster:
            self._early.append((now, gateway, arriving))  # the letter that tells of it has gone another way
        else:
            self._carry(local, remote, gateway)

    def _handle_early(self, now: float) -> None:
        if not self._early:
            return
        early, self._early = self._early, []
        for since, gateway, arriving in early:
            if now - since > SILENCE:
                self._turn_away(gateway, arriving, "the caller is not known there")
            elif arriving.remote in self._kingpin.supervisor.roster:
                self._arrive(gateway, arriving, now)
            else:
                self._early.append((since, gateway, arriving))

    def _turn_away(self, gateway: int, arriving: m.Arriving, why: str) -> None:
        if (connection := self._kingpin.connections.get(gateway)) is not None:
            connection.link.post(m.Turned(arriving.local, arriving.remote, why))

    # ----------------------------------------------------------------------------------------------- letters

    def write(self, node: int, words: m.Words) -> None:
        """Sends words to the Kingpin of another node, or to all (0). What cannot be sent now is not sent: who has
        missed something notices."""
        membership = self.membership
        letter = m.Letter(m.PROTOCOL, membership.number, membership.name, Raw(m.pack(words)))
        for uid, why_not in self._gateways.items():
            if not why_not and (connection := self._kingpin.connections.get(uid)) is not None:
                connection.link.post(m.Send(node, m.pack(letter)))
                return

    def handle_asked(self, uid: int) -> None:
        """The app ends, and it is a gateway's turn, the last: the others need not wait until they miss this machine."""
        if uid not in self._gateways:
            return
        for decision in self.membership.leave():
            if isinstance(decision, d.Write):
                self.write(decision.node, decision.words)

    def note(self, decisions: Iterable[Decision]) -> list[Decision]:
        """What was decided here, and may be news for others."""
        return self.membership.handle_decisions(decisions, monotonic())
