"""Calls that come too early: their function is defined further down in a module that is still being imported.

A module that blocks in its import (a server's `serve_forever`) is ready when it listens, and calls may come before it
has defined all that it exports. A call of a name that is not there yet waits for it, up to a second: longer than any
module needs to get from one line to the next, and short enough for a name that will never be there. Calls of one name
stay in order; calls of other names pass by.

When the import ends the exports are complete, and what still waits is decided at once.
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
    from mob.peer.serving.serving import Serving
    from mob.peer.serving.turns import GateQueue

DEFINED_TIMEOUT = 1.0
"""Seconds that a call waits for its function to be defined."""
MODULE_INTERVAL = 0.01
"""Seconds between two looks at the module, while a call waits: Python tells nobody that a module has a new name."""


class Early:
    """The exports of a module that may define more, and the calls that wait for those."""

    def __init__(self, serving: Serving, role: str, collect: Callable[[], None]) -> None:
        self._serving = serving
        self._role = role
        self._collect = collect  # adds to the exports what the module has defined by now
        self._exports = serving.exports
        self._line: GateQueue = OrderedDict()
        self._missing: set[str | int] = set()  # the names that calls wait for
        self._is_looking = False
        self._is_over = False  # the module has been imported: nothing is defined any more

    def __repr__(self) -> str:
        return f"<Early, {len(self._line)} calls wait for their functions>"

    def find(self, name: str) -> Export | None:
        """The export of that name, if the module has defined it by now and no older call waits for it."""
        export = self._exports.get(name)
        if export is None and name not in self._missing:
            self._collect()
            export = self._exports.get(name)
        return None if name in self._missing else export

    def hold(self, link: Link, contact: Contact, call: m.Invoke) -> bool:
        """Has a call wait for its function; False if no function will come any more."""
        if self._is_over:
            return False
        self._missing.add(m.export_of(call.target))
        self._serving.turns.put(self._line, link, call, (contact, monotonic() + DEFINED_TIMEOUT), is_read=False)
        self._look_soon()
        return True

    def end(self) -> None:
        """Decide what still waits: the module has been imported. From any thread."""
        self._is_over = True
        self._serving.reactor.call(self._look)

    def _look_soon(self) -> None:
        if not self._is_looking:
            self._serving.loop.call_later(MODULE_INTERVAL, self._look)  # not while the loop stands still
            self._is_looking = True

    def _look(self) -> None:
        """Starts what has waited for a function that is there now, and refuses what has waited for too long."""
        self._is_looking = False  # perhaps a look is set all the same: it finds nobody
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
        serving.turns.drop(link, call.id)
        name = m.export_of(call.target)
        if name in self._exports:
            serving.start_call(link, contact, call, None)
        else:
            serving.answers.refuse(link, call, unknown_export(self._role, str(name), self._exports))
