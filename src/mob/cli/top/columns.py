"""Columns of the two tables of `mob top`: how their values are written, and which of them fit into a line.

Pure. A column that does not fit is left out entirely, the least important one first; the last column gets the remaining
width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.cells import cell_len

from mob.cli.shown import duration
from mob.core.printable import plain

NAME_WIDTH = (8, 24)
"""Minimum and maximum width of the first column."""
LEAST_REST = 10
"""Minimum width for a column of free text."""
GAP = 1
BARS = "▁▂▃▄▅▆▇█"

# --------------------------------------------------------------------------------------------------------- values


def rate(per_second: float) -> str:
    """Return a number per second as text.

    >>> [rate(n) for n in (0, 0.04, 3.21, 48.9, 12345.6, 2_500_000)]
    ['0', '0.0', '3.2', '49', '12,346', '2.5M']
    """
    if not per_second:
        return "0"
    if per_second < 10:
        return f"{per_second:.1f}"
    return count(round(per_second))


def count(number: float) -> str:
    """Return a number as text.

    >>> [count(n) for n in (0, 1234, 123_456, 9_876_543_210)]
    ['0', '1,234', '123,456', '9876.5M']
    """
    return f"{number:,.0f}" if number < 1_000_000 else f"{number / 1_000_000:.1f}M"


def percent(part: float) -> str:
    """Return a share of one core as text, in percent.

    >>> [percent(n) for n in (0, 0.004, 0.123, 1.5)]
    ['0', '0.4', '12.3', '150']
    """
    if not part:
        return "0"
    return f"{part * 100:.1f}" if part < 0.9995 else f"{part * 100:.0f}"


def size(number: float) -> str:
    """Return a number of bytes as text, short enough for a table.

    >>> [size(n) for n in (0, 250_000, 34_000_000, 5_600_000_000)]
    ['-', '244K', '32M', '5.2G']
    """
    if not number:
        return "-"
    for unit in ("B", "K", "M"):
        if number < 1000:
            return f"{number:.0f}{unit}"
        number /= 1024
    return f"{number:.1f}G"


def seconds(number: float) -> str:
    """Return a duration as text; "-" if it is unknown.

    >>> [seconds(n) for n in (0, 0.0000042, 0.00085, 0.0123, 3.21, 75.0)]
    ['-', '4µs', '850µs', '12.3ms', '3.21s', '75s']
    """
    if not number:
        return "-"
    if number < 0.001:
        return f"{number * 1e6:.0f}µs"
    if number < 1:
        return f"{number * 1e3:.3g}ms"
    return f"{number:.3g}s"


def sparkline(values: Sequence[float]) -> str:
    """Return a small chart of values. Small values are distinct from 0; unknown ones (below 0) are blank.

    >>> sparkline([-1, 0, 0.01, 4, 8])
    ' ▁▂▅█'
    """
    most = max(values, default=0.0)
    return "".join(" " if value < 0 else _bar(value / most) if value else BARS[0] for value in values)


def _bar(part: float) -> str:
    return BARS[max(1, int(part * (len(BARS) - 1) + 0.5))]


# -------------------------------------------------------------------------------------------------------- columns


@dataclass(frozen=True)
class Column:
    """One column."""

    name: str
    """Heading, and value of `--sort`."""
    width: int
    rank: int
    """Importance: columns with lower ranks stay when there is less room."""
    write: Callable[[Any], str] = str
    is_text: bool = False
    """True for text: left-aligned, sorted from a to z. Numbers are right-aligned, the largest first."""


def _or_dash(number: int) -> str:
    return str(number) if number else "-"


NODE = Column("node", 10, 1, is_text=True)
"""Name of the machine; only shown if there are several."""
MOBSTERS = (
    Column("name", 0, 0, is_text=True),
    Column("pid", 7, 3, _or_dash),
    Column("state", 8, 1, is_text=True),
    Column("up", 7, 8, duration),
    Column("restarts", 8, 10, count),
    Column("calls/s", 7, 2, rate),
    Column("hand", 4, 6, count),
    Column("queue", 5, 7, count),
    Column("cpu%", 4, 4, percent),
    Column("mem", 5, 5, size),
    Column("lag", 6, 9, seconds),
    Column("p50", 6, 13, seconds),
    Column("p99", 6, 11, seconds),
    Column("minute", 12, 14, sparkline),
    Column("note", 0, 12, plain, is_text=True),
)
EXPORTS = (
    Column("name", 0, 0, is_text=True),
    Column("calls/s", 7, 1, rate),
    Column("fails/s", 7, 2, rate),
    Column("flight", 6, 5, count),
    Column("p50", 6, 4, seconds),
    Column("p99", 6, 3, seconds),
    Column("wait50", 6, 8, seconds),
    Column("wait99", 6, 7, seconds),
    Column("calls", 8, 9, count),
    Column("fails", 7, 6, count),
    Column("minute", 12, 11, sparkline),
    Column("note", 0, 10, plain, is_text=True),
)


def fit(columns: Sequence[Column], width: int, names: Iterable[str]) -> list[tuple[Column, int]]:
    """Return the columns that fit into that width, each with its width; `names` go into the first one."""
    low, high = NAME_WIDTH
    name_width = min(max(low, *(cell_len(name) for name in names), low), high, max(width, 1))
    left = width - name_width
    chosen = {columns[0]}
    for column in sorted(columns[1:], key=lambda each: each.rank):
        wanted = GAP + (column.width or LEAST_REST)
        if wanted <= left:
            chosen.add(column)
            left -= wanted
    widths = {columns[0]: name_width, columns[-1]: LEAST_REST + left}
    return [(column, widths.get(column, column.width)) for column in columns if column in chosen]
