"""What every part of a peer needs to know of its process: who it is, who is there, the loop, the log.

Facts and no way up: who has the context cannot reach another part through it. Each is written by one file: `uid`, `app`
and `board` by `links/control` at the welcome, the roster by it for each change.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from itertools import count
from typing import TYPE_CHECKING, Protocol

from mob.core.roster import Roster
from mob.errors import NotInMobster, WrongProcess
from mob.peer.complaints import Complaints
from mob.plan import FRAME_LIMIT, place_name
from mob.rim.board import Board
from mob.rim.reactor import Reactor

if TYPE_CHECKING:
    from mob.peer.tracing import Tracing

MOST_UNHEARD = 1000
"""Errors nobody asked for that wait to be logged while plain code blocks the loop; beyond that the oldest go."""


class Cancellable(Protocol):
    """Something under way that can be given up."""

    def cancel(self) -> object:
        """Give it up."""
        ...


class Context:
    """The facts of one process that takes part in an app."""

    __slots__ = (
        "abandoned",
        "app",
        "board",
        "call_numbers",
        "complaints",
        "frame_limit",
        "generation",
        "gives_back",
        "index",
        "is_abandoned",
        "pid",
        "reactor",
        "role",
        "roster",
        "tracing",
        "uid",
        "unheard",
        "waits_for",
    )

    def __init__(
        self, reactor: Reactor, role: str = "", index: int = 0, generation: int = 0, frame_limit: int = FRAME_LIMIT
    ) -> None:
        self.reactor: Reactor = reactor
        self.role: str = role
        """Nothing for a client."""
        self.index: int = index
        self.generation: int = generation
        self.frame_limit: int = frame_limit
        self.pid: int = os.getpid()
        self.uid: int = 0
        self.app: str = ""
        self.roster: Roster = Roster()
        self.board: Board | None = None
        """The loads of all mobsters, from the welcome on."""
        self.gives_back: bool = False
        """Callers may take back calls that this process has not begun. All its exports are plain functions."""
        self.tracing: Tracing | None = None
        """The traces of OpenTelemetry, if they are wanted."""
        self.complaints: Complaints = Complaints(reactor)
        self.call_numbers: count[int] = count(1)
        """Each call of this process has one of its own, whatever process it goes to."""
        self.unheard: deque[tuple[str, BaseException]] = deque(maxlen=MOST_UNHEARD)
        """Errors of calls that nobody asked for: (label, error). A finalizer appends, `Peer.tidy` logs."""
        self.abandoned: deque[Cancellable] = deque()
        """Calls whose streams, and maps, that nobody reads any more. A finalizer appends, `Peer.tidy` cancels."""
        self.is_abandoned: bool = False
        """This is the child of a fork, and what has this context belongs to the parent."""

        self.waits_for: str = ""
        """What it cannot begin its work without, for `mob ps`: "waits for ..."."""

    def __repr__(self) -> str:
        return f"<Context of {self.name}>"

    @property
    def log(self) -> logging.Logger:
        """The logger of mob, looked up when there is something to log (see `Complaints`)."""
        return logging.getLogger("mob")

    @property
    def name(self) -> str:
        """As people read it: `back.2 (pid 4242)`."""
        return f"{place_name(self.role, self.index)} (pid {self.pid})" if self.role else f"client (pid {self.pid})"

    def cost_of(self, mark: int) -> int:
        """Return what a call of the export with that mark takes, in microseconds; 0 if nobody can tell."""
        return 0 if self.board is None else self.board.cost(mark)

    def check_process(self) -> None:
        """`NotInMobster` or `WrongProcess` in the child of a fork, where nothing can be done with this peer."""
        if not self.is_abandoned:
            return
        own = os.getpid()
        if self.role:
            raise NotInMobster(
                f"this process (pid {own}) was forked by {self.name} and is no mobster: it cannot call, send or wait "
                f"for calls. Do that in the worker that has forked it, or say mob.connect({self.app!r}) here."
            )
        raise WrongProcess(
            f"this client was made in process {self.pid}, and this is process {own}: call mob.connect({self.app!r}) in "
            f"this process. A client and all that was made with it belong to one process and do not survive a fork."
        )
