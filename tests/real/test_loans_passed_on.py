"""Loans that real processes pass on while their owner does not read, or has exited; nothing is overwritten."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

import mob
from mob.rim.segments import IS_AVAILABLE
from tests.patience import patient
from tests.running import Apps, RunningApp, wait_until

pytestmark = pytest.mark.skipif(not IS_AVAILABLE, reason="no memfd here")

SIZE = 65536
MANY = 1500
"""Number of messages that the kernel does not all take for an owner that does not read."""

OWNER = """
import os

import mob
from mob.mobster import api

fwd = mob.require("fwd")
kept = []

def pid():
    return os.getpid()

def give(count, size):
    for number in range(count):
        loan = mob.empty(size, "u1")
        loan[:] = number % 251
        fwd.take(loan).result()

def block(fifo):
    with open(fifo) as file:
        file.read()

def knows(pid):
    return any(contact.member.pid == pid for contact in api.current("knows").contacts)

def overwrite(count, size):
    for _ in range(count):
        loan = mob.empty(size, "u1")
        loan[:] = 255
        kept.append(loan)
"""

FORWARDER = """
import os

import mob

back = mob.require("back")
got = []

def pid():
    return os.getpid()

def take(value):
    got.append(value)

def spread(exits=False):
    calls = [back.keep(number, value) for number, value in enumerate(got)]
    for call in calls:
        call.result()
    if exits:
        os._exit(0)

def forget():
    got.clear()

def look():
    return [back.look(value).result() for value in got]
"""

BACK = """
kept = {}

def keep(number, value):
    kept[number] = value

def wrong():
    return [number for number, value in kept.items() if (value != number % 251).any()], len(kept)

def look(value):
    return int(value[-1])
"""

ROLES = '.role("owner", "./owner.py").role("fwd", "./fwd.py").role("back", "./back.py", workers={})'


def start(apps: Apps, workers: int = 1) -> RunningApp:
    app = apps.start(ROLES.format(workers), owner=OWNER, fwd=FORWARDER, back=BACK)
    app.wait_ready()
    return app


@pytest.mark.parametrize("end", ["kill", "term", "exit", "drop"])
def test_the_owner_is_blocked_and_the_one_who_passes_its_loans_on_goes(apps: Apps, tmp_path: Path, end: str) -> None:
    with start(apps).connect() as client:
        owner, fwd, back = (client.require(role) for role in ("owner", "fwd", "back"))
        owner.give(MANY, SIZE).result(patient(60))
        forwarder = fwd.pid().result(patient(30))
        os.mkfifo(fifo := tmp_path / "fifo")
        blocked = owner.block(str(fifo))
        with open(fifo, "w"):  # the owner reads it from now on, and no link
            spread: Any = fwd.spread(end == "exit")
            if end == "exit":
                assert isinstance(spread.exception(patient(60)), mob.Lost)
            else:
                spread.result(patient(60))
            if end == "drop":
                fwd.forget().result(patient(30))
            elif end != "exit":
                os.kill(forwarder, signal.SIGKILL if end == "kill" else signal.SIGTERM)
            if end != "drop":
                wait_until(lambda: not os.path.exists(f"/proc/{forwarder}"), "the forwarder has exited")
        blocked.result(patient(30))
        if end != "drop":
            wait_until(lambda: not owner.knows(forwarder).result(patient(30)), "its owner knows of it")
        owner.overwrite(2 * MANY, SIZE).result(patient(60))
        assert back.wrong().result(patient(60)) == [[], MANY]


@pytest.mark.parametrize("is_known", [True, False], ids=["its pool was known", "its pool was not known"])
def test_a_loan_can_be_passed_on_again_and_again_after_its_owner_has_exited(apps: Apps, is_known: bool) -> None:
    with start(apps, workers=2).connect() as client:
        owner, fwd = client.require("owner"), client.require("fwd")
        owner.give(3, SIZE).result(patient(30))
        before = owner.pid().result(patient(30))
        if is_known:
            for _ in range(5):
                assert fwd.look().result(patient(30)) == [0, 1, 2]
        os.kill(before, signal.SIGKILL)
        wait_until(lambda: before not in [member.pid for member in client.members()], "its death is known")
        for _ in range(30):
            assert fwd.look().result(patient(30)) == [0, 1, 2]
