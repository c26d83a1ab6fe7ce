"""What this room needs of the app around it."""

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
    """The app's Kingpin, as far as the cluster needs it."""

    @property
    def supervisor(self) -> Supervisor:
        """The decision core of the app."""
        ...

    @property
    def connections(self) -> Connections:
        """The connections to members on this machine."""
        ...

    @property
    def reactor(self) -> Reactor:
        """The Kingpin's loop."""
        ...

    @property
    def inheritances(self) -> Inheritances:
        """What workers handed over to their successors."""
        ...

    @property
    def shortage(self) -> Shortage:
        """What waits for a resource of the system."""
        ...

    def carry_out(self, decisions: list[Decision]) -> None:
        """Carry out decisions in order."""
        ...

    def keep_jobs(self) -> None:
        """Prepare to keep durable jobs because another machine of the cluster does."""
        ...

    def handle_client(self, sock: socket.socket, pid: int) -> None:
        """Accept a client that connected through that socket."""
        ...
