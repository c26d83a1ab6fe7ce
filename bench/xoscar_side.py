"""xoscar: an actor in one process calls an actor in another, over the Unix socket between two sub pools, on uvloop.

The loops run inside the calling actor. The callee is stateless, so that no actor lock stands in the way. For the
revival an actor of its own in a third sub pool is killed, and the pool's own recovery (`auto_recover="actor"`)
brings it back.
"""

from __future__ import annotations

# Only `make bench` installs it. pyright is told so by the next line.
# pyright: reportMissingImports=false, reportMissingModuleSource=false
import asyncio
import os
import signal
from time import perf_counter

import xoscar as xo

from bench.cpu import MeasuresCpu
from bench.measure import MEGABYTE, WIDTH
from bench.side import BaseSide, new_loop


class Echo(xo.StatelessActor):
    def echo(self, value: object) -> object:
        return value

    def pid(self) -> int:
        return os.getpid()


class Caller(xo.StatelessActor):
    def __init__(self, echo: xo.ActorRef) -> None:
        self.echo = echo

    async def one_by_one(self, n: int, value: object) -> float:
        echo = self.echo.echo
        start = perf_counter()
        for _ in range(n):
            await echo(value)
        return perf_counter() - start

    async def at_once(self, n: int) -> float:
        echo = self.echo.echo
        start = perf_counter()
        for _ in range(n):
            await asyncio.gather(*(echo(1) for _ in range(WIDTH)))
        return perf_counter() - start


class Side(MeasuresCpu, BaseSide):
    label = "xoscar"
    limits = "uvloop, Unix socket between sub pools, stateless actors; no synchronous calls and no broadcast to compare"

    def start(self) -> None:
        self.runner = asyncio.Runner(loop_factory=new_loop)
        self.runner.run(self._start())

    async def _start(self) -> None:
        self.pool = await xo.create_actor_pool("127.0.0.1:0", n_process=3, auto_recover="actor")
        caller_at, echo_at, victim_at = self.pool.sub_processes
        echo = await xo.create_actor(Echo, address=echo_at, uid="echo")
        self.victim = await xo.create_actor(Echo, address=victim_at, uid="victim")
        self.caller = await xo.create_actor(Caller, echo, address=caller_at, uid="caller")

    def stop(self) -> None:
        self.runner.run(self.pool.stop())
        self.runner.close()

    def awaited(self, n: int) -> float:
        return self.runner.run(self._ask("one_by_one", n, 1))

    def megabyte(self, n: int) -> float:
        return self.runner.run(self._ask("one_by_one", n, bytes(MEGABYTE)))

    def at_once(self, n: int) -> float:
        return self.runner.run(self._ask("at_once", n))

    async def _ask(self, method: str, *args: object) -> float:
        return await getattr(self.caller, method)(*args)

    def revival(self, _: int) -> float:
        return self.runner.run(self._revival())

    async def _revival(self) -> float:
        victim = await self.victim.pid()
        start = perf_counter()
        os.kill(victim, signal.SIGKILL)
        while perf_counter() - start < 30:
            try:
                if await self.victim.pid() != victim:
                    return perf_counter() - start
            except (xo.ServerClosed, xo.SendMessageFailed, xo.ActorNotExist, ConnectionError):
                pass
            await asyncio.sleep(0.001)
        raise TimeoutError("the actor did not come back within 30 s")
