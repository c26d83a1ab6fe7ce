"""Ray: an actor with an async method, awaited from the driver; arrays go through its shared memory.

Limits: Ray starts some ten processes, so it is not started again for the rows on one core, and of its CPU time only
that of the driver and of the actor is counted. It is an extra of its own, `bench-ray`.
"""

from __future__ import annotations

# Only `make bench` installs it. pyright is told so by the next line.
# pyright: reportMissingImports=false, reportMissingModuleSource=false
import os
import secrets
from collections.abc import Coroutine
from typing import Any

# Read when Ray is imported. With a token of this run's own it writes none into the home folder.
os.environ |= {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": secrets.token_hex(32),
}

import numpy
import ray

from bench.cpu import MeasuresCpu
from bench.loops import AwaitedSide
from bench.measure import ARRAY

STORE = 512 * 1024 * 1024


class Echo:
    async def echo(self, value: Any) -> Any:
        return value

    async def pid(self) -> int:
        return os.getpid()


class Side(MeasuresCpu, AwaitedSide):
    label = "Ray"
    limits = "one async actor, awaited on uvloop; arrays by its shared memory; CPU without its daemons"
    can_pin = False

    async def connect(self) -> None:
        ray.init(
            address="local",  # never a cluster that the environment names
            num_cpus=2,
            object_store_memory=STORE,
            include_dashboard=False,
            log_to_driver=False,
            _temp_dir=os.environ.get("TMPDIR"),
        )
        self.actor = ray.remote(Echo).remote()
        self.pid = ray.get(self.actor.pid.remote(), timeout=40)

    async def disconnect(self) -> None:
        ray.shutdown()

    def processes(self) -> list[int]:
        return [os.getpid(), self.pid]

    def call(self, value: Any) -> Coroutine[Any, Any, Any]:
        return self._call(value)

    async def _call(self, value: Any) -> Any:
        return await self.actor.echo.remote(value)

    def array(self, n: int) -> float:
        return self.runner.run(self.one_by_one(n, numpy.zeros(ARRAY // 8)))
