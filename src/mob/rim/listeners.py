"""Listening sockets that several processes share, without the application knowing.

`install` replaces `bind` of Python's sockets. A stream socket that is bound to a fixed address is not bound here: the
one who shares (the Kingpin) is asked, and the socket that it has bound and listens on takes the place of the
application's, under the same descriptor number. So every server that is made of Python sockets shares, whoever calls
`listen` on it and however (uvloop does so in C). A server that sets SO_REUSEPORT wants a socket of its own and gets it.

The queue is everybody's, so `listen` with a short backlog (http.server asks for 5) does not shorten it. Whether
`accept` waits is everybody's too, for O_NONBLOCK belongs to the socket and not to the descriptor: a worker that made it
blocking would let the loops of the others hang in `accept`. So a listening socket never blocks, and where Python code
wants to wait in `accept`, it waits in `poll`.

Limit: a stream socket that is bound in order to connect from a certain address looks the same until it connects; then
the shared one is given back, and it gets a socket of its own after all.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import select
import socket
import weakref
from collections.abc import Callable
from threading import Lock
from time import monotonic
from typing import Any, NamedTuple

from mob.rim.connections import Place, count, descriptors_of, forget_in_loops, inode_of, place_of

COUNTING = 0.005
"""The part of the time that counting connections may take."""
BACKLOG = 1024  # cut to net.core.somaxconn by the kernel


class Wish(NamedTuple):
    """The address that a mobster wants to listen on."""

    family: int
    address: Any
    v6only: bool
    nth: int
    """Which of the process's binds to port 0 it is."""


Ask = Callable[[Wish], int]
"""-> the descriptor of the shared socket; OSError if it cannot be had."""
GiveBack = Callable[[Wish], None]
"""The socket is not wanted after all. Returns when the address is free, unless others listen on it."""

_bind = socket.socket.bind
_listen = socket.socket.listen
_accept = socket.socket.accept
_settimeout = socket.socket.settimeout
_setblocking = socket.socket.setblocking
_connect = socket.socket.connect
_connect_ex = socket.socket.connect_ex
REPLACED = ("bind", "listen", "accept", "settimeout", "setblocking", "connect", "connect_ex")
WAITING = ("accept", "settimeout", "setblocking")
"""Those of them that let a process wait on a socket that never blocks."""


