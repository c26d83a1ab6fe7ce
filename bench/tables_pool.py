"""`concurrent.futures.ProcessPoolExecutor` with one worker: tables are pickled and go through a pipe."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from bench import tables_work
from bench.side import die_with_parent
from bench.tables_sides import TablesSide


class Side(TablesSide):
    label = "ProcessPoolExecutor"

    def start(self) -> None:
        super().start()
        spawn = multiprocessing.get_context("spawn")  # polars has threads, which a fork does not survive
        self.pool = ProcessPoolExecutor(1, mp_context=spawn, initializer=die_with_parent)
        self.pool.submit(abs, 1).result()

    def stop(self) -> None:
        self.pool.shutdown()

    def sum_of(self, table: Any) -> float:
        return self.pool.submit(tables_work.total, table).result()
