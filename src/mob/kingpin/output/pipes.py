"""One pipe of one mobster: bytes in, whole lines out, and what is known of the line that has no end yet.

A line that is rewritten (`\\r`, as progress bars do) is what it was last. A long line is cut into pieces, which are
lines of their own. A line without an end is shown after a moment; this file knows when, and what of it. It reads
nothing, and the time is passed in.
"""

from __future__ import annotations

import msgspec

from mob.kingpin.output.lines import Origin

LONGEST_LINE = 64 * 1024
"""Bytes of a line; a longer one is cut into pieces of this size."""
LIVE_PAUSE = 0.1
"""Seconds after which a line without an end is shown on a terminal, and after which it is shown as it is then."""
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""The same where it cannot be rewritten; the pause doubles with each time that the line is shown."""


class PipeState(msgspec.Struct, frozen=True):
    """A pipe as the next program takes it over."""

    uid: int
    pid: int
    fd: int
    is_error: bool
    role: str
    index: int
    line: bytes
    """The line that has no end yet."""


class Pipe:
    """The reading end of one pipe, and its unfinished line."""

    def __init__(self, uid: int, fd: int, origin: Origin, is_live: bool) -> None:
        self.uid = uid
        self.fd = fd
        self.origin = origin
        self.begun: bytes = b""
        """A line that has no end yet."""
        self.shown: bytes = b""
        """What was shown of it last."""
        self.is_awaited = False
        """Whether somebody looks at it when it is `due`."""
        self._is_live = is_live
        self._pause = LIVE_PAUSE if is_live else FIRST_PAUSE
        self._since = 0.0

    def __repr__(self) -> str:
        return f"<Pipe of {self.origin.name}, {len(self.begun)} bytes begun>"

    def state(self) -> PipeState:
        """Return what the next program needs of it."""
        origin = self.origin
        return PipeState(self.uid, origin.pid, self.fd, origin.is_error, origin.role, origin.index, self.begun)

    def feed(self, data: bytes, now: float) -> bytes:
        """Return the lines that this completes."""
        end = data.rfind(b"\n") + 1
        if end:
            lines, self.begun = self.begun + data[:end], data[end:]
        else:
            lines, self.begun = b"", self.begun + data
        if end or len(self.begun) == len(data):
            self.shown, self._since = b"", now
            self._pause = LIVE_PAUSE if self._is_live else FIRST_PAUSE
        if b"\r" in lines:
            lines = b"\n".join(map(_left, lines.split(b"\n")))
        if b"\r" in self.begun:
            self.begun = last_state(self.begun)
        if len(lines) > LONGEST_LINE:
            lines = cut(lines)
        if len(self.begun) > LONGEST_LINE:
            more, _, self.begun = cut(self.begun).rpartition(b"\n")
            lines += more + b"\n"
        return lines

    def take_begun(self) -> bytes:
        """Return the line that has no end; it gets none any more."""
        begun, self.begun = self.begun, b""
        return begun

    @property
    def visible(self) -> bytes:
        """The line without an end, as a terminal would show it now."""
        visible = self.begun.rstrip(b"\r")
        return visible if visible.strip() else b""

    @property
    def has_news(self) -> bool:
        """Whether the line without an end looks otherwise than it was shown."""
        return self.visible != self.shown

    @property
    def due(self) -> float:
        """When it is to be shown."""
        return self._since + self._pause

    def note_shown(self, now: float) -> None:
        """Take note that it is shown, as it is."""
        self.shown, self._since = self.visible, now
        if not self._is_live:
            self._pause = min(2 * self._pause, LONGEST_PAUSE)


def last_state(line: bytes) -> bytes:
    """Return what is seen of a line that was rewritten; of several returns at its end one is kept.

    >>> last_state(b"\\r 1%\\r50%"), last_state(b"50%\\r\\r"), last_state(b"50%\\r   \\r")
    (b'50%', b'50%\\r', b'   \\r')
    """
    body = line.rstrip(b"\r")
    return body.rpartition(b"\r")[2] + line[len(body) :][:1]


def _left(line: bytes) -> bytes:
    """Return what is left of a line at its end: nothing, if it was blanked out."""
    if b"\r" not in line:
        return line
    state = last_state(line)
    return state if state.strip() else b""


def cut(lines: bytes) -> bytes:
    """Return lines none of which is too long; no character is divided.

    >>> [len(piece) for piece in cut(b"x" * (LONGEST_LINE + 10)).split(b"\\n")]
    [65536, 10]
    """
    pieces: list[bytes] = []
    start = 0
    while len(lines) - start > LONGEST_LINE:
        end = lines.rfind(b"\n", start, start + LONGEST_LINE + 1) + 1
        if end:
            pieces.append(lines[start:end])
        else:
            end = start + LONGEST_LINE
            while end > start + LONGEST_LINE - 4 and lines[end] & 0xC0 == 0x80:  # within a character of UTF-8
                end -= 1
            pieces += (lines[start:end], b"\n")
        start = end
    pieces.append(lines[start:])
    return b"".join(pieces)
