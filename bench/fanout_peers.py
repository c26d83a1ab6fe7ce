"""The peers of `python -m bench.fanout`: bare processes, which set what is ideal, and ProcessPoolExecutor.

All are forked before the bench has a thread, and stay to the end. Limits: each peer has two workers.
"""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing.connection import Connection
from time import perf_counter, sleep
from typing import Any

from bench.apps import fanout_work
from bench.side import ROOT, die_with_parent

WORKERS = 2
SPIN = "from bench.side import die_with_parent\ndie_with_parent()\nprint(flush=True)\nwhile True: pass"


def _answer(end: Connection) -> None:
    die_with_parent()
    while True:
        name, times, arguments = end.recv()
        function, answer = getattr(fanout_work, name), None
        for _ in range(times):
            answer = function(*arguments)
        end.send(answer)


class Bare:
    """Two processes that do nothing but the work, each its half of it."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("fork")
        self._ends: list[Connection] = []
        self._processes = []
        for _ in range(WORKERS):
            here, there = context.Pipe()
            process = context.Process(target=_answer, args=(there,), daemon=True)
            process.start()
            there.close()
            self._ends.append(here)
            self._processes.append(process)

    def ask(self, name: str) -> Any:
        self._ends[0].send((name, 1, ()))
        return self._ends[0].recv()

    def alone(self, name: str, n: int, argument: float) -> float:
        """Return what n calls take at best: the mean time of the function in one process, times n / 2."""
        return self._work(self._ends[:1], name, n, argument)

    def together(self, name: str, n: int, argument: float) -> float:
        """Return what two processes need for n calls. It differs where they, or others, share the cores."""
        return self._work(self._ends, name, n, argument)

    def _work(self, ends: list[Connection], name: str, n: int, argument: float) -> float:
        start = perf_counter()
        for end in ends:
            end.send((name, n // WORKERS, (argument,)))
        for end in ends:
            end.recv()
        return perf_counter() - start

    def stop(self) -> None:
        for process in self._processes:
            process.terminate()
            process.join()


class Pool:
    """`ProcessPoolExecutor(2)`, by `submit` and by `map`."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("fork")
        self._pool = ProcessPoolExecutor(WORKERS, mp_context=context, initializer=die_with_parent)
        for _ in [self._pool.submit(sleep, 0.05) for _ in range(WORKERS)]:
            _.result()

    def submit(self, name: str, n: int, argument: float) -> float:
        function = getattr(fanout_work, name)
        start = perf_counter()
        calls = [self._pool.submit(function, i, argument) for i in range(n)]
        for call in calls:
            call.result()
        return perf_counter() - start

    def map(self, name: str, n: int, argument: float, chunk: int) -> float:
        function, items = getattr(fanout_work, name), [argument] * n
        start = perf_counter()
        for _ in self._pool.map(function, items, chunksize=chunk):
            pass
        return perf_counter() - start

    def best_chunk(self, name: str, n: int, argument: float, trials: int) -> int:
        chunks = sorted({chunk for chunk in (1, 4, 16, 64, n // 8) if 1 <= chunk <= n // WORKERS})
        return min(chunks, key=lambda chunk: min(self.map(name, n, argument, chunk) for _ in range(trials)))

    def stop(self) -> None:
        self._pool.shutdown(cancel_futures=True)


@contextmanager
def taken_core() -> Iterator[None]:
    """One process beside everything that takes a whole core."""
    with subprocess.Popen([sys.executable, "-c", SPIN], cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            process.stdout.readline()
            yield
        finally:
            process.kill()
