"""Several machines: what Kingpins write to one another, and what a Kingpin and its gateways say.

A `Letter` goes from one Kingpin to all others or to one, over whatever the gateway speaks. Its head will never change,
so that a Kingpin of another version can be told that it is one; the rest is of this version only.
"""

from __future__ import annotations

from msgspec import Raw

from mob.plan import Cluster
from mob.wire.messages.base import Base
from mob.wire.messages.roster import Member, RoleInfo


class Letter(Base, frozen=True):
    """What one Kingpin writes to others. These fields stay where they are for ever."""

    protocol: int
    sender: int
    """The number of the node."""
    name: str
    """Its name, for people."""
    body: Raw


class Alive(Base, frozen=True, tag=80):
    """I am here, and this is the version of what I last said of my members. `age`: seconds since I began."""

    version: int
    age: float


class Changed(Base, frozen=True, tag=81):
    """My members were these at version - 1; since then these have come or changed, and those have gone."""

    version: int
    members: tuple[Member, ...] = ()
    gone: tuple[tuple[int, str], ...] = ()
    roles: tuple[RoleInfo, ...] = ()


class Everything(Base, frozen=True, tag=82):
    """All of my members and roles."""

    version: int
    members: tuple[Member, ...]
    roles: tuple[RoleInfo, ...]


class WantEverything(Base, frozen=True, tag=83):
    """I do not know what you have, or have missed something."""


class Leaving(Base, frozen=True, tag=84):
    """I end; nothing of mine is there any more."""


class NotAdmitted(Base, frozen=True, tag=85):
    """You cannot take part, and why."""

    why: str


Words = Alive | Changed | Everything | WantEverything | Leaving | NotAdmitted
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


class Turned(Base, frozen=True, tag=97):
    """Down: that link cannot be, and why."""

    local: int
    remote: int
    why: str


class Hung(Base, frozen=True, tag=98):
    """Up: the link of the `Carry` with that number has ended."""

    number: int
