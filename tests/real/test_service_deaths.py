"""What happens to objects and their handles when processes die, drain, are reloaded, or leave gracefully."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import mob
from tests.running import Apps, RunningApp, apps_in, wait_until

SIZES = """
import gc
from mob.mobster import api

def sizes():
    gc.collect()
    return api.current("sizes").statistics()
"""

BACK = """
import asyncio
import os
import pathlib
import time
import mob
import sizes

def statistics():
    return sizes.sizes()

class Room:
    def __init__(self, name="kitchen"):
        self.people = []

    def add(self, person):
        self.people.append(person)
        return len(self.people)

    def pid(self):
        return os.getpid()

    async def hang(self):
        await asyncio.Event().wait()

    async def wait(self, seconds):
        print("waits", flush=True)
        await asyncio.sleep(seconds)
        return "waited"

    def write(self, path, text):
        with pathlib.Path(path).open("a") as file:
            file.write(text)

    def block(self, seconds):
        print("blocks", flush=True)
        time.sleep(seconds)

class Fragile:
    def __init__(self):
        os._exit(7)

    def use(self):
        pass
"""

FRONT = """
import os
import mob
import sizes

back = mob.require("back")
kept = {}

def statistics():
    return sizes.sizes()

def keep(room):
    kept[len(kept)] = room

def use(person):
    return kept[0].add(person).result()

def pid():
    return os.getpid()
"""


@pytest.fixture
def apps(tmp_path: Path) -> Iterator[Apps]:
    with apps_in(tmp_path) as apps:
        apps.write(sizes=SIZES)
        yield apps


@pytest.fixture
def app(apps: Apps) -> RunningApp:
    return apps.start('.role("back", "back.py").role("front", "front.py")', back=BACK, front=FRONT)


def lent(proxy: mob.Proxy) -> int:
    return proxy.statistics().result()["lent"]


def test_a_call_of_an_object_whose_worker_was_killed_says_that_it_is_gone(app: RunningApp) -> None:
    client = app.wait_ready()
    back: Any = client.require("back")
    front: Any = client.require("front")
    room = back.Room().result()
    front.keep(room).result()
    pid = room.pid().result()
    hanging = room.hang()
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(mob.Lost, match=r"back\.Room\.hang was lost.*The back\.Room was lost with its process.*new one"):
        hanging.result()
    wait_until(lambda: back.Room().result().pid().result() != pid, "another worker is there")
    with pytest.raises(mob.Lost, match=r"back\.Room\.add.*The back\.Room was lost with its process") as caught:
        room.add("Ada").result()
    assert caught.value.executed == "no"
    assert str(caught.value).startswith(
        f"back.Room.add was lost before it began: back.0 (pid {pid}) was killed by SIGKILL (signal 9)"
    )
    with pytest.raises(mob.Lost) as caught:
        front.use("Ada").result()
    assert f"back.Room.add was lost before it began: back.0 (pid {pid}) was killed by SIGKILL" in str(caught.value)
    assert repr(room) == f"<handle of back.Room in back.0 (pid {pid})>"


def test_calls_in_line_for_an_object_whose_maker_dies_end(app: RunningApp) -> None:
    back: Any = app.wait_ready().require("back")
    making = back.Fragile()
    calls = [making.use() for _ in range(3)]
    for call in [making, *calls]:
        with pytest.raises(mob.Lost):
            call.result()


def test_an_object_is_freed_when_its_holder_is_killed(app: RunningApp) -> None:
    client = app.wait_ready()
    back: Any = client.require("back")
    front: Any = client.require("front")
    room = back.Room().result()
    front.keep(room).result()
    assert front.use("Ada").result() == 1
    del room
    gc.collect()
    assert lent(back) == 1
    assert front.use("Ben").result() == 2
    os.kill(front.pid().result(), signal.SIGKILL)
    wait_until(lambda: lent(back) == 0, "it is freed")


def test_an_object_outlives_the_process_that_passed_its_handle_on(app: RunningApp) -> None:
    client = app.wait_ready()
    back: Any = client.require("back")
    front: Any = client.require("front")
    other = app.connect()
    front.keep(other.require("back").Room().result()).result()
    other.close()
    assert front.use("Ada").result() == 1
    assert lent(back) == 1


def test_a_handle_of_a_closed_client_says_so(app: RunningApp) -> None:
    app.wait_ready()
    other = app.connect()
    room: Any = other.require("back").Room().result()
    other.close()
    with pytest.raises(mob.Unavailable, match=r"back\.Room\.pid: the app .* has ended, or this client was closed"):
        room.pid().result(timeout=30)


def test_what_a_script_has_asked_an_object_for_is_done_though_it_ends(app: RunningApp, tmp_path: Path) -> None:
    client = app.wait_ready()
    code = f"""
