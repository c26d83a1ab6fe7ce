"""The herald: sends the changes of the roster to the members that need them, when `core.news` decides so.

What goes to all is encoded once. Changes of a client go only to members that are linked to it or that asked for clients
(`acquaint`). Before a member gets an answer, it gets all changes that led to it (`catch_up`).

Limits: a member that does not read gets nothing more for the time being. Its changes are kept, only the latest of each
member, until it reads again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from time import monotonic, thread_time
from typing import Any

from mob.core.crew import Crew
from mob.core.news import LANES, SLOW, SWIFT, Change, News
from mob.kingpin.connections import Connection
from mob.rim.reactor import Reactor
from mob.wire import messages as m

BEHIND = 1024 * 1024
"""Bytes that a member may leave unread before it gets no more changes for the time being."""
FEW = 50
"""Number of members and clients up to which all get changes at the same time."""
TOGETHER = 500
"""Maximum number of changes in one frame."""


class Herald:
    """The changes that were sent, and those that some members must still get."""

    def __init__(self, reactor: Reactor, connections: Mapping[int, Connection], crew: Crew) -> None:
        self._reactor = reactor
        self._connections = connections
        self._crew = crew
        self._news = News()
        self._is_scheduled = False
        self._is_crowd = False
        self._timers: dict[int, int] = {}  # by lane
        self._acquainted: dict[int, set[int]] = {}  # uid of a client -> members that know it
        self._known: dict[int, set[int]] = {}  # the reverse of it
        self._behind: dict[int, News] = {}  # uid -> what it gets when it reads again

    def __repr__(self) -> str:
        return f"<Herald of {self._news}, {len(self._behind)} do not read>"

    def tell(self, change: Change) -> None:
        """Send a change to all, now or soon; that of a client only to the members it concerns."""
        if isinstance(change, m.MemberIs) and self._is_guest(change.member):
            self._acquainted.setdefault(change.member.uid, set())
            for uid in self._crew.introductions.wanting_clients():
                self.acquaint(uid, change.member.uid)
        elif isinstance(change, m.MemberGone) and change.uid in self._acquainted:
            for uid in self._acquainted.pop(change.uid):
                self._known[uid].discard(change.uid)
                self._post(uid, [change])
        else:
            self._news.add(change)
            self._schedule()

    def _is_guest(self, member: m.Member) -> bool:
        """Return True if a member is a client of this machine."""
        return not member.role and not self._crew.is_remote(member.uid)

    def acquaint(self, uid: int, other: int) -> None:
        """Send a member, which is about to be linked to `other`, what it may not know of that yet."""
        connection, member = self._connections.get(uid), self._crew.roster.get(other)
        if connection is None or member is None:
            return
        if other in self._acquainted:
            if uid not in self._acquainted[other]:
                self._note(other, uid)
                self._post(uid, [m.MemberIs(member)])
        elif self._news.untold_of(self._lane(connection), other) is not None or uid in self._behind:
            connection.link.post(m.MemberIs(member))

    def known_to(self, uid: int, members: Iterable[m.Member]) -> tuple[m.Member, ...]:
        """Return the members that a new member learns of: itself, and all except the clients of this machine."""
        return tuple(member for member in members if member.uid == uid or not self._is_guest(member))

    def tell_of_guests(self, connection: Connection) -> None:
        """Report all clients to a member from now on."""
        self._crew.introductions.want_clients(connection.uid)
        for guest in self._acquainted:
            if guest != connection.uid:
                self.acquaint(connection.uid, guest)

    def take_over(self) -> None:
        """Resume after the previous program: a member that is linked to a client knows it."""
        introductions = self._crew.introductions
        for member in self._crew.roster:
            if self._is_guest(member):
                self._acquainted[member.uid] = set()
                for uid in introductions.partners(member.uid) | introductions.wanting_clients():
                    self._note(member.uid, uid)

    def _note(self, guest: int, uid: int) -> None:
        self._acquainted[guest].add(uid)
        self._known.setdefault(uid, set()).add(guest)

    def catch_up(self, connection: Connection) -> None:
        """Send a member the changes that all will get, so that it has them before its answer."""
        if connection.hears_all and (changes := self._news.untold(self._lane(connection))):
            self._post(connection.uid, changes)

    def forget(self, uid: int) -> None:
        """Drop what is kept for a member that left."""
        self._behind.pop(uid, None)
        for guest in self._known.pop(uid, ()):
            if guest in self._acquainted:
                self._acquainted[guest].discard(uid)

    # ------------------------------------------------------------------------------------------------ sending

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            self._reactor.flush_soon(self)

    def flush(self) -> None:
        """Send what is due, and set timers for the rest."""
        self._is_scheduled = False
        for lane in LANES:
            if lane not in self._timers and self._news.has_news(lane):
                if self._news.due(lane) <= monotonic():
                    self._tell_all(lane)
                else:
                    when = self._news.due(lane)
                    self._timers[lane] = self._reactor.call_at(when, lambda lane=lane: self._ring(lane))

    def flush_all(self) -> None:
        """Send everything now because this program ends."""
        for lane in LANES:
            if self._news.has_news(lane):
                self._tell_all(lane)

    def hand_over(self) -> None:
        """Send everything now, also to members that do not read.

        Another program takes over the unsent bytes of their links.
        """
        self.flush_all()
        for uid in list(self._behind):
            self.handle_drained(uid)

    def _ring(self, lane: int) -> None:
        del self._timers[lane]
        if self._news.has_news(lane):
            self._tell_all(lane)

    def _tell_all(self, lane: int) -> None:
        began, count = thread_time(), 0
        changes = self._news.untold(lane)
        frames = _frames(changes)
        for connection in list(self._connections.values()):
            if connection.hears_all and self._lane(connection) == lane:
                count += 1
                if self._is_reading(connection):
                    for frame in frames:
                        connection.link.post_encoded(frame)
                else:
                    self._keep(connection.uid, changes)
        now = monotonic()  # the cost is processor time: load of other processes must not delay the next changes
        self._news.handle_told(lane, count, now - (thread_time() - began), now)

    def _lane(self, connection: Connection) -> int:
        """Return the lane in which a member gets changes.

        As long as there are few members, all are in one lane, so that a member that learns of a change and asks another
        one finds that it knows as much.
        """
        if not self._is_crowd:
            self._is_crowd = len(self._connections) > FEW  # never reset: no member moves to a faster lane
        wants = connection.is_client or self._crew.introductions.has_wishes(connection.uid)
        return SLOW if self._is_crowd and not wants else SWIFT

    def _is_reading(self, connection: Connection) -> bool:
        return connection.uid not in self._behind and connection.link.unsent_bytes <= BEHIND

    def _post(self, uid: int, changes: list[Change]) -> None:
        connection = self._connections.get(uid)
        if connection is None:
            return
        if not self._is_reading(connection):
            self._keep(uid, changes)
            return
        for change in changes:
            connection.link.post(change)

    def _keep(self, uid: int, changes: list[Change]) -> None:
        news = self._behind.setdefault(uid, News())
        for change in changes:
            news.add(change)

    def handle_drained(self, uid: int) -> None:
        """Send a member that reads again what was kept for it."""
        news, connection = self._behind.pop(uid, None), self._connections.get(uid)
        if news is not None and connection is not None:
            for frame in _frames(news.untold(SWIFT)):
                connection.link.post_encoded(frame)


def _frames(changes: list[Change]) -> list[Any]:
    """Return the changes as encoded payloads of frames."""
    return [m.encode(changes[start : start + TOGETHER]) for start in range(0, len(changes), TOGETHER)]
