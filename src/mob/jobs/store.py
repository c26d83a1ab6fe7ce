"""The file of durable jobs: SQLite, written by one thread, many jobs in one commit.

Strategy. Changes are put into a queue, and the thread takes everything in it: it is written in one transaction, and the
askers are answered only when that is on the disk (WAL, synchronous=FULL). While one commit is under way the next one
gathers, so the more there is to do, the less a job costs. A statement writes many rows, because each statement costs a
change of threads.

A transaction that fails is rolled back as a whole. Its new jobs are refused to their senders; outcomes of jobs are
written again, as soon as there is space. A file that is damaged, or of another program, is left as it is: from then on
everything is refused, with a text that says what to do. A file that was deleted while the app runs is written again
completely before anything is answered.

No second keeper can have the file: PATH.lock is held as long as it is open. A keeper that starts while the previous one
still ends, or while another app has the file, waits for it.

Limits. Knows columns, and nothing of their contents. The connection belongs to this thread.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

import msgspec

from mob.core.job_rows import (
    DEAD_KEEP,
    RAISED,
    Answered,
    FileRow,
    JobChanged,
    JobEnded,
    Outcome,
    QueueBroken,
    QueueFull,
    Stored,
)
from mob.core.jobs import Entry, JobState
from mob.rim.database_files import DatabaseFile
from mob.rim.file_locks import FileLock, LockHolder

VERSION = 1
"""Version of the tables; the file has it as its user_version."""
APPLICATION = 0x6D6F626A
"""The application_id of the file: "mobj"."""
TOGETHER = 512
"""Maximum number of rows of one statement; a power of two."""
RETRY = 1.0
"""Seconds until a failed write is repeated."""
BUSY_TIMEOUT = 5.0
"""Seconds that another program (such as the command `sqlite3`) may take to release the file."""
JOBS = """CREATE TABLE jobs (id TEXT PRIMARY KEY, role TEXT, target TEXT, priority INT, due REAL, is_at INT, key TEXT,
retries INT, backoff REAL, attempts INT, failures INT, deaths INT, made REAL, state TEXT, body BLOB, outcome BLOB)
WITHOUT ROWID"""
ENDED = "CREATE TABLE ended (id TEXT PRIMARY KEY, at REAL, how INT, value BLOB) WITHOUT ROWID"
INDEX = "CREATE INDEX ended_at ON ended (at)"
COLUMNS = 16
FIELDS = "id, role, target, priority, due, is_at, key, retries, backoff, attempts, failures, deaths, made, state"

_Fields = tuple[str, str, str, int, float, bool, str, int, float, int, int, int, float]
"""The types of these fields, without the state; SQLite does not check types."""


class _Put(NamedTuple):
    rows: Sequence[FileRow]
    done: Stored


class _Write(NamedTuple):
    what: JobChanged | JobEnded
    done: Callable[[], None] | None


class _Ask(NamedTuple):
    question: Callable[[sqlite3.Connection], Any]
    done: Answered | None


_Work = _Put | _Write | _Ask


class JobStore:
    """The file of an app's jobs.

    Args:
        path: of the file.
        deliver: called with a function that gives the answers of one commit; on the store's own thread.
        say: called with messages about the file; on the store's own thread.
        is_held: called while the file is opened, if another process has it, for which the store waits then.
        owner: the app.
    """

    most: int = 2**31 - 1
    """Maximum bytes of a job; SQLite itself refuses what it cannot store."""

    def __init__(
        self,
        path: Path,
        deliver: Callable[[Callable[[], None]], None],
        say: Callable[[str], None],
        is_held: Callable[[LockHolder], None] = lambda holder: None,
        owner: str = "",
    ) -> None:
        self.path = path
        self._is_held = is_held
        self._lock = FileLock(path, owner)
        self._deliver = deliver
        self._say = say
        self._answers: list[Callable[[], object]] = []
        self._line: SimpleQueue[_Work | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="mob-queue", daemon=True)
        self._unwritten: list[_Write] = []  # of transactions that failed
        self._broken: QueueBroken | None = None
        self._is_full = False
        self._db: sqlite3.Connection | None = None
        self._file: DatabaseFile | None = None

    def __repr__(self) -> str:
        return f"<Store {self.path}{', broken' if self._broken else ''}>"

    # ------------------------------------------------------------------------------------------ for the keeper

    async def open(self, now: float) -> list[Entry]:
        """Open the file as soon as no other process has it, or make it; return the jobs in it.

        Raise `QueueBroken` if it cannot be used. `now`: by the wall clock, to remove what was kept long enough.
        """
        error: OSError | None = None
        try:
            holder = await asyncio.to_thread(self._take_lock)
            if holder is not None:
                self._is_held(holder)
                await self._lock.wait()
        except OSError as raised:
            error = raised
        return await asyncio.to_thread(self._open, now, error)

    def _take_lock(self) -> LockHolder | None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        return self._lock.take()

    def _open(self, now: float, unusable: OSError | None) -> list[Entry]:
        found: list[Entry] = []
        try:
            if unusable is not None:
                raise unusable
            self._db = self._connect()
            with suppress(sqlite3.OperationalError):  # the disk may be full
                self._db.execute("DELETE FROM jobs WHERE state = 'dead' AND due < ?", (now - DEAD_KEEP,))
            found = self._read(self._db)
        except (sqlite3.Error, OSError) as error:
            self._broken = self._why_broken(error)
        except QueueBroken as error:
            self._broken = error
        self._thread.start()
        if self._broken is not None:
            raise self._broken
        return found

    def put(self, rows: Sequence[FileRow], done: Stored) -> None:
        """Store new jobs; `done` gets None when all of them are on the disk, or the error if none is."""
        self._line.put(_Put(rows, done))

    def write(self, what: JobChanged | JobEnded, done: Callable[[], None] | None = None) -> None:
        """Write a change of a job; `done` is called when it is on the disk, however long that takes."""
        self._line.put(_Write(what, done))

    def body(self, id: str, done: Answered) -> None:
        """Read the body of a job."""

        def ask(db: sqlite3.Connection) -> bytes | None:
            return _one(db, "SELECT body FROM jobs WHERE id = ?", id)

        self._line.put(_Ask(ask, done))

    def outcome(self, id: str, done: Answered) -> None:
        """Read the `Outcome` of a job; for a dead one, its failure; None if nothing is known of it."""

        def ask(db: sqlite3.Connection) -> Outcome | None:
            found = db.execute("SELECT how, value FROM ended WHERE id = ?", (id,)).fetchone()
            if found is not None:
                return found[0], found[1]
            failure = _one(db, "SELECT outcome FROM jobs WHERE id = ? AND state = 'dead'", id)
            return None if failure is None else (RAISED, failure)

        self._line.put(_Ask(ask, done))

    def failures(self, ids: Sequence[str], done: Answered) -> None:
        """Read the failures of dead jobs, by id."""

        def ask(db: sqlite3.Connection) -> dict[str, bytes]:
            found = (_one(db, "SELECT outcome FROM jobs WHERE id = ?", id) for id in ids)
            return {id: failure for id, failure in zip(ids, found, strict=True) if failure is not None}

        self._line.put(_Ask(ask, done))

    def purge(self, now: float, keep: float, dead: Sequence[str]) -> None:
        """Delete outcomes that are older than `keep` seconds, and these dead jobs."""

        def ask(db: sqlite3.Connection) -> None:
            db.execute("DELETE FROM ended WHERE at < ?", (now - keep,))
            _delete(db, dead)

        self._line.put(_Ask(ask, None))

    async def close(self) -> None:
        """Write what is in the queue, and close the file."""
        self._line.put(None)
        if self._thread.ident is not None:
            await asyncio.to_thread(self._thread.join)
        self._lock.release()

    # ---------------------------------------------------------------------------------------------- opening

    def _connect(self) -> sqlite3.Connection:
        if (holder := self._take_lock()) is not None:  # the lock's file was deleted, too, and another app was faster
            raise QueueBroken(f"the file of the queue, {self.path}, is used by another process ({holder}).")
        if not self.path.exists():
            self.path.touch(0o600)
        db = sqlite3.connect(self.path, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False)
        try:
            db.execute("PRAGMA locking_mode = EXCLUSIVE")
            is_new = self._check(db)  # nothing is written before that
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")
            db.execute("BEGIN IMMEDIATE")
            if is_new:
                for statement in (JOBS, ENDED, INDEX):
                    db.execute(statement)
                db.execute(f"PRAGMA application_id = {APPLICATION}")
                db.execute(f"PRAGMA user_version = {VERSION}")
            db.execute("COMMIT")
            self._file = DatabaseFile(self.path)
        except BaseException:
            db.close()
            raise
        return db

    def _check(self, db: sqlite3.Connection) -> bool:
        """Return True if the file is a new one. Otherwise check if its tables are intact, and mob's."""
        (version,) = db.execute("PRAGMA user_version").fetchone()
        (whose,) = db.execute("PRAGMA application_id").fetchone()
        tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master")}
        if not tables and not version:
            return True
        if whose != APPLICATION:
            raise QueueBroken(f"the file {self.path} is not a job queue of mob. Choose another path.")
        if version != VERSION:
            raise QueueBroken(
                f"the file {self.path} is of another version of mob (its tables have version {version}, and this one "
                f"needs {VERSION}). Use that version, or choose another path."
            )
        (found,) = db.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise sqlite3.DatabaseError(found)
        if missing := {"jobs", "ended"} - tables:
            raise sqlite3.DatabaseError(f"it is marked as the file of a queue and has no table {min(missing)!r}")
        return False

    def _read(self, db: sqlite3.Connection) -> list[Entry]:
        entries: list[Entry] = []
        for row in db.execute(f"SELECT {FIELDS} FROM jobs ORDER BY made, id"):
            *values, state = row
            try:
                values = msgspec.convert(values, _Fields, strict=False)
            except msgspec.ValidationError as error:
                raise sqlite3.DatabaseError(f"the row of job {row[0]!r} is invalid: {error}") from None
            entry = Entry(*values, state=JobState.DEAD if state == "dead" else JobState.WAITING)
            entries.append(entry)
        return entries

    def _why_broken(self, error: Exception) -> QueueBroken:
        text = str(error)
        if "locked" in text:
            what = "is used by another process that does not hold its lock. Is it open in a database program?"
        elif isinstance(error, sqlite3.OperationalError | OSError):
            what = f"cannot be used: {text}."
        else:
            what = (
                f"is damaged: {text}. Nothing was changed in it. Stop the app, and save what can be read: "
                f"sqlite3 {self.path} .recover | sqlite3 {self.path}.new. Then move the new file to its place, or just "
                f"move the damaged one away, to begin with no jobs."
            )
        broken = QueueBroken(f"the file of the queue, {self.path}, {what}")
        broken.__cause__ = error
        return broken

    # ---------------------------------------------------------------------------------------------- writing

    def _work(self) -> None:
        """Run the thread until `close`."""
        while True:
            taken = self._take()
            self._handle([each for each in taken if each is not None])
            if taken[-1] is None:
                self._finish()
                return

    def _take(self) -> list[_Work | None]:
        """Wait for something to do; return everything that there is."""
        taken: list[_Work | None] = []
        with suppress(Empty):
            taken.append(self._line.get(timeout=RETRY if self._unwritten and self._broken is None else None))
            while taken[-1] is not None:
                taken.append(self._line.get_nowait())
        return taken or [_Ask(_nothing, None)]  # the time is up: retry what could not be written

    def _handle(self, work: Sequence[_Work]) -> None:
        puts = [each for each in work if isinstance(each, _Put)]
        writes = self._unwritten + [each for each in work if isinstance(each, _Write)]
        self._unwritten = writes  # until they are written
        if puts or writes:
            self._commit(puts, writes)
        for each in work:
            if isinstance(each, _Ask):
                self._answer(each)
        if self._answers:
            answers, self._answers = self._answers, []
            self._deliver(partial(_call_all, answers))

    def _commit(self, puts: Sequence[_Put], writes: list[_Write]) -> None:
        error = self._try_to_write([row for put in puts for row in put.rows], writes)
        if error is not None and puts and writes and self._broken is None:  # perhaps only the new jobs are too much
            puts_error, error = error, self._try_to_write([], writes)
        else:
            puts_error = error
        self._answers += [partial(put.done, puts_error) for put in puts]
        if error is None:
            self._unwritten = []
            self._answers += [write.done for write in writes if write.done is not None]

    def _try_to_write(self, rows: Sequence[FileRow], writes: Sequence[_Write]) -> Exception | None:
        """Write everything in one transaction, or nothing; return why nothing was written."""
        if self._broken is not None:
            return self._broken
        is_committed = False
        db = self._db
        assert db is not None
        try:
            db = self._look_at_file(db)
            db.execute("BEGIN")
            _insert(db, "OR IGNORE INTO jobs", rows, COLUMNS)
            _change(db, [each.what for each in writes])
            db.execute("COMMIT")
            is_committed = True
            self._look_at_file(db)
        except Exception as error:  # noqa: BLE001  the thread continues, because others wait for it too
            with suppress(sqlite3.Error):
                if is_committed:  # to a file that is no longer at its path
                    _delete(db, [row[0] for row in rows])
                else:
                    db.execute("ROLLBACK")
            return self._handle_error(error)
        if self._is_full:
            self._is_full = False
            self._say(f"the queue {self.path} can be written again.")
        return None

    def _look_at_file(self, db: sqlite3.Connection) -> sqlite3.Connection:
        """Return the connection, or another one if the file was deleted: then write everything to a new one."""
        assert self._file is not None
        if self._file.is_in_place():
            return db
        self._file.put_back(db)
        try:
            self._db = self._connect()
        except (sqlite3.Error, OSError) as error:
            self._broken = self._why_broken(error)
            raise self._broken from None
        except QueueBroken as error:
            self._broken = error
            raise
        self._say(
            f"the file of the queue, {self.path}, was deleted while the app was running. All jobs were written to a "
            f"new one. To remove jobs use `mob jobs drop`, or delete the file while the app is stopped."
        )
        return self._db

    def _handle_error(self, error: Exception) -> Exception:
        if isinstance(error, QueueBroken):
            return error
        if isinstance(error, OSError):
            return self._handle_full(f"the queue {self.path} cannot be written: {error}", "Nothing was stored.")
        if not isinstance(error, sqlite3.Error) or isinstance(error, sqlite3.InterfaceError | sqlite3.ProgrammingError):
            return QueueFull(f"the queue {self.path} cannot store this: {error}. Nothing was stored.")
        if isinstance(error, sqlite3.OperationalError | sqlite3.IntegrityError | sqlite3.DataError):
            advice = "Nothing was stored. Free some space on its disk; the queue continues by itself."
            return self._handle_full(f"the queue {self.path} cannot be written: {error}.", advice)
        self._broken = self._why_broken(error)
        self._say(str(self._broken))
        return self._broken

    def _handle_full(self, text: str, advice: str) -> QueueFull:
        """Report that the file cannot be written for now."""
        if not self._is_full:
            self._is_full = True
            self._say(f"{text} New jobs are refused; results are written as soon as that is possible.")
        return QueueFull(f"{text} {advice}")

    def _answer(self, ask: _Ask) -> None:
        value, error = None, self._broken
        if error is None and self._db is not None:
            try:
                value = ask.question(self._db)
            except Exception as raised:  # noqa: BLE001  as above
                error = self._handle_error(raised)
        if ask.done is not None:
            self._answers.append(partial(ask.done, value, error))

    def _finish(self) -> None:
        """Write the last changes. The next keeper repeats what cannot be written now."""
        if self._db is None:
            return
        if self._broken is None:
            self._commit([], self._unwritten)  # and look at the file
        with suppress(sqlite3.Error):
            self._db.close()


