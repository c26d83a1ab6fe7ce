"""How to reach a running app: its desk, found by the app's name and its owner.

Any process can take an abstract socket name, so the owner of the socket is checked. Errors say what there is instead:
the apps that run, the user that owns the app, and its nodes that run here.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct

from mob.errors import AppNotRunning, nearest
from mob.rim.addresses import FoundDesk, address_of, desks, name_in, peer_of, running_apps

DESK_TIMEOUT = 10.0
"""Maximum number of seconds to wait for a connection to a desk."""


def knock(app: str, node: str | None = None) -> socket.socket:
    """Return a connection to the desk of an app.

    If several nodes run here, this is the desk of `node` if it is among them, else any desk, because `node` means
    another machine. Raises `AppNotRunning` if there is no desk.
    """
    user = os.getuid()
    sock = _reach(app if node is None else f"{app}@{node}", user) or _reach(app, user)
    return sock or _of_another(app, _owners(app), node)


def _reach(app: str, user: int) -> socket.socket | None:
    """Return a connection to the desk of that user's app; None if it does not run."""
    sock = knock_at(address_of(app, user), user)
    if sock is not None:
        return sock
    found: list[FoundDesk] = []
    with contextlib.suppress(OSError):
        found = desks(app, user)  # another process may have the usual address
    return next((sock for desk in found if (sock := knock_at(desk.address, user)) is not None), None)


def knock_again(app: str, address: str | bytes, user: int) -> socket.socket | None:
    """Return a connection to an app that was at this address; None if that user's app no longer runs."""
    return knock_at(address, user) or _reach(name_in(address) or app, user)


def knock_at(address: str | bytes, user: int) -> socket.socket | None:
    """Return a connection to the desk at an address; None if it is not that user's desk.

    Raises `AppNotRunning` if the desk accepted no connection for a while because too many wait.
    """
    sock: socket.socket | None = socket.socket(socket.AF_UNIX)
    try:
        sock.setblocking(False)
        try:
            sock.connect(address)
        except BlockingIOError:
            if not _wait_there(sock, address, user):
                return None
        sock.setblocking(True)
        if peer_of(sock)[1] == user:
            found, sock = sock, None
            return found
    except OSError:
        pass
    finally:
        if sock is not None:
            sock.close()
    return None


def _wait_there(sock: socket.socket, address: str | bytes, user: int) -> bool:
    """Connect to a desk with a full queue; False if it is another user's. `AppNotRunning` if it takes too long."""
    address = os.fsdecode(address)
    desk = next((desk for desk in desks(user=user) if desk.address == address), None)
    if desk is None:
        return False
    sock.setblocking(True)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _seconds(DESK_TIMEOUT))  # it applies to connect as well
    try:
        sock.connect(address)
    except BlockingIOError:
        raise AppNotRunning(
            f"the app {name_in(address)!r} accepts no connection: its supervisor has a full queue and accepted none "
            f"in {DESK_TIMEOUT:g} s. Is it stopped (Ctrl-Z)?",
            desk.pid or None,
        ) from None
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _seconds(0.0))
    return True


def _seconds(seconds: float) -> bytes:
    """Return a struct timeval."""
    return struct.pack("@ll", int(seconds), int(seconds % 1 * 1e6))


def _of_another(app: str, owners: list[int], node: str | None = None) -> socket.socket:
    """Return a connection to another user's app of that name, for root; raise an error that says why for others."""
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
    raise AppNotRunning(f"no app named {app!r} is running on this machine. {nearest(app, names)}")


def _owners(app: str) -> list[int]:
    """Return the ids of other users that run an app of that name."""
    try:
        return sorted({desk.user for desk in desks(app)} - {os.getuid()})
    except OSError:
        return []
