"""What one program of the Kingpin hands over to the next at an upgrade: collected from its parts, written and read.

Each part gives its own state and takes it over (`state`, `take_over`). Descriptors stay open under their numbers. What
just ended (such as the link of a mobster that died a moment ago) is left out, and its end is noticed as usual. Taking
over sends nothing and ends nothing, so if something raises, another program can still do it instead
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
    """Everything that one program hands over to the next."""

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
    """An encoded `core.timers.TimerState`; decoded only where there are timers."""
    plan: msgspec.Raw = msgspec.Raw()
    """The plan of the previous program, in case there is no new one."""
    command: list[str] = []
    """The command that started the process."""
    path: list[str] = []
    """`sys.path` of the previous program."""
    canaries: list[tuple[int, int]] = []
    """Uids of mobsters, and descriptors that close when these exit."""

    def descriptors(self) -> list[int]:
        """Return all descriptors that must stay open."""
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
    """Write the state into a file without a name; return its descriptor. Raise `OSError` if there is no space."""
    with places.unnamed_file() as will:
        will.write(msgspec.msgpack.encode(state))
        will.flush()
        return os.dup(will.fileno())


def read(will: int) -> HandoverState:
    """Read the state; the file stays open."""
    with open(will, "rb", closefd=False) as file:
        file.seek(0)
        fields = msgspec.msgpack.decode(file.read(), type=dict[str, msgspec.Raw])
    return msgspec.msgpack.decode(msgspec.msgpack.encode(_by_part(fields)), type=HandoverState)


def _by_part(fields: dict[str, msgspec.Raw]) -> dict[str, msgspec.Raw]:
    """Return the fields grouped by part; an older version stored them side by side."""
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
    """Return the plan of the program that wrote the state."""
    return msgspec.msgpack.decode(state.plan, type=Plan)


def set_inheritable(descriptors: Iterable[int], flag: bool) -> None:
    """Make those descriptors that are open stay open, or not, when another program replaces this one."""
    for descriptor in descriptors:
        with contextlib.suppress(OSError):
            os.set_inheritable(descriptor, flag)
