"""`map` of exports, in real workers: order, errors, look-ahead, early ends, and each kind of export."""

from __future__ import annotations

import asyncio
import gc
import itertools
import logging
import operator
import os
import signal
import threading
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import pytest
from rich.progress import track

import mob
from tests.patience import patient
from tests.running import Apps, RunningApp, apps_in, wait_until

BACK = """
import asyncio, os, threading, time
import mob

lock = threading.Lock()
began, ended, running, most = [], [], 0, 0
door = threading.Event()
total = []

def add(a, b=1): return a + b
def typed(a: int): return a
def pid(item): return os.getpid()
def odd(n):
    if n % 3 == 0: raise ValueError(n)
    return n
def grow(n):
    total.append(n)
    return total
def echo(value): return value
def thing(n): return object() if n == 2 else n
def apply(function, n): return function(n).result()
def rows(n): yield n
def iterator(n): return iter([n])
def later(n): return asyncio.sleep(0, n)
def who(n): return mob.caller().role
def user(n): return {"name": str(n), "age": n}
async def arows(n): yield n
async def aadd(n): return n + 1

def enter(n):
    global running, most
    with lock:
        began.append(n)
        running += 1
        most = max(most, running)

def leave(n):
    global running
    with lock:
        running -= 1
        ended.append(n)

def step(n):
    enter(n)
    try:
        if n >= 100: door.wait(20)
        else: time.sleep(0.001)
        return n
    finally: leave(n)

async def hang(n):
    enter(n)
    try: await asyncio.sleep(100)
    finally: leave(n)

async def look():
    return {"began": began, "ended": ended, "running": running, "most": most}
async def statistics():
    from mob.mobster import api
    return api.current("x").statistics()
async def open_door(): door.set()

@mob.export(concurrency=2)
async def two(n):
    enter(n)
    await asyncio.sleep(0.001)
    leave(n)
    return n
@mob.export(concurrency=1)
def one(n): return n
@mob.export(idempotent=True)
def die_once(n, path):
    try: os.open(path, os.O_CREAT | os.O_EXCL)
    except FileExistsError: return n
    os._exit(1)
def die(n): os._exit(1)

def is_own(it): return callable(it) and getattr(it, "__module__", "") == __name__ and not hasattr(it, "__mob_export__")
_ = [mob.export(it) for it in list(globals().values()) if is_own(it)]
"""
FRONT = """
import asyncio
import mob
back, own = mob.require("back"), mob.require("front")

def add(a): return a + 1
def sums(count): return sum(back.add.map(range(count)))
async def asums(count): return sum([each async for each in back.add.map(range(count))])
async def sync_in_async(count): return sum(back.aadd.map(range(count)))
def call_back(function): return list(back.apply.map([function] * 3, range(3)))
def add_myself(): return list(own.add.map(range(10)))
"""


OPTIONS = [{}, {"chunk": 1}, {"chunk": 7}, {"ahead": 1}, {"ahead": 5}, {"ahead": 50, "chunk": 9}]


@pytest.fixture(scope="module")
def running_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    with apps_in(tmp_path_factory.mktemp("map")) as apps:
        roles = """.role("back", "./back.py", workers=2).role("front", "./front.py")
app.role("single", "./back.py").role("threaded", "./back.py", threads=3)
app.role("narrow", "./back.py", queue=2).role("shut", "./back.py", callers=["front"])
"""
        app = apps.start(roles, back=BACK, front=FRONT)
        app.wait_ready()
        yield app


@pytest.fixture
def client(running_app: RunningApp) -> mob.Client:
    return running_app.wait_ready()


@pytest.fixture
def back(client: mob.Client) -> mob.Proxy:
    return client.require("back")


@pytest.fixture
def single(client: mob.Client) -> mob.Proxy:
    return client.require("single")


@pytest.fixture
def front(client: mob.Client) -> mob.Proxy:
    return client.require("front")


