"""An exception in a thread of mob does not end it: a healthy worker is not killed because its heartbeat is missing."""

from __future__ import annotations

import os

import pytest

import mob
from mob.rim.lasting import carry_on, readable
from tests.patience import patient
from tests.running import Apps, free_port, wait_until

NAMED = """
import asyncio, os, threading, time
threading.Thread(target=time.sleep, args=(1000,), name="upload b\\udcff.txt", daemon=True).start()

def pid(): return os.getpid()

def threads(): return [ascii(thread.name) for thread in threading.enumerate()]
"""
FULL = (
    NAMED
    + """
import socket
sock = socket.socket()
sock.bind(("127.0.0.1", {port}))
sock.listen()
held = []

def hog():
    try:
        while True:
            held.append(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        return len(held)
"""
)


def test_a_step_that_raises_is_told_once_and_the_next_one_follows(capfd: pytest.CaptureFixture[str]) -> None:
    def fail() -> int:
        raise OSError(24, "no descriptor")

    assert [carry_on(fail, 7) for _ in range(3)] == [7, 7, 7]
    assert carry_on(lambda: 8, 7) == 8
    assert capfd.readouterr().err.count("continues after this error") == 1


def test_a_text_that_is_no_utf_8_is_made_readable() -> None:
    assert readable("ü \udcff") == "ü \\udcff"


def test_stacks_with_a_name_that_is_no_utf_8(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py", hang_timeout=3)', back=NAMED)
    client = app.wait_ready()
    (member,) = app.ready(client, "back")
    for _ in range(2):
        assert "upload b\\udcff.txt" in client.stacks(member.pid)[member.pid]
    beats_on(client, member.pid)


def beats_on(client: mob.Client, pid: int) -> None:
    """Wait for two more heartbeats, each of which contains the number of calls."""
    back = client.require("back")
    for _ in range(2):
        before = next(row.calls for row in client.overview() if row.pid == pid)
        assert back.pid().result(patient(20)) == pid
        wait_until(lambda before=before: any(row.calls > before for row in client.overview()), "a heartbeat")
    assert "'mob-liveness'" in back.threads().result(patient(20))


def test_a_worker_without_descriptors_beats_on(apps: Apps) -> None:
    roles = '.role("back", "./back.py", hang_timeout=3, limits={"nofile": 64})'
    app = apps.start(roles, back=FULL.replace("{port}", str(free_port())))
    client = app.wait_ready()
    (member,) = app.ready(client, "back")
    assert client.require("back").hog().result(patient(20))
    beats_on(client, member.pid)
    assert os.path.exists(f"/proc/{member.pid}")
