"""The board: how busy each mobster is at the moment, in memory that all processes of an app share.

What a reply says of its worker's queue is old when it is read, and says nothing of what other callers sent since. So
every mobster writes its load into a few bytes of its own, and a caller that chooses a worker reads them in 60 ns,
without a message. All callers see at once that a worker is stuck in a slow call. The board also has the usual time of
each export's calls; all workers of a role write into the same bytes because it depends on the export and not on the
worker.

Each mobster writes only its own entry, and an aligned word is read or written in one piece, so there are no locks; if
two learn the cost of an export at the same moment, one of the samples is lost. Entries are found by uid, and costs by a
hash, modulo their number: two mobsters that share an entry would only be chosen less well, and of two exports that
share a place one has no known cost. Where the system provides no memfd (a sandbox, an old kernel), the board is a file
without a name, in memory if possible.
"""

from __future__ import annotations

import mmap
import os
import zlib

from mob.core.costs import cost_of, learned
from mob.errors import MobError
from mob.rim import begun, overruns, places

ENTRIES = 4096
FIELDS = 5  # queued, microseconds of a call, waiting beside others, running beside others, what runs
FULL = 1 << 31  # in the first field: callers wait for the mobster, so no process sends to it without an invitation
COSTS = 2048
COSTS_AT = ENTRIES * FIELDS  # for each export: its mark, its usual time and its peak in microseconds
ACCEPTED_AT = COSTS_AT + COSTS * 3  # for each mobster: its open connections, and how many it has accepted
BEGUN_AT = (ACCEPTED_AT + ENTRIES * 2) * 4  # in bytes
OVERRUNS_AT = BEGUN_AT + begun.SIZE
SIZE = OVERRUNS_AT + overruns.SIZE
LARGEST = 0xFFFFFFFF


class Board:
    """The shared memory."""

    __slots__ = ("_full", "_map", "_words", "begun", "descriptor", "overruns")

    def __init__(self, descriptor: int) -> None:
        if os.fstat(descriptor).st_size < SIZE:  # made by an older version before an upgrade
            os.ftruncate(descriptor, SIZE)
        self.descriptor: int = descriptor
        self._map = mmap.mmap(descriptor, SIZE)
        self._words = memoryview(self._map).cast("I")
        self.begun: begun.BegunCalls = begun.BegunCalls(memoryview(self._map)[BEGUN_AT:OVERRUNS_AT].cast("Q"))
        """Notes of the calls that each mobster has begun."""
        self.overruns: overruns.Overruns = overruns.Overruns(memoryview(self._map)[OVERRUNS_AT:].cast("Q"))
        """The calls with a time limit whose time ends first."""
        self._full = 0  # `FULL` if callers wait for this process

    def __repr__(self) -> str:
        busy = sum(load > 0 for load in self._words[:COSTS_AT:FIELDS])
        return f"<Board, {busy} busy>"

    @classmethod
    def make(cls) -> Board:
        """Return a new board, with all entries idle."""
        try:
            with places.unnamed_file(SIZE) as file:
                return cls(os.dup(file.fileno()))
        except OSError as error:
            raise MobError(
                f"mob needs {SIZE:,} bytes of shared memory, and this system provides none: memfd_create failed "
                f"({error}), and neither /dev/shm nor the directory for temporary files is writable. Allow "
                f"memfd_create in the sandbox, or set TMPDIR to a writable directory."
            ) from error

    def load(self, uid: int) -> int:
        """Return how many calls wait in the mobster, including the one that runs on its loop."""
        at = uid % ENTRIES * FIELDS
        return (self._words[at] & ~FULL) + self._words[at + 2]

    def all_in_hand(self, uid: int) -> int:
        """Return how many calls the mobster has in total, waiting and running."""
        at, words = uid % ENTRIES * FIELDS, self._words
        return (words[at] & ~FULL) + words[at + 2] + words[at + 3]

    def queued(self, uid: int) -> int:
        """Return how many calls the next one would wait for; a huge number if callers already wait there."""
        return self._words[uid % ENTRIES * FIELDS]

    def pace(self, uid: int) -> int:
        """Return the recent average duration of its calls, in microseconds."""
        return self._words[uid % ENTRIES * FIELDS + 1]

    def running(self, uid: int) -> int:
        """Return the mark of the export that it runs; 0 if it runs none, or several."""
        return self._words[uid % ENTRIES * FIELDS + 4]

    def mark(self, uid: int, mark: int) -> None:
        """Write what this process runs."""
        self._words[uid % ENTRIES * FIELDS + 4] = mark

    def put_queued(self, uid: int, queued: int) -> None:
        """Write how many calls wait in this process and delay others; keep the rest."""
        self._words[uid % ENTRIES * FIELDS] = queued | self._full

    def put_running(self, uid: int, running: int) -> None:
        """Write how many calls run in this process beside others; keep the rest."""
        self._words[uid % ENTRIES * FIELDS + 3] = running

    def put_full(self, uid: int, is_full: bool) -> None:
        """Write whether callers wait for this process."""
        at, self._full = uid % ENTRIES * FIELDS, FULL if is_full else 0
        self._words[at] = (self._words[at] & ~FULL) | self._full

    def put(self, uid: int, queued: int, pace: int, waiting: int = 0, running: int = 0) -> None:
        """Write the entry of this process except its mark. `waiting` and `running` calls delay no other."""
        at = uid % ENTRIES * FIELDS
        words = self._words
        words[at] = queued | self._full
        words[at + 1] = min(pace, LARGEST)
        words[at + 2] = waiting
        words[at + 3] = running

    # ------------------------------------------------------------------------------------------- connections

    def connections(self, uid: int) -> tuple[int, int]:
        """Return how many connections of HTTP clients the mobster has, and how many it has accepted so far."""
        at, words = ACCEPTED_AT + uid % ENTRIES * 2, self._words
        return words[at], words[at + 1]

    def put_connections(self, uid: int, connections: int, accepted: int) -> None:
        """Write how many connections this process has, and how many it has accepted so far."""
        at, words = ACCEPTED_AT + uid % ENTRIES * 2, self._words
        words[at], words[at + 1] = min(connections, LARGEST), accepted & LARGEST

    # ------------------------------------------------------------------------------------- costs of exports

    def cost(self, mark: int) -> int:
        """Return the expected duration of a call of the export with that mark, in microseconds; 0 if unknown."""
        at, words = COSTS_AT + mark % COSTS * 3, self._words
        return cost_of(words[at + 1], words[at + 2]) if words[at] == mark else 0

    def learn(self, mark: int, took: float) -> None:
        """Write that a call of the export with that mark took so many seconds."""
        at, words = COSTS_AT + mark % COSTS * 3, self._words
        if words[at] != mark:
            words[at], words[at + 1], words[at + 2] = mark, 0, 0
        words[at + 1], words[at + 2] = learned(words[at + 1], words[at + 2], min(int(took * 1e6), LARGEST))

    def close(self) -> None:
        """Release the memory."""
        self._words.release()
        self.begun.close()
        self.overruns.close()
        self._map.close()
        os.close(self.descriptor)

    def let_go(self) -> None:
        """Release the memory like `close`, when other threads may still read it: it goes with the last of them."""
        os.close(self.descriptor)


def mark_of(export: str) -> int:
    """Return the number that stands for an export on the board; never 0."""
    return zlib.crc32(export.encode()) or 1
