"""A new Kingpin replaces one of a cluster: its machine stays, and the work of its members goes on."""

from __future__ import annotations

from collections import Counter

import mob
from tests.patience import patient
from tests.real.cluster.machines import Nats, Nodes
from tests.real.loads import Load
from tests.running import wait_until

BACK = """
import asyncio
import mob

def where(): return mob.me().node
async def hold(seconds): await asyncio.sleep(seconds)
"""
ROLES = '.role("here", "./back.py").role("there", "./back.py", workers=2)'


def test_calls_go_on_in_both_directions_during_an_upgrade(nats: Nats, nodes: Nodes) -> None:
    a, b = nodes.start(nats, ROLES, placed={"a": {"here": 1}, "b": {"there": 2}}, back=BACK)
    here, there = b.client.require("here"), a.client.require("there")
    workers = b.pids("there")
    held = [there.hold(2), here.hold(2)]
    with Load(lambda: there.where().result(patient(10)), lambda: here.where().result(patient(10))) as load:
        for node in (b, a, b):
            before = load.done
            assert "took over" in node.client.upgrade(30)
            wait_until(lambda before=before: load.done > before + 100, "calls go on", patient(20))
        with mob.connect(a.name) as client:  # a new client, and new links
            assert client.require("there").where().result(patient(10)) == "b"
            assert Counter(client.all("there").call.where().result(patient(10)).values()) == {"b": 2}
        with mob.connect(b.name) as client:
            assert client.require("here").where().result(patient(10)) == "a"
    assert load.errors == []
    assert [call.result(patient(10)) for call in held] == [None, None]
    assert b.pids("there") == workers
    for node in (a, b):
        assert len([line for line in node.lines if "joined the cluster" in line]) == 1, node.output
        assert not [line for line in node.lines if "was silent" in line], node.output


def test_membership_goes_on_after_an_upgrade(nats: Nats, nodes: Nodes) -> None:
    a, b = nodes.start(nats, ROLES, placed={"a": {"here": 1}, "b": {"there": 2}}, back=BACK)
    a.client.upgrade(30)
    b.client.upgrade(30)
    b.client.scale("there", 3)
    wait_until(lambda: len(a.seen(b, "there")) == 3, "a sees the third worker", patient(10))
    c = nodes.launch("c", {"there": 1})
    nodes.wait_together(a, b, c)
    assert Counter(a.client.all("there").call.where().result(patient(10)).values()) == {"b": 3, "c": 1}
    assert b.stop() == 0
    wait_until(lambda: a.nodes == {"a", "c"} == c.nodes, "b has left", 2)
    assert a.client.require("there").where().result(patient(10)) == "c"
