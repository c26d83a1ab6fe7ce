"""Sockets and open files: taken apart into a descriptor and plain values, and put together again elsewhere.

Strategy. `check` raises if something cannot be sent, and says why and what to do. `duplicate` duplicates the descriptor
and describes, in plain values, what to make of it; `opened` makes an object that owns the descriptor. A duplicate is
like that of `dup` and `fork`: one connection, one position in the file, one O_NONBLOCK for all. So the buffers of a
file are settled first: what was written is flushed, and the descriptor is moved to the position that the file reports.

Limits. What exists only in this process cannot be sent: TLS keys, compression, files made of memory or of sockets. How
a text file treats line ends (`newline=`) cannot be read: it arrives with the default. What was read ahead from a pipe
stays here.
"""

from __future__ import annotations

import codecs
import errno
import io
import os
import resource
import socket
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from mob.rim.link import Descriptor
from mob.wire.kinds import is_a
from mob.wire.refusals import UnsendableValue

Parts = tuple[str, tuple[Any, ...]]
"""The kind of an object, and the arguments with which it was opened."""
POSITION = 2**64
"""Limit of positions reported by `tell` of a text file; larger values contain the state of a decoder."""
_kind: Callable[[Any], type[Any]] = type


def check(value: Any) -> None:
    """Raise `UnsendableValue` if the object cannot be sent."""
    _parts(value)


def duplicate(value: Any) -> tuple[Descriptor, Parts]:
    """Return a duplicate of the descriptor, and what else the other end needs. Raise `UnsendableValue` if it fails."""
    parts = _parts(value)
    try:
        if parts[0] in _LAYERS:
            _settle(_file_of(value))
        return Descriptor(os.dup(value.fileno())), parts
    except OSError as failure:
        hint = f" The limit of this process is {limit():,} (`ulimit -n`)." if failure.errno == errno.EMFILE else ""
        why = failure.strerror or str(failure)
        raise UnsendableValue(f"a file descriptor cannot be duplicated: {why}.{hint}") from failure


def opened(kind: str, details: tuple[Any, ...], descriptor: int) -> Any:
    """Return the socket or file for a descriptor, which it now owns. If this raises, the descriptor is closed."""
    try:
        raw = _RAW[kind](descriptor, *details)
    except BaseException:
        os.close(descriptor)
        raise
    if kind not in _LAYERS:
        return raw
    try:
        return _LAYERS[kind](raw, *details)
    except BaseException:
        raw.close()
        raise


