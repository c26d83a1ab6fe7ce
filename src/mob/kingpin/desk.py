"""The desk: where processes from outside reach a running app, and what makes an app's name unique.

On Linux an abstract Unix socket named after the user and the app: binding it claims the name, the kernel frees it with
the process, and there is no file to be left behind. An abstract socket has no permissions, so every visitor's user is
asked of the kernel (SO_PEERCRED) and anybody but the owner and root is told so and turned away. Elsewhere a file in the
user's temporary directory.
"""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import struct
from collections.abc import Callable

from mob.errors import AppRunning
from mob.kingpin.shortage import LACKING, Shortage, is_reserved
from mob.rim.addresses import LINUX, address_of, peer_of
from mob.rim.link import Link
from mob.rim.reactor import Reactor
from mob.wire import messages as m
from mob.wire.frames import frame

BACKLOG = 128


class Connection:
    """A control link and what the Kingpin knows of who is at its other end."""

    __slots__ = ("beats", "greeted", "is_client", "link", "pid", "uid")

    def __init__(self, uid: int, link: Link, beats: Link | None = None, pid: int = 0, is_client: bool = False) -> None:
        self.uid = uid
        self.link = link
        self.beats = beats
        self.pid = pid
        self.is_client = is_client
        self.greeted = False

    def __repr__(self) -> str:
        return f"<Connection {self.uid} on {self.link}>"

    @property
    def hears_all(self) -> bool:
        """Whether the roster's changes are told: to every mobster, and to clients that have said hello."""
        return self.greeted or not self.is_client

    def close(self) -> None:
        """Ends the links."""
        self.link.close()
        if self.beats is not None:
            self.beats.close()


class Desk:
    """The listening socket of an app."""

    def __init__(self, name: str, sock: socket.socket) -> None:
        self.name = name
        self.sock = sock
        self._reactor: Reactor | None = None
        self._on_visitor: Callable[[socket.socket, int], None] | None = None
        self._shortage: Shortage | None = None

    def __repr__(self) -> str:
        return f"<Desk of {self.name!r}>"

    @classmethod
    def claim(cls, name: str) -> Desk:
        """The desk of an app; `AppRunning` tells who has the name already."""
        sock = socket.socket(socket.AF_UNIX)
        address = address_of(name)
        try:
            sock.bind(address)
        except OSError:
            pid = _holder(address)
            if pid is None and not LINUX:  # left behind by a killed one
                os.unlink(address)
                sock.bind(address)
            else:
                sock.close()
                raise AppRunning(
                    f"an app named {name!r} is running already (its Kingpin has pid {pid}). "
                    f"Stop that one first, or give this one another name in mob.start(...).",
                    pid,
                ) from None
        sock.listen(BACKLOG)
        return cls(name, sock)

    def open(self, reactor: Reactor, on_visitor: Callable[[socket.socket, int], None], shortage: Shortage) -> None:
        """Begins to let visitors in; `on_visitor` gets each one's socket and pid."""
        self.sock.setblocking(False)
        self._reactor = reactor
        self._on_visitor = on_visitor
        self._shortage = shortage
        self._watch()

    def _watch(self) -> None:
        if self._reactor is not None:
            self._reactor.watch(self.sock.fileno(), self._handle_visitor)

    def close(self) -> None:
        """Frees the name."""
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
            if error.errno in LACKING:  # the visitor stays in the queue: to look again at once would not help
                self._reactor.unwatch(self.sock.fileno())
                self._shortage.attempt("clients cannot be let in", self._let_in_again)

    def _let_in_again(self) -> None:
        if self._reactor is not None:
            self._let_in()
            self._watch()

    def _let_in(self) -> None:
        assert self._on_visitor is not None
        try:
            sock, _ = self.sock.accept()
        except BlockingIOError:
            return  # it has gone again
        pid, user = peer_of(sock)
        if user not in (os.getuid(), 0):
            _turn_away(
                sock, f"it belongs to the user with the id {os.getuid()}. Only that user and root may talk to it."
            )
        elif is_reserved(sock.fileno()):
            limit = f"ulimit -n is {resource.getrlimit(resource.RLIMIT_NOFILE)[0]:,}"
            _turn_away(
                sock, f"its Kingpin has no descriptors left for more clients ({limit}). Close some, or raise it."
            )
        else:
            self._on_visitor(sock, pid)


def _turn_away(sock: socket.socket, why: str) -> None:
    with contextlib.suppress(OSError):  # it has gone already
        sock.send(frame(m.encode([m.Refused(why)])), socket.MSG_DONTWAIT)
    sock.close()


def _holder(address: str | bytes) -> int | None:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(address)
            return peer_of(probe)[0]
        except (OSError, struct.error):
            return None
