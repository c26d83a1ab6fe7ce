"""The desk: the socket at which other processes reach a running app, and which makes the app's name unique.

On Linux it is an abstract Unix socket named after the user and the app. To bind it claims the name; the kernel frees it
with the process, and no file is left behind. An abstract socket has no permissions, so the Kingpin asks the kernel for
the user of each visitor (SO_PEERCRED) and turns away everyone except the owner and root. For the same reason another
user can take the name; the app then listens on a spare address, which all clients can find (`rim.addresses`). On other
systems the desk is a socket file in the user's temporary directory.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pwd
import resource
import socket
from collections.abc import Callable
from time import monotonic, sleep

from mob.errors import AppRunning, PlanError
from mob.kingpin.shortage import LACKING, Shortage, is_reserved
from mob.rim.addresses import (
    LINUX,
    LONGEST,
    Holder,
    address_of,
    desks,
    holder_of,
    peer_of,
    room_of,
    spare_address_of,
)
from mob.rim.reactor import Reactor
from mob.wire import messages as m
from mob.wire.frames import frame

BACKLOG = 128
LISTEN_TIMEOUT = 1.0
"""Seconds to wait for another start of the same app, which bound the name, to listen."""
POLL_INTERVAL = 0.05
"""Seconds between two checks whether it listens."""


class Desk:
    """The listening socket of an app."""

    def __init__(self, name: str, sock: socket.socket) -> None:
        self.name = name
        self.sock = sock
        self.warning = ""
        """A message for the log if the address is not the usual one, otherwise empty."""
        self._reactor: Reactor | None = None
        self._on_visitor: Callable[[socket.socket, int], None] | None = None
        self._shortage: Shortage | None = None

    def __repr__(self) -> str:
        return f"<Desk of {self.name!r}>"

    @property
    def address(self) -> str:
        """The address of the socket: the usual one of the app, or a spare one."""
        own: str | bytes = self.sock.getsockname()
        return own.decode() if isinstance(own, bytes) else own

    @classmethod
    def claim(cls, name: str) -> Desk:
        """Return the desk of an app.

        Raises:
            AppRunning: Another app of this user has the name.
            PlanError: The name is too long.
        """
        address = address_of(name)
        check_length(name, address)
        sock, warning = _bound(address), ""
        if sock is None:
            sock, warning = _spare(name, address, _stranger_at(name, address))
        sock.listen(BACKLOG)
        desk = cls(name, sock)
        desk.warning = warning
        try:
            desk._give_way()
        except AppRunning:
            sock.close()
            raise
        return desk

    def _give_way(self) -> None:
        """Raise `AppRunning` if the app already runs at another address; one of the two is a spare one."""
        with contextlib.suppress(OSError):
            for other in desks(self.name, os.getuid()) if LINUX else ():
                if other.address != self.address:
                    raise _already_running(self.name, other.pid)

    def open(self, reactor: Reactor, on_visitor: Callable[[socket.socket, int], None], shortage: Shortage) -> None:
        """Begin to accept visitors; `on_visitor` gets the socket and pid of each."""
        self.sock.setblocking(False)
        self._reactor = reactor
        self._on_visitor = on_visitor
        self._shortage = shortage
        self._watch()

    def _watch(self) -> None:
        if self._reactor is not None:
            self._reactor.watch(self.sock.fileno(), self._handle_visitor)

    def fileno(self) -> int:
        """Return the file descriptor of the socket."""
        return self.sock.fileno()

    def close(self) -> None:
        """Free the name."""
        if self._reactor is not None:
            self._reactor.unwatch(self.sock.fileno())
            self._reactor = None
        self.sock.close()
        if not LINUX:
            os.unlink(address_of(self.name))

    def _handle_visitor(self) -> None:
        assert self._shortage is not None
        assert self._reactor is not None
        try:
            self._let_in()
        except OSError as error:
            if error.errno in LACKING:  # the visitor stays in the queue; an immediate retry would not help
                self._reactor.unwatch(self.sock.fileno())
                self._shortage.attempt("clients cannot connect", self._let_in_again)

    def _let_in_again(self) -> None:
        if self._reactor is not None:
            self._let_in()
            self._watch()

    def _let_in(self) -> None:
        assert self._on_visitor is not None
        try:
            sock, _ = self.sock.accept()
        except BlockingIOError:
            return  # the visitor is already gone
        pid, user = peer_of(sock)
        if user not in (os.getuid(), 0):
            _turn_away(
                sock, f"it belongs to the user with id {os.getuid()}; only that user and root can connect to it."
            )
        elif is_reserved(sock.fileno()):
            limit = f"ulimit -n is {resource.getrlimit(resource.RLIMIT_NOFILE)[0]:,}"
            _turn_away(
                sock,
                f"its Kingpin has no file descriptors left for more clients ({limit}). Close some or raise the limit.",
            )
        else:
            self._on_visitor(sock, pid)


def _turn_away(sock: socket.socket, why: str) -> None:
    with contextlib.suppress(OSError):  # it is already gone
        sock.send(frame(m.encode([m.Refused(why)])), socket.MSG_DONTWAIT)
    sock.close()


def check_length(name: str, address: str) -> None:
    """Raise `PlanError` if the address is longer than a socket's address can be."""
    beyond = -room_of(address)
    if beyond > 0:
        app, mark, node = name.partition("@")
        of = f"the name of the app, {app!r}, is"
        if mark:
            of = f"the names of the app, {app!r}, and of its node, {node!r}, are together"
        raise PlanError(
            f"{of} {beyond} characters too long: the app's address on this machine, mob/{os.getuid()}/{name}, would "
            f"have {LONGEST + beyond} bytes, and that of a Unix socket has at most {LONGEST}. Shorten "
            f"{'one of them, in mob.start(...) or .cluster(node=...)' if mark else 'it, in mob.start(...)'}."
        )


