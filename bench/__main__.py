"""`python -m bench`: mob and its peers side by side, in rounds; prints the tables and writes bench/RESULTS.md.

    python -m bench                       all rows, all sides, about two minutes
    python -m bench --quick               short rounds: to see that it works, not to quote
    python -m bench --only awaited        one row (may be repeated); writes no file unless --out is given
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

from bench.measure import ROWS, Figures, Row, cpu_model, report, versions
from bench.side import SideFailed, SideProcess

SIDES = ("mob_side", "floor", "pipe", "pool", "zmq_side", "xoscar_side")
DISTRIBUTIONS = ("mobsters", "msgspec", "uvloop", "pyzmq", "xoscar")
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
        "--only", action="append", metavar="ROW", choices=[row.name for row in ROWS], help="this row only: %(choices)s"
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
            if pinned and (name, False) in self.running and not self.running[name, False].rows & PINNED:
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

    def stop(self) -> None:
        for side in self.running.values():
            side.stop()
        self.running.clear()

    def measured(self, name: str, row: Row, seconds: float) -> float | None:
        side = self.running.get((name, row.pinned))
        if side is None or row.asks not in side.rows:
            return None
        try:
            return side.measure(row.asks, 0 if row.once else seconds) / row.operations
        except SideFailed as failure:
            note = f"{name}: {row.name} failed ({failure})"
            if note not in self.notes:
                self.notes.append(note)
            if side.process.poll() is not None:
                side.stop()
                del self.running[name, row.pinned]
            return None

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


def main() -> None:
    options = arguments()
    rows = [row for row in ROWS if not options.only or row.name in options.only]
    count, seconds = (3, 0.1) if options.quick else (7, 0.4)
    top = head(count, seconds)
    bench = Bench(options.side or SIDES)
    try:
        if any(not row.pinned for row in rows):
            bench.start(pinned=False)
        if any(row.pinned for row in rows):
            bench.start(pinned=True)
        labels = {name: side.label for (name, _), side in bench.running.items()}
        limits = [
            f"{side.label}: {side.limits}" for (_, pinned), side in bench.running.items() if side.limits and not pinned
        ]
        bench.names = [name for name in bench.names if name in labels]
        figures = bench.rounds(rows, count, seconds)
    finally:
        bench.stop()
    page = report(figures, labels, top, limits + bench.notes, base="mob_side")
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
