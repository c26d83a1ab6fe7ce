"""The connections that a process has accepted on shared ports, as the kernel sees them: which are in use.

For the end of a server that cannot be told to finish what it has (http.server, a plain asyncio server): it is asked to
end when its connections are closed or idle. A connection is in use as long as something was received after the last
thing that was sent, or something still waits to be read or to arrive; and for a second after that, for an answer may
come in parts. (TCP_INFO of tcp(7), SIOCINQ and SIOCOUTQ of unix(7).) Linux only; elsewhere none is seen.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import socket
import struct
import sys
import termios

LINUX = sys.platform == "linux"
TCP_INFO = getattr(socket, "TCP_INFO", 11)
TIMES = struct.Struct("4I")
AT = 44  # where tcpi_last_data_sent, last_ack_sent, last_data_recv, last_ack_recv lie in struct tcp_info
IDLE = 1000
"""Milliseconds without a word in either direction after which a connection is idle."""
NUMBER = struct.Struct("i")
SIOCOUTQ = getattr(termios, "TIOCOUTQ", 0x5411)


Place = tuple[int, int | str | bytes]
"""Where something listens: the family, and the port or the path."""


def in_use(places: frozenset[Place]) -> int:
    """How many of the connections that came in there are in use."""
    return sum(_is_in_use(descriptor, places) for descriptor in _sockets())


def forget_in_loops(descriptor: int) -> None:
    """Takes a descriptor out of every epoll object of this process, before another socket takes its number.

    The kernel keeps watching what was registered, by the socket and not by the number, as long as any process has it.
    """
    if not LINUX:
        return
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/self/fd/{name}") == "anon_inode:[eventpoll]":
                with select.epoll.fromfd(os.dup(int(name))) as loop:
                    loop.unregister(descriptor)


def _sockets() -> list[int]:
    found: list[int] = []
    for name in os.listdir("/proc/self/fd") if LINUX else ():
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                found.append(int(name))
    return found


def _is_in_use(descriptor: int, places: frozenset[Place]) -> bool:
    try:
        sock = socket.socket(fileno=os.dup(descriptor))
    except OSError:
        return False
    with sock:
        try:
            address = sock.getsockname()
            place = address if isinstance(address, (str, bytes)) else address[1]
            if sock.type != socket.SOCK_STREAM or (sock.family, place) not in places:
                return False
            sock.getpeername()
            return _is_busy(sock)
        except OSError:
            return False  # a listening socket, or one that was closed at the other end


def _is_busy(sock: socket.socket) -> bool:
    if _count(sock, termios.FIONREAD) or _count(sock, SIOCOUTQ):
        return True
    if sock.family == socket.AF_UNIX:
        return True  # nothing more is known of it
    sent, _, received, _ = TIMES.unpack_from(sock.getsockopt(socket.IPPROTO_TCP, TCP_INFO, AT + TIMES.size), AT)
    return received <= sent or min(sent, received) < IDLE


def _count(sock: socket.socket, request: int) -> int:
    return NUMBER.unpack(fcntl.ioctl(sock.fileno(), request, bytes(NUMBER.size)))[0]
