"""Every request to the Kingpin is answered to its sender: absurd numbers, wrong types, names that are not text."""

from __future__ import annotations

import math
import os
import socket
import struct
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

import mob
from mob.rim.addresses import address_of
from mob.wire import messages as m
from tests.patience import patient
from tests.running import RunningApp, apps_in, free_port

BACK = (
    "import os, time, mob\ndef f(): return os.getpid()\ndef slow(): time.sleep(1)\ndef grow(n): return mob.scale(n)\n"
)
HUGE, TOP, BOTTOM = 10**20, 2**64 - 1, -(2**63)
PORT = free_port()
ROSTER = (40, 41, 42, 43, 44)
"""Numbers of the messages that every client gets: the changes of the roster."""


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    with apps_in(tmp_path_factory.mktemp("absurd")) as apps:
        roles = '.role("a", "./a.py", max_workers=3)'
        app = apps.start(f"{roles}.dashboard(port={PORT}, token='sesame123')", a=BACK)
        app.wait_ready()
        yield app


@pytest.fixture
def client(app: RunningApp) -> Iterator[mob.Client]:
    with mob.connect(app.name) as client:
        yield client
        assert len(client.overview()) >= 2
        assert isinstance(client.require("a").f().result(patient(30)), int)
    assert "Traceback" not in app.output


