"""Ordinary work keeps all workers busy, waits at its callers, costs them nothing there, and is not lost."""

from __future__ import annotations

import os
import resource
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator

import pytest

import mob
from tests.patience import patient
from tests.running import Apps, RunningApp, apps_in, wait_until

WORK = """
import asyncio, os, time

def nap(seconds):
    time.sleep(seconds)
    return os.getpid()

def hold(door="door"):
    while not os.path.exists(door):
        time.sleep(0.002)
    return os.getpid()

async def ahold(door="door"):
    while not os.path.exists(door):
        await asyncio.sleep(0.002)
    return os.getpid()

def length(data):
    return len(data)

seen = []

def note(what):
    seen.append(what)
    return what

def notes():
    return list(seen)
"""
CALLER = """
import asyncio, resource
import mob
work = mob.require("work")
early = [work.nap(0.002) for _ in range(200)]

def cpu():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime

def pids_of_early():
    return [call.result() for call in early]

def wait_for(count, door):
    calls = [work.hold(door) for _ in range(count)]
    before = cpu()
    pids = [call.result() for call in calls]
    return pids, cpu() - before

def keep_busy(count, seconds):
    return len([call.result() for call in [work.nap(seconds) for _ in range(count)]])
"""


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    with apps_in(tmp_path_factory.mktemp("work")) as apps:
        app = apps.start(
            '.role("work", "./work.py", workers=2).role("caller", "./caller.py", workers=3)', work=WORK, caller=CALLER
        )
        app.wait_ready()
        yield app


def cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def test_a_list_of_calls_is_shared_out_to_all_workers(app: RunningApp) -> None:
    work = app.connect().require("work")
    for seconds, count in [(0.0002, 500), (0.002, 200), (0.02, 20)]:
        served = Counter(call.result(patient(30)) for call in [work.nap(seconds) for _ in range(count)])
        assert len(served) == 2
        assert min(served.values()) >= count * 0.3


def test_calls_made_before_anybody_is_ready_spread_over_all(app: RunningApp) -> None:
    for pids in app.connect().all("caller").call.pids_of_early().result(patient(30)).values():
        assert len(Counter(pids)) == 2
        assert min(Counter(pids).values()) >= 40


@pytest.mark.parametrize("count", [3, 12, 2000])
def test_a_caller_that_waits_uses_no_processor_time(app: RunningApp, count: int) -> None:
    """By its own account, so that a busy machine changes nothing: a caller that polls takes most of each second."""
    client = app.connect()
    work = client.require("work")
    door = str(app.directory / f"door{count}")
    calls = [work.hold(door) for _ in range(count)]
    role = client.require("caller").wait_for(count, door)
    wait_until(lambda: len(client._peer.contacts.routes.overdue(time.monotonic())) == 1, "they wait")
    before = cpu()
    threading.Event().wait(2)  # the time of which it is measured how much was used
    used = cpu() - before
    open(door, "w").close()
    assert used < 0.1
    workers = {member.pid for member in app.ready(client, "work")}
    assert {call.result(patient(60)) for call in calls} <= workers
    pids, used = role.result(patient(60))
    assert set(pids) <= workers
    assert used < 0.15 + count * 0.0005


def test_twenty_thousand_calls_lose_none(app: RunningApp) -> None:
    work = app.connect().require("work")
    calls = [work.note(number) for number in range(20_000)]
    assert [call.result(patient(60)) for call in calls] == list(range(20_000))


def test_callers_get_their_turns(app: RunningApp) -> None:
    """A caller with a long list does not hold up one with a single call."""
    client, other = app.connect(), app.connect()
    many = [client.require("work").nap(0.005) for _ in range(400)]
    wait_until(lambda: client._peer.contacts.routes.overdue(time.monotonic()), "they wait")
    other.require("work").nap(0.005).result(patient(30))
    assert sum(not call.done() for call in many) > 100
    assert len([call.result(patient(30)) for call in many]) == 400


