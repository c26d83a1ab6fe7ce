"""What a thread of this process waits for, as the kernel sees it: for a connection, forever, or for something else.

The kernel reports the system call in which a thread is blocked, with its arguments (/proc/self/task/TID/syscall). So a
server is recognized whatever it is made of: `accept`, `select`, `poll` and `epoll`, called from Python or from C.
Pointers among the arguments are read through /proc/self/mem, which fails where a pointer would crash this process.

Limits: Linux, on the machines in `CALLS`. Elsewhere the answer is UNKNOWN.
"""

from __future__ import annotations

import contextlib
import enum
import os
import platform
import socket
import struct
import sys
import time
from collections.abc import Iterator

from mob.rim import connections, descendants

LONG = 60.0
"""Seconds of a sleep from which it counts as endless."""
DEEPEST = 3
"""Maximum depth of nested epoll objects to look into."""
POLLFD = struct.Struct("ihh")
TIMESPEC = struct.Struct("qq")
MOST = 65536
"""Maximum number of descriptors of one poll or select to look at."""
POLLIN = 1
FUTEX_COMMAND = 0x7F
FUTEX_WAITS = (0, 9)
ABSOLUTE = 1
"""A flag of clock_nanosleep."""
TABLES = (("tcp", 3, b"0A", 9), ("tcp6", 3, b"0A", 9), ("unix", 3, b"00010000", 6))
"""Lists of sockets in /proc/net; the column and value of listening ones; the column of the inode."""
CALLS: dict[str, dict[int, str]] = {
    "x86_64": {
        43: "accept", 288: "accept", 7: "poll", 271: "poll", 23: "select", 270: "select",
        232: "epoll", 281: "epoll", 441: "epoll", 202: "futex", 34: "pause", 128: "sigwait", 230: "sleep",
        61: "child", 247: "child",
    },
    "aarch64": {
        202: "accept", 242: "accept", 73: "poll", 72: "select", 22: "epoll", 441: "epoll",
        98: "futex", 133: "pause", 137: "sigwait", 115: "sleep",
        260: "child", 95: "child",
    },
}  # fmt: skip


class WaitReason(enum.Enum):
    """The reason why a thread waits."""

    CONNECTION = "for a connection"
    ENDLESS = "without an end: for a lock or a signal, or in a sleep of a minute or more"
    SHORT = "until a time: for a lock, or in a shorter sleep"
    CHILD = "for the end of a child process"
    EVENTS = "for events of an epoll object, as loops do, and none of them can be a connection"
    OTHER = "for something else, or not at all"
    UNKNOWN = "unknown"


def wait_of(thread: int) -> WaitReason:
    """Return what the thread with that native id waits for at this moment."""
    names = CALLS.get(platform.machine()) if sys.platform == "linux" and sys.maxsize > 2**32 else None
    if names is None:
        return WaitReason.UNKNOWN
    try:
        before = _system_call(thread)
        found = _judge(names, before)
        return found if before == _system_call(thread) else WaitReason.OTHER  # it has moved on meanwhile
    except OSError:
        return WaitReason.UNKNOWN
    except ValueError:
        return WaitReason.OTHER  # "running"


def count_of(thread: int) -> int:
    """Return how often that thread has waited so far; 0 where the kernel does not report it."""
    mark = b"\nvoluntary_ctxt_switches:"
    with contextlib.suppress(OSError, ValueError), open(f"/proc/self/task/{thread}/status", "rb") as file:
        return int(file.read().partition(mark)[2].partition(b"\n")[0])
    return 0


def has_listeners() -> bool:
    """Return True if any socket of this process listens."""
    return any(_is_listening(descriptor) for descriptor in connections.sockets())


def listeners() -> set[int]:
    """Return the inodes of all listening sockets of this process."""
    found = [each for each in connections.sockets() if _is_listening(each)]
    return {inode for each in found if (inode := connections.inode_of(each))}


