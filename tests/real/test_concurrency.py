"""Exports that limit themselves (`@mob.export(concurrency=N)`), in real workers: what runs, waits and begins."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator

import pytest

import mob
from tests.patience import patient
from tests.running import Apps, RunningApp, apps_in, wait_until

BACK = """
import asyncio, os, threading, time
import mob

lock = threading.Lock()
began, running, most = [], 0, 0
doors = {}
closed = []

def door(name):
    with lock:
        return doors.setdefault(name, threading.Event())

def enter(name):
    global running, most
    with lock:
        began.append(name)
        running += 1
        most = max(most, running)

def leave():
    global running
    with lock:
        running -= 1

async def pass_through(name):
    enter(name)
    try:
        while not door(name).is_set():
            await asyncio.sleep(0.002)
    finally:
        leave()
    return name

@mob.export(concurrency=1)
async def one(name):
    return await pass_through(name)

@mob.export(concurrency=2)
async def two(name):
    return await pass_through(name)

@mob.export
async def any_number(name):
    return await pass_through(name)

total = 0

@mob.export(concurrency=1)
async def add():
    global total
    before = total
    await asyncio.sleep(0)
    total = before + 1
    return total

@mob.export(concurrency=2)
def blocking(name):
    enter(name)
    door(name).wait(20)
    leave()
    return name

@mob.export(concurrency=1)
def rows(name):
    enter(name)
    try:
        while True:
            yield name
    finally:
        leave()

@mob.export(concurrency=1)
async def arows(name):
    enter(name)
    try:
        while True:
            yield name
            await asyncio.sleep(0)
    finally:
        leave()

@mob.export(concurrency=1)
def rows_or_name(name):
    return iter([name] * 1000) if name == "rows" else name

@mob.export(concurrency=1)
async def fails(name):
    if name == "SystemError":
        raise SystemError(name)
    return object() if name == "object" else name

@mob.export
def open_door(*names):
    for name in names:
        door(name).set()

@mob.export
def look():
    return {"began": began, "running": running, "most": most}

@mob.export
def in_hand():
    from mob.mobster import api
    return api.current("x").statistics()["in_hand"]
"""
FRONT = """
import mob
back = mob.require("back")

def ask(name, pid):
    back.options(pid=pid).one(name)
