"""The backlog of a client: how many of its calls wait for a worker, told to its Kingpin.

A mobster says so in its beats; a client has none. Nothing is sent and no timer runs while nothing waits. The first
message follows `BACKLOG_DELAY` seconds after a call began to wait, if one waits then; calls that wait for a moment
only, as a burst of short ones does, are not worth the Kingpin's time, and no reason for a role to grow. From then on
there is a message a second, until one says that nothing waits any more. It is repeated even if nothing has changed: a
Kingpin that has taken the place of another knows nothing of it.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from mob.wire import messages as m

if TYPE_CHECKING:
    from mob.core.routes import Routes
    from mob.peer.context import Context
    from mob.peer.links.contact import Contact
    from mob.peer.links.control import Control

BACKLOG_DELAY = 0.1
"""Seconds from the moment at which a call begins to wait until the Kingpin is told."""
BACKLOG_INTERVAL = 1.0
"""Seconds between two messages while something waits."""


class Backlog:
    """What waits in one client, as its Kingpin knows it. On the loop's thread only."""

    def __init__(self, context: Context, routes: Routes[Contact], control: Control) -> None:
        self._context = context
        self._routes = routes
        self._control = control
        self._is_watching = False  # a timer runs
        self._is_told = False  # the Kingpin knows of calls that wait

    def __repr__(self) -> str:
        return f"<Backlog of {self._context.name}{', watched' if self._is_watching else ''}>"

    def handle_parked(self) -> None:
        """A call begins to wait for a worker."""
        if not self._is_watching:
            self._is_watching = True
            self._context.reactor.call_at(monotonic() + BACKLOG_DELAY, self._look)

    def _look(self) -> None:
        routes, control = self._routes, self._control
        calls = {} if control.is_closed else routes.overdue(monotonic())
        if calls or self._is_told:
            control.post(m.Parked(calls, {role: routes.size(role) for role in calls}))
        self._is_told = bool(calls)
        self._is_watching = not control.is_closed and routes.waiting > 0
        if self._is_watching:
            self._context.reactor.call_at(monotonic() + BACKLOG_INTERVAL, self._look)
