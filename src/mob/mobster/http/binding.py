"""The listening sockets of a role that says `serve=`, and the line that tells where they are.

`bind` asks the Kingpin for the shared socket (`rim/listeners.py`). Who may connect to a Unix socket is a matter of its
file: mode 0666 unless the address says another, as uvicorn does it, because a proxy runs as a user of its own. The file
is checked at every start of a worker, so another mode or owner needs a reload only.
"""

from __future__ import annotations

import os
import socket
import stat

from mob import serve
from mob.errors import PlanError
from mob.mobster import api
from mob.rim.listeners import BACKLOG, file_mode


def bound(address: serve.Address) -> socket.socket:
    """Return the shared socket of that address."""
    if not address.path:
        return api.listen(address.host, address.port, backlog=BACKLOG)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with file_mode(address.mode):
        sock.bind(address.path)
    if not address.path.startswith("\0"):
        _admit(address)
    return sock


def url_of(sock: socket.socket, is_ssl: bool) -> str:
    """Return where a socket listens, as people write it."""
    name = sock.getsockname()
    if isinstance(name, str):
        return serve.UNIX + name
    host = f"[{name[0]}]" if ":" in name[0] else name[0]
    return f"{'https' if is_ssl else 'http'}://{host}:{name[1]}"


def _admit(address: serve.Address) -> None:
    """Give the socket file to whom the address says, with its mode."""
    path, uid, gid = address.path, serve.uid_of(address.user), serve.gid_of(address.group)
    there = os.stat(path)
    try:
        if uid not in (-1, there.st_uid) or gid not in (-1, there.st_gid):
            os.chown(path, uid, gid)
        if stat.S_IMODE(there.st_mode) != address.mode:
            os.chmod(path, address.mode)
    except PermissionError as error:
        owner = [f"{name}={value}" for name, value in (("user", address.user), ("group", address.group)) if value]
        raise PlanError(
            f"serve='unix:{path}': the file cannot have {' and '.join(owner) or f'mode={address.mode:o}'}: "
            f"{error.strerror}. A process that is not root gives a file to no other user, and only to groups of its "
            f"own. Run as root, choose such a group, or leave that out and say mode=666."
        ) from error