"""


@pytest.fixture(scope="module")
def running_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    with apps_in(tmp_path_factory.mktemp("concurrency")) as apps:
        roles = '.role("back", "./back.py").role("threaded", "./back.py", threads=3).role("front", "./front.py")'
        app = apps.start(roles, back=BACK, front=FRONT)
        app.wait_ready()
        yield app


@pytest.fixture
def client(running_app: RunningApp) -> mob.Client:
    return running_app.wait_ready()


@pytest.fixture
def back(client: mob.Client) -> Iterator[mob.Proxy]:
    yield from left_empty(directly(client, "back"))


@pytest.fixture
def threaded(client: mob.Client) -> Iterator[mob.Proxy]:
    yield from left_empty(directly(client, "threaded"))


def directly(client: mob.Client, role: str) -> mob.Proxy:
    """Return the only worker of a role by its pid, so that calls wait there and not at the caller."""
    pid = next(member.pid for member in client.members() if member.role == role)
    return client.require(role).options(pid=pid)


def left_empty(proxy: mob.Proxy) -> Iterator[mob.Proxy]:
    yield proxy
    proxy.open_door(*names_of(proxy)).result(patient(20))
    wait_until(lambda: in_hand(proxy) == 0, "nothing is in hand any longer")


def in_hand(proxy: mob.Proxy) -> int:
    """Return the number of calls in hand, without the one that asks (which counts in a thread)."""
    asks = 1 if "threaded" in repr(proxy) else 0
    return int(proxy.in_hand().result(patient(20))) - asks


def names_of(proxy: mob.Proxy) -> list[str]:
    return list(proxy.look().result(patient(20))["began"])


def began(proxy: mob.Proxy, prefix: str) -> list[str]:
    return [name for name in names_of(proxy) if name.startswith(prefix)]


def test_so_many_run_and_the_others_follow_in_order(back: mob.Proxy) -> None:
    calls = [back.two(f"two{number}") for number in range(5)]
    wait_until(lambda: len(began(back, "two")) == 2, "the first ones run")
    wait_until(lambda: in_hand(back) == 5, "all have arrived")
    assert began(back, "two") == ["two0", "two1"]
    back.open_door("two1")
    wait_until(lambda: len(began(back, "two")) == 3, "the next one is let in")
    back.open_door(*[f"two{number}" for number in range(5)])
    assert [call.result(patient(20)) for call in calls] == [f"two{number}" for number in range(5)]
    assert began(back, "two") == [f"two{number}" for number in range(5)]


def test_calls_of_other_exports_pass_by(back: mob.Proxy) -> None:
    calls = [back.one(f"by{number}") for number in range(3)]
    other = back.any_number("other")
    wait_until(lambda: began(back, "other"), "another export runs")
    assert began(back, "by") == ["by0"]
    back.open_door("other", "by0", "by1", "by2")
    assert other.result(patient(20)) == "other"
    assert [call.result(patient(20)) for call in calls] == ["by0", "by1", "by2"]


def test_one_at_once_is_a_critical_section(back: mob.Proxy) -> None:
    assert [call.result(patient(20)) for call in [back.add() for _ in range(100)]] == list(range(1, 101))


def test_an_export_that_fails_lets_the_next_one_in(back: mob.Proxy) -> None:
    calls = [back.fails(name) for name in ("SystemError", "object", "fine", "SystemError", "fine")]
    assert [call.exception(patient(20)) is None for call in calls] == [False, False, True, False, True]


def test_threads_are_not_taken_by_those_that_wait(threaded: mob.Proxy) -> None:
    calls = [threaded.blocking(f"t{number}") for number in range(4)]
    wait_until(lambda: len(began(threaded, "t")) == 2, "two run in threads, the third thread is free")
    wait_until(lambda: in_hand(threaded) == 4, "all have arrived")
    threaded.open_door("t0", "t1", "t2", "t3")
    assert [call.result(patient(20)) for call in calls] == ["t0", "t1", "t2", "t3"]
    assert sorted(began(threaded, "t")) == ["t0", "t1", "t2", "t3"]  # the last two run in two threads
    assert threaded.look().result(patient(20))["most"] == 2


@pytest.mark.parametrize("name", ["rows", "arows"])
@pytest.mark.parametrize("role", ["back", "threaded"])
def test_a_running_stream_counts(client: mob.Client, role: str, name: str, request: pytest.FixtureRequest) -> None:
    proxy = request.getfixturevalue(role)
    label = f"{name} in {role}"
    first = iter(getattr(proxy, name)(f"{label} 1"))
    assert next(first) == f"{label} 1"
    second = getattr(proxy, name)(f"{label} 2")
    wait_until(
        lambda: in_hand(proxy) == 2, "the second one has arrived"
    )  # a thread reports slightly late that it is free
    assert began(proxy, label) == [f"{label} 1"]
    first.close()
    assert next(iter(second)) == f"{label} 2"


def test_many_that_do_not_stream_follow_one_that_does(back: mob.Proxy) -> None:
    """They end at the moment when they begin, so each lets the next one in."""
    stream = iter(back.rows_or_name("rows"))
    assert next(stream) == "rows"
    calls = [back.rows_or_name(str(number)) for number in range(2_000)]
    assert sum(1 for _ in stream) == 999
    assert [call.result(patient(20)) for call in calls] == [str(number) for number in range(2_000)]


def test_one_that_is_given_up_while_it_waits_never_begins(back: mob.Proxy) -> None:
    calls = [back.one(f"up{number}") for number in range(3)]
    wait_until(lambda: in_hand(back) == 3, "all have arrived")
    assert calls[1].cancel()
    wait_until(lambda: in_hand(back) == 2, "it has left")
    back.open_door("up0", "up1", "up2")
    assert calls[2].result(patient(20)) == "up2"
    assert began(back, "up") == ["up0", "up2"]


def test_one_that_runs_and_is_given_up_lets_the_next_one_in(back: mob.Proxy) -> None:
    calls = [back.one(f"run{number}") for number in range(2)]
    wait_until(lambda: began(back, "run"), "the first one runs")
    assert calls[0].cancel()
    wait_until(lambda: began(back, "run") == ["run0", "run1"], "the next one runs")
    assert calls[1].cancel()


def test_one_whose_time_is_over_while_it_waits_never_begins_and_says_so(back: mob.Proxy) -> None:
    first = back.one("late0")
    errors: list[BaseException | None] = []

    def has_the_worker_spoken() -> bool:
        """Return whether the worker answered first; on a busy machine the caller waits only a moment for that."""
        errors.append(back.options(timeout=0.2).one("late1").exception(patient(20)))
        return "did not answer within" not in str(errors[-1])

    wait_until(has_the_worker_spoken, "the worker answers that it did not start the call")
    assert {type(error) for error in errors} == {mob.CallTimeout}
    assert re.search(r"one was not started: it had 0\.2 s, and waited \d", str(errors[-1]))
    assert errors[-1].executed == "no"  # type: ignore[union-attr]
    back.open_door("late0")
    assert first.result(patient(20)) == "late0"
    assert began(back, "late") == ["late0"]


def test_those_of_a_caller_that_has_died_never_begin(
    running_app: RunningApp, client: mob.Client, back: mob.Proxy
) -> None:
    first = back.one("dead0")
    wait_until(lambda: began(back, "dead") == ["dead0"], "the first one runs")
    (member,) = running_app.ready(client, "back")
    client.require("front").ask("dead1", member.pid).result(patient(20))
    wait_until(lambda: in_hand(back) == 2, "both have arrived")
    (front,) = running_app.ready(client, "front")
    os.kill(front.pid, signal.SIGKILL)
    wait_until(lambda: in_hand(back) == 1, "the call of the dead process left")
    back.open_door("dead0", "dead1")
    assert first.result(patient(20)) == "dead0"
    assert began(back, "dead") == ["dead0"]
    wait_until(lambda: running_app.ready(client, "front")[:1] not in ([], [front]), "it is restarted")


def test_those_that_wait_are_counted_for_all_to_see(
    running_app: RunningApp, client: mob.Client, back: mob.Proxy
) -> None:
    board, (member,) = client._peer.context.board, running_app.ready(client, "back")
    assert board is not None
    calls = [back.one(f"seen{number}") for number in range(4)]
    wait_until(lambda: board.load(member.uid) == 3, "the board shows that three wait")
    assert board.queued(member.uid) == 0  # they delay no other call
    contact = client._peer.contacts.get(member.uid)
    assert contact is not None
    back.look().result(patient(20))
    assert contact.queue == 3
    back.open_door("seen0", "seen1", "seen2", "seen3")
    assert [call.result(patient(20)) for call in calls] == ["seen0", "seen1", "seen2", "seen3"]
    wait_until(lambda: board.load(member.uid) == 0, "none waits")


def test_the_line_is_bounded(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py", queue=3)', back=BACK)
    back = directly(app.wait_ready(), "back")
    calls = [back.one("0")]
    wait_until(lambda: began(back, "0"), "it runs")
    for number in range(1, 6):
        calls.append(back.one(str(number)))
        back.look().result(patient(20))  # it has arrived: the inbox is limited, too
    back.open_door(*map(str, range(6)))
    errors = [call.exception(patient(20)) for call in calls]
    assert [type(error) for error in errors] == [type(None)] * 4 + [mob.Busy] * 2
    assert str(errors[4]).endswith(": 3 calls of one already wait here (queue=3).")
    assert isinstance(errors[5], mob.Busy)
    assert errors[5].executed == "no"


def test_the_concurrency_of_the_role_holds_beside(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py", concurrency=2)', back=BACK)
    back = app.wait_ready().require("back")
    other = back.any_number("other")
    calls = [back.two(f"two{number}") for number in range(3)]
    later = back.any_number("later")
    wait_until(lambda: began(back, "two"), "one has begun")
    assert names_of(back) == ["other", "two0"]
    calls[1].cancel()  # it has passed the gate and waits for the role: its place goes to the next one
    back.open_door("two0")
    wait_until(lambda: len(names_of(back)) == 3, "the next one has begun")
    back.open_door("other", "two2", "later")
    assert [call.result(patient(20)) for call in (other, calls[0], calls[2], later)] == [
        "other",
        "two0",
        "two2",
        "later",
    ]
    assert back.look().result(patient(20))["most"] == 2
    assert sorted(names_of(back)) == ["later", "other", "two0", "two2"]


def test_a_process_that_stops_finishes_them(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py")', back=BACK)
    back = directly(app.wait_ready(), "back")
    calls = [back.one(str(number)) for number in range(4)]
    wait_until(lambda: in_hand(back) == 4, "all have arrived")
    back.open_door("0", "1", "2", "3").result(patient(20))
    app.signal(signal.SIGTERM)
    assert [call.result(patient(20)) for call in calls] == ["0", "1", "2", "3"]
    assert app.wait() == 0
