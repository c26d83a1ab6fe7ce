"""The board: how busy each mobster is at this moment, in memory that all processes of an app share.

What a reply tells of its worker's queue is old when it is read, and says nothing of what other callers have sent since.
So every mobster writes its load into a few bytes of its own, and whoever chooses a worker reads them: 60 ns, and no
message. A worker that is stuck in a slow call is seen as such by all, at once.

Each mobster writes its own entry only, and an aligned word is read or written in one piece, so nothing is locked.
Entries are found by uid, modulo their number; two mobsters that shared one would only be chosen less well. Where the
system has no memfd nothing is shared, and loads are not known.
"""

from __future__ import annotations

import mmap
import os
import zlib

ENTRIES = 4096
FIELDS = 5  # queued, microseconds of a call, waiting beside, running beside, what runs
SIZE = ENTRIES * FIELDS * 4


class Board:
    """The shared memory."""

    __slots__ = ("_map", "_words", "descriptor")

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._map = mmap.mmap(descriptor, SIZE)
        self._words = memoryview(self._map).cast("I")

    def __repr__(self) -> str:
        busy = sum(load > 0 for load in self._words[::FIELDS])
        return f"<Board, {busy} busy>"

    @classmethod
    def make(cls) -> Board:
        """A new one, all idle."""
        if hasattr(os, "memfd_create"):
            descriptor = os.memfd_create("mob-board", os.MFD_CLOEXEC)
        else:
            import tempfile  # only where there is no memfd

            with tempfile.TemporaryFile() as file:
                descriptor = os.dup(file.fileno())
        os.ftruncate(descriptor, SIZE)
        return cls(descriptor)

    def load(self, uid: int) -> int:
        """How many calls wait in the mobster, the one that runs on its loop included."""
        at = uid % ENTRIES * FIELDS
        return self._words[at] + self._words[at + 2]

    def queued(self, uid: int) -> int:
        """How many of them the next call would have to wait for."""
        return self._words[uid % ENTRIES * FIELDS]

    def beside(self, uid: int) -> int:
        """How many calls it has in hand that hold up no other: tasks and streams, and what waits for a turn."""
        at = uid % ENTRIES * FIELDS
        return self._words[at + 2] + self._words[at + 3]

    def cost(self, uid: int) -> int:
        """How many microseconds a call of it has taken lately, on average."""
        return self._words[uid % ENTRIES * FIELDS + 1]

    def running(self, uid: int) -> int:
        """The mark of the export that it runs; 0 if it runs none, or several."""
        return self._words[uid % ENTRIES * FIELDS + 4]

    def mark(self, uid: int, mark: int) -> None:
        """Writes what this process runs."""
        self._words[uid % ENTRIES * FIELDS + 4] = mark

    def put_queued(self, uid: int, queued: int) -> None:
        """Writes how many calls wait in this process and hold up others; the rest stands."""
        self._words[uid % ENTRIES * FIELDS] = queued

    def put(self, uid: int, queued: int, cost: int, waiting: int = 0, running: int = 0) -> None:
        """Writes the entry of this process, but for its mark. `waiting` and `running` calls hold up no other."""
        at = uid % ENTRIES * FIELDS
        words = self._words
        words[at] = queued
        words[at + 1] = min(cost, 0xFFFFFFFF)
        words[at + 2] = waiting
        words[at + 3] = running

    def close(self) -> None:
        """Lets go of the memory."""
        self._words.release()
        self._map.close()
        os.close(self.descriptor)


def mark_of(export: str) -> int:
    """A number that stands for an export on the board; never 0."""
    return zlib.crc32(export.encode()) or 1
