"""Computes rates from readings of `client.metrics()`: the lines of the tables of `mob top`.

Pure. Workers report once a second, and readings are not aligned with that, so differences are taken over `WINDOW`
seconds: over one second they would be zero in one frame and double in the next.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from mob.core.latency import RANGES, quantile
from mob.plan import place_name
from mob.rim.titles import SUPERVISORS
from mob.wire.messages import ExportMetrics, Metrics, MobsterMetrics

WINDOW = 3.0
"""Seconds over which differences are taken; more if readings are further apart."""
PICTURE = 60.0
"""Seconds that a sparkline covers."""
BARS, HEADER_BARS = 12, 30
"""Number of bars of a sparkline in a line, and of the one in the header."""


class RowKind(StrEnum):
    """What a line describes."""

    ROLE = "role"
    MOBSTER = "mobster"
    EXPORT = "export"


@dataclass(frozen=True)
class TableLine:
    """One line of a table."""

    kind: RowKind
    key: str
    """Unique key, as long as the thing exists that the line describes."""
    name: str
    """Name as shown: `back`, `back.0`, `back.foo`."""
    role: str
    pid: int
    values: dict[str, Any]
    """Values by column."""
    node: str = ""
    """Name of the machine; empty if the app is not part of a cluster."""

    @property
    def text(self) -> str:
        """Text that the filter searches."""
        values = self.values
        return f"{self.name} {self.node} {self.pid or ''} {values.get('state', '')} {values['note']}".lower()


@dataclass(frozen=True)
class Totals:
    """Values of the header."""

    app: str
    uptime: float
    supervisor: str
    """What the Kingpin is called, by the style of titles of the app."""
    kingpin_pid: int
    kingpin_load: float
    kingpin_memory: int
    ready: int
    target: int
    calls: float
    """Calls per second."""
    failures: float
    """Failures per second."""
    queue: int
    clients: int
    dropped_lines: int
    picture: tuple[float, ...]
    machines: int = 1


class Reading(NamedTuple):
    """A set of metrics, and when it was read."""

    at: float
    metrics: Metrics
    mobsters: dict[int, MobsterMetrics]
    exports: dict[str, ExportMetrics]


class Course:
    """History of a rate in the last minute, as means over a few seconds each."""

    def __init__(self, bars: int) -> None:
        self._step = PICTURE / bars
        self._means: deque[tuple[int, float, int]] = deque(maxlen=bars)
        self._bars = bars
        self.last: int = 0

    def add(self, at: float, value: float) -> None:
        """Add a reading."""
        self.last = number = int(at / self._step)
        total, count = 0.0, 0
        if self._means and self._means[-1][0] == number:
            _, total, count = self._means.pop()
        self._means.append((number, total + value, count + 1))

    def values(self) -> tuple[float, ...]:
        """Return the means, oldest first; -1 where nothing is known."""
        means = {number: total / count for number, total, count in self._means}
        return tuple(means.get(number, -1.0) for number in range(self.last - self._bars + 1, self.last + 1))


class Rates:
    """The readings of the last seconds, and the lines computed from them."""

    def __init__(self, node: str = "") -> None:
        self._node = node
        self._readings: deque[Reading] = deque()
        self._courses: dict[str, Course] = {}
        self._all = Course(HEADER_BARS)
        self.mobsters: tuple[TableLine, ...] = ()
        self.roles: tuple[TableLine, ...] = ()
        self.exports: tuple[TableLine, ...] = ()
        self.totals: Totals | None = None
        self.last: float = 0.0
        """Time of the last reading."""

    def __repr__(self) -> str:
        return f"<Rates of {len(self.mobsters)} mobsters and {len(self.exports)} exports>"

    @property
    def metrics(self) -> Metrics | None:
        """Metrics of the last reading."""
        return self._readings[-1].metrics if self._readings else None

    def add(self, at: float, metrics: Metrics) -> None:
        """Add a reading."""
        if self._readings and self._is_another_run(metrics):
            self._readings.clear()
            self._courses.clear()
        self.last = at
        mobsters = {each.uid: each for each in metrics.mobsters}
        exports = {f"{each.role}.{each.export}": each for each in metrics.exports}
        self._readings.append(Reading(at, metrics, mobsters, exports))
        while len(self._readings) > 2 and self._readings[1].at <= at - WINDOW:
            self._readings.popleft()
        self._make_lines()

    def _is_another_run(self, metrics: Metrics) -> bool:
        return metrics.uptime < self._readings[-1].metrics.uptime

    def _make_lines(self) -> None:
        before, now = self._readings[0], self._readings[-1]
        passed = now.at - before.at
        old = before is not now
        self.mobsters = tuple(
            self._mobster(each, before.mobsters.get(each.uid) if old else each, passed, now.at)
            for each in now.metrics.mobsters
        )
        pairs = [(each, before.exports.get(name) if old else each) for name, each in now.exports.items()]
        self.exports = tuple(self._export(each, then, passed, now.at) for each, then in pairs)
        self.roles = tuple(self._role(each.name, pairs, now) for each in now.metrics.roles)
        if self._node:
            for line in (*self.mobsters, *self.exports, *self.roles):
                line.values["node"] = self._node
        known = {line.key for line in (*self.mobsters, *self.exports, *self.roles)}
        self._courses = {key: course for key, course in self._courses.items() if key in known}
        calls = sum(line.values["calls/s"] for line in self.roles)
        self._all.add(now.at, calls)
        metrics, roles = now.metrics, now.metrics.roles
        self.totals = Totals(
            app=metrics.app,
            uptime=metrics.uptime,
            supervisor=SUPERVISORS[metrics.titles],
            kingpin_pid=metrics.kingpin_pid,
            kingpin_load=_per(metrics.cpu - before.metrics.cpu, passed),
            kingpin_memory=metrics.memory,
            ready=sum(role.ready for role in roles),
            target=sum(role.target for role in roles),
            calls=calls,
            failures=sum(line.values["fails/s"] for line in self.exports),
            queue=sum(line.values["queue"] for line in self.roles),
            clients=max(0, metrics.clients - 1),  # all except this program
            dropped_lines=metrics.dropped_lines,
            picture=self._all.values(),
        )

    def _mobster(self, now: MobsterMetrics, then: MobsterMetrics | None, passed: float, at: float) -> TableLine:
        key = f"{place(self._node, place_name(now.role, now.index))} {now.uid}"
        # A worker launched since the previous reading had less time for its calls.
        calls = _per(now.calls - (then.calls if then else 0), passed if then else min(passed, now.uptime))
        values = {
            "name": (now.role, now.index),
            "pid": now.pid,
            "state": now.state,
            "up": now.uptime,
            "restarts": now.restarts,
            "calls/s": calls,
            "hand": now.in_hand,
            "queue": now.waiting,
            "cpu%": now.load,
            "mem": now.memory,
            "lag": max(now.lag, now.stuck),
            "minute": self._course(key, at, calls),
            "note": now.note,
        }
        return TableLine(RowKind.MOBSTER, key, place_name(now.role, now.index), now.role, now.pid, values, self._node)

    def _export(self, now: ExportMetrics, then: ExportMetrics | None, passed: float, at: float) -> TableLine:
        name = f"{now.role}.{now.export}"
        key = place(self._node, name)
        ran = _difference(now.ran, then.ran if then else ())
        waited = _difference(now.waited, then.waited if then else ())
        calls = _per(sum(ran), passed)
        kinds = sorted({**now.failed, **now.unserved}, key=lambda kind: -_failures_of(now, kind))
        values = {
            "name": (now.role, now.export),
            "calls/s": calls,
            "fails/s": _per(now.failures - (then.failures if then else 0), passed),
            "flight": now.in_flight,
            "p50": quantile(ran, 0.5),
            "p99": quantile(ran, 0.99),
            "wait50": quantile(waited, 0.5),
            "wait99": quantile(waited, 0.99),
            "calls": now.calls,
            "fails": now.failures,
            "minute": self._course(key, at, calls),
            "note": ", ".join(f"{kind} {_failures_of(now, kind):,}" for kind in kinds),
        }
        return TableLine(RowKind.EXPORT, key, plain_name(name), now.role, 0, values, self._node)

    def _role(self, name: str, pairs: Iterable[tuple[ExportMetrics, ExportMetrics | None]], now: Reading) -> TableLine:
        role = next(each for each in now.metrics.roles if each.name == name)
        key = f"role {place(self._node, name)}"
        mine = [line.values for line in self.mobsters if line.role == name]
        ran = [0] * RANGES
        for each, then in pairs:
            if each.role == name:
                ran = [a + b for a, b in zip(ran, _difference(each.ran, then.ran if then else ()), strict=True)]

        def total(column: str, add: Callable[[Iterable[Any]], Any] = sum) -> Any:
            return add([values[column] for values in mine] or [0])

        values = {
            "name": (name, -1),
            "state": f"{role.ready}/{role.target}",
            "up": total("up", max),
            "restarts": total("restarts"),
            "calls/s": total("calls/s"),
            "hand": total("hand"),
            "queue": total("queue") + role.parked,
            "cpu%": total("cpu%"),
            "mem": total("mem"),
            "lag": total("lag", max),
            "p50": quantile(ran, 0.5),
            "p99": quantile(ran, 0.99),
            "minute": self._course(key, now.at, total("calls/s")),
            "note": role.failing,
        }
        return TableLine(RowKind.ROLE, key, name, name, 0, values, self._node)

    def _course(self, key: str, at: float, value: float) -> tuple[float, ...]:
        course = self._courses.setdefault(key, Course(BARS))
        course.add(at, value)
        return course.values()


def place(node: str, name: str) -> str:
    """Return a name with its machine.

    >>> place("b", "back.0"), place("", "back.0")
    ('b:back.0', 'back.0')
    """
    return f"{node}:{name}" if node else name


def plain_name(name: str) -> str:
    """Return the name of an export as it can be shown: callers choose it, so it may contain anything."""
    return name if name.isprintable() else repr(name)[1:-1]


def _failures_of(export: ExportMetrics, kind: str) -> int:
    return export.failed.get(kind, 0) + export.unserved.get(kind, 0)


def _difference(now: Sequence[int], then: Sequence[int]) -> list[int]:
    if not then:
        return list(now)
    return [max(0, a - b) for a, b in zip(now, then, strict=True)]


def _per(difference: float, passed: float) -> float:
    return max(0.0, difference) / passed if passed > 0 else 0.0
