"""Limits how long callers of a store wait if it does not answer: its process is stopped, or its machine is stuck.

Nothing is noted for a call, because there may be 100,000 of them in a second. While some are under way they are checked
every few seconds; a call that is still there then gets a deadline as if it had been made with `options(timeout=)`.

Limits. Calls that wait by design have no such limit: a lock without `wait`, a watcher for the next change. If the store
is not there (it starts, or fails to), calls wait as for any role, for 30 s (`options(wait=)`).
"""

from __future__ import annotations

from time import monotonic
from typing import Any

from mob.peer.calls.outgoing import Outgoing
from mob.peer.calls.parking import ParkedCall
from mob.peer.results.call import Call

ANSWER = 30.0
"""Seconds that a store has for an answer; the same as for a role to become ready (`options(wait=30)`)."""
LOOK = 2.0
"""Seconds between two checks of calls that are under way, by which a call may wait for longer."""
STREAMS = frozenset({"hold", "watch", "hand_over"})
"""Exports whose calls last for as long as their callers want."""


class StoreWaits:
    """The calls of one store that this process waits for."""

    def __init__(self, peer: Outgoing, role: str) -> None:
        self.is_armed: bool = False
        """True if the calls are being checked; otherwise call `arm`, as `made` does."""
        self._peer = peer
        self._role = role
        self._limited: set[Call[Any]] = set()  # calls that have a deadline
        self._streams: dict[Call[Any], float] = {}  # calls of streams without a first item, and when they are cancelled

    def __repr__(self) -> str:
        return f"<StoreWaits of {self._role!r}, {len(self._limited)} calls late>"

    def arm(self) -> None:
        """Check the calls that are under way, from now on until there is none; from any thread."""
        self.is_armed = True
        self._peer.context.reactor.call(self._look_later)

    def made(self, call: Call[Any]) -> Call[Any]:
        """Return a call that was made, whose time is limited from now on."""
        if not self.is_armed:
            self.arm()
        return call

    def begin(self, call: Call[Any], seconds: float) -> None:
        """Cancel a stream that has no first item after that many seconds, plus those for an answer."""
        self._streams[call] = monotonic() + seconds + ANSWER
        if not self.is_armed:
            self.arm()

    def end(self, call: Call[Any]) -> bool:
        """Note the first item, or an error; return True if the stream was cancelled because of `begin`."""
        return self._streams.pop(call, None) is None

    def _under_way(self) -> set[Call[Any]]:
        """Return the calls that the store has, and those that wait here until it has room."""
        found = {
            call
            for contact in self._peer.contacts
            if contact.member.role == self._role
            for call in list(contact.pending.values())
            if isinstance(call, Call) and call.request.target not in STREAMS
        }
        route = self._peer.contacts.routes.get(self._role)
        if route is not None and route.targets:  # without one, they wait for a worker as any call does
            parked = [item for item in route.items() if isinstance(item, ParkedCall)]
            found |= {item.call for item in parked if item.call is not None and item.body[0] not in STREAMS}
        return found

    def _look_later(self) -> None:
        self._peer.context.reactor.call_at(monotonic() + LOOK, self._look)

    def _look(self) -> None:
        self.is_armed = False  # first: a call that is not found below sees this and arms it again
        now, late = monotonic(), self._under_way()
        for call in late - self._limited:
            self._peer.limit(call, (now, now + ANSWER))
        self._limited = late
        for call, until in list(self._streams.items()):
            if now > until:
                self._streams.pop(call, None)
                call.cancel()
        if late or self._streams:
            self.is_armed = True
            self._look_later()


def no_answer(role: str, what: str) -> str:
    """Return the error text for a store that has not answered.

    >>> no_answer("cache", "the lock 'a'")
    "store 'cache' did not answer within 30 s when asked for the lock 'a'; is its process stopped? See `mob ps`."
    """
    return (
        f"store {role!r} did not answer within {ANSWER:g} s when asked for {what}; is its process stopped? See "
        f"`mob ps`."
    )
