"""What a mobster prints, as whole lines even when several of its threads print at once.

`print` writes its parts one by one, and another thread's may come in between. Here a thread's text is held until its
line is complete or it flushes; then it is written in one piece.
"""

from __future__ import annotations

import io
import sys
from threading import get_ident

LONGEST = 64 * 1024
"""Characters of a line that are held at most."""


class WholeLines(io.TextIOWrapper):
    """A text stream that writes each thread's lines in one piece."""

    def __init__(self, buffer: io.BufferedWriter) -> None:
        super().__init__(buffer, encoding="utf-8", errors="backslashreplace", line_buffering=True)
        self._begun: dict[int, str] = {}  # by thread

    def write(self, text: str, /) -> int:
        """Writes up to the last end of a line; the rest is held."""
        thread = get_ident()
        whole = self._begun.pop(thread, "") + text
        lines, end, rest = whole.rpartition("\n")
        if len(rest) > LONGEST:
            lines, rest = whole, ""
        if rest:
            self._begun[thread] = rest
        if lines or end:
            super().write(lines + end)
        return len(text)

    def flush(self) -> None:
        """Writes what this thread has begun."""
        begun = self._begun.pop(get_ident(), "")
        if begun:
            super().write(begun)
        super().flush()

    def finish(self) -> None:
        """Writes what any thread has begun: nothing more will come."""
        while self._begun:
            super().write(self._begun.popitem()[1])
        super().flush()


def install() -> None:
    """From now on `print` writes whole lines."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):
            stream.flush()
            setattr(sys, name, WholeLines(stream.detach()))  # type: ignore[arg-type]


def finish() -> None:
    """The process ends: nothing of what was printed is lost."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, WholeLines):
            stream.finish()
