"""Shared ports: which socket a worker gets, when it is closed, and how another program takes it over."""

from __future__ import annotations

import math
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from mob.kingpin.processes.ports import REFUSALS, Ports, PortsState, explain, where
from mob.wire import messages as m
from mob.wire.messages import Bind, SocketAddress, Unbind
from tests.core.world import World, started
from tests.kingpin.members import Room

LOCAL = SocketAddress(socket.AF_INET, "127.0.0.1", (0,))
LINGER = 30.0


class Harbour:
    """The ports of an app with two workers of "back" and one of "front"."""

    def __init__(self, is_ready: bool = True) -> None:
        self.world: World = started("back*2", "front", ready=is_ready)
        self.back, self.other, self.front = sorted(self.world.mobsters)
        self.ports = Ports(self.world.supervisor.crew, LINGER)

    def port(self, uid: int, nth: int = 0, address: SocketAddress = LOCAL) -> int:
        number: int = self.ports.listener(uid, bind(address, nth)).getsockname()[1]
        return number


def bind(address: SocketAddress, nth: int = 0, mode: int = -1) -> Bind:
    return Bind(1, address, v6only=True, nth=nth, mode=mode)


@pytest.fixture
def harbour() -> Iterator[Harbour]:
    harbour = Harbour()
    yield harbour
    harbour.ports.close()


def test_workers_of_a_role_get_the_same_free_port_and_roles_different_ones(harbour: Harbour) -> None:
    first = harbour.port(harbour.back)
    assert harbour.port(harbour.other) == first
    assert harbour.port(harbour.back, nth=1) != first
    assert harbour.port(harbour.front) != first
    fixed = SocketAddress(socket.AF_INET, "127.0.0.1", (first,))
    with pytest.raises(REFUSALS):
        harbour.port(harbour.front, address=fixed)


def test_a_socket_that_nobody_has_served_from_is_closed_at_once(harbour: Harbour) -> None:
    harbour.port(harbour.back)
    harbour.port(harbour.other)
    unbind = Unbind(1, LOCAL, nth=0, serves=False)
    harbour.ports.give_back(harbour.back, unbind)
    assert "1 listeners" in repr(harbour.ports)
    harbour.ports.give_back(harbour.other, unbind)
    harbour.ports.give_back(harbour.other, unbind)
    assert "0 listeners" in repr(harbour.ports)


def test_the_queue_outlives_a_worker_as_long_as_another_is_to_come() -> None:
    harbour = Harbour(is_ready=False)
    world, now = harbour.world, harbour.world.now
    harbour.port(harbour.back)
    world.ready(harbour.back)
    harbour.ports.handle_exited(harbour.back)
    assert harbour.ports.end_unused(now) == math.inf
    assert "1 listeners" in repr(harbour.ports)
    world.stop()
    for uid in list(world.mobsters):
        world.exits_with(uid, "ended by itself (exit status 0)")
    harbour.ports.end_unused(now)
    assert "0 listeners" in repr(harbour.ports)


def test_one_that_was_bound_late_is_kept_for_a_while(harbour: Harbour) -> None:
    harbour.port(harbour.back)
    harbour.ports.handle_exited(harbour.back)
    now = harbour.world.now
    assert harbour.ports.end_unused(now) == now + LINGER
    harbour.ports.end_unused(now + LINGER)
    assert "0 listeners" in repr(harbour.ports)


