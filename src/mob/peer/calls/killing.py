"""The forced end of a pool's call, whatever it does: even C code that holds the interpreter of its worker.

The Kingpin does it (`kingpin/processes/kills.py`) because it must know that the death was intended: the role is not at
fault, and a new worker starts at once. The worker itself takes no part.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from msgspec import structs

from mob.core.calls import SENT, WAITING
from mob.core.killing import Fate
from mob.errors import MobError
from mob.wire import messages as m

if TYPE_CHECKING:
    from mob.peer.links.control import Control
    from mob.peer.results.call import Call

KILL_TIMEOUT = 10.0
"""Seconds that the Kingpin has to answer; it needs one or two milliseconds."""


def kill(control: Control, call: Call[Any]) -> bool:
    """End a call and return True if it had not ended before; from any thread.

    A call that waits or has not begun is cancelled; if it was about to begin it may be `Lost`, executed "no". A running
    call is `Lost`, because its worker is killed. `MobError` if its role is not a pool, if it runs on another machine,
    or if the Kingpin does not answer.
    """
    while not call.done():
        if call.state is WAITING:
            return call.cancel()
        if call.state is not SENT:
            continue  # it is about to be done or sent
        contact, number, terms = call.contact, call.request.id, call.terms
        if contact.is_distant:
            raise MobError(f"{call.label} runs on another machine, where it cannot be killed: {contact.name}.")
        call.terms = structs.replace(terms, retries=0)  # must be set before its worker is dead
        answer = control.request("kill", partial(m.KillCall, uid=contact.uid, number=number)).result(KILL_TIMEOUT)
        if answer.error:
            call.terms = terms
            raise MobError(f"{call.label} was not killed: {answer.error}")
        if answer.text == Fate.KILLED:
            return True
        call.terms = terms
        is_there = call.contact is contact and call.request.id == number  # otherwise it was taken back
        if answer.text == Fate.WAITS and is_there:
            call.cancel()  # unless it was about to begin, in which case its worker has answered that it must not
            return True
        if is_there:
            return False
    return False