def children_listen() -> bool:
    """Return True if a descendant of this process listens on a port or a Unix socket."""
    others = descendants.below([os.getpid()], descendants.everything())
    sockets = {inode for pid in others for inode in _sockets_of(pid)}
    return bool(sockets) and not sockets.isdisjoint(_listening_inodes())


def _sockets_of(pid: int) -> Iterator[int]:
    with contextlib.suppress(OSError):
        for each in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                name = os.readlink(f"/proc/{pid}/fd/{each}")
                if name.startswith("socket:["):
                    yield int(name[8:-1])


def _listening_inodes() -> Iterator[int]:
    """Yield the inodes of all listening sockets in this network namespace."""
    for table, column, state, at in TABLES:
        with contextlib.suppress(OSError), open(f"/proc/net/{table}", "rb") as file:
            next(file, b"")
            for line in file:
                words = line.split()
                if len(words) > at and words[column] == state:
                    yield int(words[at])


def _system_call(thread: int) -> list[int]:
    with open(f"/proc/self/task/{thread}/syscall", "rb", 0) as file:
        return [int(word, 0) for word in file.read().decode().split()]


def _judge(names: dict[int, str], call: list[int]) -> WaitReason:
    number, *args = call
    name = names.get(number, "")
    if name in ("accept", "poll", "select", "epoll"):
        is_for_connections = any(_is_listening(each) for each in _descriptors(name, args))
        if is_for_connections:
            return WaitReason.CONNECTION
        return WaitReason.EVENTS if name == "epoll" else WaitReason.OTHER
    if name == "pause":
        return WaitReason.ENDLESS
    if name == "child":
        return WaitReason.CHILD
    if name == "sigwait":
        return WaitReason.OTHER if args[2] else WaitReason.ENDLESS
    if name == "futex":
        is_wait = args[1] & FUTEX_COMMAND in FUTEX_WAITS
        return WaitReason.OTHER if not is_wait else WaitReason.SHORT if args[3] else WaitReason.ENDLESS
    if name == "sleep":
        seconds, nanoseconds = TIMESPEC.unpack(_memory(args[2], TIMESPEC.size))
        begun = time.clock_gettime(args[0]) if args[1] & ABSOLUTE else 0.0
        return WaitReason.ENDLESS if seconds + nanoseconds / 1e9 - begun >= LONG - 1 else WaitReason.SHORT
    return WaitReason.OTHER


def _descriptors(name: str, args: list[int]) -> Iterator[int]:
    """Yield the descriptors on which that call waits for something to read."""
    if name == "accept":
        yield args[0]
    elif name == "poll":
        count = min(args[1], MOST)
        for descriptor, events, _ in POLLFD.iter_unpack(_memory(args[0], count * POLLFD.size)):
            if events & POLLIN:
                yield descriptor
    elif name == "select" and args[1]:
        bits = int.from_bytes(_memory(args[1], (min(args[0], MOST) + 63) // 64 * 8), "little")
        for descriptor in range(bits.bit_length()):
            if bits >> descriptor & 1:
                yield descriptor
    elif name == "epoll":
        yield from _watched(args[0], DEEPEST)


def _watched(epoll: int, depth: int) -> Iterator[int]:
    with contextlib.suppress(OSError):
        with open(f"/proc/self/fdinfo/{epoll}", "rb") as file:
            targets = [int(line.split()[1]) for line in file if line.startswith(b"tfd:")]
        for each in targets:
            yield each
            if depth and connections.is_epoll(each):
                yield from _watched(each, depth - 1)


def _is_listening(descriptor: int) -> bool:
    try:
        with connections.look_at(descriptor) as sock:
            return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    except OSError:
        return False


def _memory(address: int, size: int) -> bytes:
    memory = os.open("/proc/self/mem", os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = os.pread(memory, size, address)
    finally:
        os.close(memory)
    if len(data) < size:
        raise ValueError("not all of that is memory of this process")
    return data
