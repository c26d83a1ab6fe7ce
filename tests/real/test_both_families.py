"""No host, and "localhost", are served over IPv4 and IPv6; an explicit address is served as given."""

from __future__ import annotations

import re
import socket

import pytest

from tests.patience import patient
from tests.real.test_ports_end import APPLICATION
from tests.running import Apps, RunningApp


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


both = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback")


def free_port() -> int:
    """Return a port that is free for IPv4 and for IPv6."""
    with socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True) as sock:
        return int(sock.getsockname()[1])


def start(apps: Apps, address: str, front: str = APPLICATION) -> RunningApp:
    app = apps.start(f'.role("front", "./front.py:app", workers=2, serve="{address}")', options="grace=5", front=front)
    app.wait_ready(2)
    return app


def answers(host: str, port: int) -> bool:
    """Return True if the application answers there."""
    try:
        with socket.create_connection((host, port), timeout=patient(30)) as sock:
            sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return sock.recv(4096).startswith(b"HTTP/1.1 200")
    except ConnectionRefusedError:
        return False


@both
@pytest.mark.parametrize(
    ("host", "line"), [("", r"http://0\.0\.0\.0:PORT and http://\[::\]:PORT"), ("localhost", "http://localhost:PORT")]
)
def test_both_families_are_served(apps: Apps, host: str, line: str) -> None:
    port = free_port()
    app = start(apps, f"{host}:{port}")
    app.wait_for(f"serving on {line.replace('PORT', str(port))}$")
    assert answers("127.0.0.1", port)
    assert answers("::1", port)
    app.clients[0].reload("front")
    assert answers("127.0.0.1", port)
    assert answers("::1", port)


@both
def test_a_free_port_is_the_same_for_both(apps: Apps) -> None:
    app = start(apps, "localhost:0")
    port = int(app.wait_for(r"serving on http://localhost:(\d+)$")[0][1])
    assert answers("127.0.0.1", port)
    assert answers("::1", port)


@both
@pytest.mark.parametrize(
    ("address", "served"), [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("[::1]", "::1")]
)
def test_an_address_is_served_as_said(apps: Apps, address: str, served: str) -> None:
    port = free_port()
    app = start(apps, f"{address}:{port}")
    app.wait_for(f"serving on http://{re.escape(address)}:{port}$")
    assert answers(served, port)
    assert not answers("::1" if served == "127.0.0.1" else "127.0.0.1", port)


@both
def test_all_of_ipv6_as_said(apps: Apps) -> None:
    port = free_port()
    app = start(apps, f"[::]:{port}")
    app.wait_for(rf"serving on http://\[::\]:{port}$")
    assert answers("::1", port)


@pytest.mark.parametrize("how", ["EAFNOSUPPORT", "EADDRNOTAVAIL"])
@pytest.mark.parametrize("host", ["", "localhost"])
def test_without_ipv6_it_is_ipv4(apps: Apps, host: str, how: str) -> None:
    port = free_port() if has_ipv6() else 0
    lacks = f"""
    import errno, os, socket

    class WithoutIPv6(socket.socket):
        def __init__(self, family=-1, *rest, **options):
            if family == socket.AF_INET6 and {how == "EAFNOSUPPORT"}:
                raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
            super().__init__(family, *rest, **options)

        def bind(self, address):
            if self.family == socket.AF_INET6:
                raise OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")
            super().bind(address)

    socket.socket = WithoutIPv6
    """
    app = start(apps, f"{host}:{port}", lacks + APPLICATION)
    found = app.wait_for(r"serving on http://(127\.0\.0\.1|0\.0\.0\.0):(\d+)$")[0]
    assert answers("127.0.0.1", int(found[2]))


@both
def test_a_port_that_another_program_has_for_one_of_them_is_an_error(apps: Apps) -> None:
    port = free_port()
    with socket.create_server(("::1", port), family=socket.AF_INET6):
        app = apps.start(f'.role("front", "./front.py:app", serve="localhost:{port}")', front=APPLICATION)
        app.wait_for(rf"cannot listen on ::1:{port}: Address already in use")
