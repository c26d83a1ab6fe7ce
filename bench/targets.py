"""What mob is meant to reach beside its peers, and whether it did. Ratios as in measure.py: above 1, mob is faster."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bench.measure import ROWS, Figures, significant, table


@dataclass(frozen=True)
class Target:
    """`row` at least so many times as fast as each of the `sides`, so as the best of them."""

    row: str
    sides: tuple[str, ...]
    least: float

    def line(self, figures: Figures, labels: Mapping[str, str], base: str) -> list[str]:
        row = next(row for row in ROWS if row.name == self.row)
        ratios = {side: figures.ratio(row, side, base) for side in self.sides}
        known = {side: ratio for side, ratio in ratios.items() if ratio is not None}
        title = [row.title, self._names(self.sides, labels), f"{self.least:g}"]
        if not known:
            return [*title, "-", "not measured"]
        best = min(known, key=lambda side: known[side])
        verdict = "met" if known[best] >= self.least else "missed"
        if missing := [side for side in self.sides if side not in known]:
            verdict += f", without {self._names(missing, labels)}"
        of = f" ({labels[best]})" if len(self.sides) > 1 else ""
        return [*title, f"{significant(known[best])}{of}", verdict]

    @staticmethod
    def _names(sides: tuple[str, ...] | list[str], labels: Mapping[str, str]) -> str:
        return ", ".join(labels.get(side, NAMES.get(side, side)) for side in sides)


# Of the sides that may not be there.
NAMES = {
    "floor": "C floor",
    "pipe": "Pipe",
    "executor_side": "ProcessPoolExecutor",
    "zmq_side": "pyzmq asyncio",
    "xoscar_side": "xoscar",
    "grpc_side": "grpc.aio",
    "gunicorn_side": "gunicorn dirty",
    "ray_side": "Ray",
    "node_side": "mob on Node",
}

TARGETS = (
    Target("at_once", ("zmq_side", "xoscar_side", "grpc_side"), 10),
    Target("at_once", ("node_side",), 2.5),
    Target("awaited", ("xoscar_side", "ray_side", "gunicorn_side"), 4),
    Target("blocking", ("pipe",), 1),
    Target("array", ("ray_side",), 10),
    Target("array", ("pipe",), 30),
    Target("megabyte", ("pipe",), 5),
    Target("broadcast", ("zmq_side",), 1.5),
    Target("cpu", ("executor_side", "zmq_side", "xoscar_side", "grpc_side", "ray_side", "gunicorn_side"), 8),
    Target("cpu", ("node_side",), 8),  # apart, for it is no asyncio
)


def targets_table(figures: Figures, labels: Mapping[str, str], base: str) -> list[str]:
    rows = {row.name for row in ROWS if figures.measured(row, base)}
    lines = [target.line(figures, labels, base) for target in TARGETS if target.row in rows]
    if not lines:
        return []
    head = ["", "beside (the best of)", "at least", "measured", ""]
    return ["Targets, and whether this run met them:", table(head, lines)]
