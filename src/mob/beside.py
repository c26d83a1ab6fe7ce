"""What an app has besides its roles: timers, durable jobs and stores, as `mob top` and the dashboard show them.

Pure functions of measurements, from one machine or from several of a cluster. For an app without these they return
nothing, so nothing is shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from mob.core.jobs import COUNTED
from mob.plan import QUEUE
from mob.wire.messages import Metrics, TimerMetrics

Look = tuple[str, Metrics]
"""A machine's name ("" if the app is not in a cluster), and what was measured there."""
OK = ("", "ok")
"""Outcomes of a timer that need no attention."""


class StoreContents(NamedTuple):
    """The contents of a store, and how often keys were found."""

    keys: int
    bytes: int
    hits: int
    """Requests for keys that were there, since the app was started."""
    misses: int

    @property
    def hit_rate(self) -> float | None:
        """Share of the requested keys that were there; None if none was requested.

        >>> StoreContents(keys=5, bytes=100, hits=3, misses=1).hit_rate
        0.75
        """
        asked = self.hits + self.misses
        return self.hits / asked if asked else None


def timers(looks: Sequence[Look]) -> list[tuple[str, TimerMetrics]]:
    """Return each timer with its machine.

    A machine that waits for the lease of a timer is left out if another one of these runs the timer.
    """
    known = [(node, each) for node, metrics in looks for each in metrics.timers]
    run = {each.label for _, each in known if each.is_here}
    return [(node, each) for node, each in known if each.is_here or each.label not in run]


def jobs(metrics: Metrics) -> dict[str, dict[str, int]]:
    """Return the number of durable jobs of each role, by state; roles without any are left out."""
    counts: dict[str, dict[str, int]] = {}
    for metric in metrics.custom:
        is_ours = metric.name == COUNTED and metric.labels == ("of", "state")
        for sample in metric.samples if is_ours else ():
            if sample.role == QUEUE:
                role, state = sample.labels
                counts.setdefault(role, {})[state] = int(sample.value)
    return counts


def stores(metrics: Metrics) -> dict[str, StoreContents]:
    """Return the contents of each store, by the name of its role."""
    told = {each.name: {sample.role for sample in each.samples} for each in metrics.custom}
    holding = told.get("store_keys", set()) & told.get("store_bytes", set()) & told.get("store_locks", set())
    names = [f"store_{field}" for field in StoreContents._fields]
    return {
        role.name: StoreContents(*(int(metrics.value(name, role=role.name)) for name in names))
        for role in metrics.roles
        if role.name in holding
    }


def total(counts: Iterable[dict[str, int]]) -> dict[str, int]:
    """Return the sum of counts of jobs, by state.

    >>> total([{"waiting": 3, "dead": 1}, {"waiting": 2}])
    {'waiting': 5, 'dead': 1}
    """
    summed: dict[str, int] = {}
    for each in counts:
        for state, number in each.items():
            summed[state] = summed.get(state, 0) + number
    return summed
