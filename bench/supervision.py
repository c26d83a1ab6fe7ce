"""Supervision in figures: mob beside gunicorn, circus and PM2, where they can do it.

`python -m bench.supervision` writes bench/SUPERVISION.md. All serve HTTP with one tiny application that answers its
pid; mob, circus and PM2 run the very same script, gunicorn the same as WSGI. A figure is the median of the rounds, the
best in brackets. What is not installed is left out.

* successor: from `kill -9` of the only worker until a request is answered by another process. For mob also by a call.
  Each round takes a fresh app, for a worker that dies twice in a row is answered after a pause by some. mob preloads
  the standard library's HTTP server, as gunicorn has its own loaded.
* spare: from `kill -9` of the only worker of a role that takes ten seconds to boot until another process has answered a
  call; with `spare=1` one has booted before. `python -m bench.supervision spares` measures these two rows alone.
* start: from the start of the command until six workers are there and a request is answered.
* reload: from the order until eight new workers have taken the places of eight old ones, which are gone.
* memory: PSS of an idle worker with numpy preloaded, mean of four. Here and in the next row mob's workers serve calls
  and no HTTP, for the standard library's server is not idle: it looks twice a second whether it is to end.
* idle CPU: user and system time of sixteen idle workers and their master, in per cent of one core.
"""

from __future__ import annotations

import atexit
import http.client
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

import psutil

import mob
from bench.mob_side import free_port, new_name
from bench.side import ROOT

FOLDER = ROOT / "bench" / "apps" / "supervised"
REPORT = ROOT / "bench" / "SUPERVISION.md"
PATIENCE = 60.0
ROUNDS = 5
IDLE = 60.0
BOOT = 10.0
"""Seconds that a role takes to boot which loads a model."""
SPARES = "`kill -9` until a role that takes 10 s to boot answers a call,"
BIN = Path(sys.executable).parent


class Service:
    """A running server with its workers, whoever supervises them."""

    def __init__(self, command: list[str], port: int, **environment: str) -> None:
        self.port = port
        self.begun = perf_counter()
        env = {**os.environ, "PORT": str(port), "PYTHONPATH": str(ROOT / "src"), **environment}
        self.process = subprocess.Popen(
            command, cwd=FOLDER, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, process_group=0
        )
        self.master = psutil.Process(self.process.pid)

    def ask(self) -> int:
        """The pid of the worker that answers; 0 if none does."""
        try:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
            connection.request("GET", "/")
            answer = int(connection.getresponse().read())
            connection.close()
        except (OSError, http.client.HTTPException, ValueError):
            return 0
        return answer

    def workers(self) -> list[psutil.Process]:
        """The processes that do the work."""
        raise NotImplementedError

    def reload(self) -> None:
        """Orders new workers."""
        self.process.send_signal(signal.SIGHUP)

    def wait(self, question: Callable[[], bool]) -> float:
        """Seconds since the start, when the answer is yes."""
        while not question():
            if perf_counter() - self.begun > PATIENCE:
                raise RuntimeError(f"{self.process.args} took too long")
            sleep(0.0005)
        return perf_counter() - self.begun

    def end(self) -> None:
        """All of it."""
        family = self.master.children(recursive=True) if self.process.poll() is None else []
        self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(10)
        for each in [self.process, *family]:
            with suppress(psutil.NoSuchProcess):
                each.kill()
        self.process.wait()


class Mob(Service):
    def __init__(self, web: int, back: int = 0, preload: str = "", **environment: str) -> None:
        self.name = new_name()
        modules = ["http.server", preload] if preload else ["http.server"]
        command = [sys.executable, "main.py", self.name, str(web), str(back), *modules]
        super().__init__(command, free_port(), **environment)

    def workers(self) -> list[psutil.Process]:
        return [child for child in self.master.children(recursive=True) if "(mobster)" in _title(child)]


class Gunicorn(Service):
    def __init__(self, web: int, preload: str = "") -> None:
        port = free_port()
        options = ["--preload"] if preload else []
        environment = {"PRELOAD": preload} if preload else {}
        command = [str(BIN / "gunicorn"), "-w", str(web), "-b", f"127.0.0.1:{port}", *options, "wsgi:application"]
        super().__init__(command, port, **environment)

    def workers(self) -> list[psutil.Process]:
        return self.master.children()


