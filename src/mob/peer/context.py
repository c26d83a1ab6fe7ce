"""What every part of a peer needs to know about its process: its identity, the roster, the loop, the log.

It holds facts only: a part that has the context cannot reach another part through it. Each fact is written by one file:
`uid`, `app` and `board` by `links/control` at the welcome, and the roster by the same file at each change.
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
"""Maximum number of unread errors that wait to be logged while plain code blocks the loop; the oldest are dropped."""


class Cancellable(Protocol):
    """Something under way that can be cancelled."""

    def cancel(self) -> object:
        """Cancel it."""
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
        """Name of the role; "" for a client."""
        self.index: int = index
        self.generation: int = generation
        self.frame_limit: int = frame_limit
        self.pid: int = os.getpid()
        self.uid: int = 0
        self.app: str = ""
        self.roster: Roster = Roster()
        self.board: Board | None = None
        """The loads of all mobsters; None before the welcome."""
        self.gives_back: bool = False
        """True if callers may take back calls that this process has not begun: all its exports are plain functions."""
        self.tracing: Tracing | None = None
        """The traces of OpenTelemetry; None if the app does not trace."""
        self.complaints: Complaints = Complaints(reactor)
        self.call_numbers: count[int] = count(1)
        """Numbers for calls, unique in this process whatever process a call goes to."""
        self.unheard: deque[tuple[str, BaseException]] = deque(maxlen=MOST_UNHEARD)
        """Errors of calls whose results were never read: (label, error). A finalizer appends, `Peer.tidy` logs."""
        self.abandoned: deque[Cancellable] = deque()
        """Calls whose streams or maps no one reads any longer. A finalizer appends, `Peer.tidy` cancels."""
        self.is_abandoned: bool = False
        """True in the child of a fork: everything that holds this context belongs to the parent."""

        self.waits_for: str = ""
        """What this process needs before it can begin its work, as `mob ps` shows it: "waits for ..."."""

    def __repr__(self) -> str:
        return f"<Context of {self.name}>"

    @property
    def log(self) -> logging.Logger:
        """The logger of mob, looked up each time (see `Complaints`)."""
        return logging.getLogger("mob")

    @property
    def name(self) -> str:
        """The name of this process as people read it: `back.2 (pid 4242)`."""
        return f"{place_name(self.role, self.index)} (pid {self.pid})" if self.role else f"client (pid {self.pid})"

    def cost_of(self, mark: int) -> int:
        """Return the microseconds that a call of the export with that mark takes; 0 if that is unknown."""
        return 0 if self.board is None else self.board.cost(mark)

    def check_process(self) -> None:
        """Raise `NotInMobster` or `WrongProcess` in the child of a fork, where this peer cannot be used."""
        if not self.is_abandoned:
            return
        own = os.getpid()
        if self.role:
            raise NotInMobster(
                f"this process (pid {own}) was forked by {self.name} and is not a worker: it cannot call, send or wait "
                f"for calls. Do that in the worker that forked it, or use mob.connect({self.app!r}) here."
            )
        raise WrongProcess(
            f"this client was made in process {self.pid}, and this is process {own}: call mob.connect({self.app!r}) in "
            f"this process. A client and everything made with it belong to one process and do not survive a fork."
        )