import mob
client = mob.connect({app.name!r})
room = client.require("back").Room().result()
room.block(0.2)
for n in range(5):
    room.write({str(tmp_path / "written")!r}, str(n))
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    wait_until((tmp_path / "written").exists, "it is written")
    wait_until(lambda: (tmp_path / "written").read_text() == "01234", "all is written")
    wait_until(lambda: lent(client.require("back")) == 0, "all is freed")


def test_a_reload_finishes_calls_and_ends_objects(app: RunningApp) -> None:
    client = app.wait_ready()
    back: Any = client.require("back")
    room = back.Room().result()
    old = room.pid().result()
    waiting = room.wait(0.5)
    app.wait_for("waits")
    client.reload("back")
    assert waiting.result() == "waited"
    wait_until(lambda: back.Room().result().pid().result() != old, "the successor is there")
    with pytest.raises(mob.Lost, match="make a new one"):
        wait_until(lambda: room.pid().result() != old, "the old worker exited")


def test_an_object_is_made_before_its_role_is_there(apps: Apps) -> None:
    late = "with open('late.fifo') as fifo: fifo.read()\n" + BACK
    os.mkfifo(apps.directory / "late.fifo")
    app = apps.start('.role("back", "back.py")', back=late)
    back: Any = app.connect().require("back")
    making = back.Room()
    calls = [making.add(number) for number in range(3)]
    assert not making.done()
    (apps.directory / "late.fifo").write_text("go")
    assert [call.result() for call in calls] == [1, 2, 3]


def test_objects_of_a_role_with_threads_run_in_them(apps: Apps) -> None:
    code = """
import threading

class Gate:
    def __init__(self):
        self.barrier = threading.Barrier(3)

    def meet(self):
        self.barrier.wait(30)
        return threading.current_thread() is threading.main_thread()
"""
    app = apps.start('.role("back", "back.py", threads=3)', back=code)
    back: Any = app.wait_ready().require("back")
    gate = back.Gate().result()
    assert [call.result() for call in [gate.meet() for _ in range(3)]] == [False] * 3


def test_objects_are_made_on_all_workers_and_stay_there(apps: Apps) -> None:
    app = apps.start('.role("back", "back.py", workers=2)', back=BACK, front=FRONT)
    back: Any = app.wait_ready().require("back")
    rooms: list[Any] = []

    def both() -> bool:
        rooms[:] = [making.result() for making in [back.Room() for _ in range(20)]]
        return len({room.pid().result() for room in rooms}) == 2

    wait_until(both, "both workers have some")
    pids = [room.pid().result() for room in rooms]
    assert [room.pid().result() for room in rooms] == pids


def test_many_objects_leave_nothing(app: RunningApp) -> None:
    client = app.wait_ready()
    back: Any = client.require("back")

    def use() -> None:
        for number in range(200):
            room = back.Room()
            call = room.add(number)
            if number % 2:
                assert call.result() == 1

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wait_until(lambda: lent(back) == 0, "all are freed")
