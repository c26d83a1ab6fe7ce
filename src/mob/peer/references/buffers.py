"""Large buffers that cross: copied once into this process's pool of shared memory, and looked at there by the others.

What lies where and who holds it is `core.segments`, the memory itself is `rim.segments`, the replacing of buffers in a
message is `wire.sharing`; this file connects them to encoding, to links and to the life of views. A buffer in a message
is noted beside the functions in it (`callbacks`), is handed over and let go of as they are, and is counted as they are:
each arrival is one view, and is given back when the view has gone.

A receiver gets the descriptor of the pool once, in front of the first message that has something in it. When there is
no room in the pool, or no memory, buffers travel in the bytes of their message as small ones do.
"""

from __future__ import annotations

import os
from collections import deque
from threading import Lock
from typing import TYPE_CHECKING, Any

from mob.core.segments import UNIT, Pool
from mob.errors import BadMessage
from mob.rim.link import Descriptor, Link
from mob.rim.segments import IS_AVAILABLE, Mapping, Memory
from mob.wire import messages as m
from mob.wire.sharing import Fill, Place, may_hold_large

if TYPE_CHECKING:
    from mob.peer.links.contacts import Contact
    from mob.peer.peer import Peer


class Buffers:
    """Both ends of every large buffer that crosses."""

    def __init__(self, peer: Peer, limit: int) -> None:
        self._peer = peer
        self._context = peer.context
        self._lock = Lock()
        self._pool = Pool(limit if IS_AVAILABLE else 0)
        self._memory: Memory | None = None
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

    def encode(self, value: Any, root: str) -> bytes:
        """As the codec's `encode`, for a value that has a large buffer in it."""
        body = self._encode_sharing(value) if self._pool.limit >= UNIT else None
        return self._peer.codec.encode(value, root) if body is None else body

    def encode_again(self, value: Any, body: bytes) -> bytes:
        """The body of a value, which turned out to be long: anew if there is a large buffer in it, deep within."""
        if self._pool.limit < UNIT or not may_hold_large(body):
            return body
        callbacks = self._peer.callbacks
        before = callbacks.noted()
        shared = self._encode_sharing(value)
        if shared is None:
            return body
        others = sum(type(reference) is not Place for reference in callbacks.noted()[len(before) :])
        callbacks.forget(len(before) - others, len(before))  # they were noted twice, and are in there once
        return shared

    def _encode_sharing(self, value: Any) -> bytes | None:
        callbacks = self._peer.callbacks
        start = len(callbacks.noted())
        try:
            return self._peer.codec.encode_sharing(value, self._share)
        except BaseException as error:
            callbacks.forget(start)
            if isinstance(error, Exception):
                return None  # what is wrong with it comes up once more, and better
            raise

    def _share(self, length: int, fill: Fill) -> Place | None:
        with self._lock:
            memory = self._memory or self._open()
            segment = self._pool.place(length) if memory is not None else None
            if memory is None or segment is None:
                return None
            fresh = self._pool.warm_up(segment)
        try:
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
        place = Place(self._context.uid, segment.number, segment.offset, length)
        self._peer.callbacks.note(place, segment)
        return place

    def _open(self) -> Memory | None:
        """None if the system does not give it now; the next large buffer tries again."""
        try:
            memory = Memory(self._pool.limit)
            self._to_share = Descriptor(memory.descriptor())
        except OSError:
            return None
        self._memory = memory
        return memory

    def hold(self, place: Place, contact: Contact) -> None:
        """A message with that buffer is about to be posted to the contact."""
        uid = contact.uid
        with self._lock:
            self._pool.hold(place.number, uid)
        if contact.gone:  # looked at last: whoever comes first, its count goes
            self.handle_gone(uid)
        elif uid != self._context.uid and self._told.get(uid, self) is not contact.link:
            self._told[uid] = contact.link
            assert self._to_share is not None
            contact.post_with(m.Pool(self._pool.limit), [self._to_share])

    def look(self, place: Place) -> memoryview:
        """What lies in a place of one's own."""
        assert self._memory is not None
        return self._memory.part(place.offset, place.length)

    def unpin(self, place: Place) -> None:
        """The messages with that buffer were posted, or never will be."""
        with self._lock:
            self._pool.unpin(place.number)

    # ------------------------------------------------------------------------------------------- receiving

    def handle_pool(self, contact: Contact, descriptors: list[int], size: int) -> None:
        """A member names its pool. Without its descriptor, which this process could not be given, what lies there fails
        when it is looked at, and nothing else does."""
        self._forget_unmapped(contact.uid)
        if not descriptors:
            self._ask_again(contact.uid)
            return
        self._unmapped[contact.uid] = (descriptors[0], size)
        try:
            self._map(contact.uid)
        except OSError as error:
            self._context.log.error("the shared memory of %s cannot be mapped now: %s", contact.name, error.strerror)
        except ValueError as error:
            self._context.log.error("the shared memory of %s cannot be mapped: %s", contact.name, error)

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

    def attach(self, place: Place) -> memoryview:
        """The codec meets a buffer in what it decodes."""
        mapping = self._mappings.get(place.owner)
        if place.owner == self._context.uid and self._memory is not None:
            mapping = self._memory.mapping
        if mapping is None:
            mapping = self._mapped_late(place.owner)
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
        if (contact := self._peer.contacts.get(owner)) is not None and contact.link is not None:
            contact.link.post(m.Unpooled())

    def handle_unpooled(self, contact: Contact) -> None:
        """A member has no descriptor of this pool: it gets another."""
        self._told.pop(contact.uid, None)

    # --------------------------------------------------------------------------------------------- freeing

    def give_back(self, place: Place) -> None:
        """A buffer has arrived that nobody will look at."""
        key = (place.owner, place.number)
        self._live[key] = self._live.get(key, 0) + 1
        self.dropped.append(key)

    def sweep(self) -> None:
        """Gives back to their owners what was dropped here; on the loop's thread."""
        counts: dict[int, dict[int, int]] = {}
        while self.dropped:
            owner, number = key = self.dropped.popleft()
            self._live[key] -= 1
            if not self._live[key]:
                del self._live[key]
            numbers = counts.setdefault(owner, {})
            numbers[number] = numbers.get(number, 0) + 1
        for owner, numbers in counts.items():
            contact = self._peer.contacts.get(owner)
            if owner == self._context.uid:
                self.handle_freed(owner, numbers)
            elif contact is not None:
                contact.post_lazily(m.Freed(numbers))

    def handle_freed(self, uid: int, counts: dict[int, int]) -> None:
        """A holder gives buffers back."""
        with self._lock:
            for number, count in counts.items():
                self._pool.release(number, uid, count)

    def handle_gone(self, uid: int) -> None:
        """A member has gone: what it held is free. What it has sent stays as long as it is looked at."""
        with self._lock:
            self._pool.forget_holder(uid)
        self._told.pop(uid, None)
        self._mappings.pop(uid, None)
        self._forget_unmapped(uid)

    def close(self) -> None:
        """Nothing crosses any more. What is still looked at stays as long as that."""
        with self._lock:
            self._pool, self._memory, self._to_share = Pool(0), None, None
        self._mappings.clear()
        for uid in list(self._unmapped):
            self._forget_unmapped(uid)

    def cool(self, now: float) -> None:
        """Returns memory to the system that has lain idle; to be called regularly."""
        with self._lock:
            idle = self._pool.cool(now)
            if idle is not None and self._memory is not None:
                self._memory.give_back(*idle)
