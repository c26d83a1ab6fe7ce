"""What is measured, and what becomes of the figures. Starts nothing and reads no clock.

Every figure is kept as seconds per operation. In a round each row is measured on all sides one right after the
other, so that a ratio compares neighbours in time; the ratios shown are the median of the ratios of the single
rounds, and the figures the median of the rounds with the best one in brackets. A machine that is busy with
something else makes all figures worse, the ratios hardly.

On several cores a round trip mostly costs the waking of an idle core, and the kernel decides anew whether the two
processes share one: the bare floor itself varies by four. The rows on one core leave that out and are steadier.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median

BURST = 250  # messages broadcast before the publisher waits for all subscribers
SUBSCRIBERS = 8
WIDTH = 100  # calls at once
MEGABYTE = 1_000_000
ARRAY = 50_000_000  # bytes of the NumPy array
SIZES = tuple(10**power for power in range(1, 9))


@dataclass(frozen=True)
class Row:
    """One measurement. `method` names the side's method; one unit of it does `operations` of what is counted."""

    name: str
    title: str
    show: Callable[[float], str]
    method: str = ""
    operations: int = 1
    pinned: bool = False
    once: bool = False  # lasts long enough: not repeated within a round
    size: int = 0  # given to the method besides n, if it is not 0
    section: str = ""  # rows of one section share a table; "" is the main one

    @property
    def asks(self) -> str:
        return self.method or self.name


def as_time(seconds: float) -> str:
    for limit, factor, unit in ((1e-3, 1e6, "µs"), (1.0, 1e3, "ms")):
        if seconds < limit:
            return f"{significant(seconds * factor)} {unit}"
    return f"{significant(seconds)} s"


def as_rate(seconds: float) -> str:
    return f"{round(1 / seconds, -2):,.0f}/s"


def as_size(count: int) -> str:
    for limit, factor, unit in ((10**3, 1, "B"), (10**6, 10**3, "kB")):
        if count < limit:
            return f"{count // factor} {unit}"
    return f"{count // 10**6} MB"


def significant(number: float) -> str:
    return f"{number:.0f}" if number >= 100 else f"{number:.1f}" if number >= 10 else f"{number:.2f}"


ROWS = (
    Row("awaited", "call, awaited one after another", as_time),
    Row("blocking", "call, `.result()` one after another", as_time),
    Row("awaited_pinned", "awaited, all processes on one core", as_time, method="awaited", pinned=True),
    Row("blocking_pinned", "`.result()`, all processes on one core", as_time, method="blocking", pinned=True),
    Row("at_once", f"{WIDTH} calls at once, calls", as_rate, operations=WIDTH),
    Row("broadcast", f"100 bytes to {SUBSCRIBERS} processes, deliveries", as_rate, operations=BURST * SUBSCRIBERS),
    Row("cpu", f"CPU per call, {WIDTH} at once", as_time, operations=WIDTH),
    Row("megabyte", "1 MB of bytes there and back", as_time),
    Row("array", f"{as_size(ARRAY)} NumPy array there and back", as_time),
    Row("boot", "start of an app of six processes until all are ready", as_time, once=True),
    Row("revival", "`kill -9` of a worker until its successor has answered", as_time, once=True),
    *(
        Row(f"size_{size}", as_size(size), as_time, method="sized", size=size, section="Bytes there and back")
        for size in SIZES
    ),
)


@dataclass
class Figures:
    """The measured seconds per operation, by (row, side), one per round; None where a round failed."""

    sides: Sequence[str]
    values: dict[tuple[str, str], list[float | None]] = field(default_factory=dict)

    def add(self, row: Row, side: str, seconds: float | None) -> None:
        self.values.setdefault((row.name, side), []).append(seconds)

    def measured(self, row: Row, side: str) -> list[float]:
        return [seconds for seconds in self.values.get((row.name, side), ()) if seconds is not None]

    def has(self, row: Row) -> bool:
        return any(self.measured(row, side) for side in self.sides)

    def cell(self, row: Row, side: str) -> str:
        seconds = self.measured(row, side)
        return f"{row.show(median(seconds))} ({row.show(min(seconds))})" if seconds else "-"

    def ratio(self, row: Row, side: str, base: str) -> float | None:
        """How many times as long `side` took as `base`: the median over the rounds that have both."""
        pairs = zip(self.values.get((row.name, side), ()), self.values.get((row.name, base), ()), strict=False)
        ratios = [one / other for one, other in pairs if one is not None and other is not None]
        return median(ratios) if ratios else None

    def ratio_cell(self, row: Row, side: str, base: str) -> str:
        ratio = self.ratio(row, side, base)
        return "-" if ratio is None else significant(ratio)


def table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A Markdown table, padded so that it reads well as plain text too; numbers to the right."""
    cells = [list(head), *map(list, lines)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(head))]

    def drawn(line: Sequence[str]) -> str:
        first, *others = line
        return "| " + " | ".join([first.ljust(widths[0]), *map(str.rjust, others, widths[1:])]) + " |"

    rule = "|" + "|".join(["-" * (widths[0] + 2), *("-" * (width + 1) + ":" for width in widths[1:])]) + "|"
    return "\n".join([drawn(cells[0]), rule, *map(drawn, cells[1:])])


def main_tables(figures: Figures, labels: Mapping[str, str], base: str) -> list[str]:
    """The figures of the main section and the ratios to `base`, if it was measured."""
    rows = [row for row in ROWS if not row.section and figures.has(row)]
    if not rows:
        return []
    shown = [side for side in figures.sides if any(figures.measured(row, side) for row in rows)]
    lines = ([row.title, *(figures.cell(row, side) for side in shown)] for row in rows)
    parts = [table(["", *(labels[side] for side in shown)], lines)]
    others = [side for side in shown if side != base]
    if base in shown and others:
        lines = ([row.title, *(figures.ratio_cell(row, side, base) for side in others)] for row in rows)
        parts += [
            f"{labels[base]} is so many times as fast as the peer (2.00: half the time; below 1: the peer is faster):",
            table(["", *(labels[side] for side in others)], lines),
        ]
    return parts


def section_tables(figures: Figures, labels: Mapping[str, str], base: str) -> list[str]:
    """Each other section: one table, with the ratios beside the figures."""
    parts = []
    for section in dict.fromkeys(row.section for row in ROWS if row.section):
        rows = [row for row in ROWS if row.section == section and figures.has(row)]
        if not rows:
            continue
        shown = [side for side in figures.sides if any(figures.measured(row, side) for row in rows)]
        others = [side for side in shown if side != base] if base in shown else []
        head = ["", *(labels[side] for side in shown), *(f"ratio to {labels[side]}" for side in others)]
        lines = (
            [
                row.title,
                *(figures.cell(row, side) for side in shown),
                *(figures.ratio_cell(row, side, base) for side in others),
            ]
            for row in rows
        )
        parts += [f"## {section}", table(head, lines)]
    return parts


def cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def versions(distributions: Iterable[str]) -> str:
    found = []
    for name in distributions:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)
