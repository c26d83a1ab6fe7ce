"""What `client.metrics()` might answer, for tests of the views that show it."""

from __future__ import annotations

from typing import Any

from mob.core.latency import RANGES, range_of
from mob.wire.messages import ExportMetrics, Metrics, MobsterMetrics, RoleMetrics


def counts(times: dict[float, int] | None = None) -> tuple[int, ...]:
    """So many calls took so long."""
    made = [0] * RANGES
    for seconds, number in (times or {}).items():
        made[range_of(seconds)] += number
    return tuple(made)


def mobster(uid: int, role: str = "back", index: int = 0, **more: Any) -> MobsterMetrics:
    """One that has been there for a minute."""
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
    """The sums of one export."""
    sums = counts(waited or ran), 0.0, counts(ran), 0.0
    return ExportMetrics(role, name, *sums, failed or {}, unserved or {}, in_flight)


def metrics(*mobsters: MobsterMetrics, exports: tuple[ExportMetrics, ...] = (), **more: Any) -> Metrics:
    """An app with these, and the roles that follow from them."""
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
