"""The crash matrix: wherever a worker dies in the course of a call, the call ends immediately, and nothing else does.

The idea comes from loky: every stage of a call, times every way to die. A process that dies sends nothing more, so its
caller must learn of the death from the end of the link, and from nothing else.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

import mob
from tests.patience import patient
from tests.running import RunningApp, apps_in, wait_until

DEATHS = """
import ctypes
import os
import signal

def die(how):
    match how:
        case "SIGKILL":
            os.kill(os.getpid(), signal.SIGKILL)
        case "exit":
            os._exit(1)
        case "segfault":
            ctypes.string_at(0)
"""

VICTIM = """
import asyncio
import dataclasses
import os
import threading

import deaths
import mob
from mob.mobster import api

released = asyncio.Event()
kept = None
hanging_now = 0

@dataclasses.dataclass
class Mine:
    how: str

    def __post_init__(self):
        deaths.die(self.how)

class Bomb:
    def __init__(self, how):
        self.how = how

api.current("register").encoder.codec.register(Bomb, lambda bomb: deaths.die(bomb.how), Bomb)

def echo(value):
    return value

def step_on(mine: Mine):
    return "unharmed"

def wait_and_die(fifo, how):
    with open(fifo) as trigger:
        trigger.read()
    deaths.die(how)

def die_during(how):
    deaths.die(how)

async def die_at_rest(how):
    await asyncio.sleep(0)
    deaths.die(how)

async def die_after(how):
    replied = threading.Event()
    loop = asyncio.get_running_loop()
    soon = loop.call_soon
    soon(soon, soon, soon, replied.set)     # four turns of the loop later: what this returns has been sent

    def finish():
        replied.wait()
        deaths.die(how)

    threading.Thread(target=finish).start()
    return "replied"

def reply_with_a_bomb(how):
    return Bomb(how)

async def reply_with_a_bomb_later(how):
    await asyncio.sleep(0)
    return [1, {"deep": Bomb(how)}]

async def call_and_die(hold, how):
    hold()
    await asyncio.sleep(0)                          # the call leaves at the end of this turn
    await asyncio.sleep(0)
    deaths.die(how)

async def call_and_be_killed(callback):
    await callback(os.getpid())

def keep(callback):
    global kept
    kept = callback

async def await_kept():
    try:
        return await kept()
    except mob.CallError as error:
        return [type(error).__name__, error.executed]

def wait_for_kept():
    try:
        return kept().result(timeout=10)
    except mob.CallError as error:
        return [type(error).__name__, error.executed]

def call_at_once(callback):
    return callback().result()

async def until_released():
    await released.wait()
    released.clear()
    return "released"

def release():
    released.set()

async def for_ever():
    global hanging_now
    hanging_now += 1
    await asyncio.Event().wait()

def hanging():
    return hanging_now
"""

OWNER = """
import asyncio
import deaths
import mob

victim = mob.require("victim")

async def lend(name, pid, how):
    return await getattr(victim.options(pid=pid), name)(lambda: deaths.die(how))

async def lose_awaited(pid):
    return await outcome(victim.options(pid=pid).for_ever())

def lose_waited_for(pid):
    return outcome_by_hand(victim.options(pid=pid).for_ever())

async def lose_in_a_thread(pid):
    return await asyncio.to_thread(outcome_by_hand, victim.options(pid=pid).for_ever())

async def outcome(call):
    try:
        await call
    except mob.CallError as error:
        return [type(error).__name__, error.executed]

def outcome_by_hand(call):
    try:
        call.result(timeout=10)
    except mob.CallError as error:
        return [type(error).__name__, error.executed]
