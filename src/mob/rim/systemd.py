"""What a service manager and a Kingpin tell each other: sd_notify(3), and sockets that were opened beforehand.

Without a service manager (no NOTIFY_SOCKET, no LISTEN_FDS in the environment) nothing here does anything. What is
addressed to this process is taken out of the environment, so that no child takes it for its own.
"""

from __future__ import annotations

import contextlib
import os
import socket
from time import monotonic_ns

FIRST = 3
"""The descriptor of the first socket that is passed (SD_LISTEN_FDS_START)."""


VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
PASSED = ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES")


class ServiceManager:
    """The one that has started this process, if any."""

    def __init__(self) -> None:
        self._environment = {name: os.environ[name] for name in VARIABLES if name in os.environ}
        self._address = os.environ.pop("NOTIFY_SOCKET", "")
        period, pid = os.environ.pop("WATCHDOG_USEC", ""), os.environ.pop("WATCHDOG_PID", "")
        is_meant = self._address and period.isdigit() and pid in ("", str(os.getpid()))
        self.watchdog: float | None = int(period) / 1e6 / 2 if is_meant else None
        """Seconds between two signs of life, if it wants any: half of what it waits for."""

    def __repr__(self) -> str:
        return f"<ServiceManager at {self._address or 'nowhere'}>"

    def environment(self) -> dict[str, str]:
        """What it had told this process, for a program that takes its place."""
        return self._environment

    def ready(self, status: str) -> None:
        """The app is up; also after a reload."""
        self._tell(f"READY=1\nSTATUS={status}")

    def reloading(self) -> None:
        """A reload has begun; `ready` follows."""
        self._tell(f"RELOADING=1\nMONOTONIC_USEC={monotonic_ns() // 1000}\nSTATUS=reloading")

    def stopping(self) -> None:
        """The stop has begun."""
        self._tell("STOPPING=1\nSTATUS=stopping")

    def alive(self) -> None:
        """The sign of life."""
        self._tell("WATCHDOG=1")

    def _tell(self, state: str) -> None:
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.sendto(state.encode(), address)


def passed_sockets() -> list[socket.socket]:
    """The listening sockets that were passed to this process (socket activation); each once."""
    count, pid = os.environ.pop("LISTEN_FDS", ""), os.environ.pop("LISTEN_PID", "")
    os.environ.pop("LISTEN_FDNAMES", None)
    if not count.isdigit() or pid != str(os.getpid()):
        return []
    sockets: list[socket.socket] = []
    for descriptor in range(FIRST, FIRST + int(count)):
        with contextlib.suppress(OSError):
            os.set_inheritable(descriptor, False)
            sock = socket.socket(fileno=descriptor)
            if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                sock.setblocking(False)
                sockets.append(sock)
            else:
                sock.detach()
    return sockets
