"""Where an app's desk is found, and who is at the other end of a Unix socket."""

from __future__ import annotations

import os
import re
import socket
import struct
import sys
import tempfile
from pathlib import Path

LINUX = sys.platform == "linux"
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid: struct ucred of unix(7)


def address_of(app: str, user: int | None = None) -> str:
    """The address of an app's desk: abstract on Linux (it begins with a zero), a path elsewhere."""
    user = os.getuid() if user is None else user
    name = f"mob/{user}/{app}"
    return f"\0{name}" if LINUX else str(Path(tempfile.gettempdir()) / name.replace("/", "-"))


def peer_of(sock: socket.socket) -> tuple[int, int]:
    """(pid, user id) of the process at the other end; pid 0 where the system does not tell."""
    if LINUX:
        pid, user, _ = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
        return pid, user
    return 0, os.getuid()  # the directory's permissions have let it in


def running_apps() -> list[str]:
    """The names of this user's apps that run on this machine."""
    return sorted(app for user, app in all_apps() if user == os.getuid())


def all_apps() -> set[tuple[int, str]]:
    """All apps that run on this machine, each with its user's id; where the system does not tell, of this user only."""
    if LINUX:
        pattern = re.compile(r"@mob/(\d+)/(\S+)$")
        lines = Path("/proc/net/unix").read_text(encoding="utf-8", errors="replace").splitlines()
        # flags 00010000 mark the listening socket; connected ones show the same name
        found = (pattern.search(line) for line in lines if " 00010000 " in line)
        return {(int(each[1]), each[2]) for each in found if each}
    user = os.getuid()
    prefix = f"mob-{user}-"
    return {(user, path.name[len(prefix) :]) for path in Path(tempfile.gettempdir()).glob(prefix + "*")}
