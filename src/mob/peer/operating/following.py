"""Printed lines, on their way from the thread that receives them to the one that iterates over them.

The loop's thread never waits, so what waits here is limited: a reader that is stopped (a pager, Ctrl-S) misses lines,
and receives their number.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from queue import SimpleQueue
from threading import Lock

import msgspec

from mob.wire import messages as m

WAITING_LIMIT = 16 * 1024 * 1024
"""Maximum number of bytes that wait for a reader."""
PER_LINE = 256
"""Bytes counted for a line in addition to its text."""


class Following:
    """The lines that arrive for one `Follow` request."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[tuple[m.Lines, int]] = SimpleQueue()
        self._waiting = 0
        self._dropped = 0
        self._lock = Lock()

    def __repr__(self) -> str:
        return f"<Following, {self._waiting:,} bytes wait>"

    def put(self, lines: m.Lines) -> None:
        """Add lines that arrived, or count them as dropped; on the loop's thread."""
        size = sum(len(line.text) + PER_LINE for line in lines.lines)
        with self._lock:
            if self._waiting + size > WAITING_LIMIT:
                self._dropped += lines.dropped + len(lines.lines)
                if not lines.is_end:
                    return
                lines, size = m.Lines(lines.id, (), is_end=True), 0
            lines = msgspec.structs.replace(lines, dropped=lines.dropped + self._dropped)
            self._dropped = 0
            self._waiting += size
        self._queue.put((lines, size))

    def __iter__(self) -> Iterator[m.Line]:
        """Yield the lines as they arrive. Where some were dropped, a line without a process says how many."""
        while True:
            lines, size = self._queue.get()
            with self._lock:
                self._waiting -= size
            if lines.dropped:
                yield m.Line(time.time(), "", 0, 0, True, f"{lines.dropped:,} lines were left out here.")
            yield from lines.lines
            if lines.is_end:
                return
