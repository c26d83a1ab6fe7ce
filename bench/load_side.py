"""mob under load, on its own: callers by workers, and short calls beside slow ones. No column; two tables.

The grid: each caller keeps ten calls under way. The overload: 8 callers send 40 calls a second each at random
moments to 4 workers; 99 of 100 take 1 ms, one takes 200 ms, asleep in a `def` export, so its worker does nothing
else. That is 30 % of what the workers can do: a call has to wait only when the wrong worker was chosen, or all sleep.
The same calls are sent where mob thinks best and to each worker in turn.
"""

from __future__ import annotations

from statistics import median, quantiles
from typing import Any

from bench.measure import as_rate, as_time, significant, table
from bench.mob_side import APPS, PATIENCE, App, new_name
from bench.side import BaseSide

STEPS = (1, 2, 4, 8)
WIDTH, RATE, LEAST = 10, 40, 2.0
MOB, TURN = "chosen by mob", "each worker in turn"

Cell = tuple[float, float, float]  # calls per second, p50 and p99 in seconds


def percentile(values: list[float], which: int) -> float:
    return quantiles(values, n=100, method="inclusive")[which - 1]


class Side(BaseSide):
    label = "mob under load"

    def start(self) -> None:
        self.app = App(APPS / "load.py", new_name())
        try:
            self.app.wait_ready(sum(STEPS) + max(STEPS))
        except BaseException:
            self.app.stop()
            raise
        self.callers, self.workers = self._pids("caller"), self._pids("back4")
        self.seed = 0

    def stop(self) -> None:
        self.app.stop()

    def _pids(self, role: str) -> list[int]:
        return [member.pid for member in self.app.client.members() if member.role == role]

    def _asked(self, count: int, name: str, *arguments: Any) -> list[float]:
        """The export's answers of so many callers, which work at the same time, in one list."""
        targets = [self.app.client.pid(pid).call for pid in self.callers[:count]]
        calls = [getattr(target, name)(*arguments) for target in targets]
        return [time for call in calls for time in call.result(PATIENCE)]

    def grid(self, target: float) -> list[list[Cell]]:
        return [[self._cell(callers, workers, target) for workers in STEPS] for callers in STEPS]

    def _cell(self, callers: int, workers: int, target: float) -> Cell:
        self._asked(callers, "spin", f"back{workers}", target / 5, WIDTH)
        took = self._asked(callers, "spin", f"back{workers}", target, WIDTH)
        return len(took) / target, percentile(took, 50), percentile(took, 99)

    def overload(self, target: float) -> dict[str, float]:
        """The p99 of the short calls, both ways."""
        self.seed += 1
        seconds, found = max(LEAST, target), {}
        for way, pids in ((MOB, []), (TURN, self.workers)):
            calls = [
                self.app.client.pid(pid).call.paced("back4", seconds, RATE, self.seed * 100 + index, pids)
                for index, pid in enumerate(self.callers)
            ]
            found[way] = percentile([time for call in calls for time in call.result(PATIENCE)], 99)
        return found


def grid_table(rounds: list[list[list[Cell]]]) -> str:
    def cell(callers: int, workers: int) -> str:
        rate, half, most = (median(values) for values in zip(*(one[callers][workers] for one in rounds), strict=True))
        return f"{as_rate(1 / rate)} {as_time(half)} / {as_time(most)}"

    title = f"## Callers by workers\n\nCalls per second, p50 / p99 of a call; {WIDTH} under way per caller, awaited."
    head = ["", *(f"{count} worker{'s' * (count > 1)}" for count in STEPS)]
    indices = range(len(STEPS))
    lines = ([f"{STEPS[row]} caller{'s' * (row > 0)}", *(cell(row, column) for column in indices)] for row in indices)
    return f"{title}\n\n{table(head, lines)}"


def overload_table(rounds: list[dict[str, float]]) -> str:
    mob, turn = (median(one[way] for one in rounds) for way in (MOB, TURN))
    ratio = significant(median(one[TURN] / one[MOB] for one in rounds))
    title = (
        f"## Overload\n\n8 callers send {RATE} calls a second each to 4 workers; 99 of 100 take 1 ms, one takes 200 ms."
    )
    line = ["p99 of short calls behind slow ones", as_time(mob), as_time(turn), ratio]
    return f"{title}\n\n{table(['', MOB, TURN, 'ratio'], [line])}"
