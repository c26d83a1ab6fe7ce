"""Answers of `client.metrics()` for tests of the views that show them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mob.core.latency import RANGES, range_of
from mob.wire.messages import AppMetric, AppSample, ExportMetrics, Metrics, MobsterMetrics, RoleMetrics, TimerMetrics


def counts(times: dict[float, int] | None = None) -> tuple[int, ...]:
    """Return the histogram of that many calls for each duration."""
    made = [0] * RANGES
    for seconds, number in (times or {}).items():
        made[range_of(seconds)] += number
    return tuple(made)


def mobster(uid: int, role: str = "back", index: int = 0, **more: Any) -> MobsterMetrics:
    """Return the metrics of a worker that has been up for a minute."""
    values: dict[str, Any] = {
        "pid": 1000 + uid,
        "generation": 1,
        "state": "ready",
        "uptime": 60.0,
        "restarts": 0,
        "calls": 0,
        "in_hand": 0,
        "waiting": 0,
        "cpu": 0.0,
        "load": 0.0,
        "memory": 0,
        "shared": 0,
        "lag": 0.0,
        "stuck": 0.0,
        "connections": {},
        "traffic": {},
        "note": "",
    }
    return MobsterMetrics(uid=uid, role=role, index=index, **{**values, **more})


def export(
    role: str,
    name: str,
    ran: dict[float, int] | None = None,
    waited: dict[float, int] | None = None,
    failed: dict[str, int] | None = None,
    unserved: dict[str, int] | None = None,
    in_flight: int = 0,
) -> ExportMetrics:
    """Return the metrics of one export."""
    sums = counts(waited or ran), 0.0, counts(ran), 0.0
    return ExportMetrics(role, name, *sums, failed or {}, unserved or {}, in_flight)


def timer(name: str, next: float = 0.0, outcome: str = "ok", is_here: bool = True, **more: Any) -> TimerMetrics:
    """Return a timer of the role "back" that has run once, by default."""
    last = 900.0 if outcome else 0.0
    return TimerMetrics("back", name, "every 60 s", next, last, 0.5, outcome, is_here=is_here, **more)


def gauge(name: str, role: str, *values: tuple[tuple[str, ...], float], labels: tuple[str, ...] = ()) -> AppMetric:
    """Return a metric of one role."""
    return AppMetric(name, "gauge", "", labels, (), tuple(AppSample(role, *each) for each in values))


def queued(**by_role: dict[str, int]) -> AppMetric:
    """Return the metric of the durable jobs: their number by role and state."""
    values = [((role, state), float(n)) for role, states in by_role.items() for state, n in states.items()]
    return gauge("queue_jobs", "queue", *values, labels=("of", "state"))


def stored(**by_role: Mapping[str, float]) -> tuple[AppMetric, ...]:
    """Return the metrics of stores, by role and name of the metric."""
    names = dict.fromkeys(name for values in by_role.values() for name in values)
    return tuple(
        AppMetric(
            f"store_{name}",
            "gauge",
            "",
            (),
            (),
            tuple(AppSample(role, (), values[name]) for role, values in by_role.items() if name in values),
        )
        for name in names
    )


def metrics(*mobsters: MobsterMetrics, exports: tuple[ExportMetrics, ...] = (), **more: Any) -> Metrics:
    """Return the metrics of an app with these workers, and of their roles."""
    names = dict.fromkeys(each.role for each in mobsters)
    roles = more.pop("roles", None) or tuple(
        RoleMetrics(
            name,
            sum(each.role == name for each in mobsters),
            sum(each.role == name and each.state == "ready" for each in mobsters),
            launches=0,
            crashes=0,
            parked=0,
        )
        for name in names
    )
    values = {"app": "myapp", "kingpin_pid": 999, "uptime": 3600.0, "cpu": 1.0, "memory": 18_000_000, "clients": 1}
    return Metrics(**{**values, **more}, roles=roles, mobsters=mobsters, exports=exports)
