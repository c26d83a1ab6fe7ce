"""The life of a call in the books of its caller, by the table `states.CALL`.

A call waits for a worker, is sent to one, and ends. If its worker dies, the call may be sent to another, if it may go
to any worker of a role: always if no worker began it; and if one may have begun it, only if its export is idempotent,
as many times as the caller allows. The result of a call says what is known of its execution: a call that may have begun
may have run, whatever happens to it later, so the report of a second worker that it did not start it says nothing about
the first.

Nothing here sends or ends anything; others carry out what is returned.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from msgspec import Struct

from mob.core.states import CALL, CallState, step
from mob.errors import Executed
from mob.wire.messages import RoleInfo, export_of

WAIT = 30.0
"""Seconds that a call waits for a ready worker."""
RETRY_JITTER = 0.05
"""Seconds within which a lost call is repeated, so that not all of them come at once."""

UNBEGUN = "worker lost before it began"
TAKEN_BACK = "taken back before it began"
REPEATED = "worker lost, may be repeated"
WAITING = CallState.WAITING
SENT = CALL[WAITING, "worker found"]
DONE = CALL[SENT, "answered"]


class Terms(Struct, frozen=True):
    """What a caller allows for a call; one object for all calls that are made in the same way."""

    wait: float = WAIT
    """Seconds to wait for a ready worker."""
    retries: int = 3
    """Maximum number of repetitions of a call of an idempotent export after its worker died."""


TERMS = Terms()


class Again(NamedTuple):
    """Have a call wait for another worker (`Lifecycle.wait_again`), after a pause."""

    event: str
    pause: float


class End(NamedTuple):
    """End a call as lost."""

    executed: Executed


class Lifecycle:
    """The state of a call. A base class of what its caller holds."""

    __slots__ = ("repeats", "role", "state", "terms", "until")

    def __init__(self, role: str, terms: Terms = TERMS) -> None:
        self.role: str = role
        """The role among whose workers it may go to another; "" if it is for one process only."""
        self.state: CallState = WAITING
        self.terms: Terms = terms
        self.repeats: int = 0
        """Number of times it was sent again although a worker had it."""
        self.until: float = math.inf
        """Time at which it has waited long enough, in total, for workers that die before they begin it."""

    def may_repeat(self, role: RoleInfo | None, target: str | int) -> bool:
        """Return True if the call is sent again when its worker dies. `role`: what is known of its role."""
        return bool(self.role) and self.repeats < self.terms.retries and is_idempotent(role, target)

    def lose(self, may_have_begun: bool, role: RoleInfo | None, target: str | int, luck: float) -> Again | End | None:
        """Decide what happens to a call whose worker died; None if it ended meanwhile.

        `may_have_begun`: the worker may have begun it. `luck`: from 0 to 1, spreads repetitions.
        """
        if self.state is not SENT:
            return None
        if not may_have_begun:
            return Again(UNBEGUN, 0.0) if self.role else End("no")
        if not self.may_repeat(role, target):
            return End("maybe")
        self.repeats += 1
        self.until = math.inf
        return Again(REPEATED, RETRY_JITTER * luck)

    def wait_again(self, event: str, now: float) -> float | None:
        """Note that the call waits for another worker; return the seconds that it may wait. None if it ended."""
        if self.state is not SENT:
            return None
        self.state = step(CALL, SENT, event)
        if self.until == math.inf:  # a worker whose links break again and again does not make it wait forever
            self.until = now + self.terms.wait
        return max(0.0, self.until - now)

    def executed_by_now(self) -> Executed:
        """Return what is known if the call ends without an answer."""
        return "maybe" if self.state is SENT else self.executed("no")

    def executed(self, by_last: Executed) -> Executed:
        """Return what is known of the call in total, if that is known of its last attempt."""
        return "maybe" if self.repeats and by_last == "no" else by_last


def is_idempotent(role: RoleInfo | None, target: str | int) -> bool:
    """Return True if a role declares that the export behind a target may run twice."""
    name = export_of(target)
    exports = (role.exports if role is not None else None) or ()
    return any(export.idempotent for export in exports if export.name == name)
