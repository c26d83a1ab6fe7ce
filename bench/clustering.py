"""`python -m bench.clustering`: calls between two machines of a cluster, beside nats-py. Writes bench/CLUSTERING.md.

Everything runs on this one machine, the NATS server too: two nodes of an app, each with a gateway, and two processes
that use nats-py alone for request and reply, on the same server. They are measured in turns. A third app, without a
cluster, tells what local calls cost; the clustered one's are measured in a node that runs both roles.

Limits: a network would add the same to both sides, so the ratios here are the worst that there can be. Seven processes
share this machine's cores.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from time import perf_counter, sleep
from typing import IO

import mob
from bench.mob_side import new_name
from bench.side import ROOT

MAIN = ROOT / "bench" / "apps" / "clustered.py"
REPORT = ROOT / "bench" / "CLUSTERING.md"
WIDTH = 100
PAYLOAD = 10_000_000
PATIENCE = 30.0
WHERE = """\
One after another is where the gateways are paid for: a call and its answer pass eight sockets, those of nats-py four.
Waking a sleeping process costs 30 to 45 µs on such a virtual machine, and each has cold caches then. Processor time of
one call that takes 670 µs: the two gateways 150 µs each, the NATS server 180, caller and callee 90 each; hence all of
them are busy one after the other, and nothing in them stands out. A gateway that waits awake for what comes back at
once (`Reactor.linger`) saves 50 µs; waiting longer saves no more. Of 100 at once many share a packet.""".splitlines()


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


class Processes:
    """What is started, and ended when it is over."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._started: list[subprocess.Popen[str]] = []

    def start(self, *command: str | Path, piped: bool = False) -> subprocess.Popen[str]:
        output: int | IO[bytes] = subprocess.PIPE if piped else (self.folder / f"{len(self._started)}.log").open("wb")
        process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.PIPE if piped else subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=ROOT,
        )
        self._started.append(process)
        return process

    def stop(self) -> None:
        for process in reversed(self._started):
            process.terminate()
        for process in reversed(self._started):
            process.wait()


class Asker:
    """The process that asks by nats-py."""

    def __init__(self, processes: Processes, server: str) -> None:
        python = (sys.executable, "-m", "bench.nats_side", server)
        for part in ("answer", "ask"):
            process = processes.start(*python, part, piped=True)
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            self._process = process

    def measure(self, what: str, n: int) -> float:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([what, n, WIDTH]) + "\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())


def connected(name: str) -> mob.Client:
    deadline = perf_counter() + PATIENCE
    while perf_counter() < deadline:
        try:
            return mob.connect(name)
        except mob.AppNotRunning:
            sleep(0.01)
    raise RuntimeError(f"{name} did not start")


Caller = Callable[..., float]


def caller_of(stack: ExitStack, name: str) -> Caller:
    """What has the caller of an app measure something."""
    caller = stack.enter_context(connected(name)).require("caller")
    return lambda what, *args: getattr(caller, what)(*args).result(120)


def report(rates: dict[str, dict[str, list[float]]], rounds: int) -> str:
    middle = {row: {side: median(values) for side, values in sides.items()} for row, sides in rates.items()}
    at_once, awaited, local = middle["at once"], middle["awaited"], middle["local"]
    ratio, factor = at_once["mob"] / at_once["nats"], awaited["mob"] / awaited["nats"]
    lines = [
        "# Calls between two machines",
        "",
        f"Made by `python -m bench.clustering` with {os.cpu_count()} cores, {rounds} rounds in turns; medians. nats-py",
        "does request and reply of the same few bytes over the same server. Two machines are two nodes on this one.",
        "",
        "| what | mob | nats-py | ratio | wanted |",
        "|---|--:|--:|--:|--:|",
        _row(f"{WIDTH} calls at once, calls/s", at_once["mob"], at_once["nats"], ratio, "at least 0.60"),
        _row("one after another, µs each", awaited["mob"] * 1e6, awaited["nats"] * 1e6, factor, "at most 1.50"),
        f"| payloads of 10 MB, MB/s | {middle['payload']['mob']:,.0f} | | | at least 200 |",
        "",
        "| local calls, 100 at once | calls/s | of that without | wanted |",
        "|---|--:|--:|--:|",
        f"| without a cluster | {local['alone']:,.0f} | | |",
        f"| in a cluster | {local['clustered']:,.0f} | {local['clustered'] / local['alone']:.1%} | at least 97 % |",
    ]
    return "\n".join([*lines, "", *WHERE]) + "\n"


def _row(what: str, own: float, other: float, ratio: float, wanted: str) -> str:
    return f"| {what} | {own:,.0f} | {other:,.0f} | {ratio:.2f} | {wanted} |"


def measure(rounds: int, scale: float) -> dict[str, dict[str, list[float]]]:
    rates: dict[str, dict[str, list[float]]] = {}

    def note(row: str, side: str, value: float) -> None:
        rates.setdefault(row, {}).setdefault(side, []).append(value)

    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        processes = Processes(Path(folder))
        stack.callback(processes.stop)
        port = free_port()
        server = f"nats://127.0.0.1:{port}"
        processes.start(Path(sys.executable).parent / "nats-server", "-a", "127.0.0.1", "-p", str(port))
        wait_for_port(port)
        name, whole, alone = new_name(), new_name(), new_name()
        processes.start(sys.executable, MAIN, name, "caller", server, "a")
        processes.start(sys.executable, MAIN, name, "back", server, "b")
        processes.start(sys.executable, MAIN, whole, "caller,back", server, "c")
        processes.start(sys.executable, MAIN, alone, "caller,back")
        far, clustered, local = (caller_of(stack, app) for app in (f"{name}@a", f"{whole}@c", alone))
        asker = Asker(processes, server)
        n, single = max(1, int(100 * scale)), max(1, int(2000 * scale))
        for number in range(rounds + 1):
            warm = number == 0
            for row, side, value in [
                ("at once", "mob", lambda: n * WIDTH / far("at_once", n, WIDTH)),
                ("at once", "nats", lambda: n * WIDTH / asker.measure("at_once", n)),
                ("awaited", "mob", lambda: far("awaited", single) / single),
                ("awaited", "nats", lambda: asker.measure("awaited", single) / single),
                ("payload", "mob", lambda: 10 * PAYLOAD / 1e6 / far("payload", 10, PAYLOAD)),
                ("local", "alone", lambda: 5 * n * WIDTH / local("at_once", 5 * n, WIDTH)),
                ("local", "clustered", lambda: 5 * n * WIDTH / clustered("at_once", 5 * n, WIDTH)),
            ]:
                measured = value()
                if not warm:
                    note(row, side, measured)
    return rates


def wait_for_port(port: int) -> None:
    deadline = perf_counter() + PATIENCE
    while perf_counter() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            sleep(0.01)
    raise RuntimeError("nats-server did not start")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.clustering", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--scale", type=float, default=1.0, help="of the calls of a round")
    parser.add_argument("--write", type=Path, default=REPORT)
    given = parser.parse_args()
    text = report(measure(given.rounds, given.scale), given.rounds)
    given.write.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