# -- results -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("role", ["back", "threaded", "narrow"])
def test_results_come_in_order(client: mob.Client, role: str, options: dict[str, Any]) -> None:
    proxy = client.require(role)
    assert list(proxy.add.map(range(500), **options)) == list(range(1, 501))
    assert list(proxy.aadd.map(iter(range(500)), **options)) == list(range(1, 501))
    assert sorted(proxy.two.map(range(50), unordered=True, **options)) == list(range(50))
    assert list(proxy.one.map(range(200), **options)) == list(range(200))


def test_many_items(back: mob.Proxy) -> None:
    assert sum(back.add.map(range(50_000))) == sum(range(1, 50_001))


def test_several_iterables_are_several_arguments_and_the_shortest_ends_it(back: mob.Proxy) -> None:
    assert list(back.add.map([1, 2, 3], itertools.count(10))) == [11, 13, 15]
    assert list(back.add.map("ab", ["c", "d"])) == ["ac", "bd"]
    assert list(back.add.map([])) == []


def test_the_work_is_spread_over_the_workers(back: mob.Proxy) -> None:
    assert set(back.step.map(range(60), chunk=2)) == set(range(60))
    assert len(Counter(back.pid.map(range(4), chunk=1, ahead=4))) == 2


def test_length_where_the_items_have_one(back: mob.Proxy) -> None:
    mapped = back.add.map([1, 2, 3], range(9))
    assert len(mapped) == 3
    assert next(mapped) == 1
    assert (len(mapped), operator.length_hint(iter(mapped))) == (3, 3)
    assert list(mapped) == [3, 5]
    assert not len(back.add.map([]))
    assert list(track(back.add.map(range(3)), disable=True)) == [1, 2, 3]
    unknown = back.add.map(iter([1]))
    with pytest.raises(TypeError, match=r"the items of back\.add\.map\(\.\.\.\) have no len\(\)"):
        len(unknown)
    assert unknown
    assert operator.length_hint(unknown, 7) == 7
    unknown.close()


def test_what_changes_later_is_not_seen_at_the_other_end(single: mob.Proxy) -> None:
    def reused() -> Iterator[list[int]]:
        row = [0]
        for number in range(20):
            row[0] = number
            yield row

    assert list(single.echo.map(reused(), chunk=10)) == [[number] for number in range(20)]
    assert [len(each) for each in single.grow.map(range(10), chunk=5)] == list(range(1, 11))


def test_what_is_mapped_may_hold_functions_and_large_buffers(back: mob.Proxy) -> None:
    seen: list[int] = []

    def note(number: int) -> int:
        seen.append(number)
        return number * 2

    assert list(back.apply.map([note] * 6, range(6))) == [0, 2, 4, 6, 8, 10]
    assert sorted(seen) == list(range(6))
    large = [bytes([number]) * 100_000 for number in range(6)]
    assert list(map(bytes, back.echo.map(large))) == large
    middle = [bytes([number]) * 10_000 for number in range(60)]
    assert list(back.echo.map(middle, chunk=30)) == middle
    function = next(back.echo.map([note], chunk=2))
    assert function is note


@dataclass
class User:
    name: str
    age: int


class Back(Protocol):
    def user(self, n: int) -> mob.Call[User]: ...
    def echo(self, value: Any) -> mob.Call[int]: ...


def test_results_of_a_typed_proxy_are_converted(client: mob.Client) -> None:
    typed: Any = client.require("back", Back)
    assert list(typed.user.map(range(3))) == [User(str(number), number) for number in range(3)]
    one, error, two = typed.echo.map([1, "no", 2], return_exceptions=True, chunk=3)
    assert (one, two) == (1, 2)
    assert "returned what Back.echo is not annotated to return" in str(error)


# -- errors ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [None, 1, 4])
def test_an_error_is_raised_in_its_place_and_ends_all(back: mob.Proxy, chunk: int | None) -> None:
    mapped = back.odd.map(itertools.count(1), chunk=chunk)
    assert [next(mapped), next(mapped)] == [1, 2]
    with pytest.raises(ValueError, match="3"):
        next(mapped)
    assert list(mapped) == []


