"""`concurrent.futures.ProcessPoolExecutor` with one worker: what the standard library offers for calls.

Awaited through `run_in_executor` on uvloop, blocking through `submit(...).result()`. Limits: one caller process;
pickled; calls pass a helper thread of the executor, which is what they mostly cost. It has no revival: a pool
whose worker died is broken for good.
"""

from __future__ import annotations

import asyncio
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from time import perf_counter

from bench.cpu import MeasuresCpu
from bench.measure import MEGABYTE, WIDTH
from bench.side import BaseSide, die_with_parent, new_loop


def echo(value: object) -> object:
    return value


class Side(MeasuresCpu, BaseSide):
    label = "ProcessPoolExecutor"
    limits = "one worker; awaited calls by run_in_executor on uvloop; no revival, a death breaks the pool"

    def start(self) -> None:
        fork = multiprocessing.get_context("fork")
        self.pool = ProcessPoolExecutor(1, mp_context=fork, initializer=die_with_parent)
        self.pool.submit(echo, 1).result()
        self.runner = asyncio.Runner(loop_factory=new_loop)

    def stop(self) -> None:
        self.runner.close()
        self.pool.shutdown()

    def awaited(self, n: int) -> float:
        return self.runner.run(self._awaited(n))

    async def _awaited(self, n: int) -> float:
        run = asyncio.get_running_loop().run_in_executor
        start = perf_counter()
        for _ in range(n):
            await run(self.pool, echo, 1)
        return perf_counter() - start

    def at_once(self, n: int) -> float:
        return self.runner.run(self._at_once(n))

    async def _at_once(self, n: int) -> float:
        run = asyncio.get_running_loop().run_in_executor
        start = perf_counter()
        for _ in range(n):
            await asyncio.gather(*(run(self.pool, echo, 1) for _ in range(WIDTH)))
        return perf_counter() - start

    def _calls(self, n: int, value: object) -> float:
        submit = self.pool.submit
        start = perf_counter()
        for _ in range(n):
            submit(echo, value).result()
        return perf_counter() - start

    def blocking(self, n: int) -> float:
        return self._calls(n, 1)

    def megabyte(self, n: int) -> float:
        return self._calls(n, bytes(MEGABYTE))
