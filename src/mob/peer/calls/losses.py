"""Calls whose workers ended, handled as `core/calls` decides.

A call that may go to another worker waits for one; the others end as `Lost`. Their errors say how the worker died, if
that is known: the end of a link comes a moment before the Kingpin's message, so that one is waited for. Only with that
message is the worker known to be dead, and only then does the board show what it had not begun.
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
"""Seconds to wait, after a link ended, for the Kingpin to report how the process died.

It takes one or two milliseconds, unless the Kingpin itself is stopped.
"""


class Losses:
    """The calls of this process that other processes had when they ended."""

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
        """Ensure that each call goes on or ends.

        `is_known`: no further message about the reason will come. Otherwise the calls that the worker may have begun go
        on or end a moment later, with what the Kingpin reports by then.
        """
        self.save(contact, losses)
        if is_known:
            self.end_orphans(contact, why)
        elif contact.orphans:
            self._context.reactor.call_at(self._now() + VERDICT, partial(self.end_orphans, contact, why))

    def save(self, contact: Contact, losses: Sequence[Loss]) -> None:
        """Take each call out of the unanswered ones; unsent calls go to other workers, the rest are orphans."""
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
        """Return True if a call that was sent is to be sent again if its worker dies."""
        return call.may_repeat(self._context.roster.roles.get(call.role), call.request.target)

    def _save(self, call: Unanswered, may_have_begun: bool) -> Executed | None:
        """Let a call go to another worker, if it may, except a stream of which something has arrived.

        If the call must end as lost, return whether it was executed.
        """
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
        """Send a call to another worker, because the one that had it did not begin it and never will."""
        self._go_on(call, TAKEN_BACK)

    def _go_on(self, call: Call[Any], event: str) -> None:
        wait = call.wait_again(event, self._now())
        if wait is not None:
            self._wait_again(call, wait)

    def end_orphans(self, contact: Contact, why: str) -> None:
        """End the orphans of a member: how it died is known now, or no message came in time."""
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
        except BaseException:  # noqa: BLE001  it ends in any case
            call.fail(error)


def _too_long(call: Unanswered, contact: Contact, limit: float, is_alone: bool, is_job: bool) -> CallTimeout:
    """Return the error of a call because of which its worker was killed.

    `is_alone`: it is not a chunk of a `map`, some items of which may not have begun. `is_job`: the keeper of jobs knows
    whether it is repeated.
    """
    return CallTimeout(
        f"{call.label} ran for more than {limit:g} s (kill_after={limit:g}), so {contact.name} was killed."
        + ("" if is_job else " It is not repeated."),
        executed="yes" if is_alone else "maybe",
    )
