"""What a plain function posts and does not wait for leaves its process while the function goes on."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import mob
from tests.patience import patient
from tests.running import RunningApp, apps_in, wait_until

BACK = """
import mob

front = mob.require("front")

def wait_at(door):
    with open(door) as file:  # blocks until somebody writes there
        return file.read()

def tell(function, door):
    for step in range(3):
        function(step)
        wait_at(f"{door}{step}")

def call(function, door):
    front.note(door)
    wait_at(door + "0")

def send(function, door):
    mob.any("front").send(door)
    wait_at(door + "0")

done = []

def mark(n): done.append(n)
def marked(): return sorted(done)
async def in_hand():
    from mob.mobster import api
    return api.current("in_hand").statistics()["in_hand"]

def tell_all(functions, doors):
    return [tell(function, door) for function, door in zip(functions, doors)]
"""
FRONT = """
import mob

noted = []

def note(door): noted.append(door)
def seen(): return noted

@mob.on("message")
def hear(door): noted.append(door)
"""


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    with apps_in(tmp_path_factory.mktemp("meanwhile")) as apps:
        roles = '.role("back", "./back.py").role("threaded", "./back.py", threads=2).role("front", "./front.py")'
        app = apps.start(
            roles + '.role("slow", "./back.py", loop="asyncio")', options="grace=2", back=BACK, front=FRONT
        )
        app.wait_ready()
        yield app


@pytest.mark.parametrize("role", ["back", "threaded", "slow"])
def test_progress_is_seen_while_the_function_runs(app: RunningApp, tmp_path: Path, role: str) -> None:
    door = str(tmp_path / "door")
    for step in range(3):
        os.mkfifo(f"{door}{step}")
    steps: list[int] = []
    call = app.wait_ready().require(role).tell(steps.append, door)
    for step in range(3):
        wait_until(lambda: steps == list(range(step + 1)), f"step {step} is told")  # noqa: B023
        Path(f"{door}{step}").write_text("go on")
    assert call.result(patient(30)) is None


@pytest.mark.parametrize("role", ["back", "threaded", "slow"])
@pytest.mark.parametrize("way", ["call", "send"])
def test_a_call_and_a_message_that_nobody_waits_for_leave_at_once(
    app: RunningApp, tmp_path: Path, role: str, way: str
) -> None:
    door = str(tmp_path / "door")
    os.mkfifo(f"{door}0")
    client = app.wait_ready()
    call = getattr(client.require(role), way)(None, door)
    wait_until(lambda: door in client.require("front").seen().result(patient(30)), "it has arrived")
    Path(f"{door}0").write_text("go on")
    assert call.result(patient(30)) is None


def test_progress_of_a_callback_in_a_client(app: RunningApp, tmp_path: Path) -> None:
    """Also the other way round: a callback runs on the loop of the client, and calls the app meanwhile."""
    door, front, has_gone = str(tmp_path / "door"), app.wait_ready().require("front"), threading.Event()

    def callback(step: int) -> None:
        front.note(door)
        has_gone.wait(patient(30))

    os.mkfifo(f"{door}0")
    call = app.wait_ready().require("back").tell(callback, door)
    with mob.connect(app.name) as other:
        wait_until(lambda: door in other.require("front").seen().result(patient(30)), "it has arrived")
    call.cancel()
    has_gone.set()
    for step in range(1, 3):
        os.mkfifo(f"{door}{step}")
    for step in range(3):
        Path(f"{door}{step}").write_text("go on")
    wait_until(lambda: app.wait_ready().require("front").seen().result(patient(30)), "the client goes on")


@pytest.mark.parametrize("role", ["back", "threaded"])
def test_a_client_need_not_wait_for_what_it_has_asked_for(app: RunningApp, tmp_path: Path, role: str) -> None:
    """It closes while calls and a chunk of a map wait at a busy worker."""
    doors = [str(tmp_path / name) for name in ("busy", "busy too")][: 1 if role == "back" else 2]
    for door in doors:
        os.mkfifo(door)
    watcher = app.wait_ready().require(role)
    with mob.connect(app.name) as client:
        (pid,) = [member.pid for member in client.members() if member.role == role]
        unread = [client.pid(pid).call.wait_at(door) for door in doors]
        unread += [client.pid(pid).call.mark(n) for n in range(3)]
        mapped = client.require(role).options(pid=pid).mark.map([3, 4, 5], chunk=3)
    for door in doors:
        with open(door, "w"):
            pass
    wait_until(lambda: watcher.marked().result(patient(30))[:3] == [0, 1, 2], "the calls are done")
    wait_until(lambda: watcher.in_hand().result(patient(30)) == 1, "nothing is in hand but the question")
    del unread, mapped
