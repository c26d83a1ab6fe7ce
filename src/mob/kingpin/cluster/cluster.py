"""This machine in a cluster: what its mind decides, its gateways carry.

A gateway is a mobster of the built-in role "gateway", the only one that knows NATS. It is given letters for other
Kingpins, and ends of links between a member here and one on another machine. What is said on those links does not pass
the Kingpin, as anywhere.

Who is in the cluster is decided in `core.membership`, who is linked to whom in `core.pairing`, which gateway speaks and
carries in `core.gateways`, and who may run a singleton in `core.lease`.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from functools import partial
from time import monotonic

from msgspec import Raw, Struct

from mob.core import decisions as d
from mob.core.decisions import Decision
from mob.core.gateways import Gateways
from mob.core.lease import LeaseData
from mob.core.membership import Membership
from mob.core.pairing import Pairing
from mob.kingpin.cluster.leases import Leases
from mob.kingpin.cluster.links import Links, is_there
from mob.kingpin.cluster.moves import Moves
from mob.kingpin.cluster.surroundings import Surroundings
from mob.kingpin.connections import Connection
from mob.plan import GATEWAY, QUEUE, Cluster as ClusterPlan
from mob.wire import messages as m

NODE_BITS = 30


def draw_number() -> int:
    """Return a number for a node: no two of a cluster will ever draw one number."""
    return secrets.randbits(NODE_BITS) | 1 << NODE_BITS


class ClusterState(Struct, frozen=True):
    """What is under way with other machines, as the next program takes it over; the roster has the rest."""

    leases: dict[str, LeaseData] = {}
    """Of singletons; the clock that they run by goes on with the process."""
    arrivals: list[tuple[int, int, int]] = []
    """Links that other machines ask for, and that wait: (gateway, local, remote)."""


class ClusterNode:
    """This machine in the cluster."""

    def __init__(self, around: Surroundings, plan: ClusterPlan) -> None:
        self._around = around
        self._plan = plan
        crew, now = around.supervisor.crew, monotonic()
        self.membership: Membership = Membership(crew, plan.node, now)
        self._gateways = Gateways(crew.roster, self.membership.number, partial(is_there, around.connections))
        self._pairing = Pairing(crew.roster, self._gateways, int(now * 1e6))
        self._links = Links(around, self._pairing)
        self._moves = Moves(around, self._gateways)
        self.leases: Leases = Leases(around, self.membership, self._moves, self._ask_gateway, self._letter)
        """Of the roles that run once in the whole cluster."""

    def __repr__(self) -> str:
        return f"<ClusterNode {self.membership}, {self._gateways}, {self._pairing}>"

    def start(self) -> None:
        """Take part in the cluster from now on."""
        self._around.carry_out(self.membership.start(monotonic()))

    # --------------------------------------------------------------------------------------------- handed over

    def state(self) -> ClusterState:
        """Return what the next program needs."""
        return ClusterState(self.leases.data(), self._pairing.arrivals())

    def take_over(self, nodes: Iterable[m.Node], born: float, state: ClusterState) -> None:
        """Go on as the node that a program before this one was, which began at `born`."""
        now = monotonic()
        self.membership.adopt(nodes, born, now)
        self.leases.adopt(state.leases)
        for process in self._around.supervisor.crew.processes_of(GATEWAY):
            self._greet(process.uid)
        self._links.carry_out(self._pairing.take_over(state.arrivals, now))

    # ---------------------------------------------------------------------------------------- what gateways say

    def handle(self, connection: Connection, message: m.Up) -> bool:
        """Handle what a gateway says; return whether it was that."""
        uid, now, gateways, pairing = connection.uid, monotonic(), self._gateways, self._pairing
        match message:
            case m.OpenGateway() if self._is_gateway(uid):
                self._greet(uid)
            case m.OpenGateway() if self._is_keeper(uid):  # it speaks to NATS itself, and carries nothing
                connection.link.post(m.JoinCluster(self._plan, self.membership.number))
            case m.Connected(why_not=why_not, keeps=keeps) if uid in gateways:
                gateways.handle_connected(uid, why_not, keeps)
                self.leases.look_soon()
                self._tell_news()
                if (why_cut := gateways.why_cut) is not None:
                    self._around.carry_out(self.membership.handle_connected(why_cut, now))
                self._links.carry_out(pairing.handle_news(now))
            case m.Heard(letter=letter) if uid == gateways.speaker:  # each gateway hears all
                self._handle_letter(letter, now)
            case m.Arriving() if uid in gateways:
                self._links.carry_out(pairing.handle_arriving(uid, message, now))
            case m.Taken(number=number) if uid in gateways:
                self._links.carry_out(pairing.handle_taken(number))
            case m.Hung(number=number) if uid in gateways:
                self._links.carry_out(pairing.handle_hung(number, now))
            case m.LeaseIs() if uid in gateways:
                self.leases.handle_answer(message)
            case m.LeftIs():
                self._moves.handle_answer(connection, message)
                self.leases.look_soon()
            case _:
                return False
        return True

    def _is_gateway(self, uid: int) -> bool:
        process = self._around.supervisor.processes.get(uid)
        return process is not None and process.slot.role == GATEWAY

    def _is_keeper(self, uid: int) -> bool:
        process, roles = self._around.supervisor.processes.get(uid), self._around.supervisor.crew.roles
        return process is not None and roles[process.slot.role].plan.keeps_jobs

    def _greet(self, uid: int) -> None:
        """Have a gateway join; or, if it has done so for a program before this one, say how it goes."""
        if (connection := self._around.connections.get(uid)) is not None:
            self._gateways.handle_opened(uid)
            connection.link.post(m.JoinCluster(self._plan, self.membership.number))

    def _handle_letter(self, letter: bytes, now: float) -> None:
        decisions = self.membership.handle_letter(letter, now)
        self._around.carry_out(decisions)
        changes = [each.change for each in decisions if isinstance(each, d.Announce)]
        if any(isinstance(each, m.MemberIs) and each.member.role == QUEUE for each in changes):
            self._around.keep_jobs()  # should that machine be lost, this one is to have the jobs
        for role in [each.role for each in decisions if isinstance(each, d.SeekLease)]:
            self.leases.handle_free(role)
        self._links.carry_out(self._pairing.handle_news(now))

    # ------------------------------------------------------------------------------------------- what happens here

    def introduce(self, local: int, remote: int) -> None:
        """Link a member here to one on another machine, or to that one's Kingpin (uid: its node, and 0)."""
        self._links.carry_out(self._pairing.want(local, remote))

    def handle_gone(self, uid: int) -> None:
        """A process has ended; perhaps it was a gateway, and the links that it carried have ended with it."""
        if self._gateways.handle_gone(uid):
            self._moves.handle_gone(uid)
            self.leases.look_soon()
            self._links.carry_out(self._pairing.handle_gateway_gone(uid, monotonic()))
            self._tell_news()

    def handle_wake(self, now: float) -> list[Decision]:
        """Time has passed."""
        self._links.carry_out(self._pairing.handle_wake(now))
        return self.membership.handle_wake(now)

    def note(self, decisions: Iterable[Decision]) -> list[Decision]:
        """Take in what was decided here, which may be news for others."""
        return self.membership.handle_decisions(decisions, monotonic())

    def handle_asked(self, uid: int) -> None:
        """The app ends, and it is a gateway's turn, the last: the others need not wait until they miss this machine."""
        if uid not in self._gateways:
            return
        self._moves.end()
        self.leases.look()  # all others have ended: nothing runs by a lease any more
        for decision in self.membership.leave():
            if isinstance(decision, d.Write):
                self.write(decision.node, decision.words)
        self._gateways.leave()

    # ----------------------------------------------------------------------------------------------- letters

    def write(self, node: int, words: m.Words) -> None:
        """Send words to the Kingpin of another node, or to all (0)."""
        self._send(self._gateways.write(node, words))

    def _tell_news(self) -> None:
        self._send(self._gateways.tell_news())

    def _send(self, writes: Iterable[d.Write]) -> None:
        for write in writes:
            self._ask_gateway(m.Send(write.node, self._letter(write.words)))

    def _letter(self, words: m.Words) -> bytes:
        """Return words of this Kingpin as others get them."""
        membership, app = self.membership, self._around.supervisor.crew.plan.name
        return m.pack(m.Letter(m.PROTOCOL, membership.number, membership.name, Raw(m.pack(words)), app))

    def _ask_gateway(self, message: m.Down) -> None:
        """Say something to the gateway that speaks for this machine; to nobody if there is none."""
        uid = self._gateways.speaker
        if uid is not None and (connection := self._around.connections.get(uid)) is not None:
            connection.link.post(message)
