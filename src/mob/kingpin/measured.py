"""The current numbers of an app, collected from the parts that measure them."""

from __future__ import annotations

import os
import time
from importlib import import_module
from time import monotonic
from typing import Protocol

from mob.core.registry import Registry
from mob.kingpin.connections import Connections
from mob.kingpin.output.console import Console
from mob.kingpin.shortage import Shortage
from mob.rim.processes import ResidentMemory
from mob.rim.titles import DEFAULT
from mob.wire import messages as m


class TimerRows(Protocol):
    """The part that knows the timers."""

    def rows(self) -> tuple[m.TimerMetrics, ...]:
        """Return the metrics of each timer."""
        ...


class Measured:
    """The current numbers of an app."""

    def __init__(
        self,
        app: str,
        registry: Registry,
        connections: Connections,
        console: Console,
        shortage: Shortage,
        titles: str = DEFAULT,
    ) -> None:
        self._app = app
        self._registry = registry
        self._connections = connections
        self._console = console
        self._shortage = shortage
        self._titles = titles
        self._memory = ResidentMemory()
        self.timekeeper: TimerRows | None = None
        """The part that knows the timers, or None if there are none."""

    def __repr__(self) -> str:
        return f"<Measured: {self._registry}>"

    def close(self) -> None:
        """Close the file descriptor through which memory is read."""
        self._memory.close()

    def now(self) -> m.Metrics:
        """Return the current numbers."""
        registry, now = self._registry, monotonic()
        return m.Metrics(
            app=self._app,
            kingpin_pid=os.getpid(),
            uptime=registry.uptime(now),
            cpu=time.process_time(),
            memory=self._memory.read(),
            roles=registry.roles(),
            mobsters=registry.mobsters(now),
            exports=registry.exports(),
            clients=self._connections.clients,
            dropped_lines=self._console.dropped,
            callers=registry.callers(),
            lacks=self._shortage.text(),
            custom=registry.custom.shown(),
            titles=self._titles,
            timers=() if self.timekeeper is None else self.timekeeper.rows(),
        )

    def jobs(self) -> str:
        """Return a note about the durable jobs, or "" if there are none."""
        metrics = self._registry.custom.shown()
        return str(import_module("mob.core.jobs").said_of(metrics)) if metrics else ""  # few apps have jobs

    def since(self, since: float) -> tuple[float, tuple[m.Point, ...], tuple[m.Event, ...]]:
        """Return the present time, and the measurements and events since `since`."""
        now = monotonic()
        return now, *self._registry.history(since, now)
