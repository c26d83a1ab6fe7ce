"""The Kingpin's part in a cluster of machines: what its mind (`core.membership`) decides, its gateways carry.

A gateway is a mobster of the built-in role "gateway", the only one that knows NATS. The Kingpin gives it letters for
other Kingpins, and ends of links: of a member here that wants one on another machine (`introduce`), or of one that is
wanted from there (`Arriving`). What is said on those links passes the Kingpin by, as anywhere.
"""

from __future__ import annotations

import secrets
import select
import socket
from collections.abc import Iterable
from time import monotonic
from typing import TYPE_CHECKING

from msgspec import Raw

from mob.core import decisions as d
from mob.core.decisions import Decision
from mob.core.membership import SILENCE, UNCONNECTED, Membership
from mob.core.routing import gateway_for
from mob.kingpin.connections import Connection
from mob.kingpin.leases import Leases
from mob.plan import GATEWAY, Cluster as ClusterPlan
from mob.wire import messages as m

if TYPE_CHECKING:
    from mob.kingpin.kingpin import Kingpin

NODE_BITS = 30
NEWS_LIMIT = 100
"""Letters that wait for a gateway; who misses one asks for everything."""


def draw_number() -> int:
    """A number for a node: no two of a cluster will ever draw one number."""
    return secrets.randbits(NODE_BITS) | 1 << NODE_BITS


