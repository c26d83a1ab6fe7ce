"""Calls that are taken back because their worker is busy with a long call and has not begun them.

The worker takes no part in this, since it may be too busy to read: the board says what it has begun, and prevents it
from beginning the rest (`rim/begun`). Calls can be taken back only from workers of pools on this machine.
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
    """Take back the calls that a worker has not begun, and return them; from any thread.

    Each of them must then be sent elsewhere (`Losses.send_elsewhere`) or end.
    """
    context = peer.context
    if context.board is None or contact.is_distant or contact.gone:
        return []
    pending = list(contact.pending.items())
    calls = {number: call for number, call in pending if isinstance(call, Call) and call.role}
    taken: list[Call[Any]] = []
    for number in context.board.begun.take_back(contact.uid, context.uid, list(calls)):
        if contact.take(number) is not None:  # otherwise its answer or the end of the worker was faster
            contact.post(m.Cancel(number))
            taken.append(calls[number])
    return taken


def may_have_begun(peer: Outgoing, call: Call[Any]) -> bool:
    """Return False if the worker that has a call has not begun it at this moment."""
    board, contact = peer.context.board, cast("Contact", call.contact)
    if board is None or contact.is_distant:
        return True
    return board.begun.may_have_begun(contact.uid, peer.context.uid, call.request.id)


def cancel(peer: Outgoing, call: Call[Any]) -> bool:
    """Cancel a call if no worker has begun it, and return True if so; from any thread."""
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
