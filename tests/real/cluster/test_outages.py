"""NATS itself fails: a single server, the leader of three, or the one of three that a gateway uses."""

from __future__ import annotations

import time

import pytest

import mob
from tests.patience import patient
from tests.real.cluster.hosts import HostNats, Network
from tests.real.cluster.test_partitions import ALL, AT_ONCE, IN_TIME, failures, start
from tests.running import wait_until


def test_nats_restarts_under_calls_and_costs_none(network: Network) -> None:
    hub, *_ = network.add("hub", "a", "b")
    nats = HostNats(hub).start()
    a, b = start(network, nats)
    right, left = a.client.require("right"), b.client.require("left")
    calls = [right.slow(2) for _ in range(20)] + [left.slow(2) for _ in range(20)]
    assert right.foo(1).result(patient(5)) == left.foo(1).result(patient(5)) == 2
    nats.kill()
    wait_until(lambda: a.is_cut and b.is_cut, "both have noticed")
    with pytest.raises(mob.Unavailable, match="cannot be reached now") as refused:
        right.foo(1).result(AT_ONCE)
    assert refused.value.executed == "no"
    assert a.client.require("both").foo(1).result(patient(5)) == 2
    nats.start()
    assert [call.result(patient(10)) for call in calls] == ["b"] * 20 + ["a"] * 20
    network.wait_together(a, b, roles=ALL)
    assert right.foo(1).result(patient(5)) == left.foo(1).result(patient(5)) == 2


def test_nats_is_out_of_reach_and_does_not_even_refuse(network: Network) -> None:
    hub, *_ = network.add("hub", "a", "b")
    a, b = start(network, HostNats(hub).start())
    right, left = a.client.require("right"), b.client.require("left")
    calls = [right.slow(60), left.slow(60)]
    assert right.foo(1).result(patient(5)) == left.foo(1).result(patient(5)) == 2
    since = time.monotonic()
    hub.cut()
    for error, executed, seconds in failures(calls, since):
        assert (error, executed) == ("Lost", "maybe")
        assert seconds < IN_TIME
    wait_until(lambda: a.is_cut and b.is_cut, "both have noticed")
    for node, proxy in ((a, right), (b, left)):
        since = time.monotonic()
        ((error, executed, seconds),) = failures([proxy.foo(1)], since)
        assert (error, executed) == ("Unavailable", "no")
        assert seconds < AT_ONCE
        assert node.client.require("both").slow(0).result(patient(5)) == node.node
    hub.heal()
    network.wait_together(a, b, roles=ALL)
    assert (right.slow(0).result(patient(5)), left.slow(0).result(patient(5))) == ("b", "a")


def three(network: Network) -> list[HostNats]:
    """A cluster of three servers on separate hosts that has chosen its leader."""
    hosts = network.add("n1", "n2", "n3")
    servers = [HostNats(host, *hosts).start() for host in hosts]
    wait_until(lambda: servers[0].leader, "the servers have a leader")
    return servers


def test_three_servers_lose_their_leader_and_no_call(network: Network) -> None:
    servers = three(network)
    network.add("a", "b")
    a, b = start(network, *servers)
    right, left = a.client.require("right"), b.client.require("left")
    calls = [right.slow(2) for _ in range(20)] + [left.slow(2) for _ in range(20)]
    assert right.foo(1).result(patient(5)) == left.foo(1).result(patient(5)) == 2
    leader = next(each for each in servers if each.host.name == servers[0].leader)
    leader.kill()
    assert [call.result(patient(10)) for call in calls] == ["b"] * 20 + ["a"] * 20
    others = [each for each in servers if each is not leader]
    wait_until(lambda: others[0].leader in [each.host.name for each in others], "the others have a leader")
    assert right.foo(1).result(patient(10)) == left.foo(1).result(patient(10)) == 2
    leader.start()


@pytest.mark.parametrize("way", ["killed", "cut off"])
def test_the_server_that_a_gateway_speaks_to_is_lost_and_no_call(network: Network, way: str) -> None:
    servers = three(network)
    network.add("a", "b")
    a, b = start(network, *servers)
    right, left = a.client.require("right"), b.client.require("left")
    assert right.foo(1).result(patient(5)) == left.foo(1).result(patient(5)) == 2
    used = [each for each in servers if each.clients]
    assert used
    calls = [right.slow(4) for _ in range(20)] + [left.slow(4) for _ in range(20)]
    assert right.foo(1).result(patient(5)) == 2
    if way == "killed":
        used[0].kill()
    else:  # without notice, so pings find out
        used[0].host.cut()
    assert [call.result(patient(15)) for call in calls] == ["b"] * 20 + ["a"] * 20
    assert "was silent" not in a.output + b.output
    network.wait_together(a, b, roles=ALL)
    assert right.foo(1).result(patient(10)) == left.foo(1).result(patient(10)) == 2
