"""The backlog of a client: the number of its calls that wait for a worker, reported to its Kingpin.

A mobster reports it in its heartbeats; a client has none. Nothing is sent and no timer runs while nothing waits. The
first message is sent `BACKLOG_DELAY` seconds after a call began to wait, if one still waits then: a burst of short
calls is not worth the Kingpin's time, and no reason to scale up a role. Then there is one message per second until one
reports that nothing waits. Messages are repeated even if nothing changed, because a new Kingpin that took over from
another knows nothing of the backlog.
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
"""Seconds between the moment at which a call begins to wait and the first message to the Kingpin."""
BACKLOG_INTERVAL = 1.0
"""Seconds between two messages while something waits."""


class Backlog:
    """The backlog of one client, as its Kingpin knows it; on the loop's thread only."""

    def __init__(self, context: Context, routes: Routes[Contact], control: Control) -> None:
        self._context = context
        self._routes = routes
        self._control = control
        self._is_watching = False  # a timer runs
        self._is_told = False  # the Kingpin knows of waiting calls

    def __repr__(self) -> str:
        return f"<Backlog of {self._context.name}{', watched' if self._is_watching else ''}>"

    def handle_parked(self) -> None:
        """Start to watch the backlog: a call began to wait for a worker."""
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
