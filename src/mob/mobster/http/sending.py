"""Files as responses of WSGI applications: sent by the kernel, without passing through Python.

`os.sendfile` copies from the cache of the file system to the socket; a gigabyte costs a fifth of a second of a core. It
is called in the thread of the request, on a separate descriptor of the socket, so that the bytes cannot reach another
client whatever the loop does with its own descriptor. Between two pieces the thread sleeps in poll(2), which returns
when the client reads on or disconnects.
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
"""Bytes of a block if the kernel cannot send a file and the application gives no size."""
MOST = 0x7FFFF000
"""Maximum number of bytes that one call of sendfile(2) sends."""


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
    """Return descriptor, offset and count of what the kernel can send; None if the file must be read in blocks.

    `length` is the Content-Length of the response, if it has one; no more than that is sent.
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
    """Send a part of a file on a non-blocking socket; return the number of bytes sent.

    That is less than `count` if the file became shorter. Raises `OSError` if the client disconnected.
    """
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
    """Return the file whose bytes `filelike.read` returns unchanged; None if there is no such file.

    This checks the owner of the method `read`, because a `fileno` alone says too little: gzip's files have one, and
    return other bytes than the file contains. Wrappers that pass `read` on (those of tempfile and Django) are followed.
    """
    read: Any = inspect.unwrap(getattr(filelike, "read", None))  # pyright: ignore[reportArgumentType]
    if not inspect.isbuiltin(read):  # a subclass of Python's file types has its own `read`
        return None
    file: Any = read.__self__
    is_buffered = isinstance(file, io.BufferedReader | io.BufferedRandom)
    raw: object = cast(Any, file).raw if is_buffered else file
    return read.__self__ if isinstance(raw, io.FileIO) else None
