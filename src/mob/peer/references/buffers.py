"""Large buffers that cross: copied once into this process's pool of shared memory, and looked at there by the others.

What lies where and who holds it is `core.segments`, the memory itself is `rim.segments`, the replacing of buffers in a
message is `wire.sharing`; this file connects them to encoding, to links and to the life of views. Each arrival of a
buffer is one view, and is given back when the view has gone.

A receiver gets the descriptor of the pool once, in front of the first message that has something in it. When there is
no room in the pool, or no memory, buffers travel in the bytes of their message as small ones do.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Sequence
from threading import Lock
from typing import TYPE_CHECKING

from mob.core.segments import UNIT, Quiet, SegmentPool
from mob.errors import BadMessage
from mob.peer.references.warming import STEP, Part, Warming
from mob.rim.link import Descriptor, Link
from mob.rim.segments import IS_AVAILABLE, PREFAULT, Mapping, Memory
from mob.wire import messages as m
from mob.wire.sharing import BufferLocation, Fill

if TYPE_CHECKING:
    from mob.peer.context import Context
    from mob.peer.references.protocol import Counterpart, Counterparts, Note, Outlet


class Buffers:
    """Both ends of every large buffer that crosses."""

    def __init__(self, context: Context, others: Counterparts, note: Note, limit: int) -> None:
        self._context = context
        self._others = others
        self._note = note
        self._lock = Lock()
        self._pool = SegmentPool(limit if IS_AVAILABLE else 0)
        self._memory: Memory | None = None
        self._written: deque[tuple[int, int]] = deque()  # parts whose pages are there, and not mapped
        self._warming = Warming(self._next_cold, self._handle_ready)
        self._arrived = 0
        self._quiet = Quiet()
        self._to_share: Descriptor | None = None  # made once: later there may be none left
        self._told: dict[int, Link | None] = {}  # uid -> the link on which it got the descriptor, None: it will
        self._mappings: dict[int, Mapping] = {}  # by the uid of the owner
        self._unmapped: dict[int, tuple[int, int]] = {}  # pools that could not be mapped yet: descriptor and size
        self._live: dict[tuple[int, int], int] = {}  # (owner, number) -> views that live here
        self.dropped: deque[tuple[int, int]] = deque()
        """(owner, number) of views that went away; a finalizer appends, `sweep` works it off."""

    def __repr__(self) -> str:
        return f"<Buffers {self._pool}, {self.views} views>"

    @property
    def views(self) -> int:
        """How many views live here."""
        return sum(self._live.values())

    @property
    def used(self) -> int:
        """Bytes of the pool that somebody may still look at."""
        return self._pool.used

    # --------------------------------------------------------------------------------------------- sending

    @property
    def is_on(self) -> bool:
        """Tell if there is a pool at all: the system can share memory, and the app has not switched it off."""
        return self._pool.limit >= UNIT

    def share(self, length: int, fill: Fill) -> BufferLocation | None:
        """Put a buffer that the codec meets into the pool; None if there is no room, or no memory, for it."""
        with self._lock:
            memory = self._memory or self._open()
            segment = self._pool.place(length) if memory is not None else None
            if memory is None or segment is None:
                return None
            fresh = self._pool.warm_up(segment)
        try:
            if fresh is None:
                fill(memory.part(segment.offset, length))
            else:
                memory.fill(segment.offset, length, segment.end, fill)
        except BaseException as error:
            with self._lock:
                self._pool.unpin(segment.number)
                if fresh is not None:
                    self._pool.warm = min(self._pool.warm, fresh[0])
            if isinstance(error, OSError):  # the system has no memory for it
                return None
            raise
        place = BufferLocation(self._context.uid, segment.number, segment.offset, length)
        self._note(place, segment)
        if fresh is not None and length >= PREFAULT:
            self._written.append((segment.offset, segment.end))
            self._warming.wake()
        return place

    def _next_cold(self) -> Part | None:
        """What the warming thread is to do next."""
        with self._lock:
            memory = self._memory
            if memory is None:
                return None
            if self._written:
                offset, end = self._written.popleft()
                if offset + STEP < end:
                    self._written.appendleft((offset + STEP, end))
                return memory, offset, min(end, offset + STEP)
            part = self._pool.ahead(STEP)
            return None if part is None else (memory, *part)

    def _handle_ready(self, offset: int, end: int) -> None:
        with self._lock:
            self._pool.handle_ready(offset, end)

    def _open(self) -> Memory | None:
        """None if the system does not give it now; the next large buffer tries again."""
        try:
            memory = Memory(self._pool.limit)
            self._to_share = Descriptor(memory.descriptor())
        except OSError:
            return None
        self._memory = memory
        return memory

    def hold(self, references: Sequence[BufferLocation], holder: Counterpart, where: Outlet) -> None:
        """Count a member as a holder: these are about to be posted to it. On another machine it gets their bytes."""
        if holder.is_distant:
            return
        uid = holder.uid
        with self._lock:
            for place in references:
                self._pool.hold(place.number, uid)
        if holder.gone:  # looked at last: whoever comes first, its count goes
            self.owner_gone(uid)
        elif uid != self._context.uid and self._told.get(uid, self) is not holder.link:
            self._told[uid] = holder.link
            assert self._to_share is not None
            holder.post_with(m.Pool(self._pool.limit), [self._to_share])

    def look(self, place: BufferLocation) -> memoryview:
        """Return what lies in a place of one's own."""
        assert self._memory is not None
        return self._memory.part(place.offset, place.length)

    def unpin(self, reference: BufferLocation) -> None:
        """Let go of a buffer that was encoded: its messages were posted, or never will be."""
        with self._lock:
            self._pool.unpin(reference.number)

    # ------------------------------------------------------------------------------------------- receiving

    def handle_pool(self, holder: Counterpart, descriptors: list[int], size: int) -> None:
        """Map the pool of a member. Without its descriptor, which this process could not be given, what lies there
        fails when it is looked at, and nothing else does."""
        self._forget_unmapped(holder.uid)
        if not descriptors:
            self._ask_again(holder.uid)
            return
        self._unmapped[holder.uid] = (descriptors[0], size)
        try:
            self._map(holder.uid)
        except OSError as error:
            self._context.log.error("the shared memory of %s cannot be mapped now: %s", holder.name, error.strerror)
        except ValueError as error:
            self._context.log.error("the shared memory of %s cannot be mapped: %s", holder.name, error)

    def _map(self, uid: int) -> Mapping | None:
        """`OSError` if there is no descriptor or no memory for it now."""
        descriptor, size = self._unmapped.pop(uid, (-1, 0))
        if descriptor < 0:
            return None
        try:
            mapping = self._mappings[uid] = Mapping.of(descriptor, size)
        except OSError:
            self._unmapped[uid] = (descriptor, size)
            raise
        return mapping

    def _forget_unmapped(self, uid: int) -> None:
        descriptor, _ = self._unmapped.pop(uid, (-1, 0))
        if descriptor >= 0:
            os.close(descriptor)

    def attach(self, place: BufferLocation) -> memoryview:
        """Return a view of a buffer that the codec meets in what it decodes."""
        mapping = self._mappings.get(place.owner)
        if place.owner == self._context.uid and self._memory is not None:
            mapping = self._memory.mapping
        if mapping is None:
            mapping = self._mapped_late(place.owner)
        self._arrived += 1
        key = (place.owner, place.number)
        view = mapping.view(place.offset, place.length, key, self.dropped)
        self._live[key] = self._live.get(key, 0) + 1
        return view

    def _mapped_late(self, owner: int) -> Mapping:
        try:
            mapping = self._map(owner)
        except OSError as error:
            why = f"{error.strerror}; if that is for its open files, see `ulimit -n`"
            raise BadMessage(f"a buffer arrived in shared memory that this process cannot map now: {why}.") from error
        if mapping is None:
            self._ask_again(owner)
            raise BadMessage(
                "a buffer arrived in shared memory that is not known here: this process could not be given its "
                "descriptor. If it has too many files open, see `ulimit -n`."
            )
        return mapping

    def _ask_again(self, owner: int) -> None:
        """Have a member send its pool once more, with the next large buffer. On whatever thread decodes."""
        if (holder := self._others.get(owner)) is not None and holder.link is not None:
            holder.link.post(m.Unpooled())

    def handle_unpooled(self, uid: int) -> None:
        """Send a member another descriptor of this pool with the next large buffer: it has none."""
        self._told.pop(uid, None)

    # --------------------------------------------------------------------------------------------- freeing

    def give_back(self, reference: BufferLocation) -> None:
        """Free a buffer that has arrived and that nobody will look at."""
        key = (reference.owner, reference.number)
        self._live[key] = self._live.get(key, 0) + 1
        self.dropped.append(key)

    def sweep(self) -> None:
        """Give back to their owners the views that went away here; on the loop's thread."""
        counts: dict[int, dict[int, int]] = {}
        while self.dropped:
            owner, number = key = self.dropped.popleft()
            self._live[key] -= 1
            if not self._live[key]:
                del self._live[key]
            numbers = counts.setdefault(owner, {})
            numbers[number] = numbers.get(number, 0) + 1
        for owner, numbers in counts.items():
            holder = self._others.get(owner)
            if owner == self._context.uid:
                self.handle_freed(owner, numbers)
            elif holder is not None:
                holder.post_lazily(m.Freed(numbers))

    def handle_freed(self, uid: int, counts: dict[int, int]) -> None:
        """Count the buffers that a holder gives back."""
        with self._lock:
            for number, count in counts.items():
                self._pool.release(number, uid, count)

    def owner_gone(self, uid: int) -> None:
        """Free what a member held that has gone. What it has sent stays as long as it is looked at."""
        with self._lock:
            self._pool.forget_holder(uid)
        self._told.pop(uid, None)
        self._mappings.pop(uid, None)
        self._forget_unmapped(uid)

    def close(self) -> None:
        """Let no buffer cross any more. What is still looked at stays as long as that."""
        with self._lock:
            self._pool, self._memory, self._to_share = SegmentPool(0), None, None
        self._mappings.clear()
        for uid in list(self._unmapped):
            self._forget_unmapped(uid)

    def cool(self, now: float) -> None:
        """Return memory to the system that has lain idle; to be called regularly."""
        with self._lock:
            idle = self._pool.cool(now)
            if idle is not None and self._memory is not None:
                self._memory.give_back(*idle)
        if self._quiet.has_come(self._arrived, now):
            for mapping in list(self._mappings.values()):
                mapping.handle_idle()
