"""Calls that arrive before their function is defined: the module listens, so it is ready, and defines more."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

import mob
from tests.patience import patient
from tests.running import Apps, RunningApp, apps_in, wait_until

HEAD = """
import socket, threading

order = []

def known(*args):
    order.append("known")
    return "known"

def seen():
    return order

def in_hand():
    from mob.mobster import api
    return api.current("x").statistics()["in_hand"]

listener = socket.socket()
listener.bind(("127.0.0.1", 0))
listener.listen()   # something listens: ready once the main thread waits for something

door = threading.Event()

def open_door():
    door.set()
"""
LATE = """
door.wait()

def late(number, *args):
    order.append(number)
    return f"late {number}"
"""
FOR_EVER = """
threading.Event().wait()
"""


def started(apps: Apps, *parts: str) -> tuple[RunningApp, mob.Proxy]:
    app = apps.start('.role("back", "./back.py")', back="".join((HEAD, *parts)))
    return app, app.wait_ready().require("back")


@pytest.fixture(scope="module")
def blocked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    """An app whose worker blocks forever in its import."""
    with apps_in(tmp_path_factory.mktemp("early")) as apps:
        app, _ = started(apps, FOR_EVER)
        yield app


def test_calls_wait_for_their_function_in_order_and_others_pass_by(apps: Apps) -> None:
    _, back = started(apps, LATE, FOR_EVER)
    calls = [back.late(number) for number in range(3)]
    wait_until(lambda: back.in_hand().result(patient(20)) == 3, "they wait")
    assert back.known().result(patient(20)) == "known"
    back.open_door().result(patient(20))
    calls.append(back.late(3))
    assert [call.result(patient(20)) for call in calls] == [f"late {number}" for number in range(4)]
    assert back.seen().result(patient(20)) == ["known", 0, 1, 2, 3]


def test_a_name_that_is_never_defined_is_told_after_a_second(blocked: RunningApp) -> None:
    back = blocked.wait_ready().require("back")
    begun = time.monotonic()
    calls = [back.knwon() for _ in range(2)]
    with pytest.raises(mob.UnknownExport, match=r"'back' exports no function 'knwon'\. Did you mean 'known'\?"):
        calls[0].result(patient(20))
    assert 0.9 < time.monotonic() - begun < patient(10)
    with pytest.raises(mob.UnknownExport):
        calls[1].result(patient(20))
    assert back.in_hand().result(patient(20)) == 0


def test_what_is_defined_does_not_wait(blocked: RunningApp) -> None:
    back = blocked.wait_ready().require("back")
    begun = time.monotonic()
    missing = back.missing()
    for _ in range(20):
        assert back.known().result(patient(20)) == "known"
    assert not missing.done() or time.monotonic() - begun > 0.9
    assert isinstance(missing.exception(patient(20)), mob.UnknownExport)


def test_when_the_import_ends_all_is_decided(apps: Apps) -> None:
    app, back = started(apps, LATE)
    never, late = back.never(), back.late(1)
    wait_until(lambda: back.in_hand().result(patient(20)) == 2, "they wait")
    back.open_door().result(patient(20))
    assert late.result(patient(20)) == "late 1"
    with pytest.raises(mob.UnknownExport, match="no function 'never'"):
        never.result(patient(20))
    with pytest.raises(mob.UnknownExport):  # raised here without asking, once the exports are known to be complete
        wait_until(lambda: app.clients[0].require("back").never and False, "its absence is known here")


def test_one_that_is_given_up_is_dropped_with_all_that_it_holds(blocked: RunningApp) -> None:
    client = blocked.wait_ready()
    back = client.require("back")
    call = back.missing(lambda: None, bytes(100_000))
    wait_until(lambda: back.in_hand().result(patient(20)) == 1, "it waits")
    assert call.cancel()
    wait_until(lambda: back.in_hand().result(patient(20)) == 0, "it was removed")
    del call
    wait_until(
        lambda: client.statistics()["lent"] == client.statistics()["shared"] == 0,
        f"everything is given back: {client.statistics()}",
    )


def test_one_whose_time_is_over_says_so(blocked: RunningApp) -> None:
    back = blocked.wait_ready().require("back")
    with pytest.raises(mob.CallTimeout, match=r"missing was not started: it had 0\.1 s") as caught:
        back.options(timeout=0.1).missing(lambda: None).result(20)
    assert caught.value.executed == "no"
    client = blocked.wait_ready()
    wait_until(lambda: client.statistics()["lent"] == 0, "its function is given back")