def test_nothing_is_stuck_behind_a_slow_call(app: RunningApp) -> None:
    work = app.connect().require("work")
    for _ in range(20):
        work.nap(0.001).result(patient(30))
    door = str(app.directory / "slow")
    slow = work.hold(door)
    pids = {call.result(patient(30)) for call in [work.nap(0.001) for _ in range(300)]}
    assert not slow.done()
    open(door, "w").close()
    assert pids == {member.pid for member in app.ready(app.connect(), "work")} - {slow.result(patient(30))}


def test_what_waits_goes_to_others_when_a_worker_dies(apps: Apps) -> None:
    app = apps.start('.role("work", "./work.py", workers=2)', work=WORK)
    client = app.wait_ready()
    work = client.require("work")
    calls = [work.nap(0.01) for _ in range(100)]
    calls[3].result(patient(30))
    os.kill(app.ready(client, "work")[0].pid, signal.SIGKILL)
    errors = [call.exception(patient(30)) for call in calls]
    lost = [error for error in errors if error is not None]
    assert all(isinstance(error, mob.Lost) for error in lost)
    assert len(lost) <= 3  # the one that ran, and what waited behind it


def test_what_waits_goes_on_through_a_reload_and_a_larger_role(apps: Apps) -> None:
    app = apps.start('.role("work", "./work.py", workers=1)', work=WORK)
    client = app.wait_ready()
    work = client.require("work")
    calls = [work.nap(0.01) for _ in range(300)]
    client.scale("work", 3)
    client.reload()
    assert len({call.result(patient(60)) for call in calls}) >= 4


def test_order_is_kept_where_there_is_one_worker(apps: Apps) -> None:
    app = apps.start('.role("work", "./work.py")', work=WORK)
    work = app.wait_ready().require("work")
    blocker = work.hold()
    calls = [work.note(number) if number % 3 else work.length("x" * number) for number in range(50)]
    notes = work.notes()
    (app.directory / "door").touch()
    blocker.result(patient(30))
    for call in calls:
        call.result(patient(30))
    assert notes.result(patient(30)) == [number for number in range(50) if number % 3]


def call_until_it_is_too_much(work: mob.Proxy, calls: list[mob.Call[int]]) -> None:
    while len(calls) < 1000:
        calls.append(work.length("x" * 10_000))


def test_too_much_raises_in_the_line_that_calls(apps: Apps) -> None:
    app = apps.start('.role("work", "./work.py")', work=WORK, options="backlog=1_000_000")
    work = app.wait_ready().require("work")
    blocker = work.hold()
    calls: list[mob.Call[int]] = []
    with pytest.raises(mob.Busy, match=r"work\.length: \d+ calls with .* wait .* 1,000,000 .*backlog") as caught:
        call_until_it_is_too_much(work, calls)
    assert caught.value.executed == "no"
    assert 80 < len(calls) < 120
    (app.directory / "door").touch()
    blocker.result(patient(30))
    assert {call.result(patient(30)) for call in calls} == {10_000}  # none is lost
    assert work.length("x").result(patient(30)) == 1


def test_cancelled_and_expired_calls_leave_their_line(app: RunningApp) -> None:
    client = app.connect()
    work, door = client.require("work"), str(app.directory / "leave")
    held = [work.hold(door) for _ in range(2)]
    late = work.options(timeout=0.05).nap(0)
    given_up = [work.nap(0) for _ in range(100)]
    for call in given_up:
        assert call.cancel()
    with pytest.raises(mob.CallTimeout) as caught:
        late.result(30)
    assert caught.value.executed == "no"
    assert client._peer.contacts.routes.waiting == 0
    assert client._peer.contacts.routes.size() == 0
    open(door, "w").close()
    assert len({call.result(patient(30)) for call in held}) == 2


def test_a_client_that_closes_sends_what_waits(app: RunningApp) -> None:
    door = str(app.directory / "closing")
    client = app.connect()
    work = client.require("work")
    held = [work.hold(door) for _ in range(2)]
    for number in range(5):
        work.note(f"closing {number}")
    client.close()
    open(door, "w").close()
    del held
    notes = app.connect().all("work").call.notes
    wait_until(
        lambda: (
            sum(str(note).startswith("closing") for seen in notes().result(patient(30)).values() for note in seen) == 5
        ),
        "they have run",
    )
