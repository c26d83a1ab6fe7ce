"""The connections that a process has accepted on shared ports, as the kernel sees them, and which are in use.

A server stops when its connections are closed or idle. A connection waits for an answer as long as its last received
data is newer than its last sent data, or data still waits to be read or to be sent. For a second after the last data in
either direction it counts as in use anyway, because an answer may come in parts. (TCP_INFO of tcp(7), SIOCINQ and
SIOCOUTQ of tcp(7) and unix(7).) Linux only; on other systems no connection is seen.

Limits: the kernel's clock ticks every few milliseconds. If the last data in both directions came within one tick, and
on Unix sockets, which have no such times, it is unknown whether an answer is still to come.
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
from collections import Counter
from collections.abc import Container, Iterable, Iterator

from mob.core.draining import Use

LINUX = sys.platform == "linux"
TCP_INFO = getattr(socket, "TCP_INFO", 11)
TIMES = struct.Struct("4I")
AT = 44  # offset of tcpi_last_data_sent, last_ack_sent, last_data_recv, last_ack_recv in struct tcp_info
BYTES_RECEIVED = struct.Struct("Q")
BYTES_RECEIVED_AT = 128  # tcpi_bytes_received
IDLE = 1000
"""Milliseconds without data in either direction after which a connection is idle."""
NUMBER = struct.Struct("i")
SIOCOUTQ = getattr(termios, "TIOCOUTQ", 0x5411)

FRESH = 3000
"""Milliseconds after which received data without an answer is taken to need no answer."""

Endpoint = tuple[int, int | str | bytes]
"""The address of a listener: the family, and the port or the path."""


MOST = 65536
"""Maximum number of descriptors to look at where they cannot be listed."""


def uses(places: frozenset[Endpoint]) -> Iterator[Use]:
    """Yield the use of each connection that came in there, one at a time because there may be thousands."""
    return (use for descriptor in sockets() if (use := _use_of(descriptor, places)) is not None)


def use_of(descriptor: int) -> Use:
    """Return the use of that connection. Raise `OSError` if it was closed."""
    with look_at(descriptor) as sock:
        return _use(sock)


def unread(descriptor: int) -> int:
    """Return how many unread bytes have arrived on that connection. Raise `OSError` if it was closed."""
    return NUMBER.unpack(fcntl.ioctl(descriptor, termios.FIONREAD, bytes(NUMBER.size)))[0]


def count(places: Container[Endpoint]) -> Counter[Endpoint]:
    """Count the open connections by the address at which they came in."""
    counts: Counter[Endpoint] = Counter()
    for descriptor in sockets():
        with contextlib.suppress(OSError), look_at(descriptor) as sock:  # another thread may close it at any time
            if sock.type == socket.SOCK_STREAM and (place := place_of(sock)) in places:
                sock.getpeername()  # fails for the listening socket itself
                counts[place] += 1
    return counts


def place_of(sock: socket.socket) -> Endpoint:
    """Return the address at which a socket listens, or at which a connection came in."""
    address = sock.getsockname()
    return sock.family, address if isinstance(address, (str, bytes)) else address[1]


def descriptors_of(inodes: Container[int]) -> list[int]:
    """Return the descriptors of this process that are these sockets, including duplicates."""
    return [descriptor for descriptor in sockets() if inode_of(descriptor) in inodes]


def inode_of(descriptor: int) -> int:
    """Return what all descriptors of one socket have in common; 0 if it was just closed."""
    try:
        return os.fstat(descriptor).st_ino
    except OSError:
        return 0


def forget_in_loops(descriptor: int) -> None:
    """Remove a descriptor from every epoll object of this process, before another socket gets its number.

    The kernel keeps watching what was registered, by the socket and not by the number, as long as any process has it.
    """
    if not LINUX:
        return
    for each in _descriptors():
        with contextlib.suppress(OSError):
            if is_epoll(each):
                with select.epoll.fromfd(os.dup(each)) as loop:
                    loop.unregister(descriptor)


def is_epoll(descriptor: int) -> bool:
    """Return True if the descriptor is that of an epoll object."""
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}") == "anon_inode:[eventpoll]"
    except OSError:
        return False


def sockets() -> Iterator[int]:
    """Yield the descriptors of all sockets of this process."""
    for each in _descriptors() if LINUX else ():
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/self/fd/{each}").startswith("socket:"):
                yield each


def _descriptors() -> Iterable[int]:
    """Return the descriptors of this process, or all possible ones if none is free for reading the list."""
    try:
        return [int(name) for name in os.listdir("/proc/self/fd")]
    except OSError:
        return range(MOST)


def look_at(descriptor: int) -> socket.socket:
    """Return a socket object for a descriptor of other code, without affecting that."""
    blocks, own = os.get_blocking(descriptor), os.dup(descriptor)
    try:
        sock = socket.socket(fileno=own)
        os.set_blocking(own, blocks)  # a default timeout of the application has changed that, for both
    except OSError:
        os.close(own)
        raise
    return sock


def _use_of(descriptor: int, places: frozenset[Endpoint]) -> Use | None:
    """Return the use of a connection; None if it is no connection, or came in elsewhere."""
    try:
        sock = look_at(descriptor)
    except OSError:
        return None  # another thread closed it
    with sock:
        try:
            if sock.type != socket.SOCK_STREAM or place_of(sock) not in places:
                return None
            sock.getpeername()
            return _use(sock)
        except OSError:
            return None  # a listening socket, or one that the other end closed


def _use(sock: socket.socket) -> Use:
    if _count(sock, termios.FIONREAD) or _count(sock, SIOCOUTQ):
        return Use.UNANSWERED
    if sock.family == socket.AF_UNIX:
        return Use.UNSURE
    info = sock.getsockopt(socket.IPPROTO_TCP, TCP_INFO, BYTES_RECEIVED_AT + BYTES_RECEIVED.size)
    sent, _, received, _ = TIMES.unpack_from(info, AT)
    return use_by_times(sent, received, bool(BYTES_RECEIVED.unpack_from(info, BYTES_RECEIVED_AT)[0]))


def use_by_times(sent: int, received: int, has_asked: bool) -> Use:
    """Return the use of a connection, given the milliseconds since it last sent and received (or was made)."""
    if not has_asked:
        return Use.OPEN if received < IDLE else Use.IDLE  # browsers open such connections in advance
    if received < sent:
        return Use.UNANSWERED if received < FRESH else Use.PATIENT
    if sent < IDLE:
        return Use.OPEN
    return Use.UNSURE if sent == received else Use.IDLE


def _count(sock: socket.socket, request: int) -> int:
    return NUMBER.unpack(fcntl.ioctl(sock.fileno(), request, bytes(NUMBER.size)))[0]
