"""The Kingpin's part in a cluster, with real sockets and no process: the messages and socket ends of its gateway."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
from collections.abc import Iterator
from time import monotonic
from typing import Any

import pytest
from msgspec import Raw

from mob.core import decisions as d
from mob.core.decisions import Decision
from mob.core.supervisor import Supervisor
from mob.kingpin.cluster.cluster import ClusterNode, ClusterState
from mob.kingpin.connections import Connection, Connections
from mob.kingpin.processes.inheritances import Inheritances
from mob.kingpin.shortage import Shortage
from mob.plan import GATEWAY, Cluster as ClusterPlan, Plan, RolePlan
from mob.rim.link import Link
from mob.rim.reactor import Reactor
from mob.wire import messages as m
from tests.patience import patient

HERE, THERE = 7, 9
BACK, DOOR = (HERE << m.NODE_SHIFT) + 1, (HERE << m.NODE_SHIFT) + 2
FAR, FAR_DOOR = (THERE << m.NODE_SHIFT) + 1, (THERE << m.NODE_SHIFT) + 2
LIMIT = 1 << 20


class Mobster:
    """The other end of a control link: the messages and sockets that arrived there."""

    def __init__(self, sock: socket.socket, reactor: Reactor) -> None:
        self.heard: list[Any] = []
        self.given: list[socket.socket] = []
        self.link = Link(sock, reactor, m.decode_down, self._handle, lambda link, why: None, LIMIT)

    def _handle(self, link: Link, messages: list[Any]) -> None:
        for message in messages:
            self.heard.append(message)
            if isinstance(message, m.Carry | m.Meet):
                self.given.append(socket.socket(fileno=link.take(1)[0]))

    def close(self) -> None:
        self.link.close()
        for sock in self.given:
            sock.close()


class Room:
    """A cluster node's surroundings: a back and a gateway on this machine."""

    def __init__(self) -> None:
        self.reactor = Reactor(asyncio.new_event_loop())
        self.reactor.claim()
        plan = ClusterPlan(("nats://127.0.0.1:4222",), "here")
        roles = (RolePlan("back", "back", 1), RolePlan(GATEWAY, GATEWAY, 1))
        self.supervisor = Supervisor(Plan("app", "/", roles, cluster=plan), lambda: 0.5, lambda pid: False)
        self.supervisor.crew.last_uid = HERE << m.NODE_SHIFT
        self.connections = Connections(self.reactor, LIMIT, self)
        self.inheritances = Inheritances()
        self.said: list[str] = []
        self.shortage = Shortage(self.reactor, self.said.append)
        self.decided: list[Decision] = []
        self.clients: list[socket.socket] = []
        self.mobsters: dict[int, Mobster] = {}
        self.plan = plan
        for decision in self.supervisor.start(monotonic()):
            if isinstance(decision, d.Launch):
                self.launch(decision)
        self.cluster = ClusterNode(self, plan)

    def launch(self, launch: d.Launch) -> None:
        own, other = socket.socketpair()
        self.connections.open(launch.uid, f"{launch.role}.{launch.index}", own)
        self.mobsters[launch.uid] = Mobster(other, self.reactor)
        self.supervisor.handle_ready(launch.uid, 100, (), True, monotonic())

    def hears(self, message: Any) -> None:
        """Have the gateway send a message."""
        assert self.cluster.handle(self.connections[DOOR], message)

    def hears_of_others(self, *members: m.Member) -> None:
        everything = m.Everything(1, members, (m.RoleInfo("back", workers=1),))
        letter = m.Letter(m.PROTOCOL, THERE, "there", Raw(m.pack(everything)), "app")
        self.hears(m.Heard(m.pack(letter)))

    def told(self, uid: int) -> list[Any]:
        """Return the messages that a mobster got since the last call."""
        self.reactor.flush()
        mobster = self.mobsters[uid]
        mobster.link.drain()
        heard, mobster.heard = mobster.heard, []
        return heard

    def run_until_nothing_is_lacking(self) -> None:
        """Run the loop until the postponed attempts were retried."""
        deadline = self.reactor.loop.time() + patient(60)
        while self.shortage.text() and self.reactor.loop.time() < deadline:
            self.reactor.loop.run_until_complete(asyncio.sleep(0.01))
        assert self.shortage.text() == ""

    def close(self) -> None:
        for sock in self.cluster._links._held.values():
            sock.close()
        self.connections.close()
        for mobster in self.mobsters.values():
            mobster.close()
        for sock in self.clients:
            sock.close()
        self.reactor.loop.close()
        self.reactor.close()

    # what a cluster uses of it

    def carry_out(self, decisions: list[Decision]) -> None:
        self.decided += decisions
        for decision in [*decisions, *self.cluster.note(decisions)]:
            if isinstance(decision, d.Write):
                self.cluster.write(decision.node, decision.words)

    def handle_client(self, sock: socket.socket, pid: int) -> None:
        self.clients.append(sock)

    def keep_jobs(self) -> None:
        self.keeps_jobs = True

    def handle_up(self, connection: Connection, messages: list[Any]) -> None: ...
    def handle_up_closed(self, connection: Connection, why: str) -> None: ...
    def handle_vitals(self, connection: Connection, vitals: list[m.Vital]) -> None: ...
    def handle_drained(self, connection: Connection) -> None: ...


