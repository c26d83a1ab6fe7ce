"""gunicorn's dirty workers: a whole gunicorn with one, called as its HTTP workers call it, through its arbiter.

A `DirtyClient` carries one call at a time, so that 100 at once are 100 clients, as in gunicorn, where each task has
one. Limits: needs a gunicorn that has dirty workers (25.1 or newer); the arbiter's socket is found by its log line.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

from gunicorn.dirty import DirtyApp, DirtyClient

from bench.cpu import MeasuresCpu
from bench.loops import AwaitedSide
from bench.measure import WIDTH

APP = "bench.gunicorn_side:Echo"
SAID = "Dirty arbiter listening on "


class Echo(DirtyApp):
    def echo(self, value: Any) -> Any:
        return value


def web(environ: Any, start_response: Any) -> list[bytes]:
    """The HTTP side of the gunicorn, which nobody asks."""
    start_response("204 No Content", [])
    return []


class Side(MeasuresCpu, AwaitedSide):
    label = "gunicorn dirty"
    limits = "called through its arbiter by its own client on uvloop; 100 at once by 100 clients"

    async def connect(self) -> None:
        self.log = Path(tempfile.mkdtemp()) / "log"
        self.clients: list[DirtyClient] = []
        command = [sys.executable, "-m", "gunicorn", "--workers=1", f"--bind=unix:{self.log.parent}/web"]
        command += ["--dirty-workers=1", f"--dirty-app={APP}", f"--log-file={self.log}"]
        command += ["--no-control-socket", "bench.gunicorn_side:web"]  # it would lie in the home folder
        self.master = subprocess.Popen(command)
        path = self._wait_socket()
        self.clients = [DirtyClient(path) for _ in range(WIDTH)]
        self.free = list(self.clients)
        await self.call(1)

    def _wait_socket(self) -> str:
        deadline = perf_counter() + 20
        while perf_counter() < deadline and self.master.poll() is None:
            if self.log.exists() and SAID in (text := self.log.read_text()) and "ready" in text.partition(SAID)[2]:
                break
            sleep(0.05)
        text = self.log.read_text() if self.log.exists() else ""
        if SAID not in text:
            raise RuntimeError("its dirty arbiter did not say where it listens")
        return text.partition(SAID)[2].split()[0]

    async def disconnect(self) -> None:
        for client in self.clients:
            await client.close_async()
        self.master.terminate()
        self.master.wait(15)

    def call(self, value: Any) -> Coroutine[Any, Any, Any]:
        return self._call(value)

    async def _call(self, value: Any) -> Any:
        client = self.free.pop()
        try:
            return await client.execute_async(APP, "echo", value)
        finally:
            self.free.append(client)
