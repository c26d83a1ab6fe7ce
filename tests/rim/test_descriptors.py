"""Sockets and files, taken apart and put together again: the same connection, the same position in the same file."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import gzip
import io
import multiprocessing
import os
import resource
import socket
import ssl
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from mob.errors import BadMessage
from mob.wire.codec import Codec
from tests.wire.samples import Duplicates, Mob

TEXT = "".join(f"line {number} ä\n" for number in range(5000))


@pytest.fixture
def here() -> Iterator[Duplicates]:
    here = Duplicates()
    yield here
    here.under_way.clear()


@pytest.fixture
def codec(here: Duplicates) -> Codec:
    mob = Mob()
    return Codec(mob.lend, mob.borrow, descriptors=here)


@pytest.fixture
def over(codec: Codec) -> Iterator[Callable[[Any], Any]]:
    """Yield a function that sends an object; close everything that arrived at the end."""
    arrived: list[Any] = []

    def over(thing: Any) -> Any:
        arrived.append(codec.decode(codec.encode([thing]))[0])
        return arrived[-1]

    yield over
    for each in arrived:
        each.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_text(TEXT, "utf-8")
    return path


def open_descriptors() -> dict[str, str]:
    """Return what each descriptor stands for, except the one that lists them."""
    found: dict[str, str] = {}
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            found[number] = os.readlink(f"/proc/self/fd/{number}")
    return found


@pytest.fixture(scope="module", autouse=True)
def uvloop_is_warm() -> None:
    """Let uvloop open its own pipe, which it does once per process."""
    loop = uvloop.new_event_loop()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()


@pytest.fixture(autouse=True)
def nothing_leaks() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()  # what other tests left
    before = open_descriptors()
    yield
    assert open_descriptors() == before


# --- sockets and the like ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("timeout", [None, 0.0, 2.5])
def test_a_connection(over: Any, timeout: float | None) -> None:
    left, right = socket.socketpair()
    right.settimeout(timeout)
    arrived = over(right)
    assert (type(arrived), arrived.gettimeout()) == (socket.socket, timeout)
    assert arrived.fileno() != right.fileno()
    assert not arrived.get_inheritable()
    right.close()
    left.sendall(b"there")
    assert arrived.recv(10) == b"there"
    arrived.sendall(b"back")
    assert left.recv(10) == b"back"
    arrived.close()
    assert left.recv(10) == b""
    left.close()


KINDS = [
    (socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0)),
    (socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0)),
    (socket.AF_UNIX, socket.SOCK_STREAM, None),
    (socket.AF_UNIX, socket.SOCK_DGRAM, None),
]


@pytest.mark.parametrize(("family", "kind", "address"), KINDS, ids=["TCP", "UDP", "Unix stream", "Unix datagrams"])
def test_a_bound_socket(over: Any, tmp_path: Path, family: int, kind: int, address: Any) -> None:
    with socket.socket(family, kind) as sock, socket.socket(family, kind) as other:
        sock.bind(address or str(tmp_path / "socket"))
        if kind == socket.SOCK_STREAM:
            sock.listen()
        arrived = over(sock)
        assert (arrived.family, arrived.type, arrived.getsockname()) == (family, kind, sock.getsockname())
        other.connect(arrived.getsockname())
        other.send(b"hello")
        if kind == socket.SOCK_STREAM:
            arrived = arrived.accept()[0]
        with arrived:
            assert arrived.recv(10) == b"hello"


def test_a_connection_of_multiprocessing(over: Any) -> None:
    left, right = multiprocessing.Pipe()
    reader, writer = multiprocessing.Pipe(duplex=False)
    there, end = over(right), over(writer)
    right.close()
    left.send_bytes(b"hello")
    assert there.recv_bytes() == b"hello"
    assert (end.readable, end.writable) == (False, True)
    end.send_bytes(b"one way")
    assert reader.recv_bytes() == b"one way"
    for each in (left, reader, writer):
        each.close()


# --- files ------------------------------------------------------------------------------------------------------------


def test_a_text_file_that_was_read_halfway(over: Any, path: Path) -> None:
    with path.open(encoding="utf-8") as file:
        head = [file.readline() for _ in range(1234)]
        arrived = over(file)
        rest = arrived.read()
    assert "".join(head) + rest == TEXT
    assert (type(arrived), arrived.mode, arrived.name) == (io.TextIOWrapper, "r", str(path))
    assert (arrived.encoding, arrived.errors) == ("utf-8", "strict")


@pytest.mark.parametrize("mode", ["rb", "r+b"])
@pytest.mark.parametrize("buffering", [0, -1])
def test_a_binary_file_that_was_read_halfway(over: Any, path: Path, mode: str, buffering: int) -> None:
    with path.open(mode, buffering) as file:
        head = file.read(1234)
        arrived = over(file)
        assert (type(arrived), arrived.mode, arrived.name) == (type(file), file.mode, str(path))
        assert head + arrived.read() == path.read_bytes()


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig", "utf-7", "latin-1"])
def test_a_text_file_whose_decoder_has_a_state(over: Any, path: Path, encoding: str) -> None:
    path.write_text(TEXT, encoding)
    with path.open(encoding=encoding) as file:
        head = "".join(file.readline() for _ in range(10)) + file.read(3)
        assert head + over(file).read() == TEXT


def test_a_file_that_was_sent_is_read_on_by_whoever_comes(over: Any, path: Path) -> None:
    with path.open(encoding="utf-8") as file:
        first = file.readline()
        arrived = over(file)
        second = arrived.readline()
        third = over(arrived).readline()
    assert first + second + third == "".join(TEXT.splitlines(keepends=True)[:3])


@pytest.mark.parametrize("mode", ["w", "a", "x", "w+", "r+"])
def test_what_was_written_is_written_before_what_comes_next(over: Any, tmp_path: Path, mode: str) -> None:
    path = tmp_path / "new"
    if mode == "r+":
        path.touch()
    with path.open(mode, encoding="utf-16") as file:
        file.write("from here\n")
        arrived = over(file)
        assert arrived.mode == mode
        arrived.write("from there\n")
        arrived.close()
        file.write("and back\n")
    assert path.read_text("utf-16") == "from here\nfrom there\nand back\n"


def test_a_file_that_is_read_and_written(over: Any, tmp_path: Path) -> None:
    with (tmp_path / "new").open("w+b") as file:
        file.write(b"0123456789")
        file.seek(2)
        assert file.read(2) == b"23"
        arrived = over(file)
        assert type(arrived) is io.BufferedRandom
        arrived.write(b"xx")
        arrived.seek(0)
        assert arrived.read() == b"0123xx6789"


def test_how_text_is_buffered(over: Any, tmp_path: Path) -> None:
    with (tmp_path / "new").open("w", buffering=1, errors="replace", encoding="ascii") as file:
        arrived = over(file)
        assert (arrived.line_buffering, arrived.errors, arrived.encoding) == (True, "replace", "ascii")


def test_temporary_files(over: Any) -> None:
    with tempfile.NamedTemporaryFile("w+") as file, tempfile.TemporaryFile() as nameless:
        file.write("a")
        arrived = over(file)
        assert arrived.name == file.name
        arrived.seek(0)
        assert arrived.read() == "a"
        nameless.write(b"b")
        other = over(nameless)
        other.seek(0)
        assert other.read() == b"b"


@pytest.mark.parametrize(("read", "write"), [("r", "w"), ("rb", "wb")])
def test_pipes(over: Any, read: str, write: str) -> None:
    r, w = os.pipe()
    with os.fdopen(r, read) as reader, os.fdopen(w, write) as writer:
        hello = "hello" if read == "r" else b"hello"
        there, end = over(reader), over(writer)
        end.write(hello)
        end.close()
        writer.close()
        assert there.read() == hello


def test_what_was_not_sent_after_all_is_as_it_was(codec: Codec, path: Path) -> None:
    with path.open(encoding="utf-8") as file:
        head = file.readline()
        with pytest.raises(BadMessage):
            codec.encode([file, object()])
        codec.encode([file])
        assert head + file.read() == TEXT


# --- refusals ---------------------------------------------------------------------------------------------------------


def closed(thing: Any) -> Any:
    thing.close()
    return thing


def tls() -> ssl.SSLSocket:
    return ssl.create_default_context().wrap_socket(
        socket.socket(), server_hostname="localhost", do_handshake_on_connect=False
    )


def closed_connection() -> Any:
    one, other = multiprocessing.Pipe()
    other.close()
    return closed(one)


def temporary(mode: str) -> Any:
    return tempfile.TemporaryFile(mode)


def half_iterated() -> Any:
    file: Any = temporary("w+")
    file.write("a\nb\n")
    file.seek(0)
    next(file)
    return file


def made_of_a_socket() -> Any:
    left, right = socket.socketpair()
    with left, right:
        return left.makefile()


SPOOLED = "tempfile.SpooledTemporaryFile"
TLS = "Its keys are in this process: send the plain socket before it is wrapped, and wrap it in the receiving process."
REFUSED: list[tuple[Callable[[], Any], str]] = [
    (
        lambda: closed(socket.socket()),
        "a closed socket cannot be sent. Send it before you close it.",
    ),
    (
        lambda: closed(temporary("wb")),
        "a closed file cannot be sent. Send it before you close it.",
    ),
    (
        closed_connection,
        "a closed connection cannot be sent. Send it before you close it.",
    ),
    (tls, f"a TLS socket (ssl.SSLSocket) is not data. {TLS}"),
    (
        lambda: io.BytesIO(b"x"),
        "a file without its own file descriptor (_io.BytesIO) cannot be sent. Send its contents.",
    ),
    (
        lambda: io.TextIOWrapper(io.BytesIO(b"x")),
        "a file without its own file descriptor (_io.TextIOWrapper) cannot be sent. Send its contents.",
    ),
    (
        lambda: gzip.GzipFile(fileobj=io.BytesIO(), mode="w"),
        "a file without its own file descriptor (gzip.GzipFile) cannot be sent. Send its contents.",
    ),
    (
        tempfile.SpooledTemporaryFile,
        f"a file without its own file descriptor ({SPOOLED}) cannot be sent. Send its contents.",
    ),
    (made_of_a_socket, "a file made from a socket cannot be sent. Send the socket itself."),
    (
        half_iterated,
        "a text file cannot be sent while it is iterated over. Read it with readline() instead.",
    ),
]


@pytest.mark.parametrize(("make", "why"), REFUSED, ids=[why[:40] for _, why in REFUSED])
def test_a_refusal_says_where_and_why_and_what_to_do(codec: Codec, here: Duplicates, make: Any, why: str) -> None:
    thing = make()
    with socket.socket() as fine, pytest.raises(BadMessage) as caught:
        codec.encode(({"fine": fine}, [1, {"conn": thing}]))
    assert str(caught.value) == f"cannot send args[1][1]['conn']: {why}"
    assert here.under_way == {}  # nothing is duplicated before everything was checked
    thing.close()


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_what_belongs_to_an_event_loop_is_refused_and_the_hint_helps(codec: Codec, new_loop: Any) -> None:
    async def talk() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            sock = writer.get_extra_info("socket")
            for thing in (writer, writer.transport):
                assert why(thing).endswith(
                    "is not data. Send a duplicate of its socket, .get_extra_info('socket').dup(), before anything is"
                    " read, and close it here."
                )
            assert why(sock).endswith("is not data. Send its duplicate: .dup().")
            with sock.dup() as duplicate, codec.decode(codec.encode(duplicate)) as arrived:
                writer.close()
                await writer.wait_closed()
                arrived.setblocking(True)
                arrived.sendall(b"by another")
            served.set()

        served = asyncio.Event()
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        assert why(server).endswith("is not data. Send a duplicate of its socket: .sockets[0].dup().")
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
        assert await reader.read() == b"by another"
        writer.close()
        await writer.wait_closed()
        await served.wait()
        server.close()
        await server.wait_closed()

    def why(thing: Any) -> str:
        with pytest.raises(BadMessage) as caught:
            codec.encode(thing)
        return str(caught.value)

    loop = new_loop()
    loop.run_until_complete(talk())
    loop.close()


def test_without_a_free_descriptor_nothing_is_sent(codec: Codec) -> None:
    with socket.socket() as sock:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (sock.fileno() + 1, hard))
        try:
            with pytest.raises(BadMessage) as caught:
                codec.encode([sock, sock])
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        limit = sock.fileno() + 1
    assert str(caught.value) == (
        f"cannot send args: a file descriptor cannot be duplicated: Too many open files. The limit of this process "
        f"is {limit} (`ulimit -n`)."
    )
