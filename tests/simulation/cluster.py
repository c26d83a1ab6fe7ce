"""Many machines on a fake clock: what their Kingpins decide is the product's, letters are real bytes, NATS is modelled.

A node may be of another version; then its letters are other letters to those that are not of it.

`Letters` broadcasts as NATS does: late, by chance not at all, never across a partition, and in order for each pair. A
`Node` does what `kingpin.cluster` does around the membership: carries decisions out, shows them to the membership once
more, and rings its timers. Its mobsters are lines in its roster; they come, change and go as the test says. With
gateways (`afar`, `gateways`) they also talk to those of other machines.

Nothing agrees by vote, so there are two invariants, some quiet time after the last fault: everybody has the same
rosters, and whoever wants to talk to somebody who is there has a link to it, besides which nothing is left.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import count

from msgspec import Raw

from mob.core import decisions as d
from mob.core.crew import Crew
from mob.core.decisions import Decision
from mob.core.membership import Membership
from mob.core.roster import Roster
from mob.plan import GATEWAY, Cluster, Plan, RolePlan
from mob.wire import messages as m
from tests.simulation.afar import EXIT, Afar, Talk
from tests.simulation.clock import Clock
from tests.simulation.gateways import Station

LATENCY = 0.001
JITTER = 0.0005
REACH = "NATS is out of reach"


@dataclass
class Traffic:
    """Letters and their bytes."""

    sent: int = 0
    sent_bytes: int = 0
    received: int = 0
    received_bytes: int = 0


class Letters:
    """NATS, between Kingpins."""

    def __init__(self, clock: Clock, loss: float = 0.0) -> None:
        self.clock = clock
        self.loss = loss
        self.nodes: dict[int, Node] = {}
        self.sides: dict[int, int] = {}
        """Which side of a partition a node is on; 0 if it is not said."""
        self.on_delivered: Callable[[Node], None] = lambda node: None
        self.talks: dict[int, Talk] = {}
        """The truth: who says what on a link."""
        self.talk_numbers = count(1)

    def write(self, sender: Node, to: int, letter: bytes) -> None:
        sender.traffic.sent += 1
        sender.traffic.sent_bytes += len(letter)
        number = sender.number
        receivers = [self.nodes[to]] if to in self.nodes else list(self.nodes.values()) if not to else []
        for node in receivers:
            if node.number == number or self.sides.get(node.number, 0) != self.sides.get(number, 0):
                continue
            if self.loss and self.clock.is_lucky(self.loss):
                continue
            arrival = max(self.clock.now + LATENCY + JITTER * self.clock.luck(), node.last_from.get(number, 0.0))
            node.last_from[number] = arrival
            self.clock.at(arrival, self.deliver, node, letter)

    def carry(self, sender: Station, uid: int, packet: bytes) -> None:
        """A packet to a gateway, perhaps."""
        node = self.nodes.get(m.node_of(uid))
        station = None if node is None else node.afar.stations.get(uid)
        here, there = sender.node.number, m.node_of(uid)
        if station is None or self.sides.get(here, 0) != self.sides.get(there, 0):
            return
        if not (self.loss and self.clock.is_lucky(self.loss)):
            self.clock.after(LATENCY, station.receive, packet)

    def deliver(self, node: Node, letter: bytes) -> None:
        if self.nodes.get(node.number) is node:
            node.receive(node.hear, letter)
            self.on_delivered(node)


class Node:
    """A Kingpin with its mobsters, as far as the others are concerned."""

    def __init__(self, letters: Letters, number: int, name: str, plan: Plan, newer_by: int = 0) -> None:
        self.letters = letters
        self.clock = letters.clock
        self.number = number
        self.name = name
        self.plan = plan
        self.newer_by = newer_by
        """By how many versions of the protocol it is newer than this mob."""
        self.traffic = Traffic()
        self.last_from: dict[int, float] = {}
        self.told: list[str] = []
        self.announced = 0
        self.paused_until = 0.0
        self.unread: deque[tuple[Callable[..., None], tuple[object, ...]]] = deque()
        self.has_ended = False
        self.crew = self._new_crew(number << m.NODE_SHIFT)
        self.membership = Membership(self.crew, name, self.clock.now)
        self.has_gateways = any(role.name == GATEWAY for role in plan.roles)
        """If not, the Kingpin reaches NATS by itself."""
        self.why_not = ""
        self.cluster = Cluster(("nats://127.0.0.1:4222",), name)
        self.afar = Afar(self)

    def __repr__(self) -> str:
        return f"<Node {self.name}, {len(self.crew.roster)} members>"

    def _new_crew(self, last_uid: int) -> Crew:
        crew = Crew(self.plan)
        crew.last_uid = last_uid
        return crew

    # what it does

    def start(self) -> None:
        self.letters.nodes[self.number] = self
        self.carry_out(self.membership.start(self.clock.now))
        for role in self.plan.roles:
            for index in range(role.workers):
                self.launch(role.name, index, "ready")
        self.connect()

    @property
    def roster(self) -> Roster:
        return self.crew.roster

    def connect(self, why_not: str = "") -> None:
        """All gateways reach NATS, or lose it."""
        self.why_not = why_not
        for station in self.afar.stations.values():
            station.connect(why_not)
        if not self.has_gateways:
            self.handle_connected(why_not)

    def handle_connected(self, why_not: str | None) -> None:
        if why_not is not None:
            self.carry_out(self.membership.handle_connected(why_not, self.clock.now))

    def launch(self, role: str, index: int, state: str = "launching") -> m.Member:
        uid = self.crew.next_uid()
        return self.put(m.Member(uid, 100_000 + (uid & 0xFFFF), role, index, 1, state))

    def put(self, member: m.Member) -> m.Member:
        self.crew.roster.put(member)
        if member.role == GATEWAY and member.uid not in self.afar.stations:
            self.afar.add_station(member.uid)
        self.carry_out([d.Announce(m.MemberIs(member))])
        return member

    def lose(self, member: m.Member) -> None:
        """It dies; a gateway's links end before the Kingpin is told."""
        if (station := self.afar.stations.get(member.uid)) is None:
            self._exited(member)
        elif not station.is_dead:
            station.die()
            self.clock.after(EXIT, self._exited, member)

    def _exited(self, member: m.Member) -> None:
        if self.has_ended:
            return
        self.crew.roster.remove(member.uid)
        self.carry_out([d.Announce(m.MemberGone(member.uid, "was killed by SIGKILL"))])
        if (station := self.afar.stations.get(member.uid)) is not None:
            self.afar.lose_station(station)

    def own(self) -> list[m.Member]:
        return [member for member in self.crew.roster if m.node_of(member.uid) == self.number]

    def replace(self, member: m.Member, boot: float = 0.03) -> None:
        """It dies, and another comes in its place."""
        self.lose(member)
        successor = self.launch(member.role, member.index)
        self.clock.after(boot, self._become_ready, successor)

    def _become_ready(self, member: m.Member) -> None:
        if member.uid in self.crew.roster and not self.has_ended:
            if (station := self.afar.stations.get(member.uid)) is not None:
                station.connect(self.why_not)
            self.put(m.Member(member.uid, member.pid, member.role, member.index, 1, "ready"))

    def leave(self) -> None:
        self.carry_out(self.membership.leave())
        self.vanish()

    def vanish(self) -> None:
        self.has_ended = True
        self.letters.nodes.pop(self.number, None)
        self.afar.vanish()

    def upgrade(self) -> None:
        """Another Kingpin takes the place of this one."""
        roster, uid = self.crew.roster, self.crew.last_uid
        self.crew = self._new_crew(uid)
        for member in roster:
            self.crew.roster.put(member)
        for role in roster.roles.values():
            self.crew.roster.put_role(role)
        self.membership = Membership(self.crew, self.name, self.clock.now)
        self.carry_out(self.membership.start(self.clock.now))
        self.membership.adopt(list(roster.nodes.values()), self.clock.now, self.clock.now)
        self.afar.restart()
        if not self.has_gateways:
            self.connect()

    def pause(self, seconds: float) -> None:
        """It stands still; what comes meanwhile waits."""
        self.paused_until = self.clock.now + seconds

    # what happens

    def receive(self, handle: Callable[..., None], *args: object) -> None:
        """Something comes; in order, and not while this Kingpin stands still."""
        self.unread.append((handle, args))
        self._read()

    def _read(self) -> None:
        if self.clock.now < self.paused_until:
            self.clock.at(self.paused_until, self._read)
            return
        while self.unread and not self.has_ended:
            handle, args = self.unread.popleft()
            handle(*args)

    def hear(self, letter: bytes) -> None:
        if self.has_gateways and not self._is_reachable:
            return
        self.traffic.received += 1
        self.traffic.received_bytes += len(letter)
        self.carry_out(self.membership.handle_letter(self._as_read(letter), self.clock.now))
        self.afar.do(self.afar.pairing.handle_news(self.clock.now))

    def hear_station(self, station: Station, message: m.Up) -> None:
        """One of its gateways says something."""
        if not self.has_ended and station.uid in self.afar.stations:
            self.afar.handle(station, message)

    @property
    def _is_reachable(self) -> bool:
        """Whether the gateway that speaks for it is there and has a connection."""
        station = self.afar.stations.get(self.afar.gateways.speaker or 0)
        return station is not None and not station.is_dead and not station.why_not

    def _as_read(self, letter: bytes) -> bytes:
        """As one of its version reads it: the membership takes the version of this mob for its own."""
        if not self.newer_by:
            return letter
        read = m.decode_letter(letter)
        return m.pack(m.Letter(read.protocol - self.newer_by, read.sender, read.name, read.body))

    def wake(self) -> None:
        if self.has_ended:
            return
        if self.clock.now < self.paused_until:
            self.clock.at(self.paused_until, self.wake)
            return
        self.afar.do(self.afar.pairing.handle_wake(self.clock.now))
        self.carry_out(self.membership.handle_wake(self.clock.now))

    def carry_out(self, decisions: list[Decision]) -> None:
        noted = self.membership.handle_decisions(decisions, self.clock.now)
        for decision in (*decisions, *noted):
            match decision:
                case d.WakeAt(when=when):
                    self.clock.at(when, self.wake)
                case d.Write() if self.has_gateways:
                    self.write(self.afar.gateways.write(decision.node, decision.words))
                case d.Write():
                    self.write([decision] if not self.membership.cut else [])
                case d.Tell(text=text):
                    self.told.append(text)
                case d.Announce(m.MemberGone(uid=uid)):
                    self.announced += 1
                    self.afar.handle_gone(uid)
                case d.Announce(m.MemberIs()):
                    self.announced += 1
                case d.Announce(m.NodeGone(number=number)):
                    self.afar.handle_gone(m.kingpin_of(number))
                case d.Announce(m.Cut(why="")) if self.has_gateways:
                    self.afar.ask_again()
                case _:
                    pass

    def write(self, writes: list[d.Write]) -> None:
        """Sends words to the others."""
        for write in writes if self._is_reachable or not self.has_gateways else ():
            letter = m.Letter(m.PROTOCOL + self.newer_by, self.number, self.name, Raw(m.pack(write.words)))
            self.letters.write(self, write.node, m.pack(letter))


