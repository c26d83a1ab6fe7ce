import os
import socket
import subprocess
import sys

import pytest

from mob.rim.systemd import ServiceManager
from tests.patience import patient


@pytest.fixture(params=["file", "abstract"])
def manager(request, tmp_path, monkeypatch):
    """Return the service manager's end of the socket."""
    path = str(tmp_path / "notify") if request.param == "file" else f"@mob-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(path.replace("@", "\0"))
        sock.settimeout(patient(5))
        monkeypatch.setenv("NOTIFY_SOCKET", path)
        yield sock


def test_what_is_told(manager):
    service = ServiceManager()
    service.ready("6 mobsters are ready")
    service.reloading()
    service.stopping()
    service.alive()
    assert manager.recv(999) == b"READY=1\nSTATUS=6 mobsters are ready"
    first, second, _ = manager.recv(999).split(b"\n")
    assert first == b"RELOADING=1"
    assert second.startswith(b"MONOTONIC_USEC=")
    assert manager.recv(999) == b"STOPPING=1\nSTATUS=stopping"
    assert manager.recv(999) == b"WATCHDOG=1"
    assert "NOTIFY_SOCKET" not in os.environ


@pytest.mark.parametrize(
    ("usec", "pid", "seconds"),
    [("3000000", "", 1.5), ("3000000", "own", 1.5), ("3000000", "1", None), ("", "", None), ("x", "", None)],
)
def test_the_watchdog_is_fed_twice_in_its_time(manager, monkeypatch, usec, pid, seconds):
    monkeypatch.setenv("WATCHDOG_USEC", usec)
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()) if pid == "own" else pid)
    assert ServiceManager().watchdog == seconds


def test_without_one_nothing_happens(monkeypatch):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    service = ServiceManager()
    service.ready("x")
    service.alive()
    assert service.watchdog is None


def test_sockets_that_were_opened_beforehand():
    """As a service manager does it: descriptor 3, and the pid of the process after the exec."""
    code = (
        "import os, sys; os.environ['LISTEN_PID'] = str(os.getpid())\n"
        "from mob.rim.systemd import passed_sockets\n"
        "first, second = passed_sockets(), passed_sockets()\n"
        "print([s.getsockname() for s in first], second, 'LISTEN_FDS' in os.environ, os.get_inheritable(3))\n"
    )
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "LISTEN_FDS": "1"},
            preexec_fn=lambda: os.dup2(server.fileno(), 3, inheritable=True),
            close_fds=False,
            capture_output=True,
            text=True,
            check=True,
        )
    assert done.stdout == f"[{address}] [] False False\n"


def test_sockets_of_somebody_else_are_left_alone(monkeypatch):
    from mob.rim.systemd import passed_sockets

    monkeypatch.setenv("LISTEN_FDS", "1")
    monkeypatch.setenv("LISTEN_PID", "1")
    assert passed_sockets() == []