class Circus(Service):
    def __init__(self, web: int) -> None:
        port = free_port()
        self.ini = Path(tempfile.mkdtemp()) / "circus.ini"
        endpoints = "".join(f"{name} = tcp://127.0.0.1:{free_port()}\n" for name in ("endpoint", "pubsub_endpoint"))
        self.ini.write_text(
            f"[circus]\n{endpoints}[watcher:web]\ncmd = {sys.executable} web.py\nworking_dir = {FOLDER}\n"
            f"numprocesses = {web}\ncopy_env = True\n"
        )
        super().__init__([str(BIN / "circusd"), str(self.ini)], port)

    def workers(self) -> list[psutil.Process]:
        return self.master.children()

    def end(self) -> None:
        super().end()
        shutil.rmtree(self.ini.parent)


class Pm2(Service):
    command: str

    def __init__(self, web: int) -> None:
        self.place = Path(tempfile.mkdtemp())
        command = [self.command, "start", "web.py", "--interpreter", sys.executable, "--no-daemon"]
        super().__init__(command, free_port(), PM2_HOME=str(self.place))

    def workers(self) -> list[psutil.Process]:
        return [child for child in self.master.children(recursive=True) if "web.py" in _title(child)]

    def end(self) -> None:
        super().end()
        shutil.rmtree(self.place, ignore_errors=True)


def _title(process: psutil.Process) -> str:
    with suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""


@contextmanager
def running(make: Callable[[], Service], count: int, serves: bool = True) -> Iterator[Service]:
    """A service with so many workers, of which one has answered."""
    service = make()
    try:
        service.wait(lambda: len(service.workers()) >= count and (not serves or service.ask() > 0))
        yield service
    finally:
        service.end()


# ------------------------------------------------------------------------------------------------- what is measured


def successor(make: Callable[[], Service]) -> float:
    with running(make, 1) as service:
        before = service.ask()
        start = perf_counter()
        os.kill(before, signal.SIGKILL)
        service.wait(lambda: service.ask() not in (0, before))
        return perf_counter() - start


def successor_by_call() -> float:
    with running(lambda: Mob(0, back=1), 1, serves=False) as service, _connected(service) as client:
        back = client.require("back")
        before = back.pid().result(PATIENCE)
        start = perf_counter()
        os.kill(before, signal.SIGKILL)
        while True:
            with suppress(mob.CallError):
                if back.pid().result(PATIENCE) != before:
                    return perf_counter() - start


def slow_boot(spare: int, rounds: int) -> Iterator[float]:
    """Kill the worker of a role that takes long to boot; a second after all was there."""
    app = running(lambda: Mob(0, SPARE=str(spare), BOOT=str(BOOT)), 1, serves=False)
    with app as service, _connected(service) as client:
        model = client.require("model")
        for _ in range(rounds):
            service.begun = perf_counter()
            service.wait(lambda: _is_whole(client, spare))
            sleep(1.0)
            before = model.pid().result(PATIENCE)
            start = perf_counter()
            os.kill(before, signal.SIGKILL)
            yield _until_another_answers(model, before) - start


def _is_whole(client: mob.Client, spare: int) -> bool:
    states = sorted(each.state for each in client.members() if each.role == "model")
    return states == ["ready", *["spare"] * spare]


def _until_another_answers(role: Any, before: int) -> float:
    while True:
        with suppress(mob.CallError):
            if role.pid().result(PATIENCE) != before:
                return perf_counter()


def spare_lines(columns: int) -> list[str]:
    """The rows of the report about a role that takes long to boot."""
    lines: list[str] = []
    for spare, rounds, what in ((0, 2, "without a spare"), (1, 2 * ROUNDS, "with `spare=1`")):
        values = list(slow_boot(spare, rounds))
        cell = f"{milliseconds(statistics.median(values))} ({milliseconds(min(values))})"
        label = f"{SPARES} {what} (load average {os.getloadavg()[0]:.1f})"
        print(f"{label}: {cell}", flush=True)
        lines.append(f"| {label} | {cell} |{' - |' * (columns - 1)}")
    return lines


def measure_spares() -> None:
    """Put these rows alone into the report."""
    old = [line for line in REPORT.read_text().splitlines() if not line.startswith(f"| {SPARES}")]
    rows = [number for number, line in enumerate(old) if line.startswith("| `kill -9`")]
    columns = old[rows[-1]].count("|") - 2
    old[rows[-1] + 1 : rows[-1] + 1] = spare_lines(columns)
    REPORT.write_text("\n".join([*old, ""]))


@contextmanager
def _connected(service: Service) -> Iterator[mob.Client]:
    assert isinstance(service, Mob)
    client: list[mob.Client] = []

    def connect() -> bool:
        with suppress(mob.AppNotRunning):
            client.append(mob.connect(service.name))
        return bool(client)

    service.wait(connect)
    with client[0]:
        yield client[0]


def start(make: Callable[[], Service]) -> float:
    service = make()
    try:
        return service.wait(lambda: len(service.workers()) >= 6 and service.ask() > 0)
    finally:
        service.end()


