"""The end of a call of a pool, whatever it does: code in C that holds the interpreter of its worker as well.

The Kingpin does it (`kingpin/processes/kills.py`), because it must know that the death was wanted: it is no fault of
the role, and a successor follows at once. Nothing in the worker takes part.
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
"""Seconds in which the Kingpin answers; it takes less than a millisecond, or two if the machine is busy."""


def kill(control: Control, call: Call[Any]) -> bool:
    """End a call; return whether it had not ended. From any thread.

    One that waits, or has not begun, is cancelled; if it was about to begin it may be `Lost`, executed "no". One that
    runs is `Lost`, because its worker is killed. `MobError` if its role is no pool, if it is on another machine, or if
    the Kingpin does not answer.
    """
    while not call.done():
        if call.state is WAITING:
            return call.cancel()
        if call.state is not SENT:
            continue  # it is about to be done, or sent
        contact, number, terms = call.contact, call.request.id, call.terms
        if contact.is_distant:
            raise MobError(f"{call.label} runs on another machine, where it cannot be killed: {contact.name}.")
        call.terms = structs.replace(terms, retries=0)  # before its worker is dead
        done = control.request("kill", partial(m.KillCall, uid=contact.uid, number=number)).result(KILL_TIMEOUT)
        if done.error:
            call.terms = terms
            raise MobError(f"{call.label} was not killed: {done.error}")
        if done.text == Fate.KILLED:
            return True
        call.terms = terms
        is_there = call.contact is contact and call.request.id == number  # else it was taken back
        if done.text == Fate.WAITS and is_there:
            call.cancel()  # unless it was about to begin, and its worker has answered that it must not
            return True
        if is_there:
            return False
    return False
