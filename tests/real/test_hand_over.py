"""`mob.on("hand_over")` and `mob.inherited()`: each way in which a worker is replaced, while calls change its data.

The callers keep books: a number that was returned is in the state, whatever was replaced meanwhile, and no number is
returned twice.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import psutil
import pytest

import mob
from tests.patience import PATIENCE, patient
from tests.running import Apps, RunningApp, mob_command, wait_until

BACK = """
import asyncio, os, time
from dataclasses import dataclass
from pathlib import Path

import mob

state = {"count": 0, "padding": b""}
log = []

def is_there(name):
    return Path(name).exists()

def wait_for(name):
    Path(f"{name}-waits-{os.getpid()}").touch()
    while not is_there(f"{name}-door"):
        time.sleep(0.002)

@mob.export
def add() -> int:
    state["count"] += 1
    return state["count"]

@mob.export
async def add_slowly() -> int:
    await asyncio.sleep(0.005)
    state["count"] += 1
    return state["count"]

@mob.export
async def hang():
    await asyncio.sleep(1000)

@mob.export
def look() -> list:
    return [os.getpid(), state["count"], log]

@mob.export
def grow(size: int) -> None:
    state["padding"] = b"x" * size

@mob.export
def leave(status: int) -> None:
    mob.exit(status)

@mob.on("message")
def hear(message):
    state["count"] += 1

@mob.on("hand_over")
ASYNC def hand_over():
    if is_there("raise"):
        raise LookupError("the cupboard is bare")
    if is_there("refuse"):
        return lambda: None
    if is_there("hand"):
        wait_for("hand")
    if is_there("hang"):
        SLEEP(1000)
    return state

@mob.on("start")
def start():
    got = mob.inherited()
    log.append("nothing" if got is None else got["count"])
    if is_there("start"):
        wait_for("start")
    if is_there("fail"):
        raise LookupError("no start today")
    if got is not None:
        state.update(got)
