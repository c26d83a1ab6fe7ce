"""The shared ports of a mobster that ends: no new connection comes in, and those that are there are waited for.

How long depends on who serves. A module that handles SIGTERM itself (uvicorn, aiohttp) finishes its requests when it
gets the signal; all it needs is that what was accepted a moment ago has been read, and that no message of a WebSocket
waits for its answer. A module that does not (http.server, asyncio) is cut off by the end, so its connections have to
be closed or idle first. Nobody is waited for beyond the grace time.

Limit: what a connection is for is not known here. Bytes that came last and get no answer look like a request.
"""

from __future__ import annotations

import math

from mob.rim import connections
from mob.rim.connections import Place, Use
from mob.rim.listeners import Sharing

LAST = 0.5
"""Seconds before the end of the grace time at which nothing is waited for any more, to end in order all the same."""
SETTLING = 0.1
"""Seconds in which a client that was let in a moment ago says what it wants, and is read."""
ANSWERING = 3.0
"""Seconds that a module which handles SIGTERM gets to answer what it has read, before the signal."""
UNSURE = 5.0
"""Seconds that connections are waited for of which the kernel does not tell whether they wait for an answer."""
HALF = 0.5
"""The part of the grace time in which connections may become idle; then a moment between two answers has to do."""
LOOKS = 2
"""So many looks in a row must find nobody: between two steps of an application a connection may be nobody's."""


class Closing:
    """The end of the service on shared ports."""

    def __init__(self, sharing: Sharing) -> None:
        self._sharing = sharing
        self._places: frozenset[Place] = frozenset()
        self._begun = math.inf
        self._deadline = math.inf
        self._quiet_looks = 0

    def __repr__(self) -> str:
        return f"<Closing of {len(self._places)} ports>"

    def begin(self, now: float, deadline: float) -> None:
        """From now on nobody comes in; nobody is waited for after the deadline."""
        self._begun, self._deadline = now, deadline
        self._places = self._sharing.turn_deaf()

    def is_over(self, now: float, finishes_by_itself: bool = False) -> bool:
        """Whether nobody is left to wait for; asked again and again. `finishes_by_itself`: the module does, if told."""
        if not self._places or now >= self._deadline - LAST:
            return True
        if now < self._begun + SETTLING:
            return False
        if finishes_by_itself and now >= self._begun + ANSWERING:
            return True
        self._quiet_looks = 0 if self._is_busy(finishes_by_itself, now) else self._quiet_looks + 1
        return self._quiet_looks >= LOOKS

    def _is_busy(self, finishes_by_itself: bool, now: float) -> bool:
        uses = connections.uses(self._places)
        if finishes_by_itself:
            return Use.UNANSWERED in uses
        waited_for = {Use.UNANSWERED, Use.PATIENT}
        if now < self._begun + UNSURE:
            waited_for.add(Use.UNSURE)
        if now < self._begun + (self._deadline - self._begun) * HALF:
            waited_for.add(Use.OPEN)
        return any(use in waited_for for use in uses)
