"""`python -m bench.jobs`: durable jobs beside huey with SQLite and Celery with Redis. Writes bench/JOBS.md.

One process makes jobs that do nothing and waits for all of their results; two worker processes run them. Rounds of the
sides alternate, figures are medians. mob has each job on the disk before it counts as made. The others have their
defaults: huey's SQLite does not wait for the disk, and Redis keeps what it has in memory and saves it now and then.

Limits: made from one process, in plain code, on one machine; a job that works hides all of this. `redis-server` must be
installed; a side whose library or server is missing is left out.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from time import monotonic, perf_counter, sleep
from typing import Any

from bench.measure import cpu_model, versions

REPORT = Path(__file__).with_name("JOBS.md")
WORKERS = 2
PATIENCE = 60.0
Round = Callable[[int], tuple[float, float]]
"""Makes so many jobs; returns the seconds until all were made, and until all results were there."""

MOB = {
    "back.py": "def noop(n): return n\n",
    "main.py": "import mob\nmob.start({name!r}).base(__file__).role('back', './back.py', workers=2)"
    ".queue('jobs.db').run()\n",
}
HUEY = {
    "tasks.py": "from huey import SqliteHuey\nhuey = SqliteHuey(filename='huey.db')\n"
    "@huey.task()\ndef noop(n): return n\n",
}
CELERY = {
    "tasks.py": "from celery import Celery\nurl = 'redis://127.0.0.1:{port}/0'\n"
    "app = Celery('tasks', broker=url, backend=url)\n@app.task\ndef noop(n): return n\n",
}


@contextmanager
def process(directory: Path, *command: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends with the block."""
    with (directory / "output").open("ab") as output:
        made = subprocess.Popen(command, cwd=directory, stdout=output, stderr=output, process_group=0)
    try:
        yield made
    finally:
        made.terminate()
        try:
            made.wait(30)
        except subprocess.TimeoutExpired:
            made.kill()
            made.wait()


def write(directory: Path, files: dict[str, str], **values: object) -> None:
    for name, text in files.items():
        filled = text
        for key, value in values.items():
            filled = filled.replace(f"{{{key}!r}}", repr(value)).replace(f"{{{key}}}", str(value))
        (directory / name).write_text(filled)


@contextmanager
def mob_side(directory: Path) -> Iterator[Round]:
    import mob

    name = f"bench-jobs-{os.getpid()}"
    write(directory, MOB, name=name)
    with process(directory, sys.executable, "main.py"):
        client = until(lambda: connected(mob, name))
        back = client.require("back").options(durable=True)

        def run(count: int) -> tuple[float, float]:
            began = perf_counter()
            jobs = [back.noop(n) for n in range(count)]
            for job in jobs:
                job.stored.result(PATIENCE)
            made = perf_counter() - began
            assert [job.result(PATIENCE) for job in jobs] == list(range(count))
            return made, perf_counter() - began

        yield run
        client.close()


def connected(mob: Any, name: str) -> Any:
    try:
        return mob.connect(name)
    except Exception:  # noqa: BLE001  it is not up yet
        return None


@contextmanager
def huey_side(directory: Path) -> Iterator[Round]:
    write(directory, HUEY)
    command = (sys.executable, "-m", "huey.bin.huey_consumer", "tasks.huey", "-k", "process", "-d", "0.01")
    with process(directory, *command, "-w", str(WORKERS)), module(directory) as tasks:
        yield lambda count: others(tasks, count, lambda result: result.get(blocking=True, timeout=PATIENCE))


@contextmanager
def celery_side(directory: Path) -> Iterator[Round]:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    write(directory, CELERY, port=port)
    server = shutil.which("redis-server")
    assert server is not None
    command = (sys.executable, "-m", "celery", "-A", "tasks", "worker", "-c", str(WORKERS), "-l", "error")
    with process(directory, server, "--port", str(port)), process(directory, *command), module(directory) as tasks:
        yield lambda count: others(tasks, count, lambda result: result.get(timeout=PATIENCE))


@contextmanager
def module(directory: Path) -> Iterator[Any]:
    """The module `tasks` that lies there."""
    import importlib

    sys.path.insert(0, str(directory))
    here = Path.cwd()
    os.chdir(directory)
    try:
        sys.modules.pop("tasks", None)
        yield importlib.import_module("tasks")
    finally:
        os.chdir(here)
        sys.path.remove(str(directory))


def others(tasks: Any, count: int, value_of: Callable[[Any], Any]) -> tuple[float, float]:
    noop = tasks.noop
    make = getattr(noop, "delay", noop)
    began = perf_counter()
    results = [make(n) for n in range(count)]
    made = perf_counter() - began
    assert [value_of(result) for result in results] == list(range(count))
    return made, perf_counter() - began


def until(question: Callable[[], Any]) -> Any:
    deadline = monotonic() + PATIENCE
    while monotonic() < deadline:
        if (answer := question()) is not None:
            return answer
        sleep(0.02)
    raise SystemExit("a side does not come up")


SIDES = {"mob": mob_side, "huey, SQLite": huey_side, "Celery, Redis": celery_side}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=3000, help="jobs of a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=REPORT)
    given = parser.parse_args()
    seen: dict[str, list[tuple[float, float]]] = {}
    load = os.getloadavg()[0]
    with ExitStack() as stack:
        sides: dict[str, Round] = {}
        for name, side in SIDES.items():
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mob-bench-")))
            sides[name] = stack.enter_context(side(directory))
            sides[name](50)  # whatever is made the first time
        for _ in range(given.rounds):
            for name, run in sides.items():
                seen.setdefault(name, []).append(run(given.jobs))
                print(name, *(f"{given.jobs / seconds:,.0f}/s" for seconds in seen[name][-1]), flush=True)
    given.out.write_text(report(seen, given.jobs, given.rounds, load))


def report(seen: dict[str, list[tuple[float, float]]], count: int, rounds: int, load: float) -> str:
    lines = [
        "# Durable jobs beside others",
        "",
        f"`python -m bench.jobs`: {rounds} rounds of {count:,} jobs that do nothing, made by one process, run by two,",
        "results waited for; medians. Rounds of the sides alternate. What each promises differs: see the head of",
        "`bench/jobs.py`.",
        "",
        "| | made per second | done per second, results included | mob is |",
        "|---|---|---|---|",
    ]
    done = {name: count / median(total for _, total in each) for name, each in seen.items()}
    for name, each in seen.items():
        made = count / median(first for first, _ in each)
        times = "" if name == "mob" else f"{done['mob'] / done[name]:.1f} x"
        lines.append(f"| {name} | {made:,.0f} | {done[name]:,.0f} | {times} |")
    machine = f"{cpu_model()}, {os.cpu_count()} cores, load before the run {load:.1f}"
    lines += ["", f"{machine}. {versions(['huey', 'celery', 'redis'])}. huey looks for tasks every 10 ms."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
