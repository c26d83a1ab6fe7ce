"""The backlog of a client: how many of its calls wait for a worker, told to its Kingpin.

A mobster says so in its beats; a client has none. Nothing is sent and no timer runs while nothing waits. The first
message follows `FIRST` seconds after a call began to wait, if one waits then; calls that wait for a moment only, as a
burst of short ones does, are not worth the Kingpin's time, and no reason for a role to grow. From then on there is a
message a second, until one says that nothing waits any more. It is repeated even if nothing has changed: a Kingpin that
has taken the place of another knows nothing of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from time import monotonic
from typing import TYPE_CHECKING

from mob.wire import messages as m

if TYPE_CHECKING:
    from mob.mobster.peer import Peer

FIRST = 0.1
"""Seconds from the moment at which a call begins to wait until the Kingpin is told."""
INTERVAL = 1.0
"""Seconds between two messages while something waits."""


class Backlog:
    """What waits in one client, as its Kingpin knows it. On the loop's thread only."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._is_watching = False  # a timer runs
        self._is_told = False  # the Kingpin knows of calls that wait

    def __repr__(self) -> str:
        return f"<Backlog of {self._peer.name}{', watched' if self._is_watching else ''}>"

    def handle_parked(self) -> None:
        """A call begins to wait for a worker."""
        if not self._is_watching:
            self._is_watching = True
            self._peer.reactor.call_at(monotonic() + FIRST, self._look)

    def _look(self) -> None:
        peer = self._peer
        calls = {} if peer.control.is_closed else peer.calling.parked()
        if calls or self._is_told:
            peer.control.post(m.Parked(calls, bytes_by_role(calls, peer.calling.parked_bytes()) if calls else {}))
        self._is_told = self._is_watching = bool(calls)
        if calls:
            peer.reactor.call_at(monotonic() + INTERVAL, self._look)


def bytes_by_role(calls: Mapping[str, int], total: int) -> dict[str, int]:
    """Divide the bytes of all waiting calls among the roles that they wait for, by the number of calls.

    >>> bytes_by_role({"back": 3}, 1000), bytes_by_role({"back": 3, "front": 1}, 1000), bytes_by_role({}, 0)
    ({'back': 1000}, {'back': 750, 'front': 250}, {})
    """
    count = sum(calls.values())
    return {role: total * waiting // count for role, waiting in calls.items() if count}
