"""A store, as its worker holds it: clocks and timers around what `book`, `locks` and `watchers` decide, and its file.

Strategy. Everything runs on the loop, one call at a time, so nothing needs a lock. While the contents are handed over
to a successor the store is frozen: what is asked of it waits, and goes to the successor once that has taken the place,
or is done here if the successor fails.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from math import inf
from time import monotonic, time
from typing import Any

from mob.errors import Unavailable
from mob.rim.file_locks import LockHolder
from mob.stores.book import StoreBook, Value
from mob.stores.file import StoredRow, StoreFile
from mob.stores.locks import HELD, KEPT, LockClaim, Locks
from mob.stores.saving import StoreSaver
from mob.stores.settings import StoreSettings
from mob.stores.watchers import KeyWatcher, Watchers

GRACE = 2.0
"""Seconds after a restart in which locks are given to nobody but those who say that they hold them."""
MICROSECOND = 1e-6
PART = 1000
"""Rows that are handed over in one message, at most."""
PART_BYTES = 1024 * 1024
"""Bytes of values that are handed over in one message, about."""
Contents = tuple[list[StoredRow], list[str], list[tuple[str, int]] | None]
"""What a worker hands over: all rows, the keys that are not in the file though they should, and the locks that are
held, with their fences; None if it does not know that."""
METERED = 1.0
"""Seconds after the first use of a store in which it tells its metrics; one that nobody uses tells none."""
LOG = logging.getLogger("mob.store")


class StoreServer:
    """The store that this worker is.

    Args:
        role: its name.
        settings: what the main script says of it.
        is_first: whether no other worker has been the store before.
        tell_metrics: called a second after something has been done with the store.
        owner: the app, and in a cluster the machine.
    """

    def __init__(
        self,
        role: str,
        settings: StoreSettings,
        is_first: bool,
        tell_metrics: Callable[[StoreServer], None],
        owner: str = "",
    ) -> None:
        self.name: str = role
        self.owner: str = owner
        self.settings: StoreSettings = settings
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self.book: StoreBook = StoreBook(role, settings.max_memory)
        # Greater than each fence of an earlier worker, which has not given out one each microsecond.
        self.locks: Locks = Locks(role, int(time() / MICROSECOND))
        self.watchers: Watchers = Watchers()
        self.saver: StoreSaver | None = None
        self.changed: dict[LockClaim | KeyWatcher, asyncio.Event] = {}
        """Who waits here, and what wakes them."""
        self.is_frozen: bool = False
        self.is_ending: bool = False
        self.is_closed: bool = False
        """Whether the contents were left, or written, for the last time: what would change after that is refused."""
        self.is_metering: bool = False
        """Whether what has happened will be told soon."""
        self._file: StoreFile | None = None  # its lock is held, and it is not open yet
        self._is_first = is_first
        self._tell_metrics = tell_metrics
        self._thaw = asyncio.Event()
        self._due: float = inf
        self._due_timer: asyncio.TimerHandle | None = None
        self._locks_due: float = inf
        self._locks_timer: asyncio.TimerHandle | None = None
        self.book.listeners.append(self._tell)

    def __repr__(self) -> str:
        return f"<StoreServer {self.book!r}>"

    # --------------------------------------------------------------------------------------------- begin, end

    async def wait_for_file(self) -> None:
        """Wait until no earlier process of this app has the file of the store. `OSError` if another app has it."""
        if self.settings.file is not None:
            self._file = StoreFile(self.name, self.settings.file, self.owner)
            await self._file.wait(self._handle_held)

    def _handle_held(self, holder: LockHolder) -> None:
        LOG.warning(
            "store %r: %s is still used by an earlier process of this app (pid %d), which finishes what it has begun. "
            "Calls wait; the store goes on by itself when that process has ended.",
            *(self.name, self.settings.file, holder.pid),
        )

    def begin(self, given: Contents | None) -> None:
        """Begin with what a predecessor has handed over; None: with what is in the file, or with nothing."""
        now, file, unsaved = time(), self.settings.file, dict.fromkeys(given[1] if given is not None else ())
        saver = self._open(file) if file is not None else None
        rows = given[0] if given is not None else saver.file.rows() if saver is not None else ()
        self.book.listeners.append(lambda what, key, value: unsaved.setdefault(key) if what == "evict" else None)
        for key, value, ends in rows:
            if value is None or ends <= now:
                unsaved[key] = None
                continue
            try:
                self.book.put(key, value, ends)
            except ValueError as error:  # there may be less room than there was
                LOG.warning("%s It is dropped.", error)
                unsaved[key] = None
        self.book.listeners.pop()
        held = None if given is None else given[2]
        if not self._is_first and held is None:  # who holds a lock is still to say so
            self.locks.grants_from = monotonic() + GRACE
        for name, fence in held or ():
            self.locks.inherit(name, fence, monotonic() + KEPT)
        self.look_at_locks(self.locks.next_due() or inf)
        self._use(saver, unsaved)
        self.look_at_due()

    def _open(self, path: str) -> StoreSaver:
        file, self._file = self._file or StoreFile(self.name, path, self.owner), None
        file.open()
        return StoreSaver(self.book, file, LOG)

    def _use(self, saver: StoreSaver | None, unsaved: Iterable[str]) -> None:
        self.saver = saver
        if saver is not None:
            self.book.listeners.append(saver.note)
            for key in unsaved:
                saver.note("set", key, None)

    def end(self) -> None:
        """Another worker has the place now, or the app stops: end what has no end of its own."""
        self.is_ending = True
        self._thaw.set()
        for event in self.changed.values():
            event.set()

    def leave(self) -> Contents:
        """Return all contents at the end of this process, and refuse what comes from now on. Who holds a lock tells the
        next worker: the streams that say so are over.
        """
        self.is_frozen = self.is_closed = True
        return [(key, entry.value, entry.ends) for key, entry in self.book.entries.items()], [], None

    async def close(self) -> list[str]:
        """Write what is left, and close the file; return the keys that could not be written."""
        saver, self.saver = self.saver, None
        self._tell_metrics(self)
        if saver is None:
            return []
        self.book.listeners.remove(saver.note)
        return await saver.close()

    # ---------------------------------------------------------------------------------------------- handing over

    async def hand_over(self) -> AsyncIterator[Contents]:
        """Yield all contents to a successor, the last part without rows, and stay frozen until it has the place, or
        gives up.
        """
        if not self.is_frozen:  # before that it does not know all locks that are held
            await asyncio.sleep(max(0.0, self.locks.grants_from - monotonic()))
        self.is_frozen = True
        self.locks.grants_from = inf  # who lets go of a lock leaves it to the successor
        self._thaw.clear()
        unsaved: list[str] = []
        try:
            unsaved = await self.close()
            for part in self._parts():
                yield part, [], []
            yield [], unsaved, [(claim.name, claim.fence) for claim in self.locks.held.values()]
            await self._thaw.wait()
        finally:
            if not self.is_ending:
                self._resume(unsaved)

    def _parts(self) -> list[list[StoredRow]]:
        parts: list[list[StoredRow]] = [[]]
        size = 0
        for key, entry in self.book.entries.items():
            parts[-1].append((key, entry.value, entry.ends))
            size += entry.size
            if size > PART_BYTES or len(parts[-1]) == PART:
                parts.append([])
                size = 0
        return [part for part in parts if part]

    def _resume(self, unsaved: list[str]) -> None:
        """The successor has not come up: this worker goes on."""
        self.is_frozen, self.locks.grants_from = False, -inf
        if self.settings.file is not None:
            try:
                self._use(self._open(self.settings.file), unsaved)
            except OSError as error:
                LOG.error("%s The store goes on in memory.", error)
        self._thaw.set()
        self._end_due()
        self._end_locks()

    async def thawed(self) -> bool:
        """Wait until it is known who has the contents; return whether it is this worker."""
        while self.is_frozen and not self.is_ending:
            await self._thaw.wait()
        return not self.is_frozen

    async def ask(self, work: Callable[[], Any], elsewhere: Callable[[], Any]) -> Any:
        """Do something here, or elsewhere if the contents are there by then."""
        self._check_open()
        return work() if await self.thawed() else await elsewhere()

    async def change(self, work: Callable[[], Any], elsewhere: Callable[[], Any]) -> Any:
        """Change something, here or elsewhere, and return when it is in the file."""
        if self.is_frozen and not self.is_closed and not await self.thawed():
            return await elsewhere()
        self._check_open()
        value = work()
        if self.saver is not None:
            await self.saver.saved()
        return value

    def _check_open(self) -> None:
        if self.is_closed:
            raise Unavailable(f"store {self.name!r} has ended, and its contents are left; nothing was changed.")

    # ------------------------------------------------------------------------------------------------ metrics

    def meter_soon(self) -> None:
        """Something has happened: its metrics are told, if they are not about to be."""
        if not self.is_metering:
            self.is_metering = True
            self.loop.call_later(METERED, self._meter)

    def _meter(self) -> None:
        self.is_metering = False
        self._tell_metrics(self)

    # ------------------------------------------------------------------------------------------------- timers

    def look_at_due(self) -> None:
        """Set the timer of the keys, if one ends sooner than it is set to."""
        due = self.book.next_due()
        if due is not None and due < self._due:
            if self._due_timer is not None:
                self._due_timer.cancel()
            self._due = due
            self._due_timer = self.loop.call_later(max(0.0, due - time()), self._end_due)

    def _end_due(self) -> None:
        self._due = inf
        if not self.is_frozen:
            self.book.end_due(time())
            self.look_at_due()

    def look_at_locks(self, due: float) -> None:
        """Set the timer of the locks, if it is set to no earlier time."""
        if due < self._locks_due:
            if self._locks_timer is not None:
                self._locks_timer.cancel()
            self._locks_due = due
            self._locks_timer = self.loop.call_later(max(0.0, due - monotonic()), self._end_locks)

    def _end_locks(self) -> None:
        self._locks_due = inf
        if not self.is_frozen:
            self.wake(self.locks.end_due(monotonic()))
            self.look_at_locks(self.locks.next_due() or inf)

    # ------------------------------------------------------------------------------------------------- waking

    def wake(self, claims: list[LockClaim]) -> None:
        """Tell those whose claims have changed."""
        self.meter_soon()
        for claim in claims:
            if claim.state is HELD:
                self.look_at_locks(claim.ends)
            event = self.changed.get(claim)
            if event is not None:
                event.set()

    def _tell(self, what: str, key: str, value: Value | None) -> None:
        if not self.is_metering:
            self.meter_soon()
        for watcher in self.watchers.tell(what, key, value):
            self.changed[watcher].set()
