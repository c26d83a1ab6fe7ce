"""What the Kingpin says to a mobster or a client, on the control link."""

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
    """Who you are, and who is there. Takes one descriptor: of the board of loads."""

    uid: int
    app: str
    grace: float
    frame_limit: int
    roles: tuple[RoleInfo, ...]
    members: tuple[Member, ...]
    nodes: tuple[Node, ...] = ()
    """The machines of the cluster, this one first; none if there is no cluster."""
    cut: str = ""
    """Why the other machines cannot be reached now, if they cannot."""
    backlog: int = 64 * 1024 * 1024
    """Bytes of calls that may wait in the receiver for workers."""


class MemberIs(Base, frozen=True, tag=41):
    """A member is new or has changed."""

    member: Member


class MemberGone(Base, frozen=True, tag=42):
    """A member has died or left. `overran`: the call because of which it was killed, which took too long."""

    uid: int
    why: str
    overran: Overrun | None = None


class RoleIs(Base, frozen=True, tag=43):
    """What is known of a role has changed."""

    role: RoleInfo


class NodeIs(Base, frozen=True, tag=59):
    """A machine of the cluster is new or has changed."""

    node: Node


class NodeGone(Base, frozen=True, tag=63):
    """A machine has left the cluster, or has not been heard of for too long. Its members have gone before."""

    number: int
    why: str


class Cut(Base, frozen=True, tag=64):
    """Why the other machines cannot be reached now; nothing if they can."""

    why: str


class Meet(Base, frozen=True, tag=44):
    """Here is your end of a link to that member. Takes one descriptor."""

    uid: int


class Bound(Base, frozen=True, tag=45):
    """The listening socket for the `Bind` of that id. Takes one descriptor."""

    id: int


class NotBound(Base, frozen=True, tag=46):
    """The address cannot be had: the error number of bind, and a text that says who holds it."""

    id: int
    errno: int
    why: str


class Stop(Base, frozen=True, tag=47):
    """Finish what you have and end. You have so many seconds. `hands_over`: somebody may follow in your place."""

    grace: float
    hands_over: bool = True


class HandOver(Base, frozen=True, tag=164):
    """Your successor is about to start: finish your calls, and leave what you have for it (`HandedOver`). You have so
    many seconds. Begin nothing new until you hear `Stop` or `GoOn`."""

    seconds: float


class GoOn(Base, frozen=True, tag=165):
    """Nobody takes your place after all: serve calls again."""


class Inheritance(Base, frozen=True, tag=166):
    """The answer to `WantInheritance`: so many bytes. Takes a descriptor; none if `size` is -1, as nothing was left."""

    id: int
    size: int = -1


class Promoted(Base, frozen=True, tag=151):
    """You are a spare no more: this place is yours. Say when you are ready in it."""

    index: int
    generation: int


class Rows(Base, frozen=True, tag=48):
    """The answer to `Overview`."""

    id: int
    rows: tuple[Row, ...]


class Refused(Base, frozen=True, tag=49):
    """The Kingpin will not talk to this client, and why. The link closes."""

    why: str


class Unbound(Base, frozen=True, tag=50):
    """The answer to `Unbind`."""

    id: int


class Done(Base, frozen=True, tag=51):
    """The answer to a wish (`Scale`, `Reload`, ...): what was done, or why it was not."""

    id: int
    error: str = ""
    text: str = ""


class CrashIs(Base, frozen=True, tag=53):
    """The answer to `WantCrash`: the report, nothing if there is none."""

    id: int
    text: str


class TerminalLent(Base, frozen=True, tag=112):
    """The answer to `WantTerminal`: it is yours until `ReturnTerminal`. Takes two descriptors: to read from it, and to
    write to it."""

    id: int
    group: int
    """The process group of the Kingpin, which has the foreground while nothing is asked of the user."""


class NoTerminal(Base, frozen=True, tag=113):
    """The answer to `WantTerminal` if it cannot be had, and why."""

    id: int
    why: str


class CrashesAre(Base, frozen=True, tag=121):
    """The answer to `WantCrashes`, oldest first: each as JSON, as it lies on disk."""

    id: int
    reports: tuple[bytes, ...]


class Crashed(Base, frozen=True, tag=144):
    """A worker has died out of order; said to those that have said `HearCrashes`."""

    report: bytes
    """As JSON, as it lies on disk."""


class MetricsAre(Base, frozen=True, tag=56):
    """The answer to `WantMetrics`."""

    id: int
    metrics: Metrics


class ReadinessIs(Base, frozen=True, tag=142):
    """The answer to `WantReadiness`."""

    id: int
    is_stopping: bool
    """Whether the app ends, so that nothing of it is ready any more."""
    roles: tuple[RoleReadiness, ...]


class HistoryIs(Base, frozen=True, tag=57):
    """The answer to `WantHistory`, oldest first."""

    id: int
    now: float
    points: tuple[Point, ...]
    events: tuple[Event, ...]


class Lines(Base, frozen=True, tag=58):
    """What mobsters have printed, for a `Follow`. `dropped`: lines that were left out before these, for they were too
    many. `is_end`: nothing follows."""

    id: int
    lines: tuple[Line, ...]
    dropped: int = 0
    is_end: bool = False


class BeginRun(Base, frozen=True, tag=133):
    """Run your timer of that name; say `TimerRan` with this number when it has ended."""

    number: int
    name: str


class RunWaits(Base, frozen=True, tag=135):
    """A run of your timer of that name waits for a free worker: say `RoomForRun` as soon as you can begin it."""

    name: str


class NoRun(Base, frozen=True, tag=137):
    """The answer to `RoomForRun` if another worker was faster, or nothing waits any more."""

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
