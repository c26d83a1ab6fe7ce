"""The file of a store: a SQLite database in which each key has a row.

Changes are written in groups, each of which is in the file completely or not at all (write-ahead log). A process that
is killed loses nothing that was written; a machine that loses its power may lose the last moments, but leaves no damage
(`synchronous=NORMAL`, https://sqlite.org/pragma.html#pragma_synchronous). So a write does not wait for the disk, and
takes some microseconds; only `settle` waits, which moves the log into the database from time to time. A file that was
deleted while the app runs is written again completely before a write ends.

Limits. Knows no loop: its methods are called by one thread at a time. Failures are raised as an `OSError` with a text.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import sqlite3
import stat
from collections.abc import Callable, Generator, Iterable, Iterator
from math import inf, nan

from mob.rim.database_files import DatabaseFile
from mob.rim.file_locks import FileLock, LockHolder
from mob.stores.book import Value

StoredRow = tuple[str, Value | None, float]
"""A key, its value (None: delete it), and when it expires."""

APPLICATION = 0x6D6F6273
"""Value of `PRAGMA application_id` that tells a store's file from that of another program."""
VERSION = 1
COLUMNS = ["key", "value", "ends"]
MOST_LOGGED = 64 * 1024 * 1024
"""Bytes of the log after which it is moved into the database."""
LEAST_ROOM = 64 * 1024
"""Bytes that a disk must have left: an index of the log takes 32 KiB, a page of it 4."""
_here: dict[str, StoreFile] = {}  # files that are open in this process, by their paths
BUSY = errno.EAGAIN
"""The number of an error that passes: another program writes to the file."""
REPORTS = logging.getLogger("mob.store")


