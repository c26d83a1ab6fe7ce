"""What the sides that sum tables share: they make the tables, and time calls one after another."""

from __future__ import annotations

from time import perf_counter
from typing import Any

from bench import tables_work
from bench.side import BaseSide


class TablesSide(BaseSide):
    """A side with a worker that sums what it is given."""

    def start(self) -> None:
        self.tables: dict[str, Any] = {}

    def sum_of(self, table: Any) -> float:
        """Send a table to the worker, and return the sum that comes back."""
        raise NotImplementedError

    def timed(self, name: str, count: float) -> list[float]:
        """Return the seconds of so many calls, after one that is not counted."""
        if name not in self.tables:
            self.tables = {name: tables_work.MADE[name]()}
        table = self.tables[name]
        expected = tables_work.total(table)
        found = []
        for _ in range(int(count) + 1):
            start = perf_counter()
            result = self.sum_of(table)
            found.append(perf_counter() - start)
            if abs(result - expected) > 1:
                raise RuntimeError(f"{result} is not the sum, {expected}")
        return found[1:]

    def pandas(self, count: float) -> list[float]:
        return self.timed("pandas", count)

    def polars(self, count: float) -> list[float]:
        return self.timed("polars", count)

    def pandas_texts(self, count: float) -> list[float]:
        return self.timed("pandas_texts", count)

    def polars_texts(self, count: float) -> list[float]:
        return self.timed("polars_texts", count)

    def small(self, count: float) -> list[float]:
        return self.timed("small", 20 * count)
