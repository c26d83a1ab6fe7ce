"""What ends a call before its function does: its deadline, a caller that does not read what it has called for, and a
circle of processes that wait for one another.

A call carries when it was made and when it must have ended, and the calls in whose course it is made (`chain`). Both
are taken over by the calls that it makes. A call that comes back to a process whose only thread waits for a call of its
chain can never be served: it is refused with the whole circle, instead of hanging all that are in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from time import monotonic
from typing import TYPE_CHECKING, Any

from mob.core.states import CallState
from mob.errors import Busy, CallTimeout, Deadlock, Quarantined
from mob.wire import messages as m

if TYPE_CHECKING:
    from mob.peer.context import Context
    from mob.peer.links.contact import Contact
    from mob.peer.results.call import Call


UNREAD = 64 * 1024 * 1024
"""Bytes of answers that a caller may leave unread before no other call of its is started."""


def unread(caller: str, name: str) -> Busy:
    """Return the error of a call whose caller does not read the answers to others."""
    return Busy(
        f"{name} did not start this call, because {caller} has more than {UNREAD:,} bytes of answers unread. "
        f"Make fewer calls at a time, or do not block the thread that reads their answers."
    )


def is_circle(call: m.Invoke, caller: int, own: int, waited_for: Iterable[Call[Any]]) -> bool:
    """Return whether the call is one that this process's only thread waits for, or is made in the course of one.

    `caller`, `own`: the uids of who has made it, and of this process.
    """
    if not call.chain and caller != own:
        return False
    pairs = zip(call.chain[::2], call.chain[1::2], strict=True)
    numbers = {number for uid, number in pairs if uid == own}
    if caller == own:
        numbers.add(call.id)
    return any(waited.state is CallState.SENT and waited.request.id in numbers for waited in waited_for)


def deadlock(call: m.Invoke, contact: Contact, context: Context, name_of: Callable[[int], str]) -> Deadlock:
    """The error that names the circle."""
    names = [context.name if uid == context.uid else name_of(uid) for uid in call.chain[::2]]
    circle = " -> ".join([*names, contact.name, context.name])
    return Deadlock(
        f"{call.target} cannot be called: {context.name} waits for the call in whose course this one is made "
        f"({circle}), and its only thread cannot answer while it waits. Use `await` in async exports, or "
        "do not wait for answers."
    )


def quarantined(label: str) -> Quarantined:
    """The error of a call that has killed too many workers."""
    return Quarantined(
        f"{label} is not run: workers have died of it several times within a short time. It is tried again in a while; "
        f"`mob crashes` shows what happened."
    )


def expired(call: m.Invoke, name: str) -> CallTimeout:
    """The error of a call whose time was over before it could be started."""
    made, deadline = call.times or (0.0, 0.0)
    return CallTimeout(
        f"{call.target} was not started: it had {deadline - made:.3g} s, and waited {monotonic() - made:.3g} s in the "
        f"queue of {name}.",
        executed="no",
    )


def too_long(call: m.Invoke, made: float, began: float, name: str) -> CallTimeout:
    """The error of a call whose time was over while it ran."""
    return CallTimeout(
        f"{call.target} took too long: it waited {began - made:.3g} s in the queue of {name} and ran "
        f"{monotonic() - began:.3g} s.",
        executed="yes",
    )
