"""The terminal: what mobsters print, as whole lines with a prefix, and what the Kingpin has to say.

Every mobster has a pipe for stdout and one for stderr. A line is written when it is complete; what is left when a
mobster has gone is written as a line of its own. Writing happens in a thread, for a terminal may stop taking
(Ctrl-S, a slow pipe) and the Kingpin must not stand still with it. What waits for the writer is bounded; beyond that
lines are dropped, counted, and the count is said.
"""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from functools import partial
from typing import TextIO

from mob.rim.reactor import Reactor

READ_SIZE = 64 * 1024
LONGEST_LINE = 1024 * 1024  # a longer one is broken
LAST_LINES = 50  # are kept of each mobster, for the report of a crash
MOST_READS = 32  # of the pipe of one that has ended; a process that has left its group may still write into it
WAITING_LIMIT = 16 * 1024 * 1024
COLORS = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)
RESET = "\x1b[0m"


class Console:
    """Where the app's output goes."""

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor
        self._streams = (sys.stdout, sys.stderr)
        self.color = all(stream.isatty() for stream in self._streams) and "NO_COLOR" not in os.environ
        self._roles: dict[str, int] = {}
        self._sources: dict[int, list[_Source]] = {}  # by the mobster's uid
        self._last: dict[int, deque[str]] = {}
        self._taken: dict[int, list[str]] = {}
        self._writer = _Writer()

    def __repr__(self) -> str:
        return f"<Console of {len(self._sources)} mobsters>"

    def pipes(self, uid: int, role: str, index: int) -> list[int]:
        """The writing ends of new pipes for stdout and stderr. Nothing is read before `begin` tells the pid."""
        ends: list[int] = []
        sources = self._sources[uid] = []
        for stream in self._streams:
            r, w = os.pipe()
            os.set_blocking(r, False)
            sources.append(_Source(uid, r, stream, role, index, self._color_of(role)))
            ends.append(w)
        return ends

    def pipes_in_use(self) -> list[tuple[int, int, int, bool, str, int, bytes]]:
        """Every pipe: whose it is, its descriptor, whether it is for errors, and its last line so far."""
        return [
            (each.uid, each.pid, each.fd, each.stream is self._streams[1], each.role, each.index, b"".join(each.rest()))
            for sources in self._sources.values()
            for each in sources
        ]

    def take_over(self, uid: int, pid: int, fd: int, is_error: bool, role: str, index: int, line: bytes) -> None:
        """A pipe of the program before this one."""
        source = _Source(uid, fd, self._streams[is_error], role, index, self._color_of(role))
        source.feed(line)
        self._sources.setdefault(uid, []).append(source)
        if pid:
            self._watch(source, pid)

    def all_last_lines(self) -> dict[int, list[str]]:
        """What each mobster has printed last."""
        return {uid: list(lines) for uid, lines in self._last.items()}

    def remember_last_lines(self, lines: dict[int, list[str]]) -> None:
        """What they had printed before this program."""
        self._last = {uid: deque(each, LAST_LINES) for uid, each in lines.items()}

    def flush(self) -> None:
        """Waits until all is written, for a second at most."""
        self._writer.wait_empty(1.0)

    def begin(self, uid: int, pid: int) -> None:
        """The mobster runs, under this pid: shows what it prints."""
        for source in self._sources.get(uid, ()):
            if not source.pid:
                self._watch(source, pid)

    def _watch(self, source: _Source, pid: int) -> None:
        source.pid = pid
        self._reactor.watch(source.fd, partial(self._handle_readable, source))

    def take_last_lines(self, uid: int) -> tuple[str, ...]:
        """What a mobster has printed last, on both streams; to be asked at its end, for they are forgotten then."""
        for source in list(self._sources.get(uid, ())):
            for _ in range(MOST_READS):
                if not self._read(source):
                    break
        return tuple(self._last.pop(uid, ()))

    @property
    def dropped(self) -> int:
        """Lines that could not be shown, for they were too many."""
        return self._writer.dropped

    def begin_taking(self, uid: int) -> None:
        """What a mobster prints from now on is wanted by somebody else, who calls `end_taking`; it is not shown."""
        self._taken[uid] = []

    def end_taking(self, uid: int) -> list[str]:
        """What it has printed since."""
        return self._taken.pop(uid, [])

    def say(self, text: str) -> None:
        """A word of the Kingpin's own."""
        self._writer.write(self._streams[1], f"{self._paint('mob', 1)} | {text}\n".encode())

    def close(self) -> None:
        """Writes what is there and ends."""
        for sources in list(self._sources.values()):
            for source in list(sources):
                self._handle_readable(source)
                self._end(source)
        self._writer.close()

    def _color_of(self, role: str) -> int:
        return COLORS[self._roles.setdefault(role, len(self._roles)) % len(COLORS)]

    def _paint(self, text: str, color: int) -> str:
        return f"\x1b[{color}m{text}{RESET}" if self.color else text

    def _handle_readable(self, source: _Source) -> None:
        self._read(source)

    def _read(self, source: _Source) -> bool:
        """Shows what there is to be read; whether there was anything."""
        try:
            data = os.read(source.fd, READ_SIZE)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if data:
            self._write_lines(source, source.feed(data))
        else:
            self._end(source)
        return bool(data)

    def _write_lines(self, source: _Source, lines: list[bytes]) -> None:
        if lines and source.uid in self._taken:
            self._taken[source.uid] += [line.decode(errors="replace") for line in lines]
        elif lines:
            last = self._last.setdefault(source.uid, deque(maxlen=LAST_LINES))
            last.extend(line.decode(errors="replace") for line in lines[-LAST_LINES:])
            prefix = f"{self._paint(f'{source.name} {source.pid}', source.color)} | ".encode()
            self._writer.write(source.stream, b"".join(prefix + line + b"\n" for line in lines))

    def _end(self, source: _Source) -> None:
        sources = self._sources.get(source.uid, [])
        if source in sources:
            sources.remove(source)
            if not sources:
                del self._sources[source.uid]
            self._write_lines(source, source.rest())
            self._reactor.unwatch(source.fd)
            os.close(source.fd)


