"""Calls that are taken back: their worker has them and has not begun them, because another one takes long there.

The worker takes no part in this, since it may hear nothing: the board says what it has begun, and keeps it from
beginning the rest (`rim/begun`). Only workers of pools on this machine let calls be taken back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from mob.core.calls import SENT, WAITING
from mob.peer.results.call import Call
from mob.wire import messages as m

if TYPE_CHECKING:
    from mob.peer.calls.outgoing import Outgoing
    from mob.peer.links.contact import Contact


def take_back(peer: Outgoing, contact: Contact) -> list[Call[Any]]:
    """Take back what a worker has not begun; return these calls, of which each must be sent elsewhere
    (`Losses.send_elsewhere`) or end. From any thread."""
    context = peer.context
    if context.board is None or contact.is_distant or contact.gone:
        return []
    pending = list(contact.pending.items())
    calls = {number: call for number, call in pending if isinstance(call, Call) and call.role}
    taken: list[Call[Any]] = []
    for number in context.board.begun.take_back(contact.uid, context.uid, list(calls)):
        if contact.take(number) is not None:  # else its answer or the end of the worker was faster
            contact.post(m.Cancel(number))
            taken.append(calls[number])
    return taken


def may_have_begun(peer: Outgoing, call: Call[Any]) -> bool:
    """Return False if the worker that a call was sent to has not begun it at this moment."""
    board, contact = peer.context.board, cast("Contact", call.contact)
    if board is None or contact.is_distant:
        return True
    return board.begun.may_have_begun(contact.uid, peer.context.uid, call.request.id)


def cancel(peer: Outgoing, call: Call[Any]) -> bool:
    """Cancel a call if no worker has begun it; return whether that was so. From any thread."""
    if call.state is WAITING:
        return call.cancel()
    is_cancelled = False
    if call.state is SENT and not may_have_begun(peer, call):
        for taken in take_back(peer, cast("Contact", call.contact)):
            if taken is call:
                is_cancelled = call.cancel()
            else:
                peer.parking.losses.send_elsewhere(taken)
    return is_cancelled