class StoreFile:
    """The file of a store; it belongs to one process while it is open.

    Args:
        store: name of the store, for errors.
        path: of the file; next to it are PATH-wal, PATH-shm and PATH.lock while it is open.
        owner: the app that it belongs to, shown to other stores.
    """

    def __init__(self, store: str, path: str, owner: str = "") -> None:
        self.store: str = store
        self.path: str = path
        self._connection: sqlite3.Connection | None = None
        self._lock = FileLock(path, owner)
        self._file: DatabaseFile | None = None

    def __repr__(self) -> str:
        return f"<StoreFile {self.path}{'' if self._connection else ', closed'}>"

    async def wait(self, is_held: Callable[[LockHolder], None]) -> None:
        """Wait until no earlier process of this app has the file. `is_held` is called with the process that has it.

        Raise `OSError` if another app has it, or for the reasons of `open`.
        """
        self._check_path()
        before = _here.get(self.path)
        if before is not None:
            before.close()
        try:
            holder = self._lock.take()
        except OSError as error:
            raise self._failed(error) from None
        if holder is None:
            return
        if not holder.owner or holder.owner != self._lock.owner:
            raise self._in_use(holder)
        is_held(holder)
        await self._lock.wait()

    def open(self) -> None:
        """Open the file, or make it if there is none.

        Raise `OSError` if it is in use, damaged, of another program, not a file, or may not be read and written.
        """
        self._check_path()
        before = _here.get(self.path)
        if before is not None:  # of a worker that ended, where workers are threads (`mob.testing`)
            before.close()
        self._take()
        _here[self.path] = self
        try:
            with self._told("cannot be opened"):
                if not os.path.exists(self.path):
                    self._make()
                self._connect()
        except BaseException:
            self.close()
            raise

    def rows(self) -> Iterator[StoredRow]:
        """Yield the rows of the file, in no order."""
        with self._told("cannot be read"):
            for key, value, ends in self._open().execute("SELECT key, value, ends FROM entries"):
                known = isinstance(key, str) and isinstance(value, bytes | int | float | None)
                if not known or not isinstance(ends, float | None):  # SQLite keeps what it is given
                    raise sqlite3.DatabaseError(f"the row of {key!r} is invalid")
                yield key, nan if value is None else value, inf if ends is None else ends

    def write(self, rows: Iterable[StoredRow]) -> None:
        """Write rows, all of them or none."""
        gone: list[tuple[str]] = []
        kept: list[tuple[str, Value, float | None]] = []
        for key, value, ends in rows:
            if value is None:
                gone.append((key,))
            else:
                kept.append((key, value, None if ends == inf else ends))
        with self._told("cannot be written"):
            connection = self._open()
            connection.execute("BEGIN IMMEDIATE")
            try:
                connection.executemany("DELETE FROM entries WHERE key = ?", gone)
                connection.executemany("INSERT OR REPLACE INTO entries (key, value, ends) VALUES (?, ?, ?)", kept)
                connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
                raise
            self._look_at_file(connection)

    @property
    def is_to_settle(self) -> bool:
        """True if the log has become long."""
        try:
            return os.stat(f"{self.path}-wal").st_size > MOST_LOGGED
        except OSError:
            return False

    def settle(self) -> None:
        """Move the log into the database. Waits for the disk."""
        with self._told("cannot be written"):
            self._open().execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Close the file: another process may open it."""
        if _here.get(self.path) is self:
            del _here[self.path]
        if self._connection is not None and self._file is not None:
            try:
                self._look_at_file(self._connection)
            except (OSError, sqlite3.Error) as error:
                REPORTS.error("%s", error)
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()
        self._lock.release()

    # ----------------------------------------------------------------------------------------------- internals

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            raise OSError(f"store {self.store!r}: {self.path} is closed.")
        return self._connection

    def _connect(self) -> None:
        connection = self._connection = sqlite3.connect(
            self.path, timeout=0, isolation_level=None, check_same_thread=False
        )
        self._check(connection)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("PRAGMA wal_autocheckpoint=0")
        connection.execute("SELECT count(*) FROM entries WHERE key = ''").fetchall()  # opens the log
        self._file = DatabaseFile(self.path)

    def _look_at_file(self, connection: sqlite3.Connection) -> None:
        """Write everything to a new file if this one was deleted. Raise `OSError` or `sqlite3.Error` on failure."""
        assert self._file is not None
        if self._file.is_in_place():
            return
        try:
            if not os.path.exists(f"{self.path}.lock"):
                os.makedirs(os.path.dirname(self.path) or ".", exist_ok=True)
                self._take()
            self._file.put_back(connection)
        except OSError as error:
            text = str(error).removeprefix(f"store {self.store!r}: ")
            raise OSError(f"store {self.store!r}: {text}") from error
        self._connect()
        REPORTS.error(
            "store %r: %s was deleted while the app was running. Everything was written to a new file. To empty a "
            "store delete its keys, or delete the file while the app is stopped.",
            *(self.store, self.path),
        )

    def _check_path(self) -> None:
        """Refuse what SQLite would find out later, or report less clearly."""
        try:
            mode = os.stat(self.path).st_mode
        except FileNotFoundError:
            return
        except OSError as error:
            raise self._failed(error) from None
        if not stat.S_ISREG(mode):
            what = "a directory" if stat.S_ISDIR(mode) else "not a regular file"
            raise OSError(f"store {self.store!r}: {self.path} is {what}. Give the path of a file in file=.")
        for path, access, may in (
            (self.path, os.R_OK | os.W_OK, "write it"),
            (os.path.dirname(self.path) or ".", os.W_OK | os.X_OK, "make files in its directory"),
        ):
            if not os.access(path, access, effective_ids=True):
                raise OSError(
                    errno.EACCES,
                    f"store {self.store!r}: {self.path} cannot be opened: this user (uid {os.geteuid()}) may not "
                    f"{may}, or its file system is read-only. Change its owner or mode, or name another file.",
                )

    def _make(self) -> None:
        """Make the file. It may contain sessions, so only its owner may read it."""
        try:
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except OSError as error:
            raise self._failed(error) from None

    def _failed(self, error: OSError) -> OSError:
        return OSError(error.errno, f"store {self.store!r}: {self.path} cannot be opened: {error.strerror}.")

    def _take(self) -> None:
        """Take the lock: two stores in one file would overwrite each other's data."""
        try:
            holder = self._lock.take()
        except OSError as error:
            raise self._failed(error) from None
        if holder is not None:
            raise self._in_use(holder)

    def _in_use(self, holder: LockHolder) -> OSError:
        return OSError(
            f"store {self.store!r}: {self.path} is in use by another store ({holder}). Give each store a file of its "
            f"own."
        )

    def _check(self, connection: sqlite3.Connection) -> None:
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if (application, version) == (APPLICATION, VERSION):
            self._check_columns(connection)
            return
        if tables or application:
            whose = f"has version {version}" if application == APPLICATION else "is the database of another program"
            raise OSError(
                f"store {self.store!r}: {self.path} {whose}; expected a store's file of version {VERSION}. Choose "
                f"another file."
            )
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("CREATE TABLE entries (key TEXT PRIMARY KEY, value, ends REAL) WITHOUT ROWID")
        connection.execute(f"PRAGMA application_id={APPLICATION}")
        connection.execute(f"PRAGMA user_version={VERSION}")
        connection.execute("COMMIT")

    def _check_columns(self, connection: sqlite3.Connection) -> None:
        columns = [row[1] for row in connection.execute("PRAGMA table_info(entries)")]
        if columns != COLUMNS:
            found = f"a table 'entries' with the columns {', '.join(columns)}" if columns else "no table 'entries'"
            raise sqlite3.DatabaseError(
                f"it is marked as the file of a store and has {found}; expected one with {', '.join(COLUMNS)}"
            )

    def _is_disk_full(self) -> bool:
        """Return True if there is no room for what SQLite needs next to a database: it does not report that."""
        with contextlib.suppress(OSError):
            found = os.statvfs(os.path.dirname(self.path) or ".")
            return found.f_bavail * found.f_frsize < LEAST_ROOM
        return False

    @contextlib.contextmanager
    def _told(self, what: str) -> Generator[None]:
        try:
            yield
        except sqlite3.Error as error:
            text = f"store {self.store!r}: {self.path} {what}: {error}."
            if "I/O error" in text and self._is_disk_full():
                text += " Its disk is full: free some space. Writing is retried."
            if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY:  # our own errors have none
                raise OSError(BUSY, text) from error
            if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError):
                text += " The file is damaged: put a backup in its place, or move it away to begin with an empty store."
            raise OSError(text) from error
