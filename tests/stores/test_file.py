"""The file of a store: its contents after a restart, and the errors about files that cannot be used."""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from math import inf, isnan, nan
from pathlib import Path

import pytest

from mob.stores import file as module
from mob.stores.file import StoreFile


def opened(path: Path) -> StoreFile:
    file = StoreFile("cache", str(path))
    file.open()
    return file


def test_what_was_written_is_there_when_it_is_opened_again(tmp_path: Path) -> None:
    file = opened(tmp_path / "store.db")
    rows = [("a", b"\0x", inf), ("b\0", 5, 99.5), ("c", -1.5, inf), ("d", nan, inf), ("e", 2**63 - 1, inf)]
    file.write(rows)
    file.write([("a", b"other", 5.0), ("c", None, 0.0), ("missing", None, 0.0)])
    file.close()
    file = opened(tmp_path / "store.db")
    found = {row[0]: row for row in file.rows()}
    assert isnan(found.pop("d")[1])  # type: ignore[arg-type]
    assert sorted(found.values()) == [("a", b"other", 5.0), ("b\0", 5, 99.5), ("e", 2**63 - 1, inf)]
    assert "store.db" in repr(file)
    file.close()
    assert sorted(os.listdir(tmp_path)) == ["store.db", "store.db.lock"]


def test_a_group_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    file = opened(tmp_path / "store.db")
    with pytest.raises(OverflowError):
        file.write([("a", 1, inf), ("b", 2**70, inf)])
    assert list(file.rows()) == []
    file.write([("a", 1, inf)])
    assert list(file.rows()) == [("a", 1, inf)]
    file.close()
    with pytest.raises(OSError, match=r"^store 'cache': .*store\.db is closed\.$"):
        file.write([("a", 1, inf)])


@pytest.mark.parametrize("change", ["key = x'ff'", "value = 'text'", "ends = 'soon'"])
def test_a_row_that_makes_no_sense_is_damage(tmp_path: Path, change: str) -> None:
    file = opened(tmp_path / "store.db")
    file.write([("a", 1, inf)])
    file.close()
    with contextlib.closing(sqlite3.connect(tmp_path / "store.db")) as db, db:
        db.execute(f"UPDATE entries SET {change}")
    file = opened(tmp_path / "store.db")
    with pytest.raises(OSError, match=r"cannot be read: the row of .* is invalid\. The file is damaged"):
        list(file.rows())
    file.close()


