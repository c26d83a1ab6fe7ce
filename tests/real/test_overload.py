"""Slow calls delay no others, and too many are refused."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import mob
from tests.patience import patient
from tests.running import Apps, RunningApp, apps_in, wait_until

BACK = """
import asyncio, os, time
import mob

def work(seconds):
    time.sleep(seconds)
    return os.getpid()

async def wait(seconds):
    await asyncio.sleep(seconds)

def hold():
    while not os.path.exists("door"):
        time.sleep(0.002)
    return os.getpid()

async def ahold():
    while not os.path.exists("door"):
        await asyncio.sleep(0.002)

begun = []

def note(what):
    begun.append(what)

async def noted():
    return begun

def seen():
    return begun
"""


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    with apps_in(tmp_path_factory.mktemp("overload")) as apps:
        app = apps.start('.role("back", "./back.py", workers=3)', back=BACK)
        app.wait_ready()
        yield app


def let_go(app: RunningApp, slow: mob.Call[object]) -> object:
    """Return the result of a call of `hold` once it may end; the next one holds again."""
    door = app.directory / "door"
    door.touch()
    pid = slow.result(patient(20))
    door.unlink()
    return pid


def test_no_call_waits_behind_a_slow_one_while_another_worker_idles(app: RunningApp) -> None:
    client = app.connect()
    back = client.require("back")
    for member in app.ready(client, "back"):  # all learn that a call takes long
        back.options(pid=member.pid).work(0.02).result(patient(20))
    slow = back.hold()
    pids = {call.result(patient(20)) for call in [back.work(0.005) for _ in range(60)]}
    assert not slow.done()
    assert len(pids) == 2
    assert let_go(app, slow) not in pids


def test_another_caller_sees_the_slow_call_too(app: RunningApp) -> None:
    client = app.connect()
    one, other = client.require("back"), app.connect().require("back")
    slow = one.hold()
    board = client._peer.context.board
    assert board is not None
    wait_until(lambda: any(board.load(member.uid) for member in app.ready(client, "back")), "it has begun")
    for _ in range(20):
        other.work(0.005).result(patient(20))
    assert not slow.done()
    let_go(app, slow)


def test_calls_that_run_beside_hold_up_nobody(app: RunningApp) -> None:
    """A caller has one endless call under way in each worker; still each worker is free for the next."""
    client = app.connect()
    back = client.require("back")
    for member in app.ready(client, "back"):
        back.options(pid=member.pid).work(0.02).result(patient(20))
    under_way = [back.options(pid=member.pid).wait(60) for member in app.ready(client, "back")]
    assert {back.work(0.001).result(patient(10)) for _ in range(9)} == {
        member.pid for member in app.ready(client, "back")
    }
    assert not any(call.done() for call in under_way)
    for call in under_way:
        call.cancel()


@pytest.mark.parametrize(
    ("options", "name", "arrival"), [("threads=2", "hold", "noted"), ("concurrency=2", "ahold", "seen")]
)
def test_what_waits_for_a_thread_or_for_its_turn_is_bounded_too(
    apps: Apps, options: str, name: str, arrival: str
) -> None:
    app = apps.start(f'.role("back", "./back.py", queue=3, {options})', back=BACK)
    client = app.wait_ready()
    back = client.require("back").options(pid=app.ready(client, "back")[0].pid)  # at once, and so not when invited
    calls: list[mob.Call[object]] = []
    for _ in range(8):
        calls.append(getattr(back, name)())
        # It has arrived before the next one is sent, because the inbox is limited, too.
        getattr(back, arrival)().result(patient(20))
    (app.directory / "door").touch()
    errors = [call.exception(patient(20)) for call in calls]
    assert [type(error) for error in errors] == [type(None)] * 5 + [mob.Busy] * 3
    assert {error.executed for error in errors if isinstance(error, mob.Busy)} == {"no"}
    assert all("3 calls" in str(error) and "wait here" in str(error) for error in errors[5:])


def test_what_expires_or_is_given_up_while_it_waits_for_a_thread_is_not_started(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py", threads=2)', back=BACK)
    back = app.wait_ready().require("back")
    slow = [back.hold() for _ in range(2)]
    late = back.options(timeout=0.1).note("late")
    given_up = back.note("given up")
    back.noted().result(patient(20))
    assert given_up.cancel()
    last = back.note("last")
    with pytest.raises(mob.CallTimeout):
        late.result(20)
    (app.directory / "door").touch()
    last.result(patient(20))
    assert [call.exception(patient(20)) for call in slow] == [None, None]
    assert back.noted().result(patient(20)) == ["last"]


def test_a_full_queue_refuses(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py", queue=5)', back=BACK)
    client = app.wait_ready()
    back = client.require("back").options(pid=app.ready(client, "back")[0].pid)
    calls = [back.work(0.05) for _ in range(40)]
    errors = [error for call in calls if (error := call.exception(patient(20))) is not None]
    assert errors
    assert {type(error) for error in errors} == {mob.Busy}
    assert {error.executed for error in errors if isinstance(error, mob.Busy)} == {"no"}
    assert len(errors) < 40
