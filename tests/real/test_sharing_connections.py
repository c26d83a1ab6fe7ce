"""Each worker has its share of the connections, and none waits long for a worker that does not come."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import pytest

from tests.patience import patient
from tests.real.test_ports_end import APPLICATION
from tests.running import Apps, RunningApp, free_port, freeze, wait_until

KEPT = APPLICATION.replace('[(b"connection", b"close")]', '[(b"content-length", b"%d" % len(str(os.getpid())))]')
SITE = (
    KEPT
    + """
    def connections():
        return len(os.listdir("/proc/self/fd"))
    """
)
BURSTS = 5
"""How often connections are opened at once: a machine that is busy may hold up one worker now and then."""
FAIR = 0.65
"""The share of two that the busiest may have: half of all, and one in eight that a machine gives the wrong worker."""


class Visitor:
    """A connection that is kept."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock

    def ask(self) -> int:
        """Return the pid of who answers."""
        self.sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = b""
        while not answer.partition(b"\r\n\r\n")[2]:
            data = self.sock.recv(4096)
            assert data, answer
            answer += data
        return int(answer.partition(b"\r\n\r\n")[2])


Connect = Callable[[], socket.socket]


def tcp(port: int) -> Connect:
    return lambda: socket.create_connection(("127.0.0.1", port), timeout=patient(60))


def unix(path: Path) -> Connect:
    def connect() -> socket.socket:
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(patient(60))
        sock.connect(os.path.relpath(path))
        return sock

    return connect


def answers(connect: Connect, count: int) -> Counter[int]:
    """Who answers on so many connections that are opened at once and asked twice."""
    with ExitStack() as stack, ThreadPoolExecutor(count) as pool:
        visitors = [Visitor(stack.enter_context(connect())) for _ in range(count)]
        first = list(pool.map(Visitor.ask, visitors))
        assert list(pool.map(Visitor.ask, visitors)) == first
    return Counter(first)


def busiest(connect: Connect, count: int) -> float:
    """The share of the worker that has most, in an ordinary burst."""
    return median(max(answers(connect, count).values()) / count for _ in range(BURSTS))


def wait_fair(connect: Connect, count: int, most: float = FAIR) -> None:
    """Wait until bursts are shared fairly: as long as other work keeps a worker from its turn, they are not."""
    wait_until(lambda: busiest(connect, count) <= most, f"the busiest worker has {most:.0%} of {count} connections")


def start(apps: Apps, address: str, workers: int = 2, options: str = "") -> RunningApp:
    role = f'.role("front", "./front.py:app", workers={workers}, serve="{address}"{options})'
    app = apps.start(role, options="grace=5", front=SITE)
    app.wait_ready(workers)
    return app


@pytest.fixture
def certificate(apps: Apps) -> str:
    command = "openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 1 -subj /CN=localhost"
    subprocess.run(command.split(), cwd=apps.directory, check=True, stderr=subprocess.DEVNULL)
    return ', serve_options={"ssl_keyfile": "key.pem", "ssl_certfile": "cert.pem"}'


@pytest.mark.parametrize("count", [8, 64])
def test_connections_that_are_opened_at_once(apps: Apps, count: int) -> None:
    port = free_port()
    start(apps, f"127.0.0.1:{port}")
    wait_fair(tcp(port), count)


@pytest.mark.parametrize("count", [8, 64])
def test_connections_of_a_unix_socket(apps: Apps, count: int) -> None:
    start(apps, "unix:./front.sock")
    wait_fair(unix(apps.directory / "front.sock"), count)


def test_three_workers(apps: Apps) -> None:
    port = free_port()
    start(apps, f"127.0.0.1:{port}", workers=3)
    wait_fair(tcp(port), 30, 0.5)


def test_connections_with_tls(apps: Apps, certificate: str) -> None:
    port = free_port()
    start(apps, f"127.0.0.1:{port}", options=certificate)
    context = ssl.create_default_context(cafile=str(apps.directory / "cert.pem"))
    wait_fair(lambda: context.wrap_socket(tcp(port)(), server_hostname="localhost"), 8)


def test_a_handshake_that_fails_counts_for_nothing(apps: Apps, certificate: str) -> None:
    port = free_port()
    app = start(apps, f"127.0.0.1:{port}", options=certificate)
    for _ in range(20):
        with tcp(port)() as sock:
            sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            while sock.recv(4096):
                pass
    context = ssl.create_default_context(cafile=str(apps.directory / "cert.pem"))
    wait_fair(lambda: context.wrap_socket(tcp(port)(), server_hostname="localhost"), 8)
    assert "Traceback" not in app.output


def test_connections_that_are_opened_one_after_another(apps: Apps) -> None:
    port = free_port()
    start(apps, f"127.0.0.1:{port}")

    def share() -> int:
        with ExitStack() as stack:
            seen = Counter(Visitor(stack.enter_context(tcp(port)())).ask() for _ in range(20))
        return max(seen.values())

    wait_until(lambda: share() <= 13, "the busiest worker has 13 of 20 connections at most")


@pytest.mark.parametrize("count", [1, 8, 64])
def test_a_worker_that_does_not_come_is_not_waited_for(apps: Apps, count: int) -> None:
    port = free_port()
    app = start(apps, f"127.0.0.1:{port}")
    pids = [member.pid for member in app.ready(app.clients[0])]
    freeze(pids[0])
    try:
        assert answers(tcp(port), count) == {pids[1]: count}
    finally:
        os.kill(pids[0], signal.SIGCONT)
    wait_until(lambda: set(answers(tcp(port), 16)) == set(pids), "both serve again")


def test_the_connections_of_a_dead_worker_do_not_count(apps: Apps) -> None:
    port = free_port()
    app = start(apps, f"127.0.0.1:{port}")
    with ExitStack() as stack:
        kept = [Visitor(stack.enter_context(tcp(port)())) for _ in range(40)]
        victim = kept[0].ask()
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: len({m.pid for m in app.ready(app.clients[0])} - {victim}) == 2, "its successor is ready")
        wait_until(lambda: len(answers(tcp(port), 30)) == 2, "both serve")


def test_nothing_is_left_of_connections_that_have_ended(apps: Apps) -> None:
    port = free_port()
    app = start(apps, f"127.0.0.1:{port}", workers=1)
    front = app.clients[0].require("front")
    answers(tcp(port), 8)
    before = front.connections().result(patient(30))
    for _ in range(5):
        answers(tcp(port), 8)
    wait_until(lambda: front.connections().result(patient(30)) <= before, "all connections are closed")
