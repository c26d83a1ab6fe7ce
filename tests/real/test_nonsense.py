"""Messages that are well formed and make no sense hurt nobody, neither a mobster nor the Kingpin."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest
from msgspec import Raw

import mob
from mob.wire import messages as m
from mob.wire.failures import Failure
from tests.patience import patient
from tests.running import RunningApp, apps_in

EMPTY, NIL, MALFORMED = Raw(b"\x90"), Raw(b"\xc0"), Raw(b"\xc1")
TO_A_MOBSTER = [
    m.Invoke(10**6, 99_999, EMPTY),
    m.Invoke(10**6, "no_such_export", EMPTY),
    m.Invoke(10**6, "__import__", EMPTY),
    m.Invoke(10**6, "add", NIL),
    m.Invoke(10**6, "add", Raw(b"\x81\xa1a\x01")),  # a dict where a list is due
    m.Invoke(10**6, "add", Raw(b"\x92\xd4\x01\x00\x01")),  # a reference to a function that is none
    m.Reply(10**6, 0, NIL),
    m.Failed(10**6, 0, Failure("x", "NoSuchBuiltin", "never asked for")),
    m.Message(Raw(b"\xc7\x03\x07abc")),  # an extension that mob does not have
    m.Cancel(10**6),
    m.Release({10**6: 5, 1: -5}),
    m.Lend(10**6, 10**6),
    m.Farewell(),
]
TO_ANYBODY_MALFORMED = [m.Invoke(10**6, "add", MALFORMED), m.Message(MALFORMED), m.Reply(10**6, 0, MALFORMED)]
TO_THE_KINGPIN = [
    m.Hello(m.PROTOCOL, 1),
    m.Ready(1, (), True),
    m.BootFailed("of what?"),
    m.Draining(),
    m.WantRole("no such role"),
    m.WantMember(10**6),
    m.Bind(10**6, m.SocketAddress(99, "127.0.0.1", (0,)), False, 0),
    m.Bind(10**6, m.SocketAddress(socket.AF_INET, "127.0.0.1", ()), False, 0),
    m.Bind(10**6, m.SocketAddress(socket.AF_INET, "127.0.0.1", (-1,)), False, 0),
    m.Bind(10**6, m.SocketAddress(socket.AF_INET, "no address", (1,)), False, 0),
    m.Bind(10**6, m.SocketAddress(socket.AF_UNIX, "", ()), False, 0),
    m.Bind(10**6, m.SocketAddress(socket.AF_UNIX, "/proc/no\0thing", ()), False, 0),
    m.Unbind(10**6, m.SocketAddress(socket.AF_INET, "127.0.0.1", (1,)), 0),
]


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    with apps_in(tmp_path_factory.mktemp("nonsense")) as apps:
        app = apps.start('.role("back", "./back.py")', back="def add(a, b=2):\n    return a + b\n")
        app.wait_ready()
        yield app


@pytest.fixture
def client(app: RunningApp) -> Iterator[mob.Client]:
    with mob.connect(app.name) as client:
        assert client.require("back").add(1).result(patient(10)) == 3
        yield client


def link_of(client: mob.Client) -> Any:
    (link,) = client._peer.contacts.links()
    return link


@pytest.mark.parametrize("message", TO_A_MOBSTER, ids=lambda message: type(message).__name__)
def test_a_mobster_goes_on(client: mob.Client, message: Any) -> None:
    link = link_of(client)
    link.post(message)
    assert client.require("back").add(1).result(patient(10)) == 3
    assert link_of(client) is link


@pytest.mark.parametrize("message", TO_ANYBODY_MALFORMED, ids=lambda message: type(message).__name__)
def test_a_body_that_is_malformed_closes_the_link(app: RunningApp, client: mob.Client, message: Any) -> None:
    pid = app.ready(client)[0].pid
    link_of(client).post(message)
    app.wait_for(rf"back\.0 {pid} \| the link to client \(pid \d+\) was closed: a frame of .* does not decode")
    with mob.connect(app.name) as other:
        assert other.require("back").add(1).result(patient(10)) == 3
        assert app.ready(other)[0].pid == pid


@pytest.mark.parametrize("message", TO_THE_KINGPIN, ids=lambda message: type(message).__name__)
def test_the_kingpin_goes_on(app: RunningApp, client: mob.Client, message: Any) -> None:
    before = len(app.lines)
    client._peer.control.post(message)
    assert [row.state for row in client.overview()] == ["ready"]
    assert client.require("back").add(1).result(patient(10)) == 3
    assert app.lines[before:] == []
