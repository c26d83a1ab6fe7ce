"""Inviting: a worker that is running out of work invites callers with waiting calls, as `core.invitations` decides.

It looks whenever a place may have become free. Nothing here knows how a call is run.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING

from mob.core.invitations import Invitations
from mob.wire import messages as m

if TYPE_CHECKING:
    from mob.peer.links.contact import Contact
    from mob.peer.serving.serving import Serving


class Inviting:
    """The callers that wait for this process, and the messages to them."""

    __slots__ = (
        "_again_at",
        "_blocked_for",
        "_contact_of",
        "_context",
        "_has_ended",
        "_is_full",
        "_is_held_back",
        "_now",
        "_serving",
        "_timer",
        "is_held",
        "known",
        "on_room",
    )

    def __init__(self, serving: Serving, now: Callable[[], float] = monotonic) -> None:
        self._now = now
        self._context = serving.context
        self._blocked_for = serving.blocking.calls
        self._contact_of = serving.contacts.get
        self._serving = serving
        self.known: Invitations = Invitations()
        self.on_room: Callable[[str], object] = _nobody_waits
        """Reports to the Kingpin that there is room for a call it waits to make (see `wait_for_kingpin`)."""
        self._has_ended = False
        self.is_held: bool = False
        """True while no caller is invited because the process hands over to its successor."""
        self._is_full = False  # the board shows that callers wait
        self._is_held_back = False  # until the loop is free
        self._again_at = math.inf
        self._timer = 0  # its number

    def __repr__(self) -> str:
        return f"<Inviting, {self.known!r}>"

    def invite(self) -> None:
        """Invite callers, if there is room for their calls. On the loop's thread."""
        known = self.known
        if self._has_ended or self.is_held or not (len(known) or self._is_full):
            return
        if (
            self._blocked_for
        ):  # the loop is blocked until an answer arrives, which may depend on the very calls that wait here
            if not self._is_held_back:
                self._context.reactor.loop.call_soon(self._handle_free)
                self._is_held_back = True
            return
        try:
            self._invite()
        except BaseException:
            self.recover()  # some callers may not have been notified
            raise

    def _invite(self) -> None:
        known, context = self.known, self._context
        for uid, line, count, name in known.invite(self._serving.look, self._now()):
            contact = self._contact_of(uid)
            if line < 0:
                self.on_room(name)
            elif contact is not None:
                contact.post(m.Invite(line, count, self._cost(name) if contact.is_distant else 0))
        if context.board is not None:
            self._is_full = known.waiting > 0
            context.board.put_full(context.uid, self._is_full)
        if (again_at := known.wake_at()) < self._again_at:
            if self._again_at != math.inf:
                context.reactor.cancel(self._timer)
            self._timer = context.reactor.call_at(again_at, self._handle_silence)
            self._again_at = again_at

    def recover(self) -> None:
        """Invite from the beginning, after an error while a caller was invited or its message was handled."""
        self.known.recover()
        self._context.reactor.loop.call_soon(self.invite)

    def look_after(self) -> None:
        """Invite callers that were not invited although the loop is free again; once a second while calls run."""
        if self._is_held_back and not self._blocked_for:
            self._handle_free()

    def _cost(self, name: str) -> int:
        """Return the cost of a call, which a caller on another machine cannot read from the board."""
        return self._serving.look(name).cost

    def _handle_free(self) -> None:
        self._is_held_back = False
        self.invite()

    def _handle_silence(self) -> None:
        """Give the places of an invited caller that does not answer to others: its loop may be blocked."""
        self._again_at = math.inf
        self.invite()

    def handle_waiting(self, contact: Contact, line: int, target: str) -> None:
        """Note that calls wait at a caller."""
        self.known.handle_waiting(contact.uid, line, target, contact.is_distant)
        self.invite()

    def wait_for_kingpin(self, line: int, target: str) -> None:
        """Note that the Kingpin waits for room for a timer's call to this process. `line` is below 0."""
        self.known.handle_waiting(self._context.uid, line, target)
        self.invite()

    def decline_for_kingpin(self, line: int) -> None:
        """Note that the Kingpin no longer waits."""
        self.known.handle_declined(self._context.uid, line)
        self.invite()

    def handle_declined(self, contact: Contact, line: int) -> None:
        """Note that no calls are left at an invited caller."""
        self.known.handle_declined(contact.uid, line)
        self.invite()

    def handle_lost(self, contact: Contact) -> None:
        """Handle the end of the link to a caller: others get its places."""
        self.known.handle_lost(contact.uid)
        self.invite()

    def end(self) -> None:
        """Invite no more callers, because the process ends. It still accepts what was already sent."""
        self._has_ended = True
        self.known.clear()


def _nobody_waits(target: str) -> None:
    del target
