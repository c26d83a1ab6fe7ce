"""Listening sockets that several processes share without the application knowing.

`install` replaces `bind` of Python's sockets. A stream socket that is bound to a fixed address is not bound here: the
Kingpin is asked, and the socket that it has bound and listens on replaces the application's, under the same descriptor
number. So every server made of Python sockets shares, whatever code calls `listen` on it (uvloop does so in C). A
server that sets SO_REUSEPORT asks for its own socket and gets it.

All workers share the queue, so `listen` with a short backlog (http.server asks for 5) does not shorten it. They also
share whether `accept` waits, because O_NONBLOCK belongs to the socket and not to the descriptor: a worker that made it
blocking would make the loops of the others hang in `accept`. So a listening socket never blocks, and where Python code
calls a blocking `accept`, it waits in `poll`.

A closed shared socket is given back, so the address is free when `close` returns. Where code other than Python closes
the descriptor (uvloop), or the socket was dropped without `close`, `sweep` finds out. The sockets from which a module
serves are kept (`keep`): a worker that exits must not remove the queue. Of these the Kingpin learns that this process
has left them, and decides whether a successor is expected.

A bind to port 0 gives each process its own port, as the system does, until the socket listens: then it becomes the port
that all workers of the role share. If the application has asked for the number before, it may have published it, so the
port remains its own. `server_bind` of `socketserver` asks immediately and listens later, so it is treated like
`listen`. uvloop listens in C: it is recognized by taking the descriptor away from Python.

Limit: a stream socket that is bound in order to connect from a certain address looks the same until it connects; then
the shared socket is given back, and it gets its own socket after all.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import select
import socket
import sys
import weakref
from asyncio import events
from collections.abc import Callable, Generator
from contextvars import ContextVar
from threading import Lock
from time import monotonic
from types import FrameType
from typing import Any, NamedTuple

from mob.rim.connections import Endpoint, count, descriptors_of, forget_in_loops, inode_of, place_of

COUNTING = 0.005
"""Maximum share of the time for counting connections."""
BACKLOG = 1024  # reduced to net.core.somaxconn by the kernel


class WantedAddress(NamedTuple):
    """The address on which a mobster asks to listen."""

    family: int
    address: Any
    v6only: bool
    nth: int
    """Ordinal number among the process's sockets that listen on port 0."""
    mode: int = -1
    """Permissions of a socket file, as this process would make it; -1 if unknown."""


Ask = Callable[[WantedAddress], int]
"""Returns the descriptor of the shared socket; raises OSError if that fails."""
GiveAddressBack = Callable[[WantedAddress], None]
"""Gives back an unused socket. Returns when the address is free, unless others listen on it."""


class SharedSocket(NamedTuple):
    """A shared socket that this process has."""

    wish: WantedAddress
    place: Endpoint
    descriptor: int
    """Its descriptor here. uvloop duplicates it."""


_mode: ContextVar[int] = ContextVar("mob_socket_mode", default=-1)

_bind = socket.socket.bind
_listen = socket.socket.listen
_accept = socket.socket.accept
_settimeout = socket.socket.settimeout
_setblocking = socket.socket.setblocking
_connect = socket.socket.connect
_connect_ex = socket.socket.connect_ex
_close = socket.socket.close
_detach = socket.socket.detach
_getsockname = socket.socket.getsockname
REPLACED = (
    "bind",
    "listen",
    "accept",
    "settimeout",
    "setblocking",
    "connect",
    "connect_ex",
    "close",
    "detach",
    "getsockname",
)
WAITING = ("accept", "settimeout", "setblocking")
"""The replaced methods that let a process wait on a socket that never blocks."""