@pytest.mark.parametrize("chunk", [None, 1, 4])
def test_errors_can_be_had_as_results(back: mob.Proxy, chunk: int | None) -> None:
    outcomes = list(back.odd.map(range(9), chunk=chunk, return_exceptions=True))
    assert [each for each in outcomes if isinstance(each, int)] == [1, 2, 4, 5, 7, 8]
    errors = [each for each in outcomes if isinstance(each, Exception)]
    assert [str(error) for error in errors] == ["ValueError: 0", "ValueError: 3", "ValueError: 6"]
    assert all(isinstance(error, ValueError) and isinstance(error, mob.RemoteError) for error in errors)
    assert outcomes[3] is errors[1]


def test_an_item_that_does_not_fit_fails_alone(back: mob.Proxy) -> None:
    one, error, three = back.typed.map([1, "two", 3], chunk=3, return_exceptions=True)
    assert (one, three) == (1, 3)
    assert isinstance(error, mob.ArgumentError)
    assert error.argument == "a"


@pytest.mark.parametrize("chunk", [None, 1, 4])
def test_what_cannot_be_sent_fails_alone(back: mob.Proxy, chunk: int | None) -> None:
    *_, error, last = back.echo.map([1, threading.Lock(), 3], chunk=chunk, return_exceptions=True)
    assert isinstance(error, mob.BadMessage)
    assert last == 3
    *_, error, last = back.thing.map(range(4), chunk=chunk, return_exceptions=True)
    assert isinstance(error, TypeError)
    assert "cannot send result" in str(error)
    assert last == 3


def test_an_error_of_the_items_themselves_comes_behind_the_results_before_it(back: mob.Proxy) -> None:
    def items() -> Iterator[int]:
        yield from range(10)
        raise LookupError("the end")

    mapped = back.add.map(items(), return_exceptions=True)
    assert list(itertools.islice(mapped, 10)) == list(range(1, 11))
    with pytest.raises(LookupError, match="the end"):
        next(mapped)
    assert list(mapped) == []


@pytest.mark.parametrize("export", ["rows", "arows", "iterator"])
@pytest.mark.parametrize("chunk", [None, 1, 3])
@pytest.mark.parametrize("role", ["single", "threaded"])
def test_generators_are_refused(client: mob.Client, role: str, export: str, chunk: int | None) -> None:
    mapped = getattr(client.require(role), export).map([1, 2], chunk=chunk)
    with pytest.raises(mob.CallError, match=f"{role}.{export} is a generator, and map needs one value for each item"):
        list(mapped)
    proxy = client.require(role)
    wait_until(lambda: proxy.statistics().result()["in_hand"] == 1, "nothing is in hand but the question")


def test_a_plain_function_may_return_an_awaitable(back: mob.Proxy) -> None:
    assert list(back.later.map(range(20), chunk=5)) == list(range(20))


def test_what_is_wrong_with_the_arguments_is_said_at_once(back: mob.Proxy) -> None:
    with pytest.raises(TypeError, match=r"back\.add\.map\(\) takes iterables, .* 5 is a int"):
        back.add.map(5)  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match=r"back\.add\.map\(\) needs the items"):
        back.add.map()
    with pytest.raises(ValueError, match=r"map\(ahead=0\)"):
        back.add.map([1], ahead=0)
    with pytest.raises(ValueError, match=r"map\(chunk=1\.5\)"):
        back.add.map([1], chunk=1.5)  # type: ignore[arg-type]


def test_who_may_not_call_is_told_the_name_of_the_export(client: mob.Client) -> None:
    with pytest.raises(mob.Forbidden, match=r"may not call shut\.add:"):
        list(client.require("shut").add.map(range(4), chunk=2))


