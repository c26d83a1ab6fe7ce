"""`multiprocessing.Pipe` with an echo loop at the other end: the least that one can do by hand.

Limits: one call at a time, no choice among workers, no dispatch by name, no errors; pickled on both ways. The
revival is a hand-written one: wait for the dead process, fork another, ask it. The boot is that of apps/six.py.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from multiprocessing.connection import Connection
from time import perf_counter

import numpy

from bench.measure import ARRAY, MEGABYTE
from bench.side import ROOT, BaseSide, die_with_parent

Fork = multiprocessing.get_context("fork")


def echo_loop(end: Connection, other_end: Connection) -> None:
    die_with_parent()
    other_end.close()
    while True:
        try:
            end.send(end.recv())
        except (EOFError, OSError):
            return


class Side(BaseSide):
    label = "Pipe"
    limits = (
        "one call at a time, pickled; hand-written revival with fork; boot of six spawned processes that say one word"
    )

    def start(self) -> None:
        self.end, other_end = Fork.Pipe()
        self.worker = Fork.Process(target=echo_loop, args=(other_end, self.end), daemon=True)
        self.worker.start()
        other_end.close()

    def stop(self) -> None:
        self.end.close()
        self.worker.join(5)

    def _calls(self, n: int, value: object) -> float:
        send, recv = self.end.send, self.end.recv
        start = perf_counter()
        for _ in range(n):
            send(value)
            recv()
        return perf_counter() - start

    def blocking(self, n: int) -> float:
        return self._calls(n, 1)

    def megabyte(self, n: int) -> float:
        return self._calls(n, bytes(MEGABYTE))

    def sized(self, n: int, size: int) -> float:
        return self._calls(n, bytes(size))

    def array(self, n: int) -> float:
        return self._calls(n, numpy.zeros(ARRAY // 8))

    def boot(self, _: int) -> float:
        start = perf_counter()
        app = subprocess.Popen(
            [sys.executable, str(ROOT / "bench/apps/six.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert app.stdout is not None
        word = app.stdout.readline()
        spent = perf_counter() - start
        app.communicate(timeout=20)  # closes its input, at which it stops
        if word != b"ready\n":
            raise RuntimeError("six.py did not get ready")
        return spent

    def revival(self, _: int) -> float:
        assert self.worker.pid is not None
        start = perf_counter()
        os.kill(self.worker.pid, signal.SIGKILL)
        self.worker.join()
        self.end.close()
        self.start()
        self._calls(1, 1)
        return perf_counter() - start
