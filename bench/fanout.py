"""Work finds workers: how well ordinary calls spread over workers. `python -m bench.fanout` writes bench/FANOUT.md.

    python -m bench.fanout                        all parts, about fifteen minutes
    python -m bench.fanout --quick                to see that it works, not to quote; under a minute
    python -m bench.fanout waiting fairness       these parts only; writes no file unless --out is given
    python -m bench.fanout --label "before"       a word in the head of the page

What is measured is what a user does: `[work.nap(i, s) for i in range(n)]`, then `.result()` of each, from a client and
inside a `def` export of a role. Beside it is `ProcessPoolExecutor(2)`, with `submit`, and with `map` in the chunk size
that was the best in a trial. Figures are medians of interleaved rounds. The number beside a time is the share of ideal,
the median of the ratios of the single rounds. Ideal is the mean time of the function alone in one process, times n / 2;
for calls that are busy, and beside a process that takes a whole core, it is what two bare processes need.

Limits: on two cores the caller takes some of the time of two busy workers, which ideal has for itself. A core that has
slept for long wakes later, so many very short sleeps can take less than ideal, which one process measures.
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from time import monotonic
from types import FrameType

import mob
from bench import fanout_tables as tables
from bench.apps import fanout_ways
from bench.fanout_peers import Bare, Pool, taken_core
from bench.fanout_tables import BEST, SIDES, Part, Work
from bench.measure import Figures, cpu_model, versions
from bench.mob_side import APPS, App, new_name, running

MAIN, LOAD = APPS / "fanout.py", APPS / "load.py"
REPORT = Path(__file__).with_name("FANOUT.md")
WORKS = (*map(Work, (0.2, 1, 2, 5, 20, 100)), *(Work(each, is_busy=True) for each in (1, 5, 20)))
BUSY_WORKS = tuple(Work(each, is_busy) for is_busy in (False, True) for each in (1, 5, 20))
CALLERS = 16
PENDING = (0, 2, 3, 12, 100, 10_000)
FIGURE = 120.0  # seconds after which a figure is given up, and its part with it


@dataclass(frozen=True)
class Scale:
    """How long everything takes."""

    rounds: int = 5
    few_rounds: int = 3  # of what takes long
    trials: int = 2
    total: float = 0.8  # ideal seconds of a figure of calls
    waiting: float = 3.0
    length: float = 0.5  # of the calls that are waited for
    callers: float = 4.0
    fairness: float = 10.0
    scatter: float = 1.0


QUICK = Scale(1, 1, 1, 0.1, 0.5, 0.2, 0.7, 1.5, 0.3)


class Bench:
    """One run: the peers, and a method for each part."""

    def __init__(self, scale: Scale) -> None:
        self.scale = scale
        self.bare, self.pool = Bare(), Pool()
        self.loops = self.bare.ask("loops_per_second") / 1000  # in a millisecond

    def stop(self) -> None:
        self.pool.stop()
        self.bare.stop()

    def calls(self) -> Part:
        figures, spread_out = self._calls(WORKS, is_shared=False)
        return Part("Calls over two workers", [spread_out], tables.calls_targets(figures, WORKS))

    def busy(self) -> Part:
        with taken_core():
            figures, spread_out = self._calls(BUSY_WORKS, is_shared=True)
        return Part("Beside a process that takes a whole core", [spread_out], tables.busy_targets(figures, BUSY_WORKS))

    def _calls(self, works: tuple[Work, ...], is_shared: bool) -> tuple[Figures, str]:
        """`is_shared`: others take part of the cores."""
        figures, chunks = Figures(SIDES), {}
        counts = {work: work.count(self.scale.total) for work in works}
        with running(MAIN, new_name(), 3, "work=2", "caller=1") as app:
            for work in works:
                chunks[work] = self.pool.best_chunk(work.single, counts[work], self._argument(work), self.scale.trials)
            for turn in self._rounds("busy" if is_shared else "calls", self.scale.rounds):
                for work in works:
                    sides = self._sides(app, work, counts[work], chunks[work], is_shared)
                    found: dict[str, float | None] = {}
                    for side in (*SIDES[turn % len(SIDES) :], *SIDES[: turn % len(SIDES)]):
                        with bounded(FIGURE):
                            found[side] = sides[side]()
                    found[BEST] = min(filter(None, (found["submit"], found["map"])))
                    for side, seconds in found.items():
                        figures.add(work.row(), side, seconds)
        return figures, tables.calls_table(figures, works, counts, chunks)

    def _argument(self, work: Work) -> float:
        return int(work.milliseconds * self.loops) if work.is_busy else work.milliseconds / 1000

    def _sides(
        self, app: App, work: Work, n: int, chunk: int, is_shared: bool
    ) -> dict[str, Callable[[], float | None]]:
        argument = self._argument(work)
        plain, single = (work.plain, n, argument), (work.single, n, argument)
        client, caller = app.client.require("work"), app.client.require("caller")
        ideal = self.bare.together if work.is_busy or is_shared else self.bare.alone
        return {
            "ideal": partial(ideal, *single),
            "client": partial(fanout_ways.plain, client, *plain),
            "role": lambda: caller.plain(*plain).result(FIGURE),
            "client .map": partial(fanout_ways.mapped, client, *single),
            "role .map": lambda: caller.mapped(*single).result(FIGURE),
            "submit": partial(self.pool.submit, *plain),
            "map": partial(self.pool.map, *single, chunk),
        }

    def waiting(self) -> Part:
        scale, found = self.scale, {pending: {} for pending in PENDING}
        with running(MAIN, new_name(), 3, "work=2", "caller=1") as app:
            work, caller = app.client.require("work"), app.client.require("caller")
            for _ in self._rounds("waiting", scale.few_rounds):
                for pending in PENDING:
                    asked = (pending, scale.waiting, scale.length)
                    ways: dict[str, Callable[[], float]] = {
                        "client, `.result()`": partial(fanout_ways.held, work, *asked),
                        "role, `.result()`": lambda asked=asked: caller.held(*asked).result(FIGURE),
                        "role, awaited": lambda asked=asked: caller.awaited(*asked).result(FIGURE),
                    }
                    for way, measure in ways.items():
                        with bounded(FIGURE):
                            found[pending].setdefault(way, []).append(measure())
                            app.client.all("work").call.nap(0, 0).result()  # what was cancelled has ended
        return tables.waiting_part(found, scale.length)

    def callers(self) -> Part:
        seconds, found = self.scale.callers, {1: [], 4: [], CALLERS: []}
        with self._many_callers() as (app, pids):
            for _ in self._rounds("callers", self.scale.rounds):
                for count, rates in found.items():
                    done = kept(app, pids[:count], "burn", int(20 * self.loops), seconds, 5)
                    rates.append(sum(done) / seconds)
        return tables.callers_part(found)

    def fairness(self) -> Part:
        with self._many_callers() as (app, pids):
            found = [
                kept(app, pids, "nap", 0.005, self.scale.fairness, 10)
                for _ in self._rounds("fairness", self.scale.few_rounds)
            ]
        return tables.fairness_part(found, self.scale.fairness)

    @contextmanager
    def _many_callers(self) -> Iterator[tuple[App, list[int]]]:
        with running(MAIN, new_name(), 2 + CALLERS, "work=2", f"caller={CALLERS}") as app:
            pids = pids_of(app, "caller")
            kept(app, pids, "nap", 0.001, 0.2, 1)  # all have their links
            yield app, pids

    def early(self) -> Part:
        ways = {"client": early_client, "role, while it is imported": early_role}
        found = {side: [] for side in ways}
        for _ in self._rounds("early", self.scale.rounds):
            for side, measure in ways.items():
                with bounded(FIGURE):
                    found[side].append(measure(4))
        return tables.early_part(found)

    def scatter(self) -> Part:
        rates: dict[str, list[float]] = {"back1": [], "back8": []}
        with running(LOAD, new_name(), 23) as app:
            spin, seconds = app.client.pid(pids_of(app, "caller")[0]).call.spin, self.scale.scatter
            for turn in self._rounds("scatter", self.scale.rounds):
                for role in rates if turn % 2 else reversed(rates):
                    spin(role, seconds / 5, 10).result(FIGURE)  # warm
                    rates[role].append(len(spin(role, seconds, 10).result(FIGURE)) / seconds)
        return tables.scatter_part(rates["back1"], rates["back8"])

    @staticmethod
    def _rounds(part: str, count: int) -> Iterator[int]:
        for turn in range(count):
            print(f"{part}: round {turn + 1} of {count}", file=sys.stderr, flush=True)
            yield turn


def pids_of(app: App, role: str) -> list[int]:
    return [member.pid for member in app.client.members() if member.role == role]


def kept(app: App, pids: list[int], name: str, argument: float, seconds: float, width: int) -> list[int]:
    """Have all these callers keep `width` calls under way for so many seconds; return how many each has done."""
    begin = monotonic() + 0.2
    calls = [app.client.pid(pid).call.kept(name, argument, begin, seconds, width) for pid in pids]
    return [call.result(FIGURE) for call in calls]


def early_client(workers: int) -> list[int]:
    app = App(MAIN, new_name(), f"late={workers}")
    try:
        late = app.client.require("late")
        calls = [late.who(0.002) for _ in range(1000)]
        return per_worker([call.result() for call in calls], workers)
    finally:
        app.stop()


def early_role(workers: int) -> list[int]:
    with running(MAIN, new_name(), workers + 1, f"late={workers}", "early=1") as app:
        return per_worker(app.client.require("early").answers().result(), workers)


def per_worker(answers: list[int], workers: int) -> list[int]:
    counts = list(Counter(answers).values())
    return counts + [0] * (workers - len(counts))


@contextmanager
def bounded(seconds: float) -> Iterator[None]:
    """Raise TimeoutError in the main thread, whatever it waits for, when it takes longer."""

    def give_up(signum: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"took longer than {seconds:g} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


PARTS: dict[str, Callable[[Bench], Part]] = {
    "calls": Bench.calls,
    "busy": Bench.busy,
    "waiting": Bench.waiting,
    "callers": Bench.callers,
    "fairness": Bench.fairness,
    "early": Bench.early,
    "scatter": Bench.scatter,
}


def head(scale: Scale, label: str) -> str:
    python = f"{platform.python_implementation()} {platform.python_version()} on {platform.system()}"
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    machine = f"{cpu_model()}, {os.cpu_count()} cores; {python}; {versions(['mobsters', 'uvloop', 'msgspec'])}."
    load = f"{now}, load average at the start {os.getloadavg()[0]:.1f}."
    rounds = f"Medians of interleaved rounds: {scale.rounds}, and {scale.few_rounds} of what takes long."
    return " ".join([machine, load, rounds, *([f"{label}."] if label else [])])


def page(names: list[str], scale: Scale, label: str) -> str:
    top, parts, found, notes = ["# Work finds workers, measured", head(scale, label)], [], [], []
    bench = Bench(scale)
    try:
        for name in names:
            try:
                part = PARTS[name](bench)
            except (mob.MobError, TimeoutError, RuntimeError) as error:
                notes.append(f"* {name}: failed ({type(error).__name__}: {error})")
                print(notes[-1], file=sys.stderr, flush=True)
                continue
            found.append(part)
            load = f"Load average after it: {os.getloadavg()[0]:.1f}."
            parts += [f"## {part.title}", *part.tables, load]
            print("\n\n".join(parts[-len(part.tables) - 2 :]) + "\n", flush=True)
    finally:
        bench.stop()
    targets = [target for part in found for target in part.targets]
    top += ["Targets, and whether this run met them:", tables.targets_table(targets)]
    top.append((__doc__ or "").split("\n\n", 2)[2].strip())
    return "\n\n".join([*top, *parts, *(["## Notes", "\n".join(notes)] if notes else [])]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.fanout", description="Measures how work finds workers.")
    parser.add_argument("part", nargs="*", help=f"these parts only: {', '.join(PARTS)}")
    parser.add_argument("--quick", action="store_true", help="short rounds: to see that it works, not to quote")
    parser.add_argument("--label", default="", metavar="TEXT", help="a word in the head of the page")
    parser.add_argument(
        "--out", type=Path, help="the file to write (default: bench/FANOUT.md, for a full run of all parts)"
    )
    given = parser.parse_args()
    if unknown := sorted(set(given.part) - set(PARTS)):
        parser.error(f"unknown part {unknown[0]!r}; the parts are {', '.join(PARTS)}")
    text = page(given.part or list(PARTS), QUICK if given.quick else Scale(), given.label)
    print(text)
    out = given.out or (None if given.part or given.quick else REPORT)
    if out:
        out.write_text(text)
        print(f"written to {out}", file=sys.stderr)


if __name__ == "__main__":
    main()
