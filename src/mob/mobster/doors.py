"""The door of a running app: its desk, found by its name and the user whose it is.

Anybody may take an abstract name, so it is asked who has it. What is wrong is said with what there is instead: the
names that run, the user who has the app, the nodes of it that run here.
"""

from __future__ import annotations

import contextlib
import os
import socket

from mob.errors import AppNotRunning, nearest
from mob.rim.addresses import address_of, all_apps, peer_of, running_apps


def knock(app: str, node: str | None = None) -> socket.socket:
    """A connection to the desk of an app; of several nodes that run here, to that one if it is among them, else to any
    if another machine is meant. `AppNotRunning` if there is none."""
    user = os.getuid()
    sock = _reach(app if node is None else f"{app}@{node}", user) or _reach(app, user)
    return sock or _of_another(app, _owners(app), node)


def _reach(app: str, user: int) -> socket.socket | None:
    return knock_at(address_of(app, user), user)


def knock_at(address: str | bytes, user: int) -> socket.socket | None:
    """Return a connection to the desk at an address, None if none of that user's is there."""
    sock = socket.socket(socket.AF_UNIX)
    with contextlib.suppress(OSError):
        sock.connect(address)
        if peer_of(sock)[1] == user:
            return sock
    sock.close()
    return None


def _of_another(app: str, owners: list[int], node: str | None = None) -> socket.socket:
    """A connection to another user's app of that name, for root; for others an error that says what is amiss."""
    if os.getuid() == 0:
        for user in owners:
            if sock := _reach(app, user):
                return sock
    elif owners:
        raise AppNotRunning(
            f"the app {app!r} belongs to the user with the id {owners[0]}. Only that user and root may talk to it."
        )
    names: list[str] = []
    with contextlib.suppress(OSError):
        names = running_apps()
    nodes = [name for name in names if name.startswith(f"{app}@")]
    if nodes and (len(nodes) == 1 or node is not None) and (sock := _reach(nodes[0], os.getuid())) is not None:
        return sock
    if nodes:
        raise AppNotRunning(f"several nodes of {app!r} run on this machine. Say which: {', '.join(nodes)}.")
    raise AppNotRunning(f"no app named {app!r} is running here. {nearest(app, names)}")


def _owners(app: str) -> list[int]:
    """The other users who have an app of that name."""
    try:
        return sorted(user for user, name in all_apps() if name == app and user != os.getuid())
    except OSError:
        return []
