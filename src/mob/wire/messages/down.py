"""Messages from the Kingpin to a mobster or a client, on the control link."""

from __future__ import annotations

from mob.wire.messages.base import Base
from mob.wire.messages.cluster import (
    Carry,
    DropLeft,
    GetLeft,
    GiveBack,
    JoinCluster,
    PutLeft,
    ReadLease,
    Send,
    Turned,
    WriteLease,
)
from mob.wire.messages.roster import Member, Node, Overrun, RoleInfo
from mob.wire.messages.tables import Event, Line, Metrics, Point, RoleReadiness, Row


class Welcome(Base, frozen=True, tag=40):
    """The first message: the receiver's uid, and all members. Takes one descriptor: of the board of loads."""

    uid: int
    app: str
    grace: float
    frame_limit: int
    roles: tuple[RoleInfo, ...]
    members: tuple[Member, ...]
    nodes: tuple[Node, ...] = ()
    """Machines of the cluster, this one first; empty if there is no cluster."""
    cut: str = ""
    """Why the other machines cannot be reached now; "" if they can."""
    backlog: int = 64 * 1024 * 1024
    """Bytes of calls that may wait for workers in the receiver."""


class MemberIs(Base, frozen=True, tag=41):
    """A member is new or changed."""

    member: Member


class MemberGone(Base, frozen=True, tag=42):
    """A member died or left. `overran`: the call that ran for too long and because of which it was killed."""

    uid: int
    why: str
    overran: Overrun | None = None


class RoleIs(Base, frozen=True, tag=43):
    """What is known about a role changed."""

    role: RoleInfo


class NodeIs(Base, frozen=True, tag=59):
    """A machine of the cluster is new or changed."""

    node: Node


class NodeGone(Base, frozen=True, tag=63):
    """A machine left the cluster, or was silent for too long. Its members were reported as gone before."""

    number: int
    why: str


class Cut(Base, frozen=True, tag=64):
    """Why the other machines cannot be reached now; "" if they can."""

    why: str


class Meet(Base, frozen=True, tag=44):
    """The receiver's end of a link to that member. Takes one descriptor."""

    uid: int


class Bound(Base, frozen=True, tag=45):
    """The listening socket for the `Bind` of that id. Takes one descriptor."""

    id: int


class NotBound(Base, frozen=True, tag=46):
    """The address is not available: the error number of bind, and a text that says which process holds it."""

    id: int
    errno: int
    why: str


class Stop(Base, frozen=True, tag=47):
    """Finish the calls in hand and exit within `grace` seconds. `hands_over`: a successor may take the same place."""

    grace: float
    hands_over: bool = True


class HandOver(Base, frozen=True, tag=164):
    """The successor is about to start: finish the calls in hand, and leave the state for it (`HandedOver`).

    The receiver has `seconds` for it, and begins nothing new until it gets `Stop` or `GoOn`.
    """

    seconds: float


class GoOn(Base, frozen=True, tag=165):
    """No successor comes after all: serve calls again."""


class Inheritance(Base, frozen=True, tag=166):
    """The answer to `WantInheritance`: `size` bytes. Takes a descriptor; none if `size` is -1: nothing was left."""

    id: int
    size: int = -1


class Promoted(Base, frozen=True, tag=151):
    """The receiver is no longer a spare: it has this place. It says `Ready` once it is ready in it."""

    index: int
    generation: int


class Rows(Base, frozen=True, tag=48):
    """The answer to `Overview`."""

    id: int
    rows: tuple[Row, ...]


class Refused(Base, frozen=True, tag=49):
    """The Kingpin refuses this client, and why. The link closes."""

    why: str


class Unbound(Base, frozen=True, tag=50):
    """The answer to `Unbind`."""

    id: int


class Done(Base, frozen=True, tag=51):
    """The answer to a request (`Scale`, `Reload`, ...): what was done, or why it was not."""

    id: int
    error: str = ""
    text: str = ""


class CrashIs(Base, frozen=True, tag=53):
    """The answer to `WantCrash`: the report; "" if there is none."""

    id: int
    text: str


class TerminalLent(Base, frozen=True, tag=112):
    """The answer to `WantTerminal`: the receiver has the terminal until `ReturnTerminal`.

    Takes two descriptors: one to read from, one to write to.
    """

    id: int
    group: int
    """Process group of the Kingpin, which is in the foreground while the user is not asked anything."""


class NoTerminal(Base, frozen=True, tag=113):
    """The answer to `WantTerminal` if the terminal is not available, and why."""

    id: int
    why: str


class CrashesAre(Base, frozen=True, tag=121):
    """The answer to `WantCrashes`, oldest first: each report as JSON, as it is on disk."""

    id: int
    reports: tuple[bytes, ...]


class Crashed(Base, frozen=True, tag=144):
    """A worker crashed; sent to those that sent `HearCrashes`."""

    report: bytes
    """The report as JSON, as it is on disk."""


class MetricsAre(Base, frozen=True, tag=56):
    """The answer to `WantMetrics`."""

    id: int
    metrics: Metrics


class ReadinessIs(Base, frozen=True, tag=142):
    """The answer to `WantReadiness`."""

    id: int
    is_stopping: bool
    """True if the app ends, so that none of its roles is ready any longer."""
    roles: tuple[RoleReadiness, ...]


class HistoryIs(Base, frozen=True, tag=57):
    """The answer to `WantHistory`, oldest first."""

    id: int
    now: float
    points: tuple[Point, ...]
    events: tuple[Event, ...]


class Lines(Base, frozen=True, tag=58):
    """Lines that mobsters printed, for a `Follow`.

    `dropped`: number of lines left out before these, because there were too many. `is_end`: nothing follows.
    """

    id: int
    lines: tuple[Line, ...]
    dropped: int = 0
    is_end: bool = False


class BeginRun(Base, frozen=True, tag=133):
    """Run the timer of that name; say `TimerRan` with this number when the run ends."""

    number: int
    name: str


class RunWaits(Base, frozen=True, tag=135):
    """A run of the timer of that name waits for a free worker: say `RoomForRun` as soon as it can begin."""

    name: str


class NoRun(Base, frozen=True, tag=137):
    """The answer to `RoomForRun` if another worker was faster, or if no run waits any longer."""

    name: str


Down = (
    Welcome
    | MemberIs
    | MemberGone
    | HandOver
    | GoOn
    | Inheritance
    | RoleIs
    | Meet
    | Bound
    | NotBound
    | Unbound
    | Stop
    | Promoted
    | Rows
    | Refused
    | Done
    | CrashIs
    | CrashesAre
    | Crashed
    | TerminalLent
    | NoTerminal
    | MetricsAre
    | HistoryIs
    | ReadinessIs
    | Lines
    | BeginRun
    | RunWaits
    | NoRun
    | NodeIs
    | NodeGone
    | Cut
    | JoinCluster
    | Send
    | Carry
    | Turned
    | ReadLease
    | WriteLease
    | GiveBack
    | PutLeft
    | GetLeft
    | DropLeft
)