def test_the_file_of_a_unix_socket_comes_back_and_goes_in_the_end(harbour: Harbour, tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    harbour.ports.listener(harbour.back, bind(SocketAddress(socket.AF_UNIX, str(path), ()), mode=0o600))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(harbour.ports.paths) == 2, "the spare name too"
    path.unlink()
    harbour.ports.restore()
    with socket.socket(socket.AF_UNIX) as visitor:
        visitor.connect(str(path))
    harbour.ports.close()
    assert list(tmp_path.iterdir()) == []


def test_a_stale_file_is_no_obstacle_and_one_in_use_is(harbour: Harbour, tmp_path: Path) -> None:
    path = str(tmp_path / "app.sock")
    address = SocketAddress(socket.AF_UNIX, path, ())
    other = socket.socket(socket.AF_UNIX)
    other.bind(path)
    other.listen()
    with pytest.raises(OSError, match="in use"):
        harbour.ports.listener(harbour.back, bind(address))
    other.close()
    harbour.ports.listener(harbour.back, bind(address))


def test_a_socket_of_the_service_manager_goes_to_who_wants_its_address_and_back(harbour: Harbour) -> None:
    passed = socket.create_server(("127.0.0.1", 0))
    address = SocketAddress(socket.AF_INET, "127.0.0.1", (passed.getsockname()[1],))
    ports = Ports(harbour.world.supervisor.crew, LINGER, [passed])
    assert ports.listener(harbour.front, bind(address)) is passed
    ports.give_back(harbour.front, Unbind(1, address, nth=0, serves=False))
    assert passed.fileno() >= 0
    assert ports.listener(harbour.back, bind(address)) is passed
    ports.close()


def test_a_mobster_gets_the_socket_or_hears_why_not(harbour: Harbour, room: Room) -> None:
    member, _ = room.mobster(harbour.back, "back.0")
    connection = room.connections[harbour.back]
    harbour.ports.handle_bind(connection, bind(LOCAL))
    connection.link.flush()
    data, descriptors, _, _ = socket.recv_fds(member.sock, 4096, 4)
    assert m.decode_down(data[4:]) == [m.Bound(1)]
    with socket.socket(fileno=descriptors[0]) as own:
        assert own.getsockname()[1] == harbour.port(harbour.back)
    member.sock.setblocking(True)
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        taken = SocketAddress(socket.AF_INET, "127.0.0.1", (stranger.getsockname()[1],))
        harbour.ports.handle_bind(connection, bind(taken))
        (answer,) = m.decode_down(member.sock.recv(4096)[4:])  # from a thread, which looks for the holder
    assert isinstance(answer, m.NotBound)
    assert f"cannot listen on {where(taken)}: Address already in use. It is held by process {os.getpid()}" in answer.why
    connection.link.close()
    harbour.ports.handle_bind(connection, bind(LOCAL, nth=5))
    assert "1 listeners" in repr(harbour.ports), "none is made for an exited worker"


def test_what_is_said_of_a_bad_address() -> None:
    address = SocketAddress(socket.AF_UNIX, "/nowhere/app.sock", ())
    error = FileNotFoundError(2, "No such file or directory")
    assert explain(address, error) == (
        "cannot listen on '/nowhere/app.sock': No such file or directory. Is the file in use by another program?"
    )


def test_another_program_goes_on_with_them(harbour: Harbour, tmp_path: Path) -> None:
    path = str(tmp_path / "app.sock")
    passed = socket.create_server(("127.0.0.1", 0))
    ports = harbour.ports = Ports(harbour.world.supervisor.crew, LINGER, [passed])
    ports.listener(harbour.front, bind(SocketAddress(socket.AF_UNIX, path, ())))
    port = harbour.port(harbour.back)
    ports.give_back(harbour.back, Unbind(1, LOCAL, nth=0, serves=True))
    left = msgspec.msgpack.decode(msgspec.msgpack.encode(ports.state()), type=PortsState)
    copies = [msgspec.structs.replace(each, fd=os.dup(each.fd)) for each in left.listeners]
    successor = Ports(harbour.world.supervisor.crew, LINGER)
    successor.take_over(msgspec.structs.replace(left, listeners=copies, passed=[os.dup(fd) for fd in left.passed]))
    again = successor.state()
    assert [msgspec.structs.replace(each, fd=0) for each in again.listeners] == [
        msgspec.structs.replace(each, fd=0) for each in left.listeners
    ]
    assert (again.paths, again.spares, len(again.passed)) == (left.paths, left.spares, 1)
    assert successor.listener(harbour.other, bind(LOCAL)).getsockname()[1] == port
    os.unlink(path)
    successor.restore()
    assert os.path.exists(path)
    successor.close()
