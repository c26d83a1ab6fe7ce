"""The protocol between a service manager and a Kingpin: sd_notify(3), and sockets that were opened in advance.

Without a service manager (no NOTIFY_SOCKET, no LISTEN_FDS in the environment) nothing here does anything. What is meant
for this process is removed from the environment, so that no child takes it as meant for itself.
"""

from __future__ import annotations

import contextlib
import os
import socket
from time import monotonic_ns

FIRST = 3
"""Descriptor of the first socket that is passed (SD_LISTEN_FDS_START)."""


VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
PASSED = ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES")


class ServiceManager:
    """The service manager that started this process, if any."""

    def __init__(self) -> None:
        self._environment = {name: os.environ[name] for name in VARIABLES if name in os.environ}
        self._address = os.environ.pop("NOTIFY_SOCKET", "")
        period, pid = os.environ.pop("WATCHDOG_USEC", ""), os.environ.pop("WATCHDOG_PID", "")
        is_meant = self._address and period.isdigit() and pid in ("", str(os.getpid()))
        self.watchdog: float | None = int(period) / 1e6 / 2 if is_meant else None
        """Seconds between two keep-alive messages, half of the manager's timeout; None if it expects none."""

    def __repr__(self) -> str:
        return f"<ServiceManager at {self._address or 'nowhere'}>"

    def environment(self) -> dict[str, str]:
        """Return the manager's variables for the next program in this process."""
        return self._environment

    def ready(self, status: str) -> None:
        """Report that the app is ready; also after a reload."""
        self._tell(f"READY=1\nSTATUS={status}")

    def reloading(self) -> None:
        """Report that a reload began; `ready` follows."""
        self._tell(f"RELOADING=1\nMONOTONIC_USEC={monotonic_ns() // 1000}\nSTATUS=reloading")

    def stopping(self) -> None:
        """Report that the app is stopping."""
        self._tell("STOPPING=1\nSTATUS=stopping")

    def alive(self) -> None:
        """Report that the app is alive."""
        self._tell("WATCHDOG=1")

    def _tell(self, state: str) -> None:
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.sendto(state.encode(), address)


def passed_sockets() -> list[socket.socket]:
    """Return the listening sockets that were passed to this process (socket activation); each once."""
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
