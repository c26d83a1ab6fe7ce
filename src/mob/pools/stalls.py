"""Tasks that wait in a worker behind one that takes long, though another worker has nothing to do.

Short tasks are sent in advance, so that a worker has the next one at hand. Whether the one before it will be short as
well, nobody knows. So while tasks wait in workers, this looks again and again: what has waited since the last look in a
worker that has said nothing since then is taken back as soon as another worker has room, and goes there.

Limits. Only workers of this machine are looked at, because those of others do not let calls be taken back.
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
"""Seconds from one look to the next: several times what a worker has in hand of short tasks."""
LONGEST_PAUSE = 0.02
"""The same while nothing changes."""


class Stalls:
    """The workers of one pool, as they are looked at while tasks wait there."""

    def __init__(self, peer: Outgoing, role: str, bundles: Bundles | None) -> None:
        self._peer = peer
        self._role = role
        self._bundles = bundles
        self._heard: dict[Contact, int] = {}  # where tasks waited at the last look, and what had come from there
        self._pause = PAUSE
        self.is_watching: bool = False
        """Whether another look follows."""

    def __repr__(self) -> str:
        return f"<Stalls of {self._role!r}{', watching' if self.is_watching else ''}>"

    def watch(self) -> None:
        """Tasks may wait in workers from now on. From any thread."""
        self.is_watching = True
        self._peer.context.reactor.call(self._set_timer)

    def _set_timer(self) -> None:
        self._peer.context.reactor.call_at(monotonic() + self._pause, self._look)

    def _look(self) -> None:
        self.is_watching = False  # first, so that what is sent meanwhile is seen by the next look at least
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
        """Return whether a worker may have tasks of which it runs others first."""
        return len(contact.pending) > width or (self._bundles is not None and self._bundles.are_at(contact))

    def _take_back(self, stalled: list[Contact]) -> None:
        for contact in stalled:
            for call in take_back(self._peer, contact):
                self._peer.parking.losses.send_elsewhere(call)
            if self._bundles is not None:
                self._bundles.take_back(contact)
