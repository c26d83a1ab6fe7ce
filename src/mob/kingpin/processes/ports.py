"""The shared ports: bound once here, listened on by many.

Every mobster that binds an address gets the same socket, so all accept from one queue of the kernel's: no connection
that waits in it is lost when a mobster dies. A socket stays open until its last user is gone and no worker is to come
that may want it (`core/tenancy.py`). A socket that listens on port 0 is keyed by the role and by which of those of its
process it is, so all workers of a role get the same free port.

A server that starts on a Unix socket removes the file that is there (asyncio and uvloop do), and some remove it when
they end. So each socket file has a spare name, a hidden hard link beside it, from which `restore` makes it again.
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
"""What `bind` raises: the address is taken, or it is none."""

PortKey = tuple[object, ...]


class ListenerState(msgspec.Struct, frozen=True):
    """A shared port as the next program takes it over; `role` and `nth` if it is a free one."""

    address: SocketAddress
    role: str
    nth: int
    fd: int
    users: list[int]
    is_activated: bool = False
    """Whether the service manager has opened it."""
    roles: list[str] = []
    """The roles of which a worker has held it."""
    lingers: bool = False


class PortsState(msgspec.Struct, frozen=True):
    """All shared ports as the next program takes them over."""

    listeners: list[ListenerState]
    spares: dict[str, str]
    paths: list[str]
    passed: list[int] = []
    """Sockets of the service manager that nobody has wanted yet."""


class Ports:
    """The listening sockets of an app. One that may still be wanted by nobody visible stays for `linger` seconds."""

    def __init__(self, crew: Crew, linger: float, passed: Iterable[socket.socket] = ()) -> None:
        self._crew = crew
        self._linger = linger
        self._listeners: dict[PortKey, socket.socket] = {}
        self._passed = list(passed)  # by the service manager, until somebody wants their addresses
        self._activated: set[PortKey] = set()  # those that were passed
        self._tenancies: dict[PortKey, Tenancy] = {}
        self._spares: dict[str, str] = {}  # the spare name of each socket file, by its path
        self.paths: list[str] = []
        """The socket files that were made, spare names too."""

    def __repr__(self) -> str:
        return f"<Ports: {len(self._listeners)} listeners>"

    def handle_bind(self, connection: Connection, bind: Bind) -> None:
        """Give a mobster the listening socket for an address, or say why not. `OSError` if the system lacks what it
        takes."""
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
        """Return the socket for the address, made at the first asking. One of `REFUSALS` as from `bind`."""
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
        """Take note that the mobster does not listen there after all, or not any more. If it has not served from there
        and nobody else does, the socket is closed; `end_unused` decides about the others."""
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
        """Take note that a mobster has ended. What it listened on stays open for now: others wait in the queue."""
        for tenancy in self._tenancies.values():
            tenancy.users.discard(uid)
        self.restore()

    def end_unused(self, now: float) -> float:
        """Close the sockets that nobody uses and nobody is to use; return when the next one is due, as things stand."""
        due = math.inf
        for key, tenancy in list(self._tenancies.items()):
            if (end := tenancy.ends_at(self._crew, now, self._linger)) <= now:
                self._end(key)
                self._remove_file(key)
            else:
                due = min(due, end)
        return due

    def _end(self, key: PortKey) -> None:
        """Close a socket; one that was passed to this app waits for the next who wants it."""
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
        """Remove the file of a socket that was closed, unless somebody else listens there by now."""
        address = _address(key)
        if address.family == socket.AF_UNIX and address.host in self.paths:
            self.paths.remove(address.host)
            _remove_stale(address.host)

    def state(self) -> PortsState:
        """Return what the next program needs of them."""
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
        """Go on with the sockets of the program before this one."""
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
        """Make the socket files again that somebody has removed."""
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
            sock.setblocking(False)  # for all who will share it
            sock.listen(BACKLOG)
        except REFUSALS:
            sock.close()
            raise
        if family == socket.AF_UNIX and not host.startswith("\0"):
            self._keep_file(host)
        return sock

    def _passed_for(self, address: SocketAddress) -> socket.socket | None:
        """Return the socket that was opened for that address before this app was started."""
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
    """Answer that it cannot be; not on the loop, because it may take long to find out who has the address."""
    number = getattr(error, "errno", None) or errno.EINVAL
    link.post(NotBound(bind.id, number, explain(bind.address, error)))


def where(address: SocketAddress) -> str:
    """Return an address as people write it."""
    if address.family == socket.AF_UNIX:
        return repr(address.host)
    return ":".join(map(str, (address.host, *address.numbers[:1])))


def explain(address: SocketAddress, error: Exception) -> str:
    """Return why the address cannot be had, and who has it. This looks at all processes, and may take a while."""
    reason = getattr(error, "strerror", None) or str(error)
    if address.family == socket.AF_UNIX:
        return f"cannot listen on {where(address)}: {reason}. Is the file in use by another program?"
    holder = _holder(address.numbers[:1])
    if holder:
        return f"cannot listen on {where(address)}: {reason}. It is held by {holder}, which is not part of this app."
    return f"cannot listen on {where(address)}: {reason}."


def _remove_stale(path: str) -> None:
    """Remove a socket file that nobody listens on; an OSError of `bind` follows where somebody does. One who listens
    and does not accept is not waited for."""
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
    """Bind a Unix socket; its file has that mode from the first moment on, or the one of the umask (-1)."""
    is_file = mode >= 0 and not path.startswith("\0")
    if is_file:
        with contextlib.suppress(OSError):  # of the socket itself: Linux makes the file with it, less the umask
            os.fchmod(sock.fileno(), mode)
    sock.bind(path)
    if is_file:
        os.chmod(path, mode)


def _holder(port: tuple[int, ...]) -> str:
    import psutil  # here because it is slow to import and wanted only when something went wrong

    with contextlib.suppress(psutil.Error, OSError):
        for connection in psutil.net_connections("tcp"):
            laddr = connection.laddr
            if connection.status == psutil.CONN_LISTEN and laddr and (laddr.port,) == port and connection.pid:
                return f"process {connection.pid} ({psutil.Process(connection.pid).name()})"
    return ""
