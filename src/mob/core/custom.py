"""The application's own metrics, summed by the Kingpin: the counts of all workers, which outlive them.

Counters and histograms only grow, so their totals are kept by role and set of labels. The value of a gauge belongs to
the worker that set it, and ends with it. Bounded by `MOST_METRICS` and `MOST_SETS`. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from mob.core.crew import Process
from mob.core.declared import OTHER, clash, is_same, is_whole, shown
from mob.wire.messages import AppMetric, AppSample, Counted, MetricNews, MetricSpec, SampleNews

MOST_METRICS = 500
"""Maximum number of metrics of one app."""
MOST_SETS = 1000
"""Maximum number of sets of labels of one metric, over all roles."""
Set = tuple[str, ...]
"""The values of the labels."""


class Total(msgspec.Struct):
    """The total for one set of labels."""

    number: float = 0.0
    counts: list[int] = []


class Setter(msgspec.Struct):
    """A worker that set a gauge, and its values."""

    role: str
    index: int
    pid: int
    values: dict[Set, float] = {}


class Summed(msgspec.Struct):
    """One metric, summed over all workers."""

    spec: MetricSpec
    newest: dict[str, int]
    """By role: the uid of the newest worker that declares it in this way."""
    totals: dict[str, dict[Set, Total]] = {}
    setters: dict[int, Setter] = {}
    """The workers that set a gauge, by uid."""
    is_full: bool = False
    """True once the log said that there are too many sets of labels."""

    def admitted(self, labels: Set, known: dict[Set, Total]) -> Set:
        """Return the labels under which something is counted."""
        if labels in known or self.size < MOST_SETS:
            return labels
        self.is_full = True
        return (OTHER,) * len(labels)

    @property
    def size(self) -> int:
        """Number of sets of labels."""
        return sum(map(len, self.totals.values())) + sum(len(each.values) for each in self.setters.values())


class CustomMetrics:
    """All metrics of the application, by name."""

    def __init__(self) -> None:
        self._metrics: dict[str, Summed] = {}
        self._refused: set[tuple[str, str]] = set()  # names and roles that the log has mentioned

    def __repr__(self) -> str:
        return f"<CustomMetrics: {', '.join(self._metrics) or 'none'}>"

    def handle(self, process: Process, counted: Counted) -> list[str]:
        """Add the counts of a worker; return messages about what cannot be added."""
        said: list[str] = []
        for news in counted.metrics:
            metric = self._metrics.get(news.spec.name)
            if metric is None or metric.newest.get(process.slot.role) != process.uid or metric.spec != news.spec:
                metric, problem = self._admit(process, news.spec)
                said += self._once(process, news.spec, problem)
            if metric is not None:
                said += self._add(metric, process, news)
        return said

    def handle_exited(self, uid: int) -> None:
        """Forget the gauges of a worker that exited."""
        for metric in self._metrics.values():
            metric.setters.pop(uid, None)

    def _admit(self, process: Process, spec: MetricSpec) -> tuple[Summed | None, str]:
        """Return the metric to which a worker's numbers are added; if they are not, None and the reason."""
        role, uid = process.slot.role, process.uid
        metric = self._metrics.get(spec.name)
        if metric is not None and is_same(metric.spec, spec):
            if uid >= max(metric.newest.values()):
                metric.spec = spec  # its help text may differ
            metric.newest[role] = max(uid, metric.newest.get(role, 0))
            return metric, ""
        if metric is not None and set(metric.newest) == {role}:
            if uid < metric.newest[role]:
                return None, ""  # a worker that still has the code from before a reload
            del self._metrics[spec.name]
        if (other := clash(spec, (each.spec for each in self._metrics.values()))) is not None:
            roles = " and ".join(sorted(self._metrics[other.name].newest))
            return None, f"clashes with {shown(other)} of {roles}; rename one of them"
        if len(self._metrics) >= MOST_METRICS:
            return None, f"exceeds the limit of {MOST_METRICS} metrics per app; use labels instead of more names"
        metric = self._metrics[spec.name] = Summed(spec, {role: uid})
        return metric, ""

    def _once(self, process: Process, spec: MetricSpec, problem: str) -> Iterator[str]:
        key = spec.name, process.slot.role
        if not problem:
            self._refused.discard(key)
        elif key not in self._refused and len(self._refused) < MOST_METRICS:
            self._refused.add(key)
            yield f"{shown(spec)} of {process.slot.role} is not counted: it {problem}."

    def _add(self, metric: Summed, process: Process, news: MetricNews) -> Iterator[str]:
        was_full, is_gauge = metric.is_full, metric.spec.kind == "gauge"
        for sample in news.samples:
            if not is_whole(sample.labels, metric.spec):
                continue  # mob's own code never sends that
            if is_gauge:
                self._set(metric, process, sample)
            else:
                self._grow(metric, process.slot.role, sample)
        if metric.is_full and not was_full:
            yield full(metric.spec)

    def _set(self, metric: Summed, process: Process, sample: SampleNews) -> None:
        slot = process.slot
        setter = metric.setters.get(process.uid)
        if setter is None:
            setter = metric.setters[process.uid] = Setter(slot.role, slot.index, process.pid)
        if sample.labels in setter.values or metric.size < MOST_SETS:
            setter.values[sample.labels] = sample.number
        else:
            metric.is_full = True

    def _grow(self, metric: Summed, role: str, sample: SampleNews) -> None:
        known = metric.totals.setdefault(role, {})
        total = known.setdefault(metric.admitted(sample.labels, known), Total())
        total.number += sample.number
        if metric.spec.kind == "histogram":
            total.counts = total.counts or [0] * (len(metric.spec.bounds) + 1)
            for place, count in sample.counts.items():
                if 0 <= place < len(total.counts):
                    total.counts[place] += count

    # --------------------------------------------------------------------------------------------- what is shown

    def shown(self) -> tuple[AppMetric, ...]:
        """Return all metrics, sorted by name."""
        return tuple(
            AppMetric(spec.name, spec.kind, spec.help, spec.labels, spec.bounds, tuple(_samples(metric)))
            for _, metric in sorted(self._metrics.items())
            for spec in (metric.spec,)
        )

    # ---------------------------------------------------------------------------------------------- an upgrade

    def past(self) -> dict[str, Summed]:
        """Return everything as data."""
        return self._metrics

    def take_over(self, past: dict[str, Summed]) -> None:
        """Continue where another Kingpin stopped."""
        self._metrics = past


