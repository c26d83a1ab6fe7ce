"""Several machines: the messages between Kingpins, and between a Kingpin and its gateways.

A `Letter` goes from one Kingpin to one other or to all, over any transport that the gateway uses. Its head never
changes, so that Kingpins of different versions recognize each other's version; the body is for one version only.
"""

from __future__ import annotations

from msgspec import Raw

from mob.plan import Cluster
from mob.wire.messages.base import Base
from mob.wire.messages.roster import Member, Overrun, RoleInfo


class LeaseRecord(Base, frozen=True):
    """The value of a lease in the store: the machine that may run a singleton."""

    node: int = 0
    """Number of the node that holds it; 0 if no node does, because it was given back."""
    name: str = ""
    token: int = 0
    is_new: bool = False
    """True if this very value took the lease: then the token is the revision, or `token` if that is greater."""
    left: int = 0
    """Token under which a machine left the singleton's data for the next one; 0 if there is none."""


def token_of(lease: LeaseRecord, revision: int) -> int:
    """Return the fencing token of a lease that was found at a revision of the store.

    >>> token_of(LeaseRecord(1, "a", 3, True), 9), token_of(LeaseRecord(1, "a", 9), 12)
    (9, 9)
    """
    return max(lease.token, revision) if lease.is_new else lease.token


class Letter(Base, frozen=True):
    """A letter from one Kingpin to others. The places of these fields never change."""

    protocol: int
    sender: int
    """Number of the node that sends it."""
    name: str
    """Name of that node, for people."""
    body: Raw
    app: str = ""
    """App that it belongs to; "" in letters of older versions, which did not give it."""


class Alive(Base, frozen=True, tag=80):
    """The sender is alive; `version` is that of its last word on its members, `age` the seconds since it began."""

    version: int
    age: float


class Changed(Base, frozen=True, tag=81):
    """The members that came, changed or left since `version` - 1.

    `overran` has, by uid, the calls that ran for too long and because of which members were killed.
    """

    version: int
    members: tuple[Member, ...] = ()
    gone: tuple[tuple[int, str], ...] = ()
    roles: tuple[RoleInfo, ...] = ()
    overran: dict[int, Overrun] = {}


class Everything(Base, frozen=True, tag=82):
    """All members of the sender, and the roles that run there."""

    version: int
    members: tuple[Member, ...]
    roles: tuple[RoleInfo, ...]
    wanted: bool = False
    """True if the sender asks for all members of the receiver in turn."""


class WantEverything(Base, frozen=True, tag=83):
    """A request for all members, because the sender does not know them or missed something."""


class Leaving(Base, frozen=True, tag=84):
    """The sender ends, and so do all its members."""


class LeaseFree(Base, frozen=True, tag=105):
    """The lease of that singleton was given back: another machine can take it at once."""

    role: str


class CrashedHere(Base, frozen=True, tag=145):
    """A worker of the sender crashed. The shortened report is for listeners on the receiver's machine."""

    report: bytes


class TimersAt(Base, frozen=True, tag=134):
    """The sender runs the timers of that role, and handled everything due before these times.

    The times are seconds since the epoch, by the name of the timer.
    """

    role: str
    times: dict[str, float]


Words = Alive | Changed | Everything | WantEverything | Leaving | LeaseFree | CrashedHere | TimersAt
"""Any body of a letter."""


class OpenGateway(Base, frozen=True, tag=90):
    """Up: the sender is a gateway, and ready for `JoinCluster`."""


class JoinCluster(Base, frozen=True, tag=91):
    """Down: the cluster to connect to, and the number of this node."""

    cluster: Cluster
    node: int


class Connected(Base, frozen=True, tag=92):
    """Up: the other machines can be reached now; if not, `why_not` is the reason."""

    why_not: str = ""
    keeps: bool = False
    """True if this gateway supports `PutLeft` and its relatives; gateways of older versions do not."""


class Send(Base, frozen=True, tag=93):
    """Down: send a letter to that node; to all others if it is 0."""

    node: int
    letter: bytes


class Heard(Base, frozen=True, tag=94):
    """Up: a letter arrived."""

    letter: bytes


class Carry(Base, frozen=True, tag=95):
    """Down: the other end of a link from a member of this node to one of another node. Takes one descriptor."""

    number: int
    local: int
    remote: int


class Arriving(Base, frozen=True, tag=96):
    """Up: a member of another node asks for a link to one of this node. Answered by `Carry` or `Turned`."""

    local: int
    remote: int
    carried: int = 0
    """Number of the latest `Carry` that this gateway had seen by then."""


class Turned(Base, frozen=True, tag=97):
    """Down: that link is impossible, and why."""

    local: int
    remote: int
    why: str


class Taken(Base, frozen=True, tag=99):
    """Up: the link of the `Carry` with that number reached its other end; now the member can get its own end."""

    number: int


class Hung(Base, frozen=True, tag=98):
    """Up: the link of the `Carry` with that number ended."""

    number: int


class ReadLease(Base, frozen=True, tag=100):
    """Down: read the lease of a singleton. Answered by `LeaseIs`."""

    number: int
    role: str


class WriteLease(Base, frozen=True, tag=101):
    """Down: replace the lease that has that revision (0: there is none yet) with this one. Answered by `LeaseIs`."""

    number: int
    role: str
    revision: int
    lease: LeaseRecord


class GiveBack(Base, frozen=True, tag=102):
    """Down: this node no longer needs the lease that it held with that token.

    `letter` is sent to all when that is written.
    """

    number: int
    role: str
    token: int
    letter: bytes = b""
    left: int = 0
    """See `LeaseRecord.left`."""


class PutLeft(Base, frozen=True, tag=107):
    """Down: store this file for the machine that runs the singleton next. Takes one descriptor, of the file.

    Answered by `LeftIs`.
    """

    number: int
    role: str
    token: int
    """Token of the lease under which it ran here: the name of what is stored."""


class GetLeft(Base, frozen=True, tag=108):
    """Down: fetch what was stored for a singleton. Answered by `LeftIs`."""

    number: int
    role: str
    left: int
    """See `LeaseRecord.left`."""


class DropLeft(Base, frozen=True, tag=109):
    """Down: what was stored for a singleton arrived and can be removed. Not answered."""

    role: str
    left: int


class LeftIs(Base, frozen=True, tag=104):
    """Up: the data is stored; or it was fetched, `size` bytes, which takes a descriptor; or `error` says why not."""

    number: int
    role: str
    size: int = -1
    error: str = ""
    is_gone: bool = False
    """True if the error is that nothing is stored, so that asking again is useless."""


class LeaseIs(Base, frozen=True, tag=103):
    """Up: the lease that was found or written; or why that failed."""

    number: int
    role: str
    revision: int = 0
    value: LeaseRecord = LeaseRecord()
    is_written: bool = False
    error: str = ""
