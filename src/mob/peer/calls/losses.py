"""What becomes of calls whose workers are gone, as `core/calls` decides it.

One that may go to another worker waits for it; the others end as `Lost`. Their errors say how the worker has died, as
far as that is known: the end of a link comes a moment before the word of the Kingpin, which is waited for. With that
word the worker is known to be dead, and only then the board tells what it had not begun.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from mob.core.accounts import Loss
from mob.core.calls import DONE, TAKEN_BACK, Again, End
from mob.errors import CallError, CallTimeout, Executed, Lost
from mob.peer.context import Context
from mob.peer.links.contact import Contact, Unanswered
from mob.peer.results.call import Call
from mob.peer.results.streams import Receiver
from mob.rim.board import mark_of
from mob.wire import messages as m

VERDICT = 1.0
"""Seconds that the Kingpin has to say how a process has died after its link has ended. It takes a millisecond or two,
unless it is stopped itself."""


class Losses:
    """The calls that others had from this process when they went."""

    def __init__(
        self,
        context: Context,
        fail: Callable[[Unanswered, CallError], None],
        wait_again: Callable[[Call[Any], float], None],
        now: Callable[[], float],
        luck: Callable[[], float],
    ) -> None:
        self._context = context
        self._fail = fail
        self._wait_again = wait_again
        self._now = now
        self._luck = luck

    def __repr__(self) -> str:
        return f"<Losses of {self._context.name}>"

    def handle(self, contact: Contact, losses: Sequence[Loss], why: str, is_known: bool) -> None:
        """See to it that each goes on or ends. `is_known`: nobody will say more about the reason; else what the worker
        may have begun goes on or ends a moment later, with what the Kingpin says by then."""
        self.save(contact, losses)
        if is_known:
            self.end_orphans(contact, why)
        elif contact.orphans:
            self._context.reactor.call_at(self._now() + VERDICT, partial(self.end_orphans, contact, why))

    def save(self, contact: Contact, losses: Sequence[Loss]) -> None:
        """Take each out of the unanswered ones; what was not sent goes to other workers, the rest are orphans."""
        for loss in losses:
            if (call := contact.pending.get(loss.number)) is None:
                continue
            executed: Executed | None = None
            try:
                if contact.take(loss.number) is None:
                    continue  # another thread has just taken it back
                if not loss.was_sent and (executed := self._save(call, may_have_begun=False)) is None:
                    continue
            except BaseException:  # noqa: BLE001  it ends
                executed = "maybe"
            contact.orphans.append((call, executed))

    def may_repeat(self, call: Call[Any]) -> bool:
        """Whether a call that was sent is to be sent again if its worker dies."""
        return call.may_repeat(self._context.roster.roles.get(call.role), call.request.target)

    def _save(self, call: Unanswered, may_have_begun: bool) -> Executed | None:
        """Have a call go to another worker, if it may; a stream of which something has arrived may not. If it is to end
        as lost, return whether it has run."""
        if isinstance(call, Receiver):
            return "maybe"
        match call.lose(may_have_begun, self._context.roster.roles.get(call.role), call.request.target, self._luck()):
            case None:
                pass
            case Again(event, pause) if pause:
                self._context.reactor.call_at(self._now() + pause, partial(self._go_on, call, event))
            case Again(event):
                self._go_on(call, event)
            case End(executed):
                return executed
        return None

    def send_elsewhere(self, call: Call[Any]) -> None:
        """Have a call go to another worker, because the one that had it has not begun it and never will."""
        self._go_on(call, TAKEN_BACK)

    def _go_on(self, call: Call[Any], event: str) -> None:
        wait = call.wait_again(event, self._now())
        if wait is not None:
            self._wait_again(call, wait)

    def end_orphans(self, contact: Contact, why: str) -> None:
        """How a member has died is known now, or nobody has said it in time."""
        orphans = contact.orphans
        while orphans:
            orphan = None
            try:
                orphan = orphans.popleft()
                self._end_orphan(contact, *orphan, why)
            except IndexError:
                return  # another thread was faster
            except BaseException:
                if orphan is not None:
                    orphans.appendleft(orphan)
                raise

    def _end_orphan(self, contact: Contact, call: Unanswered, executed: Executed | None, why: str) -> None:
        request = call.request
        if executed is None and contact.may_have_begun(request.id):
            target = m.export_of(request.target)
            if (late := contact.overran(request.id, mark_of(str(target)))) is not None:
                is_job = str(request.target).startswith(m.JOB)
                is_alone = is_job or target == request.target
                self._fail_orphan(call, _too_long(call, contact, late.limit, is_alone, is_job))
                return
        if executed is None:
            executed = "maybe"
            with contextlib.suppress(BaseException):  # it ends below
                executed = self._save(call, contact.may_have_begun(call.request.id))
        if executed is None or (not isinstance(call, Receiver) and call.state is DONE):
            return  # it goes on, or was cancelled meanwhile
        when = " before it began" if executed == "no" else ""
        who = contact.name if contact.member.pid else "its process"
        self._fail_orphan(call, Lost(f"{call.label} was lost{when}: {who} {why}.", executed=executed))

    def _fail_orphan(self, call: Unanswered, error: CallError) -> None:
        try:
            self._fail(call, error)
        except BaseException:  # noqa: BLE001  it ends all the same
            call.fail(error)


def _too_long(call: Unanswered, contact: Contact, limit: float, is_alone: bool, is_job: bool) -> CallTimeout:
    """Return the error of a call because of which its worker was killed. `is_alone`: it is no chunk of a `map`, of
    which some items may not have begun. `is_job`: the keeper of jobs knows whether it is repeated."""
    return CallTimeout(
        f"{call.label} ran for more than {limit:g} s (kill_after={limit:g}), so {contact.name} was killed."
        + ("" if is_job else " It is not repeated."),
        executed="yes" if is_alone else "maybe",
    )
