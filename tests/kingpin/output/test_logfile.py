"""The log file: rotated at its size, only whole lines, and never an exception while an app runs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mob.errors import PlanError
from mob.kingpin.output import logfile
from mob.kingpin.output.logfile import LogFile
from mob.plan import Logs
from tests.kingpin.disks import disk_of


def open_at(path: Path, max_bytes: int = 100, keep: int = 2) -> LogFile:
    return LogFile(Logs(file=str(path), max_bytes=max_bytes, keep=keep))


def text_of(path: Path, number: int = 0) -> str:
    return Path(f"{path}.{number}" if number else path).read_text()


def test_it_is_put_aside_before_it_grows_too_large(tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    file = open_at(path)
    for n in range(35):
        assert file.write(b"line %04d\n" % n) == 10
    assert text_of(path) == "".join(f"line {n:04}\n" for n in range(30, 35))
    assert text_of(path, 1) == "".join(f"line {n:04}\n" for n in range(20, 30))
    assert text_of(path, 2) == "".join(f"line {n:04}\n" for n in range(10, 20))
    assert sorted(os.listdir(tmp_path)) == ["app.log", "app.log.1", "app.log.2"]


def test_many_lines_at_once_are_divided_at_the_ends_of_lines(tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    file = open_at(path, max_bytes=95, keep=9)
    file.write(b"begun\n")
    lines = b"".join(b"line %04d\n" % n for n in range(50))
    assert file.write(lines) == len(lines)
    texts = [text_of(path, number) for number in range(len(os.listdir(tmp_path)))]
    assert all(len(text) <= 95 and text.endswith("\n") for text in texts)
    assert "".join(reversed(texts)) == "begun\n" + lines.decode()


def test_a_line_longer_than_a_file_has_one_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    file = open_at(path, keep=9)
    data = b"short\n" + b"x" * 500 + b"\nshort again\n"
    assert file.write(data) == len(data)
    assert [text_of(path, number) for number in (2, 1, 0)] == ["short\n", "x" * 500 + "\n", "short again\n"]


def test_what_was_there_before_stays_and_counts(tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    path.write_text("x" * 95 + "\n")
    file = open_at(path)
    file.write(b"new line\n")
    assert text_of(path) == "new line\n"
    assert text_of(path, 1) == "x" * 95 + "\n"


def test_none_is_kept_if_none_is_wanted(tmp_path: Path) -> None:
    file = open_at(tmp_path / "app.log", keep=0)
    for n in range(25):
        file.write(b"line %04d\n" % n)
    assert os.listdir(tmp_path) == ["app.log"]
    assert text_of(tmp_path / "app.log").splitlines()[-1] == "line 0024"


def test_somebody_else_may_put_it_aside(tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    file = open_at(path)
    file.write(b"before\n")
    path.rename(tmp_path / "aside")
    file.write(b"still there\n")
    file.reopen()
    file.write(b"after\n")
    assert (tmp_path / "aside").read_text() == "before\nstill there\n"
    assert text_of(path) == "after\n"


def test_a_full_disk_leaves_whole_lines_and_is_written_again_when_there_is_room(tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    file = open_at(path, max_bytes=10_000)
    with disk_of(25):
        assert file.write(b"line 0001\nline 0002\nline 0003\nline 0004\n") == 20
        assert file.problem == f"{path} cannot be written: File too large"
        assert text_of(path) == "line 0001\nline 0002\n"
        assert file.write(b"line 0005\n") == 0
    assert file.write(b"line 0006\n") == 10
    assert file.problem == ""
    assert text_of(path) == "line 0001\nline 0002\nline 0006\n"


def test_a_directory_that_is_gone_is_told_and_the_old_file_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "app.log"
    path.parent.mkdir()
    file = open_at(path)
    file.write(b"one\n")
    path.parent.rename(tmp_path / "moved")
    assert not file.reopen()
    assert file.remark == (
        f"{path} cannot be opened: No such file or directory. Lines still go to the file that was open."
    )
    assert file.write(b"two\n") == 4
    assert file.problem == ""
    assert (tmp_path / "moved" / "app.log").read_text() == "one\ntwo\n"


def test_a_file_that_cannot_be_put_aside_grows_on(tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    file = open_at(path, max_bytes=20, keep=1)
    (tmp_path / "app.log.1").mkdir()
    for n in range(5):
        assert file.write(b"line %04d\n" % n) == 10
    assert file.problem == ""
    assert file.remark == f"{path} cannot be rotated: Is a directory. It grows beyond 20 bytes."
    assert len(text_of(path)) == 50


def test_what_is_no_ordinary_file_is_never_put_aside(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    file = open_at(tmp_path / "pipe")
    assert file.write(b"x" * 300 + b"\n") == 301
    assert os.read(reader, 1000) == b"x" * 300 + b"\n"
    assert os.listdir(tmp_path) == ["pipe"]
    file.close()
    os.close(reader)


@pytest.mark.parametrize(("place", "why"), [("no/app.log", "No such file or directory"), (".", "Is a directory")])
def test_a_path_that_cannot_be_is_told_before_anything_begins(tmp_path: Path, place: str, why: str) -> None:
    path = tmp_path / place
    with pytest.raises(PlanError) as caught:
        logfile.check(Logs(file=str(path)))
    assert str(caught.value) == (
        f"logs: the file {path} cannot be written: {why}. Choose a path in an existing directory that this "
        f"user (uid {os.getuid()}) can write to."
    )