class Sharing:
    """The replaced `bind`, and what it has replaced so far."""

    def __init__(self, ask: Ask, give_back: GiveBack, on_listening: Callable[[], None]) -> None:
        self._ask = ask
        self._give_back = give_back
        self._on_listening = on_listening
        self._numbers: set[int] = set()  # of the binds to port 0 that hold
        self._lock = Lock()
        self._shared: weakref.WeakKeyDictionary[socket.socket, Wish] = weakref.WeakKeyDictionary()
        self._places: dict[Place, str] = {}  # where they listen, and how that is called
        self._counted: dict[str, int] = {}
        self._count_again = 0.0
        self._before: dict[str, Any] = {}  # the methods that were replaced, by name
        self._inodes: set[int] = set()  # of the shared ones: uvloop duplicates the descriptor and drops the object

    def __repr__(self) -> str:
        return f"<Sharing of {len(self._shared)} sockets>"

    def install(self) -> None:
        """From now on binding asks."""
        sharing = self

        def bind(self: socket.socket, address: Any, /) -> None:
            if _is_shareable(self, address):
                sharing.share(self, address)
            else:
                _bind(self, address)

        def listen(self: socket.socket, backlog: int = BACKLOG, /) -> None:
            _listen(self, max(backlog, BACKLOG) if sharing.has(self) else backlog)

        def accept(self: socket.socket) -> tuple[socket.socket, Any]:
            while True:
                try:
                    return _accept(self)
                except BlockingIOError:
                    if self.gettimeout() is not None:
                        raise
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

    def remove(self) -> None:
        """Give Python's sockets their own methods back: in the child of a fork, which shares nothing.

        If the child has copies of shared sockets, `accept` still waits for it, because these never block.
        """
        for name, method in self._before.items():
            if not self._inodes or name not in WAITING:
                setattr(socket.socket, name, method)

    def has(self, sock: socket.socket) -> bool:
        """Whether the socket is a shared one."""
        return sock in self._shared

    def share(self, sock: socket.socket, address: Any) -> None:
        """Puts the shared socket of that address in the place of `sock`."""
        is_inet6 = sock.family == socket.AF_INET6
        v6only = is_inet6 and bool(sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY))
        nth = self._take_number() if sock.family != socket.AF_UNIX and address[1] == 0 else 0
        wish = Wish(sock.family, address, v6only, nth)
        try:
            shared = self._ask(wish)
        except BaseException:
            self._free_number(wish)
            raise
        os.dup2(shared, sock.fileno(), inheritable=False)
        os.close(shared)
        self._shared[sock] = wish
        self._inodes.add(inode_of(sock.fileno()))
        place = place_of(sock)
        self._places[place] = str(place[1]) if sock.family == socket.AF_UNIX else f"{address[0]}:{place[1]}"
        self._on_listening()

    def unshare(self, sock: socket.socket) -> None:
        """The socket was not bound to listen but to connect: gives it one of its own."""
        wish = self._shared.pop(sock, None)
        if wish is None:
            return
        self._inodes.discard(inode_of(sock.fileno()))
        self._places.pop(place_of(sock), None)
        with socket.socket(sock.family, socket.SOCK_STREAM) as own:
            own.setblocking(sock.gettimeout() is None)
            os.dup2(own.fileno(), sock.fileno(), inheritable=False)
        self._give_back(wish)
        self._free_number(wish)
        if wish.family != socket.AF_UNIX:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _bind(sock, wish.address)

    def count_connections(self) -> dict[str, int]:
        """How many connections that have come in are open, by address; from one thread. As it was a while ago, if
        counting takes long: it is to take `COUNTING` of the time at most."""
        now = monotonic()
        if self._places and now >= self._count_again:
            counts = count(self._places)
            self._counted = {name: counts[place] for place, name in list(self._places.items())}
            self._count_again = now + (monotonic() - now) / COUNTING
        return self._counted

    def turn_deaf(self) -> frozenset[Place]:
        """From now on no connection comes in here: a socket to which nobody can connect takes the place of each.

        The servers go on with what they have, and the queue is the others'. Where they listened.
        """
        places: set[Place] = set()
        for descriptor in descriptors_of(self._inodes) or [sock.fileno() for sock in list(self._shared)]:
            with contextlib.suppress(OSError):  # it was closed, or is just now
                places.add(_turn_deaf(descriptor))
        self._inodes.clear()
        self._shared.clear()
        return frozenset(places)

    def _take_number(self) -> int:
        """The lowest that no bind to port 0 has: workers that do the same get the same ports."""
        with self._lock:
            number = next(number for number in itertools.count() if number not in self._numbers)
            self._numbers.add(number)
            return number

    def _free_number(self, wish: Wish) -> None:
        if wish.family != socket.AF_UNIX and wish.address[1] == 0:
            self._numbers.discard(wish.nth)


def _methods() -> dict[str, Any]:
    return {name: getattr(socket.socket, name) for name in REPLACED}


def _turn_deaf(descriptor: int) -> Place:
    with socket.socket(fileno=os.dup(descriptor)) as sock:
        place = place_of(sock)
    with socket.socket(socket.AF_UNIX) as deaf:
        _bind(deaf, "")  # the kernel gives it a name that nobody knows
        _listen(deaf, 1)
        deaf.setblocking(False)
        forget_in_loops(descriptor)
        os.dup2(deaf.fileno(), descriptor, inheritable=False)
    return place


def _keep_from_blocking(sock: socket.socket) -> None:
    if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        os.set_blocking(sock.fileno(), False)


def _is_shareable(sock: socket.socket, address: Any) -> bool:
    if sock.family not in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX) or sock.type != socket.SOCK_STREAM:
        return False
    if sock.family == socket.AF_UNIX:
        return isinstance(address, (str, bytes)) and bool(address)
    if not isinstance(address, tuple) or len(address) < 2 or not isinstance(address[1], int):  # type: ignore[arg-type]
        return False
    if not 0 <= address[1] <= 0xFFFF:
        return False  # the plain bind says what is wrong with it
    reuse_port = getattr(socket, "SO_REUSEPORT", None)
    return reuse_port is None or not sock.getsockopt(socket.SOL_SOCKET, reuse_port)
