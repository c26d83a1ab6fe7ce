"""`python -m bench.tables`: a table to a worker, and a sum back, beside Ray and ProcessPoolExecutor.

    python -m bench.tables            all rows, in interleaved rounds; writes bench/TABLES.md
    python -m bench.tables --quick    three short rounds; writes nothing

A frame of a million rows with five columns of numbers, and the same with a column of texts, is sent to one worker,
which sums the numbers. The calls are made one after another. A side whose library is missing loses its column.

Limits: one caller and one worker. mob and Ray find their shared memory warm after the first round.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from statistics import median

from bench.measure import as_time, cpu_model, significant, table, versions
from bench.side import SideFailed, SideProcess
from bench.tables_work import TITLES

BASE = "tables_mob"
SIDES = (BASE, "tables_ray", "tables_pool")
AIMS = {"tables_ray": 1.0, "tables_pool": 5.0}
"""So many times as fast as these mob is to be, for frames of numbers."""
AIMED = ("pandas", "polars")
REPORT = Path(__file__).with_name("TABLES.md")
Figures = dict[tuple[str, str], list[float]]
"""By row and side the median of each round."""


def started() -> dict[str, SideProcess]:
    """Start the sides one after another; leave out those that fail to."""
    running: dict[str, SideProcess] = {}
    for name in SIDES:
        side = SideProcess(name)
        try:
            side.wait_started()
        except SideFailed as failure:
            side.stop()
            print(f"{name}: left out ({failure})")
        else:
            running[name] = side
    return running


def measured(running: dict[str, SideProcess], rounds: int, count: int) -> Figures:
    """Measure each row on all sides one right after the other, so that a ratio compares neighbours in time."""
    figures: Figures = {}
    names = list(running)
    for row in TITLES:
        for turn in range(rounds):
            first = turn % len(names)
            for name in names[first:] + names[:first]:
                seconds = running[name].survey(row, count)
                figures.setdefault((row, name), []).append(median(seconds))
    return figures


def ratio(figures: Figures, row: str, name: str) -> float:
    """Return how many times as long a side took as mob: the median over the rounds."""
    pairs = zip(figures[row, name], figures[row, BASE], strict=True)
    return median(one / other for one, other in pairs)


def report(figures: Figures, labels: dict[str, str], rounds: int, count: int) -> str:
    others = [name for name in labels if name != BASE]
    lines = [
        [
            title,
            *(f"{as_time(median(figures[row, name]))} ({as_time(min(figures[row, name]))})" for name in labels),
            *(significant(ratio(figures, row, name)) for name in others),
        ]
        for row, title in TITLES.items()
    ]
    aims = [
        f"* {TITLES[row]}: {significant(ratio(figures, row, name))} times as fast as {labels[name]} "
        f"(to reach: {AIMS[name]:g})"
        for row in AIMED
        for name in others
    ]
    head = f"{cpu_model()}, {os.cpu_count()} cores; {versions(('pandas', 'polars', 'pyarrow', 'numpy', 'ray'))}."
    explained = (
        f"Median of {rounds} interleaved rounds of {count} calls, the best round in brackets; a million rows. "
        f"The last columns say how many times as fast mob is. `python -m bench.tables` repeats it."
    )
    return "\n\n".join(
        [
            "# A table to a worker, and a sum back",
            f"{head} {explained}",
            table(["", *labels.values(), *(f"ratio to {labels[name]}" for name in others)], lines),
            "\n".join(aims),
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.tables", description="Measures how tables are sent.")
    parser.add_argument("--quick", action="store_true", help="3 rounds of 5 calls instead of 7 of 11; writes no file")
    rounds, count = (3, 5) if (quick := parser.parse_args().quick) else (7, 11)
    running = started()
    try:
        figures = measured(running, rounds, count)
    finally:
        for side in running.values():
            side.stop()
    page = report(figures, {name: side.label for name, side in running.items()}, rounds, count)
    print(page)
    if not quick:
        REPORT.write_text(f"{page}\n")


if __name__ == "__main__":
    main()
