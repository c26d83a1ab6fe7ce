"""The members, roles and machines of an app, as all of its processes know them."""

from __future__ import annotations

from mob.wire.messages.base import Base


class Member(Base, frozen=True):
    """A process of the app, as in the roster. A client has the role ""."""

    uid: int
    """Number by which the app knows the process; unique during the life of the app, on all machines."""
    pid: int
    """Process id on its machine."""
    role: str
    index: int
    """Place in its role: 0 to workers - 1."""
    generation: int
    """Number of processes that have had this role and index, including this one."""
    state: str
    """State: "launching", "booting", "ready", "draining" or "gone"."""
    token: int = 0
    """Only for a singleton: the fencing token of the lease under which it runs. A later holder has a greater one."""


class Overrun(Base, frozen=True):
    """A call with a limit on its running time (`kill_after`), because of which its worker is or will be killed."""

    caller: int
    """Uid of its caller; 0 if it is a batch of several calls."""
    number: int
    mark: int
    """Mark of its export (`rim.board.mark_of`)."""
    limit: float
    """Its `kill_after`, in seconds."""
    deadline: float = 0.0
    """When its worker is killed: monotonic seconds of its machine."""


NODE_SHIFT = 32
"""Number of bits of a uid that are unique on its node; the bits above them are the number of the node."""


def node_of(uid: int) -> int:
    """Return the number of the node that a member belongs to; 0 if its app runs on one machine only.

    >>> node_of(5), node_of((7 << 32) + 5)
    (0, 7)
    """
    return uid >> NODE_SHIFT


def kingpin_of(node: int) -> int:
    """Return the number that stands for the Kingpin of a node where a uid is required. No member has it.

    >>> kingpin_of(7) == 7 << 32, is_kingpin(7 << 32), is_kingpin((7 << 32) + 5)
    (True, True, False)
    """
    return node << NODE_SHIFT


def is_kingpin(uid: int) -> bool:
    """Return whether a uid stands for the Kingpin of a node."""
    return not uid & (1 << NODE_SHIFT) - 1


class Node(Base, frozen=True):
    """Another machine of the app's cluster, or this one."""

    number: int
    name: str
    places: tuple[tuple[str, int], ...] = ()
    """Number of places of each role there."""


class ExportInfo(Base, frozen=True):
    """What other processes need to know about an exported function."""

    name: str
    signature: str
    """Signature as it is written, with annotations: "(number: int, x=2) -> str"."""
    doc: str
    """Docstring; "" if there is none."""
    idempotent: bool = False
    """True if a call may be repeated after the death of its worker."""
    width: int = 1
    """Number of its calls that a worker runs at once."""
    is_beside: bool = False
    """True if its calls run beside others (tasks, streams) or wait in their own line, and so hold up no other call."""
    is_async: bool = False
    """True if its calls run as tasks, concurrently."""
    methods: tuple[ExportInfo, ...] | None = None
    """Methods of the objects that it makes, if it is a class; None for a function."""
    takes_tags: bool = False
    """True if its annotations have unions that data alone does not decide: then callers tag its arguments."""


class RoleInfo(Base, frozen=True):
    """A role as other processes see it: its exports once a worker was ready, and the reason if it fails."""

    name: str
    exports: tuple[ExportInfo, ...] | None = None
    """Its exports as far as they are known; None until a worker reported them."""
    complete: bool = False
    """True if these are all of its exports: its module was imported to the end."""
    failing: str = ""
    """Why its workers cannot start; "" if they can."""
    workers: int = 1
    """Number of its places on this machine."""
    given_up: bool = False
    """True if no further worker will start unless the role is reloaded."""
    quarantined: tuple[tuple[str, int], ...] = ()
    """Exports that killed too many workers, each with the uid of the worker that may try it again, 0 for none."""
    hears: bool = True
    """True if its workers have a handler of messages, as far as is known."""
    ended: str = ""
    """Why the role has no worker and gets none unless it is reloaded or scaled, though it did not fail."""
