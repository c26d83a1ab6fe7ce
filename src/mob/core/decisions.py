"""What the Kingpin's core may decide. Small and frozen; `kingpin/` carries them out, one place for each.

A decision says what, never how: it names members by uid and holds no descriptor, no socket and no process.
"""

from __future__ import annotations

import msgspec

from mob.core.news import Change
from mob.wire.messages import Member, Node, RoleInfo, Running, TimersAt, Words

KINDS = ("exit", "crash", "hang", "reload", "recycle", "restart", "scale", "stop", "debug", "note")
"""What may happen to an app."""

Ticket = tuple[int, int]
"""Who asked, and the number of the request there."""
NOBODY: Ticket = (0, 0)
"""The ticket of what nobody waits for: a signal has asked for it."""


class _Decision(msgspec.Struct, frozen=True, gc=False):
    pass


class Launch(_Decision, frozen=True):
    """Have a mobster forked for this slot."""

    uid: int
    role: str
    index: int
    generation: int
    inherits: bool = False
    """Whether one before it has left it something, or will."""


class AskHandOver(_Decision, frozen=True):
    """Ask a worker for what it leaves to its successor; it has so many seconds."""

    uid: int
    seconds: float


class LetGoOn(_Decision, frozen=True):
    """Tell a worker that hands over that it is to go on: nobody takes its place."""

    uid: int


class Bequeath(_Decision, frozen=True):
    """Give a process what was left in its place, or tell it that nothing was."""

    ticket: Ticket
    role: str
    index: int


class DropInheritance(_Decision, frozen=True):
    """Forget what was left in a place: it has arrived, or is worth nothing any more."""

    role: str
    index: int


class Promote(_Decision, frozen=True):
    """Give a spare this place; it says that it is ready there."""

    uid: int
    role: str
    index: int
    generation: int


class Admit(_Decision, frozen=True):
    """Tell a new member who it is and who is there."""

    uid: int
    roles: tuple[RoleInfo, ...]
    members: tuple[Member, ...]
    nodes: tuple[Node, ...] = ()
    cut: str = ""


class Introduce(_Decision, frozen=True):
    """Make a link between two members (perhaps one and the same)."""

    first: int
    second: int


class Announce(_Decision, frozen=True):
    """Tell every member what has changed; that a machine has left only after its members have gone."""

    change: Change


class Write(_Decision, frozen=True):
    """Send words to the Kingpin of another node; to all others, if `node` is 0."""

    node: int
    words: Words


class SeekLease(_Decision, frozen=True):
    """The lease of a singleton was given back: see whether it can be had."""

    role: str


class Retire(_Decision, frozen=True):
    """Ask a mobster to finish and end, within so many seconds."""

    uid: int
    grace: float


class Kill(_Decision, frozen=True):
    """End the process group of a mobster by SIGKILL."""

    uid: int


class DumpStacks(_Decision, frozen=True):
    """Have a mobster that hangs say where it stands: the stacks of its threads and tasks. It is killed soon."""

    uid: int


class Record(_Decision, frozen=True):
    """Keep the report of a crash."""

    member: Member
    why: str
    uptime: float
    memory: int
    running: tuple[Running, ...]
    stacks: str
    """What `DumpStacks` has brought, or the error of an import that failed."""
    status: int | None = None
    """How the process has ended: its exit status, or the negative number of a signal. None if it was never born."""


class PassOn(_Decision, frozen=True):
    """Tell those who listen here of a crash on another machine."""

    report: bytes


class HearTimers(_Decision, frozen=True):
    """Another machine runs the timers of a role: note how far it is."""

    words: TimersAt


class Answer(_Decision, frozen=True):
    """Tell who asked for it that a reload or a change of size is done, or why it is not."""

    ticket: Ticket
    error: str = ""
    text: str = ""


class LendTerminal(_Decision, frozen=True):
    """Give the terminal to a debugger, which waits for it under this ticket."""

    ticket: Ticket


class TakeBackTerminal(_Decision, frozen=True):
    """The debugger that had the terminal has done with it, or is gone: see that it is as it was."""


class RenewForkServer(_Decision, frozen=True):
    """Start another fork server, which imports what is preloaded anew; the mobsters of the old one go on.

    Launches that follow in the same list are for the new one. It is started when all of the list is carried out,
    because its start brings reports and exits, which lead to other decisions. After that
    `handle_fork_server_renewed` is called.
    """


class Tell(_Decision, frozen=True):
    """Say something to the person at the terminal."""

    text: str
    kind: str = "note"
    """One of `KINDS`; for those who look at the past of the app."""


class WakeAt(_Decision, frozen=True):
    """Call `handle_wake` at this time."""

    when: float


class Finish(_Decision, frozen=True):
    """All is over: end the Kingpin with this status."""

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
