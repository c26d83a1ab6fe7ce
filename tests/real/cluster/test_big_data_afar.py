"""Large buffers between machines: they travel in pieces and arrive whole. Sockets and files stay where they are."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Iterator
from typing import Any

import pytest

import mob
from tests.patience import patient
from tests.real.cluster.machines import Nats, Node, Nodes, nodes_in
from tests.running import wait_until

BACK = """
import hashlib
import mob

def digest(data): return len(data), hashlib.sha256(data).hexdigest()
def echo(data): return data
def both(first, second, *, third): return [len(each) for each in (first, second, third)]
def make(n): return b"x" * n
def where(*_): return mob.me().node
def twice(array): return array * 2
def apply(f, n): return hashlib.sha256(f(n).result()).hexdigest()
def rows(n, size):
    for i in range(n):
        yield bytes([i]) * size
def statistics():
    from mob.mobster import api
    return api.current("statistics").statistics()
async def read(sock):
    return sock.recv(100)
"""
FRONT = """
import numpy
import mob

back = mob.require("back")

def array(n):
    sent = numpy.arange(n, dtype="float64").reshape(2, -1)
    got = back.twice(sent).result()
    return bool((got == sent * 2).all()), str(got.dtype), got.shape
async def echoes(sizes):
    return [await back.echo(b"y" * size) == b"y" * size for size in sizes]
"""
ROLES = '.role("back", "./back.py", workers=2).role("front", "./front.py")'
BORDERS = [0, 1, 65_535, 65_536, 65_537, 131_072, 262_143, 262_144, 262_145, 1_048_575, 1_048_576, 1_048_577]


@pytest.fixture(scope="module")
def pair(nats: Nats, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Node, Node]]:
    """The role "front" on machine a, "back" on b."""
    with nodes_in(tmp_path_factory.mktemp("big")) as nodes:
        a, b = nodes.start(nats, ROLES, placed={"a": {"front": 1}, "b": {"back": 2}}, back=BACK, front=FRONT)
        yield a, b


@pytest.fixture
def back(pair: tuple[Node, Node]) -> Any:
    """As a client on machine a sees it."""
    return pair[0].client.require("back")


@pytest.fixture
def front(pair: tuple[Node, Node]) -> Any:
    """The worker on machine a."""
    return pair[0].client.require("front")


def test_sizes_around_every_border(back: Any, front: Any) -> None:
    for size in BORDERS:
        data = bytes(range(256)) * (size // 256) + b"z" * (size % 256)
        assert back.echo(data).result(patient(20)) == data
    assert front.echoes(BORDERS).result(patient(30)) == [True] * len(BORDERS)


@pytest.mark.parametrize("size", [10_000_000, 100_000_000])
def test_many_megabytes_arrive_whole(back: Any, size: int) -> None:
    data = b"0123456789" * (size // 10)
    assert back.digest(data).result(patient(60)) == [size, hashlib.sha256(data).hexdigest()]
    assert len(back.make(size).result(patient(60))) == size


def test_several_buffers_in_one_call(back: Any) -> None:
    assert back.both(bytes(70_000), bytearray(300_000), third=memoryview(bytes(2_000_000))).result(patient(20)) == [
        70_000,
        300_000,
        2_000_000,
    ]


def test_arrays_go_both_ways(back: Any, front: Any) -> None:
    numpy = pytest.importorskip("numpy")
    assert front.array(2_000_000).result(patient(30)) == [True, "float64", [2, 1_000_000]]
    sent = numpy.arange(1_000_000, dtype="int32")
    assert (back.twice(sent).result(patient(20)) == sent * 2).all()


def test_large_answers_of_callbacks_and_large_items_of_streams(back: Any) -> None:
    def make(n: int) -> bytes:
        return b"w" * n

    assert back.apply(make, 5_000_000).result(patient(20)) == hashlib.sha256(b"w" * 5_000_000).hexdigest()
    assert [row == bytes([i]) * 500_000 for i, row in enumerate(back.rows(20, 500_000))] == [True] * 20


def test_a_large_message_of_all_reaches_near_and_far(nats: Nats, nodes: Nodes) -> None:
    a, b = nodes.start(nats, '.role("back", "./back.py", workers=2)', back=BACK)
    data = bytes(3_000_000)
    found = a.client.all("back").call.digest(data).result(patient(20))
    assert len(found) == 4
    assert {tuple(each) for each in found.values()} == {(len(data), hashlib.sha256(data).hexdigest())}
    assert b.client.all("back").call.where(data).result(patient(20)).keys() == {
        *b.pids("back"),
        *(f"a:{pid}" for pid in a.pids("back")),
    }


def test_a_socket_is_refused_for_another_machine(back: Any) -> None:
    left, right = socket.socketpair()
    with left, right, pytest.raises(mob.BadMessage, match="a socket or an open file cannot be sent to another machine"):
        back.read(left).result(patient(10))


def test_a_call_with_a_socket_goes_to_a_worker_here(nats: Nats, nodes: Nodes) -> None:
    a, _ = nodes.start(nats, '.role("back", "./back.py")', back=BACK)
    back = a.client.require("back")
    for _ in range(20):
        left, right = socket.socketpair()
        with left, right:
            right.sendall(b"hello")
            blocked = [back.options(key=i).where() for i in range(3)]
            assert back.where(left).result(patient(10)) == "a"
            assert back.read(left).result(patient(10)) == b"hello"
            for call in blocked:
                call.result(patient(10))


def test_shared_memory_is_free_afterwards(pair: tuple[Node, Node]) -> None:
    a, b = pair
    for client, role in ((a.client, "back"), (b.client, "back"), (a.client, "front")):
        assert wait_until(
            lambda client=client: client.statistics()["shared"] == 0, f"{client} keeps nothing", patient(10)
        )
        if role == "back":
            for found in client.all(role).call.statistics().result(patient(10)).values():
                assert (found["shared"], found["views"], found["descriptors"]) == (0, 0, 0)