"""

WORKERS = 7
HOW = ["SIGKILL", "exit", "segfault"]
PROMPT = patient(5.0)
"""Seconds within which everything must end on a loaded machine; anything that waits for a timeout takes 30."""


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    with apps_in(tmp_path_factory.mktemp("crashes")) as apps:
        apps.write(deaths=DEATHS)
        app = apps.start(
            '.role("victim", "./victim.py", workers=4).role("owner", "./owner.py", workers=3)',
            victim=VICTIM,
            owner=OWNER,
        )
        app.wait_ready()
        yield app


class Scene:
    """The app before a death: all workers are running, and one of them has a call in flight that must survive."""

    def __init__(self, app: RunningApp) -> None:
        self.app = app
        self.client = app.clients[0]
        self.victims = self.client.require("victim")
        self.pid = self.next_to_die("victim")
        self.bystander = next(m.pid for m in app.ready(self.client, "victim") if m.pid != self.pid)
        self.doomed = self.pid
        self.before = {m.pid for m in app.ready(self.client)}
        self.survivor_call = self.victims.options(pid=self.bystander).until_released()

    @property
    def victim(self) -> mob.Proxy:
        """The worker that dies."""
        return self.victims.options(pid=self.pid)

    def next_to_die(self, role: str) -> int:
        """Return the worker that died least often, so that no successor has a long pause."""
        return min(self.app.ready(self.client, role), key=lambda member: (member.generation, member.index)).pid

    def check(self) -> None:
        """Check that the others were not affected, and that the next call succeeds."""
        began = time.monotonic()
        assert self.victims.echo("next").result(PROMPT) == "next"
        self.victims.options(pid=self.bystander).release().result(PROMPT)
        assert self.survivor_call.result(PROMPT) == "released"
        assert time.monotonic() - began < PROMPT
        wait_until(lambda: self.doomed not in {m.pid for m in self.client.members()}, "it was removed", PROMPT)
        assert self.before - {m.pid for m in self.app.ready(self.client)} == {self.doomed}
        wait_until(lambda: self.client.statistics()["pending"] == 0, "no call is left over", PROMPT)


@pytest.fixture
def scene(app: RunningApp) -> Scene:
    wait_until(lambda: len(app.ready(app.clients[0])) == WORKERS, "all workers are there")
    return Scene(app)


def lost(call: mob.Call[Any]) -> str:
    """Wait for the loss of a call; return whether it was executed, as the error says."""
    error = call.exception(PROMPT)
    assert isinstance(error, mob.Lost), error
    return error.executed


@pytest.mark.parametrize("how", HOW)
def test_while_an_argument_is_decoded(scene: Scene, how: str) -> None:
    assert lost(scene.victim.step_on({"how": how})) == "maybe"
    scene.check()


@pytest.mark.parametrize("how", HOW)
def test_before_the_call_is_started(scene: Scene, how: str) -> None:
    """The worker dies in another call, for which this one waits. The board shows that this one was not begun."""
    fifo = scene.app.directory / f"before-{how}"
    os.mkfifo(fifo)
    fatal = scene.victim.wait_and_die(str(fifo), how)
    behind = [scene.victim.echo(number) for number in range(10)]
    fifo.write_text("now")
    assert [lost(call) for call in [fatal, *behind]] == ["maybe"] + ["no"] * 10
    scene.check()


@pytest.mark.parametrize("name", ["die_during", "die_at_rest"])
@pytest.mark.parametrize("how", HOW)
def test_during_the_call(scene: Scene, how: str, name: str) -> None:
    beside = scene.victim.for_ever()
    assert lost(getattr(scene.victim, name)(how)) == "maybe"
    assert lost(beside) == "maybe"
    scene.check()


@pytest.mark.parametrize("how", HOW)
def test_after_the_reply(scene: Scene, how: str) -> None:
    """What the worker sent before its death counts, and the rest is lost."""
    beside = scene.victim.for_ever()
    assert scene.victim.die_after(how).result(PROMPT) == "replied"
    assert lost(beside) == "maybe"
    scene.check()


@pytest.mark.parametrize("name", ["reply_with_a_bomb", "reply_with_a_bomb_later"])
@pytest.mark.parametrize("how", HOW)
def test_while_the_reply_is_encoded(scene: Scene, how: str, name: str) -> None:
    assert lost(getattr(scene.victim, name)(how)) == "maybe"
    scene.check()


@pytest.mark.parametrize("name", ["await_kept", "wait_for_kept"])
@pytest.mark.parametrize("how", HOW)
def test_the_owner_dies_in_its_callback(scene: Scene, how: str, name: str) -> None:
    """A worker calls a third one's function, which kills its owner: the worker learns of it and answers its caller."""
    scene.doomed = scene.next_to_die("owner")
    scene.client.require("owner").options(pid=scene.doomed).lend("keep", scene.pid, how).result(PROMPT)
    assert getattr(scene.victim, name)().result(PROMPT) == ["Lost", "maybe"]
    scene.check()


