"""mob.Pool beside the pools that Python code uses otherwise. `python -m bench.pools` writes bench/POOLS.md.

    python -m bench.pools                    all rows, all pools; about twenty minutes
    python -m bench.pools --quick            to see that it works, not to quote; three minutes
    python -m bench.pools --row burst        one group of rows (may be repeated); writes no file unless --out is given
    python -m bench.pools --side Mob         one pool (may be repeated); likewise

Each pool has two workers and a process of its own, which stays up through the run. In each round every pool runs every
row once; whoever comes first changes from round to round. A figure is the median, the best round in brackets.

* The function of a module, and that of `__main__`, return what they are given. The latter can be imported nowhere.
* Map: the best of four chunk sizes for each pool, found in the first round. A pool whose chunk size is by default so
  small that the map would take minutes is given fewer items, and its time is scaled; the remarks say so.
* Jobs use CPU time. Ideal is half of the sum. It is not quite to be had: the script needs some for itself.
* Arrays: float64, each made just before it is sent, four under way.
* Cold start: from the start of the interpreter to its end.
* After the kill of a worker, a call counts as failed if it raises, and also if it has no answer after three seconds.
  How long the others take is asked of pools that do not break.
* Idle: over five seconds, in a script that has used its pool once.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from bench.measure import Figures, cpu_model, versions
from bench.pools_tables import FIGURES, RARE, tables
from bench.side import SideFailed, SideProcess

SIDES = ("Mob", "StandardExecutor", "StandardPool", "Loky", "Joblib", "JoblibMob", "Mpire", "Ray")
ROWS = tuple(dict.fromkeys(row.method for row in FIGURES))
DISTRIBUTIONS = ("mobsters", "cloudpickle", "numpy", "loky", "joblib", "mpire", "ray")
ROUNDS, FEW = 5, 3
REPORT = Path(__file__).with_name("POOLS.md")


class PoolProcess(SideProcess):
    SURVEY = 600.0  # some rows are slow beside other work, and lose nothing by that


class Bench:
    """One run: the sides, their figures, and what was remarked about them."""

    def __init__(self, names: Sequence[str]) -> None:
        self.notes: list[str] = []
        self.remarks: dict[tuple[str, str], str] = {}
        self.running: dict[str, PoolProcess] = {}
        for name in names:
            progress(f"starting {name}")
            self._start(f"pools_sides:{name}")
        self.figures = Figures(tuple(self.running))
        self.labels = {name: side.label for name, side in self.running.items()}

    def _start(self, name: str) -> None:
        side = PoolProcess(name)
        try:
            side.wait_started()
        except SideFailed as failure:
            side.stop()
            self.notes.append(f"{name.partition(':')[2]}: left out ({failure})")
        except BaseException:
            side.stop()
            raise
        else:
            self.running[name] = side

    def run(self, rows: Sequence[str], rounds: int, few: int, scale: float) -> None:
        names = list(self.running)
        for turn in range(rounds):
            first = turn % max(1, len(names))
            for row in rows:
                if turn >= few and row in RARE:
                    continue
                for name in names[first:] + names[:first]:
                    progress(f"round {turn + 1} of {rounds}: {row}, {self.labels[name]}")
                    self._measure(name, row, scale)

    def _measure(self, name: str, row: str, scale: float) -> None:
        side = self.running.get(name)
        if side is None or row not in side.rows:
            return
        try:
            found = side.survey(row, scale)
        except SideFailed as failure:
            self.remarks[name, row] = f"failed ({failure})"
            found = {}
            if side.process.poll() is not None:
                side.stop()
                del self.running[name]
        if remark := found.pop("remark", ""):
            self.remarks[name, row] = remark
        for figure in FIGURES:
            if figure.method == row:
                self.figures.add(figure, name, found.get(figure.name))

    def remarked(self) -> list[str]:
        limits = [f"{side.label}: {side.limits}" for side in self.running.values() if side.limits]
        remarks = [f"{self.labels[name]}, {row}: {remark}" for (name, row), remark in sorted(self.remarks.items())]
        return limits + remarks + self.notes

    def stop(self) -> None:
        for side in self.running.values():
            side.stop()


def progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def head(rounds: int, few: int) -> str:
    python = f"{platform.python_implementation()} {platform.python_version()} on {platform.system()}"
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    machine = f"{cpu_model()}, {os.cpu_count()} cores; {python}; {versions(DISTRIBUTIONS)}."
    load = f"{now}, load average at the start {os.getloadavg()[0]:.1f}."
    return f"{machine} {load} {rounds} interleaved rounds, {few} of the cold start and of what is idle."


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.pools", description="Measures pools of processes.")
    parser.add_argument("--quick", action="store_true", help="one round of a tenth: to see that it works, not to quote")
    parser.add_argument("--rounds", type=int, default=ROUNDS, metavar="N", help="default: %(default)s")
    parser.add_argument("--row", action="append", choices=ROWS, metavar="ROW", help="these rows only: %(choices)s")
    parser.add_argument("--side", action="append", choices=SIDES, metavar="SIDE", help="these only: %(choices)s")
    parser.add_argument("--out", type=Path, help="the file to write (default: bench/POOLS.md, for a full run)")
    given = parser.parse_args()
    rounds, scale = (1, 0.1) if given.quick else (given.rounds, 1.0)
    few = min(FEW, rounds)
    parts = ["# Pools for any function, measured", head(rounds, few)]
    bench = Bench(given.side or SIDES)
    try:
        bench.run(given.row or ROWS, rounds, few, scale)
        parts += [*tables(bench.figures, bench.labels), (__doc__ or "").split("\n\n", 2)[2].strip()]
        parts += ["## Remarks", "\n".join(f"* {remark}" for remark in bench.remarked())]
    finally:
        bench.stop()
    text = "\n\n".join(parts) + "\n"
    print(text)
    out = given.out or (None if given.row or given.side or given.quick else REPORT)
    if out:
        out.write_text(text)
        print(f"written to {out}", file=sys.stderr)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
