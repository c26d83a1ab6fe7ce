"""Output as it passes through the Kingpin: chunks of whole lines, and the formats in which they are written.

A chunk is what one read brought from one pipe, up to its last end of line. It stays bytes until a reader wants to see
it: `bytes.replace` does most of the work for a line, and what is dropped was never looked at. As text each line gets a
prefix. As JSON it becomes the `message` of an object; a line that is an object already gets the fields that it lacks.
Nothing here reads or writes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime

import msgspec

from mob.plan import KINGPIN, place_name

COLORS = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)
RESET = "\x1b[0m"
BOLD = 1


class Origin(msgspec.Struct, frozen=True, gc=False):
    """The process and stream that printed something."""

    role: str
    index: int
    pid: int
    is_error: bool
    color: int

    @property
    def name(self) -> str:
        """Name of the mobster, or of the Kingpin."""
        return "mob" if self.role == KINGPIN else place_name(self.role, self.index)


class OutputChunk(msgspec.Struct, frozen=True, gc=False):
    """Whole lines, each with its end."""

    at: float
    """Seconds since the epoch."""
    origin: Origin
    data: bytes
    count: int
    """Number of lines."""
    is_partial: bool = False
    """True if it is the beginning of an unfinished line; it comes again with its end."""


Form = Callable[[OutputChunk], bytes]
"""A format: returns the bytes to write for a chunk."""


def as_text(chunk: OutputChunk) -> bytes:
    r"""Return each line with a prefix.

    >>> as_text(OutputChunk(0.0, Origin("back", 2, 4242, False, 36), b"one\ntwo\n", 2))
    b'back.2 4242 | one\nback.2 4242 | two\n'
    """
    return _prefixed(chunk, f"{_who(chunk.origin)} | ")


def as_painted_text(chunk: OutputChunk) -> bytes:
    """Return each line with a colored prefix."""
    return _prefixed(chunk, f"\x1b[{chunk.origin.color}m{_who(chunk.origin)}{RESET} | ")


def as_dated_text(chunk: OutputChunk) -> bytes:
    r"""Return each line with the time and a prefix.

    >>> as_dated_text(OutputChunk(0.0, Origin("back", 2, 4242, False, 36), b"one\n", 1))
    b'1970-01-01T00:00:00.000Z back.2 4242 | one\n'
    """
    return _prefixed(chunk, f"{utc(chunk.at, 'milliseconds')} {_who(chunk.origin)} | ")


def as_json(chunk: OutputChunk) -> bytes:
    r"""Return each line as an object; one that is an object keeps its fields.

    >>> as_json(OutputChunk(0.0, Origin("back", 2, 4242, True, 36), b"one\n", 1)).decode()  # doctest: +ELLIPSIS
    '{"time":"1970-01-01T00:00:00.000000Z","role":"back","index":2,...,"stream":"stderr","message":"one"}\n'
    """
    origin = chunk.origin
    ours = {
        "time": utc(chunk.at),
        "role": origin.role,
        "index": origin.index,
        "pid": origin.pid,
        "stream": "stderr" if origin.is_error else "stdout",
        **({"partial": True} if chunk.is_partial else {}),
    }
    head = msgspec.json.encode(ours)[:-1] + b',"message":'
    lines: list[bytes] = []
    for line in [chunk.data[:-1]] if origin.role == KINGPIN else chunk.data[:-1].split(b"\n"):
        if line[:1] == b"{" and (completed := _completed(line, ours)):
            lines.append(completed)
        else:
            lines.append(head + msgspec.json.encode(line.decode(errors="replace")) + b"}\n")
    return b"".join(lines)


_object = msgspec.json.Decoder(dict[str, msgspec.Raw])


def _completed(line: bytes, ours: Mapping[str, object]) -> bytes:
    """Return a JSON object with the fields that it lacks added at its end; b"" if the line is no object."""
    try:
        text = line.decode().strip()
        known = _object.decode(text)
    except (UnicodeDecodeError, msgspec.DecodeError):
        return b""
    missing = {name: value for name, value in ours.items() if name not in known}
    if not missing:
        return f"{text}\n".encode()
    comma = b"," if known else b""
    return text[:-1].encode() + comma + msgspec.json.encode(missing)[1:] + b"\n"


def utc(at: float, precision: str = "microseconds") -> str:
    """Return a time in ISO 8601.

    >>> utc(0.5)
    '1970-01-01T00:00:00.500000Z'
    """
    return datetime.fromtimestamp(at, UTC).isoformat(timespec=precision).replace("+00:00", "Z")


def _who(origin: Origin) -> str:
    return origin.name if origin.role == KINGPIN else f"{origin.name} {origin.pid}"


def _prefixed(chunk: OutputChunk, prefix: str) -> bytes:
    start = prefix.encode()
    if chunk.origin.role == KINGPIN:  # a message of several lines gets one prefix
        return start + chunk.data
    return start + chunk.data[:-1].replace(b"\n", b"\n" + start) + b"\n"
