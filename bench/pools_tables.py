"""The rows of `python -m bench.pools`, its tables, and what mob is meant to reach in them.

Limits: no process, no clock. A figure is a number that is better the smaller it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from bench.measure import Figures, Row, as_time, significant, table

MOB, STANDARD = "pools_sides:Mob", "pools_sides:StandardExecutor"
ON_MOB = "pools_sides:JoblibMob"
NO_SUBMIT = {"pools_sides:Joblib": {"one", "burst"}}
"""Sides that take all calls of a row in one, as a map; no target is set beside them there."""


def as_calls(seconds: float) -> str:
    rate = 1 / seconds
    return f"{round(rate, -2):,.0f}/s" if rate >= 1000 else f"{significant(rate)}/s"


def as_share(times_ideal: float) -> str:
    return f"{100 / times_ideal:.0f} %"


def as_load(share: float) -> str:
    return f"{100 * share:.2f} %"


def as_megabytes(count: float) -> str:
    return f"{count / 1e6:.1f} MB"


def as_count(count: float) -> str:
    return f"{count:.0f}"


FIGURES = (
    Row("one", "`submit(...).result()` one after another, function of a module", as_calls, "one"),
    Row("one_main", "the same, function of `__main__`", as_calls, "one"),
    Row("burst", "10,000 submits, then all results, function of a module", as_calls, "burst"),
    Row("burst_main", "the same, function of `__main__`", as_calls, "burst"),
    Row("map_best", "`map` over 1,000,000 ints, the best chunk size for each", as_time, "map_best"),
    Row("map_default", "the same, no chunk size given", as_time, "map_default"),
    Row("jobs_1", "2,000 jobs of 1 ms of CPU, share of ideal", as_share, "jobs"),
    Row("jobs_100", "20 jobs of 100 ms of CPU, share of ideal", as_share, "jobs"),
    Row("arrays_same", "100 arrays of 10 MB there, and the same back", as_time, "arrays"),
    Row("arrays_twice", "100 arrays of 10 MB there, twice as much back", as_time, "arrays"),
    Row("cold", "cold start: a script that takes one result of a pool", as_time, "cold"),
    Row("warm", "warm start: the next pool of a script, one result, its end", as_time, "warm"),
    Row("lost", "`kill -9` of a worker during 1,000 jobs of 1 ms: calls that fail", as_count, "recovery"),
    Row("others", "from there until the last of the others has its result", as_time, "recovery"),
    Row("serves", "from there until a new worker answers (if need be, of a new pool)", as_time, "recovery"),
    Row("idle_cpu", "CPU of an idle pool and its script, of one core", as_load, "idle"),
    Row("idle_memory", "memory of both (PSS, all of their processes)", as_megabytes, "idle"),
)
RARE = frozenset({"cold", "idle"})  # take long, and vary little
UNCOMPARED = frozenset({"lost", "idle_cpu"})  # may be nothing


def tables(figures: Figures, labels: Mapping[str, str]) -> list[str]:
    """All figures, and how many times as long, or as much, each takes as mob, if mob is there."""
    rows = [row for row in FIGURES if figures.has(row)]
    lines = ([row.title, *(figures.cell(row, side) for side in figures.sides)] for row in rows)
    parts = [table(["", *(labels[side] for side in figures.sides)], lines)]
    others = [side for side in figures.sides if side != MOB]
    if MOB in figures.sides and others:
        compared = [row for row in rows if row.name not in UNCOMPARED]
        lines = ([row.title, *(figures.ratio_cell(row, side, MOB) for side in others)] for row in compared)
        parts += [
            "mob is so many times as fast, or as small (2.00: mob takes half; below 1: the peer is better):",
            table(["", *(labels[side] for side in others)], lines),
            "Targets, and whether this run met them:",
            table(["", "beside", "wanted", "measured", ""], _targets(figures, labels, others)),
        ]
    return parts


def _targets(figures: Figures, labels: Mapping[str, str], others: Sequence[str]) -> Iterator[list[str]]:
    rows = {row.name: row for row in FIGURES}
    for name, least in (("burst", 5.0), ("burst_main", 5.0), ("warm", 1 / 1.5)):
        if ratio := figures.ratio(rows[name], STANDARD, MOB):
            yield _target(rows[name], labels[STANDARD], least, ratio)
    for row in FIGURES:
        if row.name in UNCOMPARED | {"cold"}:
            continue
        sides = [side for side in others if side != ON_MOB and row.method not in NO_SUBMIT.get(side, ())]
        ratios = [(ratio, side) for side in sides if (ratio := figures.ratio(row, side, MOB))]
        if ratios:
            ratio, side = min(ratios)
            yield _target(row, f"the best: {labels[side]}", 1, ratio)


def _target(row: Row, beside: str, least: float, ratio: float) -> list[str]:
    return [row.title, beside, significant(least), significant(ratio), "met" if ratio >= least else "missed"]
