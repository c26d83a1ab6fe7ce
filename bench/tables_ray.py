"""Ray: an actor that sums what it is given; large arguments go through its shared memory, without a copy there."""

from __future__ import annotations

# Only `make bench` installs it. pyright is told so by the next line.
# pyright: reportMissingImports=false, reportMissingModuleSource=false
import os
from typing import Any

from bench import ray_side, tables_work
from bench.tables_sides import TablesSide

ray = ray_side.ray


class Total:
    def total(self, table: Any) -> float:
        return tables_work.total(table)


class Side(TablesSide):
    label = "Ray"

    def start(self) -> None:
        super().start()
        ray.init(
            address="local",  # never a cluster that the environment names
            num_cpus=2,
            object_store_memory=ray_side.STORE,
            include_dashboard=False,
            log_to_driver=False,
            _temp_dir=os.environ.get("TMPDIR"),
        )
        self.actor = ray.remote(Total).remote()
        ray.get(self.actor.total.remote(tables_work.MADE["small"]()), timeout=40)

    def stop(self) -> None:
        ray.shutdown()

    def sum_of(self, table: Any) -> float:
        return ray.get(self.actor.total.remote(table))
