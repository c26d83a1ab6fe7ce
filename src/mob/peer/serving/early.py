"""Calls that arrive too early: their function is defined further down in a module that is still being imported.

A module that blocks in its import (a server's `serve_forever`) is ready when it listens, and calls may arrive before it
has defined all that it exports. A call of a name that does not exist yet waits for it, for at most a second: longer
than any module needs from one line to the next, and short enough for a name that will never exist. Calls of one name
stay in order; calls of other names do not wait.

When the import ends the exports are complete, and all calls that still wait are decided at once.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING

from mob.peer.calls.proxy import unknown_export
from mob.peer.serving.exports import Export
from mob.rim.link import Link
from mob.wire import messages as m

if TYPE_CHECKING:
    from mob.peer.links.contact import Contact
    from mob.peer.serving.limiters import CallLine
    from mob.peer.serving.serving import Serving

DEFINED_TIMEOUT = 1.0
"""Maximum number of seconds that a call waits for its function to be defined."""
MODULE_INTERVAL = 0.01
"""Seconds between two looks at the module while a call waits: Python does not report that a module has a new name."""


class Early:
    """The exports of a module that may define more, and the calls that wait for those."""

    def __init__(self, serving: Serving, role: str, collect: Callable[[], None]) -> None:
        self._serving = serving
        self._role = role
        self._collect = collect  # adds to the exports what the module defines so far
        self._exports = serving.exports
        self._line: CallLine = OrderedDict()
        self._missing: set[str | int] = set()  # the names for which calls wait
        self._is_looking = False
        self._is_over = False  # the module is imported: nothing more will be defined

    def __repr__(self) -> str:
        return f"<Early, {len(self._line)} calls wait for their functions>"

    def find(self, name: str) -> Export | None:
        """Return the export of that name if the module defines it by now and no older call waits for it."""
        export = self._exports.get(name)
        if export is None and name not in self._missing:
            self._collect()
            export = self._exports.get(name)
        return None if name in self._missing else export

    def hold(self, link: Link, contact: Contact, call: m.Invoke) -> bool:
        """Let a call wait for its function; return False if no more functions will be defined."""
        if self._is_over:
            return False
        self._missing.add(m.export_of(call.target))
        self._serving.waiting_calls.put(self._line, link, call, (contact, monotonic() + DEFINED_TIMEOUT), is_read=False)
        self._look_soon()
        return True

    def end(self) -> None:
        """Decide all calls that still wait, because the module is imported. From any thread."""
        self._is_over = True
        self._serving.reactor.call(self._look)

    def _look_soon(self) -> None:
        if not self._is_looking:
            self._serving.loop.call_later(MODULE_INTERVAL, self._look)  # not while the loop is blocked
            self._is_looking = True

    def _look(self) -> None:
        """Start the calls whose function exists now, and refuse those that waited for too long."""
        self._is_looking = False  # another look may be scheduled nevertheless; it will find nothing
        self._missing.clear()
        if not self._is_over:
            self._collect()
        now = monotonic()
        for waiting in list(self._line.values()):
            contact, until = waiting.work
            name = m.export_of(waiting.call.target)
            if name in self._missing or (name not in self._exports and now < until and not self._is_over):
                self._missing.add(name)
            else:
                self._serving.ends.attend(waiting.link, waiting.call, self._decide, waiting.link, contact, waiting.call)
        if self._line:
            self._look_soon()

    def _decide(self, link: Link, contact: Contact, call: m.Invoke) -> None:
        serving = self._serving
        serving.waiting_calls.drop(link, call.id)
        name = m.export_of(call.target)
        if name in self._exports:
            serving.start_call(link, contact, call, None)
        else:
            serving.answers.refuse(link, call, unknown_export(self._role, str(name), self._exports))
