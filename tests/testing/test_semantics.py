"""An app behaves the same in processes and in one process: one table, run in both."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import mob
from mob import testing
from mob.testing import AppUnderTest
from tests.patience import patient

BACK = """
    import asyncio
    import os
    import threading
    import time
    from dataclasses import dataclass

    import mob

    @dataclass
    class Item:
        name: str
        size: "int"

    heard = []
    kept = []
    running = threading.Event()


    @mob.on("message")
    def handle(obj):
        heard.append(obj)


    @mob.on("drain")
    async def drain():
        print("drains:", mob.me().role)


    ticked = []


    @mob.every(3600, each=True)
    def tick():
        ticked.append(mob.me().pid)

    def ticks():
        return list(ticked)

    def add(a: int, b: int = 0) -> int:
        print(f"adds {a} and {b}")
        return a + b

    def grow(item: Item) -> Item:
        return Item(item.name, item.size + 1)

    def fail(text):
        raise ValueError(text)

    def unsendable():
        return object()

    def count(to: int):
        yield from range(to)

    async def call_back(function, value):
        return await function(value)

    def keep(function):
        kept.append(function)

    def who():
        return mob.me().pid

    def caller():
        return mob.caller().role

    def heard_so_far():
        return list(heard)

    async def sleep(seconds: float) -> float:
        await asyncio.sleep(seconds)
        return seconds

    def block(seconds: float) -> int:
        time.sleep(seconds)
        return mob.me().pid

    def by_thread() -> str:
        found = []
        thread = threading.Thread(target=lambda: found.append(mob.me().role))
        thread.start()
        thread.join()
        return found[0]

    async def by_to_thread() -> str:
        return (await asyncio.to_thread(mob.me)).role

    def fail_in(pid: int) -> int:
        if mob.me().pid == pid:
            raise ValueError(pid)
        return pid

    def end(status: int):
        mob.exit(status)

    def ask_oneself() -> int:
        return mob.require("front").ask(mob.me().pid).result()
"""
FRONT = """
    import mob

    back = mob.require("back")


    async def add(a, b):
        return await back.add(a, b)

    async def caller():
        return await back.caller()

    def ask(pid):
        return mob.pid(pid).call.add(1, 1).result()
"""
MAIN = """
    import mob

    app = mob.start("semantics").base(__file__)
    app.role("back", "./back.py", workers=2)
    app.role("front", "./front.py", threads=2)
    app.role("narrow", "./back.py", queue=2)
    app.run()
