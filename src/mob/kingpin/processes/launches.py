"""A launch: the sockets and pipes of a new mobster, its entry on the board, and the order to the fork server."""

from __future__ import annotations

import contextlib
import os
import socket

from mob.core.crew import Crew
from mob.core.decisions import Launch, Promote
from mob.core.placing import placed_at
from mob.kingpin.connections import Connections
from mob.kingpin.output.console import Console
from mob.kingpin.processes.fork_client import ForkClient
from mob.plan import Plan, place_name
from mob.rim.board import Board
from mob.wire import messages as m


class Launches:
    """Launches of mobsters, whose working directory is `directory`."""

    def __init__(
        self,
        plan: Plan,
        crew: Crew,
        directory: str,
        connections: Connections,
        console: Console,
        board: Board,
        fork_client: ForkClient,
    ) -> None:
        self.plan: Plan = plan
        """The current plan of the app; a role may be added."""
        self._crew = crew
        self._node = os.uname().nodename if plan.cluster is None else plan.cluster.node
        self._directory = directory
        self._connections = connections
        self._console = console
        self._board = board
        self._fork_client = fork_client

    def __repr__(self) -> str:
        return f"<Launches by {self._fork_client}>"

    def launch(self, launch: Launch, until: float | None) -> None:
        """Order a new mobster; if its role is a singleton, it may run until the time `until`.

        Raises:
            OSError: The system lacks a resource.
        """
        plan, size = self.plan, self._crew.roles[launch.role].target
        role = placed_at(plan.role(launch.role), launch.index, size, plan.name, self._node)
        with contextlib.ExitStack() as made:
            control, control_end = map(made.enter_context, socket.socketpair())
            liveness, liveness_end = map(made.enter_context, socket.socketpair())
            out, err = self._console.pipes(launch.uid, launch.role, launch.index)
            made.pop_all()
        self._connections.open(launch.uid, place_name(launch.role, launch.index), control, liveness)
        order = m.Fork(
            uid=launch.uid,
            index=launch.index,
            generation=launch.generation,
            app=plan.name,
            base=plan.base,
            role=role,
            grace=plan.grace,
            frame_limit=plan.frame_limit,
            color=self._console.color,
            log_format=plan.logs.format,
            metrics=plan.metrics,
            trace=plan.trace,
            setup=plan.setup,
            directory=self._directory,
            until=until,
            inherits=launch.inherits,
        )
        self._board.put(launch.uid, 0, 0)  # an earlier mobster may have used the same entry
        self._board.mark(launch.uid, 0)
        self._board.put_connections(launch.uid, 0, 0)
        self._fork_client.order(order, [control_end.detach(), liveness_end.detach(), out, err])

    def promote(self, promote: Promote) -> None:
        """Give a spare its slot: from now on its output and messages about it carry the name of that slot."""
        self._console.move(promote.uid, promote.index)
        if (connection := self._connections.get(promote.uid)) is not None:
            connection.link.name = place_name(promote.role, promote.index)
            connection.link.post(m.Promoted(promote.index, promote.generation))
            connection.link.flush()
