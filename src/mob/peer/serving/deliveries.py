"""Durable messages in the worker that handles them.

A gateway, or the keeper of the app's jobs, makes a call with a target that no function can have. It is answered when
the handlers return, so the answer means that the message was handled. `cluster/durable.py` describes how a message is
stored and sent again, and `jobs/keeper.py` does so for an app on one machine.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Coroutine
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from mob.errors import Forbidden, UnknownExport
from mob.peer.links.served import SERVED
from mob.plan import GATEWAY, QUEUE
from mob.rim.link import Link
from mob.wire import messages as m

if TYPE_CHECKING:
    from mob.peer.links.contact import Contact
    from mob.peer.serving.serving import Serving


class Delivery(Struct, frozen=True):
    """The durable message that is being handled, or the durable call, as `mob.delivery` returns it.

    >>> if mob.delivery().attempt > 1 and mob.delivery().key in done: ...     # doctest: +SKIP
    """

    key: str
    """Id of this message: the same at each attempt, and unique to this message."""
    attempt: int
    """Number of this attempt to handle it; the first is 1."""


DELIVERY: ContextVar[Delivery | None] = ContextVar("mob_delivery", default=None)


def handle(serving: Serving, link: Link, contact: Contact, call: m.Invoke) -> Coroutine[Any, Any, None]:
    """Run the handlers of a message from a gateway or the keeper of jobs.

    This raises what refuses the message; the coroutine raises the first error of a handler.
    """
    if contact.member.role not in (GATEWAY, QUEUE):
        raise UnknownExport(f"{serving.context.role!r} exports no function {call.target!r}: only gateways call it.")
    body, sender, key, attempt = serving.encoder.codec.decode(call.args)
    uid, pid, role, index, generation, node = sender
    writer = serving.contacts.absent(m.Member(uid, pid, role, index, generation, "gone"), node)
    admission = serving.admission
    if admission is not None and not admission.may_call(role):
        raise Forbidden(f"{writer.name} may not send to {serving.context.role!r}: {admission.rule}")
    return _run(serving, link, writer, body, Delivery(key, attempt))


async def _run(serving: Serving, link: Link, writer: Contact, body: bytes, delivery: Delivery) -> None:
    handlers = serving.handlers.of("message")
    if not handlers:
        raise UnknownExport(f"{serving.context.name} has no handler of messages: its module has no @mob.on('message').")
    SERVED.set((writer, None, link))  # this is a separate task
    DELIVERY.set(delivery)
    obj = serving.encoder.codec.decode(body)
    results = await asyncio.gather(*(_call(serving, handler, obj) for handler in handlers), return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result


async def _call(serving: Serving, handler: Any, obj: Any) -> None:
    value = serving.handlers.call(handler, obj)
    if inspect.isawaitable(value):
        await value