def reload(make: Callable[[], Service]) -> float:
    with running(make, 8) as service:
        old = {worker.pid for worker in service.workers()}
        begun = perf_counter()
        service.reload()

        def is_over() -> bool:
            now = {worker.pid for worker in service.workers()}
            return len(now) == 8 and not now & old

        service.wait(is_over)
        return perf_counter() - begun


def memory(make: Callable[[], Service]) -> float:
    with running(make, 4, serves=False) as service:
        sleep(2.0)  # it is idle from here on, which is what is measured
        return statistics.mean(worker.memory_full_info().pss for worker in service.workers())


def idle(make: Callable[[], Service]) -> float:
    with running(make, 16, serves=False) as service:
        sleep(5.0)
        family = [service.master, *service.master.children(recursive=True)]
        before = sum(sum(each.cpu_times()[:2]) for each in family)
        sleep(IDLE)
        return (sum(sum(each.cpu_times()[:2]) for each in family) - before) / IDLE * 100


# --------------------------------------------------------------------------------------------------------- the report


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:,.1f} ms" if seconds < 0.1 else f"{seconds * 1000:,.0f} ms"


def megabytes(count: float) -> str:
    return f"{count / 1e6:.1f} MB"


def per_cent(share: float) -> str:
    return f"{share:.2f} %"


Make = Callable[..., Service]
ROWS: list[tuple[str, Callable[[Callable[[], Service]], float], int, Callable[[float], str], int, list[str]]] = [
    (
        "`kill -9` until the successor has answered a request",
        successor,
        1,
        milliseconds,
        ROUNDS,
        ["gunicorn", "circus", "PM2"],
    ),
    ("start until six workers are there", start, 6, milliseconds, ROUNDS, ["gunicorn", "circus"]),
    ("reload of eight workers", reload, 8, milliseconds, ROUNDS, ["gunicorn"]),
    ("PSS of an idle worker, numpy preloaded", memory, 4, megabytes, 1, ["gunicorn"]),
    ("CPU of sixteen idle workers and their master", idle, 16, per_cent, 1, ["gunicorn"]),
]


def peers() -> dict[str, Make]:
    found: dict[str, Make] = {"mob": Mob}
    if (BIN / "gunicorn").exists():
        found["gunicorn"] = Gunicorn
    if (BIN / "circusd").exists():
        found["circus"] = Circus
    if pm2 := _installed_pm2():
        Pm2.command = pm2
        found["PM2"] = Pm2
    return found


def _installed_pm2() -> str | None:
    """The command of PM2, which npm installs into a temporary folder; None where there is no npm."""
    npm = shutil.which("npm")
    if npm is None:
        return None
    place = tempfile.mkdtemp(prefix="pm2")
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    done = subprocess.run([npm, "install", "--silent", "pm2"], cwd=place, capture_output=True, check=False)
    command = Path(place, "node_modules", ".bin", "pm2")
    return str(command) if done.returncode == 0 and command.exists() else None


def main() -> None:
    found = peers()
    lines = ["# Supervision, measured", "", str(__doc__).partition("\n\n")[2].strip(), ""]
    lines += [f"| | {' | '.join(found)} |", "|---|" + "---:|" * len(found)]
    for label, measure, count, shown, rounds, able in ROWS:
        cells: list[str] = []
        for name, make in found.items():
            if name != "mob" and name not in able:
                cells.append("-")
                continue
            options: dict[str, Any] = {"preload": "numpy"} if measure is memory else {}
            workers = count
            if name == "mob" and measure in (memory, idle):
                workers, options["back"] = 0, count
            values = [measure(lambda: make(workers, **options)) for _ in range(rounds)]  # noqa: B023  called at once
            best = f" ({shown(min(values))})" if rounds > 1 else ""
            cells.append(f"{shown(statistics.median(values))}{best}")
            print(f"{label}, {name}: {cells[-1]}", flush=True)
        lines.append(f"| {label} | {' | '.join(cells)} |")
    calls = [successor_by_call() for _ in range(ROUNDS)]
    text = f"{milliseconds(statistics.median(calls))} ({milliseconds(min(calls))})"
    lines.append(f"| `kill -9` until the successor has answered a call | {text} |{' - |' * (len(found) - 1)}")
    lines += spare_lines(len(found))
    load = os.getloadavg()[0]
    lines += ["", f"{os.cpu_count()} cores, load average at the end {load:.1f}.", ""]
    REPORT.write_text("\n".join(lines))
    print(f"written to {REPORT}")


if __name__ == "__main__":
    measure_spares() if sys.argv[1:] == ["spares"] else main()
