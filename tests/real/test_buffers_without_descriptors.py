"""Large buffers in a process without free descriptors: the call that contains one fails, and no other."""

from __future__ import annotations

import pytest

import mob
from tests.patience import patient
from tests.running import Apps

HOG = """
import asyncio, os, resource
import mob

held = []

def hog(spare=0):
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    try:
        while True:
            held.append(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        for _ in range(spare):
            os.close(held.pop())

def let_go():
    while held:
        os.close(held.pop())

waiting = asyncio.Event()

async def slow():
    await waiting.wait()
    return "done"

async def go_on():
    waiting.set()

def size(data):
    return len(data)

def give(count):
    return bytes(count)
"""
RELAY = (
    HOG
    + """
back = mob.require("back")

def relay(count):
    try:
        return back.size(bytes(count)).result(20)
    except mob.CallError as error:
        return f"{type(error).__name__}: {error}"

def fetch(count):
    try:
        return len(back.give(count).result(20))
    except (mob.CallError, mob.BadMessage) as error:
        return f"{type(error).__name__}: {error}"
"""
)
LARGE = 300_000


def test_a_worker_needs_one_descriptor_for_a_pool(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py")', back=HOG)
    back = app.wait_ready().require("back")
    back.hog(1).result(patient(20))
    assert back.size(bytes(LARGE)).result(patient(20)) == LARGE
    back.let_go().result(patient(20))


def test_a_worker_without_descriptors_fails_that_call_only(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py")', back=HOG)
    back = app.wait_ready().require("back")
    slow = back.slow()
    back.hog().result(patient(20))
    for _ in range(2):
        with pytest.raises(mob.CallError, match="ulimit -n") as caught:
            back.size(bytes(LARGE)).result(patient(20))
        assert caught.value.executed == "no"
    assert back.size(b"small").result(patient(20)) == 5
    back.let_go().result(patient(20))
    assert back.size(bytes(LARGE)).result(patient(20)) in (LARGE,)
    back.go_on().result(patient(20))
    assert slow.result(patient(20)) == "done"


def test_a_caller_without_descriptors_fails_that_call_only(apps: Apps) -> None:
    roles = '.role("back", "./back.py").role("front", "./front.py")'
    app = apps.start(roles, back=HOG, front=RELAY)
    front = app.wait_ready().require("front")
    assert front.relay(3).result(patient(20)) == 3  # the link exists
    front.hog().result(patient(20))
    assert front.relay(LARGE).result(patient(20)) == LARGE  # by the socket
    assert "ulimit -n" in front.fetch(LARGE).result(patient(20))
    assert front.fetch(3).result(patient(20)) == 3
    front.let_go().result(patient(20))
    assert front.relay(LARGE).result(patient(20)) == LARGE
    assert front.fetch(LARGE).result(patient(20)) == LARGE
