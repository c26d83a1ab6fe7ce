"""Where calls go: to workers here first, to others when these are busy; keys; roles that run elsewhere only."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import pytest

import mob
from tests.patience import patient
from tests.real.cluster.machines import MACHINE, Nats, Nodes, wait_gone
from tests.real.loads import Load
from tests.running import wait_until

BACK = """
import time
import mob

def where(): return mob.me().node
def place(): return mob.me().node, mob.me().index
def works(seconds=0.05):
    "Takes its time."
    time.sleep(seconds)
    return mob.me().node
"""
FRONT = """
import mob

back = mob.require("back")

def all_at_once(n):
    return [call.result() for call in [back.works() for _ in range(n)]]
def one_by_one(n): return [back.where().result() for _ in range(n)]
"""
ROLES = '.role("back", "./back.py", workers=2).role("front", "./front.py")'


def test_calls_stay_on_this_machine_as_long_as_its_workers_keep_up(nats: Nats, nodes: Nodes) -> None:
    a, b = nodes.start(nats, ROLES, back=BACK, front=FRONT)
    for node in (a, b):
        front = node.client.require("front").options(pid=node.pids("front")[0])
        assert set(front.one_by_one(200).result(patient(20))) == {node.node}


def test_calls_spill_over_when_the_workers_here_are_busy(nats: Nats, nodes: Nodes) -> None:
    a, _ = nodes.start(nats, ROLES, back=BACK, front=FRONT)
    front = a.client.require("front").options(pid=a.pids("front")[0])
    front.all_at_once(20).result(patient(20))  # the cost of a call is known afterwards
    found = Counter(front.all_at_once(100).result(patient(20)))
    assert found["a"] >= 30
    assert found["b"] >= 30


def test_a_role_of_another_machine_is_known_here(nats: Nats, nodes: Nodes) -> None:
    a, _ = nodes.start(nats, ROLES, placed={"a": {"front": 1}, "b": {"back": 2}}, back=BACK, front=FRONT)
    back = a.client.require("back")
    assert {"where", "works"} <= set(dir(back))
    assert back.works.__doc__ == "Takes its time."
    with mob.connect(a.name) as later:
        assert {"where", "works"} <= set(dir(later.require("back")))
        assert later.require("back").where().result(patient(10)) == "b"


def test_calls_wait_for_the_first_worker_of_another_machine(nats: Nats, nodes: Nodes) -> None:
    (a,) = nodes.start(nats, ROLES, "a", placed={"a": {"front": 1}}, back=BACK, front=FRONT)
    with pytest.raises(mob.Unavailable):
        a.client.require("back").options(wait=0.1).where().result(patient(10))
    begun = time.monotonic()
    waiting = [a.client.require("back").options(wait=30).where(), a.client.require("front").one_by_one(1)]
    b = nodes.launch("b", {"back": 1})
    assert [call.result(patient(20)) for call in waiting] == ["b", ["b"]]
    assert time.monotonic() - begun < patient(10)
    nodes.wait_together(a, b)


def test_a_machine_that_joins_under_load_takes_its_share(nats: Nats, nodes: Nodes) -> None:
    (a,) = nodes.start(nats, ROLES, "a", back=BACK, front=FRONT)
    front = a.client.require("front").options(pid=a.pids("front")[0])
    with Load(*[lambda: a.client.require("back").works(0.01).result(patient(20))] * 8) as load:
        wait_until(lambda: load.done > 100, "calls go on", patient(20))
        b = nodes.launch("b")
        wait_until(lambda: "b" in load.seen(max(0, load.done - 100)), "the new machine serves", patient(20))
        nodes.wait_together(a, b)
        before = load.done
        wait_until(lambda: load.done > before + 200, "calls go on", patient(20))
        assert b.stop() == 0
        wait_gone(a, "b")
        before = load.done
        wait_until(lambda: load.done > before + 100, "calls go on", patient(20))
        assert load.seen(before + 50) == {"a"}
    assert load.errors == []
    assert front.one_by_one(3).result(patient(10)) == ["a"] * 3


def _places(client: Any, keys: range) -> dict[int, tuple[str, int]]:
    back = client.require("back")
    calls = {key: back.options(key=key, wait=20).place() for key in keys}
    return {key: tuple(call.result(patient(20))) for key, call in calls.items()}


def test_a_key_has_one_place_whoever_asks(nats: Nats, nodes: Nodes) -> None:
    a, b, c = nodes.start(nats, ROLES, "abc", back=BACK, front="")
    keys = range(100)
    places = _places(a.client, keys)
    assert _places(b.client, keys) == places
    assert _places(c.client, keys) == places
    assert {node for node, _ in places.values()} == {"a", "b", "c"}
    assert len(set(places.values())) == 6
    c.stop()
    for node in (a, b):
        wait_gone(node, "c")
    fewer = _places(a.client, keys)
    assert _places(b.client, keys) == fewer
    assert all(fewer[key] == places[key] for key in keys if places[key][0] != "c")  # only c's have moved
    c = nodes.launch("c")
    nodes.wait_together(a, b, c)
    assert _places(a.client, keys) == places  # they are back where they were
    assert _places(c.client, keys) == places


def test_a_client_from_outside_reaches_both_machines(nats: Nats, nodes: Nodes) -> None:
    a, b = nodes.start(nats, ROLES, back=BACK, front="")
    with pytest.raises(mob.AppNotRunning, match=f"several nodes .*{a.name}, {b.name}"):
        mob.connect(nodes.app)
    for node, other in ((a, b), (b, a)):
        with mob.connect(node.name) as client:
            found = client.all("back").call.where().result(patient(10))
            assert Counter(found.values()) == {"a": 2, "b": 2}
            assert {key for key in found if isinstance(key, str)} == {
                f"{other.node}:{pid}" for pid in other.pids("back")
            }


def test_the_younger_of_two_with_one_name_stays_outside(nats: Nats, nodes: Nodes) -> None:
    a, b = nodes.start(nats, ROLES, ("a", MACHINE), back=BACK, front="")
    twin = nodes.launch("")  # named after the machine, as the other one is
    twin.wait_for("this machine stays outside the cluster: another machine of the cluster is called")
    twin.client = twin.connect()
    wait_until(lambda: twin.is_cut, "it knows that it is not in the cluster", patient(10))
    assert f"is called '{MACHINE}'" in twin.is_cut
    wait_until(lambda: len(twin.pids("back")) == 2, "its own workers are there", patient(10))
    assert twin.client.require("back").where().result(patient(10)) == MACHINE  # it serves itself
    assert len(a.seen(b, "back")) == 2
    wait_until(lambda: len(a.ready(a.client, "back")) == 4, "two of each machine in the cluster", patient(10))
    assert a.nodes == {"a", MACHINE}
    b.stop()
    twin.wait_for("the other machine with this one's name has left")
    nodes.wait_together(a, twin)
    assert len(a.seen(twin, "back")) == 2
