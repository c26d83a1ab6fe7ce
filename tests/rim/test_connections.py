"""What the kernel reports of connections to shared ports, and sockets that stop accepting under their servers."""

from __future__ import annotations

import asyncio
import os
import select
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from mob.core.draining import Use
from mob.rim.connections import FRESH, IDLE, Endpoint, forget_in_loops, inode_of, use_by_times, uses
from mob.rim.listeners import PortSharing, WantedAddress
from tests.patience import patient
from tests.running import wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the kernel is not asked")


@pytest.mark.parametrize(
    ("sent", "received", "use"),
    [
        (5, 5, Use.OPEN),  # the order is unknown, but it is too early anyway
        (5, 4, Use.UNANSWERED),
        (5000, 4, Use.UNANSWERED),
        (5000, FRESH - 1, Use.UNANSWERED),
        (5000, FRESH, Use.PATIENT),
        (4, 5, Use.OPEN),
        (IDLE - 1, 60_000, Use.OPEN),
        (IDLE, IDLE + 1, Use.IDLE),
        (IDLE, 60_000, Use.IDLE),
        (IDLE, IDLE, Use.UNSURE),
        (60_000, 60_000, Use.UNSURE),
    ],
)
def test_what_the_times_of_the_last_words_say(sent: int, received: int, use: Use) -> None:
    assert use_by_times(sent, received, has_asked=True) is use


def test_one_that_has_never_said_a_word_is_idle_soon() -> None:
    assert use_by_times(IDLE - 1, IDLE - 1, has_asked=False) is Use.OPEN
    assert use_by_times(IDLE, IDLE, has_asked=False) is Use.IDLE


def uses_of(places: frozenset[Endpoint]) -> list[Use]:
    return list(uses(places))


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


def pair_of(server: socket.socket) -> tuple[socket.socket, socket.socket]:
    client = socket.create_connection(server.getsockname())
    return client, server.accept()[0]


def test_only_connections_of_these_places_count(server: socket.socket) -> None:
    place = (socket.AF_INET, server.getsockname()[1])
    assert uses_of(frozenset({place})) == []
    client, accepted = pair_of(server)
    with client, accepted:
        assert uses_of(frozenset({place})) == [Use.OPEN]
        assert uses_of(frozenset({(socket.AF_INET6, place[1])})) == []
        assert uses_of(frozenset()) == []
    assert uses_of(frozenset({place})) == []


def test_what_waits_to_be_read_or_was_not_answered_counts_as_unanswered(server: socket.socket) -> None:
    places = frozenset({(socket.AF_INET, server.getsockname()[1])})
    client, accepted = pair_of(server)
    with client, accepted:
        client.sendall(b"?")
        wait_until(lambda: uses_of(places) == [Use.UNANSWERED], "the request arrived")
        assert accepted.recv(1) == b"?"
        client.sendall(b"x" * 100)  # more, slightly later than the connection was made, so the kernel knows the order
        accepted.recv(100)
        accepted.sendall(b"!")
        assert client.recv(1) == b"!"
        wait_until(lambda: uses_of(places) != [Use.UNANSWERED], "the answer was sent")


def test_being_looked_at_does_not_change_a_connection(server: socket.socket) -> None:
    places = frozenset({(socket.AF_INET, server.getsockname()[1])})
    client, accepted = pair_of(server)
    with client, accepted:
        socket.setdefaulttimeout(1.0)
        try:
            assert uses_of(places) == [Use.OPEN]
        finally:
            socket.setdefaulttimeout(None)
        assert os.get_blocking(accepted.fileno())


def test_on_unix_sockets_nobody_knows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("there")
        server.listen()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect("there")
            accepted = server.accept()[0]
            with accepted:
                places = frozenset({(socket.AF_UNIX, "there")})
                assert uses_of(places) == [Use.UNSURE]
                client.sendall(b"?")
                assert uses_of(places) == [Use.UNANSWERED]


def test_a_descriptor_is_forgotten_by_every_epoll_object(server: socket.socket) -> None:
    with select.epoll() as one, select.epoll() as two, socket.create_connection(server.getsockname()):
        one.register(server, select.EPOLLIN)
        two.register(server, select.EPOLLIN)
        assert one.poll(10) == two.poll(10) == [(server.fileno(), select.EPOLLIN)]
        forget_in_loops(server.fileno())
        assert one.poll(0) == two.poll(0) == []
        with pytest.raises(FileNotFoundError):
            one.unregister(server)


