"""Lines that were printed, on their way from the thread that receives them to the one that iterates over them.

The loop's thread never waits, so what waits here is bounded: a reader that stands still (a pager, Ctrl-S) misses lines,
and is told how many. Which lines are meant is said as `mob logs` takes it: a role, `role.index`, a pid, the Kingpin.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from queue import SimpleQueue
from threading import Lock
from typing import TYPE_CHECKING

import msgspec

from mob.wire import messages as m

if TYPE_CHECKING:
    from mob.core.roster import Roster

KINGPIN = "kingpin"
WAITING_LIMIT = 16 * 1024 * 1024
PER_LINE = 256
"""Bytes that a line takes besides its text."""


class Following:
    """What comes for one `Follow`."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[tuple[m.Lines, int]] = SimpleQueue()
        self._waiting = 0
        self._dropped = 0
        self._lock = Lock()

    def __repr__(self) -> str:
        return f"<Following, {self._waiting:,} bytes wait>"

    def put(self, lines: m.Lines) -> None:
        """Something has come; on the loop's thread."""
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
        """The lines, as they come, to their end. Where some were left out, a line of nobody's says so."""
        while True:
            lines, size = self._queue.get()
            with self._lock:
                self._waiting -= size
            if lines.dropped:
                yield m.Line(time.time(), "", 0, 0, True, f"{lines.dropped:,} lines were left out here.")
            yield from lines.lines
            if lines.is_end:
                return


def wanted(roster: Roster, target: str | int) -> tuple[str, int, int]:
    """Whose lines are meant: the role, its index (-1: any), the pid (0: any). `UnknownRole` if there is no such."""
    if isinstance(target, int):
        return "", -1, target
    if not target or target == KINGPIN or target in roster.roles:
        return target, -1, 0
    role, dot, index = target.rpartition(".")
    if dot and index.isdecimal() and role in roster.roles:
        return role, int(index), 0
    roster.check_role(target)
    return target, -1, 0