class Cluster:
    """This machine in the cluster."""

    def __init__(self, kingpin: Kingpin, plan: ClusterPlan) -> None:
        self._kingpin = kingpin
        self._plan = plan
        self.membership = Membership(kingpin.supervisor.crew, plan.node, monotonic())
        self.leases = Leases(kingpin, self)
        """Of the roles that run once in the whole cluster."""
        self._gateways: dict[int, str] = {}  # uids of those that are open -> why they cannot reach NATS, if they cannot
        self._numbers = int(monotonic() * 1e6)  # greater than any that a Kingpin before this one has used
        self._carried: dict[tuple[int, int], int] = {}  # (local, remote) -> the number of the latest `Carry`
        self._pairs: dict[int, tuple[int, int]] = {}  # and back
        self._carriers: dict[int, int] = {}  # that number -> the uid of the gateway
        self._has_left = False
        self._waiting: list[tuple[int, int]] = []  # pairs that wait for a gateway
        self._again: set[tuple[int, int]] = set()  # pairs that were asked for although they have a link
        self._untaken: dict[int, socket.socket] = {}  # by number: ends for members whose gateway has not the other yet
        self._early: list[tuple[float, int, m.Arriving]] = []  # what cannot be carried yet: when, gateway, what
        self._news: list[m.Changed] = []  # what could not be told to the others

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
                self._tell_news()
                self._look_at_gateways()
            case m.Heard(letter=letter) if uid == self._mouthpiece:  # each gateway hears all
                decisions = membership.handle_letter(letter, now)
                self._kingpin.carry_out(decisions)
                for role in [each.role for each in decisions if isinstance(each, d.SeekLease)]:
                    self.leases.handle_free(role)
                self._handle_early(now)
                self._introduce_waiting()
            case m.Arriving() if uid in self._gateways:
                self._arrive(uid, message, now)
            case m.Taken(number=number) if uid in self._gateways:
                self._handle_taken(number)
            case m.Hung(number=number) if uid in self._gateways:
                self._forget(number)
            case m.LeaseIs() if uid in self._gateways:
                self.leases.handle_answer(message)
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
            self._tell_news()
            self._introduce_waiting()

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
        for pair in dict.fromkeys(waiting):
            self.introduce(*pair)

    # ------------------------------------------------------------------------------------------------- links

    def introduce(self, local: int, remote: int) -> None:
        """A member here wants a link to one on another machine, or to that one's Kingpin (uid: its node, and 0)."""
        if local not in self._kingpin.connections or not self._is_known(remote):
            return
        if (local, remote) in self._carried:
            # Either it has asked before it saw that link, or that one has ended and its gateway will say so soon.
            self._again.add((local, remote))
        elif self._choose(local, remote) is None or not self._has_gateway(m.node_of(remote)):
            self._waiting.append((local, remote))
        else:
            self._carry(local, remote)

    def _is_known(self, remote: int) -> bool:
        """Whether a member of another machine, or its Kingpin, is there."""
        is_member = remote in self._kingpin.supervisor.roster
        return m.node_of(remote) in self.membership.neighbours and (is_member or m.is_kingpin(remote))

    def _has_gateway(self, node: int) -> bool:
        """Whether one of that machine is ready to carry."""
        return any(m.node_of(member.uid) == node for member in self._kingpin.supervisor.roster.ready(GATEWAY))

    def _choose(self, local: int, remote: int) -> int | None:
        """The gateway for a pair, which the other machine would choose as well: of those that are ready there and here.
        None if that one has not reached NATS yet."""
        ready = [each.uid for each in self._kingpin.supervisor.roster.ready(GATEWAY) if not self.is_remote(each.uid)]
        states = {uid: self._gateways.get(uid, UNCONNECTED) for uid in ready if self._is_there(uid)}
        able = [uid for uid, why_not in states.items() if why_not in ("", UNCONNECTED)]
        chosen = gateway_for(local, remote, able)
        return None if chosen is None or states[chosen] else chosen

    def _is_there(self, gateway: int) -> bool:
        """Whether a gateway has not ended: those whose links it has carried may know that before its exit is told."""
        connection = self._kingpin.connections.get(gateway)
        if connection is None or connection.link.is_closed:
            return False
        poll = select.poll()
        poll.register(connection.link.fd, 0)
        return not poll.poll(0)

    def _carry(self, local: int, remote: int, gateway: int | None = None) -> None:
        gateway = self._choose(local, remote) if gateway is None else gateway
        carrier = None if gateway is None else self._kingpin.connections.get(gateway)
        if gateway is None or carrier is None:
            return
        self._waiting = [pair for pair in self._waiting if pair != (local, remote)]
        own, other = socket.socketpair()
        self._numbers += 1
        self._untaken[self._numbers] = own
        self._carried[local, remote] = self._numbers
        self._pairs[self._numbers] = local, remote
        self._carriers[self._numbers] = gateway
        carrier.link.post_with(m.Carry(self._numbers, local, remote), [other.detach()])

    def _handle_taken(self, number: int) -> None:
        """The other member has its end: now this one gets its own. Not before: what is said on a link that never came
        to be would be taken for lost, and so it waits and can go elsewhere."""
        own, pair = self._untaken.pop(number, None), self._pairs.get(number)
        if own is None or pair is None:
            return
        local, remote = pair
        if m.is_kingpin(local):  # somebody on another machine is a client of this Kingpin
            self._kingpin.handle_client(own, 0)
        elif (connection := self._kingpin.connections.get(local)) is not None:
            connection.link.post_with(m.Meet(remote), [own.detach()])
        else:
            own.close()

    def _forget(self, number: int) -> None:
        if (own := self._untaken.pop(number, None)) is not None:
            own.close()
            self._waiting.append(self._pairs[number])
        self._carriers.pop(number, None)
        pair = self._pairs.pop(number, None)
        if pair is not None and self._carried.get(pair) == number:
            del self._carried[pair]
            if pair in self._again:
                self._again.discard(pair)
                self.introduce(*pair)
            self._handle_early(monotonic())

    def _arrive(self, gateway: int, arriving: m.Arriving, now: float) -> None:
        """From another machine somebody wants a link to a member here."""
        local, remote = arriving.local, arriving.remote
        to_kingpin = m.is_kingpin(local)
        carried = 0 if to_kingpin else self._carried.get((local, remote), 0)
        if carried > arriving.carried and self._carriers.get(carried) == gateway:
            return  # the two have wanted each other at the same moment: the `Carry` is on its way
        if not to_kingpin and local not in self._kingpin.supervisor.roster:
            self._turn_away(gateway, arriving, "it has gone")
        elif not to_kingpin and remote not in self._kingpin.supervisor.roster:
            self._early.append((now, gateway, arriving))  # the letter that tells of it has gone another way
        elif carried and local < remote:
            # They have wanted each other at the same moment, over different gateways: this one's link stays. Or the
            # other's end of it is gone, then this end will be soon.
            self._early.append((now, gateway, arriving))
        else:
            self._carry(local, remote, gateway)

    def _handle_early(self, now: float) -> None:
        if not self._early:
            return
        early, self._early = self._early, []
        for since, gateway, arriving in early:
            local, remote = arriving.local, arriving.remote
            is_known = remote in self._kingpin.supervisor.roster
            if now - since > SILENCE:
                why = "the two have another link" if is_known else "the caller is not known there"
                self._turn_away(gateway, arriving, why)
            elif is_known and (local > remote or (local, remote) not in self._carried):
                self._arrive(gateway, arriving, now)
            else:
                self._early.append((since, gateway, arriving))

    def _turn_away(self, gateway: int, arriving: m.Arriving, why: str) -> None:
        if (connection := self._kingpin.connections.get(gateway)) is not None:
            connection.link.post(m.Turned(arriving.local, arriving.remote, why))

    # ----------------------------------------------------------------------------------------------- letters

    def write(self, node: int, words: m.Words) -> None:
        """Sends words to the Kingpin of another node, or to all (0). What cannot be sent now is not sent: who has
        missed something notices, though late. So news wait a little: for the successor of the only gateway, say."""
        mouthpiece = self._mouthpiece
        if self._has_left:
            return  # or the others would think that this machine is back
        if mouthpiece is not None and self._is_there(mouthpiece):
            self.ask_gateway(m.Send(node, self.letter(words)))
        elif isinstance(words, m.Changed) and len(self._news) < NEWS_LIMIT:
            self._news.append(words)

    def _tell_news(self) -> None:
        if self._mouthpiece is not None and self._news:
            news, self._news = self._news, []
            for words in news:
                self.write(0, words)

    def letter(self, words: m.Words) -> bytes:
        """Words of this Kingpin as others get them."""
        membership = self.membership
        return m.pack(
            m.Letter(m.PROTOCOL, membership.number, membership.name, Raw(m.pack(words)), self._kingpin.plan.name)
        )

    def ask_gateway(self, message: m.Down) -> None:
        """Says something to one of the gateways that are connected; to nobody if there is none."""
        uid = self._mouthpiece
        if uid is not None and (connection := self._kingpin.connections.get(uid)) is not None:
            connection.link.post(message)

    @property
    def _mouthpiece(self) -> int | None:
        """The gateway through which this Kingpin speaks to the others, and hears them."""
        return next((uid for uid, why_not in self._gateways.items() if not why_not), None)

    def handle_asked(self, uid: int) -> None:
        """The app ends, and it is a gateway's turn, the last: the others need not wait until they miss this machine."""
        if uid not in self._gateways:
            return
        self.leases.look()  # all others have ended: nothing runs by a lease any more
        for decision in self.membership.leave():
            if isinstance(decision, d.Write):
                self.write(decision.node, decision.words)
        self._has_left = True

    def note(self, decisions: Iterable[Decision]) -> list[Decision]:
        """What was decided here, and may be news for others."""
        return self.membership.handle_decisions(decisions, monotonic())