# ------------------------------------------------------------------------------------------------ deaf sockets


class Port:
    """A shared port and a process that shares it. The descriptor of the others is kept in transit."""

    def __init__(self) -> None:
        made = socket.create_server(("127.0.0.1", 0))
        made.setblocking(False)
        self.address = made.getsockname()
        self._way = socket.socketpair()
        socket.send_fds(self._way[0], [b"."], [made.fileno()])
        self.sharing = PortSharing(lambda wish: made.detach(), _never, lambda: None)
        self.own = socket.socket()
        self.sharing.share(self.own, self.address)

    def others(self) -> socket.socket:
        """Return the shared socket as another process has it."""
        _, (descriptor,), _, _ = socket.recv_fds(self._way[1], 1, 1)
        return socket.socket(fileno=descriptor)

    def close(self) -> None:
        """Close everything."""
        self.own.close()
        for end in self._way:
            end.close()


def _never(wish: WantedAddress) -> None:
    raise AssertionError(f"{wish} was given back")


@pytest.fixture
def port() -> Iterator[Port]:
    made = Port()
    yield made
    made.close()


def test_a_deaf_socket_says_where_it_was_and_leaves_the_queue_to_others(port: Port) -> None:
    assert port.sharing.turn_deaf() == {(socket.AF_INET, port.address[1])}
    with socket.create_connection(port.address), port.others() as others:
        with pytest.raises(BlockingIOError):
            port.own.accept()
        others.accept()[0].close()
    assert port.sharing.turn_deaf() == frozenset()


def test_a_duplicate_turns_deaf_too_also_when_the_object_is_gone(port: Port) -> None:
    copy = os.dup(port.own.fileno())
    port.own.close()
    assert len(port.sharing.turn_deaf()) == 1
    with socket.create_connection(port.address), socket.socket(fileno=copy) as duplicate:
        assert select.select([duplicate], [], [], 0) == ([], [], [])


def test_what_was_given_back_is_no_shared_port_any_more() -> None:
    with socket.create_server(("127.0.0.1", 0)) as target:
        made = socket.create_server(("127.0.0.1", 0))
        address = made.getsockname()
        sharing = PortSharing(lambda wish: os.dup(made.fileno()), lambda wish: made.close(), lambda: None)
        with socket.socket() as own:
            sharing.share(own, address)
            sharing.unshare(own)
            assert sharing.turn_deaf() == frozenset()
            own.connect(target.getsockname())


@pytest.mark.parametrize("make_loop", [asyncio.SelectorEventLoop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_a_loop_serves_whom_it_has_and_sees_nobody_new(port: Port, make_loop: Callable[[], Any]) -> None:
    accepted: list[int] = []
    served = asyncio.Event()

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.append(1)
        while line := await reader.readline():
            writer.write(line)
        writer.close()
        await writer.wait_closed()
        served.set()

    async def serve() -> None:
        server = await asyncio.start_server(echo, sock=port.own)
        reader, writer = await asyncio.open_connection(*port.address)
        writer.write(b"before\n")
        assert await reader.readline() == b"before\n"
        assert len(port.sharing.turn_deaf()) == 1
        newcomer = await asyncio.open_connection(*port.address)
        for number in range(20):  # turns of the loop, in which it would accept
            writer.write(b"%d\n" % number)
            assert await reader.readline() == b"%d\n" % number
        assert len(accepted) == 1
        with port.others() as others:
            others.accept()[0].close()  # the other process accepts it
        for each in (newcomer[1], writer):
            each.close()
            await each.wait_closed()
        await served.wait()
        server.close()

    loop = make_loop()
    try:
        loop.run_until_complete(asyncio.wait_for(serve(), patient(30)))
    finally:
        loop.close()


def test_the_inode_of_what_is_closed_is_none() -> None:
    read, write = os.pipe()
    assert inode_of(read)
    os.close(write)
    os.close(read)
    assert inode_of(read) == 0
