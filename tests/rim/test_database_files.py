"""A database whose file is deleted or replaced while it is open."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from mob.rim.database_files import DatabaseFile, FileReplaced


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "kept" / "jobs.db"


@pytest.fixture
def db(path: Path) -> Iterator[sqlite3.Connection]:
    path.parent.mkdir()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as made:
        made.execute("PRAGMA journal_mode = WAL")
        made.execute("PRAGMA user_version = 7")
        made.execute("CREATE TABLE things (name)")
        made.execute("INSERT INTO things VALUES ('old')")
        path.chmod(0o640)
        yield made


def things(path: Path) -> tuple[int, list[str]]:
    with contextlib.closing(sqlite3.connect(path)) as db:
        (version,) = db.execute("PRAGMA user_version").fetchone()
        return version, [name for (name,) in db.execute("SELECT name FROM things")]


def delete(path: Path, what: str) -> None:
    if what == "directory":
        shutil.rmtree(path.parent)
    else:
        os.unlink(f"{path}{what}")


@pytest.mark.parametrize("what", ["", "-wal", "directory"])
def test_all_is_written_to_a_new_file_if_one_was_deleted(path: Path, db: sqlite3.Connection, what: str) -> None:
    file = DatabaseFile(path)
    db.execute("INSERT INTO things VALUES ('before')")
    assert file.is_in_place()
    delete(path, what)
    db.execute("INSERT INTO things VALUES ('after')")
    assert not file.is_in_place()
    file.put_back(db)
    with pytest.raises(sqlite3.ProgrammingError):
        db.execute("SELECT 1")
    assert things(path) == (7, ["old", "before", "after"])
    assert path.stat().st_mode & 0o777 == 0o640
    assert os.listdir(path.parent) == ["jobs.db"]
    assert not file.is_in_place()  # it belongs to the old one
    assert DatabaseFile(path).is_in_place()


def test_a_log_that_comes_later_is_known_from_then_on(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("CREATE TABLE things (name)")
        file = DatabaseFile(path)
        assert file.is_in_place()
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("INSERT INTO things VALUES (1)")
        assert file.is_in_place()
        delete(path, "-wal")
        assert not file.is_in_place()


def test_another_file_in_its_place_is_left_alone(path: Path, db: sqlite3.Connection) -> None:
    file = DatabaseFile(path)
    other = path.with_name("other")
    other.write_text("other")
    (path.parent / "jobs.db.rescued").write_text("earlier")
    other.replace(path)
    for _ in range(2):
        assert not file.is_in_place()
        with pytest.raises(FileReplaced) as caught:
            file.put_back(db)
    rescued = path.with_name("jobs.db.rescued-2")
    assert str(caught.value) == (
        f"another file replaced {path} while the app was running, and was not touched. The data stored before is in "
        f"{rescued}. Move the other file away: then everything is written to a new one. Replace files only while the "
        f"app is stopped."
    )
    assert path.read_text() == "other"
    assert (path.parent / "jobs.db.rescued").read_text() == "earlier"
    assert things(rescued) == (7, ["old"])
    assert not path.with_name("jobs.db.rescued-3").exists()
    db.execute("INSERT INTO things VALUES ('after')")
    path.unlink()
    file.put_back(db)
    assert things(path) == (7, ["old", "after"])


def test_what_cannot_be_written_leaves_the_database_open(path: Path, db: sqlite3.Connection) -> None:
    file = DatabaseFile(path)
    shutil.rmtree(path.parent)
    path.parent.write_text("no directory")
    with pytest.raises(OSError, match="File exists"):
        file.put_back(db)
    path.parent.unlink()
    db.execute("INSERT INTO things VALUES ('after')")
    file.put_back(db)
    assert things(path) == (7, ["old", "after"])


def test_a_symbolic_link_stays_one(path: Path, db: sqlite3.Connection, tmp_path: Path) -> None:
    link = tmp_path / "link.db"
    link.symlink_to(path)
    file = DatabaseFile(link)
    path.unlink()
    file.put_back(db)
    assert link.is_symlink()
    assert things(path) == (7, ["old"])
