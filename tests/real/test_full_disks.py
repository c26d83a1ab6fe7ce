"""A disk that is really full, under durable jobs and a store: a tmpfs of a few megabytes, in a mount namespace."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import mob
from tests.patience import PATIENCE, patient
from tests.running import Apps, RunningApp, wait_until

SIZE = 8 * 1024 * 1024
BACK = """
import asyncio, os

def note(n, padding):
    with open("done", "a") as file:
        file.write(f"{n}\\n")

async def wait():
    while not os.path.exists("go"):
        await asyncio.sleep(0.01)
    with open("ended", "a") as file:
        file.write("once\\n")
    return b"x" * 1_000_000
"""
MAIN = """
import mob

app = mob.start({name!r}).base(__file__)
app.role("back", "./back.py").queue("disk/jobs.db").store("cache", file="disk/store.db")
app.run()
"""


class SmallDisk:
    """A file system of SIZE bytes that lasts as long as a process of its own, whatever happens to the app."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "disk").mkdir()
        for self.rights in (["--mount"], ["--mount", "--user", "--map-root-user"]):
            script = f"mount -t tmpfs -o size={SIZE} small disk && echo mounted && exec cat"
            self._holder = subprocess.Popen(
                ["unshare", *self.rights, "sh", "-c", script],
                cwd=directory,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            assert self._holder.stdout is not None
            if self._holder.stdout.readline() == "mounted\n":
                return
            self.close()
        pytest.skip("needs the right to mount a tmpfs in a namespace (unshare --mount)")

    @property
    def path(self) -> Path:
        """The path by which it is visible from here."""
        return Path(f"/proc/{self._holder.pid}/root{self.directory}/disk")

    def command(self) -> list[str]:
        """The command prefix that starts the app where the disk is."""
        user = ["--user", "--preserve-credentials"] if "--user" in self.rights else []
        where = ["--target", str(self._holder.pid), "--mount", *user, f"--wd={self.directory}"]
        return ["nsenter", *where, sys.executable, "main.py"]

    def fill(self) -> None:
        with (self.path / "filler").open("ab", buffering=0) as file:
            for size in (65536, 4096, 1):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(bytes(size))
        found = os.statvfs(self.path)
        assert found.f_bavail == 0

    def make_room(self) -> None:
        (self.path / "filler").unlink()

    def close(self) -> None:
        self._holder.communicate()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    if lacking := [name for name in ("unshare", "nsenter", "mount") if shutil.which(name) is None]:
        pytest.skip(f"needs {', '.join(lacking)}")
    made = SmallDisk(tmp_path)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def running(apps: Apps, disk: SmallDisk) -> RunningApp:
    name = f"full-{disk.directory.name[-24:]}".replace("_", "-")
    apps.write(back=BACK, main=MAIN.format(name=name))
    return apps.run(name, disk.command())


def kill(app: RunningApp) -> None:
    app.kill()
    app.wait_gone()


def again(apps: Apps, app: RunningApp, disk: SmallDisk, ready: int = 3) -> tuple[RunningApp, mob.Client]:
    """Return the app, started another time."""
    app = apps.run(app.name, disk.command())
    return app, app.wait_ready(ready)


def book(disk: SmallDisk) -> list[int]:
    path = disk.directory / "done"
    return [int(line) for line in path.read_text().split()] if path.exists() else []


class Maker(threading.Thread):
    """Makes jobs one by one, and knows which were accepted and which refused."""

    def __init__(self, client: mob.Client) -> None:
        super().__init__()
        self.stored: list[int] = []
        self.refused: dict[int, str] = {}
        self.is_over = threading.Event()
        self._back = client.require("back").options(durable=True)
        self.start()

    def run(self) -> None:
        for n in itertools.count():
            if self.is_over.is_set():
                return
            try:
                self._back.note(n, bytes(20_000)).stored.result(PATIENCE)
            except mob.QueueFailed as error:
                self.refused[n] = str(error)
            else:
                self.stored.append(n)

    def end(self) -> None:
        self.is_over.set()
        self.join()


@pytest.mark.timeout(240)
def test_jobs_on_a_disk_that_is_full_under_load(apps: Apps, running: RunningApp, disk: SmallDisk) -> None:
    client = running.wait_ready()
    held = client.require("back").options(durable=True).wait()
    held.stored.result(PATIENCE)
    maker = Maker(client)
    try:
        wait_until(lambda: len(maker.stored) > 5, "jobs are stored")
        disk.fill()
        wait_until(lambda: len(maker.refused) > 20, "jobs are refused")
        (disk.directory / "go").touch()
        wait_until((disk.directory / "ended").exists, "one ends while the disk is full")
        assert held.status().result(PATIENCE) == "running"
        assert not held.outcome.done_already()
        stored, before = len(maker.stored), len(maker.refused)
        wait_until(lambda: len(maker.refused) > before + 20, "the keeper continues to refuse")
        disk.make_room()
        wait_until(lambda: len(maker.stored) > stored + 20, "it stores again by itself")
        assert held.result(PATIENCE) == b"x" * 1_000_000
        disk.fill()
        wait_until(lambda: len(maker.refused) > before + 50, "it is full again")
    finally:
        maker.end()
    path = disk.directory / "disk" / "jobs.db"
    text = f"storing back.note: the queue {path} cannot be written: database or disk is full. Nothing was stored. "
    assert set(maker.refused.values()) == {f"{text}Free some space on its disk; the queue continues by itself."}
    running.wait_for(r"disk is full\. New jobs are refused; results are written as soon as that is possible")
    running.wait_for(r"jobs\.db can be written again")
    kill(running)
    app, client = again(apps, running, disk, ready=2)  # there may be no room for the index of the store's log
    wait_until(lambda: set(book(disk)) == set(maker.stored), "all stored jobs are done, and nothing else", patient(60))
    disk.make_room()
    app.wait_ready(3)
    client.require("back").options(durable=True).note(-1, b"").result(PATIENCE)
    assert not set(book(disk)) & set(maker.refused)
    assert (disk.directory / "ended").read_text() == "once\n"
    assert client.job(held.id).result(PATIENCE) == b"x" * 1_000_000


def test_a_store_on_a_disk_that_is_full(apps: Apps, running: RunningApp, disk: SmallDisk) -> None:
    client = running.wait_ready()
    cache = client.store("cache")
    cache.set("before", 1).result(PATIENCE)
    disk.fill()
    written: list[str] = []
    text = ""
    for number in range(1000):  # there may be room in the log
        try:
            cache.set(f"k{number}", bytes(50_000)).result(PATIENCE)
        except OSError as error:
            text = str(error)
            break
        written.append(f"k{number}")
    path = disk.directory / "disk" / "store.db"
    assert (
        f"store 'cache': {path} cannot be written: database or disk is full. The change was made in memory, and "
        f"will be written as soon as that is possible."
    ) in text
    missed = f"k{len(written)}"
    assert cache.get(missed).result(PATIENCE) == bytes(50_000)
    disk.make_room()
    running.wait_for(r"store 'cache': .*store\.db can be written again")
    cache.set("after", 2).result(PATIENCE)
    kill(running)
    app, client = again(apps, running, disk)
    cache = client.store("cache")
    assert cache.get_many(["before", "after"]).result(PATIENCE) == {"before": 1, "after": 2}
    assert set(cache.get_many([*written, missed]).result(PATIENCE).values()) == {bytes(50_000)}
    kill(app)
    (disk.path / "store.db-shm").unlink(missing_ok=True)
    disk.fill()
    app, client = again(apps, running, disk, ready=1)
    app.wait_for(
        r"store 'cache': .*store\.db cannot be opened: disk I/O error\. Its disk is full: free some space\. Writing is"
    )
    disk.make_room()
    app.wait_ready()
    assert client.store("cache").get("after").result(PATIENCE) == 2
