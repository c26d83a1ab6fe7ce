"""Lines between hosts that take time and lose packets: calls stay correct and in order nevertheless."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest

from tests.patience import patient
from tests.real.cluster.hosts import HostNats, HostNode, Network
from tests.real.cluster.test_partitions import ALL, ROLES
from tests.running import wait_until

PLACED = {"a": {"left": 1, "both": 1}, "b": {"right": 1, "both": 1}}
BACK = """
    import mob

    heard = []

    def foo(x=0): return x + 1
    def add(x): heard.append(x); return x
    def listed(): return heard
    def echo(data): return data
    def count(n): yield from range(n)
    """


def start(network: Network) -> list[HostNode]:
    """NATS, a and b, where b has a bad line."""
    hub, *hosts = network.add("hub", "a", "b")
    nats = HostNats(hub).start()
    nodes = [network.launch(host, [nats], ROLES, PLACED[host.name], files={"back": BACK}) for host in hosts]
    network.wait_together(*nodes, roles=ALL)
    return nodes


@pytest.mark.skipif(not os.path.exists("/dev/net/tun"), reason="there is no /dev/net/tun, which a slow line is made of")
def test_delay_and_loss_disturb_neither_answers_nor_order(network: Network) -> None:
    a, b = start(network)
    network.hosts["b"].slow_down(0.05, 0.01, 0.02)
    network.wait_together(a, b, roles=ALL)
    right = a.client.require("right")
    calls = [right.add(x) for x in range(500)]
    assert [call.result(patient(30)) for call in calls] == list(range(500))
    assert right.listed().result(patient(10)) == list(range(500))
    assert [right.foo(x).result(patient(10)) for x in range(20)] == list(range(1, 21))
    assert list(right.count(500)) == list(range(500))
    data = os.urandom(1_000_000)  # such a line carries about a tenth of it in a second
    assert bytes(right.echo(data).result(patient(80))) == data
    assert "was silent" not in a.output + b.output


def test_a_thin_line_that_is_full_is_not_taken_for_a_dead_one(network: Network) -> None:
    a, b = start(network)
    try:
        for host in ("a", "b"):
            network.hosts[host].thin_out("20mbit")
    except subprocess.CalledProcessError:
        pytest.skip("the kernel has no tbf, which a thin line is made of")
    data = os.urandom(12_000_000)  # takes five seconds there and as many back
    right = a.client.require("right")
    answer = right.echo(data)
    assert [right.add(x).result(patient(30)) for x in range(3)] == [0, 1, 2]
    assert bytes(answer.result(patient(50))) == data
    assert "was silent" not in a.output + b.output


CRON = """
    import mob

    data = None

    @mob.on("start")
    def start():
        global data
        data = mob.inherited()

    @mob.on("hand_over")
    def hand_over(): return data

    def put(given):
        global data
        data = bytes(given)

    def get(): return data
    """


def test_what_a_singleton_leaves_fills_a_thin_line_and_costs_no_lease(network: Network) -> None:
    hub, *hosts = network.add("hub", "a", "b")
    nats = HostNats(hub).start()
    roles = '.role("cron", "./cron.py", singleton=True)'
    a, b = (network.launch(host, [nats], roles, files={"cron": CRON}) for host in hosts)
    network.wait_together(a, b, roles={"cron": 1})
    there, other = (a, b) if a.pids("cron") else (b, a)
    data = os.urandom(6_000_000)
    there.client.require("cron").put(data).result(patient(60))
    try:
        for host in ("a", "b"):
            network.hosts[host].thin_out("10mbit")
    except subprocess.CalledProcessError:
        pytest.skip("the kernel has no tbf, which a thin line is made of")
    there.signal(signal.SIGTERM)
    there.wait_for(r"'cron' left 6,000,\d+ bytes", patience=patient(60))
    wait_until(lambda: other.pids("cron"), f"it runs there\n{other.output}", patient(60))
    assert bytes(other.client.require("cron").get().result(patient(60))) == data
    assert "lease could not be renewed" not in there.output + other.output
