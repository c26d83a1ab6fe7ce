"""The changes of a store, on their way into the file.

Strategy. The changes of one turn of the loop are written together at its end, on the loop: that does not wait for the
disk, and handing them to a thread would take longer. Callers that wait are answered then. Only moving the log into the
database, once it is long, is done by a thread; changes meanwhile are written afterwards.

If the file cannot be written (for example, the disk is full), callers that wait get the error, and the store continues
in memory. What was not written is retried with each change, and once a second. If another program writes to the file,
the store waits for it, for a second.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from time import monotonic

from mob.stores.book import StoreBook, Value
from mob.stores.file import BUSY, StoredRow, StoreFile

RETRY = 1.0
"""Seconds after which writing is retried."""
BUSY_TIMEOUT = 1.0
"""Seconds to wait for a program that keeps others from writing to the file; `BUSY_RETRY` between two attempts."""
BUSY_RETRY = 0.02
GROUPS = 1000
"""Number of groups after which the length of the log is checked."""


class StoreSaver:
    """Writes the changes of a book to a file; `note` is called for each."""

    def __init__(self, book: StoreBook, file: StoreFile, log: logging.Logger) -> None:
        self.file: StoreFile = file
        self._book = book
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._changed: dict[str, None] = {}
        self._waiting: list[asyncio.Future[None]] = []
        self._next: asyncio.Handle | None = None  # the end of this turn of the loop, or the time of another try
        self._settling: asyncio.Task[None] | None = None
        self._groups = 0
        self._busy_until = 0.0
        self._is_failing = False

    def __repr__(self) -> str:
        return f"<StoreSaver to {self.file!r}, {len(self._changed)} keys to write>"

    def note(self, what: str, key: str, value: Value | None) -> None:
        """Note that a key changed."""
        if not self._changed or self._is_failing:
            self._write_soon()
        self._changed[key] = None

    def saved(self) -> asyncio.Future[None]:
        """Return a future that is done when all changes so far are in the file; `OSError` if that fails."""
        future: asyncio.Future[None] = self._loop.create_future()
        if self._changed:
            self._waiting.append(future)
        else:
            future.set_result(None)
        return future

    async def close(self) -> list[str]:
        """Write what is left, and close the file; return the keys that could not be written."""
        if self._settling is not None:
            await asyncio.wait([self._settling])
        self._busy_until = 0.0
        if self._changed:
            self._write(is_last=True)
        if self._next is not None:
            self._next.cancel()
        await asyncio.to_thread(self.file.close)
        return list(self._changed)

    def _write_soon(self) -> None:
        if self._next is not None:
            self._next.cancel()
        self._next = self._loop.call_soon(self._write)

    def _write(self, is_last: bool = False) -> None:
        if self._settling is not None or not self._changed:
            return
        try:
            self.file.write(self._rows(self._changed))
        except OSError as error:
            if error.errno == BUSY and not is_last and not self._is_failing and self._is_worth_waiting():
                self._next = self._loop.call_later(BUSY_RETRY, self._write)
            else:
                self._handle_failed(error)
        else:
            self._handle_written()

    def _is_worth_waiting(self) -> bool:
        now = monotonic()
        self._busy_until = self._busy_until or now + BUSY_TIMEOUT
        return now < self._busy_until

    def _rows(self, keys: Iterable[str]) -> list[StoredRow]:
        entries = self._book.entries
        found = ((key, entries.get(key)) for key in keys)
        return [(key, None, 0.0) if entry is None else (key, entry.value, entry.ends) for key, entry in found]

    def _handle_written(self) -> None:
        self._changed, self._busy_until = {}, 0.0
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)
        if self._is_failing:
            self._is_failing = False
            self._log.warning("store %r: %s can be written again.", self._book.name, self.file.path)
        self._groups += 1
        if self._groups % GROUPS == 0 and self.file.is_to_settle:
            self._settling = self._loop.create_task(self._settle())

    async def _settle(self) -> None:
        """Move the log into the database, while nothing is written."""
        try:
            await asyncio.to_thread(self.file.settle)
        except OSError as error:
            self._log.warning("%s It is retried later.", error)
        finally:
            self._settling = None
            if self._changed:
                self._write_soon()

    def _handle_failed(self, error: OSError) -> None:
        waiting, self._waiting, self._busy_until = self._waiting, [], 0.0
        said = error.strerror if error.errno is not None else str(error)
        for future in waiting:
            if not future.done():
                future.set_exception(
                    OSError(f"{said} The change was made in memory, and will be written as soon as that is possible.")
                )
        if not self._is_failing:
            self._is_failing = True
            self._log.error("%s The store continues in memory, and retries every %g s.", said, RETRY)
        if self._next is not None:
            self._next.cancel()
        self._next = self._loop.call_later(RETRY, self._write)
