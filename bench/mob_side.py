"""mob: the app of apps/pair.py, whose `caller` times its own calls to `back`; a client only asks it to.

`.result()` runs in a plain `def` export, on the loop's own thread, to a plain `def` at the other end; what is
awaited goes to an `async def`. The broadcast is in bursts, each acknowledged by every subscriber with a call, as
in zmq_side.py.

Boot: examples/hello, copied with a name and a port of its own, from the start of `python main.py` until a client's
roster shows six ready mobsters. Revival: the only worker of a fresh app (apps/one.py; a second death soon after
the first is answered after a pause, on purpose), from the kill until a client has the answer of a call from
another pid.

Limits: each revival is the first death in a fresh app, for a second quick one waits before it is answered.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from time import perf_counter, sleep

import mob
from bench.cpu import MeasuresCpu, SystemShare, share_of
from bench.measure import ARRAY, BURST, MEGABYTE, SUBSCRIBERS, WIDTH
from bench.side import ROOT, BaseSide

APPS = ROOT / "bench" / "apps"
HELLO = ROOT / "examples" / "hello"
PATIENCE = 30.0
numbers = count(1)


def new_name() -> str:
    return f"bench-{os.getpid()}-{next(numbers)}"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


class App:
    """One running app: its Kingpin's process and a client in it."""

    def __init__(self, main: Path, name: str, *arguments: str) -> None:
        self.name = name
        self.output = tempfile.TemporaryFile()  # noqa: SIM115 - closed by end()
        command = [sys.executable, str(main), name, *arguments]
        self.process = subprocess.Popen(command, stdout=self.output, stderr=self.output)
        try:
            self.client = self._wait_connected()
        except BaseException:
            self.end()
            raise

    def _wait_connected(self) -> mob.Client:
        deadline = perf_counter() + PATIENCE
        while perf_counter() < deadline and self.process.poll() is None:
            try:
                return mob.connect(self.name)
            except mob.AppNotRunning:
                sleep(0.001)
        raise RuntimeError(f"{self.name} did not start: {self._said()}")

    def _said(self) -> str:
        self.output.seek(0)
        return self.output.read().decode(errors="replace").strip().rpartition("\n")[2] or "it said nothing"

    def wait_ready(self, wanted: int) -> None:
        deadline = perf_counter() + PATIENCE
        while sum(member.state == "ready" for member in self.client.members() if member.role) < wanted:
            if perf_counter() > deadline or self.process.poll() is not None:
                raise RuntimeError(f"{self.name} did not get ready: {self._said()}")
            sleep(0.001)

    def stop(self) -> None:
        self.client.close()
        self.end()

    def end(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.output.close()


@contextmanager
def running(main: Path, name: str, wanted: int, *arguments: str) -> Iterator[App]:
    app = App(main, name, *arguments)
    try:
        app.wait_ready(wanted)
        yield app
    finally:
        app.stop()


def hello_of_our_own(name: str) -> Path:
    """A copy of examples/hello that meets no other on this machine; its main.py."""
    folder = Path(tempfile.mkdtemp(prefix="hello")) / "hello"
    shutil.copytree(HELLO, folder)
    for file, old, new in (("main.py", '"myapp"', f'"{name}"'), ("http_server.py", "1337", str(free_port()))):
        text = (folder / file).read_text()
        assert old in text
        (folder / file).write_text(text.replace(old, new))
    return folder / "main.py"


class Side(MeasuresCpu, BaseSide):
    label = "mob"
    limits = "each revival is the first death in a fresh app; CPU of both ends, for its Kingpin has no part in a call"

    def start(self) -> None:
        self.app = App(APPS / "pair.py", new_name())
        try:
            self.app.wait_ready(2 + SUBSCRIBERS)
        except BaseException:
            self.app.stop()
            raise
        self.caller = self.app.client.require("caller")

    def stop(self) -> None:
        self.app.stop()

    def awaited(self, n: int) -> float:
        return self.caller.awaited(n).result(PATIENCE)

    def blocking(self, n: int) -> float:
        return self.caller.blocking(n).result(PATIENCE)

    def at_once(self, n: int) -> float:
        return self.caller.at_once(n, WIDTH).result(PATIENCE)

    def broadcast(self, n: int) -> float:
        return self.caller.broadcast(n, BURST, SUBSCRIBERS, 100).result(PATIENCE)

    def megabyte(self, n: int) -> float:
        return self.caller.megabyte(n, MEGABYTE).result(PATIENCE)

    def sized(self, n: int, size: int) -> float:
        return self.caller.megabyte(n, size).result(PATIENCE)

    def array(self, n: int) -> float:
        return self.caller.array(n, ARRAY).result(PATIENCE)

    def processes(self) -> list[int]:
        """Both ends; the Kingpin has no part in a call."""
        return [member.pid for member in self.app.client.members() if member.role in ("caller", "back")]

    def system(self, target: float) -> dict[str, SystemShare]:
        return {method: share_of(getattr(self, method), self.processes(), target) for method in ("awaited", "at_once")}

    def boot(self, _: int) -> float:
        name = new_name()
        main = hello_of_our_own(name)
        start = perf_counter()
        with running(main, name, wanted=6):
            return perf_counter() - start

    def revival(self, _: int) -> float:
        with running(APPS / "one.py", new_name(), wanted=1) as app:
            back = app.client.require("back")
            victim = back.pid().result(PATIENCE)
            start = perf_counter()
            os.kill(victim, signal.SIGKILL)
            while perf_counter() - start < PATIENCE:
                try:
                    if back.pid().result(PATIENCE) != victim:
                        return perf_counter() - start
                except mob.Lost:
                    pass  # the call was sent before the death was known
            raise TimeoutError(f"no successor within {PATIENCE:.0f} s")
