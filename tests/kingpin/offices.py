"""A Kingpin's parts around a supervisor, without any process."""

from __future__ import annotations

from mob.kingpin.output.console import Console
from mob.kingpin.processes.fork_client import ForkClient
from mob.plan import Logs
from mob.rim.board import Board
from tests.core.world import World, plan, started
from tests.kingpin.members import LIMIT, Room
from tests.kingpin.paper import Paper


class Office:
    """The parts, and two workers of "back" that send what a test has them send."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self.plan = plan("back*2")
        self.world: World = started("back*2")
        self.crew = self.world.supervisor.crew
        self.uid, self.other = sorted(self.crew.processes)
        self.control, self.liveness = room.mobster(self.uid, "back.0")
        self.console = Console(room.reactor, Logs(), LIMIT, Paper())
        self.fork_client = ForkClient(room.reactor, self.plan, lambda report: None, lambda why: None)
        self.board = Board.make()

    def close(self) -> None:
        self.fork_client.close()
        self.console.close()
        self.board.close()
