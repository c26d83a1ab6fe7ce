"""Generators that a process on another machine iterates over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from mob.core.streams import WINDOW
from tests.patience import patient
from tests.real.cluster.machines import Nats, Node, nodes_in
from tests.running import wait_until

BACK = """
import asyncio
import mob

state = {"drawn": 0, "closed": 0}

def rows(n):
    for i in range(n):
        yield {"row": i}

async def arows(n):
    for i in range(n):
        yield i

def endless(size=1000):
    try:
        while True:
            state["drawn"] += 1
            yield bytes(size)
    finally:
        state["closed"] += 1

def fails(n):
    yield from range(n)
    raise ValueError("no more")

def take():
    taken = dict(state)
    state.update(drawn=0, closed=0)
    return taken

def get(): return state
def total(numbers): return sum(numbers)
async def atotal(numbers): return sum([n async for n in numbers])
def first(numbers):
    for n in numbers:
        return n
"""
FRONT = """
import mob

back = mob.require("back")

def read_by_hand(n): return [row["row"] for row in back.rows(n)]
async def read(n): return [row async for row in back.arows(n)]
def lend_by_hand(n): return back.total(i for i in range(n)).result()
async def lend(n):
    async def numbers():
        for i in range(n):
            yield i
    return await back.atotal(numbers())
def begin():
    global stream
    stream = iter(back.endless())
    return len(next(stream))
def end():
    stream.close()
"""
ROLES = '.role("back", "./back.py").role("front", "./front.py")'


@pytest.fixture(scope="module")
def pair(nats: Nats, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Node, Node]]:
    """The role "front" on machine a, "back" on b."""
    with nodes_in(tmp_path_factory.mktemp("streams")) as nodes:
        a, b = nodes.start(nats, ROLES, placed={"a": {"front": 1}, "b": {"back": 1}}, back=BACK, front=FRONT)
        yield a, b


@pytest.fixture
def back(pair: tuple[Node, Node]) -> Any:
    """The role as a client on machine a sees it; nothing of earlier tests is left there."""
    proxy = pair[0].client.require("back")
    proxy.take().result(patient(10))
    return proxy


@pytest.fixture
def front(pair: tuple[Node, Node]) -> Any:
    """The worker on machine a."""
    return pair[0].client.require("front")


@pytest.mark.parametrize("way", ["read_by_hand", "read"])
def test_a_stream_is_read_from_another_machine(front: Any, way: str) -> None:
    assert getattr(front, way)(5000).result(patient(20)) == list(range(5000))


@pytest.mark.parametrize("way", ["lend_by_hand", "lend"])
def test_a_generator_in_an_argument_is_read_by_another_machine(front: Any, way: str) -> None:
    assert getattr(front, way)(5000).result(patient(20)) == sum(range(5000))


def test_a_client_reads_and_lends(back: Any) -> None:
    assert [row["row"] for row in back.rows(1000)] == list(range(1000))
    assert back.total(i for i in range(1000)).result(patient(10)) == sum(range(1000))

    async def both() -> tuple[list[int], int]:
        async def numbers() -> AsyncIterator[int]:
            for i in range(1000):
                yield i

        return [n async for n in back.arows(1000)], await back.atotal(numbers())

    assert asyncio.run(both()) == (list(range(1000)), sum(range(1000)))


def test_the_error_of_a_stream_comes_after_its_items(back: Any) -> None:
    stream = iter(back.fails(3))
    assert [next(stream) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="no more"):
        next(stream)


def test_a_producer_runs_ahead_by_a_window_only(back: Any) -> None:
    stream = iter(back.endless())
    next(stream)
    wait_until(lambda: back.get().result(patient(10))["drawn"] >= WINDOW, "the window is full", patient(10))
    for _ in range(20):
        assert back.get().result(patient(10))["drawn"] <= WINDOW + 2
    stream.close()
    assert wait_until(lambda: back.get().result(patient(10))["closed"], "the generator is closed", patient(10)) == 1


def test_large_items_are_read_one_by_one(back: Any) -> None:
    stream = iter(back.endless(1_000_000))
    for _ in range(100):
        assert len(next(stream)) == 1_000_000
    stream.close()
    wait_until(lambda: back.get().result(patient(10))["closed"], "the generator is closed", patient(10))


def test_who_stops_reading_early_closes_the_generator_there(back: Any, front: Any) -> None:
    for row in back.endless():
        assert len(row) == 1000
        break
    wait_until(lambda: back.get().result(patient(10))["closed"] == 1, "the client's is closed", patient(10))
    assert front.begin().result(patient(10)) == 1000
    front.end().result(patient(10))
    wait_until(lambda: back.get().result(patient(10))["closed"] == 2, "the mobster's is closed", patient(10))


def test_a_lent_generator_is_closed_when_the_other_machine_has_enough(back: Any) -> None:
    ended = []

    def numbers() -> Iterator[int]:
        try:
            i = 0
            while True:
                yield i
                i += 1
        finally:
            ended.append(True)

    assert back.first(numbers()).result(patient(10)) == 0
    wait_until(lambda: ended, "the generator is closed", patient(10))


def test_a_consumer_that_dies_frees_the_producer(pair: tuple[Node, Node], back: Any, front: Any) -> None:
    assert front.begin().result(patient(10)) == 1000
    a = pair[0]
    a.client.restart(a.pids("front")[0])
    wait_until(lambda: back.get().result(patient(10))["closed"] == 1, "the generator is closed", patient(10))
    wait_until(lambda: a.pids("front"), "there is a successor", patient(10))
