"""Those who listen for crashes: the members that have a handler of `crash`, told of each death out of order.

A report may be large, and a listener may not read: from some bytes on that lie unread it misses reports, which is said.
"""

from __future__ import annotations

from collections.abc import Callable

from mob.kingpin.connections import Connection, Connections
from mob.kingpin.herald import Herald
from mob.wire import messages as m

UNREAD = 4 * 1024 * 1024
"""Bytes that a listener may leave unread before it misses reports."""


class CrashListeners:
    """Who is told of crashes."""

    def __init__(self, connections: Connections, herald: Herald, say: Callable[[str], None]) -> None:
        self._connections = connections
        self._herald = herald
        self._say = say
        self._missing: set[int] = set()  # those of whom it was said that they miss reports

    def __repr__(self) -> str:
        return f"<CrashListeners, {sum(each.hears_crashes for each in self._connections.values())} of them>"

    def tell(self, report: bytes) -> None:
        """Tell all of them, after what has happened before."""
        self._missing &= self._connections.keys()
        for connection in list(self._connections.values()):
            if connection.hears_crashes:
                self._tell(connection, report)

    def _tell(self, connection: Connection, report: bytes) -> None:
        if connection.link.unsent_bytes > UNREAD:
            if connection.uid not in self._missing:
                self._missing.add(connection.uid)
                self._say(
                    f"{connection.link.name} does not read what it is told, so its handlers of 'crash' miss reports; "
                    f"`mob crashes` has them."
                )
            return
        self._missing.discard(connection.uid)
        self._herald.catch_up(connection)
        connection.link.post(m.Crashed(report))
