"""What the kernel reports of a blocked thread."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import uvloop

from mob.rim import waits
from mob.rim.waits import WaitReason
from tests.patience import patient
from tests.running import wait_until

pytestmark = pytest.mark.skipif(waits.wait_of(threading.get_native_id()) is WaitReason.UNKNOWN, reason="not told here")


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


def find(server: socket.socket, block: Callable[[], object], wanted: WaitReason) -> None:
    """Block a thread, and check the reported reason; then connect a client, which ends it."""
    thread = threading.Thread(target=block, daemon=True)
    thread.start()
    assert thread.native_id is not None
    native = thread.native_id
    wait_until(lambda: waits.wait_of(native) is wanted, f"{wanted} is reported")
    with socket.create_connection(server.getsockname()):
        if wanted is WaitReason.CONNECTION:
            thread.join(patient(30))
            assert not thread.is_alive()


def epoll_on(*socks: socket.socket) -> select.epoll:
    made = select.epoll()
    for sock in socks:
        made.register(sock, select.EPOLLIN)
    return made


def test_the_ways_to_wait_for_a_connection(server: socket.socket) -> None:
    poll, epoll, outer = select.poll(), epoll_on(server), select.epoll()
    poll.register(server, select.POLLIN)
    outer.register(epoll, select.EPOLLIN)
    ways: list[Callable[[], object]] = [
        lambda: server.accept()[0].close(),
        poll.poll,
        epoll.poll,
        outer.poll,
        lambda: select.select([server], [], []),
    ]
    for way in ways:
        find(server, way, WaitReason.CONNECTION)
        server.settimeout(0.0)
        while True:
            try:
                server.accept()[0].close()
            except BlockingIOError:
                break
        server.settimeout(None)


@pytest.mark.parametrize("new_loop", [asyncio.SelectorEventLoop, uvloop.new_event_loop])
def test_a_server_of_a_loop(new_loop: Callable[[], asyncio.AbstractEventLoop], server: socket.socket) -> None:
    def serve() -> None:
        async def main() -> None:
            came = asyncio.Event()

            async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                writer.close()
                await writer.wait_closed()
                came.set()

            made = await asyncio.start_server(answer, sock=server.dup())
            await came.wait()
            made.close()
            await made.wait_closed()

        with contextlib.closing(new_loop()) as loop:
            loop.run_until_complete(main())

    find(server, serve, WaitReason.CONNECTION)


def test_what_is_no_wait_for_a_connection(server: socket.socket) -> None:
    a, b = socket.socketpair()
    with a, b:
        find(server, lambda: a.recv(1), WaitReason.OTHER)
        find(server, lambda: select.select([a], [server], []), WaitReason.OTHER)
        find(server, epoll_on(a).poll, WaitReason.EVENTS)
        find(server, lambda: time.sleep(5), WaitReason.SHORT)
        b.sendall(b"xxx")


def test_waits_without_an_end(server: socket.socket) -> None:
    event = threading.Event()
    find(server, event.wait, WaitReason.ENDLESS)
    event.set()
    find(server, lambda: signal.sigwait({signal.SIGRTMAX}), WaitReason.ENDLESS)
    find(server, lambda: time.sleep(3600), WaitReason.ENDLESS)
    find(server, lambda: threading.Event().wait(50), WaitReason.SHORT)


def test_a_wait_for_a_child(server: socket.socket) -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as child:
        find(server, child.wait, WaitReason.CHILD)


def test_what_listens_here(server: socket.socket) -> None:
    inode = os.fstat(server.fileno()).st_ino
    assert inode in waits.listeners()
    server.close()
    assert inode not in waits.listeners()


LISTENS = """
import socket, sys
sock = socket.socket(getattr(socket, sys.argv[1]))
if sys.argv[1] == "AF_UNIX":
    sock.bind("")
print(flush=True)
sys.stdin.readline()
sock.listen()
print(flush=True)
sys.stdin.readline()
"""
HAS_A_CHILD = f"""
import subprocess, sys
from mob.rim import waits
pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
with subprocess.Popen([sys.executable, "-c", {LISTENS!r}, sys.argv[1]], **pipes) as child:
    for _ in range(2):
        child.stdout.read(1)
        print(waits.children_listen())
        child.stdin.write(b"\\n")
"""


@pytest.mark.parametrize("family", ["AF_INET", "AF_INET6", "AF_UNIX"])
def test_a_child_that_listens(family: str) -> None:
    """In a process of its own because this one may have other children."""
    command = [sys.executable, "-c", HAS_A_CHILD, family]
    done = subprocess.run(command, capture_output=True, text=True, timeout=patient(60), check=False)
    assert (done.stdout.split(), done.stderr) == (["False", "True"], "")


def test_one_that_runs_waits_for_nothing() -> None:
    assert waits.wait_of(threading.get_native_id()) is WaitReason.OTHER
