"""Where an app's desk is found, and whose it is.

Anybody may take an abstract name, so a name is believed only from the user that stands in it: the kernel tells who
listens. An app whose name a stranger has taken listens under its name and a random suffix, which nobody can take before
it; all who look for it find it there. `desks` is the one place that tells which apps run.
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
"""Bytes of a Unix socket's address (unix(7)), without the zero at its beginning or its end."""
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid: struct ucred of unix(7)
_NAME = r"[A-Za-z][A-Za-z0-9_.-]{0,63}"
_LISTENER = re.compile(
    # flags 00010000 mark the listening socket; connected ones show the same name
    rf"\S+: \S+ \S+ 00010000 0001 \S+ +(\d+) @(mob/(\d{{1,10}})/({_NAME}(?:@{_NAME})?)(?:/[0-9a-f]+)?)"
)
"""A line of /proc/net/unix: the inode, the address, the user and the app. What names no app is no app."""


class FoundDesk(msgspec.Struct, frozen=True):
    """Where a running app can be reached."""

    user: int
    app: str
    address: str
    pid: int = 0
    """The Kingpin's process id; 0 if it takes no connections at this moment, or the system does not tell."""


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
    """Return another address for an app of this user whose own one is taken: nobody can know it before."""
    return f"{address_of(app)}/{secrets.token_hex(6)}"


def name_in(address: str | bytes) -> str:
    """Return the app's name in an abstract address, with its node if it has one; "" if there is none.

    >>> name_in(b"\\0mob/0/shop@eu/1f"), name_in("/tmp/mob-0-shop")
    ('shop@eu', '')
    """
    parts = (address if isinstance(address, str) else os.fsdecode(address)).split("/")
    return parts[2] if parts[0] == "\0mob" and len(parts) > 2 else ""


def room_of(address: str) -> int:
    """Return how many bytes longer the address may be; less than 0: it is too long."""
    return LONGEST - len(os.fsencode(address.removeprefix("\0")))


def peer_of(sock: socket.socket) -> tuple[int, int]:
    """Return (pid, user id) of the process at the other end; pid 0 where the system does not tell."""
    if LINUX:
        pid, user, _ = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
        return pid, user
    return 0, os.getuid()  # the directory's permissions have let it in


def holder_of(address: str | bytes) -> Holder | None:
    """Return who listens at an address; None if nobody does, or takes no more connections. Does not block."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(address)
            return Holder(*peer_of(probe))
        except (OSError, struct.error):
            return None


def desks(app: str | None = None, user: int | None = None) -> list[FoundDesk]:
    """Return the desks of the apps that run on this machine, of all users, or of this app or user only.

    Only those that belong to the user they name: what others have bound under such a name is left out. Where the system
    does not tell, those of this user. `OSError` if the system shows no sockets.
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
    """Return all apps that run on this machine, each with its user's id; where the system does not tell, those of this
    user only.
    """
    return {(desk.user, desk.app) for desk in desks()}


def _claimed() -> Iterator[tuple[int, FoundDesk]]:
    """Yield what listens under the name of an app, each with its inode: anybody may have bound it."""
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
"""What was believed before, by inode and address: who listens on a socket cannot change, and a look wakes a Kingpin."""
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
        pid = _owner_of(inode, desk.user)  # its Kingpin is stopped, and many wait at its desk
        is_theirs = bool(pid)
    if not is_theirs:
        return None
    if len(_proven) >= MOST_PROVEN:
        _proven.clear()
    proven = _proven[inode, desk.address] = msgspec.structs.replace(desk, pid=pid)
    return proven


def _owner_of(inode: int, user: int) -> int:
    """Return the process of that user that has this socket, as far as this process may see that; 0 if there is none."""
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