"""
PLAIN = BACK.replace("ASYNC ", "").replace("SLEEP", "time.sleep")
ASYNC = BACK.replace("ASYNC ", "async ").replace("SLEEP", "await asyncio.sleep")


class Books:
    """Calls `add` and its like without a pause, from several threads, until the block ends."""

    def __init__(self, back: Any, names: tuple[str, ...] = ("add", "add_slowly")) -> None:
        self._back = back
        self._names = names
        self.numbers: list[int] = []
        self.errors: list[Exception] = []
        self._is_over = threading.Event()
        self._threads = [threading.Thread(target=self._call, args=(name,)) for name in names]

    def _call(self, name: str) -> None:
        while not self._is_over.is_set():
            try:
                self.numbers.append(getattr(self._back, name)().result(PATIENCE))
            except Exception as error:  # noqa: BLE001  the test looks at it
                self.errors.append(error)
                return

    def __enter__(self) -> Books:
        for thread in self._threads:
            thread.start()
        return self

    def wait_for(self, count: int) -> None:
        """Wait until that many more calls were answered."""
        goal = len(self.numbers) + count
        wait_until(lambda: self.errors or len(self.numbers) >= goal, "more calls are answered")

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join(PATIENCE)


class Running:
    """An app with one worker of `back`."""

    def __init__(self, apps: Apps, options: str = "", source: str = PLAIN, grace: float = 30.0) -> None:
        roles = f'.role("back", "./back.py"{options})'
        self.app: RunningApp = apps.start(roles, options=f"grace={grace}", back=source)
        self.client = self.app.wait_ready(1)
        self.back: Any = self.client.require("back")

    def put(self, name: str) -> None:
        self.app.directory.joinpath(name).touch()

    def take(self, name: str) -> None:
        self.app.directory.joinpath(name).unlink()

    def waits(self, name: str) -> int:
        """Wait until a worker waits at that door; return its pid."""
        found = wait_until(lambda: list(self.app.directory.glob(f"{name}-waits-*")), f"a worker waits at {name}")
        return int(found[0].name.rpartition("-")[2])

    def look(self) -> tuple[int, int, list[Any]]:
        pid, count, log = self.back.look().result(PATIENCE)
        return pid, count, log

    def reload(self) -> str:
        """Reload; return its text, or its error."""
        try:
            return self.client.reload("back", timeout=PATIENCE)
        except mob.MobError as error:
            return str(error)


def reload(running: Running) -> None:
    assert running.reload().startswith("reloaded 1 worker in ")


def restart(running: Running) -> None:
    running.client.restart("back")


def restart_by_pid(running: Running) -> None:
    running.client.restart(running.look()[0])


def terminate(running: Running) -> None:
    os.kill(running.look()[0], signal.SIGTERM)


def leave(running: Running) -> None:
    running.back.leave(1).result(PATIENCE)


def scale_down_and_up(running: Running) -> None:
    running.client.scale("back", 2)
    wait_until(lambda: len(running.app.ready(running.client, "back")) == 2, "two are ready")
    (second,) = [each.pid for each in running.app.ready(running.client, "back") if each.index == 1]
    other = running.client.require("back").options(pid=second)
    assert [other.add().result(PATIENCE) for _ in range(3)] == [1, 2, 3]
    running.client.scale("back", 1)
    running.app.wait_for(r"back\.1 \(pid \d+\) handed over [\d,]+ bytes, kept for the next back\.1")
    wait_until(lambda: not psutil.pid_exists(second), "it has ended")
    running.client.scale("back", 2)
    wait_until(lambda: len(running.app.ready(running.client, "back")) == 2, "two are ready again")
    (third,) = [each.pid for each in running.app.ready(running.client, "back") if each.index == 1]
    assert running.client.require("back").options(pid=third).look().result(PATIENCE)[1:] == [3, [3]]
    running.client.scale("back", 1)


WAYS: dict[str, tuple[str, Callable[[Running], None] | None]] = {
    "reload": ("", reload),
    "restart": ("", restart),
    "restart by pid": ("", restart_by_pid),
    "SIGTERM": ("", terminate),
    "mob.exit": ("", leave),
    "max_calls": (", max_calls=200", None),
    "max_age": (", max_age=1", None),
}


@pytest.mark.parametrize("source", [PLAIN, ASYNC], ids=["def", "async"])
@pytest.mark.parametrize("way", WAYS)
def test_no_change_of_the_state_is_lost(apps: Apps, way: str, source: str) -> None:
    options, replace = WAYS[way]
    running = Running(apps, options, source)
    before, _, log = running.look()
    assert log == ["nothing"]
    with Books(running.back) as books:
        books.wait_for(50)
        if replace is not None:
            replace(running)
        wait_until(lambda: running.look()[0] != before, "another worker serves")
        books.wait_for(50)
    assert books.errors == []
    wait_until(lambda: running.look()[0], "one is there")
    assert sorted(books.numbers) == list(range(1, len(books.numbers) + 1))
    _, count, log = running.look()
    assert count == len(books.numbers)
    assert log != ["nothing"]


def test_a_worker_that_has_grown_is_replaced_with_all_that_it_has(apps: Apps) -> None:
    running = Running(apps, ', max_memory="120M"')
    before = running.look()[0]
    assert running.back.add().result(PATIENCE) == 1
    running.back.grow(150 * 1024 * 1024).result(PATIENCE)
    wait_until(lambda: running.look()[0] != before, "another worker serves")
    assert running.look()[1:] == (1, [1])
    running.app.wait_for(r"handed over 157,\d{3},\d{3} bytes to its successor")


def test_what_a_role_leaves_that_becomes_smaller_is_kept_for_the_next_in_its_place(apps: Apps) -> None:
    scale_down_and_up(Running(apps))


def test_with_others_of_the_role_calls_go_to_them_meanwhile(apps: Apps) -> None:
    running = Running(apps, ", workers=2")
    wait_until(lambda: len(running.app.ready(running.client, "back")) == 2, "two are ready")
    running.put("hand")
    reloading = threading.Thread(target=running.reload)
    reloading.start()
    asked = running.waits("hand")
    pids = {running.look()[0] for _ in range(20)}  # the one that hands over is blocked, and another answers
    assert len(pids) == 1
    assert asked not in pids
    running.put("hand-door")
    reloading.join(PATIENCE)


def test_messages_that_come_too_late_are_not_lost(apps: Apps) -> None:
    running = Running(apps)
    running.put("hand")
    running.put("fail")
    outcome: list[str] = []
    reloading = threading.Thread(target=lambda: outcome.append(running.reload()))
    reloading.start()
    running.waits("hand")
    call = running.back.add()
    running.put("hand-door")
    reloading.join(PATIENCE)
    assert "no start today" in outcome[0]
    assert call.result(PATIENCE) == 1  # it has waited, and was served by the one that stayed


@pytest.fixture
def running(apps: Apps) -> Running:
    return Running(apps)


FAILURES = {
    "raise": "could not hand over its data: LookupError: the cupboard is bare",
    "refuse": "BadMessage: functions, iterators, sockets and open files cannot be handed over",
    "fail": "LookupError: no start today",
}


@pytest.mark.parametrize("how", FAILURES)
def test_a_failure_rolls_the_reload_back(running: Running, how: str) -> None:
    before = running.look()[0]
    with Books(running.back) as books:
        books.wait_for(20)
        running.put(how)
        said = running.reload()
        assert said.startswith("reload failed; the old workers keep running. back.0: ")
        assert FAILURES[how] in said
        books.wait_for(20)
        assert running.look()[0] == before
        running.take(how)
        assert running.reload().startswith("reloaded 1 worker")
        books.wait_for(20)
    assert books.errors == []
    assert sorted(books.numbers) == list(range(1, len(books.numbers) + 1))
    assert running.look()[1] == len(books.numbers)


def test_a_handler_that_does_not_end_rolls_the_reload_back(apps: Apps) -> None:
    running = Running(apps, source=ASYNC, grace=patient(1))
    before = running.look()[0]
    running.put("hang")
    said = running.reload()
    assert f"its handler was still running after {patient(1):g} s (grace)" in said
    assert running.back.add().result(PATIENCE) == 1
    assert running.look()[0] == before


def test_a_call_that_does_not_end_rolls_the_reload_back(apps: Apps) -> None:
    running = Running(apps, grace=patient(1))
    before = running.look()[0]
    call = running.back.hang()
    assert running.look()[0] == before  # it came behind
    said = running.reload()
    assert f"1 call still running after {patient(1):g} s (grace)" in said
    assert running.look()[0] == before
    call.cancel()


@pytest.mark.parametrize("how", ["raise", "hang", "block"])
def test_a_restart_says_what_is_lost(apps: Apps, how: str) -> None:
    source = PLAIN if how == "block" else ASYNC
    running = Running(apps, source=source, grace=30.0 if how == "raise" else patient(2))
    running.put("hang" if how == "block" else how)
    assert running.back.add().result(PATIENCE) == 1
    done = mob_command(running.app.directory, "restart", "back", "-a", running.app.name)
    said = {
        "raise": r"could not hand over its data: LookupError: the cupboard is bare",
        "hang": r"could not hand over its data: its handler was still running at the end of the grace period \(grace\)",
        "block": r"exited before it handed over its data",
    }[how]
    line = rf"back\.0 \(pid \d+\) {said}\. The next back\.0 starts without it\."
    running.app.wait_for(rf"mob \| {line}")
    assert re.search(rf"back: 1 ready\.\n{line}\n", done.stdout), done
    assert running.look()[1:] == (0, ["nothing"])
    if how == "raise":  # no frame of mob's is before those of the role
        first = running.app.output.partition("Traceback (most recent call last):")[2].splitlines()[1]
        assert "back.py" in first


def test_a_worker_that_is_blocked_rolls_the_reload_back(apps: Apps) -> None:
    running = Running(apps, ", hang_timeout=None", grace=patient(1))
    before = running.look()[0]
    running.put("hand")  # a plain handler that blocks the loop
    said = running.reload()
    assert f"did not hand over its data within {patient(1):g} s (grace)" in said
    running.put("hand-door")
    assert running.back.add().result(PATIENCE) == 1
    assert running.look()[0] == before


def test_kill_9_of_the_old_one_while_it_hands_over(running: Running) -> None:
    running.put("hand")
    said: list[str] = []
    reloading = threading.Thread(target=lambda: said.append(running.reload()))
    reloading.start()
    asked = running.waits("hand")
    os.kill(asked, signal.SIGKILL)
    running.app.wait_for(
        rf"back\.0 \(pid {asked}\) exited before it handed over its data; its successor starts without it"
    )
    reloading.join(PATIENCE)
    assert said[0].startswith("reloaded 1 worker")
    assert running.look()[1:] == (0, ["nothing"])


@pytest.mark.parametrize("when", ["hand", "start"])
def test_kill_9_of_the_new_one(running: Running, when: str) -> None:
    before = running.look()[0]
    assert running.back.add().result(PATIENCE) == 1
    running.put(when)
    said: list[str] = []
    reloading = threading.Thread(target=lambda: said.append(running.reload()))
    reloading.start()
    waiting = running.waits(when)
    new = next(each.pid for each in running.client.members() if each.role == "back" and each.pid != before)
    assert waiting == (before if when == "hand" else new)
    os.kill(new, signal.SIGKILL)
    running.put(f"{when}-door")
    reloading.join(PATIENCE)
    assert said[0].startswith("reload failed; the old workers keep running.")
    assert running.back.add().result(PATIENCE) == 2
    assert running.look()[0] == before


def test_after_a_crash_there_is_nothing(running: Running) -> None:
    before = running.look()[0]
    assert running.back.add().result(PATIENCE) == 1
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: running.look()[0] != before, "another worker serves")
    assert running.look()[1:] == (0, ["nothing"])
    reload(running)
    assert running.look()[2] == [0]  # and what that one leaves is had again


def test_what_is_kept_outlives_an_upgrade_of_the_kingpin(running: Running) -> None:
    running.client.scale("back", 2)
    wait_until(lambda: len(running.app.ready(running.client, "back")) == 2, "two are ready")
    running.client.scale("back", 1)
    running.app.wait_for("kept for the next back.1")
    upgraded = mob_command(running.app.directory, "upgrade", running.app.name)
    assert upgraded.returncode == 0, upgraded.stderr
    running.client.scale("back", 2)
    wait_until(lambda: len(running.app.ready(running.client, "back")) == 2, "two are ready again")
    (second,) = [each.pid for each in running.app.ready(running.client, "back") if each.index == 1]
    assert running.client.require("back").options(pid=second).look().result(PATIENCE)[2] == [0]
    reload_all = running.client.reload("back", timeout=PATIENCE)  # it still knows who hands over
    assert reload_all.startswith("reloaded 2 workers")
    running.app.wait_for(r"handed over [\d,]+ bytes to its successor", 2)


def test_an_upgrade_waits_for_a_hand_over(running: Running) -> None:
    assert running.back.add().result(PATIENCE) == 1
    running.put("hand")
    reloading = threading.Thread(target=running.reload)
    reloading.start()
    running.waits("hand")
    upgraded = mob_command(running.app.directory, "upgrade", running.app.name)
    running.put("hand-door")
    reloading.join(PATIENCE)
    assert upgraded.returncode != 0 or "went on" in upgraded.stdout
    assert running.look()[1:] == (1, [1])


def test_an_app_that_stops_hands_over_to_nobody(running: Running) -> None:
    running.put("raise")  # a handler that runs would say so
    running.app.stop()
    assert "the cupboard is bare" not in running.app.output
    assert "handed over" not in running.app.output


def test_two_reloads_at_once(running: Running) -> None:
    with Books(running.back) as books:
        threads = [threading.Thread(target=running.reload) for _ in range(4)]
        for thread in threads:
            thread.start()
            time.sleep(0)
        for thread in threads:
            thread.join(PATIENCE)
        books.wait_for(20)
    assert books.errors == []
    assert sorted(books.numbers) == list(range(1, len(books.numbers) + 1))


REFUSED = {
    "two handlers": (
        'import mob\nmob.on("hand_over", dict)\nmob.on("hand_over", dict)\n',
        "a handler of 'hand_over' exists already, and only one is allowed",
    ),
    "too early": ("import mob\nmob.inherited()\n", "mob.inherited() is available in handlers of 'start' and later"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be(apps: Apps, case: str) -> None:
    source, told = REFUSED[case]
    app = apps.start('.role("back", "./back.py")', back=source)
    app.wait_for(told.replace("(", r"\(").replace(")", r"\)"))


def test_a_role_that_serves_http_is_refused(apps: Apps) -> None:
    source = 'import mob\nmob.on("hand_over", dict)\nasync def app(scope, receive, send): ...\n'
    app = apps.start('.role("web", "./web.py:app", serve=":0")', web=source)
    app.wait_for(r"role 'web' serves HTTP \(serve=\), so it cannot hand over")


def test_data_is_converted_to_what_is_asked_for(apps: Apps) -> None:
    source = """
        from dataclasses import dataclass
        import mob

        @dataclass
        class State:
            names: set[str]

        state = State({"a"})
        wrong = ""

        @mob.on("hand_over")
        def leave(): return state

        @mob.on("start")
        def start():
            global state, wrong
            state = mob.inherited(State) or State({"b"})
            try:
                mob.inherited(int)
            except mob.CallError as error:
                wrong = str(error)

        def look(): return sorted(state.names), wrong
        """
    app = apps.start('.role("back", "./back.py")', back=source)
    client = app.wait_ready(1)
    back = client.require("back")
    assert back.look().result(PATIENCE) == [["b"], ""]
    client.reload("back", timeout=PATIENCE)
    names, wrong = back.look().result(PATIENCE)
    assert names == ["b"]
    assert "is not <class 'int'>: expected int, got" in wrong
    with contextlib.suppress(mob.MobError):
        client.close()
