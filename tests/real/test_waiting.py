"""Several calls at once: `mob.wait` and `mob.as_completed`, and a `Call` as a coroutine and as a concurrent future."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import anyio
import pytest

import mob
from tests.patience import patient
from tests.running import RunningApp, apps_in, wait_until

BACK = """
import asyncio, threading
doors = {}
def add(a): return a + 1
def boom(): raise ValueError("boom")
def rows():
    yield 1
    yield 2
async def wait_for(name): await doors.setdefault(name, asyncio.Event()).wait(); return name
async def open_door(name): doors.setdefault(name, asyncio.Event()).set()
ended = []
async def hang(name):
    try: await asyncio.sleep(100)
    finally: ended.append(name)
async def look(): return ended
"""
FRONT = """
import asyncio, concurrent.futures, threading
import mob
back, own = mob.require("back"), mob.require("front")
def add(a): return a + 1
def wait(): return sorted(call.result() for call in mob.wait([back.add(n) for n in range(5)]).done)
def in_turn(): return sorted(call.result() for call in mob.as_completed([back.add(n) for n in range(5)]))
def not_all():
    done, not_done = mob.wait([back.add(1), back.wait_for("never")], timeout=0.05)
    return len(done), len(not_done), [call.cancel() for call in not_done]
def wait_for_myself(): return [str(call.exception()) for call in mob.wait([own.add(1), back.add(1)]).done]
def futures():
    calls = [back.add(n) for n in range(5)]
    done = concurrent.futures.wait(calls).done
    first = concurrent.futures.wait([back.add(0), back.wait_for("never")], return_when="FIRST_COMPLETED")
    assert {len(first.done), len(first.not_done)} == {1}, first
    assert not concurrent.futures.wait(first.not_done, timeout=0.01).done
    assert [call.cancel() for call in first.not_done] == [True]
    in_turn = concurrent.futures.as_completed([back.add(n) for n in range(5)])
    return sorted(call.result() for call in done), sorted(call.result() for call in in_turn)
async def futures_in_a_coroutine(): return futures()
def futures_of_both_kinds():
    gate = threading.Event()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        slow = pool.submit(gate.wait)
        both = concurrent.futures.as_completed([slow, back.add(1)])
        results = [next(both).result()]
        gate.set()
        return results + [next(both).result()]
def futures_of_myself():
    try: list(concurrent.futures.as_completed([back.wait_for("never")], timeout=0.02))
    except TimeoutError as error: late = str(error)
    return late, [str(call.exception()) for call in concurrent.futures.as_completed([own.add(1), back.boom()])]