class PortSharing:
    """The replaced methods, and the sockets that they replaced so far."""

    def __init__(
        self,
        ask: Ask,
        give_back: GiveAddressBack,
        on_listening: Callable[[], None],
        leave: Callable[[WantedAddress], None] = lambda wish: None,
    ) -> None:
        self._ask = ask
        self._give_back = give_back
        self._on_listening = on_listening
        self._leave = leave  # called when this process stops serving from a socket; does not wait
        self.on_accepted: Callable[[socket.socket], None] | None = None
        """Called with the listening socket for each connection that Python code accepts."""
        self._numbers: set[int] = set()  # ordinal numbers of the current binds to port 0
        self._lock = Lock()
        self._shared: weakref.WeakKeyDictionary[socket.socket, WantedAddress] = weakref.WeakKeyDictionary()
        self._places: dict[Endpoint, str] = {}  # where the sockets listen -> name of that address
        self._counted: dict[str, int] = {}
        self._count_again = 0.0
        self._held: dict[int, SharedSocket] = {}  # shared sockets by inode: uvloop drops Python's object
        self._own: set[int] = set()  # inodes of other sockets that Python code has bound, or listens on
        self._kept: set[int] = set()  # inodes of sockets that are not given back
        self._unnumbered: weakref.WeakSet[socket.socket] = weakref.WeakSet()  # bound to port 0 and not listening yet
        self._before: dict[str, Any] = {}  # the original methods by name

    def __repr__(self) -> str:
        return f"<PortSharing of {len(self._shared)} sockets>"

    def install(self) -> None:
        """Replace the methods of Python's sockets."""
        sharing = self

        def bind(self: socket.socket, address: Any, /) -> None:
            if not _is_shareable(self, address):
                _bind(self, address)
                sharing.note_own(self)
            elif _has_free_port(self, address) and not _is_server_bind(sys._getframe(1)):  # pyright: ignore[reportPrivateUsage]  documented
                _bind(self, address)
                sharing.note_unnumbered(self)
            else:
                sharing.share(self, address)

        def listen(self: socket.socket, backlog: int = BACKLOG, /) -> None:
            sharing.share_unnumbered(self)
            _listen(self, max(backlog, BACKLOG) if sharing.has(self) else backlog)
            sharing.note_own(self)

        def getsockname(self: socket.socket) -> Any:
            sharing.forget_unnumbered(self)
            return _getsockname(self)

        def close(self: socket.socket) -> None:
            inode = sharing.inode_if_shared(self)
            _close(self)
            if inode and self.fileno() < 0:
                sharing.handle_closed(inode)

        def detach(self: socket.socket) -> int:
            if _is_uvloop_running():
                sharing.share_unnumbered(self)
            return _detach(self)

        def accept(self: socket.socket) -> tuple[socket.socket, Any]:
            while True:
                try:
                    accepted = _accept(self)
                except BlockingIOError:
                    if self.gettimeout() is not None:
                        raise
                else:
                    if sharing.on_accepted is not None:
                        sharing.on_accepted(self)
                    return accepted
                poll = select.poll()
                poll.register(self, select.POLLIN)
                poll.poll()

        def settimeout(self: socket.socket, value: float | None, /) -> None:
            _settimeout(self, value)
            if value is None:
                _keep_from_blocking(self)

        def setblocking(self: socket.socket, flag: bool, /) -> None:
            _setblocking(self, flag)
            if flag:
                _keep_from_blocking(self)

        def connect(self: socket.socket, address: Any, /) -> None:
            sharing.unshare(self)
            _connect(self, address)

        def connect_ex(self: socket.socket, address: Any, /) -> int:
            sharing.unshare(self)
            return _connect_ex(self, address)

        self._before = _methods()
        socket.socket.bind = bind  # type: ignore[method-assign]
        socket.socket.listen = listen  # type: ignore[method-assign]
        socket.socket.accept = accept  # type: ignore[method-assign]
        socket.socket.settimeout = settimeout  # type: ignore[method-assign]
        socket.socket.setblocking = setblocking  # type: ignore[method-assign]
        socket.socket.connect = connect  # type: ignore[method-assign]
        socket.socket.connect_ex = connect_ex  # type: ignore[method-assign]
        socket.socket.close = close  # type: ignore[method-assign]
        socket.socket.detach = detach  # type: ignore[method-assign]
        socket.socket.getsockname = getsockname  # type: ignore[method-assign]

    def remove(self) -> None:
        """Restore the methods of Python's sockets; for the child of a fork, which shares nothing.

        If the child has copies of shared sockets, `accept` still waits for it because these never block.
        """
        for name, method in self._before.items():
            if not self._held or name not in WAITING:
                setattr(socket.socket, name, method)
        self._forget_all()

    def has(self, sock: socket.socket) -> bool:
        """Return True if the socket is a shared one."""
        return sock in self._shared

    def holds_any(self) -> bool:
        """Return True if this process has a shared socket."""
        return any(self._is_held(inode) for inode in list(self._held))

    def is_known(self, inode: int) -> bool:
        """Return True if that socket was bound by Python code, and not by a library below it."""
        return inode in self._held or inode in self._own

    def share(self, sock: socket.socket, address: Any) -> None:
        """Replace `sock` by the shared socket of that address."""
        self.sweep()
        is_inet6 = sock.family == socket.AF_INET6
        v6only = is_inet6 and bool(sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY))
        nth = self._take_number() if _has_free_port(sock, address) else 0
        wish = WantedAddress(
            sock.family, address, v6only, nth, _mode_of_file() if sock.family == socket.AF_UNIX else -1
        )
        try:
            shared = self._ask(wish)
        except BaseException:
            self._free_number(wish)
            raise
        os.dup2(shared, sock.fileno(), inheritable=False)
        os.close(shared)
        self._shared[sock] = wish
        place = place_of(sock)
        self._held[inode_of(sock.fileno())] = SharedSocket(wish, place, sock.fileno())
        self._places[place] = str(place[1]) if sock.family == socket.AF_UNIX else f"{address[0]}:{place[1]}"
        self._on_listening()

    def note_own(self, sock: socket.socket) -> None:
        """Note a socket that was bound, or listens, and may not be shared."""
        if sock.type == socket.SOCK_STREAM and not self.has(sock):
            self._own.add(inode_of(sock.fileno()))
            self._on_listening()

    def note_unnumbered(self, sock: socket.socket) -> None:
        """Note a socket with its own free port, whose number is still unknown to the application."""
        self._unnumbered.add(sock)

    def forget_unnumbered(self, sock: socket.socket) -> None:
        """Let a socket keep its own free port because the application asks for the number."""
        if self._unnumbered and sock in self._unnumbered:
            self._unnumbered.discard(sock)

    def share_unnumbered(self, sock: socket.socket) -> None:
        """Replace a socket with its own free port, which listens now, by the one that all workers share."""
        if not self._unnumbered or sock not in self._unnumbered:
            return
        self._unnumbered.discard(sock)
        host, _, *rest = _getsockname(sock)
        with socket.socket(sock.family, socket.SOCK_STREAM) as unbound:
            if sock.family == socket.AF_INET6:
                v6only = sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
                unbound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, v6only)
            unbound.setblocking(sock.gettimeout() is None)
            os.dup2(unbound.fileno(), sock.fileno(), inheritable=False)  # frees its port again
        self.share(sock, (host, 0, *rest))

    def unshare(self, sock: socket.socket) -> None:
        """Give a socket that was bound to connect, and not to listen, its own socket."""
        self.forget_unnumbered(sock)
        wish = self._shared.pop(sock, None)
        if wish is None:
            return
        self._drop(inode_of(sock.fileno()))
        with socket.socket(sock.family, socket.SOCK_STREAM) as own:
            own.setblocking(sock.gettimeout() is None)
            os.dup2(own.fileno(), sock.fileno(), inheritable=False)
        self._give_back(wish)
        self._free_number(wish)
        if wish.family != socket.AF_UNIX:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _bind(sock, wish.address)

    def keep(self) -> None:
        """Keep the sockets that this process holds now, because it serves from them.

        They are not given back when they are closed here, so that the successor of this process finds the connections
        that wait in their queues.
        """
        self._kept |= self._held.keys()

    def inode_if_shared(self, sock: socket.socket) -> int:
        """Return the inode of a shared socket, or 0 for any other."""
        return inode_of(sock.fileno()) if self._held and sock in self._shared else 0

    def handle_closed(self, inode: int) -> None:
        """Give back that shared socket if its last descriptor was closed; return when the address is free."""
        if inode in self._held and not self._is_held(inode):
            self._release(inode)

    def sweep(self) -> None:
        """Give back sockets that were closed without notice: by code other than Python, or by garbage collection."""
        for inode in list(self._held):
            if not self._is_held(inode):
                self._release(inode)

    def _is_held(self, inode: int) -> bool:
        held = self._held.get(inode)
        if held is None:
            return False
        return inode_of(held.descriptor) == inode or bool(descriptors_of((inode,)))

    def _release(self, inode: int) -> None:
        held = self._drop(inode)
        if held is None:
            return
        if inode in self._kept:
            self._leave(held.wish)
            return
        with contextlib.suppress(Exception):  # the Kingpin is dead, and all its sockets with it
            self._give_back(held.wish)
        self._free_number(held.wish)

    def _drop(self, inode: int) -> SharedSocket | None:
        held = self._held.pop(inode, None)
        if held is not None:
            self._places.pop(held.place, None)
        return held

    def _forget_all(self) -> None:
        """Forget all sockets in the child of a fork: the Kingpin need not know what it closes."""
        self._held.clear()
        self._shared.clear()
        self._unnumbered.clear()

    def count_connections(self) -> dict[str, int]:
        """Return how many accepted connections are open, by address; from one thread.

        If counting takes long, return an earlier count: at most `COUNTING` of the time is spent on it.
        """
        now = monotonic()
        if self._places and now >= self._count_again:
            counts = count(self._places)
            self._counted = {name: counts[place] for place, name in list(self._places.items())}
            self._count_again = now + (monotonic() - now) / COUNTING
        return self._counted

    def turn_deaf(self) -> frozenset[Endpoint]:
        """Accept no more connections: replace each listening socket by one to which no client can connect.

        The servers continue with the connections that they have, and the other workers serve the queue. Return where
        this process listened.
        """
        places: set[Endpoint] = set()
        for descriptor in descriptors_of(self._held) or [sock.fileno() for sock in list(self._shared)]:
            with contextlib.suppress(OSError):  # it was closed, or is being closed
                places.add(_turn_deaf(descriptor))
        for held in list(self._held.values()):
            self._leave(held.wish)
        self._held.clear()
        self._shared.clear()
        return frozenset(places)

    def _take_number(self) -> int:
        """Return the lowest ordinal number that no bind to port 0 has, so that equal workers get the same ports."""
        with self._lock:
            number = next(number for number in itertools.count() if number not in self._numbers)
            self._numbers.add(number)
            return number

    def _free_number(self, wish: WantedAddress) -> None:
        if wish.family != socket.AF_UNIX and wish.address[1] == 0:
            self._numbers.discard(wish.nth)


