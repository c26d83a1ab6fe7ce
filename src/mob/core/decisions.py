"""The decisions of the Kingpin's core. They are small and frozen; `kingpin/` carries each out in one place.

A decision says what to do, never how: it names members by uid and holds no descriptor, socket or process.
"""

from __future__ import annotations

import msgspec

from mob.core.news import Change
from mob.wire.messages import Member, Node, RoleInfo, Running, TimersAt, Words

KINDS = ("exit", "crash", "hang", "reload", "recycle", "restart", "scale", "stop", "debug", "note")
"""The kinds of events in an app."""

Ticket = tuple[int, int]
"""Uid of the member that asked, and its number for the request."""
NOBODY: Ticket = (0, 0)
"""The ticket of a request for whose answer no one waits: a signal made it."""


class _Decision(msgspec.Struct, frozen=True, gc=False):
    pass


class Launch(_Decision, frozen=True):
    """Have a mobster forked for this slot."""

    uid: int
    role: str
    index: int
    generation: int
    inherits: bool = False
    """True if an earlier process left it data, or will."""


class AskHandOver(_Decision, frozen=True):
    """Ask a worker for the data it leaves to its successor; it has that many seconds."""

    uid: int
    seconds: float


class LetGoOn(_Decision, frozen=True):
    """Tell a worker that is handing over to continue: no process takes its place."""

    uid: int


class Bequeath(_Decision, frozen=True):
    """Give a process the data that was left in its place, or tell it that there is none."""

    ticket: Ticket
    role: str
    index: int


class DropInheritance(_Decision, frozen=True):
    """Forget the data that was left in a place: it has arrived, or is no longer of use."""

    role: str
    index: int


class Promote(_Decision, frozen=True):
    """Give a spare this place; it reports that it is ready there."""

    uid: int
    role: str
    index: int
    generation: int


class Admit(_Decision, frozen=True):
    """Tell a new member its identity and the roster."""

    uid: int
    roles: tuple[RoleInfo, ...]
    members: tuple[Member, ...]
    nodes: tuple[Node, ...] = ()
    cut: str = ""


class Introduce(_Decision, frozen=True):
    """Make a link between two members, which may be the same one."""

    first: int
    second: int


class Announce(_Decision, frozen=True):
    """Tell every member what changed; that a machine left, only after its members left."""

    change: Change


class Write(_Decision, frozen=True):
    """Send words to the Kingpin of another node; to those of all other nodes if `node` is 0."""

    node: int
    words: Words


class SeekLease(_Decision, frozen=True):
    """The lease of a singleton was returned: check whether this machine can take it."""

    role: str


class Retire(_Decision, frozen=True):
    """Ask a mobster to finish and exit within that many seconds."""

    uid: int
    grace: float


class Kill(_Decision, frozen=True):
    """End the process group of a mobster by SIGKILL."""

    uid: int


class DumpStacks(_Decision, frozen=True):
    """Ask a mobster that hangs for the stacks of its threads and tasks. It is killed soon."""

    uid: int


class Record(_Decision, frozen=True):
    """Keep the report of a crash."""

    member: Member
    why: str
    uptime: float
    memory: int
    running: tuple[Running, ...]
    stacks: str
    """What `DumpStacks` brought, or the error of an import that failed."""
    status: int | None = None
    """Exit status of the process, or the negative number of a signal. None if the process never existed."""


class PassOn(_Decision, frozen=True):
    """Tell those that listen here about a crash on another machine."""

    report: bytes


class HearTimers(_Decision, frozen=True):
    """Another machine runs the timers of a role: note their progress."""

    words: TimersAt


class Answer(_Decision, frozen=True):
    """Tell the member that asked that a reload or a change of size is done, or why it is not."""

    ticket: Ticket
    error: str = ""
    text: str = ""


class LendTerminal(_Decision, frozen=True):
    """Give the terminal to the debugger that waits for it under this ticket."""

    ticket: Ticket


class TakeBackTerminal(_Decision, frozen=True):
    """The debugger that had the terminal is done or has ended: restore the terminal."""


class RenewForkServer(_Decision, frozen=True):
    """Start another fork server, which imports the preloaded modules again; mobsters of the old one continue.

    Launches that follow in the same list are for the new one. It is started after the whole list is carried out,
    because its start brings reports and exits, which lead to other decisions. Then `handle_fork_server_renewed` is
    called.
    """


class Tell(_Decision, frozen=True):
    """Write a message to the log."""

    text: str
    kind: str = "note"
    """One of `KINDS`; for those that look at the history of the app."""


class WakeAt(_Decision, frozen=True):
    """Call `handle_wake` at this time."""

    when: float


class Finish(_Decision, frozen=True):
    """Everything is over: end the Kingpin with this status."""

    status: int


Decision = (
    Launch
    | AskHandOver
    | LetGoOn
    | Bequeath
    | DropInheritance
    | Promote
    | Admit
    | Introduce
    | Announce
    | Write
    | SeekLease
    | Retire
    | Kill
    | DumpStacks
    | Record
    | PassOn
    | HearTimers
    | Answer
    | LendTerminal
    | TakeBackTerminal
    | RenewForkServer
    | Tell
    | WakeAt
    | Finish
)
