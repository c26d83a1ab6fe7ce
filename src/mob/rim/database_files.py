"""The file of an open SQLite database: checks whether it is still at its path, and puts it back if it is not.

A program continues to write to a file that was deleted or replaced under it, without any error, and everything is lost
when the program ends. So code that promises to keep something checks after each commit. What was written is in the
files that are still open, so all of it can be written to a new one.

Limits. A file whose contents were overwritten in place (`cp other.db jobs.db`) is still the same file. Knows no
tables.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import suppress
from pathlib import Path

LOG = "-wal"
SHARED = "-shm"


class FileReplaced(OSError):
    """Another file is at the path of a database; the text says what to do."""


class DatabaseFile:
    """The files of a database as they were when it was opened: itself and its write-ahead log.

    Args:
        path: Path of the database, which was just opened.
    """

    def __init__(self, path: str | Path) -> None:
        self.path: str = os.path.realpath(path)
        self._log = self.path + LOG
        self._known = _identity(self.path)
        self._known_log = _identity(self._log)
        self._mode = os.stat(self.path).st_mode & 0o777
        self._rescued = ""

    def __repr__(self) -> str:
        return f"<DatabaseFile {self.path}>"

    def is_in_place(self) -> bool:
        """Return True if both files are still at their paths."""
        log = _identity(self._log)
        if self._known_log is None:  # SQLite makes it when it first needs it
            self._known_log = log
        return log == self._known_log and _identity(self.path) == self._known

    def put_back(self, db: sqlite3.Connection) -> None:
        """Write the contents of the database to a new file at its path, and close `db`.

        Raises:
            FileReplaced: Another file is there. It is not touched; the contents are written next to it, once.
            OSError: Impossible for now; or `sqlite3.Error`.
        """
        if _identity(self.path) not in (None, self._known):
            if not self._rescued:
                self._rescued = self._write_beside(db, ".rescued")
            raise FileReplaced(
                f"another file replaced {self.path} while the app was running, and was not touched. The data stored "
                f"before is in {self._rescued}. Move the other file away: then everything is written to a new one. "
                f"Replace files only while the app is stopped."
            )
        os.makedirs(os.path.dirname(self.path), exist_ok=True)
        written = self._write_beside(db, ".new")
        for suffix in (LOG, SHARED):  # they do not belong to the new file
            with suppress(FileNotFoundError):
                os.unlink(self.path + suffix)
        os.replace(written, self.path)
        _sync(os.path.dirname(self.path))
        db.close()

    def _write_beside(self, db: sqlite3.Connection, suffix: str) -> str:
        """Write the contents of the database to a file with that suffix; return its path."""
        path, number = self.path + suffix, 1
        while suffix != ".new" and os.path.exists(path):  # keep an earlier one
            number += 1
            path = f"{self.path}{suffix}-{number}"
        with suppress(FileNotFoundError):
            os.unlink(path)
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, self._mode))
        try:
            db.execute("VACUUM INTO ?", (path,))
            _sync(path)
        except BaseException:
            os.unlink(path)
            raise
        return path


def _identity(path: str) -> tuple[int, int] | None:
    """Return what distinguishes a file from all others; None if there is no file."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _sync(path: str) -> None:
    """Wait until a file, or the names in a directory, are on disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
