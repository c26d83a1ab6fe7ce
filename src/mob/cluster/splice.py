"""A splice: one end of a link, which is a socket here, joined to one end of a circuit.

Bytes pass as they arrive; nothing here knows where a message begins. Data that the socket does not accept waits, and
the other end gets no room in the meantime; while the circuit has no room, the socket is not read.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable

from mob.core.circuits import Circuit
from mob.rim.reactor import Reactor

READ = 256 * 1024
"""Maximum number of bytes of one read."""
BUFFER = 1024 * 1024
"""Requested size of the socket's buffers in bytes, so that a large message passes in few steps."""


class Splice:
    """A socket that is joined to a circuit."""

    __slots__ = (
        "_is_reading",
        "_on_data",
        "_on_end",
        "_on_taken",
        "_reactor",
        "_sock",
        "_unsent",
        "circuit",
        "is_ending",
        "number",
    )

    def __init__(
        self,
        reactor: Reactor,
        number: int,
        sock: socket.socket,
        circuit: Circuit,
        on_data: Callable[[Splice, bytes], None],
        on_taken: Callable[[Splice, int], None],
        on_end: Callable[[Splice], None],
    ) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
        self._reactor = reactor
        self._sock = sock
        self._on_data = on_data
        self._on_taken = on_taken
        self._on_end = on_end
        self.number: int = number
        """The number under which the Kingpin knows the link."""
        self.circuit: Circuit = circuit
        self._unsent: deque[bytes | memoryview] = deque()
        self._is_reading = False
        self.is_ending: bool = False
        """True if the other end closed: this end closes when everything is written."""

    def __repr__(self) -> str:
        return f"<Splice {self.number} of {self.circuit}>"

    def set_reading(self, wanted: bool) -> None:
        """Read the socket, or stop reading it."""
        if wanted == self._is_reading or self._sock.fileno() < 0:
            return
        self._is_reading = wanted
        if wanted:
            self._reactor.watch(self._sock.fileno(), self._handle_readable)
        else:
            self._reactor.unwatch(self._sock.fileno())
            if self._unsent:
                self._reactor.watch_writable(self._sock.fileno(), self._handle_writable)

    def _handle_readable(self) -> None:
        try:
            data = self._sock.recv(min(READ, max(1, self.circuit.room)))
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._on_data(self, data)
        else:
            self.close()

    def write(self, data: memoryview) -> None:
        """Send bytes to the member here."""
        if self._unsent:
            self._unsent.append(bytes(data))  # a copy, so that a part does not keep the whole packet
            return
        sent = self._try_to_send(data)
        if sent < len(data):
            self._unsent.append(bytes(data[sent:]))
            self._reactor.watch_writable(self._sock.fileno(), self._handle_writable)

    def _handle_writable(self) -> None:
        while self._unsent:
            data = self._unsent[0]
            sent = self._try_to_send(data)
            if sent < len(data):
                self._unsent[0] = memoryview(data)[sent:]
                return
            self._unsent.popleft()
        self._reactor.unwatch_writable(self._sock.fileno())
        if self.is_ending:
            self.close()

    def _try_to_send(self, data: bytes | memoryview) -> int:
        try:
            sent = self._sock.send(data)
        except BlockingIOError:
            return 0
        except OSError:
            return len(data)  # the socket is closed, which the next read reports
        self._on_taken(self, sent)
        return sent

    def end(self) -> None:
        """Handle that the other end closed."""
        self.is_ending = True
        if not self._unsent:
            self.close()

    def close(self) -> None:
        """Close the socket; does nothing if it is closed."""
        if self._sock.fileno() < 0:
            return
        self._reactor.unwatch(self._sock.fileno())
        self._sock.close()
        self._unsent.clear()
        self._on_end(self)
