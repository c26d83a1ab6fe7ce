"""Messages to a process that does not read: the sender gets an error, others get theirs, and nothing grows forever."""

from __future__ import annotations

import socket
from typing import Any

import psutil

import mob
from mob.peer.links.contact import UNSENT_LIMIT
from tests.patience import patient
from tests.running import Apps, wait_until

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
    "In one go: this process's loop is blocked."
    target = mob.pid(pid)
    for number in range(count):
        send_patiently(target, [number, bytes(size)])
"""
SIZE = 60_000
"""Bytes of a message; a larger one would travel in shared memory."""
MANY = 2 * UNSENT_LIMIT // SIZE
TOLERATED = 32 * 1024 * 1024
"""Bytes by which a sender may grow beyond the limit."""


class Workers:
    """An app of two workers, one of which reads nothing until it is released."""

    def __init__(self, apps: Apps) -> None:
        self.client = start(apps)
        self.blocked = int(self.client.require("back").pid().result(patient(20)))
        self.other = next(pid for pid in self.client.all("back").call.pid().result(patient(20)) if pid != self.blocked)
        self._gate, theirs = socket.socketpair()
        self._gate.settimeout(patient(20))
        with theirs:
            self._call = self.client.pid(self.blocked).call.block(theirs)
            assert self._gate.recv(1) == b"x"

    def heard(self, pid: int) -> list[Any]:
        """Return what one of them has received."""
        return list(self.client.pid(pid).call.heard().result(patient(20)))

    def let_go(self) -> None:
        """Let it read again."""
        self._gate.send(b"x")
        self._call.result(patient(20))
        self._gate.close()


def start(apps: Apps) -> mob.Client:
    """Return a client of the app, all of which is ready."""
    app = apps.start('.role("back", "./back.py", workers=2).role("front", "./front.py")', back=BACK, front=FRONT)
    return app.wait_ready()


def send_until_busy(target: Any) -> tuple[int, mob.Busy]:
    """Return how many messages were taken, and the error of the next one."""
    for number in range(MANY):
        try:
            target.send([number, bytes(SIZE)])
        except mob.Busy as busy:
            return number, busy
    raise AssertionError("nothing was refused")


def test_a_sender_is_told_and_what_was_taken_arrives_in_order(apps: Apps) -> None:
    workers = Workers(apps)
    target = workers.client.pid(workers.blocked)
    process = psutil.Process()
    before = process.memory_info().rss
    taken, busy = send_until_busy(target)
    assert UNSENT_LIMIT < taken * SIZE < UNSENT_LIMIT + TOLERATED
    assert process.memory_info().rss - before < UNSENT_LIMIT + TOLERATED
    assert busy.executed == "no"
    assert f"(pid {workers.blocked}): send queue full (more than {UNSENT_LIMIT:,} bytes unsent)." in str(busy)
    assert "The other receivers have it" not in str(busy)
    workers.let_go()
    assert workers.heard(workers.blocked) == list(range(taken))
    target.send(["again", b""])
    assert workers.heard(workers.blocked)[-1] == "again"


def test_the_others_of_a_broadcast_get_theirs(apps: Apps) -> None:
    workers = Workers(apps)
    taken, busy = send_until_busy(workers.client.all("back"))
    assert "The other receivers have it." in str(busy)
    assert workers.heard(workers.other) == list(range(taken + 1))
    workers.let_go()
    assert workers.heard(workers.blocked) == list(range(taken))


def test_any_takes_another_worker(apps: Apps) -> None:
    workers = Workers(apps)
    send_until_busy(workers.client.pid(workers.blocked))
    for number in range(100):
        workers.client.any("back").send([str(number), b""])
    assert workers.heard(workers.other) == [str(number) for number in range(100)]
    workers.let_go()


def test_who_has_sent_much_in_one_go_may_go_on_as_it_is_read(apps: Apps) -> None:
    client = start(apps)
    pid = int(client.require("back").pid().result(patient(20)))
    client.require("front").flood(pid, 3 * MANY, SIZE).result(patient(60))
    all_of_them = list(range(3 * MANY))
    wait_until(lambda: client.pid(pid).call.heard().result(patient(20)) == all_of_them, "all have come, in order")
