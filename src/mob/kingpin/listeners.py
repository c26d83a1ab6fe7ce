"""Crash listeners: the members that have a handler of `crash` and get a report of each crash.

A report may be large, and a listener may not read. One with too many unread bytes misses reports, which is logged.
"""

from __future__ import annotations

from collections.abc import Callable

from mob.kingpin.connections import Connection, Connections
from mob.kingpin.herald import Herald
from mob.wire import messages as m

UNREAD = 4 * 1024 * 1024
"""Unread bytes from which a listener misses reports."""


class CrashListeners:
    """The members that get crash reports."""

    def __init__(self, connections: Connections, herald: Herald, say: Callable[[str], None]) -> None:
        self._connections = connections
        self._herald = herald
        self._say = say
        self._missing: set[int] = set()  # members whose missed reports were logged

    def __repr__(self) -> str:
        return f"<CrashListeners, {sum(each.hears_crashes for each in self._connections.values())} of them>"

    def tell(self, report: bytes) -> None:
        """Send a report to all listeners, after all earlier changes."""
        self._missing &= self._connections.keys()
        for connection in list(self._connections.values()):
            if connection.hears_crashes:
                self._tell(connection, report)

    def _tell(self, connection: Connection, report: bytes) -> None:
        if connection.link.unsent_bytes > UNREAD:
            if connection.uid not in self._missing:
                self._missing.add(connection.uid)
                self._say(
                    f"{connection.link.name} does not read its messages, so its 'crash' handlers miss reports; "
                    f"`mob crashes` shows them."
                )
            return
        self._missing.discard(connection.uid)
        self._herald.catch_up(connection)
        connection.link.post(m.Crashed(report))
