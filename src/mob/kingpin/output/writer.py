"""The thread that writes output to a terminal or a file, so that neither can block the Kingpin.

A terminal may stop reading (Ctrl-S, a slow pipe), a disk may be slow or full. The queue of the writer is bounded; a
source with more than its share of a full queue loses lines, which are counted and not looked at. Dropping goes on until
the queue is half empty, so that there are a few long gaps instead of many short ones; then the count is written instead
of the lines. Quiet mobsters and the Kingpin lose nothing because of a noisy one.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Protocol, TextIO

import msgspec

from mob.core.printable import json_printable, printable_bytes
from mob.kingpin.output.bottom import Bottom
from mob.kingpin.output.lines import (
    BOLD,
    Form,
    Origin,
    OutputChunk,
    as_dated_text,
    as_json,
    as_painted_text,
    as_text,
)
from mob.kingpin.output.logfile import LogFile
from mob.plan import KINGPIN, Logs
from mob.rim.lasting import carry_on
from mob.rim.processes import start_thread
from mob.rim.standard import is_terminal

WAITING_LIMIT = 16 * 1024 * 1024
SHARE = 64 * 1024
"""Bytes that each source may have in the queue even if it is full."""
FLUSH_TIMEOUT = 1.0
"""Seconds in which the queue is written before another program takes over."""
SETTLE_TIMEOUT = 0.2
"""Seconds in which the queue is written before a debugger gets the terminal."""
CLOSE_TIMEOUT = 5.0
"""Seconds in which the queue is written when the app ends."""

LineSource = tuple[str, bool]
"""A name of a process, and True for its stderr."""


class Sink(Protocol):
    """The target of the output."""

    why_slow: str
    is_terminal: bool
    is_live: bool
    """True if a line that is shown can be rewritten."""

    def write(self, chunk: OutputChunk) -> int:
        """Write lines; return how many could not be written."""
        ...

    def reopen(self) -> None:
        """Reopen the target if it is a file."""
        ...

    def settle(self) -> None:
        """Remove unfinished lines from the screen because another process writes there now."""
        ...

    def close(self) -> None:
        """Close the target."""
        ...


class StandardStreams:
    """Standard output and standard error of the Kingpin, whatever those are.

    Of the output of mobsters a terminal gets only text and colors, unless the plan asks for everything (`raw`). A file
    or a pipe gets every byte as it was printed.
    """

    why_slow = "this terminal is too slow"
    is_terminal = True

    def __init__(self, form: Form, is_raw: bool = False) -> None:
        self._form = form
        self._streams: tuple[TextIO, TextIO] = (sys.stdout, sys.stderr)
        self._cleans = tuple(is_terminal(stream) and not is_raw for stream in self._streams)
        self._bottom = Bottom()
        is_dumb = os.environ.get("TERM") in (None, "", "dumb")
        self.is_live: bool = form is not as_json and not is_dumb and all(map(is_terminal, self._streams))

    def __repr__(self) -> str:
        return f"<StandardStreams {self._form.__name__}{', live' if self.is_live else ''}>"

    def write(self, chunk: OutputChunk) -> int:
        """Write and never fail: if there is no reader any more, the app continues."""
        self._put(self._rewriting(chunk) if self.is_live else self._formed(chunk), chunk.origin.is_error)
        return 0

    def reopen(self) -> None:
        """Do nothing: there is no file."""

    def settle(self) -> None:
        """Remove unfinished lines; they come again."""
        self._put(self._bottom.erased(), is_error=True)

    def _put(self, data: bytes, is_error: bool) -> None:
        stream = self._streams[is_error]
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
            stream.buffer.write(data)
            stream.buffer.flush()

    def _rewriting(self, chunk: OutputChunk) -> bytes:
        """Return the bytes that show lines above the unfinished ones."""
        data = self._formed(chunk)
        if not (self._bottom or chunk.is_partial):
            return data
        row = data[:-1] if chunk.is_partial and printable_bytes(chunk.data).strip() else b""
        self._bottom.put(_source_of(chunk), row)
        width, height = 80, 24
        with contextlib.suppress(OSError, ValueError):
            width, height = os.get_terminal_size(self._streams[1].fileno())
        return self._bottom.around(b"" if chunk.is_partial else data, width or 80, height or 24)

    def _formed(self, chunk: OutputChunk) -> bytes:
        """Return the lines in the format of this sink, reduced to what this stream may get."""
        if not self._cleans[chunk.origin.is_error]:
            return self._form(chunk)
        if self._form is as_json:
            return json_printable(self._form(chunk))
        return self._form(msgspec.structs.replace(chunk, data=printable_bytes(chunk.data)))

    def close(self) -> None:
        """Do nothing: the streams belong to the process."""


class File:
    """A log file; the Kingpin's own messages also go to the terminal, if there is one."""

    is_terminal = False
    is_live = False

    def __init__(self, logs: Logs, form: Form, streams: StandardStreams) -> None:
        self._form = form
        self._streams = streams
        self._has_terminal = is_terminal(sys.stderr)
        self._file = LogFile(logs)
        self._told = ""
        self._remarked = ""
        self.why_slow: str = f"the disk of {self._file.path} is too slow"
        self._tell()

    def __repr__(self) -> str:
        return f"<File {self._file}>"

    def write(self, chunk: OutputChunk) -> int:
        """Write lines; return how many could not be written. The reason is shown once, on the terminal."""
        if self._has_terminal and chunk.origin.role == KINGPIN:
            self._streams.write(chunk)
        data = self._form(chunk)
        lost = data[self._file.write(data) :].count(b"\n")
        self._tell()
        return lost

    def reopen(self) -> None:
        """Reopen the file after it was moved away."""
        self._file.reopen()
        self._tell()

    def settle(self) -> None:
        """Do nothing: it is not a terminal."""

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _tell(self) -> None:
        problem = self._file.problem
        if problem and not self._told:
            self._streams.write(word(f"{problem}. The app keeps running; its output is lost until this is fixed."))
        elif self._told and not problem:
            self._streams.write(word(f"{self._file.path} can be written again."))
        self._told = problem
        if self._file.remark != self._remarked:
            self._remarked = self._file.remark
            self._streams.write(word(self._remarked))


