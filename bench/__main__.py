"""`python -m bench`: mob and its peers side by side, in rounds; prints the tables and writes bench/RESULTS.md.

    python -m bench                       all rows, all sides and the tables on load, about eight minutes
    python -m bench --quick               short rounds: to see that it works, not to quote
    python -m bench --only awaited        one row (may be repeated); writes no file unless --out is given
    python -m bench --only grid           one of the tables that only mob has: grid, overload, system
    python -m bench --side mob_side       one side (may be repeated); likewise

A side whose library is missing, or that fails, loses its column, with a note. Nothing is left running.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.cpu import sentences
from bench.load_tables import grid_table, overload_table
from bench.measure import ROWS, Figures, Row, cpu_model, main_tables, section_tables, versions
from bench.side import SideFailed, SideProcess
from bench.targets import targets_table

BASE, LOAD = "mob_side", "load_side"
SIDES = (
    BASE,
    "floor",
    "pipe",
    "executor_side",
    "zmq_side",
    "xoscar_side",
    "grpc_side",
    "gunicorn_side",
    "ray_side",
    "node_side",
)
SURVEYS = {"system": BASE, "overload": LOAD, "grid": LOAD}
DISTRIBUTIONS = ("mobsters", "msgspec", "uvloop", "numpy", "pyzmq", "xoscar", "grpcio", "gunicorn", "ray")
PINNED = {row.asks for row in ROWS if row.pinned}
EXPLAINED = (
    "Times are per call, there and back. A call carries one small integer, or 1 MB of bytes where the row says so. "
    "`python -m bench` repeats it; the files beside this one say how each figure is taken."
)
RESULTS = Path(__file__).with_name("RESULTS.md")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measures mob beside its peers.")
    parser.add_argument("--quick", action="store_true", help="3 rounds of 0.1 s per figure instead of 7 of 0.4 s")
    parser.add_argument(
        "--only",
        action="append",
        metavar="ROW",
        choices=[*(row.name for row in ROWS), *SURVEYS],
        help="this row only: %(choices)s",
    )
    parser.add_argument("--side", action="append", metavar="SIDE", choices=SIDES, help="this side only: %(choices)s")
    parser.add_argument(
        "--out", type=Path, help="the file to write (default: bench/RESULTS.md, for a run of all rows and sides)"
    )
    return parser.parse_args()


class Bench:
    """The sides of one run, pinned ones apart, and what was noted about them."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = list(names)
        self.running: dict[tuple[str, bool], SideProcess] = {}
        self.notes: list[str] = []

    def start(self, pinned: bool) -> None:
        """One after another, so that a heavy start of one does not count as the failure of another."""
        core = max(os.sched_getaffinity(0)) if pinned else -1
        for name in list(self.names):
            first = self.running.get((name, False))
            if pinned and first and not (first.can_pin and first.rows & PINNED):
                continue
            side = SideProcess(name, core)
            try:
                side.wait_started()
            except SideFailed as failure:
                side.stop()
                if not pinned:
                    self.names.remove(name)
                self.notes.append(f"{name}{' on one core' if pinned else ''}: left out ({failure})")
            except BaseException:
                side.stop()
                raise
            else:
                self.running[name, pinned] = side

    def start_load(self) -> None:
        """After the rounds, and in place of the others: it is many processes."""
        self.stop()
        self.names = [LOAD]
        self.start(pinned=False)

    def stop(self) -> None:
        for side in self.running.values():
            side.stop()
        self.running.clear()

    def measured(self, name: str, row: Row, seconds: float) -> float | None:
        side = self.running.get((name, row.pinned))
        if side is None or row.asks not in side.rows:
            return None
        try:
            return side.measure(row.asks, 0 if row.once else seconds, row.size) / row.operations
        except SideFailed as failure:
            note = f"{name}: {row.name} failed ({failure})"
            if note not in self.notes:
                self.notes.append(note)
            if side.process.poll() is not None:
                side.stop()
                del self.running[name, row.pinned]
            return None

    def surveyed(self, what: str, count: int, seconds: float) -> list[Any]:
        """What the side says, so many times; less often if it fails."""
        found = []
        for turn in range(count):
            progress(f"round {turn + 1} of {count}: {what}")
            try:
                found.append(self.running[SURVEYS[what], False].survey(what, seconds))
            except (SideFailed, KeyError) as failure:
                self.notes.append(f"{what}: failed ({failure})")
                break
        progress("")
        return found

    def rounds(self, rows: Sequence[Row], count: int, seconds: float) -> Figures:
        figures = Figures(tuple(self.names))
        for turn in range(count):
            first = turn % max(1, len(self.names))  # whoever comes first in a row changes from round to round
            for row in rows:
                progress(f"round {turn + 1} of {count}: {row.name}")
                for name in self.names[first:] + self.names[:first]:
                    figures.add(row, name, self.measured(name, row, seconds))
        progress("")
        return figures


def progress(text: str) -> None:
    """One line that overwrites itself, for whoever watches."""
    if sys.stderr.isatty():
        print(f"\r{text:40}\r{text}", end="", file=sys.stderr, flush=True)


def head(count: int, seconds: float) -> list[str]:
    python = f"{platform.python_implementation()} {platform.python_version()} on {platform.system()}"
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    load = f"load average at the start {os.getloadavg()[0]:.1f}"
    return [
        f"{cpu_model()}, {os.cpu_count()} cores; {python}; {versions(DISTRIBUTIONS)}. {now}, {load}.",
        f"Median of {count} interleaved rounds of {seconds} s per figure, the best round in brackets. {EXPLAINED}",
    ]


def measured_page(options: argparse.Namespace, bench: Bench) -> str:
    def is_wanted(name: str) -> bool:
        return not options.only or name in options.only

    rows = [row for row in ROWS if is_wanted(row.name)]
    count, seconds = (3, 0.1) if options.quick else (7, 0.4)
    parts = ["# Measured", *head(count, seconds)]
    asked = [what for what in SURVEYS if is_wanted(what) and (what in (options.only or ()) or not options.side)]
    if any(not row.pinned for row in rows) or "system" in asked:
        bench.start(pinned=False)
    if any(row.pinned for row in rows):
        bench.start(pinned=True)
    labels = {name: side.label for (name, _), side in bench.running.items()}
    limits = [f"{s.label}: {s.limits}" for (_, pinned), s in bench.running.items() if s.limits and not pinned]
    bench.names = [name for name in bench.names if name in labels]
    figures = bench.rounds(rows, count, seconds)
    parts += main_tables(figures, labels, BASE)
    if "system" in asked and (found := bench.surveyed("system", 1, max(1.0, seconds))):
        parts.append(sentences(found[0]))
    parts += targets_table(figures, labels, BASE)
    parts += section_tables(figures, labels, BASE)
    if {"grid", "overload"} & set(asked):
        bench.start_load()
    for what, drawn in (("overload", overload_table), ("grid", grid_table)):
        if what in asked and (found := bench.surveyed(what, min(count, 5), seconds)):
            parts.append(drawn(found))
    if notes := limits + bench.notes:
        parts += ["## Notes", "\n".join(f"* {note}" for note in notes)]
    return "\n\n".join(parts) + "\n"


def main() -> None:
    options = arguments()
    bench = Bench(options.side or SIDES)
    try:
        page = measured_page(options, bench)
    finally:
        bench.stop()
    print(page)
    out = options.out or (None if options.only or options.side else RESULTS)
    if out:
        out.write_text(page)
        print(f"written to {out}", file=sys.stderr)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