@pytest.mark.parametrize("how", HOW)
def test_the_caller_dies_in_its_callback(scene: Scene, how: str) -> None:
    """A worker calls a function of its caller, which dies of it, and so fails the call that it was serving."""
    scene.doomed = scene.next_to_die("owner")
    owner = scene.client.require("owner").options(pid=scene.doomed)
    assert lost(owner.lend("call_at_once", scene.pid, how)) == "maybe"
    assert scene.victim.echo("still there").result(PROMPT) == "still there"
    scene.check()


@pytest.mark.parametrize("how", HOW)
def test_the_callee_dies_while_its_callback_runs(scene: Scene, how: str) -> None:
    """The callback runs in the client, for a caller that will never get the answer."""
    began = threading.Event()
    ended = threading.Event()

    def callback() -> None:
        began.set()
        ended.wait(PROMPT)

    fatal = scene.victim.call_and_die(callback, how)
    try:
        assert began.wait(PROMPT)
    finally:
        ended.set()
    assert lost(fatal) == "maybe"
    scene.check()
    wait_until(lambda: scene.client.statistics()["lent"] == 0, "what the dead one held is free", PROMPT)


def test_the_callee_is_killed_by_the_callback_that_it_awaits(scene: Scene) -> None:
    fatal = scene.victim.call_and_be_killed(lambda pid: os.kill(pid, signal.SIGKILL))
    assert lost(fatal) == "maybe"
    scene.check()
    wait_until(lambda: scene.client.statistics()["lent"] == 0, "what the dead one held is free", PROMPT)


def test_what_runs_for_a_dead_caller_is_cancelled(scene: Scene) -> None:
    """A callback that would run forever, for no caller."""
    before = scene.client.statistics()["in_hand"]
    began = threading.Event()

    async def callback() -> None:
        began.set()
        await asyncio.Event().wait()

    fatal = scene.victim.call_and_die(callback, "SIGKILL")
    assert lost(fatal) == "maybe"
    scene.check()
    assert began.is_set()
    wait_until(lambda: scene.client.statistics()["in_hand"] == before, "its task ended", PROMPT)


@pytest.mark.parametrize("waiting", ["lose_awaited", "lose_waited_for", "lose_in_a_thread"])
def test_however_a_mobster_waits_it_learns_of_the_loss(scene: Scene, waiting: str) -> None:
    """In a coroutine, by hand on the loop's own thread, and in a thread.

    The client has a call there too: links of a dying process end one by one, and `check` wants its own to have ended.
    """
    beside = scene.victim.for_ever()
    asked = getattr(scene.client.require("owner"), waiting)(scene.pid)
    wait_until(lambda: scene.victim.hanging().result(PROMPT) == 2, "both calls have arrived", PROMPT)
    os.kill(scene.pid, signal.SIGKILL)
    assert asked.result(PROMPT) == ["Lost", "maybe"]
    assert lost(beside) == "maybe"
    scene.check()


def test_with_calls_and_announcements_unread(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    """The kernel reports that as a reset instead of an end of file, but it is a death like any other."""
    process = psutil.Process(scene.pid)
    os.kill(scene.pid, signal.SIGSTOP)
    wait_until(lambda: process.status() == psutil.STATUS_STOPPED, "it is stopped")
    calls = [scene.victim.echo(number) for number in range(3)]
    with mob.connect(scene.app.name):
        pass  # all members are notified of the visitor
    os.kill(scene.pid, signal.SIGKILL)
    assert [lost(call) for call in calls] == ["no"] * 3
    scene.check()
    assert "sent invalid data" not in scene.app.output
    assert not caplog.records
