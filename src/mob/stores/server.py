"""A store at its worker: clocks and timers around what `book`, `locks` and `watchers` decide, and its file.

Strategy. Everything runs on the loop, one call at a time, so nothing needs a lock. While the contents are handed over
to a successor the store is frozen: requests wait, and go to the successor once it has the place, or are done here if
the successor fails.
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
"""Seconds after a restart in which locks are given only to processes that report to hold them."""
MICROSECOND = 1e-6
PART = 1000
"""Maximum number of rows that are handed over in one message."""
PART_BYTES = 1024 * 1024
"""Approximate bytes of values that are handed over in one message."""
Contents = tuple[list[StoredRow], list[str], list[tuple[str, int]] | None]
"""The data that a worker hands over.

All rows, the keys that should be in the file and are not, and the locks that are held, with their fences; None if it
does not know these.
"""
METERED = 1.0
"""Seconds after the first use of a store in which it reports its metrics; an unused one reports none."""
LOG = logging.getLogger("mob.store")


class StoreServer:
    """The store that this worker is.

    Args:
        role: name of the role.
        settings: the options in the main script.
        is_first: True if no other worker has been the store before.
        tell_metrics: called a second after something was done with the store.
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
        """The claims and watchers that wait here, and the events that wake them."""
        self.is_frozen: bool = False
        self.is_ending: bool = False
        self.is_closed: bool = False
        """True once the contents were left, or written, for the last time: later changes are refused."""
        self.is_metering: bool = False
        """True if metrics will be reported soon."""
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
        """Wait until no earlier process of this app has the store's file. Raise `OSError` if another app has it."""
        if self.settings.file is not None:
            self._file = StoreFile(self.name, self.settings.file, self.owner)
            await self._file.wait(self._handle_held)

    def _handle_held(self, holder: LockHolder) -> None:
        LOG.warning(
            "store %r: %s is still used by an earlier process of this app (pid %d), which is finishing its work. Calls "
            "wait; the store continues when that process ends.",
            *(self.name, self.settings.file, holder.pid),
        )

    def begin(self, given: Contents | None) -> None:
        """Begin with the contents of a predecessor; if there are none, with those of the file, or with nothing."""
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
            except ValueError as error:  # max_memory may be smaller than before
                LOG.warning("%s Dropping it.", error)
                unsaved[key] = None
        self.book.listeners.pop()
        held = None if given is None else given[2]
        if not self._is_first and held is None:  # holders of locks have not reported yet
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
        """End streams that have no end of their own: another worker has the place now, or the app stops."""
        self.is_ending = True
        self._thaw.set()
        for event in self.changed.values():
            event.set()

    def leave(self) -> Contents:
        """Return all contents at the end of this process, and refuse later requests.

        Holders of locks report to the next worker: their streams here are over.
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
        """Yield all contents to a successor, the last part without rows.

        Stay frozen until the successor has the place, or fails.
        """
        if not self.is_frozen:  # until then it does not know all locks that are held
            await asyncio.sleep(max(0.0, self.locks.grants_from - monotonic()))
        self.is_frozen = True
        self.locks.grants_from = inf  # a lock that is released is left to the successor
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
        """Continue in this worker: the successor did not come up."""
        self.is_frozen, self.locks.grants_from = False, -inf
        if self.settings.file is not None:
            try:
                self._use(self._open(self.settings.file), unsaved)
            except OSError as error:
                LOG.error("%s The store continues in memory.", error)
        self._thaw.set()
        self._end_due()
        self._end_locks()

    async def thawed(self) -> bool:
        """Wait until it is known which worker has the contents; return True if it is this one."""
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
            raise Unavailable(f"store {self.name!r} has ended and left its contents; nothing was changed.")

    # ------------------------------------------------------------------------------------------------ metrics

    def meter_soon(self) -> None:
        """Report metrics soon, if that is not about to happen: something was done."""
        if not self.is_metering:
            self.is_metering = True
            self.loop.call_later(METERED, self._meter)

    def _meter(self) -> None:
        self.is_metering = False
        self._tell_metrics(self)

    # ------------------------------------------------------------------------------------------------- timers

    def look_at_due(self) -> None:
        """Set the timer of the keys if one expires earlier than it is set to."""
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
        """Set the timer of the locks unless it is set to an earlier time."""
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
        """Wake the waiting calls of claims that changed."""
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