def limit() -> int:
    """Return how many descriptors this process may have."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


# -- taking apart ------------------------------------------------------------------------------------------------------


def _parts(value: Any) -> Parts:
    if isinstance(value, socket.socket):
        if value.fileno() < 0:
            raise UnsendableValue("a closed socket cannot be sent. Send it before you close it.")
        return "socket", (value.gettimeout(),)
    if is_a(type(value), "multiprocessing.connection.Connection"):
        if value.closed:
            raise UnsendableValue("a closed connection cannot be sent. Send it before you close it.")
        return "connection", (value.readable, value.writable)
    return _parts_of_file(_file_of(value))


def _file_of(value: Any) -> Any:
    """Return the file itself, if it is a wrapper of `tempfile`, which deletes it when it is closed."""
    return value if isinstance(value, io.IOBase) else value.file


def _parts_of_file(file: Any) -> Parts:
    if file.closed:
        raise UnsendableValue("a closed file cannot be sent. Send it before you close it.")
    raw = _raw_of(file)
    name = raw.name if isinstance(raw.name, str | bytes) else None
    if not _is_text(file):
        return ("raw" if file is raw else "buffered"), (raw.mode, name)
    line = (file.line_buffering, file.write_through)
    return "text", (raw.mode, name, getattr(file, "mode", None), file.encoding, file.errors, *line, _decoding(file))


def _is_text(file: Any) -> bool:
    return isinstance(file, io.TextIOWrapper)


def _is_buffered(file: Any) -> bool:
    return isinstance(file, io.BufferedReader | io.BufferedWriter | io.BufferedRandom)


def _raw_of(file: Any) -> io.FileIO:
    buffered = file.buffer if _is_text(file) else file
    raw: Any = buffered.raw if _is_buffered(buffered) else buffered
    if isinstance(raw, socket.SocketIO):
        raise UnsendableValue("a file made from a socket cannot be sent. Send the socket itself.")
    if not isinstance(raw, io.FileIO) or (raw is buffered and buffered is not file):
        kind = f"{_kind(file).__module__}.{_kind(file).__qualname__}"
        raise UnsendableValue(f"a file without its own file descriptor ({kind}) cannot be sent. Send its contents.")
    return raw


def _decoding(text: Any) -> str | None:
    """Return the position as only a text file understands it, if that says more than the position in bytes."""
    if not (text.readable() and text.seekable()):
        return None
    try:
        cookie = text.tell()
    except OSError as failure:
        hint = "Read it with readline() instead."
        raise UnsendableValue(f"a text file cannot be sent while it is iterated over. {hint}") from failure
    return str(cookie) if cookie >= POSITION or _begins_with_a_state(text.encoding) else None


def _begins_with_a_state(encoding: str) -> bool:
    """Return True if a decoder waits for a byte order mark at the beginning of a file."""
    return codecs.getincrementaldecoder(encoding)().getstate()[1] != 0


def _settle(file: Any) -> None:
    """Flush the file's own buffers."""
    raw = _raw_of(file)
    file.flush()
    if file is raw or not (file.readable() and file.seekable()):
        return
    buffered = file
    if _is_text(file):
        buffered = file.buffer
        if (where := file.tell()) != buffered.tell():
            file.seek(where)
    if (where := buffered.tell()) != raw.tell():
        buffered.seek(0, os.SEEK_END)  # otherwise it only moves within its buffer
        buffered.seek(where)


# -- putting together --------------------------------------------------------------------------------------------------


def _socket(descriptor: int, timeout: float | None) -> socket.socket:
    sock = socket.socket(fileno=descriptor)
    try:
        if sock.gettimeout() != timeout:
            sock.settimeout(timeout)
    except BaseException:
        sock.detach()
        raise
    return sock


def _connection(descriptor: int, readable: bool, writable: bool) -> Any:
    connection: Any = import_module("multiprocessing.connection")  # imports a lot, and is rarely needed
    return connection.Connection(descriptor, readable, writable)


def _raw(descriptor: int, mode: str, name: str | bytes | None, *layers: Any) -> io.FileIO:
    raw = io.FileIO(descriptor, mode)
    if name is not None:
        raw.name = name  # type: ignore[misc]
    return raw


def _buffered(raw: io.FileIO, mode: str, *name: Any) -> Any:
    if "+" in mode:
        return io.BufferedRandom(raw)
    return io.BufferedReader(raw) if "r" in mode else io.BufferedWriter(raw)


def _text(
    raw: io.FileIO,
    raw_mode: str,
    name: Any,
    mode: str | None,
    encoding: str,
    errors: str,
    line_buffering: bool,
    write_through: bool,
    where: str | None,
) -> io.TextIOWrapper:
    buffered = _buffered(raw, raw_mode)
    text = io.TextIOWrapper(buffered, encoding, errors, line_buffering=line_buffering, write_through=write_through)
    if mode is not None:
        text.mode = mode  # type: ignore[misc]
    if where is not None:
        text.seek(int(where))
    return text


_RAW: Mapping[str, Callable[..., Any]] = {
    "socket": _socket,
    "connection": _connection,
    "raw": _raw,
    "buffered": _raw,
    "text": _raw,
}
_LAYERS: Mapping[str, Callable[..., Any]] = {"buffered": _buffered, "text": _text}