"""


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("semantics")
    for name, text in (("back", BACK), ("front", FRONT), ("main", MAIN)):
        (place / f"{name}.py").write_text(textwrap.dedent(text))
    return place


@pytest.fixture(scope="module", params=[False, True], ids=["processes", "one process"])
def app(request: pytest.FixtureRequest, directory: Path) -> Iterator[AppUnderTest]:
    with testing.start("main.py", directory=directory, one_process=request.param) as running:
        yield running


@pytest.fixture
def back(app: AppUnderTest) -> Any:
    app.wait_ready()
    return app.require("back").options(timeout=20)


def test_values_cross_as_they_do(app: AppUnderTest, back: Any) -> None:
    assert back.add(1, b=2).result() == 3
    assert back.grow({"name": "a", "size": 1}).result() == {"name": "a", "size": 2}
    assert app.require("front").add(3, 4).result() == 7
    app.wait_for("^back.* adds 3 and 4$")


ERRORS = {
    "raised": (lambda b: b.fail("no good"), ValueError, "^ValueError: no good$"),
    "is a RemoteError": (lambda b: b.fail("no good"), mob.RemoteError, "^ValueError: no good$"),
    "wrong type": (lambda b: b.add("1"), mob.ArgumentError, "a"),
    "too few": (lambda b: b.add(), mob.ArgumentError, "a"),
    "no such function": (lambda b: b.ad(1), mob.UnknownExport, "'back' exports no function 'ad'. Did you mean 'add'"),
    "cannot be sent": (lambda b: b.add(object()), mob.BadMessage, "object"),
    "cannot be returned": (
        lambda b: b.unsendable(),
        mob.RemoteError,
        "mob.BadMessage: cannot send result: an object of",
    ),
    "too late": (lambda b: b.options(timeout=0.05).sleep(5), mob.CallTimeout, "sleep took too long"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors_are_the_same(back: Any, case: str) -> None:
    call, kind, text = ERRORS[case]
    with pytest.raises(kind, match=text):
        call(back).result()


def test_a_role_that_is_not_there(app: AppUnderTest) -> None:
    with pytest.raises(mob.UnknownRole, match="Did you mean 'back'"):
        app.require("bakc")


def test_timers(app: AppUnderTest, back: Any) -> None:
    assert [timer.label for timer in app.timers()] == ["back.tick", "narrow.tick"]
    assert app.run_timer("back.tick").endswith("in 2 workers.")
    own = {each.pid: [each.pid] for each in app.members() if each.role == "back"}
    assert app.all("back").call.ticks().result() == own


def test_streams(back: Any) -> None:
    assert list(back.count(1000)) == list(range(1000))


def test_callbacks(back: Any, app: AppUnderTest) -> None:
    assert back.call_back(lambda value: value * 2, 21).result() == 42
    assert app.leaks() == []


def test_who_calls(app: AppUnderTest, back: Any) -> None:
    assert back.caller().result() == ""
    assert app.require("front").caller().result() == "front"
    assert back.by_thread().result() == "back"
    assert back.by_to_thread().result() == "back"


def test_a_process_that_is_no_mobster_is_none(app: AppUnderTest) -> None:
    with pytest.raises(mob.NotInMobster):
        mob.me().pid  # noqa: B018  its use is what is tested


def test_messages_and_broadcasts(app: AppUnderTest, back: Any) -> None:
    app.all("back").send({"n": 1})
    pids = app.pids("back")
    for pid in pids:
        app.wait_until(lambda pid=pid: {"n": 1} in app.pid(pid).call.heard_so_far().result(patient(10)), "it was heard")
    assert app.all("back").call.who().result(patient(10)) == {pid: pid for pid in pids}
    with pytest.raises(mob.PartialFailure) as failed:
        app.all("back").call.fail_in(pids[0]).result(patient(10))
    assert list(failed.value.errors) == pids[:1]
    assert failed.value.results == {pids[1]: pids[0]}


def test_keys_stay(back: Any) -> None:
    assert len({back.options(key="ada").who().result() for _ in range(20)}) == 1


def test_a_full_queue_is_busy(app: AppUnderTest) -> None:
    (pid,) = app.pids("narrow")
    narrow = app.require("narrow").options(timeout=20)
    calls = [narrow.options(pid=pid).block(0.2) for _ in range(8)]
    outcomes = [_outcome(call) for call in calls]
    assert mob.Busy in outcomes
    assert pid in outcomes


def test_calls_to_any_worker_wait_for_it_and_fill_no_queue(app: AppUnderTest) -> None:
    (pid,) = app.pids("narrow")
    narrow = app.require("narrow").options(timeout=20)
    calls = [narrow.block(0.02) for _ in range(8)]
    assert [_outcome(call) for call in calls] == [pid] * 8


def _outcome(call: mob.Call[Any]) -> Any:
    try:
        return call.result(patient(20))
    except mob.CallError as error:
        return type(error)


def test_a_circle_of_waiting_is_told(app: AppUnderTest) -> None:
    with pytest.raises(mob.CallError, match="waits for the call that led to this one"):
        app.require("back").ask_oneself().result(patient(20))


def test_a_kill_loses_the_call_and_a_successor_comes(app: AppUnderTest, back: Any) -> None:
    pid = app.pids("back")[0]
    call = app.pid(pid).call.sleep(30)
    app.wait_until(lambda: app.pid(pid).call.who().result(patient(10)) == pid, "the call before has arrived")
    assert app.faults.kill(pid) == [pid]
    with pytest.raises(mob.Lost, match=rf"back.sleep was lost: back.0 \(pid {pid}\) ") as lost:
        call.result(patient(10))
    assert lost.value.executed == "maybe"
    app.wait_ready("back", 2)
    assert pid not in app.pids("back")
    assert back.add(1, 1).result() == 2
    app.wait_for(rf"back.0 \(pid {pid}\) was killed by SIGKILL")


def test_an_exit_ends_the_mobster(app: AppUnderTest) -> None:
    app.wait_ready()
    pid = app.pids("back")[1]
    _outcome(app.pid(pid).call.end(3))
    app.wait_for(rf"back.1 \(pid {pid}\) exited with status 3")
    app.wait_ready("back", 2)


def test_a_reload_brings_new_code(app: AppUnderTest, directory: Path, back: Any) -> None:
    before = app.pids("back")
    path = directory / "back.py"
    text = path.read_text()
    try:
        path.write_text(text + "\n\ndef added_later(): return 'new'\n")
        app.reload("back", timeout=patient(30))
        assert app.require("back").added_later().result(patient(10)) == "new"
        assert not set(before) & set(app.pids("back"))
        app.wait_for(r"\| drains: back$", 2)
    finally:
        path.write_text(text)


def test_more_workers(app: AppUnderTest) -> None:
    app.scale("back", 3)
    app.wait_ready("back", 3)
    app.scale("back", 2)
    app.wait_until(lambda: len(app.pids("back")) == 2, "two are left")


def test_a_delay_is_one_of_the_callee(app: AppUnderTest, back: Any) -> None:
    with app.faults.delay("back", 0.3, export="add"):
        began = time.monotonic()
        assert app.require("front").add(1, 2).result(patient(20)) == 3  # between mobsters, too
        assert time.monotonic() - began >= 0.3
        assert back.options(timeout=0.25).who().result() in app.pids("back")
    with app.faults.delay("back", 3600, export="add"):
        pass
    assert back.add(1, 2).result(patient(20)) == 3


def test_what_is_late_keeps_its_order(app: AppUnderTest) -> None:
    pid = app.pids("back")[0]
    with app.faults.delay(pid, 0.1):
        for number in range(50):
            app.pid(pid).send({"order": number})
    target = app.pid(pid).call
    wanted = [{"order": number} for number in range(50)]
    app.wait_until(
        lambda: [o for o in target.heard_so_far().result(patient(10)) if "order" in o] == wanted, "all in order"
    )


def test_a_cut_link_loses_the_call_and_no_other(app: AppUnderTest, back: Any) -> None:
    pid = app.pids("back")[0]
    with app.faults.drop(pid, export="add"):
        with pytest.raises(mob.Lost) as lost:
            app.pid(pid).call.add(1, 1).result(patient(10))
        assert lost.value.executed == "maybe"
        assert app.pid(pid).call.add(1, 1).result(patient(10)) == 2  # over another link


def test_faults_say_what_is_wrong_with_them(app: AppUnderTest) -> None:
    with pytest.raises(mob.UnknownTarget, match=r"no mobster of 'back.9' is ready. There are: back.0, back.1, front.0"):
        app.faults.kill("back.9")
    with pytest.raises(mob.UnknownExport, match="Did you mean 'add'"):
        app.faults.delay("back", 1, export="ad")
    with pytest.raises(ValueError, match="-1 is not a number of seconds"):
        app.faults.delay("back", -1)
