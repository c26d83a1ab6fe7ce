"""Listening sockets that several processes share, without the application knowing.

`install` replaces `bind` of Python's sockets. A stream socket that is bound to a fixed address is not bound here: the
one who shares (the Kingpin) is asked, and the socket that it has bound and listens on takes the place of the
application's, under the same descriptor number. So every server that is made of Python sockets shares, whoever calls
`listen` on it and however (uvloop does so in C). A server that sets SO_REUSEPORT wants a socket of its own and gets it.

Limit: a stream socket that is bound in order to connect from a certain address looks the same until it connects; then
it is given a socket of its own after all.
"""

from __future__ import annotations

import os
import socket
import weakref
from collections.abc import Callable
from typing import Any

Ask = Callable[[int, int, Any, bool, int], int]
"""(family, type, address, v6only, how many binds to port 0 came before) -> descriptor; OSError if it cannot be had."""

_bind = socket.socket.bind
_connect = socket.socket.connect
_connect_ex = socket.socket.connect_ex


class Sharing:
    """The replaced `bind`, and what it has replaced so far."""

    def __init__(self, ask: Ask, on_listening: Callable[[], None]) -> None:
        self._ask = ask
        self._on_listening = on_listening
        self._free_ports = 0  # binds to port 0 so far
        self._shared: weakref.WeakKeyDictionary[socket.socket, Any] = weakref.WeakKeyDictionary()

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

        def connect(self: socket.socket, address: Any, /) -> None:
            sharing.unshare(self)
            _connect(self, address)

        def connect_ex(self: socket.socket, address: Any, /) -> int:
            sharing.unshare(self)
            return _connect_ex(self, address)

        socket.socket.bind = bind  # type: ignore[method-assign]
        socket.socket.connect = connect  # type: ignore[method-assign]
        socket.socket.connect_ex = connect_ex  # type: ignore[method-assign]

    def share(self, sock: socket.socket, address: Any) -> None:
        """Puts the shared socket of that address in the place of `sock`."""
        is_inet6 = sock.family == socket.AF_INET6
        v6only = is_inet6 and bool(sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY))
        nth = 0
        if sock.family != socket.AF_UNIX and address[1] == 0:
            nth = self._free_ports
            self._free_ports += 1
        shared = self._ask(sock.family, socket.SOCK_STREAM, address, v6only, nth)
        os.dup2(shared, sock.fileno(), inheritable=False)
        os.close(shared)
        os.set_blocking(sock.fileno(), sock.gettimeout() is None)
        self._shared[sock] = address
        self._on_listening()

    def unshare(self, sock: socket.socket) -> None:
        """The socket was not bound to listen but to connect: gives it one of its own."""
        address = self._shared.pop(sock, None)
        if address is not None:
            with socket.socket(sock.family, socket.SOCK_STREAM) as own:
                own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                _bind(own, address)
                own.setblocking(sock.gettimeout() is None)
                os.dup2(own.fileno(), sock.fileno(), inheritable=False)


def _is_shareable(sock: socket.socket, address: Any) -> bool:
    if sock.family not in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX) or sock.type != socket.SOCK_STREAM:
        return False
    if sock.family == socket.AF_UNIX:
        return isinstance(address, (str, bytes)) and bool(address)
    if not isinstance(address, tuple) or len(address) < 2 or not isinstance(address[1], int):  # type: ignore[arg-type]
        return False
    reuse_port = getattr(socket, "SO_REUSEPORT", None)
    return reuse_port is None or not sock.getsockopt(socket.SOL_SOCKET, reuse_port)
