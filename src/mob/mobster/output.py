"""Writes what a mobster prints as whole lines, even when several of its threads print at once.

`print` writes its parts one by one, and parts of other threads may be mixed in. Here a thread's text is held until its
line is complete or it flushes; then it is written in one piece.

`sys.stdout` and `sys.__stdout__` are one stream, as usual, and behave like those of a program whose output goes into a
pipe. They are created before the fork and serve after it as well, so they report that they are not seekable, whatever
the descriptor was at that time. Closing or detaching them flushes them and leaves them open, so that later messages of
mob and `logging` do not fail.

When the Kingpin is dead, the pipe has no reader: later output is dropped, because lost output must not fail the work
that is still to be finished. `detach_when_unread` does the same for what writes to the descriptor itself: C libraries,
and programs that are started from then on.
"""

from __future__ import annotations

import contextlib
import io
import os
import select
import stat
import sys
import threading
from collections.abc import Callable
from threading import get_ident
from typing import Any

LONGEST = 64 * 1024
"""Maximum number of characters of a line that are held."""
NAMES = {1: "stdout", 2: "stderr"}


class StandardStream(io.FileIO):
    """The descriptor of a standard stream, which is or will be a pipe to the Kingpin."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self.name: str = f"<{NAMES.get(descriptor, descriptor)}>"

    def write(self, data: Any, /) -> int | None:
        """Write to the pipe; drop the data if the pipe has no reader."""
        try:
            return super().write(data)
        except BrokenPipeError:
            return memoryview(data).nbytes

    def seekable(self) -> bool:
        """Return False, also before the fork, when the output of the app may be a file."""
        return False

    def close(self) -> None:
        """Leave it open."""


class Buffer(io.BufferedWriter):
    """The bytes of a standard stream (`sys.stdout.buffer`)."""

    def close(self) -> None:
        """Write what is held, and stay open: another stream around this buffer may have been closed."""
        self.flush()

    def detach(self) -> Any:
        """Write what is held, and return the descriptor, which stays attached."""
        self.flush()
        return self.raw


class WholeLines(io.TextIOWrapper):
    """A text stream that writes each thread's lines in one piece."""

    TRACEBACK = "Traceback (most recent call last):\n"
    as_object: Callable[[str], str] | None = None
    """Converts a text with a traceback to one line, if set; the object then begins on a line of its own.

    This holds also after a progress bar.
    """

    def __init__(self, buffer: io.BufferedWriter) -> None:
        super().__init__(buffer, encoding="utf-8", errors="backslashreplace", line_buffering=True)
        self.mode: str = "w"  # type: ignore[misc]
        self._begun: dict[int, str] = {}  # by thread
        self._is_open = False  # True if the last line written has no end yet

    def write(self, text: str, /) -> int:
        """Write up to the last end of a line; hold the rest, unless it rewrites its line, as progress bars do."""
        if self.as_object is not None:
            is_traceback = self.TRACEBACK in text
            if is_traceback or (text.startswith('{"') and text.endswith("}\n")):  # in one piece, as `logging` writes
                self._put(("\n" if self._is_open else "") + (self.as_object(text) if is_traceback else text))
                return len(text)
        if self.write_through:
            self._put(text)
            return len(text)
        thread = get_ident()
        whole = self._begun.pop(thread, "") + text
        lines, end, rest = whole.rpartition("\n")
        if len(rest) > LONGEST or "\r" in rest:
            lines, end, rest = whole, "", ""
        if rest:
            self._begun[thread] = rest
        if lines or end:
            self._put(lines + end)
        return len(text)

    def _put(self, text: str) -> None:
        if text:
            self._is_open = not text.endswith("\n")
            super().write(text)

    def flush(self) -> None:
        """Write the line that this thread has begun."""
        begun = self._begun.pop(get_ident(), "")
        if begun:
            self._put(begun)
        super().flush()

    def finish(self) -> None:
        """Write the lines that threads have begun: nothing more will come."""
        while self._begun:
            with contextlib.suppress(KeyError):  # its thread has just finished the line
                self._put(self._begun.popitem()[1])
        super().flush()

    def close(self) -> None:
        """Write what is held, and stay open."""
        self.finish()

    def detach(self) -> Any:
        """Write what is held, and return the buffer, which stays attached."""
        self.finish()
        return self.buffer


def install() -> None:
    """Let `print` write whole lines from now on."""
    for descriptor, name in NAMES.items():
        if isinstance(stream := getattr(sys, name), io.TextIOWrapper):
            stream.flush()
            _replace(descriptor)


def finish() -> None:
    """Write everything that was printed to any stream, because the process ends."""
    for stream in (sys.stdout, sys.stderr, *_standing):
        with contextlib.suppress(Exception):  # a stream of the application, which may be closed
            stream.finish() if isinstance(stream, WholeLines) else stream.flush()


def detach_when_unread() -> None:
    """Put /dev/null on the standard streams once they have no reader, because the Kingpin is dead. On any thread."""
    with contextlib.suppress(RuntimeError):  # no thread can be started: what Python writes is dropped anyway
        threading.Thread(target=_detach, name="mob-output", daemon=True).start()


def _detach() -> None:
    poll = select.poll()
    waiting = {descriptor for descriptor in NAMES if _is_pipe(descriptor)}
    for descriptor in waiting:
        poll.register(descriptor, 0)  # only errors, such as a pipe without a reader
    while waiting:
        for descriptor, event in poll.poll():
            poll.unregister(descriptor)
            waiting.discard(descriptor)
            if not event & select.POLLNVAL:
                _put_null_on(descriptor)


def _is_pipe(descriptor: int) -> bool:
    try:
        return stat.S_ISFIFO(os.fstat(descriptor).st_mode)
    except OSError:
        return False


def _put_null_on(descriptor: int) -> None:
    with contextlib.suppress(OSError):
        null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        os.dup2(null, descriptor)
        os.close(null)


_standing: list[WholeLines] = []
"""The streams of this process; the application may replace them."""


def _replace(descriptor: int) -> None:
    name = NAMES[descriptor]
    stream = WholeLines(Buffer(StandardStream(descriptor)))
    _standing.append(stream)
    setattr(sys, name, stream)
    setattr(sys, f"__{name}__", stream)
