"""`python -m bench.soak --calls 5000000`: whether memory stays flat, in every process, over millions of calls.

An app of three mobsters calls itself in every way: ordinary calls, callbacks, streams read to the end and left early,
buffers of 64 KiB to 1 MiB. After a warm-up, and at the end, garbage is collected and pools of shared memory have had
the time to shrink; then PSS and USS of every process are compared. Exit code 1 if one has grown beyond the limit.

Limits: Linux (psutil reads smaps). PSS shares out what several processes map, so it moves by the fork server's pages
when a mobster writes to one of them; USS does not.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import psutil

from bench.mob_side import App, new_name, running

MAIN = Path(__file__).resolve().parent / "apps" / "soak.py"
MOBSTERS = 3
PORTION = 50_000
"""Calls between two lines of progress."""
COOLING = 12.0
"""Seconds in which a pool of shared memory that nobody uses has given back what it does not need."""
MIB = 1024 * 1024


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description="Memory over millions of calls.")
    parser.add_argument("--calls", type=int, default=5_000_000)
    parser.add_argument("--warm-up", type=int, default=500_000, help="calls before the first look (%(default)s)")
    parser.add_argument("--limit", type=float, default=5.0, help="per cent that a process may grow (%(default)s)")
    return parser.parse_args()


class Memory:
    """What each process of the app has, by its title: (PSS, USS) in bytes."""

    def __init__(self, app: App) -> None:
        for role in ("front", "back"):
            app.client.all(role).call.collect().result(30)
        time.sleep(COOLING)
        kingpin = psutil.Process(app.process.pid)
        self.of: dict[str, tuple[int, int]] = {}
        for process in (kingpin, *kingpin.children(recursive=True)):
            full = process.memory_full_info()
            self.of[f"{title_of(process).partition(' ')[2]}, pid {process.pid}"] = (full.pss, full.uss)


def title_of(process: psutil.Process) -> str:
    """What a mobster calls itself; a fork server and a Kingpin too."""
    return (process.cmdline() or [process.name()])[0]


def work(app: App, calls: int, made: int = 0) -> int:
    """Makes so many calls, in portions; how many there were in all."""
    front = app.client.require("front")
    end, start, begun_with = made + calls, time.perf_counter(), made
    while made < end:
        made += front.some(min(PORTION, end - made)).result()
        rate = (made - begun_with) / (time.perf_counter() - start)
        print(f"\r{made:12,} calls, {rate:8,.0f} a second", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return made


def grown(before: Memory, after: Memory, limit: float) -> list[str]:
    """A line for each process; those beyond the limit say so."""
    lines: list[str] = []
    for name in sorted(before.of.keys() | after.of.keys()):
        if name not in before.of or name not in after.of:
            lines.append(f"{name}: it was not there all the time, BEYOND the limit")
            continue
        parts = []
        for what, was, now in zip(("PSS", "USS"), before.of[name], after.of[name], strict=True):
            change = 100 * (now - was) / was
            beyond = ", BEYOND the limit" if change > limit else ""
            parts.append(f"{what} {was / MIB:6.2f} -> {now / MIB:6.2f} MiB ({change:+.1f} %{beyond})")
        lines.append(f"{name:32} {'   '.join(parts)}")
    return lines


def main() -> int:
    asked = arguments()
    with running(MAIN, new_name(), MOBSTERS) as app:
        made = work(app, asked.warm_up)
        before = Memory(app)
        start = time.perf_counter()
        made = work(app, asked.calls - made, made)
        seconds = time.perf_counter() - start
        after = Memory(app)
    print(f"{made:,} calls, {seconds:.0f} s after the warm-up of {asked.warm_up:,}")
    lines = grown(before, after, asked.limit)
    print("\n".join(lines))
    return 1 if any("BEYOND" in line for line in lines) else 0


if __name__ == "__main__":
    sys.exit(main())
