"""Each worker has its share of the connections, and none waits long for a worker that does not accept."""

from __future__ import annotations

import os
import signal
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import pytest

from tests.patience import patient
from tests.real.test_ports_end import APPLICATION
from tests.real.test_served_applications import made_certificate
from tests.running import RunningApp, apps_in, free_port, freeze, wait_until

KEPT = APPLICATION.replace('[(b"connection", b"close")]', '[(b"content-length", b"%d" % len(str(os.getpid())))]')
SITE = (
    KEPT
    + """
    def connections():
        return len(os.listdir("/proc/self/fd"))
    """
)
BURSTS = 5
"""Number of bursts of connections: a busy machine may delay a worker sometimes."""
FAIR = 0.65
"""Maximum share of the busiest of two: half of all, and one in eight that a machine gives to the wrong worker."""


class Visitor:
    """A connection that is kept open."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock

    def ask(self) -> int:
        """Return the pid of the worker that answers."""
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
    """Return which workers answer on that many connections, opened at once and used twice."""
    with ExitStack() as stack, ThreadPoolExecutor(count) as pool:
        visitors = [Visitor(stack.enter_context(connect())) for _ in range(count)]
        first = list(pool.map(Visitor.ask, visitors))
        assert list(pool.map(Visitor.ask, visitors)) == first
    return Counter(first)


def busiest(connect: Connect, count: int) -> float:
    """Return the share of the busiest worker in an ordinary burst."""
    return median(max(answers(connect, count).values()) / count for _ in range(BURSTS))


def wait_fair(connect: Connect, count: int, most: float = FAIR) -> None:
    """Wait until bursts are shared fairly; other work may keep a worker from its turn until then."""
    wait_until(lambda: busiest(connect, count) <= most, f"the busiest worker has {most:.0%} of {count} connections")


@dataclass
class Site:
    """An app, and how to connect to each role: "one", "two" and "three" are named by their workers."""

    app: RunningApp
    one: Connect
    two: Connect
    three: Connect
    unix: Connect
    tls: Connect
    plain: Connect
    """Connect to the port of "tls", without a handshake."""

    def pids(self, role: str = "two") -> list[int]:
        return [member.pid for member in self.app.ready(self.app.clients[0], role)]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    ports = [free_port() for _ in range(4)]
    with apps_in(tmp_path_factory.mktemp("sharing")) as apps:
        made_certificate(apps.directory)
        certificate = 'serve_options={"ssl_keyfile": "key", "ssl_certfile": "cert"}'
        roles = [
            f'.role("{role}", "./front.py:app", workers={workers}, serve="{address}", {options})'
            for role, workers, address, options in (
                ("one", 1, f"127.0.0.1:{ports[0]}", ""),
                ("two", 2, f"127.0.0.1:{ports[1]}", ""),
                ("three", 3, f"127.0.0.1:{ports[2]}", ""),
                ("unix", 2, "unix:./front.sock", ""),
                ("tls", 2, f"127.0.0.1:{ports[3]}", certificate),
            )
        ]
        app = apps.start("".join(roles), options="grace=5", front=SITE)
        app.wait_ready()
        context = ssl.create_default_context(cafile=str(apps.directory / "cert"))
        one, two, three, plain = map(tcp, ports)
        file = unix(apps.directory / "front.sock")
        tls = lambda: context.wrap_socket(plain(), server_hostname="127.0.0.1")  # noqa: E731
        yield Site(app, one, two, three, file, tls, plain)


@pytest.mark.parametrize(
    ("role", "count", "most"),
    [("two", 8, FAIR), ("two", 64, FAIR), ("unix", 8, FAIR), ("unix", 64, FAIR), ("three", 30, 0.5), ("tls", 8, FAIR)],
)
def test_connections_that_are_opened_at_once(site: Site, role: str, count: int, most: float) -> None:
    wait_fair(getattr(site, role), count, most)


def test_a_handshake_that_fails_counts_for_nothing(site: Site) -> None:
    for _ in range(20):
        with site.plain() as sock:
            sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            while sock.recv(4096):
                pass
    wait_fair(site.tls, 8)
    assert "Traceback" not in site.app.output


def test_connections_that_are_opened_one_after_another(site: Site) -> None:
    def share() -> int:
        with ExitStack() as stack:
            seen = Counter(Visitor(stack.enter_context(site.two())).ask() for _ in range(20))
        return max(seen.values())

    wait_until(lambda: share() <= 13, "the busiest worker has 13 of 20 connections at most")


@pytest.mark.parametrize("count", [1, 8, 64])
def test_a_worker_that_does_not_come_is_not_waited_for(site: Site, count: int) -> None:
    pids = site.pids()
    freeze(pids[0])
    try:
        assert answers(site.two, count) == {pids[1]: count}
    finally:
        os.kill(pids[0], signal.SIGCONT)
    wait_until(lambda: set(answers(site.two, 16)) == set(pids), "both serve again")


def test_the_connections_of_a_dead_worker_do_not_count(site: Site) -> None:
    with ExitStack() as stack:
        kept = [Visitor(stack.enter_context(site.two())) for _ in range(40)]
        victim = kept[0].ask()
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: len(set(site.pids()) - {victim}) == 2, "its successor is ready")
        wait_until(lambda: len(answers(site.two, 30)) == 2, "both serve")


def test_nothing_is_left_of_connections_that_have_ended(site: Site) -> None:
    one = site.app.clients[0].require("one")
    answers(site.one, 8)
    before = one.connections().result(patient(30))
    for _ in range(5):
        answers(site.one, 8)
    wait_until(lambda: one.connections().result(patient(30)) <= before, "all connections are closed")
