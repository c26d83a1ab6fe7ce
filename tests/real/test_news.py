"""Clients and workers get the changes that concern them, and those that do not read do not delay the Kingpin."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import threading
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

import mob
from mob.kingpin.guests import HELLO_LIMIT, UNREAD
from mob.rim.addresses import address_of
from mob.wire import messages as m
from tests.patience import patient
from tests.running import RunningApp, apps_in, wait_until

BACK = """
import mob

kept = []

async def keep(function):
    kept.append(function)
    return mob.me().pid

async def call_kept():
    return await kept[-1]()

async def forget():
    kept.clear()

def plain():
    return 1

async def give_on(function):
    return await mob.require("other").keep(function)
"""
OTHER = """
import gc, mob

kept = []

async def keep(function):
    kept.append(function)

async def call_kept():
    return await kept[-1]()

async def forget():
    kept.clear()
    gc.collect()

def joined():
    return seen

seen = []

@mob.on("join")
def join(member):
    seen.append(member.pid)
"""


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    with apps_in(tmp_path_factory.mktemp("news")) as apps:
        app = apps.start('.role("back", "./back.py", workers=2).role("other", "./other.py")', back=BACK, other=OTHER)
        app.wait_ready(3)
        yield app


def frame(*messages: Any) -> bytes:
    body = msgspec.msgpack.encode(messages)
    return struct.pack("<I", len(body)) + body


def knock(app: RunningApp, hello: bool = True) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(address_of(app.name))  # waits in the queue
    sock.settimeout(patient(30))
    if hello:
        sock.sendall(frame(m.Hello(m.PROTOCOL, os.getpid())))
    return sock


def heard(sock: socket.socket) -> list[Any]:
    """Return the messages on a connection so far; wait for the welcome at least."""
    data, told = b"", []
    while data or not told or select.select([sock], [], [], 0)[0]:
        data += sock.recv(65536)
        while len(data) >= 4 and len(data) >= (end := 4 + struct.unpack_from("<I", data)[0]):
            told += m.decode_down(data[4:end])
            data = data[end:]
    return told


def has_ended(sock: socket.socket) -> bool:
    """Wait for the end of a connection on which nothing is sent."""
    try:
        return sock.recv(100) == b""
    except ConnectionResetError:
        return True


def resident(pid: int) -> int:
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_memory_is_not_taken_for_what_is_only_announced(app: RunningApp) -> None:
    before, socks = resident(app.process.pid), [knock(app, hello=False) for _ in range(8)]
    for sock in socks:
        sock.sendall(struct.pack("<I", 2**28) + b"x" * 8)
    for sock in socks:
        assert has_ended(sock)  # beyond the limit before the hello
        sock.close()
    socks = [knock(app) for _ in range(8)]
    for sock in socks:
        assert sock.recv(4)  # the welcome: from now on the limit is higher
        sock.sendall(struct.pack("<I", 30 * 1024 * 1024) + b"x" * HELLO_LIMIT * 2)
    assert app.connect().require("back").plain().result(patient(20)) == 1
    assert resident(app.process.pid) - before < 64 * 1024 * 1024
    for sock in socks:
        sock.close()


def test_a_frame_of_the_largest_size_before_the_hello_is_taken_and_a_longer_one_is_not(app: RunningApp) -> None:
    with knock(app, hello=False) as sock:
        sock.sendall(struct.pack("<I", HELLO_LIMIT + 1) + b"x")
        assert has_ended(sock)
    app.wait_for("was disconnected: the other end announced a frame of 65,537 bytes; the limit is 65,536")


def test_a_client_that_asks_and_does_not_read_is_not_read_either(app: RunningApp) -> None:
    client, before = app.connect(), resident(app.process.pid)
    frames, asked = [frame(*(m.Overview(number) for number in range(500)))] * 400, 0
    with knock(app) as sock:
        sock.settimeout(2)
        try:
            while frames:
                rest = memoryview(frames[-1])
                asked += 500
                frames.pop()
                while rest:
                    rest = rest[sock.send(rest) :]
        except TimeoutError:
            pass
        assert frames, "the Kingpin read 200,000 requests though no answer was read"
        assert len(client.overview()) == 3  # others are still answered
        assert resident(app.process.pid) - before < 20 * UNREAD
        sock.settimeout(patient(60))
        sender = threading.Thread(target=sock.sendall, args=(rest,))
        sender.start()
        answered, data = 0, b""
        while answered < asked:  # when it reads, all its requests are answered
            data += sock.recv(65536)
            while len(data) >= 4 and len(data) >= 4 + (size := struct.unpack_from("<I", data)[0]):
                answered += sum(isinstance(each, m.Rows) for each in m.decode_down(data[4 : 4 + size]))
                data = data[4 + size :]
        sender.join()


def test_a_client_that_asks_and_goes_is_forgotten(app: RunningApp) -> None:
    client = app.connect()
    count = client.metrics().clients
    sock = knock(app)
    sock.setblocking(False)
    questions = frame(*(m.Overview(number) for number in range(500)))
    try:
        for _ in range(1000):
            sock.sendall(questions)
    except BlockingIOError:
        pass
    sock.close()
    wait_until(lambda: client.metrics().clients == count, "the client left")


def test_a_client_that_says_no_hello_is_told_nothing_and_shut_out(app: RunningApp) -> None:
    with knock(app, hello=False) as sock:
        app.connect().require("back").plain().result(patient(10))
        data = sock.recv(65536)  # after ten seconds
        (size,) = struct.unpack_from("<I", data)
        (word,) = m.decode_down(data[4 : 4 + size])
        assert word == m.Refused("this process did not say hello within 10 s, as a client of mob does at once.")
        assert sock.recv(100) == b""


def test_many_clients_do_not_hold_up_the_kingpin_and_are_not_told_of_each_other(app: RunningApp) -> None:
    client = app.connect()
    count = client.metrics().clients
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(knock(app)) for _ in range(300)]
        wait_until(lambda: client.metrics().clients == count + 300, "all are connected")
        for sock in socks:
            told = heard(sock)
            (welcome,) = (each for each in told if isinstance(each, m.Welcome))
            clients = [member.uid for member in welcome.members if not member.role]
            assert clients == [welcome.uid]
            assert not [each for each in told if isinstance(each, m.MemberIs) and not each.member.role]
    wait_until(lambda: client.metrics().clients == count, "all left")


def test_a_function_of_a_client_is_called_by_one_that_has_never_heard_of_the_client(app: RunningApp) -> None:
    first, second = app.connect(), app.connect()
    first.require("back").give_on(lambda: "from the first").result(patient(20))
    assert second.require("other").call_kept().result(patient(20)) == "from the first"


def test_a_function_that_was_passed_on_is_freed_when_its_holder_gives_it_up(app: RunningApp) -> None:
    client = app.connect()
    client.require("back").give_on(lambda: 1).result(patient(20))
    client.require("other").forget().result(patient(20))
    wait_until(lambda: client.statistics()["lent"] == 0, "the function is released")


def test_a_function_that_was_passed_on_is_freed_when_its_holder_dies(app: RunningApp) -> None:
    client = app.connect()
    client.require("back").give_on(lambda: 1).result(patient(20))
    (other,) = (row for row in client.overview() if row.role == "other")
    os.kill(other.pid, 9)
    wait_until(lambda: client.statistics()["lent"] == 0, "the function is released")


def test_a_call_of_a_function_whose_client_has_gone_ends(app: RunningApp) -> None:
    first, second = app.connect(), app.connect()
    first.require("back").give_on(lambda: 1).result(patient(20))
    count = second.metrics().clients
    first.close()
    wait_until(lambda: second.metrics().clients == count - 1, "the first left")
    with pytest.raises(mob.CallError) as caught:
        second.require("other").call_kept().result(patient(20))
    assert "gone" in str(caught.value) or "exited" in str(caught.value)


def test_who_asked_for_something_knows_what_has_happened_before_the_answer(app: RunningApp) -> None:
    client = app.connect()
    for count in (3, 1, 4):
        client.scale("back", count)
        assert client._peer.context.roster.roles["back"].workers == count
    rows = [row for row in client.overview() if row.state == "ready" and row.role == "back"]
    for row in rows:
        assert client.pid(row.pid).call.plain().result(patient(20)) == 1
