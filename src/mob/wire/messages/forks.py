"""Messages between Kingpin and fork server: launches and exits."""

from __future__ import annotations

from mob.plan import RolePlan
from mob.wire.messages.base import Base


class Fork(Base, frozen=True, tag=60):
    """Launch a mobster. Takes four descriptors: control, liveness, stdout, stderr."""

    uid: int
    index: int
    generation: int
    app: str
    base: str
    role: RolePlan
    grace: float
    frame_limit: int
    color: bool
    log_format: str = "text"
    metrics: bool = True
    trace: str | None = None
    setup: tuple[str, ...] = ()
    directory: str = ""
    """Its working directory, with the symbolic links through which the user got there."""
    inherits: bool = False
    """True if a predecessor left it something, or will: it has to ask before it starts."""
    until: float | None = None
    """Only for a singleton: when it must have ended unless it gets `Prolong`, by the clock of `rim.expiry`."""


class Adopt(Base, frozen=True, tag=61):
    """A mobster of an earlier fork server, or the rehearsal of an upgrade, which must also end if the Kingpin dies."""

    pid: int


class Remember(Base, frozen=True, tag=62):
    """A socket file to remove if the Kingpin dies without removing it."""

    path: str


class Relieve(Base, frozen=True, tag=65):
    """All mobsters of earlier fork servers were named (`Adopt`): this server's guardian replaces theirs."""


ForkOrder = Fork | Adopt | Remember | Relieve


class Forked(Base, frozen=True, tag=70):
    """The mobster has this pid."""

    uid: int
    pid: int


class Exited(Base, frozen=True, tag=71):
    """The mobster exited. `status` is the result of `os.waitstatus_to_exitcode`: negative for a signal."""

    uid: int
    pid: int
    status: int


class NotForked(Base, frozen=True, tag=72):
    """The mobster could not be forked: the system has no process or no memory for it at the moment, and why."""

    uid: int
    why: str


ForkReport = Forked | Exited | NotForked
