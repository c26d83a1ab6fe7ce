"""Machines whose clocks have nothing in common: one booted ten days before the other, and has another date."""

from __future__ import annotations

import re

import pytest

import mob
from tests.patience import patient
from tests.real.cluster.hosts import HostNats, HostNode, Network
from tests.running import wait_until

DAY = 86_400.0
BACK = """
    import asyncio, time, mob

    done = []

    async def takes(seconds):
        await asyncio.sleep(seconds)
        done.append(seconds)
        return seconds

    def left(): return mob.me().time_left
    def clock(): return time.monotonic()
    def date(): return time.time()
    """
FRONT = """
    import time, mob

    right = mob.require("right")

    async def ask(seconds, timeout):
        "How a call from here with a deadline ends, and after how long."
        since = time.monotonic()
        try:
            answer = await right.options(timeout=timeout).takes(seconds)
        except mob.CallError as error:
            answer = type(error).__name__
        return answer, time.monotonic() - since

    async def clocks():
        return time.monotonic(), await right.clock(), time.time(), await right.date()
    """
ROLES = '.role("left", "./front.py").role("right", "./back.py")'
FILES = {"back": BACK, "front": FRONT}


def start(network: Network, clock: float, wall: float) -> tuple[HostNode, HostNode]:
    """Two machines: a, which has the clock of the test, and b."""
    hub, host_a, host_b = network.add("hub", "a", "b")
    nats = HostNats(hub).start()
    a = network.launch(host_a, [nats], ROLES, {"left": 1}, files=FILES)
    b = network.launch(host_b, [nats], ROLES, {"right": 1}, files=FILES, clock=clock, wall=wall)
    network.wait_together(a, roles={"left": 1, "right": 1})
    return a, b


@pytest.mark.parametrize("days", [10, 1000])
def test_deadlines_hold_between_clocks_that_disagree_by_days(network: Network, days: int) -> None:
    a, _ = start(network, days * DAY, -days * DAY)
    left = a.client.require("left")
    here, there, date_here, date_there = left.clocks().result(patient(5))
    assert there - here == pytest.approx(days * DAY, abs=5)
    assert date_there - date_here == pytest.approx(-days * DAY, abs=5)
    answer, _ = left.ask(0.1, 5.0).result(patient(10))
    assert answer == 0.1
    answer, seconds = left.ask(60.0, 0.5).result(patient(10))
    assert answer == "CallTimeout"
    assert 0.4 < seconds < patient(8)
    right = a.client.require("right")
    assert right.takes(0.1).result(patient(5)) == 0.1
    with pytest.raises(mob.CallTimeout):
        right.options(timeout=0.3).takes(5).result(5)
    assert a.client.all("right").call.takes(0.1).result(patient(5))


def calls_of(client: mob.Client) -> int:
    return sum(each.calls for each in client.metrics().exports if each.export == "takes")


def test_stamps_and_figures_are_those_of_the_machine_that_shows_them(network: Network) -> None:
    a, _ = start(network, 10 * DAY, 10 * DAY)
    right = a.client.require("right")
    for _ in range(20):
        right.takes(0.01).result(patient(5))
    with a.client.at("b") as client:
        wait_until(lambda: calls_of(client) == 20, "the beats with the calls have come")
        told = client.metrics()
        history = client.history()
    assert 0 < told.uptime < 60
    assert all(0 <= mobster.uptime < 60 for mobster in told.mobsters)
    (takes,) = (each for each in told.exports if each.export == "takes")
    assert 0.2 <= takes.ran_seconds < patient(5)
    assert 0 <= takes.waited_seconds < patient(5)
    assert history.now > 10 * DAY, "times of the history, and now, are in the clock of that machine"
    assert all(0 <= history.now - event.at < 60 for event in history.events)
    assert not re.search(r"Traceback|late", a.output)
