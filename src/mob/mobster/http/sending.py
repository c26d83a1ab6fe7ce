"""Files as answers of WSGI applications: sent by the kernel, without passing through Python.

`os.sendfile` copies from the cache of the file system to the socket; a gigabyte costs a fifth of a second of a core. It
is called in the thread of the request, on a descriptor of the socket that is the thread's own, so that nothing the
loop does with its own descriptor can lead the bytes astray. Between two pieces the thread sleeps in poll(2), which
returns when the client reads on and when it has gone.
"""

from __future__ import annotations

import inspect
import io
import os
import select
import socket
import stat
from collections.abc import Iterator
from typing import Any, cast

BLOCK = 64 * 1024
"""Bytes of a block where a file cannot be sent by the kernel and the application has named no size."""
MOST = 0x7FFFF000
"""Bytes that one call of sendfile(2) sends at most."""


class FileWrapper:
    """`wsgi.file_wrapper`: an iterable over the blocks of a file-like object."""

    def __init__(self, filelike: Any, block_size: int = BLOCK) -> None:
        self.filelike = filelike
        self.block_size = block_size
        if hasattr(filelike, "close"):
            self.close: Any = filelike.close

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if block := self.filelike.read(self.block_size):
            return block
        raise StopIteration


def part_to_send(filelike: Any, length: int | None) -> tuple[int, int, int] | None:
    """Return descriptor, offset and count of what the kernel can send; None if the file is to be read in blocks.

    `length`: the Content-Length of the answer, if it has one; then no more than that is sent.
    """
    file = _file_behind(filelike)
    if file is None:
        return None
    try:
        descriptor, offset = file.fileno(), file.tell()
        status = os.fstat(descriptor)
    except (OSError, ValueError):
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    left = max(0, status.st_size - offset)
    return descriptor, offset, left if length is None else min(left, length)


def send_file(sock: socket.socket, descriptor: int, offset: int, count: int) -> int:
    """Send a part of a file on a socket that does not block; return how many bytes were sent: fewer than `count` if
    the file has become shorter. `OSError` if the client has gone."""
    poller = select.poll()
    poller.register(sock, select.POLLOUT)
    sent = 0
    while sent < count:
        try:
            done = os.sendfile(sock.fileno(), descriptor, offset + sent, min(count - sent, MOST))
        except BlockingIOError:
            poller.poll()
            continue
        if not done:
            break
        sent += done
    return sent


def _file_behind(filelike: Any) -> Any:
    """Return the file whose bytes `filelike.read` returns as they are, if there is one.

    It is asked whose method `read` is, because a `fileno` alone says too little: gzip's files have one, and return
    other bytes than lie there. Wrappers that hand `read` on (those of tempfile and of Django) are seen through.
    """
    read: Any = inspect.unwrap(getattr(filelike, "read", None))  # pyright: ignore[reportArgumentType]
    if not inspect.isbuiltin(read):  # it is Python's own, not one that a subclass has put before it
        return None
    file: Any = read.__self__
    is_buffered = isinstance(file, io.BufferedReader | io.BufferedRandom)
    raw: object = cast(Any, file).raw if is_buffered else file
    return read.__self__ if isinstance(raw, io.FileIO) else None
