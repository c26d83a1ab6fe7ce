"""What one program of the Kingpin leaves to the next at an upgrade: how it is gathered, and how it is taken over.

Descriptors stay open under their numbers. What has just ended (the link of a mobster that died a moment ago, say) is
left out, and its end is noticed as always. `take_over` puts things into their places. It sends nothing and ends
nothing, so another program can still do the same in its place if something raises (`upgrade.fall_back`).
"""

from __future__ import annotations

import contextlib
import os
import random
import socket
import sys
from collections.abc import Iterable
from time import monotonic
from typing import TYPE_CHECKING

import msgspec

from mob.core import snapshot
from mob.core.decisions import Decision, Ticket
from mob.core.lease import LeaseData
from mob.core.registry import Past, Registry
from mob.core.snapshot import Snapshot
from mob.kingpin.desk import Connection
from mob.kingpin.output.console import Console
from mob.kingpin.output.lines import Chunk
from mob.kingpin.output.writer import Source
from mob.plan import GATEWAY, Plan
from mob.rim import places, processes
from mob.rim.link import Link
from mob.wire import messages as m
from mob.wire.messages import Address, Follow

if TYPE_CHECKING:
    from mob.kingpin.kingpin import Kingpin


class End(msgspec.Struct, frozen=True):
    """The Kingpin's end of what joins it to a mobster or a client."""

    uid: int
    link: int
    beats: int
    """-1 for a client."""
    name: str
    pid: int
    is_client: bool
    greeted: bool
    unsent: bytes = b""
    """What it has not read yet, and the socket has not taken."""


class Pipe(msgspec.Struct, frozen=True):
    """What a mobster prints comes out here."""

    uid: int
    pid: int
    fd: int
    is_error: bool
    role: str
    index: int
    line: bytes
    """Its last line, so far."""


class Printed(msgspec.Struct, frozen=True):
    """What is known of what was printed, besides the pipes."""

    last_lines: dict[int, list[bytes]]
    recent: list[Chunk]
    dropped: int
    lost: list[tuple[Source, int]]
    followers: list[tuple[int, Follow, int]]


class Listener(msgspec.Struct, frozen=True):
    """A shared port; `role` and `nth` if it is a free one."""

    address: Address
    role: str
    nth: int
    fd: int
    users: list[int]
    is_activated: bool = False
    """Whether the service manager has opened it."""
    roles: list[str] = []
    """The roles of which a worker has held it; a program of an older version leaves none."""
    lingers: bool = False


class HandoverState(msgspec.Struct, frozen=True):
    """All that one program leaves to the next."""

    snapshot: Snapshot
    past: Past
    ends: list[End]
    pipes: list[Pipe]
    printed: Printed
    listeners: list[Listener]
    spares: dict[str, str]
    paths: list[str]
    desk: int
    board: int
    fork_server: int
    channel: int
    """-1 if the fork server has just died."""
    deadman: tuple[int, int]
    manager: dict[str, str]
    ticket: Ticket
    leases: dict[str, LeaseData] = {}
    """Of singletons; the clock that they run by goes on with the process."""
    plan: msgspec.Raw = msgspec.Raw()
    """The plan of the program that leaves this, for want of a new one."""
    command: list[str] = []
    """What the process was started as."""
    path: list[str] = []
    """`sys.path` of that program."""
    passed: list[int] = []
    """Sockets of the service manager that nobody has wanted yet."""

    def descriptors(self) -> list[int]:
        """Every one that must stay open."""
        ends = [fd for end in self.ends for fd in (end.link, end.beats)]
        others = [*(pipe.fd for pipe in self.pipes), *(listener.fd for listener in self.listeners), *self.passed]
        return [fd for fd in (*ends, *others, self.desk, self.board, self.channel, *self.deadman) if fd >= 0]


# ------------------------------------------------------------------------------------------------- gathered


def gather(kingpin: Kingpin, ticket: Ticket, command: list[str]) -> HandoverState:
    """Write down all that this program leaves."""
    fork_client, ports = kingpin.fork_client, kingpin.ports
    return HandoverState(
        snapshot=snapshot.take(kingpin.supervisor),
        past=kingpin.registry.past(),
        ends=[
            End(
                each.uid,
                each.link.fd,
                _fd(each.beats),
                each.link.name,
                each.pid,
                each.is_client,
                each.greeted,
                each.link.unsent_data(),
            )
            for each in kingpin.connections.values()
            if not each.link.is_closed
        ],
        pipes=[Pipe(*fields) for fields in kingpin.console.pipes_in_use()],
        printed=_printed(kingpin.console),
        listeners=[Listener(*fields) for fields in ports.in_use()],
        spares=ports.spares,
        paths=ports.paths,
        desk=kingpin.desk.sock.fileno(),
        board=kingpin.board.descriptor,
        fork_server=fork_client.pid,
        channel=_fd(fork_client.link),
        deadman=fork_client.deadman,
        manager=kingpin.manager.environment(),
        ticket=ticket,
        leases={} if kingpin.cluster is None else kingpin.cluster.leases.data(),
        plan=msgspec.Raw(msgspec.msgpack.encode(kingpin.plan)),
        command=command,
        path=sys.path,
        passed=ports.passed_on(),
    )