def test_a_limit_of_time_holds_for_each_message(single: mob.Proxy) -> None:
    outcomes = list(single.options(timeout=0.05).hang.map(range(3), return_exceptions=True))
    assert [type(each) for each in outcomes] == [mob.CallTimeout] * 3
    assert list(single.options(timeout=20).add.map(range(300))) == list(range(1, 301))


# -- look-ahead and leaving --------------------------------------------------------------------------------------------


class Counted:
    """Endless items that count how many were drawn."""

    def __init__(self, first: int = 0) -> None:
        self.drawn = 0
        self._first = first

    def __iter__(self) -> Iterator[int]:
        return self

    def __next__(self) -> int:
        self.drawn += 1
        return self._first + self.drawn - 1


@pytest.mark.parametrize("ahead", [1, 2, 10])
def test_no_more_items_are_drawn_than_may_be_ahead(back: mob.Proxy, ahead: int) -> None:
    items = Counted()
    mapped = back.add.map(items, ahead=ahead)
    assert items.drawn == 0
    for read in range(1, 30):
        assert next(mapped) == read
        assert items.drawn <= read + ahead
    mapped.close()
    drawn = items.drawn
    assert list(mapped) == []
    assert items.drawn == drawn


def test_a_collection_is_begun_at_once(single: mob.Proxy) -> None:
    before = len(single.look().result()["began"])
    mapped = single.step.map([1, 2, 3])
    wait_until(lambda: len(single.look().result()["began"]) > before, "it has begun")
    assert list(mapped) == [1, 2, 3]


def wait_idle(proxy: mob.Proxy) -> None:
    wait_until(lambda: proxy.look().result()["running"] == 0, "no item runs any more")
    wait_until(lambda: proxy.statistics().result()["in_hand"] == 1, "nothing is in hand but the question")


@pytest.mark.parametrize("way", ["close", "with", "error"])
def test_leaving_early_cancels_what_is_under_way(single: mob.Proxy, way: str) -> None:
    items = Counted()
    mapped = single.hang.map(items, ahead=8, chunk=2)
    reader = threading.Thread(target=lambda: list(mapped))  # draws, and waits for an answer that never comes
    reader.start()
    wait_until(lambda: single.look().result()["running"] == 8, "all have begun")
    if way == "close":
        mapped.close()
    elif way == "with":
        with mapped:
            pass
    else:
        with pytest.raises(LookupError), mapped:
            raise LookupError
    reader.join(patient(20))
    assert not reader.is_alive()
    wait_idle(single)
    assert items.drawn == 8


def test_a_map_that_is_dropped_is_cancelled(single: mob.Proxy) -> None:
    mapped = single.hang.map([1] * 8, chunk=2)
    wait_until(lambda: single.look().result()["running"] > 0, "it has begun")  # the amount is limited by 2 ms of work
    del mapped
    gc.collect()
    wait_idle(single)


def test_breaking_off_stops_all(back: mob.Proxy) -> None:
    items = Counted()
    for each in back.add.map(items):
        if each == 50:
            break
    gc.collect()
    drawn = items.drawn
    back.add(1).result()
    assert items.drawn == drawn


def test_a_cancelled_chunk_stops_between_items(client: mob.Client) -> None:
    for role in ("single", "threaded"):
        proxy = client.require(role)
        before = len(proxy.look().result()["began"])
        mapped = proxy.step.map([1] * 5000, chunk=5000)
        wait_until(lambda: len(proxy.look().result()["began"]) > before, "it has begun")  # noqa: B023
        mapped.close()
        wait_until(lambda: proxy.statistics().result()["in_hand"] == 1, "it has ended")  # noqa: B023
        assert len(proxy.look().result()["began"]) - before < 5000


def test_others_get_their_turn_beside_a_long_chunk(single: mob.Proxy) -> None:
    before = len(single.look().result()["began"])
    mapped = single.step.map([1] * 20_000, chunk=20_000)
    assert len(single.look().result()["began"]) - before < 20_000
    mapped.close()
    wait_idle(single)


