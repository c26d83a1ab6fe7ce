"""Requests to the Kingpin for shared listening sockets (`rim/listeners.py`), over the control link."""

from __future__ import annotations

import os
import socket

from mob.peer.links.control import Control
from mob.rim.listeners import WantedAddress
from mob.wire import messages as m


class Listening:
    """Requests of one mobster about its sockets."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._addresses: dict[
            WantedAddress, m.SocketAddress
        ] = {}  # as requested, because a later chdir must not change them

    def __repr__(self) -> str:
        return f"<Listening on {len(self._addresses)} addresses>"

    def ask(self, wish: WantedAddress) -> int:
        """Return the descriptor of the shared socket; `OSError` if the address cannot be bound."""
        address = self._addresses[wish] = _resolved(wish)
        call = self._control.request(
            f"bind to {wish.address}", lambda number: m.Bind(number, address, wish.v6only, wish.nth, wish.mode)
        )
        descriptor: int = call.result()
        return descriptor

    def give_back(self, wish: WantedAddress) -> None:
        """Return the socket to the Kingpin; wait until the address is free, unless others listen on it."""
        address = self._addresses[wish]
        self._control.request(
            f"unbind from {wish.address}", lambda number: m.Unbind(number, address, wish.nth)
        ).result()

    def leave(self, wish: WantedAddress) -> None:
        """Tell the Kingpin, without waiting, that this process no longer serves from the socket."""
        self._control.post(m.Unbind(0, self._addresses[wish], wish.nth, serves=True))


def _resolved(wish: WantedAddress) -> m.SocketAddress:
    """Return the address in the one spelling in which the Kingpin binds it. `gaierror` as from `bind`."""
    if wish.family == socket.AF_UNIX:
        path = os.fsdecode(wish.address)
        return m.SocketAddress(wish.family, path if path.startswith("\0") else os.path.abspath(path), ())
    host, *numbers = wish.address
    if not host:
        host = "::" if wish.family == socket.AF_INET6 else "0.0.0.0"
    else:
        host = str(socket.getaddrinfo(host, None, wish.family, socket.SOCK_STREAM)[0][4][0])
    return m.SocketAddress(wish.family, host, tuple(numbers))
