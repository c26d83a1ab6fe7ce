"""`python -m bench.serving`: requests per second of a role with `serve=`, beside the servers that do the same.

Each serves the same ASGI application with two workers on one port, without an access log: mob, `uvicorn --workers 2`,
gunicorn with uvicorn's worker class, granian. All run at once, and are asked one after the other by wrk, in rounds, so
that a ratio compares neighbours in time. uvicorn, gunicorn and mob use the same uvloop and httptools; granian has a
server of its own, in Rust. Wants wrk (`apt-get install wrk`). Writes bench/SERVING.md.

Limits: client and servers share the cores, so the figures are low and the ratios count.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from time import monotonic, sleep

import psutil

from bench.mob_side import new_name
from bench.side import ROOT

REPORT = ROOT / "bench" / "SERVING.md"
APPS = ROOT / "bench" / "apps"
PATHS = {"/": "13 bytes of text", "/json": "a kilobyte of JSON"}
CONNECTIONS = 64
PATIENCE = 30.0
BIN = Path(sys.executable).parent
MOB = """
import mob
mob.start({name!r}).base({base!r}).role("web", "served:app", workers=2, serve="127.0.0.1:{port}").run()
"""


@dataclass
class Series:
    """The rounds of one server with one path."""

    rates: list[float] = field(default_factory=list[float])
    medians: list[float] = field(default_factory=list[float])
    worst: list[float] = field(default_factory=list[float])  # 99 of 100 are faster
    costs: list[float] = field(default_factory=list[float])  # seconds of a core for one request


def commands(ports: dict[str, int]) -> dict[str, list[str]]:
    """How each is started."""
    worker = ["-k", "uvicorn_worker.UvicornWorker", "-w", "2", "--log-level", "warning"]
    return {
        "mob": [sys.executable, "-c", MOB.format(name=new_name(), base=str(APPS), port=ports["mob"])],
        "uvicorn": [
            *(str(BIN / "uvicorn"), "served:app", "--workers", "2", "--port", str(ports["uvicorn"])),
            *("--no-access-log", "--log-level", "warning"),
        ],
        "gunicorn": [str(BIN / "gunicorn"), "served:app", "-b", f"127.0.0.1:{ports['gunicorn']}", *worker],
        "granian": [
            *(str(BIN / "granian"), "--interface", "asgi", "--workers", "2", "--loop", "uvloop", "--no-access-log"),
            *("--log-level", "warning", "--port", str(ports["granian"]), "served:app"),
        ],
    }


@contextlib.contextmanager
def all_serving() -> Iterator[tuple[dict[str, int], dict[str, psutil.Process]]]:
    """Every server that is installed: its port, and its first process."""
    names = ["mob", "uvicorn", "gunicorn", "granian"]
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    running: dict[str, subprocess.Popen[bytes]] = {}
    with tempfile.TemporaryFile() as output:
        try:
            for name, command in commands(ports).items():
                if Path(command[0]).exists():
                    running[name] = subprocess.Popen(command, cwd=APPS, stdout=output, stderr=output)
                else:
                    print(f"{name} is not installed: its row is left out", file=sys.stderr)
                    del ports[name]
            for name, port in ports.items():
                wait_for(name, port)
            yield ports, {name: psutil.Process(process.pid) for name, process in running.items()}
        finally:
            for process in running.values():
                process.terminate()
            for process in running.values():
                process.wait(PATIENCE)


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [sock.getsockname()[1] for sock in held]


def wait_for(name: str, port: int) -> None:
    deadline = monotonic() + PATIENCE
    while monotonic() < deadline:
        with contextlib.suppress(OSError):
            pid_of_a_worker(port)
            return
        sleep(0.05)
    raise RuntimeError(f"{name} does not serve on port {port}")


def pid_of_a_worker(port: int) -> int:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/pid", timeout=5) as answer:
        return int(answer.read())


def ask(port: int, path: str, seconds: int) -> tuple[float, float, float]:
    """Requests per second; seconds that half of them, and 99 of 100, took at most."""
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}", "--latency", f"http://127.0.0.1:{port}{path}"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in said or "Socket errors" in said:
        raise RuntimeError(f"not all requests were answered:\n{said}")
    rate = re.search(r"Requests/sec:\s+([\d.]+)", said)
    times = dict(re.findall(r"(50|99)%\s+([\d.]+\w+)", said))
    assert rate is not None
    return float(rate[1]), seconds_in(times["50"]), seconds_in(times["99"])


def seconds_in(text: str) -> float:
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s)", text).groups()  # type: ignore[union-attr]
    return float(number) * {"us": 1e-6, "ms": 1e-3, "s": 1.0}[unit]


def time_on_cores(server: psutil.Process) -> float:
    """Seconds that the server and its workers have computed so far; it hardly depends on who else is busy."""
    times = [each.cpu_times() for each in (server, *server.children(recursive=True))]
    return sum(each.user + each.system for each in times)


def share_of_the_busiest(port: int) -> float:
    """Of a thousand new connections, the part that the busiest worker got; with two workers half is even."""
    counts = Counter(pid_of_a_worker(port) for _ in range(1000))
    return max(counts.values()) / counts.total()


def report(table: dict[tuple[str, str], Series], shares: dict[str, float], rounds: int, seconds: int) -> str:
    lines = [
        "# What serving HTTP costs",
        "",
        f"Made by `python -m bench.serving`: two workers each, {CONNECTIONS} connections that are kept, asked by wrk",
        f"for {seconds} s, {rounds} rounds in turns, all on one machine. The median of the rounds; 'of uvicorn' is the",
        "median of the ratios of single rounds; 'core' the time of a core that a request takes, which depends least",
        "on what else the machine does; 'busiest' the share of one worker in a thousand new connections.",
        "",
        "| path | server | requests/s | of uvicorn | core | half within | 99 % within | busiest |",
        "|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    for (path, name), series in table.items():
        peers = table[path, "uvicorn"].rates
        ratio = median(own / other for own, other in zip(series.rates, peers, strict=True))
        half, most, core = median(series.medians) * 1e3, median(series.worst) * 1e3, median(series.costs) * 1e6
        lines.append(
            f"| {PATHS[path]} | {name} | {median(series.rates):,.0f} | {ratio:.2f} | {core:.0f} us "
            f"| {half:.2f} ms | {most:.1f} ms | {shares[name]:.0%} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.serving", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--write", type=Path, default=REPORT)
    given = parser.parse_args()
    if shutil.which("wrk") is None:
        raise SystemExit("bench.serving wants wrk, which asks the servers. On Debian: apt-get install wrk")
    table: dict[tuple[str, str], Series] = {}
    with all_serving() as (ports, servers):
        for port in ports.values():
            ask(port, "/", 1)  # warm
        for number in range(given.rounds):
            for path in PATHS:
                for name in ports if number % 2 else reversed(ports):
                    series = table.setdefault((path, name), Series())
                    before = time_on_cores(servers[name])
                    rate, half, most = ask(ports[name], path, given.seconds)
                    series.costs.append((time_on_cores(servers[name]) - before) / (rate * given.seconds))
                    series.rates.append(rate)
                    series.medians.append(half)
                    series.worst.append(most)
        shares = {name: share_of_the_busiest(port) for name, port in ports.items()}
    ordered = {(path, name): table[path, name] for path in PATHS for name in ports}
    text = report(ordered, shares, given.rounds, given.seconds)
    given.write.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