def word(text: str, is_error: bool = True) -> OutputChunk:
    """Return a message of the Kingpin; on stderr, unless it replaces lines of stdout."""
    data = f"{text}\n".encode(errors="replace")
    return OutputChunk(time.time(), Origin(KINGPIN, 0, os.getpid(), is_error, BOLD), data, data.count(b"\n"))


def sink_of(logs: Logs, color: bool) -> Sink:
    """Return the sink that the plan asks for."""
    if logs.format == "json":
        streams = StandardStreams(as_json, logs.raw)
        return File(logs, as_json, streams) if logs.file else streams
    streams = StandardStreams(as_painted_text if color else as_text, logs.raw)
    return File(logs, as_dated_text, streams) if logs.file else streams


class Writer:
    """The queue and the thread."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._queue: deque[OutputChunk | Callable[[], None]] = deque()  # or what the sink must do at that point
        self._waiting = 0
        self._shares: Counter[LineSource] = Counter()  # bytes in the queue by source
        self._flooding: set[LineSource] = set()
        self._dropped: Counter[LineSource] = Counter()  # since the last report
        self._unwritten: Counter[LineSource] = Counter()
        self.dropped: int = 0
        """Total number of lines that were not written."""
        self._wake = threading.Condition()
        self._is_held = False  # True while another process has the terminal
        self._closing = False
        self._is_writing = False
        self._thread = start_thread(self._run, "mob-console")

    def __repr__(self) -> str:
        return f"<Writer to {self._sink}, {self._waiting:,} bytes wait, {self.dropped:,} lines dropped>"

    @property
    def is_live(self) -> bool:
        """True if a line that is shown can be rewritten."""
        return self._sink.is_live

    def put(self, chunk: OutputChunk) -> None:
        """Write a chunk, or drop it."""
        source = _source_of(chunk)
        with self._wake:
            if chunk.is_partial and self._waiting > SHARE:
                return  # an unfinished line, which comes again
            if self._is_too_much(source, len(chunk.data)):
                self._dropped[source] += chunk.count
                self.dropped += chunk.count
                return
            if self._dropped and not self._flooding:
                self._say_dropped()
            self._enqueue(chunk)
            self._wake.notify()

    def hold(self) -> None:
        """Write the queue, and then nothing more to a terminal; later output waits, within the same bounds."""
        if self._sink.is_terminal:
            self.settle()
            self.wait_empty(SETTLE_TIMEOUT)
            with self._wake:
                self._is_held = True

    def release(self) -> None:
        """Resume writing."""
        with self._wake:
            self._is_held = False
            self._wake.notify()

    def reopen(self) -> None:
        """Reopen the file after the queue is written."""
        self._have_done(self._sink.reopen)

    def settle(self) -> None:
        """Remove unfinished lines from the screen after the queue is written."""
        self._have_done(self._sink.settle)

    def _have_done(self, action: Callable[[], None]) -> None:
        with self._wake:
            self._queue.append(action)
            self._wake.notify()

    def wait_empty(self, seconds: float = FLUSH_TIMEOUT) -> None:
        """Wait until all is written, at most for that many seconds."""
        with self._wake:
            self._wake.wait_for(lambda: not self._queue and not self._is_writing, seconds)

    def losses(self) -> tuple[int, list[tuple[LineSource, int]]]:
        """Return the total of dropped lines, and those not reported yet, including what waits now."""
        with self._wake:
            lost = self._dropped + self._unwritten
            for chunk in self._queue:
                if isinstance(chunk, OutputChunk):
                    lost[_source_of(chunk)] += chunk.count
            waiting = sum(chunk.count for chunk in self._queue if isinstance(chunk, OutputChunk))
            return self.dropped + waiting, list(lost.items())

    def take_over(self, dropped: int, lost: Iterable[tuple[LineSource, int]]) -> None:
        """Add what the previous program could not write."""
        with self._wake:
            self.dropped += dropped
            self._dropped.update(dict(lost))
            self._wake.notify()

    def close(self) -> None:
        """Write the queue and end."""
        with self._wake:
            self._closing = True
            self._is_held = False
            self._wake.notify()
        self._thread.join(timeout=CLOSE_TIMEOUT)
        if not self._thread.is_alive():
            self._sink.close()

    def _is_too_much(self, source: LineSource, size: int) -> bool:
        if source in self._flooding:
            if self._waiting > WAITING_LIMIT // 2:
                return True
            self._flooding.clear()
        elif self._waiting + size > WAITING_LIMIT and self._shares[source] + size > SHARE:
            self._flooding.add(source)
            return True
        return False

    def _enqueue(self, chunk: OutputChunk) -> None:
        self._queue.append(chunk)
        self._waiting += len(chunk.data)
        self._shares[_source_of(chunk)] += len(chunk.data)

    def _say_dropped(self) -> None:
        """Write the counts of dropped lines, instead of these lines."""
        for source, count in self._dropped.items():
            self._enqueue(word(f"{_lines_of(source, count)} dropped: {self._sink.why_slow}.", source[1]))
        self._dropped.clear()

    def _run(self) -> None:
        while self._has_more():
            with self._wake:
                chunk = self._queue.popleft()
                if isinstance(chunk, OutputChunk):
                    self._waiting -= len(chunk.data)
                    source = _source_of(chunk)
                    self._shares[source] -= len(chunk.data)
                    if not self._shares[source]:
                        del self._shares[source]
            carry_on(partial(self._write, chunk), None)
            with self._wake:
                self._is_writing = False
                if not self._queue:
                    self._wake.notify_all()

    def _has_more(self) -> bool:
        """Wait for something to write; return True if there is any."""
        with self._wake:
            self._wake.wait_for(lambda: (self._queue or self._dropped or self._closing) and not self._is_held)
            if not self._queue and self._dropped:
                self._flooding.clear()
                self._say_dropped()
            self._is_writing = bool(self._queue)
            return self._is_writing

    def _write(self, chunk: OutputChunk | Callable[[], None]) -> None:
        if not isinstance(chunk, OutputChunk):
            chunk()
            return
        lost = self._sink.write(chunk)
        if chunk.is_partial:
            return
        if lost:
            with self._wake:
                self._unwritten[_source_of(chunk)] += lost
                self.dropped += lost
        elif self._unwritten:
            unwritten, self._unwritten = self._unwritten, Counter()
            for source, count in unwritten.items():
                self._sink.write(word(f"{_lines_of(source, count)} lost: the file could not be written."))


def _source_of(chunk: OutputChunk) -> LineSource:
    return chunk.origin.name, chunk.origin.is_error


def _lines_of(source: LineSource, count: int) -> str:
    return f"{count:,} lines of {source[0]} were" if count != 1 else f"1 line of {source[0]} was"
