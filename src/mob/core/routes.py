"""All routes of one process: its workers by role, and all calls that wait here for workers.

`dispatch` decides about one role; this module answers questions about all of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from mob.core.dispatch import Queued, Route, Worker
from mob.core.lanes import LOOP, Lane
from mob.wire.messages import MAP, RoleInfo

OVERDUE = 0.1
"""Seconds after which a call for a worker is counted as waiting: a shorter wait is no backlog."""

W = TypeVar("W", bound=Worker)


class Routes(Generic[W]):
    """The routes of one process, by role. Methods that only read may be called from any thread."""

    __slots__ = ("_by_role", "_cost_of", "backlog")

    def __init__(self, cost_of: Callable[[int], int], backlog: int) -> None:
        self._cost_of = cost_of
        self.backlog: int = backlog
        """Maximum bytes of calls that may wait here for workers."""
        self._by_role: dict[str, Route[W]] = {}

    def __repr__(self) -> str:
        return f"<Routes to {len(self._by_role)} roles, {self.waiting} calls wait>"

    def __iter__(self) -> Iterator[Route[W]]:
        """Yield the routes of this moment."""
        return iter(list(self._by_role.values()))

    def get(self, role: str) -> Route[W] | None:
        """Return the route to a role; None if there is none yet."""
        return self._by_role.get(role)

    def of(self, role: str) -> Route[W]:
        """Return the route to a role; make it if there is none."""
        route = self._by_role.get(role)
        return self._by_role.setdefault(role, Route(role, self._cost_of)) if route is None else route

    @property
    def waiting(self) -> int:
        """Number of calls and messages that wait for workers."""
        return sum(route.waiting for route in self)

    def size(self, role: str = "") -> int:
        """Return how many bytes the waiting calls occupy, of one role or of all."""
        return sum(route.size for route in self if role in ("", route.role))

    def is_full(self, item: Queued) -> bool:
        """Return True if so much waits already that a new call may not."""
        return item.size + self.size() > self.backlog

    def overdue(self, now: float) -> dict[str, int]:
        """Return how many calls wait in queues whose first has waited for a while, by role."""
        counts = {route.role: route.overdue(now - OVERDUE) for route in self if route.waiting}
        return {role: count for role, count in counts.items() if count}

    def wake_at(self) -> float:
        """Return when the next call has waited long enough; infinite if none will."""
        return min((item.until for route in self if route.waiting for item in route.items()), default=math.inf)

    def learn(self, role: RoleInfo) -> None:
        """Note how the exports of a role run, as far as that is known."""
        route = self.of(role.name)
        for export in role.exports or ():
            route.tags[export.name] = export.takes_tags
            lane = Lane(export.width, export.is_beside)
            for target in (export.name, MAP + export.name):
                if lane == LOOP:
                    route.lanes.pop(target, None)
                else:
                    route.lanes[target] = lane