@pytest.fixture
def room() -> Iterator[Room]:
    room = Room()
    yield room
    room.close()


@pytest.fixture
def met(room: Room) -> Room:
    """Return a room whose gateway reaches NATS, and which knows another machine with a back and a gateway."""
    room.hears(m.OpenGateway())
    room.hears(m.Connected())
    room.hears_of_others(m.Member(FAR, 1, "back", 0, 1, "ready"), m.Member(FAR_DOOR, 2, GATEWAY, 0, 1, "ready"))
    room.told(DOOR)
    return room


@contextlib.contextmanager
def no_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def are_joined(one: socket.socket, other: socket.socket) -> bool:
    one.send(b"?")
    return other.recv(1) == b"?"


def test_a_gateway_is_greeted_and_speaks(room: Room) -> None:
    assert not room.cluster.handle(room.connections[BACK], m.OpenGateway())
    assert not room.cluster.handle(room.connections[DOOR], m.Connected())  # before it opened
    room.hears(m.OpenGateway())
    assert room.told(DOOR) == [m.JoinCluster(room.plan, HERE)]
    room.hears(m.Connected())
    (send,) = room.told(DOOR)
    letter = m.decode_letter(send.letter)
    assert (send.node, letter.sender, letter.name, letter.app) == (0, HERE, "here", "app")
    assert isinstance(m.decode_words(letter.body), m.Everything)


def test_why_nobody_is_reached_is_known(room: Room) -> None:
    room.hears(m.OpenGateway())
    room.hears(m.Connected("NATS is away"))
    assert d.Announce(m.Cut("NATS is away")) in room.decided


def test_a_link_has_its_ends_at_the_gateway_and_then_at_the_member(met: Room) -> None:
    met.cluster.introduce(BACK, FAR)
    (carry,) = met.told(DOOR)
    assert (carry.local, carry.remote) == (BACK, FAR)
    assert met.told(BACK) == []
    met.hears(m.Taken(carry.number))
    assert met.told(BACK) == [m.Meet(FAR)]
    assert are_joined(met.mobsters[BACK].given[0], met.mobsters[DOOR].given[0])
    met.hears(m.Hung(carry.number))


def test_an_end_that_never_came_to_be_is_closed(met: Room) -> None:
    met.cluster.introduce(BACK, FAR)
    (carry,) = met.told(DOOR)
    met.hears(m.Hung(carry.number))
    assert met.mobsters[DOOR].given[0].recv(1) == b""