def _printed(console: Console) -> Printed:
    dropped, lost = console.losses()
    followers = console.followers
    return Printed(console.all_last_lines(), followers.recent.chunks(), dropped, lost, followers.in_use())


def _fd(link: Link | None) -> int:
    return -1 if link is None or link.is_closed else link.fd


# ------------------------------------------------------------------------------------------------ written


def write(state: HandoverState) -> int:
    """Write it into a file without a name; its descriptor. `OSError` if there is no place for it."""
    with places.unnamed_file() as will:
        will.write(msgspec.msgpack.encode(state))
        will.flush()
        return os.dup(will.fileno())


def read(will: int) -> HandoverState:
    """Read it; the file stays open."""
    with open(will, "rb", closefd=False) as file:
        file.seek(0)
        return msgspec.msgpack.decode(file.read(), type=HandoverState)


def plan_of(state: HandoverState) -> Plan:
    """Return the plan of the program that has left it."""
    return msgspec.msgpack.decode(state.plan, type=Plan)


def set_inheritable(descriptors: Iterable[int], flag: bool) -> None:
    """Have them stay open, or not, when another program takes the place of this one; those that are open."""
    for descriptor in descriptors:
        with contextlib.suppress(OSError):
            os.set_inheritable(descriptor, flag)


# ----------------------------------------------------------------------------------------------- taken over


def take_over(kingpin: Kingpin, state: HandoverState) -> list[Decision]:
    """Put everything into its place; what is to be carried out when the loop runs."""
    for end in state.ends:
        liveness = socket.socket(fileno=end.beats) if end.beats >= 0 else None
        link, beats = kingpin.links(end.uid, end.name, socket.socket(fileno=end.link), liveness)
        connection = Connection(end.uid, link, beats, end.pid, end.is_client)
        connection.greeted = end.greeted
        if end.unsent:
            link.go_on_with(end.unsent)
        kingpin.connections[end.uid] = connection
    for pipe in state.pipes:
        kingpin.console.take_over(*msgspec.structs.astuple(pipe))
    printed = state.printed
    kingpin.console.remember_last_lines(printed.last_lines)
    kingpin.console.remember(printed.recent, printed.dropped, printed.lost)
    for uid, follow, missed in printed.followers:
        if (follower := kingpin.connections.get(uid)) is not None:
            kingpin.console.followers.take_over(uid, follower.link, follow, missed)
    for listener in state.listeners:
        if not listener.roles:
            listener = msgspec.structs.replace(listener, roles=list(state.snapshot.targets))
        kingpin.ports.take_over(*msgspec.structs.astuple(listener))
    kingpin.ports.take_over_passed(state.passed)
    kingpin.ports.spares.update(state.spares)
    kingpin.ports.paths += state.paths
    kingpin.fork_client.take_over(state.fork_server, state.channel, state.deadman)
    kingpin.supervisor, decisions = snapshot.restore(
        kingpin.plan, state.snapshot, monotonic(), random.random, processes.is_stopped
    )
    kingpin.registry = Registry(kingpin.supervisor.crew, monotonic())
    kingpin.registry.take_over(state.past)
    kingpin.manager.take_over()
    return decisions


def rejoin_cluster(kingpin: Kingpin, state: HandoverState) -> None:
    """This machine goes on as the node that it was, if it was one."""
    number = m.node_of(kingpin.supervisor.crew.last_uid)
    if (kingpin.plan.cluster is not None) != bool(number):
        kingpin.console.say("whether the app runs on several machines cannot be changed by an upgrade: restart it.")
    elif kingpin.plan.cluster is not None:
        kingpin.join_cluster()
        assert kingpin.cluster is not None
        kingpin.cluster.membership.adopt(state.snapshot.nodes, state.past.began, monotonic())
        kingpin.cluster.leases.adopt(state.leases)
        for process in kingpin.supervisor.crew.processes_of(GATEWAY):
            kingpin.cluster.greet(process.uid)
