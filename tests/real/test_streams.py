"""Exported generators that other processes iterate over."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

import mob
from mob.core.streams import WINDOW
from tests.patience import patient
from tests.running import Apps, RunningApp, apps_in, wait_until

BACK = """
import asyncio, os, time
import mob

state = {"drawn": 0, "closed": 0}

def rows(n):
    for i in range(n):
        state["drawn"] += 1
        yield {"row": i}

async def arows(n):
    for i in range(n):
        state["drawn"] += 1
        await asyncio.sleep(0)
        yield i

def endless():
    try:
        while True:
            state["drawn"] += 1
            yield bytes(1000)
    except GeneratorExit:
        state["closed"] += 1
        raise

async def aendless():
    try:
        while True:
            state["drawn"] += 1
            yield 1
    finally:
        state["closed"] += 1

def fails(n):
    yield from range(n)
    raise ValueError("no more")

def unsendable():
    yield 1
    yield object()

def functions():
    for i in range(3):
        yield lambda i=i: i * i

def mapped():
    return map(str, range(3))

def take_state():
    taken = dict(state)
    state.update(drawn=0, closed=0)
    return taken

def get_state():
    return state

def fails_soon(n):
    yield from range(n)
    raise ValueError("no more")

def passed(function, n):
    yield from range(n)

def callers(n):
    for i in range(n):
        yield mob.caller().pid

def until_cancelled(tell):
    yield "began"
    tell()
    while not mob.cancelled():
        time.sleep(0.001)
    state["closed"] += 1

def numbers():
    return [1, 2, 3]

def pid():
    return os.getpid()

def read(path):
    with open(path) as file: return file.read()

def hold(function):
    function().result()

def in_hand():
    from mob.mobster import api
    return api.current("x").statistics()["in_hand"]

def suicide(n):
    yield from range(n)
    os.kill(os.getpid(), 9)

def total(numbers):
    return sum(numbers)

async def atotal(numbers):
    return sum([n async for n in numbers])

def first(numbers):
    for n in numbers:
        return n
"""
FRONT = """
import mob
back = mob.require("back")

def read_by_hand(n):
    return [row["row"] for row in back.rows(n)]

async def read(n):
    return [row async for row in back.arows(n)]

def lend_by_hand(n):
    return back.total(i for i in range(n)).result()

async def lend_async(n):
    async def numbers():
        for i in range(n):
            yield i
    return await back.atotal(numbers())

def forget():
    back.endless()

def begin():
    global stream
    stream = iter(back.endless())
    return len(next(stream))
