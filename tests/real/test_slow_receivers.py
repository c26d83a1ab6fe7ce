"""Messages to a process that does not read: the sender is told, others get theirs, and nothing grows without end."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

import mob
from mob.mobster.contacts import UNSENT_LIMIT
from tests.running import RunningApp, apps_in, wait_until

BACK = """
import os
import mob

numbers = []

@mob.on("message")
def hear(message):
    numbers.append(message[0])

def block(gate):
    gate.send(b"x")
    gate.recv(1)  # nothing is read meanwhile

def heard():
    return numbers

def pid():
    return os.getpid()
"""
FRONT = """
import time
import mob

def send_patiently(target, message):
    while True:
        try:
            return target.send(message)
        except mob.Busy:
            time.sleep(0.001)

def flood(pid, count, size):
    "In one go: this process's loop stands still."
    target = mob.pid(pid)
    for number in range(count):
        send_patiently(target, [number, bytes(size)])
"""
SIZE = 60_000
"""Bytes of a message: what is larger travels in shared memory."""
MANY = 2 * UNSENT_LIMIT // SIZE
TOLERATED = 32 * 1024 * 1024
"""Bytes beyond the limit that a sender may grow by."""


@pytest.fixture
def app(tmp_path: Any) -> Iterator[RunningApp]:
    with apps_in(tmp_path) as apps:
        app = apps.start('.role("back", "./back.py", workers=2).role("front", "./front.py")', back=BACK, front=FRONT)
        app.wait_ready()
        yield app


class Blocked:
    """A worker that reads nothing, until it is let go."""

    def __init__(self, client: mob.Client) -> None:
        self.pid = int(client.require("back").pid().result(20))
        self._gate, theirs = socket.socketpair()
        self._gate.settimeout(20)
        with theirs:
            self.call = client.pid(self.pid).call.block(theirs)
            assert self._gate.recv(1) == b"x"

    def let_go(self) -> None:
        self._gate.send(b"x")
        self.call.result(20)
        self._gate.close()


def send_until_busy(target: Any) -> tuple[int, mob.Busy]:
    """How many messages were taken, and how the next was refused."""
    for number in range(MANY):
        try:
            target.send([number, bytes(SIZE)])
        except mob.Busy as busy:
            return number, busy
    raise AssertionError("nothing was refused")


def test_a_sender_is_told_and_what_was_taken_arrives_in_order(app: RunningApp) -> None:
    with mob.connect(app.name) as client:
        blocked = Blocked(client)
        process = psutil.Process()
        before = process.memory_info().rss
        taken, busy = send_until_busy(client.pid(blocked.pid))
        assert UNSENT_LIMIT < taken * SIZE < UNSENT_LIMIT + TOLERATED
        assert process.memory_info().rss - before < UNSENT_LIMIT + TOLERATED
        assert busy.executed == "no"
        assert f"(pid {blocked.pid}), for which more than {UNSENT_LIMIT:,} bytes wait already." in str(busy)
        assert "The others have got it" not in str(busy)
        blocked.let_go()
        assert client.pid(blocked.pid).call.heard().result(20) == list(range(taken))
        client.pid(blocked.pid).send(["again", b""])
        assert client.pid(blocked.pid).call.heard().result(20)[-1] == "again"


def test_the_others_of_a_broadcast_get_theirs(app: RunningApp) -> None:
    with mob.connect(app.name) as client:
        blocked = Blocked(client)
        (other,) = {member.pid for member in app.ready(client) if member.role == "back"} - {blocked.pid}
        taken, busy = send_until_busy(client.all("back"))
        assert "The others have got it." in str(busy)
        assert client.pid(other).call.heard().result(20) == list(range(taken + 1))
        blocked.let_go()
        assert client.pid(blocked.pid).call.heard().result(20) == list(range(taken))


def test_any_takes_another_worker(app: RunningApp) -> None:
    with mob.connect(app.name) as client:
        blocked = Blocked(client)
        (other,) = {member.pid for member in app.ready(client) if member.role == "back"} - {blocked.pid}
        send_until_busy(client.pid(blocked.pid))
        for number in range(100):
            client.any("back").send([str(number), b""])
        assert client.pid(other).call.heard().result(20) == [str(number) for number in range(100)]
        blocked.let_go()


def test_who_has_sent_much_in_one_go_may_go_on_as_it_is_read(app: RunningApp) -> None:
    with mob.connect(app.name) as client:
        pid = int(client.require("back").pid().result(20))
        client.require("front").flood(pid, 3 * MANY, SIZE).result(60)
        heard = wait_until(lambda: complete(client.pid(pid).call.heard().result(20)), "all have come")
        assert heard == list(range(3 * MANY))
        assert pid != os.getpid()


def complete(numbers: list[int]) -> list[int]:
    return numbers if len(numbers) == 3 * MANY else []