class _Source:
    """One pipe of one mobster."""

    def __init__(self, uid: int, fd: int, stream: TextIO, role: str, index: int, color: int) -> None:
        self.uid = uid
        self.pid = 0
        self.fd = fd
        self.stream = stream
        self.role = role
        self.index = index
        self.name = f"{role}.{index}"
        self.color = color
        self._line = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that this completes."""
        *lines, self._line = (self._line + data).split(b"\n")
        if len(self._line) > LONGEST_LINE:
            lines.append(self._line)
            self._line = b""
        return lines

    def rest(self) -> list[bytes]:
        """The last line, if it had no end."""
        return [self._line] if self._line else []


class _Writer:
    """The thread that writes."""

    def __init__(self) -> None:
        self._queue: deque[tuple[TextIO, bytes]] = deque()
        self._waiting = 0
        self._dropped = 0
        self.dropped = 0  # in all
        self._wake = threading.Condition()
        self._closing = False
        self._is_writing = False
        self._thread = threading.Thread(target=self._run, name="mob-console", daemon=True)
        self._thread.start()

    def write(self, stream: TextIO, data: bytes) -> None:
        with self._wake:
            if self._waiting + len(data) > WAITING_LIMIT:
                self._dropped += data.count(b"\n")
                self.dropped += data.count(b"\n")
                return
            self._waiting += len(data)
            self._queue.append((stream, data))
            self._wake.notify()

    def wait_empty(self, seconds: float) -> None:
        with self._wake:
            self._wake.wait_for(lambda: not self._queue and not self._is_writing, seconds)

    def close(self) -> None:
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._queue or self._closing)
                if not self._queue:
                    return
                stream, data = self._queue.popleft()
                self._waiting -= len(data)
                dropped, self._dropped = self._dropped, 0
                self._is_writing = True
            if dropped:
                data += f"mob | {dropped} lines were dropped: this terminal takes them too slowly.\n".encode()
            _write_all(stream, data)
            with self._wake:
                self._is_writing = False
                self._wake.notify_all()


def _write_all(stream: TextIO, data: bytes) -> None:
    try:
        stream.flush()
        stream.buffer.write(data)
        stream.buffer.flush()
    except (OSError, ValueError):
        pass  # nobody reads any more; the app goes on
