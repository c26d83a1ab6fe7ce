"""Shared ports: bound once here, listened on by many.

Every mobster that binds an address gets the same socket, so all accept from one queue in the kernel, and no waiting
connection is lost when a mobster dies. A socket stays open until its last user exited and no worker that may need it
is expected (`core/tenancy.py`). A socket on port 0 is keyed by the role and by its ordinal number among those of its
process, so all workers of a role get the same free port.

A server that starts on a Unix socket removes an existing file (asyncio and uvloop do), and some remove it when they
end. So each socket file has a spare name, a hidden hard link next to it, from which `restore` makes it again.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import socket
import stat
from collections.abc import Iterable
from functools import partial
from typing import cast

import msgspec

from mob.core.crew import Crew
from mob.core.tenancy import Tenancy
from mob.kingpin.connections import Connection
from mob.kingpin.shortage import LACKING
from mob.rim.link import Link
from mob.rim.listeners import BACKLOG
from mob.rim.processes import start_thread
from mob.wire.messages import Bind, Bound, NotBound, SocketAddress, Unbind

REFUSALS = (OSError, OverflowError, TypeError, ValueError)
"""The errors of `bind`: the address is taken or invalid."""

PortKey = tuple[object, ...]


class ListenerState(msgspec.Struct, frozen=True):
    """A shared port as it is handed over to the next program; with `role` and `nth` if its port was free to choose."""

    address: SocketAddress
    role: str
    nth: int
    fd: int
    users: list[int]
    is_activated: bool = False
    """True if the service manager opened it."""
    roles: list[str] = []
    """The roles whose workers have held it."""
    lingers: bool = False


class PortsState(msgspec.Struct, frozen=True):
    """All shared ports as they are handed over to the next program."""

    listeners: list[ListenerState]
    spares: dict[str, str]
    paths: list[str]
    passed: list[int] = []
    """Sockets of the service manager that no worker asked for yet."""


class Ports:
    """The listening sockets of an app. One that no known process needs stays open for `linger` seconds."""

    def __init__(self, crew: Crew, linger: float, passed: Iterable[socket.socket] = ()) -> None:
        self._crew = crew
        self._linger = linger
        self._listeners: dict[PortKey, socket.socket] = {}
        self._passed = list(passed)  # by the service manager; until a worker asks for their addresses
        self._activated: set[PortKey] = set()  # sockets that the service manager passed
        self._tenancies: dict[PortKey, Tenancy] = {}
        self._spares: dict[str, str] = {}  # the spare name of each socket file, by its path
        self.paths: list[str] = []
        """The socket files that were made, including their spare names."""

    def __repr__(self) -> str:
        return f"<Ports: {len(self._listeners)} listeners>"

    def handle_bind(self, connection: Connection, bind: Bind) -> None:
        """Send a mobster the listening socket for an address, or the reason for refusing it.

        Raises:
            OSError: The system lacks a resource.
        """
        if connection.link.is_closed:
            return
        try:
            listener = self.listener(connection.uid, bind)
        except REFUSALS as error:
            if isinstance(error, OSError) and error.errno in LACKING:
                raise
            start_thread(partial(_refuse, connection.link, bind, error), "mob-holder")
            return
        connection.link.post_with(Bound(bind.id), [os.dup(listener.fileno())])

    def listener(self, uid: int, bind: Bind) -> socket.socket:
        """Return the socket for an address, made at the first request. Raise one of `REFUSALS` as `bind` does."""
        role = self._crew.role_of(uid)
        key = _key(role, bind)
        if key not in self._listeners:
            if (passed := self._passed_for(bind.address)) is not None:
                self._activated.add(key)
            self._listeners[key] = passed or self._make(bind)
        self._tenancies.setdefault(key, Tenancy()).enter(uid, role, self._crew)
        self.restore()
        return self._listeners[key]

    def give_back(self, uid: int, unbind: Unbind) -> None:
        """Note that a mobster does not listen on a socket, or no longer does.

        If it never served there and no other process uses the socket, it is closed; `end_unused` decides about the
        others.
        """
        key = _key(self._crew.role_of(uid), unbind)
        tenancy = self._tenancies.get(key)
        if tenancy is None:
            return
        if unbind.serves:
            tenancy.leave(uid, self._crew)
            return
        tenancy.users.discard(uid)
        if not tenancy.users:
            self._end(key)

    def handle_exited(self, uid: int) -> None:
        """Note that a mobster exited. Its sockets stay open for now, because connections wait in their queues."""
        for tenancy in self._tenancies.values():
            tenancy.users.discard(uid)
        self.restore()

    def end_unused(self, now: float) -> float:
        """Close the sockets that nothing uses or will use; return the time at which the next one may be due."""
        due = math.inf
        for key, tenancy in list(self._tenancies.items()):
            if (end := tenancy.ends_at(self._crew, now, self._linger)) <= now:
                self._end(key)
                self._remove_file(key)
            else:
                due = min(due, end)
        return due

    def _end(self, key: PortKey) -> None:
        """Close a socket; one that was passed to this app is kept for the next worker that asks for it."""
        del self._tenancies[key]
        sock = self._listeners.pop(key)
        if key in self._activated:
            self._activated.discard(key)
            self._passed.append(sock)
            return
        self._forget_file(key, sock)
        sock.close()

    def _forget_file(self, key: PortKey, sock: socket.socket) -> None:
        """Remove the spare name of a socket file."""
        if sock.family == socket.AF_UNIX and (spare := self._spares.pop(_address(key).host, None)):
            self.paths.remove(spare)
            with contextlib.suppress(OSError):
                os.unlink(spare)

    def _remove_file(self, key: PortKey) -> None:
        """Remove the file of a closed socket, unless another process listens there by now."""
        address = _address(key)
        if address.family == socket.AF_UNIX and address.host in self.paths:
            self.paths.remove(address.host)
            _remove_stale(address.host)

    def state(self) -> PortsState:
        """Return the state for the next program."""
        listeners: list[ListenerState] = []
        for key, sock in self._listeners.items():
            role, nth = cast(tuple[str, int], key[1:]) if len(key) > 1 else ("", 0)
            tenancy = self._tenancies[key]
            users, roles = sorted(tenancy.users), sorted(tenancy.roles)
            is_activated = key in self._activated
            listeners.append(
                ListenerState(_address(key), role, nth, sock.fileno(), users, is_activated, roles, tenancy.lingers)
            )
        return PortsState(listeners, self._spares, self.paths, [sock.fileno() for sock in self._passed])

    def take_over(self, state: PortsState) -> None:
        """Resume with the sockets of the previous program."""
        for each in state.listeners:
            key: PortKey = (each.address, each.role, each.nth) if each.role else (each.address,)
            self._listeners[key] = socket.socket(fileno=each.fd)
            self._tenancies[key] = Tenancy(each.users, each.roles, each.lingers)
            if each.is_activated:
                self._activated.add(key)
        self._passed += [socket.socket(fileno=descriptor) for descriptor in state.passed]
        self._spares.update(state.spares)
        self.paths += state.paths

    def restore(self) -> None:
        """Make removed socket files again."""
        for path, spare in self._spares.items():
            with contextlib.suppress(OSError):
                os.link(spare, path)

    def close(self) -> None:
        """Close all sockets and remove their files."""
        for listener in (*self._listeners.values(), *self._passed):
            listener.close()
        for path in self.paths:
            with contextlib.suppress(OSError):
                os.unlink(path)

    def _make(self, bind: Bind) -> socket.socket:
        family, host = bind.address.family, bind.address.host
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            if family == socket.AF_UNIX:
                _remove_stale(host)
                _bind_file(sock, host, bind.mode)
            else:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, bind.v6only)
                sock.bind((host, *bind.address.numbers))
            sock.setblocking(False)  # for all processes that will share it
            sock.listen(BACKLOG)
        except REFUSALS:
            sock.close()
            raise
        if family == socket.AF_UNIX and not host.startswith("\0"):
            self._keep_file(host)
        return sock

    def _passed_for(self, address: SocketAddress) -> socket.socket | None:
        """Return the socket that was opened for that address before this app started."""
        for sock in self._passed:
            name = sock.getsockname()
            host, port = (name, ()) if isinstance(name, str) else (name[0], (name[1],))
            if sock.family == address.family and host == address.host and port == address.numbers[:1]:
                self._passed.remove(sock)
                return sock
        return None

    def _keep_file(self, path: str) -> None:
        spare = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.{os.getpid()}")
        if path not in self.paths:
            self.paths.append(path)
        with contextlib.suppress(OSError):  # not every file system has hard links
            os.link(path, spare)
            self._spares[path] = spare
            self.paths.append(spare)


def _key(role: str, bind: Bind | Unbind) -> PortKey:
    return (bind.address, role, bind.nth) if bind.address.has_free_port() else (bind.address,)


def _address(key: PortKey) -> SocketAddress:
    return cast(tuple[SocketAddress], key)[0]


def _refuse(link: Link, bind: Bind, error: Exception) -> None:
    """Send the reason for a refusal; in a thread because finding the holder of an address may take long."""
    number = getattr(error, "errno", None) or errno.EINVAL
    link.post(NotBound(bind.id, number, explain(bind.address, error)))


def where(address: SocketAddress) -> str:
    """Return an address as it is shown to users."""
    if address.family == socket.AF_UNIX:
        return repr(address.host)
    return ":".join(map(str, (address.host, *address.numbers[:1])))


def explain(address: SocketAddress, error: Exception) -> str:
    """Return why an address is not available, and which process holds it.

    This looks at all processes and may take a while.
    """
    reason = getattr(error, "strerror", None) or str(error)
    if address.family == socket.AF_UNIX:
        return f"cannot listen on {where(address)}: {reason}. Is the file in use by another program?"
    holder = _holder(address.numbers[:1])
    if holder:
        return f"cannot listen on {where(address)}: {reason}. It is held by {holder}, which is not part of this app."
    return f"cannot listen on {where(address)}: {reason}."


def _remove_stale(path: str) -> None:
    """Remove a socket file on which no process listens; otherwise `bind` will raise an `OSError`.

    A process that listens but does not accept is not waited for.
    """
    if path.startswith("\0"):
        return
    with contextlib.suppress(OSError):
        if stat.S_ISSOCK(os.stat(path).st_mode):
            with socket.socket(socket.AF_UNIX) as probe:
                probe.setblocking(False)
                try:
                    probe.connect(path)
                except ConnectionRefusedError:
                    os.unlink(path)


def _bind_file(sock: socket.socket, path: str, mode: int) -> None:
    """Bind a Unix socket whose file has that mode from the start, or the mode of the umask if it is -1."""
    is_file = mode >= 0 and not path.startswith("\0")
    if is_file:
        with contextlib.suppress(
            OSError
        ):  # the mode of the socket itself: Linux applies it, less the umask, to the file
            os.fchmod(sock.fileno(), mode)
    sock.bind(path)
    if is_file:
        os.chmod(path, mode)


def _holder(port: tuple[int, ...]) -> str:
    import psutil  # imported here because it is slow to import and only needed after an error

    with contextlib.suppress(psutil.Error, OSError):
        for connection in psutil.net_connections("tcp"):
            laddr = connection.laddr
            if connection.status == psutil.CONN_LISTEN and laddr and (laddr.port,) == port and connection.pid:
                return f"process {connection.pid} ({psutil.Process(connection.pid).name()})"
    return ""
