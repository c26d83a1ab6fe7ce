"""What the page is shown: the Kingpin's answers as small tables, and what has changed in them since a second ago.

Most of 200 mobsters do the same as a second before, so a tick holds only the rows that differ, and the keys of those
that are gone. Times that grow by themselves are sent as the moment at which they began.

Pure: the time is passed in.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from mob.core.latency import quantile
from mob.wire.messages import ExportMetrics, HistoryIs, Line, Member, Metrics, MobsterMetrics

Rows = dict[str, dict[str, Any]]
"""One table, by the key of the row."""


class Picture:
    """The tables, as they were at the last look."""

    def __init__(self) -> None:
        self._tables: dict[str, Rows] = {"roles": {}, "mobsters": {}, "exports": {}}
        self._head: dict[str, Any] = {}
        self._born: dict[int, float] = {}

    def __repr__(self) -> str:
        sizes = ", ".join(f"{len(rows)} {name}" for name, rows in self._tables.items())
        return f"<Picture of {sizes}>"

    def whole(self) -> dict[str, Any]:
        """All of it, for one who comes now."""
        return {"head": self._head, **{name: {"put": rows, "gone": []} for name, rows in self._tables.items()}}

    def update(self, metrics: Metrics, members: Iterable[Member], now: float) -> dict[str, Any]:
        """Takes a new look; what has changed. `now`: seconds since the epoch."""
        born = {each.uid: self._born.get(each.uid, round(now - each.uptime, 1)) for each in metrics.mobsters}
        self._born = born
        tables: dict[str, Rows] = {
            "roles": {each.name: msgspec.structs.asdict(each) for each in metrics.roles},
            "mobsters": {str(each.uid): _mobster(each, born[each.uid]) for each in metrics.mobsters},
            "exports": {f"{each.role}.{each.export}": _export(each) for each in metrics.exports},
        }
        self._head = {
            "app": metrics.app,
            "pid": metrics.kingpin_pid,
            "began": self._head.get("began", round(now - metrics.uptime, 1)),
            "cpu": round(metrics.cpu, 1),
            "memory": metrics.memory,
            "dropped": metrics.dropped_lines,
            "now": round(now, 1),
            "clients": [[each.uid, each.pid] for each in members if not each.role],
        }
        changes = {name: changed(self._tables[name], rows) for name, rows in tables.items()}
        self._tables = tables
        return {"head": self._head, **changes}


def changed(before: Rows, after: Rows) -> dict[str, Any]:
    """The rows that are new or differ, and the keys of those that are gone.

    >>> changed({"a": {"n": 1}, "b": {"n": 1}}, {"b": {"n": 2}})
    {'put': {'b': {'n': 2}}, 'gone': ['a']}
    """
    return {
        "put": {key: row for key, row in after.items() if before.get(key) != row},
        "gone": [key for key in before if key not in after],
    }


def past(history: HistoryIs, now: float) -> dict[str, Any]:
    """Points and events with times since the epoch, for the monotonic clock means nothing to a browser."""
    shift = now - history.now
    return {
        "points": [
            [
                each.role,
                round(each.at + shift, 1),
                round(each.calls / each.seconds, 2) if each.seconds else 0,
                round(each.failures / each.seconds, 3) if each.seconds else 0,
                each.queue,
                each.in_hand,
                short(each.p50),
                short(each.p99),
            ]
            for each in history.points
        ],
        "events": [[round(each.at + shift, 1), each.kind, each.text] for each in history.events],
    }


def line(each: Line) -> list[Any]:
    """A printed line as the page wants it."""
    return [round(each.at, 2), each.role, each.index, each.pid, int(each.is_error), each.text]


def short(value: float) -> float:
    """With three digits, which is all that a chart shows."""
    return float(f"{value:.3g}")


def _mobster(each: MobsterMetrics, born: float) -> dict[str, Any]:
    return {
        "uid": each.uid,
        "role": each.role,
        "index": each.index,
        "pid": each.pid,
        "generation": each.generation,
        "state": each.state,
        "born": born,
        "restarts": each.restarts,
        "calls": each.calls,
        "hand": each.in_hand,
        "waiting": each.waiting,
        "load": round(each.load, 2),
        "memory": each.memory,
        "shared": each.shared,
        "lag": short(each.lag),
        "stuck": round(each.stuck, 1),
        "ports": each.connections,
        "traffic": {str(uid): round(rate, 1) for uid, rate in each.traffic.items() if rate >= 0.05},
        "note": each.note,
    }


def _export(each: ExportMetrics) -> dict[str, Any]:
    return {
        "role": each.role,
        "export": each.export,
        "calls": each.calls,
        "flight": each.in_flight,
        "failed": each.failed,
        "unserved": each.unserved,
        "run": [short(quantile(each.ran, 0.5)), short(quantile(each.ran, 0.99))],
        "wait": [short(quantile(each.waited, 0.5)), short(quantile(each.waited, 0.99))],
    }