def _bound(address: str) -> socket.socket | None:
    """Return a socket with that address, or None if the address is taken."""
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.bind(address)
    except OSError as error:
        sock.close()
        if error.errno != errno.EADDRINUSE:
            raise
        return None
    return sock


def _stranger_at(name: str, address: str) -> Holder | None:
    """Return the process that has the address, or None if it is unknown.

    Raises:
        AppRunning: It is an app of this user.
    """
    until = monotonic() + LISTEN_TIMEOUT
    while True:
        holder = holder_of(address)
        if holder is not None and holder.user == os.getuid():
            raise _already_running(name, holder.pid)
        own = desks(name, os.getuid()) if LINUX else []
        if any(desk.address == address for desk in own):  # it accepts no connections at the moment
            raise _already_running(name, 0)
        if holder is not None or monotonic() > until:
            return holder
        sleep(POLL_INTERVAL)  # maybe another start of this app that is about to listen; no event reports that


def _already_running(name: str, pid: int) -> AppRunning:
    who = f" (its Kingpin has pid {pid})" if pid else ""
    return AppRunning(
        f"an app named {name!r} is already running{who}. Stop it first, or give this one another name in "
        f"mob.start(...).",
        pid or None,
    )


def _spare(name: str, address: str, holder: Holder | None) -> tuple[socket.socket, str]:
    """Return a socket for an app whose address is taken by another user, and a warning about it."""
    if not LINUX:  # the file of a killed app
        os.unlink(address)
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(address)
        return sock, ""
    spare = spare_address_of(name)
    who = "a process that accepts no connections" if holder is None else _shown(holder)
    if room_of(spare) < 0:
        raise AppRunning(
            f"the name {name!r} is taken by {who}, which is not an app of this user. Ask the administrator to end that "
            f"process, or give the app another name in mob.start(...).",
            holder and holder.pid,
        )
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(spare)
    return sock, (
        f"the address of {name!r} (mob/{os.getuid()}/{name}) is taken by {who}, which is not an app of this user. This "
        f"app listens on another address, where commands and clients find it. Ask the administrator to check that "
        f"process."
    )


def _shown(holder: Holder) -> str:
    try:
        user = f"{pwd.getpwuid(holder.user).pw_name!r} ({holder.user})"
    except KeyError:
        user = str(holder.user)
    return f"process {holder.pid} of user {user}"
