"""A machine with another version of the protocol: both log it, and the other machines are not affected."""

from __future__ import annotations

from mob.wire import messages
from tests.patience import patient
from tests.real.cluster.hosts import HostNats, Network
from tests.real.cluster.test_partitions import ALL, BACK, PLACED, ROLES, start


def test_another_version_is_told_so_and_refused_and_disturbs_nobody(network: Network) -> None:
    hub, _, _, stranger = network.add("hub", "a", "b", "stranger")
    nats = HostNats(hub).start()
    a, b = start(network, nats)
    right = a.client.require("right")
    under_way = right.slow(3)
    other = messages.PROTOCOL + 7
    c = network.launch(stranger, [nats], ROLES, PLACED["a"], files={"back": BACK}, protocol=other)
    own, its = f"version {messages.PROTOCOL}", f"version {other}"
    for node in (a, b):
        node.wait_for(f"not admitted: the machine 'stranger' uses {its} of mob's protocol, this one {own}. Update")
    c.wait_for(f"not admitted: the machine '[ab]' uses {own} of mob's protocol, this one {its}. Update", 2)
    assert under_way.result(patient(5)) == "b"
    assert a.nodes == b.nodes == {"a", "b"}
    network.wait_together(a, b, roles=ALL)
    assert right.foo(1).result(patient(5)) == b.client.require("left").foo(1).result(patient(5)) == 2
    said = [line for line in a.lines if "stranger" in line]
    assert len(said) <= 2, said  # once about its own version, and once about the other: no flood
    assert c.process.poll() is None  # it goes on, alone