def full(spec: MetricSpec) -> str:
    """Return the message for a metric that has too many sets of labels."""
    beyond = "dropped" if spec.kind == "gauge" else f"counted as {OTHER!r}"
    return (
        f"{shown(spec)} has too many sets of labels: at most {MOST_SETS:,} are kept, and further ones are {beyond}. Do "
        "not use unbounded values such as ids as labels."
    )


def _samples(metric: Summed) -> Iterator[AppSample]:
    for role, totals in metric.totals.items():
        for labels, total in totals.items():
            yield AppSample(role, labels, total.number, tuple(total.counts))
    if metric.spec.across == "each":
        for setter in metric.setters.values():
            for labels, value in setter.values.items():
                yield AppSample(setter.role, labels, value, index=setter.index, pid=setter.pid)
    else:
        for (role, labels), values in _by_set(metric.setters.values()).items():
            yield AppSample(role, labels, _together(metric.spec.across, values))


def _by_set(setters: Iterable[Setter]) -> dict[tuple[str, Set], list[float]]:
    found: dict[tuple[str, Set], list[float]] = {}
    for setter in setters:
        for labels, value in setter.values.items():
            found.setdefault((setter.role, labels), []).append(value)
    return found


def _together(across: str, values: list[float]) -> float:
    return {"max": max, "min": min}.get(across, sum)(values)