def test_a_member_that_has_gone_meanwhile_gets_nothing(met: Room) -> None:
    met.cluster.introduce(BACK, FAR)
    (carry,) = met.told(DOOR)
    gone = met.connections.remove(BACK)
    assert gone is not None
    gone.close()
    met.hears(m.Taken(carry.number))
    assert met.mobsters[DOOR].given[0].recv(1) == b""


def test_another_machine_asks_for_a_member_for_one_that_has_gone_and_for_this_kingpin(met: Room) -> None:
    met.hears(m.Arriving(BACK, FAR))
    (carry,) = met.told(DOOR)
    met.hears(m.Arriving(BACK + 7, FAR))
    assert met.told(DOOR) == [m.Turned(BACK + 7, FAR, "it has ended")]
    met.hears(m.Taken(carry.number))
    assert met.told(BACK) == [m.Meet(FAR)]
    met.hears(m.Arriving(m.kingpin_of(HERE), FAR))
    (carry,) = met.told(DOOR)
    met.hears(m.Taken(carry.number))
    assert are_joined(met.clients[0], met.mobsters[DOOR].given[1])


def test_a_link_waits_until_there_are_descriptors(met: Room) -> None:
    with no_descriptors():
        met.cluster.introduce(BACK, FAR)
    assert "back.0 and member" in met.said[0]
    assert "cannot be linked" in met.said[0]
    assert met.told(DOOR) == []
    met.run_until_nothing_is_lacking()
    (carry,) = met.told(DOOR)
    assert (carry.local, carry.remote) == (BACK, FAR)


def test_what_is_lacking_for_a_link_that_has_ended_is_not_waited_for(met: Room) -> None:
    with no_descriptors():
        met.cluster.introduce(BACK, FAR)
    met.supervisor.roster.remove(DOOR)
    met.cluster.handle_gone(DOOR)
    met.run_until_nothing_is_lacking()
    assert met.told(DOOR) == []


def test_a_dead_gateway_is_seen_before_its_exit_is_told(met: Room) -> None:
    met.mobsters[DOOR].link.close()
    met.cluster.introduce(BACK, FAR)
    assert met.cluster._pairing.statistics() == {"pairs": 1, "open": 1, "links": 0, "held": 0}
    met.cluster.handle_gone(DOOR)
    met.cluster.handle_gone(BACK)  # no gateway


def test_it_says_that_it_leaves_and_nothing_more(met: Room) -> None:
    met.cluster.handle_asked(BACK)
    assert met.told(DOOR) == []
    met.cluster.handle_asked(DOOR)
    (send,) = met.told(DOOR)
    assert isinstance(m.decode_words(m.decode_letter(send.letter).body), m.Leaving)
    met.cluster.write(0, m.WantEverything())
    assert met.told(DOOR) == []


def test_the_next_program_goes_on(met: Room) -> None:
    early = (THERE << m.NODE_SHIFT) + 5
    met.hears(m.Arriving(BACK, early))
    state = met.cluster.state()
    assert state == ClusterState({}, [(DOOR, BACK, early)])
    nodes = list(met.supervisor.roster.nodes.values())
    met.cluster = ClusterNode(met, met.plan)
    met.cluster.start()
    met.cluster.take_over(nodes, monotonic(), state)
    assert met.told(DOOR) == [m.JoinCluster(met.plan, HERE)]
    met.hears(m.Connected())
    met.hears_of_others(m.Member(early, 3, "back", 1, 1, "ready"), m.Member(FAR_DOOR, 2, GATEWAY, 0, 1, "ready"))
    assert any(isinstance(each, m.Carry) and each.remote == early for each in met.told(DOOR))


def test_it_says_what_it_is(met: Room) -> None:
    assert repr(met.cluster).startswith("<ClusterNode <Membership of 'here', 1 other nodes>, <Gateways 1, ")
    assert repr(met.cluster._links) == "<Links, 0 ends held>"
    assert met.supervisor.crew.is_remote(FAR)
    assert not met.supervisor.crew.is_remote(BACK)
    assert any(isinstance(each, d.WakeAt) for each in met.cluster.handle_wake(monotonic() + 1.0))
