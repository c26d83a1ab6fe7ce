"""The tables that the page shows, made from the Kingpin's answers, and what changed in them since a second ago.

Most of 200 mobsters do the same as a second before, so a tick holds only the rows that differ, and the keys of those
that no longer exist. Times that grow by themselves are sent as the moment at which they began.

In a cluster the tables hold the rows of all machines. A role's name then includes its machine ("b:back"), so for the
page it is a role like any other; and a uid, which is too large for a number in a browser, is shortened.

Pure: the time is passed in.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from mob import beside
from mob.core.jobs import JobState
from mob.core.latency import quantile
from mob.wire.messages import (
    NODE_SHIFT,
    ExportMetrics,
    HistoryIs,
    Line,
    Member,
    Metrics,
    MobsterMetrics,
    RoleMetrics,
    TimerMetrics,
    node_of,
)

RowsByKey = dict[str, dict[str, Any]]
"""The rows of one table, by key."""


class Picture:
    """The tables, as of the latest answers."""

    def __init__(self) -> None:
        self._tables: dict[str, RowsByKey] = {"roles": {}, "mobsters": {}, "exports": {}, "timers": {}, "jobs": {}}
        self._head: dict[str, Any] = {}
        self._born: dict[int, float] = {}
        self._nodes: dict[int, int] = {}  # the number of a node -> a small number

    def __repr__(self) -> str:
        sizes = ", ".join(f"{len(rows)} {name}" for name, rows in self._tables.items())
        return f"<Picture of {sizes}>"

    def whole(self) -> dict[str, Any]:
        """Return all tables, for a new viewer."""
        return {"head": self._head, **{name: {"put": rows, "gone": []} for name, rows in self._tables.items()}}

    def shown(self, uid: int) -> int:
        """Return the number of a uid on the page, because numbers in JavaScript have at most 53 bits."""
        node = node_of(uid)
        return (self._nodes.setdefault(node, len(self._nodes)) << NODE_SHIFT) | uid & (1 << NODE_SHIFT) - 1

    def meant(self, shown: int) -> tuple[int, int]:
        """Return the uid for a number on the page, and the number of its node."""
        small = shown >> NODE_SHIFT
        node = next((node for node, number in self._nodes.items() if number == small), 0)
        return node << NODE_SHIFT | shown & (1 << NODE_SHIFT) - 1, node

    def update(
        self,
        metrics: Metrics,
        members: Iterable[Member],
        now: float,
        node: str = "",
        others: Sequence[tuple[str, Metrics]] = (),
        cut: str = "",
    ) -> dict[str, Any]:
        """Take new measurements, and return what changed.

        `now` is in seconds since the epoch. In a cluster `node` is this machine, `others` are the measurements of the
        others, and `cut` says why they cannot be reached ("" if they can).
        """
        looks = [(node, metrics), *others]
        everybody = [(name, each) for name, seen in looks for each in seen.mobsters]
        self._born = born = {each.uid: self._born.get(each.uid, round(now - each.uptime, 1)) for _, each in everybody}
        timed = {each.label for _, seen in looks for each in seen.timers}
        tables: dict[str, RowsByKey] = {
            "roles": _roles(looks),
            "mobsters": {
                str(self.shown(each.uid)): self._mobster(each, born[each.uid], name) for name, each in everybody
            },
            "exports": {
                named(name, f"{each.role}.{each.export}"): _export(each, name, f"{each.role}.{each.export}" in timed)
                for name, seen in looks
                for each in seen.exports
            },
            "timers": {named(name, each.label): _timer(each, name) for name, each in beside.timers(looks)},
            "jobs": {
                named(name, role): {"role": named(name, role), **{state: counts.get(state, 0) for state in JobState}}
                for name, seen in looks
                for role, counts in beside.jobs(seen).items()
            },
        }
        self._head = {
            "app": metrics.app,
            "pid": metrics.kingpin_pid,
            "began": self._head.get("began", round(now - metrics.uptime, 1)),
            "cpu": round(metrics.cpu, 1),
            "memory": metrics.memory,
            "dropped": metrics.dropped_lines,
            "now": round(now, 1),
            "clients": [[self.shown(each.uid), each.pid] for each in members if not each.role],
        }
        if node:
            self._head["machines"] = [[name, seen.kingpin_pid] for name, seen in looks]
            self._head["cut"] = cut
        changes = {name: changed(self._tables[name], rows) for name, rows in tables.items()}
        self._tables = tables
        return {"head": self._head, **changes}

    def _mobster(self, each: MobsterMetrics, born: float, node: str) -> dict[str, Any]:
        return {
            **_mobster(each, born),
            "uid": self.shown(each.uid),
            "role": named(node, each.role),
            "node": node,
            "traffic": {str(self.shown(uid)): round(rate, 1) for uid, rate in each.traffic.items() if rate >= 0.05},
        }


def named(node: str, name: str) -> str:
    """Return the name of a role, or of something in it, with its machine if there are several.

    >>> named("", "back"), named("b", "back")
    ('back', 'b:back')
    """
    return f"{node}:{name}" if node else name


def changed(before: RowsByKey, after: RowsByKey) -> dict[str, Any]:
    """Return the rows that are new or differ, and the keys of those that no longer exist.

    >>> changed({"a": {"n": 1}, "b": {"n": 1}}, {"b": {"n": 2}})
    {'put': {'b': {'n': 2}}, 'gone': ['a']}
    """
    return {
        "put": {key: row for key, row in after.items() if before.get(key) != row},
        "gone": [key for key in before if key not in after],
    }


def past(history: HistoryIs, now: float, node: str = "") -> dict[str, Any]:
    """Return points and events with times since the epoch, because a browser cannot use the monotonic clock."""
    shift = now - history.now
    return {
        "points": [
            [
                named(node, each.role),
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
        "events": [
            [round(each.at + shift, 1), each.kind, each.text, *([node] if node else [])] for each in history.events
        ],
    }


def line(each: Line, node: str = "") -> list[Any]:
    """Return a printed line in the form that the page needs."""
    return [round(each.at, 2), named(node, each.role), each.index, each.pid, int(each.is_error), each.text]


def short(value: float) -> float:
    """Return a number rounded to three digits, which are all that a chart shows."""
    return float(f"{value:.3g}")


def _mobster(each: MobsterMetrics, born: float) -> dict[str, Any]:
    return {
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
        "note": each.note,
    }


def _roles(looks: Iterable[beside.Look]) -> RowsByKey:
    rows: RowsByKey = {}
    for node, seen in looks:
        stores = beside.stores(seen)
        for each in seen.roles:
            rows[named(node, each.name)] = row = _role(each, node)
            if store := stores.get(each.name):
                row["store"] = store._asdict()
    return rows


def _role(each: RoleMetrics, node: str) -> dict[str, Any]:
    return {**msgspec.structs.asdict(each), "name": named(node, each.name), "node": node}


def _timer(each: TimerMetrics, node: str) -> dict[str, Any]:
    return {
        "timer": named(node, each.label),
        "schedule": each.schedule,
        "next": round(each.next, 1),
        "last": round(each.last, 1),
        "took": short(each.seconds),
        "outcome": each.outcome,
        "running": each.running,
        "missed": each.runs.get("missed", 0),
        "error": each.error,
        "note": each.note,
    }


def _export(each: ExportMetrics, node: str, is_timer: bool) -> dict[str, Any]:
    return {
        "role": named(node, each.role),
        "export": each.export,
        "timer": is_timer,
        "calls": each.calls,
        "flight": each.in_flight,
        "failed": each.failed,
        "unserved": each.unserved,
        "run": [short(quantile(each.ran, 0.5)), short(quantile(each.ran, 0.99))],
        "wait": [short(quantile(each.waited, 0.5)), short(quantile(each.waited, 0.99))],
    }