REFUSED: dict[str, tuple[Callable[[Any], Any], str]] = {
    "scale": (lambda c: c.scale("a", HUGE), f"scale: count={HUGE} does not fit in 64 bits"),
    "scale below": (lambda c: c.scale("a", -HUGE, relative=True), f"scale: count=-{HUGE} does not fit in 64 bits"),
    "scale by a float": (lambda c: c.scale("a", 1.5), "scale: count=1.5 is not a whole number"),
    "scale by nan": (lambda c: c.scale("a", math.nan), "scale: count=nan is not a whole number"),
    "scale by text": (lambda c: c.scale("a", "2"), "scale: count='2' is not a whole number"),
    "scale by nothing": (lambda c: c.scale("a", None), "scale: count=None is not a whole number"),
    "scale by top": (lambda c: c.scale("a", TOP), "'a' cannot have 18,446,744,073,709,551,615 workers"),
    "scale by top more": (lambda c: c.scale("a", TOP, relative=True), "'a' cannot have"),
    "scale by bottom": (lambda c: c.scale("a", BOTTOM), "'a' cannot have"),
    "logs": (lambda c: list(c.logs("a", last=HUGE)), f"logs: last={HUGE} does not fit in 64 bits"),
    "logs of a pid": (lambda c: list(c.logs(HUGE)), f"logs: pid={HUGE} does not fit in 64 bits"),
    "logs by a float": (lambda c: list(c.logs("a", last=1.5)), "logs: last=1.5 is not a whole number"),
    "logs of a surrogate": (lambda c: list(c.logs("a\ud800")), "this app has no role"),
    "crashes": (lambda c: c.crashes(HUGE), f"crashes: number={HUGE} does not fit in 64 bits"),
    "crashes by a float": (lambda c: c.crashes(0.5), "crashes: number=0.5 is not a whole number"),
    "stacks": (lambda c: c.stacks(HUGE), "no worker has pid"),
    "restart": (lambda c: c.restart(HUGE), f"restart: pid={HUGE} does not fit in 64 bits"),
    "restart of no pid": (lambda c: c.restart(0), "restart needs either roles or the pid of one worker"),
    "restart of a strange pid": (lambda c: c.restart(TOP), "no worker has pid"),
    "reload": (lambda c: c.reload("\ud800"), "this app has no role"),
    "history": (lambda c: c.history("long ago"), "history: since='long ago' is not a number"),
    "pid": (lambda c: c.pid(HUGE).send(1), "no ready worker has the pid"),
    "timeout": (lambda c: c.require("a").options(timeout=math.nan), "timeout=nan is not a number of seconds"),
    "wait": (lambda c: c.require("a").options(wait=math.nan), "wait=nan is not a number of seconds"),
    "timeout as text": (lambda c: c.require("a").options(timeout="1"), "timeout='1' is not a number of seconds"),
    "retries": (lambda c: c.require("a").options(retries=1.5), "retries=1.5 is not a whole number"),
    "result": (lambda c: c.require("a").slow().result(math.nan), "timeout=nan is not a number of seconds"),
    "of a mobster": (
        lambda c: c.require("a").grow(HUGE).result(patient(30)),
        f"scale: count={HUGE} does not fit in 64 bits",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_who_asks_for_something_absurd_is_refused(client: mob.Client, what: str) -> None:
    ask, told = REFUSED[what]
    with pytest.raises((mob.MobError, TypeError, ValueError)) as refused:
        ask(client)
    assert told in str(refused.value)


@pytest.mark.parametrize("number", [TOP, BOTTOM, -1, 0, 2**31, 2**63])
def test_numbers_that_can_be_said_are_answered(client: mob.Client, number: int) -> None:
    steering = client._steering
    for call in (
        steering.crashes(number),
        steering.stacks(number),
        steering.restart((), number),
        steering.restart(("a",), number or 1),
        steering.scale("a", number or -5),
        steering.scale("\x00", number),
        steering.history(float(number)),
        steering.history(math.nan),
        steering.history(math.inf),
    ):
        assert call.result(patient(30)) is not None
    assert list(client.logs(number, last=abs(number) % 2**64)) is not None


class Stranger:
    """A client that writes its own messages."""

    def __init__(self, name: str) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(patient(30))
        self.sock.connect(address_of(name))
        self.decoder = msgspec.msgpack.Decoder()
        self.heard: list[Any] = []
        self.say([20, m.PROTOCOL, os.getpid()])

    def say(self, *messages: Any) -> None:
        payload = msgspec.msgpack.encode(messages)
        self.sock.sendall(struct.pack("<I", len(payload)) + payload)

    def hear(self) -> list[Any]:
        """Return the messages of the next frame; empty at the end."""
        head = self._read(4)
        return self.decoder.decode(self._read(struct.unpack("<I", head)[0])) if head else []

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size and (more := self.sock.recv(size - len(data))):
            data += more
        return data

    def answer(self, number: int) -> Any:
        """Return the answer to the request with that number."""
        while True:
            for message in self.heard:
                if message[0] not in ROSTER and message[1] == number:
                    return message
            frame = self.hear()
            assert frame, f"the link ended without an answer to {number}: {self.heard}"
            self.heard += frame


ASKED = {
    "restart without anything": [35, 7],
    "restart of both": [35, 7, ["a"], 5],
    "scale of no role": [31, 7, "", 1],
    "scale by top": [31, 7, "a", TOP, True],
    "crashes of bottom": [120, 7, BOTTOM],
    "stacks": [37, 7, TOP],
    "logs": [54, 7, "", TOP, TOP, True, BOTTOM],
    "a terminal": [110, 7, "here"],
    "a port": [25, 7, [2, "127.0.0.1", [TOP]], False, TOP],
    "a port of no family": [25, 7, [BOTTOM, "\x00", []], False, 0],
    "reload of no role": [32, 7, [""]],
    "history": [39, 7, math.nan],
    "overview": [27, 7],
    "a crash": [33, 7],
}


@pytest.mark.parametrize("what", ASKED)
def test_each_request_of_a_stranger_is_answered(app: RunningApp, client: mob.Client, what: str) -> None:
    stranger = Stranger(app.name)
    with stranger.sock:
        stranger.say(ASKED[what], [27, 8])
        if what != "logs":
            assert stranger.answer(7)
        assert stranger.answer(8)[0] == 48


@pytest.mark.parametrize("message", [[31, 7, "a", 1.5], [31, 7, "a", "x"], [31, 7.5, "a", 1], [250, 1], [35, 7, [3]]])
def test_who_sends_what_does_not_decode_is_told_why(app: RunningApp, client: mob.Client, message: list[Any]) -> None:
    stranger = Stranger(app.name)
    with stranger.sock:
        stranger.say(message)
        heard: list[Any] = []
        while frame := stranger.hear():
            heard += frame
        assert heard[-1][0] == 49
        assert "could not decode a message of this client" in heard[-1][1]


def test_counts_of_waiting_calls_do_not_grow_beyond_64_bits(app: RunningApp, client: mob.Client) -> None:
    strangers = [Stranger(app.name) for _ in range(4)]
    try:
        for each in strangers:
            each.say([122, {"a": TOP, "b": TOP}, {"a": TOP, "b": -5}], [27, 8])
            assert each.answer(8)[0] == 48
        assert client.metrics().callers
    finally:
        for each in strangers:
            each.sock.close()
    client.scale("a", 1)


def test_the_dashboard_goes_on(app: RunningApp, client: mob.Client) -> None:
    def asked(path: str, body: bytes | None = None) -> int:
        request = urllib.request.Request(f"http://127.0.0.1:{PORT}{path}", body, {"X-Mob-Token": "sesame123"})
        try:
            with urllib.request.urlopen(request, timeout=patient(30)) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code

    for path, body in (
        ("/api/scale", b'{"role":"a","change":100000000000000000000}'),
        ("/api/scale", b'{"role":"a","change":1.5}'),
        ("/api/scale", b'{"role":"a","change":18446744073709551615}'),
        ("/api/restart", b'{"pid":100000000000000000000}'),
        ("/api/restart", b"{}"),
        ("/api/stacks", b'{"uid":100000000000000000000}'),
        ("/api/reload", b'{"roles":["\\ud800"]}'),
    ):
        assert 400 <= asked(path, body) < 500, (path, body)
        assert asked("/metrics") == 200
    assert asked("/api/scale", b'{"role":"a","change":0}') == 200