class Machines:
    """All of them."""

    def __init__(
        self,
        seed: int = 0,
        loss: float = 0.0,
        roles: Iterable[tuple[str, int]] = (("back", 3),),
        gateways: int = 0,
    ) -> None:
        self.clock = Clock(seed)
        self.letters = Letters(self.clock, loss)
        if gateways:
            roles = (*roles, (GATEWAY, gateways))
        self.plan = Plan("app", "/", tuple(RolePlan(name, name, workers) for name, workers in roles))
        self.count = 0

    @property
    def nodes(self) -> list[Node]:
        return list(self.letters.nodes.values())

    def join(self, name: str = "", newer_by: int = 0) -> Node:
        self.count += 1
        number = (1 << 30) + self.clock.random.getrandbits(29)
        node = Node(self.letters, number, name or f"node-{self.count}", self.plan, newer_by)
        node.start()
        return node

    def join_many(self, count: int, within: float = 0.0) -> None:
        for _ in range(count):
            self.clock.after(self.clock.between(0.0, within), self.join)
        self.run(within + 1.0)

    def want_links(self, count: int) -> None:
        """Members want to talk to some of other machines."""
        for _ in range(count):
            node = self.clock.pick(self.nodes)
            own = [member for member in node.own() if member.role != GATEWAY]
            others = [each for each in node.crew.roster if m.node_of(each.uid) != node.number and each.role != GATEWAY]
            if own and others:
                other = self.clock.pick(others).uid
                if self.clock.is_lucky(0.1):
                    other = m.kingpin_of(m.node_of(other))
                node.afar.want(self.clock.pick(own).uid, other)

    def complaint(self, is_waiting: bool = False) -> str:
        """What is wrong with the links when all is quiet; nothing if all is well."""
        return next(filter(None, (node.afar.complaint(is_waiting) for node in self.nodes)), "")

    def run(self, seconds: float) -> None:
        """Time passes."""
        until = self.clock.now + seconds
        self.clock.at(until, lambda: None)
        while self.clock.now < until:
            self.clock.step()

    def run_until(self, is_so: Callable[[], bool], limit: float = 30.0) -> float:
        """Time passes until it is so; how much."""
        begun = self.clock.now
        while not is_so():
            if self.clock.now > begun + limit:
                raise AssertionError(f"it is not so after {limit:g} s: {self.disagreement()}")
            self.clock.step()
        return self.clock.now - begun

    def disagreement(self) -> str:
        """What is not known as it is by all of its version; nothing if all agree."""
        inside = [node for node in self.nodes if node.membership.namesake_at is None]
        versions = {node.newer_by for node in inside}
        return next(filter(None, (self._disagreement([n for n in inside if n.newer_by == v]) for v in versions)), "")

    def _disagreement(self, inside: list[Node]) -> str:
        truth = {node.number: {member.uid: member for member in node.own()} for node in inside}
        for node in inside:
            others = truth.keys() - {node.number}
            if node.membership.neighbours.keys() != others:
                return f"{node} knows {len(node.membership.neighbours)} of {len(others)} others"
            if node.crew.roster.nodes.keys() != truth.keys():
                return f"{node} has told of other machines than there are"
            if len(node.crew.roster) != sum(map(len, truth.values())):
                return f"{node} knows others than there are"
            for other in others:
                if node.membership.neighbours[other].members != truth[other]:
                    return f"{node} does not know the members of {self.letters.nodes[other]}"
                if any(node.crew.roster.get(uid) != member for uid, member in truth[other].items()):
                    return f"{node} has another roster than its membership"
        return ""
