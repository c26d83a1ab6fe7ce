"""`python -m bench.observing`: what it costs to count, time and trace calls. Writes bench/OBSERVING.md.

The same app runs without metrics, with them, and with traces as well (spans that go nowhere), in turns; in each a
hundred calls at once are made again and again. Two figures for each: calls per second, the median of the rounds, and
processor time per call of both ends together, the least of the rounds, which says more on a machine that does other
things as well.

Limits: exports that do nothing, so the shares are the largest that there can be.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from time import perf_counter, sleep

import mob
from bench.mob_side import new_name
from bench.side import ROOT

MAIN = ROOT / "bench" / "apps" / "observed.py"
REPORT = ROOT / "bench" / "OBSERVING.md"
MODES = {"plain": "without metrics", "metrics": "with metrics (the default)", "traces": "with metrics and traces"}
EXPORTS = {"echo": "`def`", "aecho": "`async def`"}
WIDTH = 100
PATIENCE = 30.0


@dataclass
class Series:
    """The rounds of one export in one mode."""

    rates: list[float] = field(default_factory=list[float])
    costs: list[float] = field(default_factory=list[float])


def connected(name: str, process: subprocess.Popen[bytes]) -> mob.Client:
    deadline = perf_counter() + PATIENCE
    while perf_counter() < deadline and process.poll() is None:
        try:
            return mob.connect(name)
        except mob.AppNotRunning:
            sleep(0.005)
    raise RuntimeError(f"{name} did not start")


def measure(mode: str, repeats: int, table: dict[tuple[str, str], Series]) -> None:
    name = new_name()
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen([sys.executable, MAIN, name, mode], stdout=output, stderr=output)
        try:
            with connected(name, process) as client:
                caller, back = client.require("caller"), client.require("back")
                for export in EXPORTS:
                    caller.at_once(export, 20, WIDTH).result()  # warm
                    before = caller.cpu().result() + back.cpu().result()
                    seconds = caller.at_once(export, repeats, WIDTH).result()
                    spent = caller.cpu().result() + back.cpu().result() - before
                    series = table.setdefault((export, mode), Series())
                    series.rates.append(repeats * WIDTH / seconds)
                    series.costs.append(spent / (repeats * WIDTH))
        finally:
            process.terminate()
            process.wait()


def report(table: dict[tuple[str, str], Series], rounds: int) -> str:
    lines = [
        "# What observing costs",
        "",
        f"Made by `python -m bench.observing`: a hundred calls at once of exports that do nothing, {rounds} rounds, in",
        "turns. The processor time is that of both ends together.",
        "",
        "| export | mode | calls/s | of plain | µs of processor per call | plain is |",
        "|---|---|--:|--:|--:|--:|",
    ]
    for export, kind in EXPORTS.items():
        plain = table[export, "plain"]
        for mode, text in MODES.items():
            series = table[export, mode]
            rate, cost = median(series.rates), min(series.costs)
            share, cheaper = rate / median(plain.rates), min(plain.costs) / cost
            lines.append(f"| {kind} | {text} | {rate:,.0f} | {share:.0%} | {cost * 1e6:.2f} | {cheaper:.0%} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.observing", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--repeats", type=int, default=500, help="hundreds of calls in a round (%(default)s)")
    parser.add_argument("--write", type=Path, default=REPORT)
    given = parser.parse_args()
    table: dict[tuple[str, str], Series] = {}
    for number in range(given.rounds):
        for mode in MODES if number % 2 else reversed(MODES):
            measure(mode, given.repeats, table)
    text = report(table, given.rounds)
    given.write.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
