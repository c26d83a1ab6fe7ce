"""Big data without copies: echoes of a loaned array beside copies by mob, `multiprocessing.Pipe` and Ray; and leaks.

python -m bench.loans            # the table: interleaved rounds, medians
python -m bench.loans --leaks [100000]    # loans, forwards and deaths in great number: what is in use stays flat

`loaned`: the caller sends an array of `mob.empty`, and the worker returns it. `forwarded`: the worker returns what the
caller keeps sending on from another worker's pool. One call at a time.
"""

from __future__ import annotations

import gc
import importlib.util
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

import numpy as np

import mob
from bench.measure import as_time, table
from bench.pipe import Side as PipeSide

MIB = 1024 * 1024
SIZES = (1 * MIB, 50 * MIB, 1024 * MIB)
ROUNDS = 7
POOL = 3 * 1024 * MIB
WORKER = """
import gc, os
import mob
import numpy as np
from mob.mobster import api

third = mob.require("third")
kept = []

def echo(value):
    return value

def made(size):
    return mob.zeros(size, "u1")

def first(value):
    return int(value[0])

def pass_on(value):
    return third.first(value).result()

def die(value):
    call = third.first(value)
    call.result()
    os.kill(os.getpid(), 9)

def figures():
    gc.collect()
    peer = api.current("figures")
    peer.tidy()
    maps = sum("/memfd:mob" in line for line in open("/proc/self/maps"))
    rss = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("RssAnon"))
    return [peer.statistics()["shared"], peer.statistics()["views"], len(os.listdir("/proc/self/fd")), maps, rss]
"""


def main(arguments: list[str]) -> None:
    name = f"bench-loans-{os.getpid()}"
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "worker.py").write_text(WORKER)
        roles = "".join(f".role({role!r}, './worker.py', shared_memory={POOL})" for role in ("back", "third", "doomed"))
        Path(folder, "main.py").write_text(f"import mob\nmob.start({name!r}).base(__file__){roles}.run()\n")
        app = subprocess.Popen([sys.executable, "main.py"], cwd=folder, stdout=subprocess.DEVNULL)
        try:
            with connected(name) as client:
                if "--leaks" in arguments:
                    leaks(client, int(arguments[-1]) if arguments[-1].isdigit() else 100_000)
                else:
                    echoes(client)
        finally:
            app.terminate()
            app.wait()


def connected(name: str) -> mob.Client:
    """The app, as soon as it is there."""
    deadline = perf_counter() + 30
    while True:
        try:
            return mob.connect(name)
        except mob.AppNotRunning:
            if perf_counter() > deadline:
                raise
            sleep(0.05)


# --- echoes -----------------------------------------------------------------------------------------------------------


def echoes(client: Any) -> None:
    back, third = client.require("back"), client.require("third")
    lines = []
    for size in SIZES:
        ordinary = np.ones(size, "u1")
        ways: dict[str, Callable[[int], float]] = {"forwarded": partial(timed, back, third.made(size).result(60))}
        ways["a small call"] = partial(timed, back, "x")
        pipe = PipeSide()
        if size <= 64 * MIB:  # the others take seconds for more
            ways["loaned"] = partial(timed, back, mob.empty(size, "u1"))
            ways["mob, ordinary"] = partial(timed, back, ordinary)
            pipe.start()
            ways["Pipe"] = partial(piped, pipe, ordinary)
            if importlib.util.find_spec("ray"):
                ways["Ray"] = ray_echo(ordinary)
        times: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(ROUNDS):
            for name, way in ways.items():
                n = 20 if name in ("loaned", "forwarded", "a small call") else max(1, 20 * MIB // size)
                times[name].append(way(n) / n)
        medians = {name: statistics.median(each) for name, each in times.items()}
        lines.append([f"{size // MIB} MiB", *(as_time(medians[name]) if name in medians else "-" for name in NAMES)])
        if size <= 64 * MIB:
            pipe.stop()
    print(table(["array", *NAMES], lines))


NAMES = ("a small call", "loaned", "forwarded", "mob, ordinary", "Pipe", "Ray")


def timed(back: Any, value: Any, n: int) -> float:
    echo = back.echo
    start = perf_counter()
    for _ in range(n):
        found = echo(value).result(60)
    spent = perf_counter() - start
    assert len(found) == len(value)
    return spent


def piped(pipe: PipeSide, value: Any, n: int) -> float:
    send, receive = pipe.end.send, pipe.end.recv
    start = perf_counter()
    for _ in range(n):
        send(value)
        receive()
    return perf_counter() - start


def ray_echo(value: Any) -> Callable[[int], float]:
    ray = importlib.import_module("ray")
    if not ray.is_initialized():
        ray.init(num_cpus=1, log_to_driver=False)

    class Echo:
        def echo(self, value: Any) -> Any:
            return value

    actor = ray.remote(Echo).remote()

    def run(n: int) -> float:
        start = perf_counter()
        for _ in range(n):
            ray.get(actor.echo.remote(value))
        return perf_counter() - start

    run(1)
    return run


# --- leaks ------------------------------------------------------------------------------------------------------------


def leaks(client: Any, count: int, deaths: int = 20) -> None:
    """Print figures of all processes at intervals; what grows from the second line on leaks."""
    back, third, doomed = (client.require(role) for role in ("back", "third", "doomed"))
    print("loans   (bytes shared, views, descriptors, mappings, private KiB) of this process, back, third")
    for done in range(count + 1):
        loan = mob.empty(65_536, "u1")
        loan[0] = done % 200
        if done % 2:
            assert back.pass_on(loan).result(60) == done % 200
        else:
            assert back.echo(loan).result(60)[0] == done % 200
        if deaths and done % max(1, count // deaths) == 0:
            doomed.die(loan).exception(60)
            doomed.options(wait=60).first(loan).result(60)
        del loan
        if done % max(1, count // 10) == 0:
            sleep(1.5)
            print(f"{done:>7}", own(client), back.figures().result(60), third.figures().result(60), flush=True)


def own(client: Any) -> list[int]:
    gc.collect()
    maps = sum("/memfd:mob" in line for line in Path("/proc/self/maps").read_text().splitlines())
    status = Path("/proc/self/status").read_text().splitlines()
    rss = next(int(line.split()[1]) for line in status if line.startswith("RssAnon"))
    return [client.statistics()["shared"], client.statistics()["views"], len(os.listdir("/proc/self/fd")), maps, rss]


if __name__ == "__main__":
    main(sys.argv[1:])
