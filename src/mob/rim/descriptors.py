"""Sockets and open files, taken apart into a descriptor and what else they are, and put together again elsewhere.

Strategy. `check` says whether something can be handed over, and if not, why and what to do. `duplicate` duplicates its
descriptor and tells, in plain values, what to make of it; `opened` makes an object of it, which owns the descriptor. A
duplicate is what `dup` and `fork` make: one connection, one position in the file, one O_NONBLOCK for all who have one.
So what a file has in its own buffers is settled first: what was written is written, and the descriptor is put where the
file says that it stands.

Limits. What lives in this process only cannot go: keys of TLS, compression, files made of memory or of sockets. How a
text file treats the ends of lines (`newline=`) cannot be asked: it arrives with the default. What was read ahead from a
pipe stays here.
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
"""What it is, and with what it was opened."""
POSITION = 2**64
"""Below this, what `tell` of a text file says is a position; above, the state of a decoder is in it too."""
_kind: Callable[[Any], type[Any]] = type


def check(value: Any) -> None:
    """Raises `UnsendableValue` if it cannot be handed over."""
    _parts(value)


def duplicate(value: Any) -> tuple[Descriptor, Parts]:
    """A duplicate of its descriptor, and what the other end needs besides; `UnsendableValue` if it cannot be had."""
    parts = _parts(value)
    try:
        if parts[0] in _LAYERS:
            _settle(_file_of(value))
        return Descriptor(os.dup(value.fileno())), parts
    except OSError as failure:
        hint = f" This process may have {limit():,} (`ulimit -n`)." if failure.errno == errno.EMFILE else ""
        why = failure.strerror or str(failure)
        raise UnsendableValue(f"a descriptor cannot be duplicated here: {why}.{hint}") from failure


def opened(kind: str, details: tuple[Any, ...], descriptor: int) -> Any:
    """The socket or file of a descriptor, which belongs to it from now on. Whatever this raises, it is closed."""
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
    """How many descriptors this process may have."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


# -- taking apart ------------------------------------------------------------------------------------------------------


def _parts(value: Any) -> Parts:
    if isinstance(value, socket.socket):
        if value.fileno() < 0:
            raise UnsendableValue("a closed socket cannot be handed over. Send it before it is closed.")
        return "socket", (value.gettimeout(),)
    if is_a(type(value), "multiprocessing.connection.Connection"):
        if value.closed:
            raise UnsendableValue("a closed connection cannot be handed over. Send it before it is closed.")
        return "connection", (value.readable, value.writable)
    return _parts_of_file(_file_of(value))


def _file_of(value: Any) -> Any:
    """The file itself, if it is one of `tempfile`, which removes it when it is closed."""
    return value if isinstance(value, io.IOBase) else value.file


def _parts_of_file(file: Any) -> Parts:
    if file.closed:
        raise UnsendableValue("a closed file cannot be handed over. Send it before it is closed.")
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
        raise UnsendableValue("a file made of a socket cannot be handed over. Send the socket itself.")
    if not isinstance(raw, io.FileIO) or (raw is buffered and buffered is not file):
        kind = f"{_kind(file).__module__}.{_kind(file).__qualname__}"
        raise UnsendableValue(
            f"a file without a descriptor of its own ({kind}) cannot be handed over. Send its content."
        )
    return raw


def _decoding(text: Any) -> str | None:
    """Where it stands in a way that only a text file understands, if that says more than the position does."""
    if not (text.readable() and text.seekable()):
        return None
    try:
        cookie = text.tell()
    except OSError as failure:
        hint = "Read it by readline() instead."
        raise UnsendableValue(f"a text file cannot be handed over while it is iterated over. {hint}") from failure
    return str(cookie) if cookie >= POSITION or _begins_with_a_state(text.encoding) else None


def _begins_with_a_state(encoding: str) -> bool:
    """Whether a decoder that has read nothing differs from one in the middle: it waits for a mark of the byte order."""
    return codecs.getincrementaldecoder(encoding)().getstate()[1] != 0


def _settle(file: Any) -> None:
    """Leaves nothing in the file's own buffers."""
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
        buffered.seek(0, os.SEEK_END)  # else it only moves within its buffer
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
    connection: Any = import_module("multiprocessing.connection")  # loads a lot, and is rarely wanted
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
