"""The accounts of a process's pool of shared memory: where buffers are, who may still look at them, what is free.

The pool is one stretch of memory of limited size. A buffer that is sent gets a segment of it, which is never written
again while anyone may look at it: it is pinned while the message with it may still have to be sent (again), and held by
each receiver until that one has returned all that arrived there, or has died. Segments are placed as low as possible,
so memory that was used before is used again, and its pages are there.

Segments are named by numbers, which are never reused: a late message about a segment that is free changes nothing.

A holder may pass a buffer on: then it tells the owner before it returns its own arrival, and the owner counts the third
process. What the third returns may become known first; so a count may be negative for a moment. A buffer that the
program of the owner writes itself (a loan) is held by the owner as well, until the program drops it.

Limits. Only the owner keeps count. Nothing is ever moved: if the free memory is in pieces, a large buffer may find no
place, and is sent in another way.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right

UNIT = 64 * 1024
"""Bytes: segments begin and end at multiples of this; also the size from which on a buffer gets one."""
GONE_REMEMBERED = 1000
"""Maximum number of dead holders that are remembered, because messages about them may still come."""
IDLE = 60.0
"""Seconds without a new segment after which unused memory is returned to the system."""

MOST_AHEAD = 128 * 1024 * 1024
"""Maximum number of bytes that are allocated before they are needed."""


class Quiet:
    """Tells when a number has not changed for `IDLE` seconds; it is asked often."""

    __slots__ = ("_seen", "_since")

    def __init__(self) -> None:
        self._seen = 0
        self._since = 0.0

    def has_come(self, number: int, now: float) -> bool:
        """Return True if the number has not changed for that long."""
        if self._seen != number:
            self._seen, self._since = number, now
        return now - self._since >= IDLE


class Segment:
    """A part of the pool that holds one buffer."""

    __slots__ = ("holders", "number", "offset", "pins", "size")

    def __init__(self, number: int, offset: int, size: int) -> None:
        self.number: int = number
        self.offset: int = offset
        self.size: int = size
        self.pins: int = 1
        self.holders: dict[int, int] = {}  # uid -> arrivals that it holds or that are on their way to it

    def __repr__(self) -> str:
        return f"<Segment {self.number} at {self.offset}, {self.size} bytes, held by {len(self.holders)}>"

    @property
    def end(self) -> int:
        """Offset at which the next segment may begin."""
        return self.offset + self.size


class SegmentPool:
    """The segments of one process."""

    __slots__ = (
        "_asked",
        "_by_holder",
        "_gaps",
        "_gone",
        "_largest",
        "_last",
        "_quiet",
        "_segments",
        "limit",
        "used",
        "warm",
    )

    def __init__(self, limit: int) -> None:
        self.limit: int = limit - limit % UNIT
        self.used: int = 0
        """Bytes of all segments."""
        self.warm: int = 0
        """Offset up to which the pool was used; beyond it memory was never allocated, or all was returned."""
        self._gaps: list[tuple[int, int]] = [(0, self.limit)] if self.limit > 0 else []  # (offset, end), in order
        self._segments: dict[int, Segment] = {}
        self._by_holder: dict[int, set[int]] = {}
        self._gone: dict[int, None] = {}
        self._last = 0
        self._largest = 0  # of the segments since memory was last given back
        self._asked = 0  # offset up to which memory was requested in advance
        self._quiet = Quiet()

    def __repr__(self) -> str:
        return f"<SegmentPool: {len(self._segments)} segments, {self.used:,} of {self.limit:,} bytes>"

    def __len__(self) -> int:
        return len(self._segments)

    # --------------------------------------------------------------------------------------------- placing

    def place(self, size: int) -> Segment | None:
        """Return a segment for that many bytes, pinned once; None if there is no room."""
        size = -(-size // UNIT) * UNIT
        index = next((at for at, (offset, end) in enumerate(self._gaps) if end - offset >= size), None)
        if index is None:
            return None
        offset, end = self._gaps.pop(index)
        if end - offset > size:
            self._gaps.insert(index, (offset + size, end))
        self._last += 1
        segment = self._segments[self._last] = Segment(self._last, offset, size)
        self.used += size
        return segment

    def _free_if_unused(self, segment: Segment) -> None:
        if segment.pins or any(count > 0 for count in segment.holders.values()):
            return
        for holder in list(segment.holders):  # holders whose notice of the arrival never came
            self._forget(segment, holder)
        del self._segments[segment.number]
        self.used -= segment.size
        start, end = segment.offset, segment.end
        index = bisect_left(self._gaps, (start, end))
        if index < len(self._gaps) and self._gaps[index][0] == end:
            end = self._gaps.pop(index)[1]
        if index and self._gaps[index - 1][1] == start:
            index -= 1
            start = self._gaps.pop(index)[0]
        self._gaps.insert(index, (start, end))

    # -------------------------------------------------------------------------------------------- counting

    def get(self, number: int) -> Segment | None:
        """Return the segment of that number; None if it is free."""
        return self._segments.get(number)

    def pin(self, number: int) -> None:
        """Note that the buffer in a segment is encoded once more."""
        self._segments[number].pins += 1

    def unpin(self, number: int) -> None:
        """Note that the encoded message was sent for good, or never will be."""
        segment = self._segments.get(number)
        if segment is not None:
            segment.pins -= 1
            self._free_if_unused(segment)

    def hold(self, number: int, holder: int, count: int = 1) -> None:
        """Note messages with this segment on their way to a holder; another holder may have passed it on.

        A dead holder holds nothing.
        """
        segment = self._segments.get(number)
        if segment is None or holder in self._gone:
            return
        segment.holders[holder] = segment.holders.get(holder, 0) + count
        self._by_holder.setdefault(holder, set()).add(number)
        if segment.holders[holder] == 0:
            self._forget(segment, holder)
        self._free_if_unused(segment)

    def release(self, number: int, holder: int, count: int) -> None:
        """Take back that many arrivals from a holder."""
        self.hold(number, holder, -count)

    def forget_holder(self, holder: int) -> None:
        """Forget a holder that died."""
        self._gone[holder] = None
        if len(self._gone) > GONE_REMEMBERED:
            del self._gone[next(iter(self._gone))]
        for number in list(self._by_holder.get(holder, ())):
            segment = self._segments[number]
            self._forget(segment, holder)
            self._free_if_unused(segment)

    def is_held_by_others(self, number: int, owner: int) -> bool:
        """Return True if a segment is on its way to any process, or looked at by others than its owner."""
        segment = self._segments.get(number)
        return segment is not None and (
            segment.pins > 0 or any(count > 0 for holder, count in segment.holders.items() if holder != owner)
        )

    def _forget(self, segment: Segment, holder: int) -> None:
        del segment.holders[holder]
        held = self._by_holder[holder]
        held.discard(segment.number)
        if not held:
            del self._by_holder[holder]

    # --------------------------------------------------------------------------------------------- cooling

    def warm_up(self, segment: Segment) -> tuple[int, int] | None:
        """Return the part (offset, end) of a new segment for which memory must be allocated; None if it is there."""
        self._largest = max(self._largest, segment.size)
        if segment.end <= self.warm:
            return None
        start, self.warm = max(segment.offset, self.warm), segment.end
        return start, segment.end

    def cool(self, now: float) -> tuple[int, int] | None:
        """Return the idle part (offset, end) behind all segments to return to the system, or None; asked often."""
        if not self._quiet.has_come(self._last, now):
            return None
        top = max((segment.end for segment in self._segments.values()), default=0)
        end = max(self.warm, self._asked)
        self._asked = self._largest = 0
        if top >= end:
            return None
        self.warm = top
        return top, end

    def ahead(self, step: int) -> tuple[int, int] | None:
        """Return the next part (offset, end) to allocate before a segment needs it; None if there is enough.

        Most senders have two buffers under way, the one that is looked at and the next. So there is room for two of the
        largest, and never more than that, or than `MOST_AHEAD`, is taken in advance.
        """
        end = min(self.limit, self._largest + min(self._largest, MOST_AHEAD), self.warm + step)
        if end <= self.warm:
            return None
        self._asked = end
        return self.warm, end

    def handle_ready(self, offset: int, end: int) -> None:
        """Note that the memory of a part was allocated."""
        if offset <= self.warm < end:
            self.warm = end


class Extents:
    """The parts of a pool that are looked at here: from their addresses to the numbers of their segments."""

    __slots__ = ("_ends", "_numbers", "_starts")

    def __init__(self) -> None:
        self._starts: list[int] = []  # sorted; the other lists have the same order
        self._ends: list[int] = []
        self._numbers: list[int] = []

    def __repr__(self) -> str:
        return f"<Extents of {len(self._starts)} segments>"

    def __len__(self) -> int:
        return len(self._starts)

    def add(self, number: int, start: int, end: int) -> None:
        """Note that this part of a segment is looked at; others of it may be, too."""
        if number in self._numbers:  # the same buffer once more, or another slice of it
            index = self._numbers.index(number)
            self._starts[index], self._ends[index] = min(self._starts[index], start), max(self._ends[index], end)
            return
        index = bisect_right(self._starts, start)
        self._starts.insert(index, start)
        self._ends.insert(index, end)
        self._numbers.insert(index, number)

    def remove(self, number: int) -> None:
        """Note that no one looks at the segment any more."""
        index = self._numbers.index(number)
        del self._starts[index], self._ends[index], self._numbers[index]

    def find(self, start: int, end: int) -> int | None:
        """Return the number of the segment that contains a part; None if it is not looked at, or not as a whole."""
        index = bisect_right(self._starts, start) - 1
        return self._numbers[index] if index >= 0 and end <= self._ends[index] else None
