"""What the sides of `python -m bench.pools` have in common: each row, measured in terms of a few methods of the pool.

A side has a pool of two workers, which stays up between the rows. A method of a row takes a scale, 1.0 for what the
row says, less for a quick look, and returns figures by the name of their row. What else it returns is a remark.

Limits: the pool is measured from one thread. Rows on an own process (cold start, idle) run `script`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from threading import Condition
from time import perf_counter, sleep
from typing import Any, ClassVar

import psutil

from bench import pools_work as work
from bench.cpu import cpu_clock
from bench.side import BaseSide

WORKERS = 2
WINDOW = 2 * WORKERS  # arrays under way
ITEMS = 1_000_000  # of the map
CHUNKS = (1_000, 10_000, 62_500, 250_000)
SLOW = 30.0  # seconds that a map may take before it is given a hundredth of the items
PATIENCE = 3.0  # seconds without any answer after which what is missing counts as lost

Answer = dict[str, Any]
Done = Callable[[Any], object]  # takes a pid, or an exception


class PoolSide(BaseSide):
    """A pool, by the methods that the rows are made of. A subclass says how its library does each."""

    script: ClassVar[str]  # makes a pool of two, calls `pow`, names the result `answer`; ends the pool after `wait()`
    rows: ClassVar[tuple[str, ...]] = (
        "one", "burst", "map_best", "map_default", "jobs", "arrays", "cold", "warm", "recovery", "idle"
    )  # fmt: skip
    _chunk = 0

    def open(self) -> None:
        """Make the pool."""
        raise NotImplementedError

    def close(self) -> None:
        """End the pool, whatever state it is in."""
        raise NotImplementedError

    def submit(self, function: Callable[..., Any], argument: Any) -> Any:
        """Return a handle of the call."""
        raise NotImplementedError

    def results(self, handles: list[Any]) -> list[Any]:
        raise NotImplementedError

    def begin(self, function: Callable[..., Any], arguments: Iterable[Any], done: Done) -> None:
        """Submit calls; have `done` called with the result or the exception of each, in any thread."""
        raise NotImplementedError

    def map(self, n: int, chunk: int | None) -> int:
        """Map `increment` over range(n), by default in chunks of the library's own; return the sum of the results."""
        raise NotImplementedError

    def once(self) -> None:
        """Make a second pool, have it answer one call, end it: what a script does that uses pools again and again."""
        raise NotImplementedError

    def start(self) -> None:
        self.in_main = work.echo_in_main()  # before a fork
        self.open()
        self.each(work.nap, [0.02] * (2 * WORKERS))

    def stop(self) -> None:
        self.close()

    def each(self, function: Callable[..., Any], arguments: Iterable[Any]) -> list[Any]:
        """Submit all at once, then take all results."""
        submit = self.submit
        return self.results([submit(function, argument) for argument in arguments])

    def calls(self, function: Callable[..., Any], n: int) -> None:
        """Submit each call when the one before it has answered."""
        submit, results = self.submit, self.results
        for i in range(n):
            results([submit(function, i)])

    def windowed(self, function: Callable[..., Any], arguments: Iterable[Any]) -> Iterator[Any]:
        """Yield results in order, with a few calls under way at any time."""
        handles: deque[Any] = deque()
        for argument in arguments:
            if len(handles) == WINDOW:
                yield from self.results([handles.popleft()])
            handles.append(self.submit(function, argument))
        while handles:
            yield from self.results([handles.popleft()])

    # ------------------------------------------------------------------------------------------ rows

    def one(self, scale: float) -> Answer:
        n = int(2_000 * scale)
        return {
            "one": seconds(self.calls, work.echo, n) / n,
            "one_main": seconds(self.calls, self.in_main, n) / n,
        }

    def burst(self, scale: float) -> Answer:
        n = int(10_000 * scale)
        found = {
            "burst": seconds(self.each, work.echo, range(n)) / n,
            "burst_main": seconds(self.each, self.in_main, range(n)) / n,
        }
        assert self.each(self.in_main, range(3)) == [0, 1, 2]
        return found

    def map_best(self, scale: float) -> Answer:
        n = int(ITEMS * scale)
        if not self._chunk:
            self._chunk = min(CHUNKS, key=partial(self._map, n))
        return {"map_best": self._map(n, self._chunk) / n * ITEMS, "remark": f"chunks of {self._chunk:,}"}

    def map_default(self, scale: float) -> Answer:
        n = int(ITEMS * scale)
        few = n // 100
        if self._map(few, None) / few * n > SLOW:
            n = few
        return {"map_default": self._map(n, None) / n * ITEMS, "remark": f"{n:,} items" if n < ITEMS else ""}

    def _map(self, n: int, chunk: int | None) -> float:
        start = perf_counter()
        total = self.map(n, chunk)
        taken = perf_counter() - start
        assert total == n * (n + 1) // 2, total
        return taken

    def jobs(self, scale: float) -> Answer:
        """How many times as long as ideal: every worker does nothing but the jobs."""
        found: Answer = {}
        for row, each, count in (("jobs_1", 0.001, 2_000), ("jobs_100", 0.1, 20)):
            n = max(WORKERS, int(count * scale))
            found[row] = seconds(self.each, work.burn, [each] * n) / (each * n / WORKERS)
        return found

    def arrays(self, scale: float) -> Answer:
        n = int(100 * scale)
        return {
            "arrays_same": self._arrays(work.same, n, 1) / n * 100,
            "arrays_twice": self._arrays(work.twice, n, 2) / n * 100,
        }

    def _arrays(self, function: Callable[..., Any], n: int, factor: int) -> float:
        start = perf_counter()
        for i, array in enumerate(self.windowed(function, work.arrays(n))):
            assert array[0] == array[-1] == i * factor, (i, array[0], array[-1])
        return perf_counter() - start

    def cold(self, scale: float) -> Answer:
        start = perf_counter()
        with self._script("def wait(): pass") as process:
            assert process.wait(60) == 0
        return {"cold": perf_counter() - start}

    def warm(self, scale: float) -> Answer:
        n = max(1, int(10 * scale))
        self.once()
        return {"warm": seconds(repeat, self.once, n) / n}

    def idle(self, scale: float) -> Answer:
        with self._script("def wait(): print(flush=True); input()") as process:
            assert process.stdout is not None
            assert process.stdin is not None
            process.stdout.readline()
            sleep(1)
            this = psutil.Process(process.pid)
            family = [this, *this.children(recursive=True)]
            before, start = cpu_of(family), perf_counter()
            sleep(5 * scale)
            used = (cpu_of(family) - before) / (perf_counter() - start)
            memory = sum(member.memory_full_info().pss for member in family)
            process.stdin.write(b"\n")
            process.stdin.close()
        return {"idle_cpu": used, "idle_memory": memory, "remark": f"{len(family)} processes"}

    def _script(self, wait: str) -> subprocess.Popen[bytes]:
        text = f"{wait}\n{self.script}\nassert answer == 8"
        return subprocess.Popen([sys.executable, "-c", text], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def recovery(self, scale: float) -> Answer:
        """Kill a worker while jobs run; see which are lost, when the others are done, and when a new worker serves."""
        n = int(1_000 * scale)
        old = set(self.each(work.nap, [0.02] * (2 * WORKERS)))
        answers = Answers(n)
        self.begin(work.burn, [0.001] * n, answers.add)
        answers.wait(n // 10, PATIENCE)
        killed = perf_counter()
        os.kill(min(old), signal.SIGKILL)
        answers.wait(n, PATIENCE)
        good = [(at, pid) for at, pid in answers.found if isinstance(pid, int)]
        old |= {pid for at, pid in good if at <= killed}  # on a busy machine one may have had all of the first jobs
        new = [at for at, pid in good if pid not in old]
        failures = {type(error).__name__ for _, error in answers.found if not isinstance(error, int)}
        remarks = [*sorted(failures), *([f"{n - len(answers.found)} never answered"] if len(answers.found) < n else [])]
        return {
            "lost": n - len(good),
            "others": good[-1][0] - killed if len(good) > n / 2 else None,
            "serves": (new[0] if new else self._wait_new(old)) - killed,
            "remark": ", ".join(remarks),
        }

    def _wait_new(self, old: set[int]) -> float:
        """Return when a new worker has answered, of this pool or, if it is broken, of another one."""
        end = perf_counter() + 60
        while perf_counter() < end:
            answers = Answers(WINDOW)
            try:
                self.begin(work.nap, [0.002] * WINDOW, answers.add)
            except Exception:  # noqa: BLE001 - whatever a library raises of a pool that is broken
                answers.add(None)
            answers.wait(WINDOW, 5.0)
            pids = {pid for _, pid in answers.found if isinstance(pid, int)}
            if pids - old:
                return perf_counter()
            if not pids:
                self.close()
                self.open()
        raise AssertionError("no new worker within a minute")


class Answers:
    """Results and exceptions in the order in which they come, with the time of each."""

    def __init__(self, n: int) -> None:
        self.n = n
        self.found: list[tuple[float, Any]] = []
        self._changed = Condition()

    def add(self, answer: Any) -> None:
        with self._changed:
            self.found.append((perf_counter(), answer))
            self._changed.notify()

    def wait(self, n: int, patience: float) -> None:
        """Wait until there are n, or none has come for so long."""
        with self._changed:
            while len(self.found) < n and self._changed.wait(patience):
                pass


def seconds(function: Callable[..., Any], *arguments: Any) -> float:
    start = perf_counter()
    function(*arguments)
    return perf_counter() - start


def repeat(function: Callable[[], object], n: int) -> None:
    for _ in range(n):
        function()


def cpu_of(family: list[psutil.Process]) -> float:
    return sum(cpu_clock(member.pid) for member in family)
