"""`python -m bench.pages`: a 50 MB ordinary array there and back, in processes that have just started.

What costs is fresh memory: its first page costs more than the copy. So each round starts every peer anew, and each
round trip is timed by itself: the first one, the median of the ten that a cold run has, and the median of the next
thirty. The peers take turns. For mob the processor time of both ends is told as well: what else the machine does
changes it less.

Limits: one call at a time. A peer that is not installed (Ray) is left out.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from statistics import median
from time import perf_counter
from typing import Any

import numpy

from bench.measure import ARRAY
from bench.side import ROOT

COLD, WARM = 10, 30
PEERS = ("mob", "Ray", "Pipe")


class Echo:
    """What answers, in the other process."""

    def echo(self, value: Any) -> Any:
        return value


def timed(echo: Callable[[Any], Any], spent: Callable[[], float] = lambda: 0.0) -> dict[str, list[float]]:
    """The seconds of each round trip, and the processor time of both ends."""
    echo(numpy.ones(ARRAY // 80_000))  # both ends have imported what they need
    value = numpy.ones(ARRAY // 8)
    times: list[float] = []
    costs: list[float] = []
    before = spent()
    for _ in range(COLD + WARM):
        start = perf_counter()
        reply = echo(value)
        assert reply[-1] == 1.0  # as who works on it would look at it
        times.append(perf_counter() - start)
        costs.append(spent() - before)
        before += costs[-1]
    return {"times": times, "costs": costs}


def spent_here() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def run_mob() -> dict[str, list[float]]:
    from bench.mob_side import new_name
    from bench.observing import connected

    name = new_name()
    app = subprocess.Popen([sys.executable, ROOT / "bench/apps/pair.py", name], stdout=subprocess.DEVNULL)
    try:
        with connected(name, app) as client:
            back = client.require("back")
            return timed(lambda value: back.echo(value).result(), lambda: spent_here() + back.spent().result())
    finally:
        app.terminate()
        app.wait()


def run_ray() -> dict[str, list[float]]:
    import ray  # pyright: ignore[reportMissingImports]

    ray.init(address="local", num_cpus=2, object_store_memory=2 * 2**30, include_dashboard=False, log_to_driver=False)
    try:
        actor = ray.remote(Echo).remote()  # type: ignore[attr-defined]
        return timed(lambda value: ray.get(actor.echo.remote(value)))
    finally:
        ray.shutdown()


def run_pipe() -> dict[str, list[float]]:
    from bench.pipe import Side

    side = Side()
    side.start()
    try:

        def echo(value: Any) -> Any:
            side.end.send(value)
            return side.end.recv()

        return timed(echo)
    finally:
        side.stop()


RUNS = {"mob": run_mob, "Ray": run_ray, "Pipe": run_pipe}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peer", choices=PEERS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peer:
        print(json.dumps(RUNS[options.peer]()))
        return
    peers = [peer for peer in PEERS if peer != "Ray" or importlib.util.find_spec("ray")]
    rounds: dict[str, list[dict[str, list[float]]]] = {peer: [] for peer in peers}
    for _ in range(options.rounds):
        for peer in peers:
            command = [sys.executable, "-m", "bench.pages", "--peer", peer]
            ran = subprocess.run(command, cwd=ROOT, env=dict(os.environ), check=True, capture_output=True, text=True)
            rounds[peer].append(json.loads(ran.stdout.splitlines()[-1]))
    print("| 50 MB there and back | first | cold run, median | warm, median | best | processor time: 1st, 2nd, last |")
    print("|---|---:|---:|---:|---:|---:|")
    for peer, ran in rounds.items():
        first = median(each["times"][0] for each in ran)
        cold = median(time for each in ran for time in each["times"][:COLD])
        warm = median(time for each in ran for time in each["times"][COLD:])
        best = min(time for each in ran for time in each["times"])
        costs = [median(each["costs"][at] for each in ran) for at in (0, 1, -1)]
        told = ", ".join(f"{1000 * cost:.0f}" for cost in costs) + " ms" if peer == "mob" else ""
        times = " | ".join(f"{1000 * time:.1f} ms" for time in (first, cold, warm, best))
        print(f"| {peer} | {times} | {told} |")


if __name__ == "__main__":
    main()
