"""Deadlines, cancellation, circles, repetition and sticky calls."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import pytest

import mob
from tests.patience import patient
from tests.running import Apps, RunningApp, apps_in, wait_until

BACK = """
import asyncio, os, signal, time
import mob

front = mob.require("front")
log = []

def busy(seconds):
    log.append("busy")
    time.sleep(seconds)

async def hang():
    await asyncio.Event().wait()

@mob.export
def started():
    return log

def call_front():
    return front.plain().result()

async def acall_front():
    return await front.aplain()

def ask_front():
    front.plain()
    return "asked"

def nested_hang():
    return front.ahang().result()

def until_cancelled():
    log.append("began")
    while not mob.cancelled():
        time.sleep(0.001)
    log.append("cancelled")

def forget():
    log.clear()

async def slow(seconds):
    await asyncio.sleep(seconds)

@mob.export(timeout=0.1)
async def limited():
    await asyncio.Event().wait()

def pid():
    return os.getpid()

for function in (busy, hang, call_front, acall_front, ask_front, nested_hang, until_cancelled, forget, slow, pid):
    mob.export(function)
"""
FRONT = """
import asyncio
import mob

back = mob.require("back")

def plain():
    return "plain"

async def aplain():
    return "aplain"

async def ahang():
    await asyncio.Event().wait()

def circle():
    return back.call_front().result()

def no_circle():
    return back.ask_front().result()

async def acircle():
    return await back.acall_front()

def nested(timeout):
    return back.options(timeout=timeout).nested_hang().result()
"""
STICKY = """
import os, mob

@mob.export(idempotent=True)
def die_once(path):
    if not os.path.exists(path):
        open(path, "w").close()
        os.kill(os.getpid(), 9)
    return os.getpid()

@mob.export
def die_each_time(path):
    with open(path, "a") as file:
        file.write("x")
    os.kill(os.getpid(), 9)

@mob.export(idempotent=True)
def die_always(path):
    die_each_time(path)

@mob.export
def index():
    return mob.me().index
"""


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    with apps_in(tmp_path_factory.mktemp("deadlines")) as apps:
        app = apps.start('.role("back", "./back.py").role("front", "./front.py")', back=BACK, front=FRONT)
        app.wait_ready()
        yield app


@pytest.fixture
def client(app: RunningApp) -> mob.Client:
    return app.wait_ready()


@pytest.fixture
def back(client: mob.Client) -> mob.Proxy:
    back = client.require("back")
    back.forget().result(patient(20))
    return back


def test_work_that_expired_in_the_queue_is_not_started(back: mob.Proxy) -> None:
    first = back.busy(0.5)
    late = back.options(timeout=0.1).busy(0)
    with pytest.raises(mob.CallTimeout) as caught:
        late.result(20)
    first.result(patient(20))
    assert caught.value.executed in ("no", "maybe")  # the caller noticed first: the worker had not looked at it yet
    assert back.started().result(patient(20)) == ["busy"]


def test_the_worker_says_how_long_a_call_waited_and_ran(back: mob.Proxy) -> None:
    with pytest.raises(mob.CallTimeout, match=r"hang took too long: it waited .* s in the queue of back\.0") as caught:
        back.options(timeout=0.2).hang().result(20)
    assert caught.value.executed == "yes"
    assert "ran 0." in str(caught.value)


def test_an_export_limits_its_own_calls(back: mob.Proxy) -> None:
    with pytest.raises(mob.CallTimeout, match="limited took too long"):
        back.limited().result(20)


def test_a_deadline_travels(client: mob.Client) -> None:
    """The innermost call inherits what is left of the outermost call's time, although it has no timeout itself."""
    begun = time.monotonic()
    with pytest.raises(mob.CallError):
        client.require("front").nested(0.3).result(patient(20))
    assert time.monotonic() - begun < patient(5)
    with pytest.raises(mob.CallTimeout):
        client.require("front").options(timeout=0.2).ahang().result(20)