async def tasks(): return await asyncio.gather(*(asyncio.create_task(back.add(n)) for n in range(3)))
"""


@pytest.fixture(scope="module")
def running_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    with apps_in(tmp_path_factory.mktemp("waiting")) as apps:
        roles = '.role("back", "./back.py").role("front", "./front.py").role("threaded", "./front.py", threads=2)'
        app = apps.start(roles, back=BACK, front=FRONT)
        app.wait_ready()
        yield app


@pytest.fixture
def client(running_app: RunningApp) -> mob.Client:
    return running_app.wait_ready()


@pytest.fixture
def back(client: mob.Client) -> mob.Proxy:
    return client.require("back")


# -- mob.wait and mob.as_completed -------------------------------------------------------------------------------------

WAYS = [mob.wait, concurrent.futures.wait]
IN_TURN = [mob.as_completed, concurrent.futures.as_completed]


@pytest.mark.parametrize("wait", WAYS)
def test_waiting_for_all(back: mob.Proxy, wait: Callable[..., Any]) -> None:
    calls = [back.add(number) for number in range(20)]
    done, not_done = wait(calls)
    assert done == set(calls)
    assert not not_done
    assert wait(calls).done == done


@pytest.mark.parametrize("wait", WAYS)
def test_waiting_for_the_first(back: mob.Proxy, wait: Callable[..., Any]) -> None:
    name = f"first of {wait.__module__}"
    quick, slow = back.add(1), back.wait_for(name)
    done, not_done = wait([quick, slow, quick], return_when="FIRST_COMPLETED")
    assert (done, not_done) == ({quick}, {slow})
    assert wait({quick, slow}, 0.01).not_done == {slow}
    back.open_door(name)
    assert wait([slow]).done == {slow}


@pytest.mark.parametrize("wait", WAYS)
def test_waiting_for_the_first_error(back: mob.Proxy, wait: Callable[..., Any]) -> None:
    name = f"error of {wait.__module__}"
    failed, slow = back.boom(), back.wait_for(name)
    assert wait([failed, slow], return_when="FIRST_EXCEPTION").done == {failed}
    assert wait([failed, slow], return_when="FIRST_EXCEPTION").done == {failed}
    assert isinstance(failed.exception(), ValueError)
    back.open_door(name)
    good = [slow, back.add(1)]
    assert wait(good, return_when="FIRST_EXCEPTION").done == set(good)


@pytest.mark.parametrize("wait", WAYS)
def test_a_cancelled_call_has_ended(back: mob.Proxy, wait: Callable[..., Any]) -> None:
    slow = back.wait_for("never")
    threading.Timer(0.02, slow.cancel).start()
    assert wait([slow]).done == {slow}
    assert slow.cancelled()


@pytest.mark.parametrize("in_turn", IN_TURN)
def test_calls_come_as_they_end(back: mob.Proxy, in_turn: Callable[..., Iterator[mob.Call[Any]]]) -> None:
    name = f"last of {in_turn.__module__}"
    last = back.wait_for(name)
    calls = [last, *(back.add(number) for number in range(5))]
    results: list[Any] = []
    for call in in_turn([*calls, last]):
        results.append(call.result())
        if len(results) == 5:
            back.open_door(name)
    assert results[-1] == name
    assert sorted(results[:-1]) == [1, 2, 3, 4, 5]
    assert list(in_turn([])) == []


@pytest.mark.parametrize("in_turn", IN_TURN)
def test_the_time_is_over(back: mob.Proxy, in_turn: Callable[..., Iterator[mob.Call[Any]]]) -> None:
    slow = back.wait_for("never")
    with pytest.raises(TimeoutError, match="1"):
        list(in_turn([slow], timeout=0.02))
    assert not slow.done()
    slow.cancel()


def test_calls_and_futures_together(back: mob.Proxy) -> None:
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        both = {back.add(1), pool.submit(abs, -2)}
        assert concurrent.futures.wait(both).done == both
        assert {each.result() for each in concurrent.futures.as_completed(both)} == {2}
        with pytest.raises(TypeError, match=r"concurrent\.futures\.wait takes calls and futures together"):
            mob.wait(both)


def test_many_threads_wait_for_the_same_calls(back: mob.Proxy) -> None:
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for _ in range(20):
            calls = [back.add(number) for number in range(20)]
            waits = [pool.submit(wait, calls) for wait in WAYS * 4]
            assert all(each.result(patient(20)).done == set(calls) for each in waits)


def test_no_trace_of_a_wait_is_left(back: mob.Proxy) -> None:
    slow = back.wait_for("never")
    for _ in range(10):
        mob.wait([slow], timeout=0)
        next(iter(mob.as_completed([slow, back.add(1)])))
    assert not slow._callbacks  # pyright: ignore[reportPrivateUsage]
    slow.cancel()


def test_what_is_no_call_is_refused(back: mob.Proxy) -> None:
    call = back.add(1)
    with pytest.raises(TypeError, match=r"mob\.wait takes several calls: mob\.wait\(\[call\]\)"):
        mob.wait(call)
    with pytest.raises(TypeError, match=r"mob\.as_completed takes calls, .* 7 is a int"):
        mob.as_completed([7])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="one of 'FIRST_COMPLETED', 'FIRST_EXCEPTION', 'ALL_COMPLETED'"):
        mob.wait([call], return_when="SOON")


@pytest.mark.parametrize("wait", WAYS)
def test_a_stream_has_no_value_to_wait_for(back: mob.Proxy, wait: Callable[..., Any]) -> None:
    call = back.rows()
    assert wait([call], 20).done == {call}
    with pytest.raises(mob.CallError, match="is a generator"):
        call.result()


@pytest.mark.parametrize("role", ["front", "threaded"])
def test_in_a_role(client: mob.Client, role: str) -> None:
    front = client.require(role)
    assert front.wait().result(patient(20)) == [1, 2, 3, 4, 5]
    assert front.in_turn().result(patient(20)) == [1, 2, 3, 4, 5]
    assert front.not_all().result(patient(20)) == [1, 1, [True]]


def test_who_waits_for_itself_is_told(client: mob.Client) -> None:
    errors = client.require("front").wait_for_myself().result(patient(20))
    assert sorted(error[:33] for error in errors) == ["None", "front.add: this process would wait"[:33]]


@pytest.mark.parametrize("role", ["front", "threaded"])
@pytest.mark.parametrize("export", ["futures", "futures_in_a_coroutine"])
def test_concurrent_futures_waits_in_a_role(client: mob.Client, role: str, export: str) -> None:
    """This works on the thread that reads the answers, too."""
    assert getattr(client.require(role), export)().result(patient(20)) == [[1, 2, 3, 4, 5], [1, 2, 3, 4, 5]]


@pytest.mark.parametrize("role", ["front", "threaded"])
def test_calls_and_futures_of_an_executor_in_a_role(client: mob.Client, role: str) -> None:
    assert client.require(role).futures_of_both_kinds().result(patient(20)) == [2, True]


def test_concurrent_futures_tells_who_waits_for_itself(client: mob.Client) -> None:
    late, errors = client.require("front").futures_of_myself().result(patient(20))
    assert late == "1 (of 1) futures unfinished"
    assert sorted(error[:33] for error in errors) == ["ValueError: boom", "front.add: this process would wait"[:33]]


# -- what takes a call -------------------------------------------------------------------------------------------------


def test_a_call_is_run_as_a_coroutine(back: mob.Proxy) -> None:
    assert issubclass(mob.Call, Coroutine)
    assert asyncio.run(back.add(1)) == 2
    with pytest.raises(ValueError, match="boom"):
        asyncio.run(back.boom())
    assert asyncio.run(_open(back, "run")) == "run"


async def _open(back: mob.Proxy, name: str) -> Any:
    task = asyncio.create_task(back.wait_for(name))
    assert "coro=<back.wait_for()>" in repr(task)
    await back.open_door(name)
    return await task


def test_tasks_and_their_groups_take_calls(back: mob.Proxy) -> None:
    async def ask() -> None:
        assert await asyncio.create_task(back.add(1)) == 2
        call = back.wait_for("two tasks")
        both = asyncio.create_task(call), asyncio.create_task(call)
        await back.open_door("two tasks")
        assert await asyncio.gather(*both) == ["two tasks"] * 2
        async with asyncio.TaskGroup() as group:
            one, two = group.create_task(back.add(1)), group.create_task(back.wait_for("group"))
            await back.open_door("group")
        assert (one.result(), two.result()) == (2, "group")
        with pytest.raises(ExceptionGroup) as failed:
            await fail_in_a_group()
        assert isinstance(failed.value.exceptions[0], ValueError)
        done, pending = await asyncio.wait([asyncio.create_task(back.add(1)), asyncio.create_task(back.add(2))])
        assert {task.result() for task in done} == {2, 3}
        assert not pending

    async def fail_in_a_group() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(back.hang("in a group"))
            group.create_task(back.boom())

    asyncio.run(ask())
    wait_until(lambda: "in a group" in back.look().result(), "the other one is cancelled")


def test_a_cancelled_task_cancels_its_call(back: mob.Proxy) -> None:
    async def ask() -> None:
        call = back.hang("task")
        task = asyncio.create_task(call)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert call.cancelled()

    asyncio.run(ask())


def test_what_takes_it_as_a_future(back: mob.Proxy) -> None:
    async def ask() -> None:
        assert await asyncio.gather(back.add(1), back.add(2)) == [2, 3]
        assert await asyncio.wait_for(back.add(1), patient(20)) == 2
        assert await asyncio.shield(back.add(1)) == 2
        assert [await each for each in asyncio.as_completed([back.add(1)])] == [2]
        call = back.add(1)
        assert asyncio.ensure_future(call) is call
        assert await asyncio.wrap_future(call) == 2  # pyright: ignore[reportArgumentType]
        with pytest.raises(TypeError, match="use tasks explicitly"):
            await asyncio.wait([back.add(1)])  # pyright: ignore[reportArgumentType]

    asyncio.run(ask())


async def grouped(*calls: mob.Call[Any]) -> None:
    async with asyncio.TaskGroup() as group:
        for call in calls:
            group.create_task(call)


async def each_in_turn(*calls: mob.Call[Any]) -> None:
    for each in asyncio.as_completed(calls):
        await each


async def shielded(*calls: mob.Call[Any]) -> None:
    await asyncio.gather(*map(asyncio.shield, calls))


COMBINED: dict[str, Callable[..., Any]] = {
    "gather": lambda *calls: asyncio.gather(*calls),
    "gather all": lambda *calls: asyncio.gather(*calls, return_exceptions=True),
    "nested gather": lambda *calls: asyncio.gather(asyncio.gather(*calls), asyncio.gather(*calls)),
    "wait_for": lambda *calls: asyncio.wait_for(asyncio.gather(*calls), patient(60)),
    "task group": grouped,
    "tasks": lambda *calls: asyncio.gather(*map(asyncio.create_task, calls)),
    "as_completed": each_in_turn,
    "shield": shielded,
}


@pytest.mark.parametrize("name", COMBINED)
def test_what_waits_for_calls_can_be_cancelled(back: mob.Proxy, name: str) -> None:
    async def ask() -> list[mob.Call[Any]]:
        calls = [back.hang(f"{name} {number}") for number in range(3)]
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await COMBINED[name](*calls)
        return calls

    calls = asyncio.run(asyncio.wait_for(ask(), patient(30)))
    for call in calls:
        if name not in ("as_completed", "shield"):  # these leave what they wait for alone
            assert call.cancelled()
        call.cancel()


def test_one_of_several_that_are_gathered_is_cancelled(back: mob.Proxy) -> None:
    async def ask(return_exceptions: bool) -> Any:
        call = back.hang("one of several")
        both = asyncio.gather(call, back.add(1), return_exceptions=return_exceptions)
        call.cancel()
        return await both

    first, second = asyncio.run(asyncio.wait_for(ask(True), patient(30)))
    assert (type(first), second) == (asyncio.CancelledError, 2)
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(asyncio.wait_for(ask(False), patient(30)))


def test_from_another_thread(back: mob.Proxy) -> None:
    async def ask() -> Any:
        loop = asyncio.get_running_loop()
        return await asyncio.to_thread(lambda: asyncio.run_coroutine_threadsafe(back.add(1), loop).result(patient(20)))

    assert asyncio.run(ask()) == 2


def test_anyio(back: mob.Proxy) -> None:
    async def ask() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(back.add, 1)
            group.start_soon(back.wait_for, "anyio")
            await back.open_door("anyio")

    anyio.run(ask)


def test_a_loop_that_does_not_run_is_told_of_result(back: mob.Proxy) -> None:
    loop = asyncio.new_event_loop()
    try:
        with pytest.raises(RuntimeError, match=r"In sync code use call\.result\(\)"):
            loop.run_until_complete(back.add(1))
    finally:
        loop.close()


def test_in_a_coroutine_of_a_role(client: mob.Client) -> None:
    assert client.require("front").tasks().result(patient(20)) == [1, 2, 3]


def test_closing_a_call_cancels_it(back: mob.Proxy) -> None:
    call = back.hang("closed")
    call.close()
    assert call.cancelled()
