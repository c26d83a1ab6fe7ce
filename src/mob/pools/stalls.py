"""Tasks that wait in a worker behind a long one although another worker is idle.

Short tasks are sent in advance, so that a worker has the next one at once. But the task before it may turn out to be
long. So while tasks wait in workers, this module looks at intervals: if a worker has reported nothing since the last
look, the tasks that wait there are taken back as soon as another worker has room, and go there.

Limits. It covers only workers of this machine, because calls cannot be taken back from others.
"""

from __future__ import annotations

from time import monotonic

from mob.core.lanes import LOOP
from mob.peer.calls.outgoing import Outgoing
from mob.peer.calls.taking_back import take_back
from mob.peer.links.contact import Contact
from mob.pools import worker
from mob.pools.bundles import Bundles

PAUSE = 0.005
"""Seconds between two looks: several times the duration of the short tasks in a worker's queue."""
LONGEST_PAUSE = 0.02
"""Maximum number of seconds between two looks, while nothing changes."""


class Stalls:
    """The workers of one pool, while tasks wait there."""

    def __init__(self, peer: Outgoing, role: str, bundles: Bundles | None) -> None:
        self._peer = peer
        self._role = role
        self._bundles = bundles
        self._heard: dict[Contact, int] = {}  # where tasks waited at the last look, with the messages received
        self._pause = PAUSE
        self.is_watching: bool = False
        """True if another look follows."""

    def __repr__(self) -> str:
        return f"<Stalls of {self._role!r}{', watching' if self.is_watching else ''}>"

    def watch(self) -> None:
        """Watch the workers, because tasks may wait there from now on; from any thread."""
        self.is_watching = True
        self._peer.context.reactor.call(self._set_timer)

    def _set_timer(self) -> None:
        self._peer.context.reactor.call_at(monotonic() + self._pause, self._look)

    def _look(self) -> None:
        self.is_watching = False  # first, so that the next look covers all that is sent meanwhile
        route = self._peer.contacts.route(self._role)
        width = route.lanes.get(worker.run.__name__, LOOP).width
        heard = {contact: contact.heard for contact in route.near if self._has_more(contact, width)}
        stalled = [contact for contact in heard if self._heard.get(contact) == heard[contact]]
        has_changed = heard != self._heard
        self._heard = heard
        if stalled and any(contact.in_hand < width for contact in route.near):
            self._take_back(stalled)
        is_over = not (heard or route.waiting)
        self._pause = PAUSE if has_changed or is_over else min(2 * self._pause, LONGEST_PAUSE)
        if not is_over:
            self.watch()

    def _has_more(self, contact: Contact, width: int) -> bool:
        """Return True if a worker may have tasks that wait for others."""
        return len(contact.pending) > width or (self._bundles is not None and self._bundles.are_at(contact))

    def _take_back(self, stalled: list[Contact]) -> None:
        for contact in stalled:
            for call in take_back(self._peer, contact):
                self._peer.parking.losses.send_elsewhere(call)
            if self._bundles is not None:
                self._bundles.take_back(contact)
