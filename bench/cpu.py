"""What a call costs in CPU time, at both ends: the time of the processes that take part, threads and all.

The sum is the kernel's CPU clock of each process, exact on Linux; the split into user and system time is read by
psutil, in units of 10 ms, so that measurement has to last a second. `strace`, where there is one, counts the system
calls; not their time, which it lengthens itself.

Limits: what a call costs in the kernel's own threads is nobody's.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from time import clock_gettime, sleep
from typing import TypedDict

import psutil

from bench.measure import WIDTH

LINE = re.compile(r"^\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)$")


class SystemShare(TypedDict):
    user: float  # seconds per unit
    system: float
    counts: dict[str, float]  # system calls per unit, by name; empty without strace


class MeasuresCpu:
    """For a side that has `at_once`: adds the row `cpu`."""

    at_once: Callable[[int], float]

    def processes(self) -> list[int]:
        """This process and all below it."""
        this = psutil.Process()
        return [this.pid, *(child.pid for child in this.children(recursive=True))]

    def cpu(self, n: int) -> float:
        pids = self.processes()
        before = sum(map(cpu_clock, pids))
        self.at_once(n)
        return sum(map(cpu_clock, pids)) - before


def cpu_clock(pid: int) -> float:
    """Seconds; on Linux by the clock that clock_getcpuclockid(3) names."""
    if sys.platform == "linux":
        return clock_gettime((~pid << 3) | 2)
    return sum(spent([psutil.Process(pid)]))


def spent(processes: Iterable[psutil.Process]) -> tuple[float, float]:
    times = [process.cpu_times() for process in processes]
    return sum(time.user for time in times), sum(time.system for time in times)


def share_of(work: Callable[[int], float], pids: list[int], target: float) -> SystemShare:
    """The split of the CPU time of `pids` over about `target` seconds of `work`, and what strace counts."""
    units = max(1, int(target * 50 / max(work(50), 1e-9)))
    processes = [psutil.Process(pid) for pid in pids]
    user, system = spent(processes)
    work(units)
    user_now, system_now = spent(processes)
    counts = counted(work, pids, max(1, units // 20))
    return {"user": (user_now - user) / units, "system": (system_now - system) / units, "counts": counts}


def counted(work: Callable[[int], float], pids: list[int], units: int) -> dict[str, float]:
    program = shutil.which("strace")
    if program is None:
        return {}
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "counts"
        arguments = [program, "-c", "-f", "-q", "-o", str(out), *(f"--attach={pid}" for pid in pids)]
        tracer = subprocess.Popen(arguments, stderr=subprocess.DEVNULL)
        try:
            if not _wait_attached(pids, tracer):
                return {}
            work(units)
        finally:
            tracer.send_signal(signal.SIGINT)
            tracer.wait(20)
        found = filter(None, map(LINE.match, out.read_text().splitlines()))
    return {line[2]: int(line[1]) / units for line in found if line[2] != "total"}


def _wait_attached(pids: list[int], tracer: subprocess.Popen[bytes]) -> bool:
    """False if it may not trace them, which a container can forbid."""
    tasks = [Path(f"/proc/{pid}/task/{task}/status") for pid in pids for task in os.listdir(f"/proc/{pid}/task")]
    for _ in range(200):
        if tracer.poll() is not None:
            return False
        if all("TracerPid:\t0\n" not in task.read_text() for task in tasks):
            return True
        sleep(0.01)
    return False


def sentence(title: str, calls: int, share: SystemShare) -> str:
    """One measurement in words; `calls` is how many a unit does."""
    user, system = share["user"] / calls, share["system"] / calls
    text = f"{title}: {user * 1e6:.1f} µs of user and {system * 1e6:.1f} µs of system time per call at both ends"
    text += f", so {100 * system / ((user + system) or 1):.0f} % of it in the kernel"
    most = sorted(share["counts"].items(), key=lambda item: -item[1])[:4]
    if not most:
        return text + " (there is no strace here that may count the system calls)."
    total = sum(share["counts"].values()) / calls
    return text + f"; {total:.2f} system calls ({', '.join(f'{name} {n / calls:.2f}' for name, n in most)})."


def sentences(shares: dict[str, SystemShare]) -> str:
    titles = {"awaited": ("Awaited one after another", 1), "at_once": (f"{WIDTH} at once", WIDTH)}
    return " ".join(sentence(*titles[method], share) for method, share in shares.items())
