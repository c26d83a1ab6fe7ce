"""What this room uses of the app around it."""

from __future__ import annotations

import socket
from typing import Protocol

from mob.core.decisions import Decision
from mob.core.supervisor import Supervisor
from mob.kingpin.connections import Connections
from mob.kingpin.processes.inheritances import Inheritances
from mob.kingpin.shortage import Shortage
from mob.rim.reactor import Reactor


class Surroundings(Protocol):
    """The app's Kingpin, as far as the cluster has to do with it."""

    @property
    def supervisor(self) -> Supervisor: ...
    @property
    def connections(self) -> Connections: ...
    @property
    def reactor(self) -> Reactor: ...
    @property
    def inheritances(self) -> Inheritances: ...
    @property
    def shortage(self) -> Shortage: ...
    def carry_out(self, decisions: list[Decision]) -> None:
        """Do what was decided, in that order."""
        ...

    def keep_jobs(self) -> None:
        """Be ready to keep durable jobs: another machine of the cluster does."""
        ...

    def handle_client(self, sock: socket.socket, pid: int) -> None:
        """Let in a client that has come on that socket."""
        ...
