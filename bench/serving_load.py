"""Load for servers, by wrk and h2load, and rounds of it: all servers of a table are asked in turns.

A ratio compares one round of one server with the same round of another, so that it compares neighbours in time.
"""

from __future__ import annotations

import contextlib
import http.client
import re
import shutil
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any, NamedTuple

from bench.serving_servers import Server

Case = str
"""A row of a table, as it is called there."""


class Load(NamedTuple):
    """What one round of load has seen: requests per second, seconds within which half and 99 of 100 were answered, and
    how many failed."""

    rate: float
    half: float
    most: float
    failed: int = 0


@dataclass
class Series:
    """The rounds of one server in one case."""

    loads: list[Load] = field(default_factory=list[Load])
    costs: list[float] = field(default_factory=list[float])  # seconds of a core for one request

    @property
    def rate(self) -> float:
        """The median of requests per second."""
        return median(load.rate for load in self.loads)

    @property
    def failed(self) -> int:
        """All requests that were not answered with 200."""
        return sum(load.failed for load in self.loads)

    def ratio(self, other: Series) -> float:
        """Return the median of the ratios of single rounds."""
        pairs = zip(self.loads, other.loads, strict=True)
        return median(mine.rate / max(theirs.rate, 1e-9) for mine, theirs in pairs)


Ask = Callable[[Server], Load]
Table = dict[tuple[Case, str], Series]


def rounds_of(
    servers: dict[str, Server], cases: Mapping[Any, tuple[Ask, Iterable[str]]], rounds: int, seconds: float
) -> Table:
    """Ask all servers in all cases, each with those that it names; in turns, every second round backwards."""
    table: Table = {(case, name): Series() for case, (_, names) in cases.items() for name in names if name in servers}
    for number in range(rounds):
        for case, name in list(table) if number % 2 else reversed(table):
            server, series = servers[name], table[case, name]
            before = server.time_on_cores()
            load = cases[case][0](server)
            series.loads.append(load)
            series.costs.append((server.time_on_cores() - before) / max(1.0, load.rate * seconds))
    return table


def by_wrk(path: str, connections: int, seconds: float, *headers: str) -> Ask:
    """Return the load of wrk: so many connections, each of which asks again when it is answered."""

    def ask(server: Server) -> Load:
        command = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}", "--latency", "--timeout", "10s"]
        command += [word for header in headers for word in ("-H", header)]
        said = subprocess.run([*command, server.url + path], capture_output=True, text=True, check=True).stdout
        rate = re.search(r"Requests/sec:\s+([\d.]+)", said)
        times = dict(re.findall(r"(50|99)%\s+([\d.]+\w+)", said))
        wrong = re.search(r"Non-2xx or 3xx responses: (\d+)", said)
        errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", said)
        assert rate is not None, said
        failed = int(wrong[1]) if wrong else 0
        failed += sum(map(int, errors.groups())) if errors and not headers else 0  # wrk takes a close for an error
        return Load(float(rate[1]), seconds_in(times["50"]), seconds_in(times["99"]), failed)

    return ask


def by_h2load(path: str, connections: int, streams: int, seconds: float, is_1: bool = False) -> Ask:
    """Return the load of h2load: so many connections over TLS, with so many requests at once on each."""

    def ask(server: Server) -> Load:
        version = ["--h1"] if is_1 else []
        how = [f"-c{connections}", f"-m{1 if is_1 else streams}", f"-D{max(1, round(seconds))}", "-t1"]
        said = subprocess.run(["h2load", *version, *how, server.url + path], capture_output=True, text=True).stdout
        rate = re.search(r"finished in [\d.]+\w+, ([\d.]+) req/s", said)
        times = re.search(r"time for request:\s+\S+\s+(\S+)\s+(\S+)", said)
        codes = re.search(r"status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", said)
        if rate is None or times is None or codes is None:
            raise RuntimeError(f"h2load and {server.name}: {said}")
        failed = sum(map(int, codes.groups()[1:]))
        return Load(float(rate[1]), seconds_in(times[2]), seconds_in(times[1]), failed)

    return ask


def seconds_in(text: str) -> float:
    """Return a duration as wrk and h2load write it."""
    found = re.fullmatch(r"([\d.]+)(us|ms|s|m)", text)
    assert found is not None, text
    return float(found[1]) * {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}[found[2]]


def share_of_the_busiest(server: Server, connections: int, tries: int = 5) -> float:
    """Return the part of so many connections, opened at once, that the busiest worker has; the median of some tries."""
    return median(_share(server, connections) for _ in range(tries))


def _share(server: Server, connections: int) -> float:
    pids: list[int] = []
    gate = threading.Barrier(connections)

    def come() -> None:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)) as connection:
            gate.wait()
            connection.request("GET", "/pid")
            pids.append(int(connection.getresponse().read()))
            gate.wait()

    threads = [threading.Thread(target=come) for _ in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return max(Counter(pids).values()) / len(pids)


def missing() -> list[str]:
    """Return the programs that are needed and not installed."""
    packages = {"wrk": "wrk", "h2load": "nghttp2-client", "curl": "curl", "openssl": "openssl"}
    return [package for program, package in packages.items() if shutil.which(program) is None]