def test_a_map_that_is_dropped_unread_is_told_of(back: mob.Proxy, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "mob"):
        back.add.map([1, 2, 3])
        gc.collect()
        wait_until(lambda: "back.add.map(...) was dropped unread" in caplog.text, "it is logged")


def test_it_is_read_by_one_at_a_time(single: mob.Proxy) -> None:
    def items() -> Iterator[int]:
        yield next(mapped)

    mapped = single.add.map(items())
    with pytest.raises(ValueError, match=r"single\.add\.map\(\.\.\.\) is already being read"):
        next(mapped)


# -- async -------------------------------------------------------------------------------------------------------------


async def numbers(count: int) -> AsyncIterator[int]:
    for number in range(count):
        await asyncio.sleep(0)
        yield number


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_async_for(back: mob.Proxy, options: dict[str, Any]) -> None:
    async def read() -> None:
        wanted = list(range(1, 301))
        assert [each async for each in back.add.map(range(300), **options)] == wanted
        assert [each async for each in back.add.map(numbers(300), **options)] == wanted
        assert [each async for each in back.add.map(numbers(300), itertools.repeat(1), **options)] == wanted
        assert sorted([each async for each in back.add.map(numbers(300), unordered=True, **options)]) == wanted

    asyncio.run(read())


def test_an_item_does_not_wait_for_the_next_to_come(back: mob.Proxy) -> None:
    async def read() -> None:
        go_on = asyncio.Event()

        async def items() -> AsyncIterator[int]:
            yield 1
            await go_on.wait()
            yield 2

        mapped = back.add.map(items(), chunk=10)
        assert await anext(mapped) == 2
        go_on.set()
        assert [each async for each in mapped] == [3]

    asyncio.run(read())


def test_an_error_of_async_items(back: mob.Proxy) -> None:
    async def items() -> AsyncIterator[int]:
        yield 1
        raise LookupError("the end")

    async def read() -> None:
        mapped = back.add.map(items())
        assert await anext(mapped) == 2
        with pytest.raises(LookupError, match="the end"):
            await anext(mapped)
        assert [each async for each in mapped] == []

    asyncio.run(read())


def test_async_items_are_drawn_no_further_when_the_loop_is_left(back: mob.Proxy) -> None:
    closed: list[bool] = []

    async def items() -> AsyncGenerator[int, None]:
        try:
            for number in itertools.count():
                yield number
                await asyncio.sleep(0)
        finally:
            closed.append(True)

    async def read() -> None:
        source = items()
        async with back.add.map(source, ahead=4) as mapped:
            async for each in mapped:
                if each == 10:
                    break
        await source.aclose()

    asyncio.run(read())
    assert closed == [True]


def test_async_items_need_async_for(back: mob.Proxy) -> None:
    with pytest.raises(TypeError, match=r"come from a async_generator, .* read the map with `async for`, too"):
        list(back.add.map(numbers(3)))


def test_a_stream_can_be_mapped(back: mob.Proxy) -> None:
    assert list(back.add.map(back.rows(4))) == [5]

    async def read() -> list[int]:
        return [each async for each in back.add.map(back.arows(4))]

    assert asyncio.run(read()) == [5]


# -- in a role ---------------------------------------------------------------------------------------------------------


def test_in_exports_of_every_kind(front: mob.Proxy) -> None:
    assert front.sums(500).result(patient(20)) == sum(range(1, 501))
    assert front.asums(500).result(patient(20)) == sum(range(1, 501))
    assert front.sync_in_async(300).result(patient(20)) == sum(range(1, 301))
    assert front.call_back(lambda number: number * 2).result(patient(20)) == [0, 2, 4]


def test_a_worker_that_would_wait_for_itself_is_told(front: mob.Proxy) -> None:
    with pytest.raises(mob.Deadlock, match="this process would wait for itself"):
        front.add_myself().result(patient(20))


