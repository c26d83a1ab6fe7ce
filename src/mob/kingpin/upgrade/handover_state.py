"""What one program of the Kingpin leaves to the next at an upgrade: gathered from its parts, written and read.

Each part gives its own state and takes it over (`state`, `take_over`). Descriptors stay open under their numbers. What
has just ended (the link of a mobster that died a moment ago, say) is left out, and its end is noticed as always. Taking
over sends nothing and ends nothing, so another program can still do the same in its place if something raises
(`upgrade.fall_back`).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable

import msgspec

from mob.core.decisions import Ticket
from mob.core.registry import Past
from mob.core.snapshot import Snapshot
from mob.kingpin.cluster.cluster import ClusterState
from mob.kingpin.connections import ConnectionState
from mob.kingpin.output.console import ConsoleState
from mob.kingpin.processes.fork_client import ForkClientState
from mob.kingpin.processes.inheritances import InheritanceState
from mob.kingpin.processes.ports import PortsState
from mob.plan import Plan
from mob.rim import places


class HandoverState(msgspec.Struct, frozen=True):
    """All that one program leaves to the next."""

    snapshot: Snapshot
    past: Past
    connections: list[ConnectionState]
    console: ConsoleState
    ports: PortsState
    fork_client: ForkClientState
    desk: int
    board: int
    manager: dict[str, str]
    ticket: Ticket
    cluster: ClusterState = ClusterState()
    inheritances: list[InheritanceState] = []
    timers: bytes = b""
    """A `core.timers.TimerState`, which is read where there are timers only."""
    plan: msgspec.Raw = msgspec.Raw()
    """The plan of the program that leaves this, in case there is no new one."""
    command: list[str] = []
    """What the process was started as."""
    path: list[str] = []
    """`sys.path` of that program."""
    canaries: list[tuple[int, int]] = []
    """Uids of mobsters, and descriptors that end when these do."""

    def descriptors(self) -> list[int]:
        """Return every one that must stay open."""
        found = [
            *(fd for each in self.connections for fd in (each.link, each.beats)),
            *(each.fd for each in self.console.pipes),
            *(each.fd for each in self.ports.listeners),
            *self.ports.passed,
            *(descriptor for _, descriptor in self.canaries),
            self.fork_client.channel,
            *self.fork_client.deadman,
            self.desk,
            self.board,
            *(each.fd for each in self.inheritances),
        ]
        return [fd for fd in found if fd >= 0]


def write(state: HandoverState) -> int:
    """Write it into a file without a name; return its descriptor. `OSError` if there is no place for it."""
    with places.unnamed_file() as will:
        will.write(msgspec.msgpack.encode(state))
        will.flush()
        return os.dup(will.fileno())


def read(will: int) -> HandoverState:
    """Read it; the file stays open."""
    with open(will, "rb", closefd=False) as file:
        file.seek(0)
        fields = msgspec.msgpack.decode(file.read(), type=dict[str, msgspec.Raw])
    return msgspec.msgpack.decode(msgspec.msgpack.encode(_by_part(fields)), type=HandoverState)


def _by_part(fields: dict[str, msgspec.Raw]) -> dict[str, msgspec.Raw]:
    """Return the fields by the part that they belong to, where an older version has left them side by side."""
    if "ends" not in fields:
        return fields
    printed = msgspec.msgpack.decode(fields["printed"], type=dict[str, msgspec.Raw])
    parts = {
        "console": {"pipes": fields["pipes"], **printed},
        "ports": {name: fields[name] for name in ("listeners", "spares", "paths", "passed")},
        "cluster": {"leases": fields["leases"]} if "leases" in fields else {},
        "fork_client": {"pid": fields["fork_server"], **{name: fields[name] for name in ("channel", "deadman")}},
    }
    packed = {name: msgspec.Raw(msgspec.msgpack.encode(part)) for name, part in parts.items()}
    return {**fields, "connections": fields["ends"], **packed}


def plan_of(state: HandoverState) -> Plan:
    """Return the plan of the program that has left it."""
    return msgspec.msgpack.decode(state.plan, type=Plan)


def set_inheritable(descriptors: Iterable[int], flag: bool) -> None:
    """Have them stay open, or not, when another program takes the place of this one; those that are open."""
    for descriptor in descriptors:
        with contextlib.suppress(OSError):
            os.set_inheritable(descriptor, flag)
