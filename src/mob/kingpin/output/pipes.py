r"""One pipe of one mobster: bytes in, whole lines out, and the state of the unfinished line.

A line that is rewritten (`\r`, as progress bars do) counts as its last version. A long line is cut into pieces, which
are lines of their own. An unfinished line is shown after a moment; this file knows when, and what of it. It reads
nothing, and the time is passed in.
"""

from __future__ import annotations

import msgspec

from mob.kingpin.output.lines import Origin

LONGEST_LINE = 64 * 1024
"""Maximum bytes of a line; a longer one is cut into pieces of this size."""
LIVE_PAUSE = 0.1
"""Seconds before an unfinished line is shown on a terminal, and between two updates of it."""
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""The same in seconds where it cannot be rewritten; the pause doubles each time the line is shown."""


class PipeState(msgspec.Struct, frozen=True):
    """A pipe as it is handed over to the next program."""

    uid: int
    pid: int
    fd: int
    is_error: bool
    role: str
    index: int
    line: bytes
    """The unfinished line."""


class Pipe:
    """The reading end of one pipe, and its unfinished line."""

    def __init__(self, uid: int, fd: int, origin: Origin, is_live: bool) -> None:
        self.uid = uid
        self.fd = fd
        self.origin = origin
        self.begun: bytes = b""
        """The unfinished line."""
        self.shown: bytes = b""
        """The part of it that was shown last."""
        self.is_awaited = False
        """True if a timer is set for the time when it is `due`."""
        self._is_live = is_live
        self._pause = LIVE_PAUSE if is_live else FIRST_PAUSE
        self._since = 0.0

    def __repr__(self) -> str:
        return f"<Pipe of {self.origin.name}, {len(self.begun)} bytes begun>"

    def state(self) -> PipeState:
        """Return the state for the next program."""
        origin = self.origin
        return PipeState(self.uid, origin.pid, self.fd, origin.is_error, origin.role, origin.index, self.begun)

    def feed(self, data: bytes, now: float) -> bytes:
        """Add bytes; return the lines that they complete."""
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
        """Return the unfinished line and forget it: its end will not come."""
        begun, self.begun = self.begun, b""
        return begun

    @property
    def visible(self) -> bytes:
        """The unfinished line, as a terminal would show it now."""
        visible = self.begun.rstrip(b"\r")
        return visible if visible.strip() else b""

    @property
    def has_news(self) -> bool:
        """True if the unfinished line differs from what was shown."""
        return self.visible != self.shown

    @property
    def due(self) -> float:
        """The time at which the unfinished line is to be shown."""
        return self._since + self._pause

    def note_shown(self, now: float) -> None:
        """Note that the unfinished line was shown as it is."""
        self.shown, self._since = self.visible, now
        if not self._is_live:
            self._pause = min(2 * self._pause, LONGEST_PAUSE)


def last_state(line: bytes) -> bytes:
    r"""Return what is visible of a line that was rewritten; of several returns at its end one is kept.

    >>> last_state(b"\r 1%\r50%"), last_state(b"50%\r\r"), last_state(b"50%\r   \r")
    (b'50%', b'50%\r', b'   \r')
    """
    body = line.rstrip(b"\r")
    return body.rpartition(b"\r")[2] + line[len(body) :][:1]


def _left(line: bytes) -> bytes:
    """Return what is left of a line at its end: nothing if it was blanked out."""
    if b"\r" not in line:
        return line
    state = last_state(line)
    return state if state.strip() else b""


def cut(lines: bytes) -> bytes:
    r"""Split lines that are too long, without dividing a character.

    >>> [len(piece) for piece in cut(b"x" * (LONGEST_LINE + 10)).split(b"\n")]
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
            while end > start + LONGEST_LINE - 4 and lines[end] & 0xC0 == 0x80:  # within a UTF-8 character
                end -= 1
            pieces += (lines[start:end], b"\n")
        start = end
    pieces.append(lines[start:])
    return b"".join(pieces)