@contextlib.contextmanager
def file_mode(mode: int) -> Generator[None]:
    """Bind Unix sockets with these permissions of their files, whatever the umask is."""
    token = _mode.set(mode)
    try:
        yield
    finally:
        _mode.reset(token)


def _mode_of_file() -> int:
    """Return the permissions for a socket file: as set, else by the umask; -1 if the system does not report it.

    `os.umask` is not used because it would change the umask for a moment, for all threads.
    """
    if (said := _mode.get()) >= 0:
        return said
    with contextlib.suppress(OSError, ValueError), open("/proc/self/status", "rb") as file:
        umask = file.read().partition(b"\nUmask:")[2].partition(b"\n")[0]
        return 0o777 & ~int(umask, 8)
    return -1


def _methods() -> dict[str, Any]:
    return {name: getattr(socket.socket, name) for name in REPLACED}


def _turn_deaf(descriptor: int) -> Endpoint:
    with socket.socket(fileno=os.dup(descriptor)) as sock:
        place = place_of(sock)
    with socket.socket(socket.AF_UNIX) as deaf:
        _bind(deaf, "")  # the kernel gives it an unknown name
        _listen(deaf, 1)
        deaf.setblocking(False)
        forget_in_loops(descriptor)
        os.dup2(deaf.fileno(), descriptor, inheritable=False)
    return place


def _keep_from_blocking(sock: socket.socket) -> None:
    if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        os.set_blocking(sock.fileno(), False)


def _has_free_port(sock: socket.socket, address: Any) -> bool:
    return sock.family != socket.AF_UNIX and address[1] == 0


def _is_server_bind(frame: FrameType) -> bool:
    return frame.f_code.co_name == "server_bind"


def _is_uvloop_running() -> bool:
    loop = events._get_running_loop()  # pyright: ignore[reportPrivateUsage]  the documented function raises
    return loop is not None and type(loop).__module__.partition(".")[0] == "uvloop"


def _is_shareable(sock: socket.socket, address: Any) -> bool:
    if sock.family not in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX) or sock.type != socket.SOCK_STREAM:
        return False
    if sock.family == socket.AF_UNIX:
        return isinstance(address, (str, bytes)) and bool(address)
    if not isinstance(address, tuple) or len(address) < 2 or not isinstance(address[1], int):  # type: ignore[arg-type]
        return False
    if not 0 <= address[1] <= 0xFFFF:
        return False  # the original bind reports what is wrong with it
    reuse_port = getattr(socket, "SO_REUSEPORT", None)
    return reuse_port is None or not sock.getsockopt(socket.SOL_SOCKET, reuse_port)
