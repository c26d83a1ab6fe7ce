"""mob under load, on its own: callers by workers, and short calls beside slow ones. No column; two tables.

The grid: each caller keeps ten calls under way. Short beside slow: of the calls of 8 callers to 4 workers 99 in 100
take 1 ms and one takes 200 ms, asleep in a `def` export, so its worker does nothing else. Once each caller sends 40 a
second at random moments, 30 % of what the workers can do: a call has to wait only if the wrong worker was chosen, or
all sleep. Once each sends one after another, which is more than the workers can do. The same calls are sent where
mob thinks best and to each worker in turn.
"""

from __future__ import annotations

from statistics import quantiles
from typing import Any

from bench.load_tables import MOB, RATE, STEPS, TURN, WIDTH, Cell
from bench.mob_side import APPS, PATIENCE, App, new_name
from bench.side import BaseSide

LEAST = 2.0  # seconds of one measurement beside slow calls, for they are few


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

    def overload(self, target: float) -> dict[str, list[float]]:
        """By way: p99 and p90 of the short calls at a pace, p99 of those one after another."""
        self.seed += 1
        seconds, found = max(LEAST, target), {}
        for way, pids in ((MOB, []), (TURN, self.workers)):
            paced = self._mixed("paced", seconds, RATE, pids=pids)
            steady = self._mixed("steady", seconds, pids=pids)
            found[way] = [percentile(paced, 99), percentile(paced, 90), percentile(steady, 99)]
        return found

    def _mixed(self, name: str, *arguments: Any, pids: list[int]) -> list[float]:
        calls = [
            getattr(self.app.client.pid(pid).call, name)("back4", *arguments, self.seed * 100 + index, pids)
            for index, pid in enumerate(self.callers)
        ]
        return [time for call in calls for time in call.result(PATIENCE)]
