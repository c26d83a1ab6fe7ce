"""Errors that end a call before its function does.

The causes are its deadline, a caller that does not read its answers, and a circle of processes that wait for one
another. A call carries its start, its deadline, and the calls in the course of which it is made (`chain`); the calls
that it makes inherit both. A call that comes back to a process whose only thread waits for a call of its chain can
never be served: it is refused with the whole circle in the error, instead of blocking every process in it.
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
"""Maximum bytes of unread answers of a caller, before none of its calls is started."""


def unread(caller: str, name: str) -> Busy:
    """Return the error of a call whose caller does not read the answers to other calls."""
    return Busy(
        f"{name} did not start this call, because {caller} has more than {UNREAD:,} bytes of unread answers. "
        f"Make fewer calls at a time, or do not block the thread that reads the answers."
    )


def full(name: str, limit: int, calls: str = "calls", place: str = "here") -> Busy:
    """Return the error of a call for which the queue of the role has no room."""
    return Busy(f"{name}: {limit:,} {calls} already wait {place} (queue={limit}).")


def is_circle(call: m.Invoke, caller: int, own: int, waited_for: Iterable[Call[Any]]) -> bool:
    """Return whether this process's only thread waits for the call, or for one in the course of which it is made.

    `caller`, `own`: the uids of the caller and of this process.
    """
    if not call.chain and caller != own:
        return False
    pairs = zip(call.chain[::2], call.chain[1::2], strict=True)
    numbers = {number for uid, number in pairs if uid == own}
    if caller == own:
        numbers.add(call.id)
    return any(waited.state is CallState.SENT and waited.request.id in numbers for waited in waited_for)


def deadlock(call: m.Invoke, contact: Contact, context: Context, name_of: Callable[[int], str]) -> Deadlock:
    """Return the error that names the circle."""
    names = [context.name if uid == context.uid else name_of(uid) for uid in call.chain[::2]]
    circle = " -> ".join([*names, contact.name, context.name])
    return Deadlock(
        f"{call.target} cannot be called: {context.name} waits for the call that led to this one ({circle}), "
        f"and its only thread cannot answer while it waits. Use `await` in async exports, or do not wait for "
        "answers."
    )


def quarantined(label: str) -> Quarantined:
    """Return the error of a call of an export that crashed too many workers."""
    return Quarantined(
        f"{label} is in quarantine and was not run: its calls crashed several workers within a short time. It will be "
        f"tried again in a while; `mob crashes` shows what happened."
    )


def expired(call: m.Invoke, name: str) -> CallTimeout:
    """Return the error of a call whose deadline passed before it was started."""
    made, deadline = call.times or (0.0, 0.0)
    return CallTimeout(
        f"{call.target} was not started: it had {deadline - made:.3g} s, and waited {monotonic() - made:.3g} s in the "
        f"queue of {name}.",
        executed="no",
    )


def too_long(call: m.Invoke, made: float, began: float, name: str) -> CallTimeout:
    """Return the error of a call whose deadline passed while it ran."""
    return CallTimeout(
        f"{call.target} took too long: it waited {began - made:.3g} s in the queue of {name} and ran "
        f"{monotonic() - began:.3g} s.",
        executed="yes",
    )
