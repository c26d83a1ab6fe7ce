"""What comes with a call that nobody looks into is given back: functions, large buffers, sockets, others' functions."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import pytest

import mob
from tests.patience import patient
from tests.running import RunningApp, apps_in, wait_until

COMMON = """
import gc
import os

import mob
from mob.mobster import api

def statistics():
    gc.collect()
    peer = api.current("statistics")
    peer.tidy()
    return peer.statistics()

def who():
    return os.getpid()
"""

BACK = """
import select

import mob
from common import statistics, who

__all__ = ["statistics", "who", "block", "give", "take", "take_number", "stream"]

def block(gate, is_reading):
    gate.send(b"x")
    while is_reading and not select.select([gate], [], [], 0.005)[0]:
        mob.cancelled()                # looks at what has come meanwhile
    gate.recv(1)

def give(gate, *args):
    gate.recv(1)
    return args

def take(*args, **named):
    pass

def stream(*args):
    yield from args
    while True:
        yield None

def take_number(number: int, thing):
    pass
"""

THIRD = """
import os
import signal
import threading

import mob
from common import statistics, who

__all__ = ["statistics", "who", "lend", "pass_on_to_back", "die_after_passing_on"]
back = mob.require("back")

def lend():
    return lambda: None

async def pass_on_to_back(thing):
    back.take(thing)

def die_after_passing_on(thing):
    sender = threading.Thread(target=lambda: back.take(thing, thing=thing))
    sender.start()
    sender.join()                      # another thread than the loop's sends at once
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    with apps_in(tmp_path_factory.mktemp("unread")) as apps:
        app = apps.start(
            '.role("back", "./back.py", queue=3).role("third", "./third.py")', common=COMMON, back=BACK, third=THIRD
        )
        app.wait_ready()
        yield app


@pytest.fixture(scope="module")
def client(app: RunningApp) -> mob.Client:
    mob.register(Fraction, str, Fraction)  # which the mobsters do not know
    return app.clients[0]


@pytest.fixture
def back(client: mob.Client) -> Any:
    return client.require("back")


class Things:
    """Makes one of each, and knows the other ends of sockets."""

    def __init__(self, client: mob.Client) -> None:
        self.client = client
        self.pairs: list[tuple[socket.socket, socket.socket]] = []

    def function(self) -> Any:
        return lambda: None

    def buffer(self) -> bytes:
        return bytes(100_000)

    def iterator(self) -> Iterator[int]:
        return iter([1])

    def socket(self) -> socket.socket:
        self.pairs.append(socket.socketpair())
        return self.pairs[-1][0]

    def function_of_a_third(self) -> Any:
        return self.client.require("third").lend().result(patient(30))

    def several(self) -> Any:
        return {"all": [self.function(), self.buffer(), self.socket(), {"deep": self.function_of_a_third()}]}


pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # items of streams that nobody takes
KINDS = ["function", "buffer", "iterator", "socket", "function_of_a_third", "several"]


@pytest.fixture(params=KINDS)
def thing(request: pytest.FixtureRequest, client: mob.Client) -> Iterator[Callable[[], Any]]:
    """Makes a thing to be sent; afterwards nobody has anything of it, and the other ends of sockets know it."""
    things = Things(client)
    make = getattr(things, request.param)
    sent: list[Any] = []

    def thing() -> Any:
        sent.append(make())
        return sent[-1]

    yield thing
    sent.clear()
    for own, _ in things.pairs:
        own.close()
    check_all_is_free(client)
    for _, other in things.pairs:
        other.settimeout(patient(30))
        assert other.recv(1) == b""
        other.close()


def check_all_is_free(client: mob.Client) -> None:
    def busy() -> dict[str, dict[str, int]]:
        gc.collect()
        found = {"": client.statistics()}
        for role in ("back", "third"):
            found[role] = client.require(role).statistics().result(patient(30))
        names = ("lent", "held", "shared", "views", "descriptors")
        return {role: counts for role in found if any((counts := {name: found[role][name] for name in names}).values())}

    with contextlib.suppress(AssertionError):  # what is left says more
        wait_until(lambda: not busy(), "all is free", patient(5))
    assert busy() == {}


@contextlib.contextmanager
def blocked(back: Any, is_reading: bool = True) -> Iterator[None]:
    """The only thread of back is busy meanwhile; does it read what comes?"""
    gate, other = socket.socketpair()
    call = back.block(other, is_reading)
    other.close()
    assert gate.recv(1) == b"x"
    try:
        yield
    finally:
        gate.send(b"x")
        gate.close()
        call.result(patient(30))


