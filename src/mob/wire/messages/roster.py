"""Who is there, as everybody knows it."""

from __future__ import annotations

from mob.wire.messages.base import Base


class Member(Base, frozen=True):
    """A process of the mob, as the roster shows it. A client has the role ""."""

    uid: int
    """The number by which the app knows the process; no other process of its time has it, on any machine."""
    pid: int
    """The process id on its machine."""
    role: str
    index: int
    """The place in its role: 0 to workers - 1."""
    generation: int
    """How many processes have had this role and index, this one counted."""
    state: str
    """"launching", "booting", "ready", "draining" or "gone"."""
    token: int = 0
    """Of a singleton: the fencing token of the lease by which it runs. Who comes later has a greater one."""


class Overrun(Base, frozen=True):
    """A call with a limit of its running time (`kill_after`): because of it its worker is killed, or will be."""

    caller: int
    """The uid of its caller; 0 if it is a batch of several calls."""
    number: int
    mark: int
    """Of its export (`rim.board.mark_of`)."""
    limit: float
    """Its `kill_after`, in seconds."""
    deadline: float = 0.0
    """When its worker is killed: monotonic seconds of its machine."""


NODE_SHIFT = 32
"""A uid is the number of its node, and in the lower bits one that is unique there."""


def node_of(uid: int) -> int:
    """The number of the node that a member belongs to; 0 if its app runs on one machine only.

    >>> node_of(5), node_of((7 << 32) + 5)
    (0, 7)
    """
    return uid >> NODE_SHIFT


def kingpin_of(node: int) -> int:
    """What stands for the Kingpin of a node, where the uid of a member is wanted. No member has it.

    >>> kingpin_of(7) == 7 << 32, is_kingpin(7 << 32), is_kingpin((7 << 32) + 5)
    (True, True, False)
    """
    return node << NODE_SHIFT


def is_kingpin(uid: int) -> bool:
    """Whether it stands for the Kingpin of a node."""
    return not uid & (1 << NODE_SHIFT) - 1


class Node(Base, frozen=True):
    """Another machine of the app's cluster, or this one."""

    number: int
    name: str
    places: tuple[tuple[str, int], ...] = ()
    """How many places each role has there."""


class ExportInfo(Base, frozen=True):
    """What the others need to know of an exported function."""

    name: str
    signature: str
    """As it is written, with annotations: "(number: int, x=2) -> str"."""
    doc: str
    """Its docstring, "" if it has none."""
    idempotent: bool = False
    """Whether a call may be repeated after the death of its worker."""
    width: int = 1
    """How many calls of it a worker runs at once."""
    is_beside: bool = False
    """Whether they run beside others (tasks, streams) or wait in a line of their own, and so hold up no other call."""
    is_async: bool = False
    """They run as tasks, side by side."""
    methods: tuple[ExportInfo, ...] | None = None
    """What can be called of the objects that it makes, if it is a class; None for a function."""
    takes_tags: bool = False
    """Whether its annotations have unions that what is sent does not decide: then callers tag its arguments."""


class RoleInfo(Base, frozen=True):
    """A role as the others see it: its exports once a worker was ready, and why it fails if it does."""

    name: str
    exports: tuple[ExportInfo, ...] | None = None
    """What it exports, as far as is known; None until a worker has told."""
    complete: bool = False
    """Whether these are all of its exports: its module has been imported to the end."""
    failing: str = ""
    """Why its workers cannot start; "" if they can."""
    workers: int = 1
    """How many places it has on this machine."""
    given_up: bool = False
    """Whether no worker will come any more, unless somebody reloads the role."""
    quarantined: tuple[tuple[str, int], ...] = ()
    """Exports that have killed too many workers, each with the uid of the one that may try it again, 0 for none."""
    hears: bool = True
    """Whether its workers have a handler of messages, as far as is known."""
    ended: str = ""
    """Why the role has no worker and gets none, though it did not fail, unless somebody reloads or scales it."""
