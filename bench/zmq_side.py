"""pyzmq on asyncio (uvloop) over ipc: DEALER to ROUTER for calls, XPUB to eight SUB processes for the broadcast.

The least that makes calls of it: frames of an id and a body, a reader that hands replies to futures. The bodies
travel as they are, nothing is encoded, nothing dispatched by name, which flatters it. Broadcast in bursts, after
each of which every subscriber acknowledges over PUSH/PULL, so that nothing is dropped at the high-water mark and
mob's row does the same.
"""

from __future__ import annotations

# Only `make bench` installs it. pyright is told so by the next line.
# pyright: reportMissingImports=false, reportMissingModuleSource=false
import asyncio
import multiprocessing
import tempfile
from collections.abc import Callable, Coroutine
from itertools import count
from time import perf_counter
from typing import Any

import zmq
import zmq.asyncio

from bench.cpu import MeasuresCpu
from bench.measure import BURST, MEGABYTE, SUBSCRIBERS, WIDTH
from bench.side import BaseSide, die_with_parent, new_loop


async def echo_server(folder: str) -> None:
    socket = zmq.asyncio.Context().socket(zmq.ROUTER)
    socket.bind(f"ipc://{folder}/calls")
    while True:
        peer, number, body = await socket.recv_multipart(copy=False)
        await socket.send_multipart((peer, number, body), copy=False)


async def subscriber(folder: str) -> None:
    context = zmq.asyncio.Context()
    messages, done = context.socket(zmq.SUB), context.socket(zmq.PUSH)
    done.connect(f"ipc://{folder}/done")
    messages.connect(f"ipc://{folder}/messages")
    messages.subscribe(b"")
    while True:
        for _ in range(BURST):
            await messages.recv()
        await done.send(b"")


def run(work: Callable[[str], Coroutine[Any, Any, None]], folder: str) -> None:
    die_with_parent()
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(work(folder))


class Side(MeasuresCpu, BaseSide):
    label = "pyzmq asyncio"
    limits = "uvloop, ipc; raw frames and an id, no encoding, no dispatch"

    def start(self) -> None:
        self.folder = tempfile.mkdtemp()
        fork = multiprocessing.get_context("fork")  # before there is a context or a loop here
        works = [echo_server] + [subscriber] * SUBSCRIBERS
        self.workers = [fork.Process(target=run, args=(work, self.folder), daemon=True) for work in works]
        for worker in self.workers:
            worker.start()
        self.runner = asyncio.Runner(loop_factory=new_loop)
        self.runner.run(self._connect())

    async def _connect(self) -> None:
        self.context = zmq.asyncio.Context()
        self.calls = self.context.socket(zmq.DEALER)
        self.calls.connect(f"ipc://{self.folder}/calls")
        self.done = self.context.socket(zmq.PULL)
        self.done.bind(f"ipc://{self.folder}/done")
        self.messages = self.context.socket(zmq.XPUB)
        self.messages.xpub_verbose = True  # tells of every subscription, so that we can wait for all
        self.messages.bind(f"ipc://{self.folder}/messages")
        self.numbers = count()
        self.waiting: dict[bytes, asyncio.Future[Any]] = {}
        self.reader = asyncio.create_task(self._read())
        async with asyncio.timeout(30):
            for _ in range(SUBSCRIBERS):
                await self.messages.recv()
            await self._call(b"1")

    def stop(self) -> None:
        for worker in self.workers:
            worker.terminate()
        for worker in self.workers:
            worker.join(5)
        self.reader.cancel()
        self.runner.run(asyncio.sleep(0))
        self.context.destroy(linger=0)
        self.runner.close()

    async def _read(self) -> None:
        while True:
            number, body = await self.calls.recv_multipart(copy=False)
            self.waiting.pop(number.bytes).set_result(body)

    async def _call(self, body: bytes) -> Any:
        number = next(self.numbers).to_bytes(8, "little")
        reply = self.waiting[number] = asyncio.get_running_loop().create_future()
        await self.calls.send_multipart((number, body), copy=False)
        return await reply

    async def _one_by_one(self, n: int, body: bytes) -> float:
        start = perf_counter()
        for _ in range(n):
            await self._call(body)
        return perf_counter() - start

    def awaited(self, n: int) -> float:
        return self.runner.run(self._one_by_one(n, b"1"))

    def megabyte(self, n: int) -> float:
        return self.runner.run(self._one_by_one(n, bytes(MEGABYTE)))

    def at_once(self, n: int) -> float:
        return self.runner.run(self._at_once(n))

    async def _at_once(self, n: int) -> float:
        start = perf_counter()
        for _ in range(n):
            await asyncio.gather(*(self._call(b"1") for _ in range(WIDTH)))
        return perf_counter() - start

    def broadcast(self, n: int) -> float:
        return self.runner.run(self._broadcast(n, bytes(100)))

    async def _broadcast(self, n: int, message: bytes) -> float:
        start = perf_counter()
        for _ in range(n):
            for _ in range(BURST):
                await self.messages.send(message)
            for _ in range(SUBSCRIBERS):
                await self.done.recv()
        return perf_counter() - start
