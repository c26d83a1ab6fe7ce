"""The addresses of desks: where a running app is found, and to which user it belongs.

Any user may take an abstract name, so a name is believed only if its listener belongs to the user in the name, as the
kernel reports. An app whose name a stranger has taken listens under its name and a random suffix, which no one can take
before; all clients find it there. `desks` is the only place that lists the running apps.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import socket
import struct
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec

LINUX = sys.platform == "linux"
LONGEST = 107
"""Maximum bytes of a Unix socket's address (unix(7)), without the zero at its beginning or its end."""
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid: struct ucred of unix(7)
_NAME = r"[A-Za-z][A-Za-z0-9_.-]{0,63}"
_LISTENER = re.compile(
    # flags 00010000 mark the listening socket; connected sockets show the same name
    rf"\S+: \S+ \S+ 00010000 0001 \S+ +(\d+) @(mob/(\d{{1,10}})/({_NAME}(?:@{_NAME})?)(?:/[0-9a-f]+)?)"
)
"""A line of /proc/net/unix: the inode, the address, the user and the app. Other names are not those of apps."""


class FoundDesk(msgspec.Struct, frozen=True):
    """An address at which a running app can be reached."""

    user: int
    app: str
    address: str
    pid: int = 0
    """The Kingpin's process id; 0 if it accepts no connections at the moment, or the system does not report it."""


class Holder(msgspec.Struct, frozen=True):
    """The process that listens at an address."""

    pid: int
    user: int


def address_of(app: str, user: int | None = None) -> str:
    """Return the address of an app's desk: abstract on Linux (it begins with a zero), a path elsewhere."""
    user = os.getuid() if user is None else user
    name = f"mob/{user}/{app}"
    return f"\0{name}" if LINUX else str(Path(tempfile.gettempdir()) / name.replace("/", "-"))


def spare_address_of(app: str) -> str:
    """Return a spare address for an app of this user whose own address is taken. It cannot be guessed."""
    return f"{address_of(app)}/{secrets.token_hex(6)}"


def name_in(address: str | bytes) -> str:
    r"""Return the app's name in an abstract address, with its node if it has one; "" if there is no name.

    >>> name_in(b"\0mob/0/shop@eu/1f"), name_in("/tmp/mob-0-shop")
    ('shop@eu', '')
    """
    parts = (address if isinstance(address, str) else os.fsdecode(address)).split("/")
    return parts[2] if parts[0] == "\0mob" and len(parts) > 2 else ""


def room_of(address: str) -> int:
    """Return how many bytes longer the address may be; negative if it is too long."""
    return LONGEST - len(os.fsencode(address.removeprefix("\0")))


def peer_of(sock: socket.socket) -> tuple[int, int]:
    """Return the pid and user id of the process at the other end; pid 0 where the system does not report it."""
    if LINUX:
        pid, user, _ = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
        return pid, user
    return 0, os.getuid()  # the permissions of the directory let it connect


def holder_of(address: str | bytes) -> Holder | None:
    """Return the process that listens at an address; None if none does, or it accepts no more. Does not block."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(address)
            return Holder(*peer_of(probe))
        except (OSError, struct.error):
            return None


def desks(app: str | None = None, user: int | None = None) -> list[FoundDesk]:
    """Return the desks of the apps that run on this machine: of all users, or only of this app or user.

    Only desks that belong to the user in their name are returned, not what other users bound under such a name. Where
    the system does not report them, return those of this user. Raise `OSError` if the system shows no sockets.
    """
    found: dict[str, FoundDesk] = {}
    for inode, each in _claimed():
        if app in (None, each.app) and user in (None, each.user) and each.address not in found:
            desk = _believed(each, inode)
            if desk is not None:
                found[each.address] = desk
    return sorted(found.values(), key=lambda desk: (desk.user, desk.app, desk.address))


def running_apps() -> list[str]:
    """Return the names of this user's apps that run on this machine."""
    return sorted({desk.app for desk in desks(user=os.getuid())})


def all_apps() -> set[tuple[int, str]]:
    """Return all apps that run on this machine, each with its user's id.

    Where the system does not report them, return those of this user only.
    """
    return {(desk.user, desk.app) for desk in desks()}


def _claimed() -> Iterator[tuple[int, FoundDesk]]:
    """Yield what listens under the name of an app, each with its inode; any user may have bound it."""
    if LINUX:
        lines = Path("/proc/net/unix").read_bytes().decode("utf-8", "replace").split("\n")
        for each in filter(None, map(_LISTENER.fullmatch, lines)):
            yield int(each[1]), FoundDesk(int(each[3]), each[4], f"\0{each[2]}")
        return
    user = os.getuid()
    prefix = f"mob-{user}-"
    for path in Path(tempfile.gettempdir()).glob(prefix + "*"):
        yield 0, FoundDesk(user, path.name[len(prefix) :], str(path))


_proven: dict[tuple[int, str], FoundDesk] = {}
"""Desks that were verified, by inode and address: a socket's listener cannot change, and a check wakes a Kingpin."""
MOST_PROVEN = 1000


def _believed(desk: FoundDesk, inode: int) -> FoundDesk | None:
    if not LINUX:
        return desk
    if (known := _proven.get((inode, desk.address))) is not None:
        return known
    holder = holder_of(desk.address)
    if holder is not None:
        pid, is_theirs = holder.pid, holder.user == desk.user
    else:
        pid = _owner_of(inode, desk.user)  # its Kingpin is stopped, and its queue is full
        is_theirs = bool(pid)
    if not is_theirs:
        return None
    if len(_proven) >= MOST_PROVEN:
        _proven.clear()
    proven = _proven[inode, desk.address] = msgspec.structs.replace(desk, pid=pid)
    return proven


def _owner_of(inode: int, user: int) -> int:
    """Return the process of that user that has this socket, if this process can see it; otherwise 0."""
    target = f"socket:[{inode}]"
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if process.stat().st_uid != user:
                continue
            for name in os.listdir(process / "fd"):
                with contextlib.suppress(OSError):
                    if os.readlink(process / "fd" / name) == target:
                        return int(process.name)
    return 0
