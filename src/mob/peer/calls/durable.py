"""Durable messages at their sender: `mob.any("back").send(obj, durable=True)`.

The sender encodes the object and asks a gateway to store it; `cluster/durable.py` describes the storage, and
`serving/deliveries.py` how a worker handles the message. Such a message cannot contain anything that lives in a
process. On one machine it is kept like a durable call (`jobs.py`).
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any

from msgspec import Raw

from mob.errors import BadMessage, CallError, Lost, Unavailable
from mob.imports import import_at_rest
from mob.peer.links.contact import Contact
from mob.peer.references import portable
from mob.peer.results.call import Call
from mob.plan import GATEWAY
from mob.wire import messages as m
from mob.wire.references import Reference

if TYPE_CHECKING:
    from mob.peer.calls.outgoing import Outgoing

STORE_TIMEOUT = 30.0
"""Seconds within which a message must be stored."""
STORE_RETRY = 1.0
"""Seconds until the next attempt if the roster does not change before: a link may break whose gateway lives."""
RETRIES = 4
"""Number of new attempts for a message of an app on one machine; the same as in a cluster."""
JOBS = "mob.peer.calls.jobs"
"""The module that keeps messages on one machine; imported at first use."""
STORE = "store"
"""The export of gateways that stores messages."""


def store(peer: Outgoing, role: str, obj: Any) -> Call[None]:
    """Store a message for any one worker of the role; the call is done when it is stored."""
    if not peer.context.roster.nodes:
        stored: Call[None] = import_at_rest(JOBS).store_message(peer, role, obj, RETRIES)
        return stored
    return _Storing(peer, role, lasting(peer, obj, "message", "a durable message")).call


class _Storing:
    """A message on its way into the stream.

    If its gateway dies, another one is asked; the key ensures that the message is stored only once.
    """

    def __init__(self, peer: Outgoing, role: str, body: bytes) -> None:
        self._peer = peer
        self._context = peer.context
        self._args = (role, body, f"{peer.context.uid}-{next(peer.context.call_numbers)}")
        self._until = monotonic() + STORE_TIMEOUT
        self._timer = 0
        self.call: Call[None] = Call(peer, f"a durable message to {role!r}", "")
        self._attempt()

    def _attempt(self) -> None:
        gateway = self._gateway()
        if gateway is None:
            self._try_again(Unavailable(f"{self.call.label}: no gateway of this machine is ready; see `mob ps`."))
            return
        self._peer.contacts.want(gateway)
        self._peer.calling.call_one(gateway, self.call.label, STORE, self._args, {}).when_done(self._handle_done)

    def _gateway(self) -> Contact | None:
        members = self._context.roster.ready(GATEWAY)
        near = [each.uid for each in members if m.node_of(each.uid) == m.node_of(self._context.uid)]
        return next((contact for contact in self._peer.contacts if contact.uid in near), None)

    def _handle_done(self, call: Call[None]) -> None:
        error = call.exception()
        if error is None:
            self.call.settle(None)
        elif isinstance(error, Lost):
            self._try_again(error)
        else:
            self.call.fail(error)

    def _try_again(self, error: CallError) -> None:
        if monotonic() >= self._until or self._peer.control.is_closed:
            self.call.fail(error)
        else:
            self._context.reactor.call(self._wait)

    def _wait(self) -> None:
        """Try again when the roster changes, because a gateway may have come or gone.

        It also works while the loop's thread drives the wait itself.
        """
        self._peer.control.changes.listeners.append(self._wake)
        self._timer = self._context.reactor.call_at(min(monotonic() + STORE_RETRY, self._until), self._wake)

    def _wake(self) -> None:
        listeners = self._peer.control.changes.listeners
        if self._wake in listeners:
            listeners.remove(self._wake)
            self._context.reactor.cancel(self._timer)
            self._attempt()


def lasting(peer: Outgoing, value: Any, root: str, what: str) -> bytes:
    """Return a value as bytes that may outlive this process, including its large buffers.

    `BadMessage` if the value contains something that ends with this process. `what` names the message or call for
    people.
    """
    body = peer.encoder.encode(value, root)
    if not peer.references.encoding:
        return body
    passage = peer.references.take()
    try:
        if any(isinstance(reference, Reference) for reference, _ in passage):
            raise BadMessage(f"{what} cannot contain functions or iterators: it may outlive their process.")
        if portable.stays_here(passage):
            raise BadMessage(f"{what} cannot contain sockets or open files: it may outlive their process.")
        return bytes(peer.encoder.body_for_far(Raw(body), passage))
    finally:
        peer.references.let_go(passage)
