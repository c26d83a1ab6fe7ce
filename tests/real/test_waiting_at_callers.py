"""Calls that wait at their callers for a worker are sent in the end, whatever becomes of those before them."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import mob
from tests.patience import patient
from tests.running import Apps, RunningApp, apps_in

BACK = """
import os

import mob

own = mob.require("back")

@mob.export
def who():
    return os.getpid()

@mob.export
def tiny(number=0):
    return number

@mob.export
def ask_another():
    return own.tiny(7).result()

@mob.export
async def ask_another_from_the_loop():
    return own.tiny(9).result()

@mob.export
def block(gate):
    gate.send(b"x")
    gate.recv(1)

@mob.export(concurrency=1)
def rows(count):
    yield from range(count)

@mob.export(concurrency=1)
async def alone(gate):
    import asyncio
    gate.send(b"x")
    gate.setblocking(False)
    await asyncio.get_running_loop().sock_recv(gate, 1)
"""


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    with apps_in(tmp_path_factory.mktemp("waiting")) as apps:
        app = apps.start(
            '.role("back", "./back.py").role("guarded", "./guarded.py", callers=["back"])',
            back=BACK,
            guarded=BACK.replace('mob.require("back")', 'mob.require("guarded")'),
        )
        app.wait_ready()
        yield app


@pytest.fixture
def client(app: RunningApp) -> Iterator[mob.Client]:
    with app.connect() as client:
        yield client
    app.clients.remove(client)


@contextmanager
def busy(back: Any, name: str = "block") -> Iterator[None]:
    """Meanwhile the only worker is."""
    gate, other = socket.socketpair()
    call = getattr(back, name)(other)
    other.close()
    assert gate.recv(1) == b"x"
    try:
        yield
    finally:
        gate.send(b"x")
        gate.close()
        call.result(patient(30))


@pytest.mark.parametrize("name", ["tiny", "rows", "alone"])
def test_behind_calls_that_were_cancelled(client: mob.Client, name: str) -> None:
    back = client.require("back")
    gate, other = socket.socketpair()
    args = {"tiny": [1], "rows": [3], "alone": [other]}[name]
    with busy(back):
        calls = [getattr(back, name)(*args) for _ in range(5)]
        last = back.who()
        for call in calls:
            call.cancel()
    assert last.result(patient(30)) > 0
    gate.close()
    other.close()


def test_behind_calls_that_were_given_up_in_the_line_of_their_export(client: mob.Client) -> None:
    back = client.require("back")
    pid = back.who().result(patient(30))
    gate, other = socket.socketpair()
    with busy(back, "alone"):
        in_line = [back.options(pid=pid).alone(other) for _ in range(3)]
        expires = back.options(pid=pid, timeout=0.05).alone(other)
        last = back.alone(other)
        assert isinstance(expires.exception(patient(30)), mob.CallTimeout)
        for call in in_line:
            call.cancel()
    assert gate.recv(1) == b"x"
    gate.send(b"x")
    last.result(patient(30))
    gate.close()
    other.close()


def test_behind_a_stream_that_had_the_only_place(client: mob.Client) -> None:
    back = client.require("back")
    streams = [iter(back.rows(3)) for _ in range(4)]
    for stream in streams:
        assert list(stream) == [0, 1, 2]
    left = iter(back.rows(1_000_000))
    next(left)
    behind = back.rows(3)
    left.close()
    assert list(behind) == [0, 1, 2]


def test_behind_calls_that_are_refused(client: mob.Client) -> None:
    calls = [client.require("guarded").tiny(number) for number in range(300)]
    assert {type(call.exception(patient(30))) for call in calls} == {mob.Forbidden}


def test_behind_a_caller_who_has_gone(app: RunningApp, client: mob.Client) -> None:
    back = client.require("back")
    with busy(back):
        other = app.connect()
        theirs = [other.require("back").tiny(number) for number in range(50)]
        last = back.who()
        threading.Thread(target=other.close).start()
    assert last.result(patient(30)) > 0
    app.clients.remove(other)
    assert all(call.exception(patient(30)) is None or call.exception() is not None for call in theirs)


def test_a_client_that_closes_sends_what_waits(app: RunningApp, apps: Apps) -> None:
    own = apps.start('.role("back", "./back.py")', back='import os\ndef note(n):\n    print("noted", n, flush=True)\n')
    own.wait_ready()
    with own.connect() as other:
        for number in range(200):
            other.require("back").note(number)
    own.wait_for("noted 199")
    own.clients.remove(other)


def test_a_worker_that_dies_leaves_them_to_its_successor(client: mob.Client) -> None:
    back = client.require("back")
    pid = back.who().result(patient(30))
    gate, other = socket.socketpair()
    blocked = back.block(other)
    other.close()
    assert gate.recv(1) == b"x"
    calls = [back.who() for _ in range(5_000)]
    os.kill(pid, signal.SIGKILL)
    assert isinstance(blocked.exception(patient(30)), mob.Lost)
    ends = [call.exception(patient(30)) for call in calls]
    sent = sum(end is not None for end in ends)
    assert {type(end) for end in ends[:sent]} <= {mob.Lost}  # those that waited in the worker already
    assert sent < 2_000
    assert pid not in {call.result() for call in calls[sent:]}
    gate.close()


# --- calls of the own role --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ask_another", "ask_another_from_the_loop"])
def test_a_worker_that_waits_for_its_own_role_is_not_given_the_call(apps: Apps, name: str) -> None:
    app = apps.start('.role("back", "./back.py", workers=2)', back=BACK)
    back = app.wait_ready().require("back")
    for number in range(1000):  # now it is known how short they are, so they gather at one worker
        back.tiny(number).result(patient(30))
    for _ in range(100):
        assert getattr(back, name)().result(patient(30)) in (7, 9)


def test_it_waits_for_another_that_is_busy(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py", workers=2)', back=BACK)
    client = app.wait_ready()
    back = client.require("back")
    for number in range(1000):
        back.tiny(number).result(patient(30))
    for _ in range(5):
        gate, other = socket.socketpair()
        blocked = back.block(other)
        other.close()
        assert gate.recv(1) == b"x"
        asking = back.ask_another()
        others = [back.tiny(number) for number in range(20)]
        with pytest.raises(mob.CallTimeout):
            asking.result(0.05)
        gate.send(b"x")
        assert asking.result(patient(30)) == 7
        blocked.result(patient(30))
        assert [call.result(patient(30)) for call in others] == list(range(20))
        gate.close()
