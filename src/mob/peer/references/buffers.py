"""Large buffers in messages: copied once into the shared memory pool of this process, and read there by the others.

`core.segments` keeps account of the pool, `rim.segments` is the memory itself, `wire.sharing` replaces buffers in a
message; this module connects them to encoding, links and the lifetime of views. Each arrival of a buffer is one view,
which is given back when it is freed.

A receiver gets the file descriptor of the pool once, before the first message that refers to it. If the pool has no
room, or the system no memory, buffers travel in the bytes of their message as small ones do.

What is in a pool already is not copied when it is sent: what the program wrote there itself (a loan, which becomes
read-only), and what came from elsewhere. To pass a buffer on, a process tells its owner of the next holder (`Passed`),
then sends that one the owner's pool and the message. The kernel has taken all of `Passed` before the message is posted,
so it arrives even if this process is killed right after. If the kernel does not take it because the owner does not
read, or if the owner ended, the receiver gets a copy.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING, Any

from mob.core.segments import UNIT, Extents, Quiet, Segment, SegmentPool
from mob.errors import BadMessage
from mob.peer.references.sealing import Loan
from mob.peer.references.warming import STEP, Part, Warming
from mob.rim.link import Descriptor, Link
from mob.rim.segments import IS_AVAILABLE, PREFAULT, Mapping, Memory, address_of, key_of
from mob.wire import messages as m
from mob.wire.binary import GIVEN
from mob.wire.sharing import BufferLocation, Fill

if TYPE_CHECKING:
    from mob.peer.context import Context
    from mob.peer.references.protocol import Counterpart, Counterparts, Note, Outlet, Replaced


LOOK_AGAIN = 0.005
"""Seconds after an arrival until dropped views are given back."""
UNREAD_FOR = 5.0
"""Seconds for which the memory of an exited owner stays mapped without views: unread messages may refer to it."""


class _Dropped(deque[tuple[int, int]]):
    """The queue to which finalizers append; the first entry wakes the loop, unless it is about to look anyway."""

    def __init__(self, context: Context) -> None:
        super().__init__()
        self._context = context
        self.looks_at: float = 0.0
        """The time at which the loop will look, because something arrived a moment ago."""

    def append(self, key: tuple[int, int], /) -> None:
        super().append(key)
        reactor = self._context.reactor
        if len(self) == 1 and not reactor.is_reading and monotonic() > self.looks_at:
            reactor.wake()

    def look_soon(self, look: Callable[[], None]) -> None:
        """Schedule a look because something arrived; most arrivals are dropped at once, and one look serves many."""
        reactor, now = self._context.reactor, monotonic()
        if now > self.looks_at and reactor.is_mine:
            self.looks_at = now + LOOK_AGAIN
            reactor.call_at(self.looks_at, look)


class Buffers:
    """Both ends of every large buffer that crosses between processes."""

    def __init__(self, context: Context, others: Counterparts, note: Note, limit: int) -> None:
        self.context: Context = context
        self._others = others
        self._note = note
        self._lock = Lock()
        self._pool = SegmentPool(limit if IS_AVAILABLE else 0)
        self._memory: Memory | None = None
        self._written: deque[tuple[int, int]] = deque()  # parts whose pages exist but are not mapped
        self._warming = Warming(self._next_cold, self._handle_ready)
        self._arrived = 0
        self._quiet = Quiet()
        self._to_share: Descriptor | None = None  # made once: later there may be no descriptor left
        self._told: dict[tuple[int, int], Link | None] = {}
        # (uid, owner of a pool) -> the link on which it got the descriptor; None: it will get it
        self._mappings: dict[int, Mapping] = {}  # by the uid of the owner
        self._unmapped: dict[int, tuple[int, int]] = {}  # pools that could not be mapped yet: descriptor and size
        self._live: dict[tuple[int, int], int] = {}  # (owner, number) -> number of views that exist here
        self._extents: dict[int, Extents] = {}  # by owner, the places of those views
        self._loans: dict[int, Loan] = {}  # by number, the memory that was handed out to be written
        self._has_warned = False
        self._orphaned: set[int] = set()  # owners that died, whose memory still has views
        self.waiters: list[Callable[[], None]] = []
        """Functions to call when others may have given back what they had, for those that wait for a loan."""
        self.dropped: _Dropped = _Dropped(context)
        """(owner, number) of views that were freed; a finalizer appends, `sweep` processes them."""

    def __repr__(self) -> str:
        return f"<Buffers {self._pool}, {self.views} views>"

    @property
    def views(self) -> int:
        """Number of views that exist here."""
        return sum(self._live.values())

    @property
    def used(self) -> int:
        """Bytes of the pool that another process may still read."""
        return self._pool.used

    # --------------------------------------------------------------------------------------------- sending

    @property
    def can_lend(self) -> bool:
        """True if loans may be made here, which a forked child may not: its memory would be the parent's."""
        return self.is_on and not self.context.is_abandoned

    @property
    def is_on(self) -> bool:
        """True if there is a pool: the system can share memory, and the app does not disable it."""
        return self._pool.limit >= UNIT

    def share(self, length: int, fill: Fill) -> BufferLocation | None:
        """Put a buffer that the codec found into the pool; None if there is no room or no memory for it."""
        segment = self._place(length, fill)
        if segment is None:
            return None
        place = BufferLocation(self.context.uid, segment.number, segment.offset, length)
        self._note(place, segment)
        return place

    def _place(self, length: int, fill: Fill, writes_all: bool = True) -> Segment | None:
        """Return a new segment, pinned, that `fill` has written; None if there is no room or no memory.

        `writes_all`: if False, the program writes to it later, and must not find then that the system has no memory.
        """
        with self._lock:
            memory = self._memory or self._open()
            segment = self._pool.place(length) if memory is not None else None
            if memory is None or segment is None:
                return None
            fresh = self._pool.warm_up(segment)
        try:
            if fresh is not None and writes_all:
                memory.fill(segment.offset, length, segment.end, fill)
            else:
                if fresh is not None:
                    memory.take(*fresh)
                fill(memory.part(segment.offset, length))
        except BaseException as error:
            with self._lock:
                self._pool.unpin(segment.number)
                if fresh is not None:
                    self._pool.warm = min(self._pool.warm, fresh[0])
            if isinstance(error, OSError):  # the system has no memory for it
                return None
            raise
        if fresh is not None and length >= PREFAULT:
            self._written.append((segment.offset, segment.end))
            self._warming.wake()
        return segment

    def _next_cold(self) -> Part | None:
        """Return the next part for the warming thread."""
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
            if self._memory is not None:  # otherwise it was closed meanwhile
                self._pool.handle_ready(offset, end)

    def _open(self) -> Memory | None:
        """Return the memory of the pool, or None if the system has none now; the next large buffer tries again."""
        try:
            memory = Memory(self._pool.limit)
            self._to_share = Descriptor(memory.descriptor())
        except OSError:
            return None
        self._memory = memory
        return memory

    def find(self, memory: memoryview, sent: Any) -> BufferLocation | None:
        """Return the place of the memory that is sent, if it is in a pool and can be sent as a reference.

        None if it is not, if its owner might not learn of it, or if the program could still write through it.
        """
        if not self._extents:
            return None
        address, length = address_of(memory), memory.nbytes
        uid = self.context.uid
        for owner in list(self._extents):
            mapping = self._mapping(owner)
            if mapping is None or not mapping.has(address, length):
                continue
            offset = address - mapping.address
            with self._lock:
                number = self._extents[owner].find(offset, offset + length) if owner in self._extents else None
                if number is None:
                    return None
                if owner == uid:
                    if number in self._loans and not self._loans[number].seal(sent):
                        return None
                    self._pool.pin(number)
            if owner != uid and not self._may_tell(owner):
                return None
            place = BufferLocation(owner, number, offset, length)
            self._note(place, memory)
            return place
        return None

    def _mapping(self, owner: int) -> Mapping | None:
        if owner != self.context.uid:
            return self._mappings.get(owner)
        return None if self._memory is None else self._memory.mapping

    def _may_tell(self, owner: int) -> bool:
        """Return False if an owner cannot be notified now of another holder; `_pass_on` finds out for certain."""
        found = self._others.get(owner)
        return found is not None and not found.gone and found.link is not None and not found.link.unsent_bytes

    def hold(self, references: Sequence[BufferLocation], holder: Counterpart, where: Outlet) -> Replaced | None:
        """Count a member as a holder of buffers that are about to be posted to it; return copies where necessary.

        A member on another machine gets their bytes. Copies replace those whose owner could not be notified.
        """
        if holder.is_distant:
            return None
        passed: dict[int, dict[int, int]] = {}
        with self._lock:
            for place in references:
                if place.owner == self.context.uid:
                    self._pool.hold(place.number, holder.uid)
                else:
                    counts = passed.setdefault(place.owner, {})
                    counts[place.number] = counts.get(place.number, 0) + 1
        untold = {owner for owner, counts in passed.items() if not self._pass_on(owner, counts, holder)}
        replaced = self._copy([place for place in references if place.owner in untold], holder) if untold else None
        if len(passed) < len({place.owner for place in references}):
            self._introduce(self.context.uid, holder, self._to_share, self._pool.limit)
        if holder.gone:  # checked last: in any order, its count is dropped
            self.owner_gone(holder.uid)
        return replaced

    def _pass_on(self, owner: int, counts: dict[int, int], holder: Counterpart) -> bool:
        """Tell an owner that a member is about to get buffers of its pool, and give the member the pool.

        Return False if the owner ended, or might never read it.
        """
        if owner == holder.uid:
            holder.post(m.Passed(counts, owner))
            return True
        if not self._may_tell(owner):
            return False
        found, mapping = self._others.get(owner), self._mappings.get(owner)
        link = None if found is None else found.link
        if link is None or mapping is None:
            return False
        if not link.post_now(m.Passed(counts, holder.uid)):
            link.post(m.Passed({number: -count for number, count in counts.items()}, holder.uid))  # cancels it
            return False
        self._introduce(owner, holder, mapping.descriptor, mapping.size)
        return True

    def _copy(self, places: Sequence[BufferLocation], holder: Counterpart) -> Replaced:
        """Copy buffers of others into this pool for one receiver; those without room are sent whole."""
        copies: dict[BufferLocation, memoryview | BufferLocation] = {}
        for place in places:
            copy = copies.get(place)
            if copy is None:
                memory = self.look(place)
                segment = self._place(place.length, partial(_write, memory)) if self.is_on else None
                if segment is None:
                    copies[place] = memory
                    continue
                copy = copies[place] = BufferLocation(self.context.uid, segment.number, segment.offset, place.length)
            if isinstance(copy, BufferLocation):
                with self._lock:
                    self._pool.hold(copy.number, holder.uid)
        for copy in copies.values():
            if isinstance(copy, BufferLocation):
                self._introduce(self.context.uid, holder, self._to_share, self._pool.limit)
                self.unpin(copy)
        return copies

    def _introduce(self, owner: int, holder: Counterpart, descriptor: Descriptor | None, size: int) -> None:
        """Send a member a pool, once on each link."""
        own, key = self.context.uid, (holder.uid, owner)
        if holder.gone or holder.uid == own or self._told.get(key, self) is holder.link:
            return
        self._told[key] = holder.link
        assert descriptor is not None
        holder.post_with(m.SharedPool(size, 0 if owner == own else owner), [descriptor])

    def look(self, place: BufferLocation) -> memoryview:
        """Return the bytes of a buffer in this pool or in one that is mapped here."""
        if place.owner == self.context.uid:
            assert self._memory is not None
            return self._memory.part(place.offset, place.length)
        return self._mappings[place.owner].view(place.offset, place.length, (0, 0), deque(maxlen=0))

    def unpin(self, reference: BufferLocation) -> None:
        """Release a buffer that was encoded: its messages were posted, or never will be."""
        if reference.owner == self.context.uid:
            with self._lock:
                self._pool.unpin(reference.number)
            self._tell()

    # ----------------------------------------------------------------------------------------------- loans

    def new_loan(self, length: int, fill: Fill) -> memoryview | None:
        """Return a part of the pool for the program to write; None if there is no room.

        It is freed when the program drops it.
        """
        segment = self._place(length, fill, writes_all=False)
        if segment is None:
            if not self._has_warned:
                self._has_warned = True
                self.context.log.warning(
                    "%s bytes of mob.empty, mob.zeros or mob.buffer are ordinary memory, and are copied when they are "
                    "sent: the shared memory of this process has no room for them (%s of %s bytes are in use). Raise "
                    "shared_memory of the role. Logged once.",
                    *(f"{each:,}" for each in (length, self._pool.used, self._pool.limit)),
                )
            return None
        uid, number = self.context.uid, segment.number
        assert self._memory is not None
        with self._lock:
            self._pool.hold(number, uid)
            self._pool.unpin(number)
            view = self._memory.mapping.view(segment.offset, length, (uid, number), self.dropped, is_writable=True)
            self._note_live(BufferLocation(uid, number, segment.offset, length))
        self._loans[number] = Loan(view)
        return view

    def show(self, view: memoryview, shown: Any) -> None:
        """Note the array over a loan that the program was given instead of the view."""
        key = key_of(view.obj)
        assert key is not None
        self._loans[key[1]].show(shown)

    def is_loan(self, number: int) -> bool:
        """Return True if a segment of this pool was handed out to be written."""
        return number in self._loans

    def is_out(self, number: int) -> bool:
        """Return True if other processes have a loan, or it is on its way to them."""
        with self._lock:
            return self._pool.is_held_by_others(number, self.context.uid)

    def reopen(self, number: int) -> bool:
        """Make a loan writable again; return False if other processes have it."""
        with self._lock:
            if self._pool.is_held_by_others(number, self.context.uid):
                return False
            if number in self._loans:
                self._loans[number].unseal()
        return True

    def _tell(self) -> None:
        for tell in list(self.waiters):
            tell()

    # ------------------------------------------------------------------------------------------- receiving

    def handle_pool(self, holder: Counterpart, descriptors: list[int], size: int, owner: int) -> None:
        """Map a pool that a member sent, its own or another's.

        If this process could not receive the descriptor, only the buffers in that pool fail, when they are read.
        """
        if owner != holder.uid and owner in self._mappings:
            for descriptor in descriptors:  # it came from another member before
                os.close(descriptor)
            return
        if owner != holder.uid:
            self._others.look_up(owner)  # it must learn what is dropped, and its end must be noticed
        self._forget_unmapped(owner)
        if not descriptors:
            self._ask_again(holder.uid, owner)
            return
        self._unmapped[owner] = (descriptors[0], size)
        try:
            self._map(owner)
        except OSError as error:
            self.context.log.error("the shared memory of %s cannot be mapped now: %s", holder.name, error.strerror)
        except ValueError as error:
            self.context.log.error("the shared memory of %s cannot be mapped: %s", holder.name, error)

    def _map(self, uid: int) -> Mapping | None:
        """Map a pool; `OSError` if there is no descriptor or no memory for it now."""
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
        """Return a view of a buffer that the codec found; writable, if it was given away and the system allows it."""
        mapping = self._mappings.get(place.owner)
        if place.owner == self.context.uid and self._memory is not None:
            mapping = self._memory.mapping
        if mapping is None:
            mapping = self._mapped_late(place.owner)
        self._arrived += 1
        key = (place.owner, place.number)
        given = mapping.writable() if place.kind == GIVEN else None
        view = (given or mapping).view(place.offset, place.length, key, self.dropped, given is not None)
        with self._lock:
            self._note_live(place)
        self.dropped.look_soon(self.sweep)
        return view

    def _note_live(self, place: BufferLocation) -> None:
        key = (place.owner, place.number)
        self._live[key] = self._live.get(key, 0) + 1
        extents = self._extents.get(place.owner)
        if extents is None:
            extents = self._extents[place.owner] = Extents()
        extents.add(place.number, place.offset, place.offset + place.length)

    def _mapped_late(self, owner: int) -> Mapping:
        try:
            mapping = self._map(owner)
        except OSError as error:
            why = f"{error.strerror}; if it has too many open files, see `ulimit -n`"
            raise BadMessage(f"a buffer arrived in shared memory that this process cannot map now: {why}.") from error
        if mapping is None:
            found = self._others.get(owner)
            if found is None or found.gone:
                raise BadMessage(
                    "a buffer arrived in the shared memory of a process that exited, and this process has already "
                    "unmapped that memory. Repeat the call: then the buffer is copied."
                )
            self._ask_again(owner, owner)
            raise BadMessage(
                "a buffer arrived in shared memory that is unknown here: this process could not receive its file "
                "descriptor. If it has too many open files, see `ulimit -n`."
            )
        return mapping

    def _ask_again(self, uid: int, owner: int) -> None:
        """Ask a member to send a pool again with the next large buffer; on the thread that decodes."""
        if (holder := self._others.get(uid)) is not None and holder.link is not None:
            holder.link.post(m.Unpooled(0 if owner == uid else owner))

    def handle_unpooled(self, uid: int, owner: int = 0) -> None:
        """Send a member the descriptor of a pool again with the next large buffer, because it has none."""
        self._told.pop((uid, owner or self.context.uid), None)

    def handle_passed(self, counts: dict[int, int], holder: int) -> None:
        """Count a member as a holder, because another one passed buffers of this pool on to it."""
        with self._lock:
            for number, count in counts.items():
                self._pool.hold(number, holder, count)
        if holder != self.context.uid:
            self._others.look_up(holder)  # its buffers are freed when it ends

    # --------------------------------------------------------------------------------------------- freeing

    def give_back(self, reference: BufferLocation) -> None:
        """Free a buffer that arrived and will not be read."""
        with self._lock:
            self._note_live(reference)
        self.dropped.append((reference.owner, reference.number))

    def sweep(self) -> None:
        """Give the views that were freed here back to their owners; on the loop's thread."""
        counts: dict[int, dict[int, int]] = {}
        while self.dropped:
            owner, number = key = self.dropped.popleft()
            with self._lock:
                self._live[key] -= 1
                if not self._live[key]:
                    self._forget_live(key)
            numbers = counts.setdefault(owner, {})
            numbers[number] = numbers.get(number, 0) + 1
        for owner, numbers in counts.items():
            holder = self._others.get(owner)
            if owner == self.context.uid:
                self.handle_freed(owner, numbers)
            elif holder is not None:
                holder.post_lazily(m.Freed(numbers))

    def _forget_live(self, key: tuple[int, int]) -> None:
        owner, number = key
        del self._live[key]
        extents = self._extents[owner]
        extents.remove(number)
        if not extents:
            del self._extents[owner]
            if owner in self._orphaned:
                self._orphaned.discard(owner)
                self._mappings.pop(owner, None)
        if owner == self.context.uid:
            self._loans.pop(number, None)

    def handle_freed(self, uid: int, counts: dict[int, int]) -> None:
        """Count the buffers that a holder gives back."""
        with self._lock:
            for number, count in counts.items():
                self._pool.release(number, uid, count)
        self._tell()

    def owner_gone(self, uid: int) -> None:
        """Free what a member held that ended; what it sent stays as long as there are views of it."""
        with self._lock:
            self._pool.forget_holder(uid)
        if uid in self._mappings:
            self.context.reactor.call(partial(self._unmap_later, uid))
        for key in [key for key in self._told if uid in key]:
            self._told.pop(key, None)
        self._forget_unmapped(uid)
        self._tell()

    def _unmap_later(self, owner: int) -> None:
        self.context.reactor.call_at(monotonic() + UNREAD_FOR, partial(self._unmap, owner))

    def _unmap(self, owner: int) -> None:
        """Unmap the memory of an exited owner once there are no views of it."""
        with self._lock:
            if owner in self._extents:
                self._orphaned.add(owner)
            else:
                self._mappings.pop(owner, None)

    def close(self) -> None:
        """Stop sharing buffers; existing views stay valid."""
        with self._lock:
            self._pool, self._memory, self._to_share = SegmentPool(0), None, None
        self._mappings.clear()
        self._loans.clear()
        for uid in list(self._unmapped):
            self._forget_unmapped(uid)

    def cool(self, now: float) -> None:
        """Return idle memory to the system; must be called regularly."""
        with self._lock:
            idle = self._pool.cool(now)
            if idle is not None and self._memory is not None:
                self._memory.give_back(*idle)
        if self._quiet.has_come(self._arrived, now):
            for mapping in list(self._mappings.values()):
                mapping.handle_idle()


def _write(source: memoryview, memory: memoryview) -> None:
    memory[:] = source
