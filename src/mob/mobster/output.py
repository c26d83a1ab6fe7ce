"""What a mobster prints, as whole lines even when several of its threads print at once.

`print` writes its parts one by one, and another thread's may come in between. Here a thread's text is held until its
line is complete or it flushes; then it is written in one piece.

`sys.stdout` and `sys.__stdout__` are one stream, as everywhere, and behave as those of a program whose output goes into
a pipe. They are made before the fork and serve after it as well, so they say that they cannot be positioned whatever
the descriptor was at that time. Closing or detaching them flushes them and leaves them open: what mob and `logging`
have to say later must not fail because of it.

When the Kingpin has died, nobody reads the pipe: what is written from then on is dropped, because output that is lost
must not fail the work that is still to be finished. `detach_when_unread` does the same for what writes to the
descriptor itself: libraries in C, and programs that are started from then on.
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
"""Characters of a line that are held at most."""
NAMES = {1: "stdout", 2: "stderr"}


class StandardStream(io.FileIO):
    """The descriptor of a standard stream, which is a pipe to the Kingpin or is going to be one."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self.name: str = f"<{NAMES.get(descriptor, descriptor)}>"

    def write(self, data: Any, /) -> int | None:
        """Write to the pipe; drop it if nobody reads that any more."""
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
        """Write what is held, and stay open: another stream around this buffer may have closed it."""
        self.flush()

    def detach(self) -> Any:
        """Write what is held, and return the descriptor without parting from it."""
        self.flush()
        return self.raw


class WholeLines(io.TextIOWrapper):
    """A text stream that writes each thread's lines in one piece."""

    TRACEBACK = "Traceback (most recent call last):\n"
    as_object: Callable[[str], str] | None = None
    """What makes one line of a text that has a traceback in it, if that is wanted: then an object begins a line of its
    own, also after a progress bar."""

    def __init__(self, buffer: io.BufferedWriter) -> None:
        super().__init__(buffer, encoding="utf-8", errors="backslashreplace", line_buffering=True)
        self.mode: str = "w"  # type: ignore[misc]
        self._begun: dict[int, str] = {}  # by thread
        self._is_open = False  # whether what was written last is a line without an end

    def write(self, text: str, /) -> int:
        """Write up to the last end of a line; the rest is held, unless it rewrites its line, as progress bars do."""
        if self.as_object is not None:
            is_traceback = self.TRACEBACK in text
            if is_traceback or (text.startswith('{"') and text.endswith("}\n")):  # in one piece, as `logging` does it
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
        """Write what this thread has begun."""
        begun = self._begun.pop(get_ident(), "")
        if begun:
            self._put(begun)
        super().flush()

    def finish(self) -> None:
        """Write what any thread has begun: nothing more will come."""
        while self._begun:
            with contextlib.suppress(KeyError):  # the thread that has begun it has just ended it
                self._put(self._begun.popitem()[1])
        super().flush()

    def close(self) -> None:
        """Write what is held, and stay open."""
        self.finish()

    def detach(self) -> Any:
        """Write what is held, and return the buffer without parting from it."""
        self.finish()
        return self.buffer


def install() -> None:
    """From now on `print` writes whole lines."""
    for descriptor, name in NAMES.items():
        if isinstance(stream := getattr(sys, name), io.TextIOWrapper):
            stream.flush()
            _replace(descriptor)


def finish() -> None:
    """The process ends: nothing of what was printed is lost, by whichever stream."""
    for stream in (sys.stdout, sys.stderr, *_standing):
        with contextlib.suppress(Exception):  # a stream of the application's own, which may be closed
            stream.finish() if isinstance(stream, WholeLines) else stream.flush()


def detach_when_unread() -> None:
    """The Kingpin has gone: put /dev/null on the standard streams as soon as nobody reads what is written there. On any
    thread."""
    with contextlib.suppress(RuntimeError):  # no more threads to be had: what Python writes is dropped all the same
        threading.Thread(target=_detach, name="mob-output", daemon=True).start()


def _detach() -> None:
    poll = select.poll()
    waiting = {descriptor for descriptor in NAMES if _is_pipe(descriptor)}
    for descriptor in waiting:
        poll.register(descriptor, 0)  # errors only, and that is what a pipe without a reader is
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
"""The streams of this process; the application may put others in their place."""


def _replace(descriptor: int) -> None:
    name = NAMES[descriptor]
    stream = WholeLines(Buffer(StandardStream(descriptor)))
    _standing.append(stream)
    setattr(sys, name, stream)
    setattr(sys, f"__{name}__", stream)
