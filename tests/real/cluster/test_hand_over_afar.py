"""A singleton of a cluster leaves its data to its successor on the same machine, and says that no other has it."""

from __future__ import annotations

from typing import Any

from tests.patience import patient
from tests.real.cluster.machines import Nats, Nodes
from tests.real.cluster.test_singleton import FRONT, holder_of, seen, wait_until

CRON = """
import mob

count = 0

@mob.on("start")
def start():
    global count
    count = mob.inherited() or 0

@mob.on("hand_over")
def hand_over():
    return count

def add():
    global count
    count += 1
    return count

def who():
    return mob.me().node
"""
ROLES = '.role("cron", "./cron.py", singleton=True).role("front", "./front.py")'


def test_a_singleton_hands_over_on_its_machine_only(nodes: Nodes, nats: Nats) -> None:
    started = nodes.start(nats, ROLES, ("a", "b"), cron=CRON, front=FRONT)
    for node in started:
        wait_until(lambda node=node: seen(node), f"{node.node} knows the singleton\n{node.output}", patient(60))
    there, (other,) = holder_of(started)

    def add(node: Any) -> int:
        return int(node.client.require("cron").options(wait=patient(60)).add().result(patient(60)))

    assert [add(each) for each in (there, other, there)] == [1, 2, 3]
    there.client.reload("cron", timeout=patient(60))
    assert add(other) == 4
    there.client.restart("cron")
    wait_until(lambda: add(other) >= 5, "it serves again")
    there.client.stop()
    there.wait_for(r"cron\.0 \(pid \d+\) hands over to successors on this machine only; another machine starts without")
    wait_until(lambda: other.pids("cron"), f"it runs on the other machine\n{other.output}", patient(60))
    assert add(other) == 1