def test_a_late_reply_answers_nothing_else(back: mob.Proxy) -> None:
    with pytest.raises(mob.CallTimeout):
        back.options(timeout=0.05).busy(0.3).result(20)
    assert back.pid().result(patient(20)) == back.pid().result(patient(20))


def test_a_running_def_learns_that_it_is_cancelled(back: mob.Proxy) -> None:
    call = back.until_cancelled()
    assert call.cancel()
    wait_until(lambda: back.started().result(patient(20)) in (["began", "cancelled"], []), "it has ended")


def test_a_running_def_learns_that_its_time_is_over(back: mob.Proxy) -> None:
    with pytest.raises(mob.CallTimeout):
        back.options(timeout=0.1).until_cancelled().result(20)
    assert back.started().result(patient(20)) == ["began", "cancelled"]


def test_a_circle_of_waiting_threads_is_told(client: mob.Client) -> None:
    with pytest.raises(mob.CallError, match=r"front\.0 .* -> back\.0 .* -> front\.0") as caught:
        client.require("front").circle().result(patient(20))
    assert "waits for the call that led to this one" in str(caught.value)
    assert client.require("front").plain().result(patient(20)) == "plain"


def test_a_circle_of_coroutines_simply_works(client: mob.Client) -> None:
    assert client.require("front").acircle().result(patient(20)) == "aplain"


def test_a_call_back_that_nobody_waits_for_is_told_too_and_hangs_nobody(client: mob.Client) -> None:
    assert client.require("front").no_circle().result(patient(20)) == "asked"


@pytest.fixture
def sticky(apps: Apps) -> tuple[RunningApp, mob.Proxy]:
    app = apps.start('.role("sticky", "./sticky.py", workers=3)', sticky=STICKY)
    return app, app.wait_ready().require("sticky")


def test_an_idempotent_call_is_repeated_after_a_death_and_no_other(sticky: tuple[RunningApp, mob.Proxy]) -> None:
    app, proxy = sticky
    once, twice, always = (str(app.directory / name) for name in ("once", "twice", "always"))
    assert proxy.die_once(once).result(patient(20)) > 0
    with pytest.raises(mob.Lost) as caught:
        proxy.die_each_time(twice).result(patient(20))
    assert caught.value.executed == "maybe"
    assert (app.directory / "twice").read_text() == "x"
    with pytest.raises(mob.Lost):
        proxy.options(retries=2).die_always(always).result(patient(20))
    assert (app.directory / "always").read_text() == "xxx"


def test_what_was_repeated_in_vain_may_have_run(apps: Apps) -> None:
    code = """
import os, time, mob

if os.path.exists("died"):
    time.sleep(60)

@mob.export(idempotent=True)
def die():
    open("died", "w").close()
    os.kill(os.getpid(), 9)
"""
    app = apps.start('.role("only", "./only.py")', only=code)
    with pytest.raises(mob.CallTimeout, match="no worker of 'only' was ready") as caught:
        app.wait_ready().require("only").options(timeout=2).die().result(20)
    assert caught.value.executed == "maybe"
    assert (app.directory / "died").exists()


def test_a_key_stays_with_its_place_over_a_revival(sticky: tuple[RunningApp, mob.Proxy]) -> None:
    app, proxy = sticky
    client = app.connect()
    places = {key: proxy.options(key=key).index().result(patient(20)) for key in range(40)}
    assert set(places.values()) == {0, 1, 2}
    assert {key: proxy.options(key=key).index().result(patient(20)) for key in range(40)} == places
    victim = next(m for m in app.ready(client, "sticky") if m.index == places[7])
    os.kill(victim.pid, signal.SIGKILL)
    others = {key: place for key, place in places.items() if place != places[7]}
    assert {key: proxy.options(key=key).index().result(patient(20)) for key in others} == others
    wait_until(lambda: victim.pid not in [m.pid for m in client.members()], "the death is known")
    assert proxy.options(key=7).index().result(patient(20)) == places[7]
