"""The file of the jobs: what is in it, what is refused, and what happens on a full disk."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from mob.core.job_rows import DEAD_KEEP, RAISED, RETURNED, JobChanged, JobEnded, QueueBroken, QueueFull, row_of
from mob.core.jobs import Entry, JobState
from mob.jobs.store import TOGETHER, JobStore
from mob.rim.file_locks import LockHolder
from tests.patience import PATIENCE


class Shelf:
    """A store, and its messages."""

    def __init__(self, path: Path) -> None:
        self.said: list[str] = []
        self.store = JobStore(path, lambda call: call(), self.said.append)

    def open(self, now: float = 1000.0) -> list[Entry]:
        return asyncio.run(self.store.open(now))

    def close(self) -> None:
        asyncio.run(self.store.close())

    def answer(self, ask: Callable[[Callable[..., None]], object]) -> tuple[Any, ...]:
        """Return the answer of the store."""
        answers: list[tuple[Any, ...]] = []
        answered = threading.Event()

        def handle(*answer: Any) -> None:
            answers.append(answer)
            answered.set()

        ask(handle)
        assert answered.wait(PATIENCE)
        return answers[0]

    def put(self, *entries: Entry, body: bytes = b"body") -> Exception | None:
        rows = [row_of(entry, body, 0.0) for entry in entries]
        return self.answer(lambda done: self.store.put(rows, done))[0]

    def write(self, *what: JobChanged | JobEnded) -> None:
        for each in what[:-1]:
            self.store.write(each)
        self.answer(lambda done: self.store.write(what[-1], done))

    def outcome(self, id: str) -> Any:
        value, error = self.answer(lambda done: self.store.outcome(id, done))
        assert error is None
        return value


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "made" / "jobs.db"


@pytest.fixture
def shelf(path: Path) -> Iterator[Shelf]:
    made = Shelf(path)
    yield made
    made.close()


def entry(id: str, **more: Any) -> Entry:
    return Entry(id, **{"role": "back", "target": "foo", "made": 5.0, **more})


def reopened(shelf: Shelf, now: float = 1000.0) -> tuple[Shelf, list[Entry]]:
    shelf.close()
    again = Shelf(shelf.store.path)
    return again, again.open(now)


def test_what_was_stored_is_there_again(shelf: Shelf) -> None:
    assert shelf.open() == []
    kept = [
        entry("a", priority=-3, due=70.5, is_at=True, key="back.foo:k", retries=7, backoff=0.5),
        entry("b", target="", made=6.0),
    ]
    assert shelf.put(*kept) is None
    again, found = reopened(shelf)
    assert found == kept
    assert again.answer(lambda done: again.store.body("a", done)) == (b"body", None)
    assert again.answer(lambda done: again.store.body("no such job", done)) == (None, None)
    again.close()


def test_only_its_user_may_read_it(shelf: Shelf, path: Path) -> None:
    shelf.open()
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("count", [1, 2, 3, TOGETHER - 1, TOGETHER, 2 * TOGETHER + 5])
def test_many_in_one_commit(shelf: Shelf, count: int) -> None:
    shelf.open()
    ids = [f"{n:05}" for n in range(count)]
    assert shelf.put(*map(entry, ids)) is None
    half = ids[: count // 2 + 1]
    shelf.write(*(JobEnded(id, 7.0, RETURNED, id.encode()) for id in half))
    assert [shelf.outcome(id) for id in (half[0], half[-1])] == [
        (RETURNED, each.encode()) for each in (half[0], half[-1])
    ]
    again, found = reopened(shelf)
    assert [each.id for each in found] == ids[len(half) :]
    again.close()


def test_one_that_is_stored_twice_stays_as_it_was(shelf: Shelf) -> None:
    shelf.open()
    shelf.put(entry("a", priority=1))
    assert shelf.put(entry("a", priority=2)) is None
    again, found = reopened(shelf)
    assert [each.priority for each in found] == [1]
    again.close()


def test_what_has_changed_is_written_and_the_last_word_counts(shelf: Shelf) -> None:
    shelf.open()
    job = entry("a")
    shelf.put(job)
    job.attempts, job.failures, job.deaths, job.due = 3, 1, 1, 99.0
    first = JobChanged.of(job, 0.0)
    job.attempts = 4
    shelf.write(first, JobChanged.of(job, 0.5))
    again, (found,) = reopened(shelf)
    assert (found.attempts, found.failures, found.deaths, found.due) == (4, 1, 1, 99.5)
    again.close()


def test_a_dead_one_is_kept_with_what_it_has_died_of(shelf: Shelf) -> None:
    shelf.open()
    job = entry("a", due=1000.0)
    shelf.put(job, entry("b"))
    shelf.write(JobChanged.of(job, 0.0, b"failure"))
    assert shelf.outcome("a") == (RAISED, b"failure")
    assert shelf.outcome("b") is None
    assert shelf.answer(lambda done: shelf.store.failures(["a", "b"], done)) == ({"a": b"failure"}, None)
    again, found = reopened(shelf)
    assert [(each.id, each.state) for each in found] == [("a", JobState.DEAD), ("b", JobState.WAITING)]
    again, found = reopened(again, 1000.0 + DEAD_KEEP + 1)
    assert [each.id for each in found] == ["b"]
    again.close()


def test_outcomes_are_forgotten_when_they_are_old(shelf: Shelf) -> None:
    shelf.open()
    shelf.put(entry("a"), entry("b"), entry("c"))
    shelf.write(JobEnded("a", 100.0, RETURNED, b"1"), JobEnded("b", 200.0, RETURNED, b"2"), JobEnded("c", None))
    assert shelf.outcome("c") is None
    shelf.put(entry("dead"), entry("dead too"))
    shelf.write(*(JobChanged.of(entry(id), 0.0, b"failure") for id in ("dead", "dead too")))
    shelf.store.purge(250.0, 100.0, ["dead"])
    assert shelf.outcome("a") is None
    assert shelf.outcome("b") == (RETURNED, b"2")
    assert shelf.outcome("dead") is None
    assert shelf.outcome("dead too") == (RAISED, b"failure")


@pytest.mark.parametrize("unfit", [{"priority": 2**63}, {"key": "\ud800"}, {"retries": [1]}])
def test_what_no_row_can_hold_is_refused_and_the_next_is_stored(shelf: Shelf, unfit: dict[str, Any]) -> None:
    shelf.open()
    refused = shelf.put(entry("a", **unfit))
    assert isinstance(refused, QueueFull)
    assert "cannot store this" in str(refused)
    assert shelf.put(entry("b")) is None
    assert shelf.said == []
    assert [each.id for each in reopened(shelf)[1]] == ["b"]


@pytest.mark.parametrize("change", ["priority = 'x'", "due = 'soon'", "retries = NULL", "is_at = 7"])
def test_a_row_that_makes_no_sense_is_damage(shelf: Shelf, path: Path, change: str) -> None:
    shelf.open()
    shelf.put(entry("a"), entry("b", is_at=True))
    shelf.close()
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.execute(f"UPDATE jobs SET {change} WHERE id = 'b'")
    other = Shelf(path)
    with pytest.raises(QueueBroken, match=r"is damaged: the row of job 'b' is invalid: Expected .*\.recover"):
        other.open()
    other.close()


def test_a_second_keeper_waits_until_the_first_has_ended(shelf: Shelf, path: Path) -> None:
    shelf.open()
    assert shelf.put(entry("a")) is None
    held: list[LockHolder] = []

    async def open_another() -> list[Entry]:
        def end_first(holder: LockHolder) -> None:
            held.append(holder)
            asyncio.get_running_loop().call_soon(threading.Thread(target=shelf.close).start)

        other = JobStore(path, lambda call: call(), print, end_first, "shop")
        found = await other.open(1000.0)
        await other.close()
        return found

    assert [each.id for each in asyncio.run(open_another())] == ["a"]
    assert held == [LockHolder(os.getpid(), "")]


def test_a_file_that_a_program_for_databases_has_is_refused(
    shelf: Shelf, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mob.jobs.store.BUSY_TIMEOUT", 0.01)
    path.parent.mkdir()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(QueueBroken, match=r"is used by another process that does not hold its lock"):
            shelf.open()


def test_a_file_of_another_program_is_left_alone(shelf: Shelf, path: Path) -> None:
    path.parent.mkdir()
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE mine (a)")
    before = path.read_bytes()
    with pytest.raises(QueueBroken, match=r"is not a job queue of mob\. Choose another path\."):
        shelf.open()
    error = shelf.put(entry("a"))
    assert isinstance(error, QueueBroken)
    assert shelf.answer(lambda done: shelf.store.outcome("a", done)) == (None, error)
    shelf.close()
    assert path.read_bytes() == before


def test_a_file_of_a_later_version_is_left_alone(shelf: Shelf, path: Path) -> None:
    shelf.open()
    shelf.close()
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 99")
    other = Shelf(path)
    with pytest.raises(QueueBroken, match=r"its tables have version 99, and this one needs 1"):
        other.open()
    other.close()


def damage(path: Path, at: Sequence[int]) -> None:
    data = bytearray(path.read_bytes())
    for start in at:
        data[start : start + 512] = b"\xff" * 512
    path.write_bytes(data)


@pytest.mark.parametrize("at", [[0], [4096, 8192, 12288]])
def test_a_damaged_file_is_named_and_not_touched(shelf: Shelf, path: Path, at: list[int]) -> None:
    shelf.open()
    shelf.put(*(entry(str(n)) for n in range(500)))
    shelf.close()
    damage(path, at)
    before = path.read_bytes()
    other = Shelf(path)
    with pytest.raises(QueueBroken) as caught:
        other.open()
    assert f"the file of the queue, {path}, is damaged: " in str(caught.value)
    assert f"sqlite3 {path} .recover" in str(caught.value)
    assert isinstance(other.put(entry("x")), QueueBroken)
    other.close()
    assert path.read_bytes() == before


@pytest.mark.parametrize("table", ["jobs", "ended"])
def test_a_file_without_its_tables_is_damaged(shelf: Shelf, path: Path, table: str) -> None:
    shelf.open()
    shelf.close()
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.execute(f"DROP TABLE {table}")
    other = Shelf(path)
    text = rf"is damaged: it is marked as the file of a queue and has no table '{table}'\. Nothing was changed"
    with pytest.raises(QueueBroken, match=text):
        other.open()
    other.close()


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    other = Shelf(tmp_path / "file" / "jobs.db")
    with pytest.raises(QueueBroken, match=r"cannot be used: .*File exists"):
        other.open()
    other.close()


def limit(shelf: Shelf, pages: int) -> None:
    """Set whether its disk is full."""

    def ask(done: Callable[..., None]) -> None:
        from mob.jobs.store import _Ask

        shelf.store._line.put(_Ask(lambda db: db.execute(f"PRAGMA max_page_count = {pages}").fetchone(), done))

    shelf.answer(ask)


def test_on_a_full_disk_new_jobs_are_refused_and_what_has_ended_is_written_later(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mob.jobs.store.RETRY", 0.02)
    shelf.open()
    assert shelf.put(entry("a"), entry("b")) is None
    limit(shelf, 1)
    error = shelf.put(entry("c"), body=b"x" * 100_000)
    assert isinstance(error, QueueFull)
    path = shelf.store.path
    assert str(error) == (
        f"the queue {path} cannot be written: database or disk is full. Nothing was stored. Free some space on "
        f"its disk; the queue continues by itself."
    )
    written = threading.Event()
    shelf.store.write(JobEnded("a", 7.0, RETURNED, b"y" * 100_000), written.set)
    assert shelf.outcome("a") is None
    assert not written.is_set()
    limit(shelf, 1_000_000)
    assert written.wait(PATIENCE)
    assert shelf.outcome("a") == (RETURNED, b"y" * 100_000)
    assert shelf.put(entry("c"), body=b"x" * 100_000) is None
    full = f"the queue {path} cannot be written: database or disk is full."
    assert shelf.said == [
        f"{full} New jobs are refused; results are written as soon as that is possible.",
        f"the queue {path} can be written again.",
    ]
    again, found = reopened(shelf)
    assert sorted(each.id for each in found) == ["b", "c"]
    again.close()


def test_new_jobs_that_are_too_much_do_not_hold_up_what_has_ended(shelf: Shelf) -> None:
    shelf.open()
    shelf.put(entry("a"))
    limit(shelf, 1)
    refused: list[Exception | None] = []
    gate = threading.Event()

    def block(done: Callable[..., None]) -> None:
        from mob.jobs.store import _Ask

        shelf.store._line.put(_Ask(lambda db: gate.wait(PATIENCE), done))

    def all_of_it(done: Callable[..., None]) -> None:
        block(lambda *_: None)
        shelf.store.put([row_of(entry("c"), b"x" * 100_000, 0.0)], refused.append)
        shelf.store.write(JobEnded("a", None), done)
        gate.set()

    shelf.answer(all_of_it)
    assert [type(each) for each in refused] == [QueueFull]
    again, found = reopened(shelf)
    assert found == []
    again.close()


def test_how_it_is_shown(shelf: Shelf, path: Path) -> None:
    assert repr(shelf.store) == f"<Store {path}>"
    path.parent.mkdir()
    path.write_text("no database at all, but long enough to be taken for one " * 100)
    with pytest.raises(QueueBroken):
        shelf.open()
    assert repr(shelf.store) == f"<Store {path}, broken>"
