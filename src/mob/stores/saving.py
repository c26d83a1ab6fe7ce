"""What has changed in a store, on its way into the file.

Strategy. While one group is written, in a thread, what changes meanwhile is gathered; it is the next group. So nothing
waits for a time to pass, and under load many changes share one write.

If the file cannot be written (the disk is full, say), those who wait are told, and the store goes on in memory. What
was not written is tried again with each change, and once a second.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from mob.stores.book import StoreBook, Value
from mob.stores.file import StoredRow, StoreFile

RETRY = 1.0
"""Seconds after which it is tried again."""


class StoreSaver:
    """Writes what changes in a book to a file: `note` is told of it."""

    def __init__(self, book: StoreBook, file: StoreFile, log: logging.Logger) -> None:
        self.file: StoreFile = file
        self._book = book
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, "mob-store-file")
        self._changed: dict[str, None] = {}
        self._waiting: list[asyncio.Future[None]] = []
        self._writing: list[asyncio.Future[None]] = []  # those who wait for the group that is being written
        self._task: asyncio.Task[None] | None = None
        self._retry: asyncio.TimerHandle | None = None
        self._is_failing = False

    def __repr__(self) -> str:
        return f"<StoreSaver to {self.file!r}, {len(self._changed)} keys to write>"

    def note(self, what: str, key: str, value: Value | None) -> None:
        """A key has changed."""
        self._changed[key] = None
        self._begin()

    def saved(self) -> asyncio.Future[None]:
        """Return what is done when all that has changed so far is in the file; `OSError` if it cannot be written."""
        future: asyncio.Future[None] = self._loop.create_future()
        if self._changed:
            self._waiting.append(future)
        elif self._task is None:
            future.set_result(None)
        else:
            self._writing.append(future)
        return future

    async def flush(self) -> None:
        """Write what is left, before the file is closed. What cannot be written is told in the log."""
        while self._task is not None:
            await asyncio.wait([self._task])
        if self._changed:
            self._begin()
            while self._task is not None:
                await asyncio.wait([self._task])

    async def close(self) -> list[str]:
        """Write what is left, and close the file; return the keys that could not be written."""
        await self.flush()
        if self._retry is not None:
            self._retry.cancel()
        await self._loop.run_in_executor(self._thread, self.file.close)
        self._thread.shutdown(wait=False)
        return list(self._changed)

    def _begin(self) -> None:
        if self._task is None:
            self._task = self._loop.create_task(self._write())

    async def _write(self) -> None:
        try:
            while self._changed:
                changed, self._changed = self._changed, {}
                self._writing, self._waiting = self._waiting, []
                try:
                    await self._loop.run_in_executor(self._thread, self.file.write, self._rows(changed))
                except OSError as error:
                    self._changed = changed | self._changed
                    self._handle_failed(error)
                    return
                self._handle_written()
        finally:
            self._task = None

    def _rows(self, keys: Iterable[str]) -> list[StoredRow]:
        entries = self._book.entries
        found = ((key, entries.get(key)) for key in keys)
        return [(key, None, 0.0) if entry is None else (key, entry.value, entry.ends) for key, entry in found]

    def _handle_written(self) -> None:
        waiting, self._writing = self._writing, []
        for future in waiting:
            if not future.done():
                future.set_result(None)
        if self._is_failing:
            self._is_failing = False
            self._log.warning("store %r: %s is written again.", self._book.name, self.file.path)

    def _handle_failed(self, error: OSError) -> None:
        waiting, self._writing, self._waiting = [*self._writing, *self._waiting], [], []
        told = f"{error} The change is made in memory, and is written as soon as that is possible."
        for future in waiting:
            if not future.done():
                future.set_exception(OSError(told))
        if not self._is_failing:
            self._is_failing = True
            self._log.error("%s The store goes on in memory, and tries again every %g s.", error, RETRY)
        if self._retry is not None:
            self._retry.cancel()
        self._retry = self._loop.call_later(RETRY, self._begin)
