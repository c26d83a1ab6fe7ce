"""A machine that is cut off: calls to it end in time, both sides go on alone, and they meet again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import pytest

import mob
from mob.core.membership import NODE_TIMEOUT
from tests.patience import patient
from tests.real.cluster.hosts import Host, HostNats, HostNode, Network
from tests.running import wait_until

BACK = """
    import asyncio, mob

    def foo(x=0): return x + 1

    async def slow(seconds):
        await asyncio.sleep(seconds)
        return mob.me().node

    async def count(n):
        for item in range(n):
            yield item
            await asyncio.sleep(0.01)

    async def call_back(f):
        while True:
            await f()
            await asyncio.sleep(0.01)
    """
ROLES = '.role("left", "./back.py").role("right", "./back.py").role("both", "./back.py")'
PLACED = {"a": {"left": 1, "both": 1}, "b": {"right": 1, "both": 1}}
ALL = {"left": 1, "right": 1, "both": 2}
AT_ONCE = patient(5.0)
"""Seconds until a call fails that does not wait for a worker: far fewer than one that waits."""
IN_TIME = NODE_TIMEOUT + AT_ONCE
"""Seconds until a call to a machine that vanished fails."""


def start(network: Network, *servers: HostNats) -> list[HostNode]:
    """The app on the hosts a and b."""
    hosts = [network.hosts[name] for name in "ab"]
    nodes = [network.launch(host, list(servers), ROLES, PLACED[host.name], files={"back": BACK}) for host in hosts]
    network.wait_together(*nodes, roles=ALL)
    return nodes


def failures(calls: Iterable[Any], since: float) -> list[tuple[str, str, float]]:
    """Return how each call failed: the error, its `executed`, seconds."""
    found: list[tuple[str, str, float]] = []
    for call in calls:
        with pytest.raises(mob.CallError) as failed:
            call.result(patient(20))
        found.append((type(failed.value).__name__, failed.value.executed, time.monotonic() - since))
    return found


CUTS: list[tuple[Callable[[Host], None], Callable[[Host], None]]] = [(Host.cut, Host.heal), (Host.unplug, Host.plug)]
"""Packets vanish; the host sees that there is no carrier."""


def test_a_partition_and_its_end(network: Network) -> None:
    hub, _, host_b = network.add("hub", "a", "b")
    a, b = start(network, HostNats(hub).start())
    pids = a.pids("left") + b.pids("right")
    from_a, from_b = a.client.require("right"), b.client.require("left")
    assert (from_a.slow(0).result(patient(5)), from_b.slow(0).result(patient(5))) == ("b", "a")
    for cut, heal in CUTS:
        under_way = [from_a.slow(60), from_b.slow(60)]
        wait_until(
            lambda: from_a.foo(1).result(patient(5)) == from_b.foo(1).result(patient(5)) == 2, "calls go both ways"
        )
        since = time.monotonic()
        cut(host_b)
        for error, executed, seconds in failures(under_way, since):
            assert (error, executed) == ("Lost", "maybe")
            assert seconds < IN_TIME
        wait_until(lambda: b.is_cut and b.nodes == {"b"} and a.nodes == {"a"}, "each is alone")
        for node in (a, b):
            assert node.client.require("both").slow(0).result(patient(5)) == node.node
        since = time.monotonic()
        ((error, executed, seconds),) = failures([from_b.foo(1)], since)
        assert (error, executed) == ("Unavailable", "no")
        assert seconds < AT_ONCE
        ((error, executed, _),) = failures([from_a.options(wait=0.2).foo(1)], since)  # it might come back, so one waits
        assert (error, executed) == ("Unavailable", "no")
        heal(host_b)
        network.wait_together(a, b, roles=ALL)
        assert (from_a.slow(0).result(patient(5)), from_b.slow(0).result(patient(5))) == ("b", "a")
        assert a.pids("left") + b.pids("right") == pids


def test_a_machine_is_cut_off_while_it_works_for_many(network: Network) -> None:
    hub, _, host_b = network.add("hub", "a", "b")
    a, _ = start(network, HostNats(hub).start())
    right = a.client.require("right")
    seen: list[int] = []
    calls = [right.slow(60) for _ in range(50)] + [right.call_back(lambda: seen.append(1))]
    stream = right.count(1_000_000)
    items = iter(stream)
    assert [next(items) for _ in range(10)] == list(range(10))
    wait_until(lambda: len(seen) > 10, "a callback runs")
    since = time.monotonic()
    host_b.cut()
    ends = failures(calls, since)
    with pytest.raises(mob.Lost):
        list(items)
    assert {end[:2] for end in ends} == {("Lost", "maybe")}
    assert max(seconds for *_, seconds in ends) < IN_TIME
    assert time.monotonic() - since < IN_TIME + AT_ONCE


def test_the_side_with_nats_on_it_can_be_the_one_that_is_cut_off(network: Network) -> None:
    host_a, _ = network.add("a", "b")
    a, b = start(network, HostNats(host_a).start())
    under_way = [a.client.require("right").slow(60), b.client.require("left").slow(60)]
    assert (
        a.client.require("right").foo(1).result(patient(5)) == b.client.require("left").foo(1).result(patient(5)) == 2
    )
    since = time.monotonic()
    host_a.cut()
    for error, executed, seconds in failures(under_way, since):
        assert (error, executed) == ("Lost", "maybe")
        assert seconds < IN_TIME
    host_a.heal()
    network.wait_together(a, b, roles=ALL)
    assert b.client.require("left").slow(0).result(patient(5)) == "a"


def test_a_short_cut_costs_a_pause_and_no_call(network: Network) -> None:
    hub, _, host_b = network.add("hub", "a", "b")
    a, b = start(network, HostNats(hub).start())
    calls = [a.client.require("right").slow(2) for _ in range(20)]
    assert a.client.require("right").foo(1).result(patient(5)) == 2
    host_b.cut()
    time.sleep(1)  # the duration is part of the test
    host_b.heal()
    assert [call.result(patient(10)) for call in calls] == ["b"] * 20
    assert "was silent" not in a.output + b.output