"""


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    with apps_in(tmp_path_factory.mktemp("streams")) as apps:
        roles = '.role("back", "./back.py").role("front", "./front.py").role("threaded", "./back.py", threads=2)'
        app = apps.start(roles, back=BACK, front=FRONT)
        app.wait_ready()
        yield app


@pytest.fixture
def client(app: RunningApp) -> mob.Client:
    return app.wait_ready()


@pytest.fixture
def back(client: mob.Client) -> Iterator[mob.Proxy]:
    back = client.require("back")
    back.take_state().result(patient(20))
    yield back
    wait_until(lambda: back.in_hand().result(patient(20)) == 0, "nothing of a stream is left at the producer")
    assert client.statistics()["pending"] == 0


@pytest.mark.parametrize("count", [0, 1, WINDOW - 1, WINDOW, WINDOW + 1, 10 * WINDOW + 7])
def test_a_generator_arrives_whole_and_in_order(back: mob.Proxy, count: int) -> None:
    assert [row["row"] for row in back.rows(count)] == list(range(count))


def test_a_stream_whose_first_item_arrives_while_its_reader_begins_is_whole(back: mob.Proxy) -> None:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(2000):
            calls = [back.rows(1) for _ in range(3)]
            assert [len(list(call)) for call in calls] == [1, 1, 1]
    finally:
        sys.setswitchinterval(interval)


@pytest.mark.parametrize("count", [0, 1, WINDOW + 1])
def test_an_async_generator_read_by_sync_code(back: mob.Proxy, count: int) -> None:
    assert list(back.arows(count)) == list(range(count))


def test_a_generator_read_by_async_code_of_another_loop(back: mob.Proxy) -> None:
    async def read() -> list[int]:
        return [row["row"] async for row in back.rows(500)]

    assert asyncio.run(read()) == list(range(500))


def test_a_mobster_reads_on_its_own_loop_by_hand_and_in_a_coroutine(client: mob.Client, back: mob.Proxy) -> None:
    front = client.require("front")
    assert front.read_by_hand(300).result(patient(20)) == list(range(300))
    assert front.read(300).result(patient(20)) == list(range(300))


def test_any_iterator_that_an_export_returns_streams(back: mob.Proxy) -> None:
    assert list(back.mapped()) == ["0", "1", "2"]


def test_functions_can_be_streamed(back: mob.Proxy) -> None:
    assert [square().result(patient(20)) for square in back.functions()] == [0, 1, 4]


@pytest.mark.parametrize("name", ["endless", "aendless"])
def test_a_producer_is_at_most_a_window_ahead(back: mob.Proxy, name: str) -> None:
    stream = iter(getattr(back, name)())
    next(stream)
    wait_until(lambda: back.get_state().result(patient(20))["drawn"] >= WINDOW, "the window is full")
    assert back.get_state().result(patient(20))["drawn"] <= WINDOW + 1
    for _ in range(3 * WINDOW):
        next(stream)
    assert back.get_state().result(patient(20))["drawn"] <= 4 * WINDOW + 2


@pytest.mark.parametrize("name", ["endless", "aendless"])
def test_leaving_the_loop_closes_the_generator(back: mob.Proxy, name: str) -> None:
    for _ in getattr(back, name)():
        break
    wait_until(lambda: back.get_state().result(patient(20))["closed"] == 1, "GeneratorExit has run in it")


def test_closing_the_stream_closes_the_generator(back: mob.Proxy) -> None:
    stream = iter(back.endless())
    next(stream)
    stream.close()
    wait_until(lambda: back.get_state().result(patient(20))["closed"] == 1, "GeneratorExit has run in it")


def closed(back: mob.Proxy) -> int:
    return int(back.get_state().result(patient(20))["closed"])


@pytest.mark.parametrize("name", ["endless", "aendless"])
def test_a_stream_that_nobody_takes_is_closed(back: mob.Proxy, name: str, caplog: pytest.LogCaptureFixture) -> None:
    getattr(back, name)()
    wait_until(lambda: closed(back) == 1, "GeneratorExit has run in it")
    assert back.get_state().result(patient(20))["drawn"] <= WINDOW + 1
    (record,) = caplog.records
    assert record.getMessage() == (
        f"back.{name} is a generator that was never read, so it was closed: iterate over the call "
        f"(`for x in ...` or `async for x in ...`)."
    )


def test_a_stream_that_is_dropped_unread_is_closed(client: mob.Client, back: mob.Proxy) -> None:
    calls = [back.endless(), back.endless()]
    wait_until(lambda: back.get_state().result(patient(20))["drawn"] == 2 * WINDOW, "the windows are full")
    assert client.statistics()["pending"] == 2
    calls.pop(0)
    wait_until(lambda: closed(back) == 1, "GeneratorExit has run in one")
    assert next(iter(calls[0])) == bytes(1000)  # the other goes on


def test_a_mobster_that_takes_no_stream_closes_it(client: mob.Client, back: mob.Proxy) -> None:
    client.require("front").forget().result(patient(20))
    wait_until(lambda: closed(back) == 1, "GeneratorExit has run in it")


@pytest.mark.parametrize("export", ["rows", "arows"])
def test_one_that_is_cancelled_before_its_first_step_leaves_nothing(
    client: mob.Client, back: mob.Proxy, tmp_path: Path, export: str
) -> None:
    door = tmp_path / "door"
    os.mkfifo(door)
    exports = client.pid(back.pid().result(patient(20))).call
    blocks = exports.read(str(door))
    call = getattr(exports, export)(3)
    cancels = exports.hold(call.cancel)  # begins in the same turn of the producer's loop, in which no task has a step
    door.write_text("open")
    blocks.result(patient(20))
    cancels.result(patient(20))
    with contextlib.suppress(asyncio.CancelledError):  # unless the machine was so slow that it had its steps before
        list(call)


def test_a_stream_that_is_held_unread_waits(back: mob.Proxy) -> None:
    call = back.rows(3 * WINDOW)
    wait_until(lambda: back.get_state().result(patient(20))["drawn"] == WINDOW, "the window is full")
    assert back.in_hand().result(patient(20)) == 1
    assert not call.done()
    assert [row["row"] for row in call] == list(range(3 * WINDOW))


def test_a_short_stream_that_is_read_late_is_whole(back: mob.Proxy) -> None:
    call = back.rows(3)
    wait_until(call.done, "it has ended")
    assert [row["row"] for row in call] == [0, 1, 2]


def test_a_timeout_holds_for_a_stream_that_is_held_unread(back: mob.Proxy) -> None:
    call = back.options(timeout=0.2).endless()
    wait_until(lambda: closed(back) == 1, "GeneratorExit has run in it")
    with pytest.raises(mob.CallTimeout):
        for _ in call:
            pass


def test_the_failure_of_a_stream_that_nobody_takes_is_logged(back: mob.Proxy, caplog: pytest.LogCaptureFixture) -> None:
    back.fails_soon(3)
    told = "back.fails_soon failed and its result was never read: ValueError: no more"
    wait_until(lambda: told in [record.getMessage() for record in caplog.records], "it is logged")


def test_a_stream_with_a_function_among_its_arguments_may_be_read_late(back: mob.Proxy) -> None:
    call = back.passed(lambda: None, 2 * WINDOW)
    wait_until(lambda: call.incoming is not None and len(call.incoming.items) == WINDOW, "items have come")
    assert list(call) == list(range(2 * WINDOW))


@pytest.mark.parametrize("role", ["back", "threaded"])
def test_a_generator_knows_its_caller_to_its_end(client: mob.Client, role: str) -> None:
    assert set(client.require(role).callers(3 * WINDOW)) == {os.getpid()}


@pytest.mark.parametrize("role", ["back", "threaded"])
def test_a_generator_learns_that_it_is_cancelled(client: mob.Client, role: str) -> None:
    proxy = client.require(role)
    proxy.take_state().result(patient(20))
    goes_on = threading.Event()
    stream = iter(proxy.until_cancelled(goes_on.set))
    assert next(stream) == "began"
    assert goes_on.wait(patient(20))  # it is not at a place where GeneratorExit could end it
    stream.close()
    wait_until(lambda: closed(proxy) == 1, "it has ended by itself")


def test_iterating_over_what_is_no_generator_is_told(back: mob.Proxy) -> None:
    with pytest.raises(
        mob.CallError, match=r"back\.numbers is not a generator, so it cannot be iterated over\. It returned a list"
    ):
        list(back.numbers())


def test_an_exception_arrives_after_the_items_before_it(back: mob.Proxy) -> None:
    seen: list[int] = []
    with pytest.raises(ValueError, match="no more") as caught:
        seen.extend(back.fails(3))
    assert isinstance(caught.value, mob.RemoteError)
    stream = iter(back.fails(3))
    assert [next(stream) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="no more"):
        next(stream)


def test_an_item_that_cannot_be_sent_ends_the_stream(back: mob.Proxy) -> None:
    stream = iter(back.unsendable())
    assert next(stream) == 1
    with pytest.raises(mob.CallError, match="cannot send item"):
        next(stream)


def test_waiting_for_the_value_of_a_generator_is_refused(back: mob.Proxy) -> None:
    with pytest.raises(mob.CallError, match=r"back\.rows is a generator: iterate over the call"):
        back.rows(3).result(patient(20))

    async def wait() -> None:
        await back.aendless()

    with pytest.raises(mob.CallError, match=r"back\.aendless is a generator"):
        asyncio.run(wait())


def test_a_consumer_that_dies_closes_the_generator(app: RunningApp, client: mob.Client, back: mob.Proxy) -> None:
    assert client.require("front").begin().result(patient(20)) == 1000
    (front,) = app.ready(client, "front")
    os.kill(front.pid, signal.SIGKILL)
    wait_until(lambda: back.get_state().result(patient(20))["closed"] == 1, "GeneratorExit has run in it")
    wait_until(lambda: app.ready(client, "front") and app.ready(client, "front")[0].pid != front.pid, "it is restarted")


def test_memory_stays_flat_over_an_endless_stream(app: RunningApp, client: mob.Client, back: mob.Proxy) -> None:
    process = psutil.Process(app.ready(client, "back")[0].pid)
    stream = iter(back.endless())
    for _ in range(2_000):
        next(stream)
    before = process.memory_info().rss
    for _ in range(20_000):
        next(stream)
    assert process.memory_info().rss - before < 4 * 1024 * 1024


def test_a_producer_that_dies_ends_the_stream_as_lost(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py")', back=BACK)
    back = app.wait_ready().require("back")
    seen: list[int] = []
    with pytest.raises(mob.Lost):
        seen.extend(back.suicide(WINDOW))  # the window is full, so they are on their way before it dies
    stream = iter(back.suicide(WINDOW))
    assert [next(stream) for _ in range(WINDOW // 2 - 1)] == list(range(WINDOW // 2 - 1))


def test_a_stream_that_has_begun_is_not_repeated_after_a_death(apps: Apps) -> None:
    code = "import mob\n" + BACK.replace("def suicide(n)", "@mob.export(idempotent=True)\ndef suicide(n)")
    back = apps.start('.role("back", "./back.py", workers=2)', back=code).wait_ready().require("back")
    seen: list[int] = []
    with pytest.raises(mob.Lost):
        seen.extend(back.suicide(WINDOW))
    assert len(seen) <= WINDOW


def test_in_a_role_with_threads(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py", threads=2)', back=BACK)
    back = app.wait_ready().require("back")
    assert [row["row"] for row in back.rows(1000)] == list(range(1000))
    for _ in back.endless():
        break
    wait_until(lambda: back.get_state().result(patient(20))["closed"] == 1, "GeneratorExit has run in it")


@pytest.mark.parametrize("name", ["total", "atotal"])
def test_an_iterator_as_an_argument_streams_the_other_way(back: mob.Proxy, name: str) -> None:
    assert getattr(back, name)(iter(range(1000))).result(patient(20)) == sum(range(1000))


def test_a_mobster_that_blocks_in_result_is_drawn_from(client: mob.Client, back: mob.Proxy) -> None:
    assert client.require("front").lend_by_hand(500).result(patient(20)) == sum(range(500))
    assert client.require("front").lend_async(500).result(patient(20)) == sum(range(500))


def test_an_iterator_that_is_left_is_closed_and_freed(client: mob.Client, back: mob.Proxy) -> None:
    closed = []

    def numbers() -> Iterator[int]:
        try:
            yield from range(10_000)
        finally:
            closed.append(True)

    assert back.first(numbers()).result(patient(20)) == 0
    wait_until(lambda: closed, "it is closed")
    wait_until(lambda: client.statistics()["lent"] == 0, "it is freed")