def _call_all(answers: Sequence[Callable[[], object]]) -> None:
    for answer in answers:
        answer()


def _nothing(db: sqlite3.Connection) -> None:
    """Ask nothing."""


def _one(db: sqlite3.Connection, statement: str, *values: Any) -> Any:
    found = db.execute(statement, values).fetchone()
    return None if found is None else found[0]


def _insert(db: sqlite3.Connection, into: str, rows: Sequence[FileRow], columns: int) -> None:
    """Insert many rows by statements whose sizes are powers of two, so that few statements are compiled."""
    at, size = 0, TOGETHER
    while at < len(rows):
        while size > len(rows) - at:
            size >>= 1
        marks = f"({', '.join('?' * columns)})"
        values = [value for row in rows[at : at + size] for value in row]
        db.execute(f"INSERT {into} VALUES {', '.join([marks] * size)}", values)
        at += size


def _delete(db: sqlite3.Connection, ids: Sequence[str]) -> None:
    at, size = 0, TOGETHER
    while at < len(ids):
        while size > len(ids) - at:
            size >>= 1
        db.execute(f"DELETE FROM jobs WHERE id IN ({', '.join('?' * size)})", list(ids[at : at + size]))
        at += size


def _change(db: sqlite3.Connection, changes: Sequence[JobChanged | JobEnded]) -> None:
    """Write the last change of each job."""
    last = {each.id: each for each in changes}
    ended = [each for each in last.values() if isinstance(each, JobEnded)]
    _insert(
        db,
        "OR REPLACE INTO ended",
        [(each.id, each.at, each.how, each.value) for each in ended if each.at is not None],
        4,
    )
    _delete(db, [each.id for each in ended])
    changed = [each for each in last.values() if isinstance(each, JobChanged)]
    if changed:
        db.executemany(
            "UPDATE jobs SET due = ?, is_at = ?, attempts = ?, failures = ?, deaths = ?, state = ?, outcome = ? "
            "WHERE id = ?",
            [each.values for each in changed],
        )
