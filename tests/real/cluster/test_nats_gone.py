"""The NATS server hangs, dies and comes back: local calls go on, calls to other machines fail at once or wait."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

import mob
from tests.patience import patient
from tests.real.cluster.machines import Nats, Node, Nodes
from tests.real.loads import Load
from tests.running import wait_until

HERE = """
import asyncio
import mob

def where(): return mob.me().node
async def hold(seconds): await asyncio.sleep(seconds)
def rows(n):
    yield from range(n)
def twice(f, x): return f(f(x).result()).result()
"""
ROLES = '.role("here", "./here.py").role("there", "./here.py")'


def start(nats: Nats, nodes: Nodes, **options: Any) -> list[Node]:
    """The role "here" on machine a, "there" on b."""
    return nodes.start(nats, ROLES, placed={"a": {"here": 1}, "b": {"there": 1}}, here=HERE, **options)


def test_without_nats_local_calls_go_on_and_others_fail_at_once(own_nats: Nats, nodes: Nodes) -> None:
    a, b = start(own_nats, nodes)
    here, there = a.client.require("here"), a.client.require("there")
    assert there.where().result(patient(10)) == "b"
    with Load(lambda: here.where().result(patient(5))) as load:
        for way in ("kill", "freeze"):
            getattr(own_nats, way)()
            for node in (a, b):
                wait_until(lambda node=node: node.is_cut, f"{node.node} is cut off", patient(10))
            for _ in range(10):
                begun = time.monotonic()
                with pytest.raises((mob.Unavailable, mob.Lost)) as caught:
                    there.where().result(patient(10))
                assert time.monotonic() - begun < patient(5)
            assert isinstance(caught.value, mob.Unavailable)
            assert "'there' runs on other machines, which cannot be reached now" in str(caught.value)
            begun = time.monotonic()
            with pytest.raises(mob.Unavailable, match="NATS"):
                there.options(key=1).where().result(patient(10))
            assert time.monotonic() - begun < patient(5)
            before = load.done
            wait_until(lambda before=before: load.done > before + 100, "local calls go on", patient(10))
            if way == "kill":
                own_nats.start()
            else:
                own_nats.thaw()
            for node in (a, b):
                wait_until(
                    lambda node=node: not node.is_cut and node.nodes == {"a", "b"}, f"{node.node} is back", patient(20)
                )
            assert there.options(wait=20).where().result(patient(20)) == "b"
            assert b.client.require("here").options(wait=20).where().result(patient(20)) == "a"
    assert load.errors == []
    assert load.longest < 2


def test_calls_under_way_survive_a_restart_of_nats(own_nats: Nats, nodes: Nodes) -> None:
    a, b = start(own_nats, nodes)
    there = a.client.require("there")
    calls = [there.hold(2), b.client.require("here").hold(2), a.client.require("there").hold(0.2)]
    stream = iter(there.rows(100_000))
    assert next(stream) == 0
    own_nats.restart()
    assert sum(1 for _ in stream) == 99_999
    assert [call.result(patient(20)) for call in calls] == [None] * 3
    for node in (a, b):
        assert not [line for line in node.lines if "has joined" in line][1:], node.output  # no machine was missed


def test_no_call_is_lost_in_restarts_of_nats(own_nats: Nats, nodes: Nodes) -> None:
    a, b = start(own_nats, nodes)
    there, here = a.client.require("there").options(wait=20), b.client.require("here").options(wait=20)
    small, large = "x" * 10, "x" * 1_000_000

    def ask(proxy: Any, data: str) -> Callable[[], object]:
        return lambda: len(proxy.twice(lambda text: text + "!", data).result(patient(20)))

    with Load(ask(there, small), ask(here, large), ask(there, large), ask(here, small)) as load:
        for _ in range(3):
            before = load.done
            wait_until(lambda before=before: load.done > before + 20, "calls go on", patient(60))
            own_nats.restart()
            wait_until(lambda: not a.is_cut and not b.is_cut, "both are back", patient(20))
    assert load.seen() == {len(small) + 2, len(large) + 2}
    # While NATS was away new calls were refused at once; no call that was sent is lost.
    assert all(isinstance(error, mob.Unavailable | mob.RemoteError) for _, error in load.errors), load.errors
    assert not [error for _, error in load.errors if "Lost" in repr(error)]


def test_an_app_starts_without_nats_and_joins_when_it_is_there(own_nats: Nats, nodes: Nodes) -> None:
    own_nats.kill()
    nodes.describe(own_nats, ROLES, here=HERE)
    a, b = nodes.launch("a", {"here": 1}), nodes.launch("b", {"there": 1})
    a.client = a.connect()
    wait_until(lambda: a.pids("here"), "the worker here is ready", patient(20))
    assert a.client.require("here").where().result(patient(10)) == "a"
    with pytest.raises(mob.Unavailable, match="cannot be reached"):
        a.client.require("there").where().result(patient(10))
    own_nats.start()
    nodes.wait_together(a, b)
    assert a.client.require("there").where().result(patient(10)) == "b"
    assert a.stop() == b.stop() == 0


def test_an_app_ends_in_order_while_nats_is_gone(own_nats: Nats, nodes: Nodes) -> None:
    a, b = start(own_nats, nodes)
    own_nats.freeze()
    begun = time.monotonic()
    assert a.stop() == 0
    own_nats.kill()
    assert b.stop() == 0
    assert time.monotonic() - begun < patient(10)
