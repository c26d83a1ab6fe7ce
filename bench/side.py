"""A side: one process that measures one peer, and the handle by which the bench asks it.

The bench itself measures nothing: each side lives in a process of its own (`python -m bench.side NAME`), so that
one library's threads and garbage do not slow another's. It reads one JSON request per line, answers with one, and
stops when its input ends. All sides stay up through the whole run, but only one works at a time. NAME is a module of
bench, or `module:Class` where one module has several sides.

A side is a class `Side` with `start`, `stop` and, for each row of `measure.ROWS` that makes sense for it, a method
that does n units of it and returns the seconds they took. A row it does not have is left blank.

What a side starts lives in the side's process group (mob's mobsters have groups of their own, but their Kingpin
does not), what it writes in the side's folder; both are gone when `SideProcess.stop` returns.
"""

from __future__ import annotations

import asyncio
import ctypes
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, ClassVar, TextIO

from bench.measure import ROWS

ROOT = Path(__file__).resolve().parent.parent


class BaseSide:
    label: ClassVar[str]
    limits: ClassVar[str] = ""
    can_pin: ClassVar[bool] = True  # whether it is started a second time for the rows on one core
    rows: ClassVar[tuple[str, ...]] = tuple({row.asks: None for row in ROWS})  # those it has as methods are measured

    def start(self) -> None: ...

    def stop(self) -> None: ...


class SideFailed(Exception):
    """The side could not be started, or could not measure; the text says why."""


# ---------------------------------------------------------------------------------- in the side's process


def new_loop() -> asyncio.AbstractEventLoop:
    """uvloop's where there is one, for every side alike."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def die_with_parent() -> None:
    """For helpers of a side: end when the side ends, however it ends (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def timed(work: Callable[[int], float], target: float, units: int) -> tuple[int, float]:
    """Run `work` for about `target` seconds; `units` is what did so last time, 0 if that is not known."""
    if not units:
        units, seconds = 1, work(1)
        while seconds < target / 4:
            units = max(units * 2, min(units * 16, int(units * target / max(seconds, 1e-9))))
            seconds = work(units)
        units = max(1, int(units * target / seconds))
    work(max(1, units // 20))
    return units, work(units)


def answered(
    side: BaseSide, known: dict[tuple[str, int], int], method: str, target: float, size: int = 0, whole: bool = False
) -> dict[str, Any]:
    """`whole`: what the method itself gives back for `target` seconds. Otherwise n units of it are timed."""
    asked = getattr(side, method)
    if whole:
        return {"data": asked(target)}
    work = partial(asked, size=size) if size else asked
    if not target:
        return {"units": 1, "seconds": work(1)}
    units, seconds = timed(work, target, known.get((method, size), 0))
    known[method, size] = units
    return {"units": units, "seconds": seconds}


def serve(name: str, requests: TextIO, answers: TextIO) -> None:
    def answer(**fields: Any) -> None:
        print(json.dumps(fields), file=answers, flush=True)

    module, _, side_class = name.partition(":")
    try:
        side: BaseSide = getattr(importlib.import_module(f"bench.{module}"), side_class or "Side")()
        side.start()
    except Exception as error:  # noqa: BLE001 - whatever ails a peer costs it its column, not the run
        answer(error=f"{type(error).__name__}: {error}")
        return
    try:
        rows = [row for row in side.rows if hasattr(side, row)]
        answer(label=side.label, limits=side.limits, rows=rows, can_pin=side.can_pin)
        known: dict[tuple[str, int], int] = {}
        for line in requests:
            request = json.loads(line)
            try:
                answer(**answered(side, known, **request))
            except Exception as error:  # noqa: BLE001 - the same
                answer(error=f"{type(error).__name__}: {error}")
    finally:
        side.stop()


def main() -> None:
    name, core = sys.argv[1], int(sys.argv[2])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the peer prints must not end up among the answers
    if core >= 0:
        os.sched_setaffinity(0, {core})  # before anything is started: all children inherit it
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the bench's; it closes our input
    serve(name, sys.stdin, answers)


# --------------------------------------------------------------------------------- in the bench's process


class SideProcess:
    """The bench's handle of a side. Every wait is bounded; past it the side is ended and raises SideFailed."""

    START, MEASURE, SURVEY, STOP = 60.0, 60.0, 120.0, 20.0

    def __init__(self, name: str, core: int = -1) -> None:
        self.name = name
        self.folder = tempfile.TemporaryDirectory(prefix="bench")
        folders = {"TMPDIR": self.folder.name, "XOSCAR_DIR": self.folder.name}
        paths = [str(ROOT), str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bench.side", name, str(core)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env=os.environ | folders | {"PYTHONPATH": os.pathsep.join(paths)},
            start_new_session=True,
        )
        self.label = name
        self.limits = ""
        self.rows: frozenset[str] = frozenset()
        self.can_pin = True

    def __repr__(self) -> str:
        return f"<SideProcess {self.name} pid={self.process.pid}>"

    def wait_started(self) -> None:
        hello = self._answer(self.START)
        self.label, self.limits, self.rows = hello["label"], hello["limits"], frozenset(hello["rows"])
        self.can_pin = hello["can_pin"]

    def measure(self, method: str, target: float, size: int = 0) -> float:
        """Seconds per unit, taken over about `target` seconds; 0 measures one unit."""
        self._ask(method=method, target=target, size=size)
        answer = self._answer(self.MEASURE)
        return answer["seconds"] / answer["units"]

    def survey(self, method: str, target: float) -> Any:
        """What the side's method itself has to say, after about `target` seconds for each of its figures."""
        self._ask(method=method, target=target, whole=True)
        return self._answer(self.SURVEY)["data"]

    def _ask(self, **request: Any) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()
        except OSError as error:
            raise SideFailed("its process is gone") from error

    def _answer(self, timeout: float) -> dict[str, Any]:
        assert self.process.stdout is not None
        deadline = perf_counter() + timeout
        line = b""
        while not line.endswith(b"\n"):
            ready, _, _ = select.select([self.process.stdout], [], [], max(0.0, deadline - perf_counter()))
            if not ready:
                self.stop(0)
                raise SideFailed(f"no answer within {timeout:.0f} s")
            piece = os.read(self.process.stdout.fileno(), 65536)
            if not piece:
                raise SideFailed("its process ended")
            line += piece
        answer = json.loads(line)
        if "error" in answer:
            raise SideFailed(answer["error"])
        return answer

    def stop(self, timeout: float | None = None) -> None:
        """Ask, wait, then end the whole group; also what a dead side may have left behind."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with suppress(OSError):
            self.process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(self.STOP if timeout is None else timeout)
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process.stdout.close()
        self.folder.cleanup()


if __name__ == "__main__":
    main()