def directly(back: Any) -> Any:
    """The only worker by its pid: calls go there at once, and wait there."""
    return back.options(pid=back.who().result(patient(30)))


def test_a_full_queue(back: Any, thing: Callable[[], Any]) -> None:
    there = directly(back)
    with blocked(back):
        waiting = [there.take(thing()) for _ in range(3)]
        refused = [there.take(thing(), named=thing()) for _ in range(3)]
        assert {type(call.exception(patient(30))) for call in refused} == {mob.Busy}
    for call in waiting:
        call.result(patient(30))


@pytest.mark.parametrize("is_reading", [True, False])
def test_cancelled_in_the_queue(back: Any, thing: Callable[[], Any], is_reading: bool) -> None:
    there = directly(back)
    with blocked(back, is_reading):
        calls = [to.take(thing(), named=thing()) for to in (there, there, back, back)]  # in the worker, and here
        for call in calls:
            call.cancel()


@pytest.mark.parametrize("is_there", [True, False])
def test_expired_in_the_queue(back: Any, thing: Callable[[], Any], is_there: bool) -> None:
    proxy = directly(back) if is_there else back
    with blocked(back):
        call = proxy.options(timeout=0.01).take(thing(), named=thing())
        assert isinstance(call.exception(patient(30)), mob.CallTimeout)


@pytest.mark.parametrize("name", ["take_number", "take_nothing"])
def test_refused_for_what_it_says(client: mob.Client, back: Any, thing: Callable[[], Any], name: str) -> None:
    call = client.pid(back.who().result(patient(30))).start_call(name, thing(), thing())
    assert isinstance(call.exception(patient(30)), mob.ArgumentError | mob.UnknownExport)


def test_undecodable_in_the_middle(back: Any, thing: Callable[[], Any]) -> None:
    def refused(name: str, *args: Any, **named: Any) -> None:
        with pytest.raises(mob.ArgumentError, match="Fraction"):
            getattr(back, name)(*args, **named).result(patient(30))

    refused("take", thing(), Fraction(1), thing())
    refused("take", Fraction(1), thing(), named=thing())
    refused("take", thing(), named=[thing(), Fraction(1), thing()])
    refused("take_number", 1, [thing(), Fraction(1), thing()])


def test_in_an_answer_that_nobody_waits_for_any_more(back: Any, thing: Callable[[], Any]) -> None:
    gate, other = socket.socketpair()
    call = back.give(other, thing(), [thing()])
    call.cancel()
    gate.send(b"x")
    back.who().result(patient(30))
    gate.close()
    other.close()


def test_in_a_stream_that_nobody_reads(client: mob.Client, back: Any, thing: Callable[[], Any]) -> None:
    call = back.stream(thing(), thing())
    number = call.request.id
    pending = call.contact.pending
    wait_until(lambda: type(pending.get(number)).__name__ == "Receiver", "its first item has come")
    del call
    wait_until(lambda: number not in pending, "it is given up")


def test_in_a_stream_that_is_left(back: Any, thing: Callable[[], Any]) -> None:
    for _ in back.stream(thing(), thing()):
        break


def test_passed_on(client: mob.Client, thing: Callable[[], Any]) -> None:
    client.require("third").pass_on_to_back(thing()).result(patient(30))


def test_passed_on_by_one_who_dies(client: mob.Client, back: Any, thing: Callable[[], Any]) -> None:
    pid = client.require("third").who().result(patient(30))
    with blocked(back):
        call = client.require("third").die_after_passing_on(thing())
        assert isinstance(call.exception(patient(30)), mob.Lost)
        wait_until(lambda: all(member.pid != pid for member in client.members()), "its end is known")
    client.require("third").who().result(patient(30))


def test_killed_with_all_unread(client: mob.Client, back: Any, thing: Callable[[], Any]) -> None:
    pid, there = back.who().result(patient(30)), directly(back)
    gate, other = socket.socketpair()
    calls = [there.block(other, True), *(there.take(thing(), named=thing()) for _ in range(3))]
    os.kill(pid, signal.SIGKILL)
    assert {type(call.exception(patient(30))) for call in calls} == {mob.Lost}
    gate.close()
    other.close()
    back.who().result(patient(30))
