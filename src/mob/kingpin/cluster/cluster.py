"""This machine in a cluster: decisions are made in `core`, and gateways carry the messages.

A gateway is a mobster of the built-in role "gateway", the only one that knows NATS. It gets letters for other Kingpins,
and ends of links between a member here and one on another machine. As on one machine, data on those links does not pass
through the Kingpin.

`core.membership` decides which machines are in the cluster. Which members are linked is decided in `core.pairing`,
which gateway speaks and carries in `core.gateways`, and which machine may run a singleton in `core.lease`.
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
    """Return a random number for a node, so long that no two nodes of a cluster draw the same."""
    return secrets.randbits(NODE_BITS) | 1 << NODE_BITS


class ClusterState(Struct, frozen=True):
    """What is in progress with other machines, for the next program; the roster has the rest."""

    leases: dict[str, LeaseData] = {}
    """Leases of singletons; their clock continues with the process."""
    arrivals: list[tuple[int, int, int]] = []
    """Links that other machines asked for, and that wait: (gateway, local, remote)."""


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
        """Leases of the roles that run once in the whole cluster."""

    def __repr__(self) -> str:
        return f"<ClusterNode {self.membership}, {self._gateways}, {self._pairing}>"

    def start(self) -> None:
        """Join the cluster."""
        self._around.carry_out(self.membership.start(monotonic()))

    # --------------------------------------------------------------------------------------------- handover

    def state(self) -> ClusterState:
        """Return the state for the next program."""
        return ClusterState(self.leases.data(), self._pairing.arrivals())

    def take_over(self, nodes: Iterable[m.Node], born: float, state: ClusterState) -> None:
        """Resume as the node that a previous program was, which began at `born`."""
        now = monotonic()
        self.membership.adopt(nodes, born, now)
        self.leases.adopt(state.leases)
        for process in self._around.supervisor.crew.processes_of(GATEWAY):
            self._greet(process.uid)
        self._links.carry_out(self._pairing.take_over(state.arrivals, now))

    # ---------------------------------------------------------------------------------- messages of gateways

    def handle(self, connection: Connection, message: m.Up) -> bool:
        """Handle a message of a gateway; return True if it was one."""
        uid, now, gateways, pairing = connection.uid, monotonic(), self._gateways, self._pairing
        match message:
            case m.OpenGateway() if self._is_gateway(uid):
                self._greet(uid)
            case m.OpenGateway() if self._is_keeper(uid):  # it connects to NATS itself, and carries nothing
                connection.link.post(m.JoinCluster(self._plan, self.membership.number))
            case m.Connected(why_not=why_not, keeps=keeps) if uid in gateways:
                gateways.handle_connected(uid, why_not, keeps)
                self.leases.look_soon()
                self._tell_news()
                if (why_cut := gateways.why_cut) is not None:
                    self._around.carry_out(self.membership.handle_connected(why_cut, now))
                self._links.carry_out(pairing.handle_news(now))
            case m.Heard(letter=letter) if uid == gateways.speaker:  # each gateway receives every letter
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
        """Have a gateway join; if it joined for a previous program already, ask for its state."""
        if (connection := self._around.connections.get(uid)) is not None:
            self._gateways.handle_opened(uid)
            connection.link.post(m.JoinCluster(self._plan, self.membership.number))

    def _handle_letter(self, letter: bytes, now: float) -> None:
        decisions = self.membership.handle_letter(letter, now)
        self._around.carry_out(decisions)
        changes = [each.change for each in decisions if isinstance(each, d.Announce)]
        if any(isinstance(each, m.MemberIs) and each.member.role == QUEUE for each in changes):
            self._around.keep_jobs()  # so that this machine has the jobs if that one is lost
        for role in [each.role for each in decisions if isinstance(each, d.SeekLease)]:
            self.leases.handle_free(role)
        self._links.carry_out(self._pairing.handle_news(now))

    # ------------------------------------------------------------------------------------------- local events

    def introduce(self, local: int, remote: int) -> None:
        """Link a member here to one on another machine, or to that machine's Kingpin (uid: its node, and 0)."""
        self._links.carry_out(self._pairing.want(local, remote))

    def handle_gone(self, uid: int) -> None:
        """Handle the exit of a process; if it was a gateway, the links that it carried ended with it."""
        if self._gateways.handle_gone(uid):
            self._moves.handle_gone(uid)
            self.leases.look_soon()
            self._links.carry_out(self._pairing.handle_gateway_gone(uid, monotonic()))
            self._tell_news()

    def handle_wake(self, now: float) -> list[Decision]:
        """Act on the time that passed."""
        self._links.carry_out(self._pairing.handle_wake(now))
        return self.membership.handle_wake(now)

    def note(self, decisions: Iterable[Decision]) -> list[Decision]:
        """Take note of local decisions, which may be news for other machines."""
        return self.membership.handle_decisions(decisions, monotonic())

    def handle_asked(self, uid: int) -> None:
        """Say goodbye when a gateway is about to stop, the last to do so because the app ends.

        The other machines then need not wait until they miss this one.
        """
        if uid not in self._gateways:
            return
        self._moves.end()
        self.leases.look()  # all others have exited: nothing runs by a lease any more
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
        """Return words of this Kingpin as an encoded letter."""
        membership, app = self.membership, self._around.supervisor.crew.plan.name
        return m.pack(m.Letter(m.PROTOCOL, membership.number, membership.name, Raw(m.pack(words)), app))

    def _ask_gateway(self, message: m.Down) -> None:
        """Send a message to the gateway that speaks for this machine, if there is one."""
        uid = self._gateways.speaker
        if uid is not None and (connection := self._around.connections.get(uid)) is not None:
            connection.link.post(message)
