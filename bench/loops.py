"""The rows of a side whose calls are awaited: it says how to `connect`, `call` and `disconnect`, and has them all."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from time import perf_counter
from typing import Any

from bench.measure import MEGABYTE, WIDTH
from bench.side import BaseSide, new_loop


class AwaitedSide(BaseSide):
    small: Any = 1  # what a call carries

    def start(self) -> None:
        self.runner = asyncio.Runner(loop_factory=new_loop)
        try:
            self.runner.run(self.connect())
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        try:
            self.runner.run(self.disconnect())
        finally:
            self.runner.close()

    async def connect(self) -> None: ...

    async def disconnect(self) -> None: ...

    def call(self, value: Any) -> Coroutine[Any, Any, Any]:
        """One call; what is awaited is its answer."""
        raise NotImplementedError

    async def one_by_one(self, n: int, value: Any) -> float:
        start = perf_counter()
        for _ in range(n):
            await self.call(value)
        return perf_counter() - start

    async def gathered(self, n: int) -> float:
        start = perf_counter()
        for _ in range(n):
            await asyncio.gather(*(self.call(self.small) for _ in range(WIDTH)))
        return perf_counter() - start

    def awaited(self, n: int) -> float:
        return self.runner.run(self.one_by_one(n, self.small))

    def megabyte(self, n: int) -> float:
        return self.runner.run(self.one_by_one(n, bytes(MEGABYTE)))

    def at_once(self, n: int) -> float:
        return self.runner.run(self.gathered(n))
