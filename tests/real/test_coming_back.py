"""A client whose app was restarted belongs to the app that runs now."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import mob
from tests.patience import patient
from tests.running import Apps, RunningApp, wait_until

BACK = """
import mob, os, time

heard = []

@mob.on("message")
def hear(obj): heard.append(obj)

def release(): return RELEASE
def said(): return heard
def pid(): return os.getpid()
def twice(function, number): return function(number).result()
def numbers(count): yield from range(count)
def hang(tell):
    tell().result()
    time.sleep(1000)
"""
ROLES = '.role("back", "./back.py", workers=2)'


def start(apps: Apps, release: int, roles: str = ROLES) -> RunningApp:
    name = apps.running[0].name if apps.running else ""
    return apps.start(roles, name=name, options="grace=1", back=f"RELEASE = {release}{BACK}")


@pytest.fixture
def first(apps: Apps) -> RunningApp:
    app = start(apps, 1)
    app.wait_ready()
    return app


USES: dict[str, Callable[[mob.Client, mob.Proxy], Any]] = {
    "a proxy": lambda client, back: back.release().result(patient(30)),
    "a new proxy": lambda client, back: client.require("back").release().result(patient(30)),
    "any": lambda client, back: client.any("back").call.release().result(patient(30)),
    "all": lambda client, back: {2} == set(client.all("back").call.release().result(patient(30)).values()) and 2,
    "map": lambda client, back: len(list(back.twice.map([lambda n: n] * 2, range(2)))),
    "a callback": lambda client, back: back.twice(lambda number: number + 1, 1).result(patient(30)),
    "a stream": lambda client, back: len(list(back.numbers(2))),
    "overview": lambda client, back: len(client.overview()),
    "members": lambda client, back: len([each for each in client.members() if each.role]),
    "several": lambda client, back: len({call.result(patient(30)) for call in [back.pid() for _ in range(50)]}) and 2,
}


@pytest.mark.parametrize("how", USES)
def test_it_goes_on_with_the_app_that_runs_now(apps: Apps, first: RunningApp, how: str) -> None:
    client = first.clients[0]
    back = client.require("back")
    assert back.release().result(patient(30)) == 1
    first.stop()
    assert client.wait_stopped(patient(30))
    second = start(apps, 2)
    second.connect()  # its desk is there
    assert USES[how](client, back) == 2
    assert client.kingpin_pid == second.process.pid
    assert not client.wait_stopped(0)
    second.stop()
    assert client.wait_stopped(patient(30))


def test_after_a_crash_of_the_kingpin_and_again_and_again(apps: Apps, first: RunningApp) -> None:
    client = first.clients[0]
    back = client.require("back")
    joined: list[mob.Member] = []
    client.on("join", joined.append)
    running = first
    for release in range(2, 6):
        running.kill()
        assert client.wait_stopped(patient(30))
        running.wait_gone()
        running = start(apps, release)
        running.connect()
        assert back.release().result(patient(30)) == release
    wait_until(lambda: len(joined) >= 2, "the new workers have joined")
    wait_until(lambda: len(client.members()) == 4, f"only those who live are members: {client.members()}")
    assert client.statistics()["pending"] == 0


def test_one_that_was_linked_to_nobody_yet(apps: Apps, first: RunningApp) -> None:
    client = first.connect()
    os.kill(first.process.pid, signal.SIGSTOP)  # it introduces nobody
    wait_until(lambda: "T (stopped)" in Path(f"/proc/{first.process.pid}/status").read_text(), "it has stopped")
    back = client.require("back")
    call = back.release()
    first.kill()
    with pytest.raises(mob.CallError):
        call.result(patient(30))
    first.wait_gone()
    start(apps, 2).wait_ready(2)
    assert back.release().result(patient(30)) == 2


def test_messages_go_to_the_workers_that_are_there(apps: Apps, first: RunningApp) -> None:
    client = first.clients[0]
    first.stop()
    assert client.wait_stopped(patient(30))
    start(apps, 2).wait_ready(2)
    client.all("back").send("hello")
    wait_until(lambda: client.all("back").call.said().result(patient(30)).values() and True, "they answer")
    wait_until(
        lambda: all(each == ["hello"] for each in client.all("back").call.said().result(patient(30)).values()), "heard"
    )


def test_what_was_under_way_is_lost_and_what_no_app_can_take_fails(first: RunningApp) -> None:
    client = first.clients[0]
    back = client.require("back")
    has_begun = threading.Event()
    call = back.hang(has_begun.set)
    assert has_begun.wait(patient(30))
    first.stop()
    with pytest.raises(mob.Lost):
        call.result(patient(30))
    assert client.wait_stopped(patient(30))
    with pytest.raises(mob.Unavailable, match="has ended") as caught:
        back.release().result(patient(30))
    assert caught.value.executed == "no"
    with pytest.raises(mob.AppNotRunning, match="has ended"):
        client.overview()


def test_a_role_that_is_no_more_is_told(apps: Apps, first: RunningApp) -> None:
    client = first.clients[0]
    back = client.require("back")
    first.stop()
    assert client.wait_stopped(patient(30))
    start(apps, 2, '.role("other", "./back.py")').wait_ready()
    with pytest.raises(mob.UnknownRole):
        client.require("back")
    with pytest.raises(mob.Unavailable, match="was restarted and no longer has a role 'back'"):
        back.release().result(patient(30))
    assert client.require("other").release().result(patient(30)) == 2


def test_several_threads_come_back_at_once(apps: Apps, first: RunningApp) -> None:
    client = first.clients[0]
    back = client.require("back")
    first.stop()
    assert client.wait_stopped(patient(30))
    start(apps, 2).connect()
    answers: list[int] = []
    threads = [threading.Thread(target=lambda: answers.append(back.release().result(patient(30)))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [2] * 8
