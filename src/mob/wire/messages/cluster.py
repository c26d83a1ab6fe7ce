"""Several machines: what Kingpins write to one another, and what a Kingpin and its gateways say.

A `Letter` goes from one Kingpin to all others or to one, over whatever the gateway speaks. Its head will never change,
so that a Kingpin of another version can be told that it is one; the rest is of this version only.
"""

from __future__ import annotations

from msgspec import Raw

from mob.plan import Cluster
from mob.wire.messages.base import Base
from mob.wire.messages.roster import Member, Overrun, RoleInfo


class LeaseRecord(Base, frozen=True):
    """The value of a lease in the store: which machine may run a singleton."""

    node: int = 0
    """The number of the node that has it; 0: nobody, it was given back."""
    name: str = ""
    token: int = 0
    is_new: bool = False
    """Whether it was taken by this very value: then the token is the revision, or `token` if that is greater."""
    left: int = 0
    """The token under which a machine has left the data of the singleton for the next one; 0: there is none."""


def token_of(lease: LeaseRecord, revision: int) -> int:
    """The fencing token of a lease that was found at a revision of the store.

    >>> token_of(LeaseRecord(1, "a", 3, True), 9), token_of(LeaseRecord(1, "a", 9), 12)
    (9, 9)
    """
    return max(lease.token, revision) if lease.is_new else lease.token


class Letter(Base, frozen=True):
    """What one Kingpin writes to others. These fields stay where they are for ever."""

    protocol: int
    sender: int
    """The number of the node."""
    name: str
    """Its name, for people."""
    body: Raw
    app: str = ""
    """The app that it belongs to; "" in letters of versions that did not say so."""


class Alive(Base, frozen=True, tag=80):
    """I am here, and this is the version of what I last said of my members. `age`: seconds since I began."""

    version: int
    age: float


class Changed(Base, frozen=True, tag=81):
    """My members were these at version - 1; since then these have come or changed, and those have gone. `overran`: by
    uid, the calls because of which some of them were killed, which took too long."""

    version: int
    members: tuple[Member, ...] = ()
    gone: tuple[tuple[int, str], ...] = ()
    roles: tuple[RoleInfo, ...] = ()
    overran: dict[int, Overrun] = {}


class Everything(Base, frozen=True, tag=82):
    """All of my members, and the roles that run here."""

    version: int
    members: tuple[Member, ...]
    roles: tuple[RoleInfo, ...]
    wanted: bool = False
    """Whether I want to know all of yours."""


class WantEverything(Base, frozen=True, tag=83):
    """I do not know what you have, or have missed something."""


class Leaving(Base, frozen=True, tag=84):
    """I end; nothing of mine is there any more."""


class LeaseFree(Base, frozen=True, tag=105):
    """The lease of that singleton was given back: whoever wants it need not wait."""

    role: str


class CrashedHere(Base, frozen=True, tag=145):
    """A worker of mine has died out of order. The report, shortened, for those who listen on your machine."""

    report: bytes


class TimersAt(Base, frozen=True, tag=134):
    """I run the timers of that role, and have seen to all that was due before these times: seconds since the epoch, by
    the name of the timer."""

    role: str
    times: dict[str, float]


Words = Alive | Changed | Everything | WantEverything | Leaving | LeaseFree | CrashedHere | TimersAt
"""What a letter says."""


class OpenGateway(Base, frozen=True, tag=90):
    """Up: I am a gateway, and ready for `JoinCluster`."""


class JoinCluster(Base, frozen=True, tag=91):
    """Down: whom to speak to, and as which node."""

    cluster: Cluster
    node: int


class Connected(Base, frozen=True, tag=92):
    """Up: whether the others can be reached now; if not, why."""

    why_not: str = ""
    keeps: bool = False
    """Whether this gateway knows `PutLeft` and what belongs to it; one of an older version does not."""


class Send(Base, frozen=True, tag=93):
    """Down: a letter to that node; to all others if it is 0."""

    node: int
    letter: bytes


class Heard(Base, frozen=True, tag=94):
    """Up: a letter has come."""

    letter: bytes


class Carry(Base, frozen=True, tag=95):
    """Down: here is the other end of a link of a member of this node to one of another. Takes one descriptor."""

    number: int
    local: int
    remote: int


class Arriving(Base, frozen=True, tag=96):
    """Up: a member of another node wants a link to one of this node. Answered by `Carry` or `Turned`."""

    local: int
    remote: int
    carried: int = 0
    """The number of the latest `Carry` that this gateway had seen then."""


class Turned(Base, frozen=True, tag=97):
    """Down: that link cannot be, and why."""

    local: int
    remote: int
    why: str


class Taken(Base, frozen=True, tag=99):
    """Up: the link of the `Carry` with that number has reached its other end; now the member may have its own."""

    number: int


class Hung(Base, frozen=True, tag=98):
    """Up: the link of the `Carry` with that number has ended."""

    number: int


class ReadLease(Base, frozen=True, tag=100):
    """Down: look at the lease of a singleton. Answered by `LeaseIs`."""

    number: int
    role: str


class WriteLease(Base, frozen=True, tag=101):
    """Down: put this lease in the place of the one with that revision (0: of none). Answered by `LeaseIs`."""

    number: int
    role: str
    revision: int
    lease: LeaseRecord


class GiveBack(Base, frozen=True, tag=102):
    """Down: the lease that this node had with that token is not needed any more. `letter` is sent to all when that is
    written."""

    number: int
    role: str
    token: int
    letter: bytes = b""
    left: int = 0
    """As in `LeaseRecord`."""


class PutLeft(Base, frozen=True, tag=107):
    """Down: store this for the machine that runs the singleton next. Takes one descriptor, of a file. Answered by
    `LeftIs`."""

    number: int
    role: str
    token: int
    """Of the lease by which it ran here: the name of what is stored."""


class GetLeft(Base, frozen=True, tag=108):
    """Down: fetch what was stored for a singleton. Answered by `LeftIs`."""

    number: int
    role: str
    left: int
    """As in `LeaseRecord`."""


class DropLeft(Base, frozen=True, tag=109):
    """Down: what was stored for a singleton has arrived. Not answered."""

    role: str
    left: int


class LeftIs(Base, frozen=True, tag=104):
    """Up: it is stored; or here it is, `size` bytes, which takes a descriptor; or why neither could be."""

    number: int
    role: str
    size: int = -1
    error: str = ""
    is_gone: bool = False
    """Whether the error is that there is nothing, so that asking again is useless."""


class LeaseIs(Base, frozen=True, tag=103):
    """Up: what was found or written; or why that could not be."""

    number: int
    role: str
    revision: int = 0
    value: LeaseRecord = LeaseRecord()
    is_written: bool = False
    error: str = ""