def test_a_file_that_another_process_has_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    script = (
        f"from mob.stores.file import StoreFile; file = StoreFile('x', {str(path)!r}); "
        f"file.open(); print(1, flush=True); input()"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(
            OSError, match=rf"store\.db is in use by another store \(pid {other.pid}\)\. Give each store"
        ):
            opened(path)
        other.kill()
        other.wait()
        opened(path).close()


@pytest.mark.parametrize("content", [b"this is no database" * 100, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_damaged_file_is_refused_and_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "store.db"
    path.write_bytes(content)
    with pytest.raises(
        OSError, match=r"^store 'cache': .*store\.db cannot be opened: .*\. The file is damaged: put a b"
    ):
        opened(path)
    assert path.read_bytes() == content


def test_damage_within_the_file_is_found_when_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    file = opened(path)
    file.write([(str(number), bytes(500), inf) for number in range(1000)])
    file.close()
    with path.open("r+b") as raw:
        raw.seek(4096 * 20)
        raw.write(b"\xff" * 4096 * 20)
    file = opened(path)
    with pytest.raises(OSError, match=r"cannot be read: .* The file is damaged"):
        list(file.rows())
    file.close()


def test_the_database_of_another_program_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE mine (x)")
    other.close()
    with pytest.raises(
        OSError, match=r"other\.db is the database of another program; expected a store's file of version 1"
    ):
        opened(path)
    later = tmp_path / "later.db"
    opened(later).close()
    with sqlite3.connect(later) as other:
        other.execute("PRAGMA user_version=2")
    other.close()
    with pytest.raises(OSError, match=r"later\.db has version 2; expected a store's file of version 1"):
        opened(later)


def test_a_directory_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"^\[Errno 2\] store 'cache': .*cannot be opened: No such file or directory\."):
        opened(tmp_path / "missing" / "store.db")


def test_the_file_is_its_owners_unless_it_was_there_before(tmp_path: Path) -> None:
    path, shared = tmp_path / "store.db", tmp_path / "shared.db"
    shared.touch()
    shared.chmod(0o664)
    for each, mode in (path, 0o600), (shared, 0o664):
        made = opened(each)
        made.write([("a", 1, inf)])
        assert {file.stat().st_mode & 0o777 for file in tmp_path.glob(f"{each.name}*") if file.suffix != ".lock"} == {
            mode
        }
        made.close()


def test_a_worker_in_the_same_process_takes_the_file_over(tmp_path: Path) -> None:
    first = opened(tmp_path / "store.db")
    second = opened(tmp_path / "store.db")
    second.write([("a", 1, inf)])
    with pytest.raises(OSError, match="is closed"):
        first.write([("a", 2, inf)])
    first.close()
    second.close()


def test_a_long_log_is_brought_into_the_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_LOGGED", 100_000)
    file = opened(tmp_path / "store.db")
    assert not file.is_to_settle
    for number in range(50):
        file.write([(str(number), bytes(3000), inf)])
    assert file.is_to_settle
    file.settle()
    assert not file.is_to_settle
    assert len(list(file.rows())) == 50
    file.close()


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ("DROP TABLE entries", "no table 'entries'"),
        ("ALTER TABLE entries DROP COLUMN ends", "a table 'entries' with the columns key, value"),
        ("ALTER TABLE entries ADD COLUMN more", "a table 'entries' with the columns key, value, ends, more"),
    ],
)
def test_a_file_without_its_table_says_what_it_has(tmp_path: Path, change: str, found: str) -> None:
    path = tmp_path / "store.db"
    opened(path).close()
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.execute(change)
    text = (
        f"store 'cache': {path} cannot be opened: it is marked as the file of a store and has {found}; expected one "
        f"with key, value, ends. The file is damaged: put a backup in its place, or move it away to begin with an "
        f"empty store."
    )
    with pytest.raises(OSError, match=f"^{re.escape(text)}$"):
        opened(path)


def test_an_empty_file_becomes_a_store(tmp_path: Path) -> None:
    (tmp_path / "store.db").touch()
    with contextlib.closing(sqlite3.connect(tmp_path / "empty.db")) as db, db:
        db.execute("CREATE TABLE mine (x)")
        db.execute("DROP TABLE mine")
    for name in ("store.db", "empty.db"):
        file = opened(tmp_path / name)
        file.write([("a", 1, inf)])
        file.close()
        file = opened(tmp_path / name)
        assert list(file.rows()) == [("a", 1, inf)]
        file.close()


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    directory, pipe, dangling = tmp_path / "directory", tmp_path / "pipe", tmp_path / "dangling"
    directory.mkdir()
    os.mkfifo(pipe)
    dangling.symlink_to(tmp_path / "missing" / "store.db")
    with pytest.raises(
        OSError, match=r"^store 'cache': .*directory is a directory\. Give the path of a file in file=\.$"
    ):
        opened(directory)
    with pytest.raises(
        OSError, match=r"^store 'cache': .*pipe is not a regular file\. Give the path of a file in file=\.$"
    ):
        opened(pipe)
    with pytest.raises(
        OSError, match=r"^\[Errno 2\] store 'cache': .*dangling cannot be opened: No such file or directory\.$"
    ):
        opened(dangling)
    assert sorted(os.listdir(tmp_path)) == ["dangling", "dangling.lock", "directory", "pipe"]


@pytest.mark.parametrize("what", ["file", "directory"])
def test_a_file_that_may_not_be_written_is_refused_before_anything_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.chdir(tmp_path)  # others cannot reach it by its whole path
    path = Path("store.db")
    opened(path).close()
    path.chmod(0o444 if what == "file" else 0o666)
    tmp_path.chmod(0o777 if what == "file" else 0o555)
    may = "write it" if what == "file" else "make files in its directory"
    with pytest.raises(PermissionError, match=rf"^\[Errno 13\] store 'cache': .* \(uid \d+\) may not {may}, or its"):
        _as_somebody_else(lambda: opened(path))
    tmp_path.chmod(0o777)


def _as_somebody_else(function: Callable[[], object]) -> None:
    """Call a function as a user for whom modes count: root may do anything."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        function()
    finally:
        os.seteuid(before)