def test_limits_hold_for_items(apps: Apps) -> None:
    proxy = apps.start('.role("back", "./back.py", threads=3)', back=BACK).wait_ready().require("back")
    assert list(proxy.two.map(range(40), chunk=20)) == list(range(40))
    assert proxy.look().result()["most"] == 2


def test_each_item_counts_as_a_call(running_app: RunningApp, client: mob.Client, single: mob.Proxy) -> None:
    def counted(export: str) -> tuple[int, int]:
        found = [each for each in client.metrics().exports if (each.role, each.export) == ("single", export)]
        return (found[0].calls, sum(found[0].failed.values())) if found else (0, 0)

    before = {export: counted(export) for export in ("echo", "odd", "aadd", "one")}
    list(single.echo.map(range(200)))
    list(single.odd.map(range(30), return_exceptions=True))
    list(single.aadd.map(range(100)))
    list(single.one.map(range(100)))

    def grown() -> dict[str, tuple[int, int]]:
        now = {export: counted(export) for export in before}
        return {each: (now[each][0] - before[each][0], now[each][1] - before[each][1]) for each in before}

    wanted = {"echo": (200, 0), "odd": (30, 10), "aadd": (100, 0), "one": (100, 0)}
    wait_until(lambda: grown() == wanted, f"the calls are counted: {wanted}")


def test_items_wait_for_a_function_that_is_not_defined_yet(apps: Apps) -> None:
    module = """
import os, time, mob
def early(n): return n
mob.ready()
while not os.path.exists("go"): time.sleep(0.005)
def late(n): return n
"""
    app = apps.start('.role("back", "./back.py")', back=module)
    back = app.wait_ready().require("back")
    mapped = back.late.map(range(6), chunk=3)
    assert list(back.early.map(range(6), chunk=3)) == list(range(6))
    (app.directory / "go").touch()
    assert list(mapped) == list(range(6))
    with pytest.raises(mob.UnknownExport, match="'back' exports no function 'lat'"):
        list(back.lat.map(range(6), chunk=3))


# -- deaths ------------------------------------------------------------------------------------------------------------


def test_a_death_fails_the_items_of_its_chunks(apps: Apps) -> None:
    client = apps.start('.role("back", "./back.py")', back=BACK).wait_ready()
    outcomes = list(client.require("back").die.map(range(3), chunk=3, return_exceptions=True))
    assert [(type(each), each.executed) for each in outcomes] == [(mob.Lost, "maybe")] * 3


def test_idempotent_exports_are_repeated(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py", workers=2)', back=BACK)
    back = app.wait_ready().require("back")
    path = str(app.directory / "died")
    assert list(back.die_once.map(range(20), [path] * 20, chunk=5)) == list(range(20))
    assert os.path.exists(path)


def test_a_worker_that_is_killed_costs_only_its_own_items(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py", workers=2)', back=BACK)
    client = app.wait_ready()
    mapped = client.require("back").step.map(range(90), chunk=3, return_exceptions=True)
    first = next(mapped)
    os.kill(app.ready(client, "back")[0].pid, signal.SIGKILL)
    outcomes = [first, *mapped]
    assert len(outcomes) == 90
    assert all(each == number or isinstance(each, mob.Lost) for number, each in enumerate(outcomes))
    assert outcomes[-1] == 89


def test_a_reload_loses_no_item(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py", workers=2)', back=BACK)
    client = app.wait_ready()
    mapped = client.require("back").step.map([1] * 2000)
    first = next(mapped)
    client.reload("back")
    assert first + sum(mapped) == 2000


def test_nothing_is_left_behind(client: mob.Client, back: mob.Proxy) -> None:
    peer = client._caller  # pyright: ignore[reportPrivateUsage]
    list(back.add.map(range(1000)))
    back.hang.map(range(6), chunk=2).close()
    gc.collect()
    wait_until(lambda: peer.statistics()["pending"] == 0, "nothing is pending")
    assert peer.statistics()["lent"] == 0
