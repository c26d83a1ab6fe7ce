"""Which files the kernel can send, and that it does."""

from __future__ import annotations

import bz2
import gzip
import io
import os
import socket
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.files import File

from mob.mobster.http.sending import FileWrapper, part_to_send, send_file
from tests.patience import patient


class Upper(io.BufferedReader):
    """A file whose `read` returns other bytes than its descriptor."""

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(size).upper()


class Hidden:
    """A file that passes on everything except `read`."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def read(self, size: int = -1) -> bytes:
        return self._file.read(size)[::-1]


def named(path: Path) -> Any:
    file = tempfile.NamedTemporaryFile()  # noqa: SIM115  closed by the test
    file.write(path.read_bytes())
    file.seek(0)
    return file


SENT: dict[str, Callable[[Path], Any]] = {
    "open": lambda path: path.open("rb"),
    "unbuffered": lambda path: path.open("rb", buffering=0),
    "read and write": lambda path: path.open("r+b"),
    "a temporary file with a name": named,
    "Django's": lambda path: File(path.open("rb")),
}
READ: dict[str, Callable[[Path], Any]] = {
    "memory": lambda path: io.BytesIO(path.read_bytes()),
    "gzip": gzip.GzipFile,
    "bz2": bz2.BZ2File,
    "text": lambda path: path.open(),
    "a subclass": lambda path: Upper(io.FileIO(path)),
    "a wrapper": lambda path: Hidden(path.open("rb")),
    "no file": lambda path: object(),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "data").write_bytes(b"0123456789")
    return tmp_path / "data"


@pytest.mark.parametrize("kind", SENT)
def test_a_file_is_sent_from_where_it_is(path: Path, kind: str) -> None:
    with SENT[kind](path) as file:
        file.read(3)
        assert part_to_send(file, None) == (file.fileno(), 3, 7)
        assert part_to_send(file, 4) == (file.fileno(), 3, 4)
        assert part_to_send(file, 40) == (file.fileno(), 3, 7)


@pytest.mark.parametrize("kind", READ)
def test_what_has_other_bytes_than_its_descriptor_is_read(path: Path, kind: str) -> None:
    file = READ[kind](path)
    assert part_to_send(file, None) is None
    getattr(file, "close", lambda: None)()


def test_a_pipe_is_read() -> None:
    reader, writer = os.pipe()
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        assert part_to_send(file, None) is None


def test_a_wrapper_has_blocks_and_closes_its_file() -> None:
    file = io.BytesIO(b"0123456789")
    wrapper = FileWrapper(file, 4)
    assert list(wrapper) == [b"0123", b"4567", b"89"]
    wrapper.close()
    assert file.closed


def test_a_file_is_sent_while_somebody_reads(path: Path) -> None:
    data = os.urandom(3_000_000)
    path.write_bytes(data)
    ours, theirs = socket.socketpair()
    received: list[bytes] = []

    def read() -> None:
        while part := theirs.recv(65536):
            received.append(part)

    reader = threading.Thread(target=read)
    reader.start()
    with path.open("rb") as file, ours:
        ours.setblocking(False)
        assert send_file(ours, file.fileno(), 1000, len(data)) == len(data) - 1000  # the file has no more
    reader.join()
    theirs.close()
    assert b"".join(received) == data[1000:]


def test_a_thread_that_sends_wakes_when_the_connection_is_shut(path: Path) -> None:
    path.write_bytes(bytes(3_000_000))
    ours, theirs = socket.socketpair()
    ended: list[type[BaseException]] = []

    def send() -> None:
        with path.open("rb") as file:
            try:
                send_file(ours, file.fileno(), 0, 3_000_000)
            except OSError as error:
                ended.append(type(error))

    ours.setblocking(False)
    thread = threading.Thread(target=send)
    thread.start()
    assert theirs.recv(1)  # it has begun
    ours.shutdown(socket.SHUT_RDWR)
    thread.join(patient(30))
    assert ended == [BrokenPipeError]
    ours.close()
    theirs.close()
