"""A store in a cluster: one for all machines, and a new one where the machine of the first is lost."""

from __future__ import annotations

import os
import signal
from contextlib import suppress

import pytest

import mob
from mob.core.lease import LEASE, TAKE_OVER
from tests.patience import patient
from tests.real.cluster.machines import Nats, Node, Nodes
from tests.running import wait_until

SOON = patient(LEASE + TAKE_OVER + 20)
"""Seconds within which a store is running, on a loaded machine."""
FRONT = """
import mob
cache = mob.store("cache")

async def count():
    return await cache.add("n")

def fence():
    with cache.lock("a") as lock:
        return lock.fence
"""


def start(nodes: Nodes, nats: Nats) -> list[Node]:
    started = nodes.start(nats, '.store("cache").role("front", "./front.py")', ("a", "b"), front=FRONT)
    wait_until(lambda: any(node.pids("cache") for node in started), "the store is there", SOON)
    return started


def test_all_machines_have_one_store(nodes: Nodes, nats: Nats) -> None:
    started = start(nodes, nats)
    assert sum(len(node.pids("cache")) for node in started) == 1
    counts = [node.client.require("front").count().result(SOON) for node in started * 3]
    assert counts == [1, 2, 3, 4, 5, 6]
    first, second = (node.client.store("cache") for node in started)
    with first.lock("a") as lock:
        with pytest.raises(TimeoutError), second.lock("a", wait=0.1):
            pass
        fence = lock.fence
    assert second.allow("x", "1/hour").result(SOON)
    assert not first.allow("x", "1/hour").result(SOON)
    with first.watch("k") as changes:
        second.set("k", {"large": bytes(300_000)}).result(SOON)
        assert next(changes) == mob.StoreChange("set", "k", {"large": bytes(300_000)})
    fences = [node.client.require("front").fence().result(SOON) for node in started * 2]
    assert fence < fences[0]
    assert fences == sorted(set(fences))


def test_when_its_machine_is_lost_another_one_has_an_empty_store(nodes: Nodes, nats: Nats) -> None:
    started = start(nodes, nats)
    (there,) = [node for node in started if node.pids("cache")]
    (other,) = [node for node in started if node is not there]
    cache = other.client.store("cache")
    cache.set("k", 1).result(SOON)
    changes = cache.watch("k")
    with cache.lock("a") as lock:
        os.killpg(there.process.pid, signal.SIGKILL)
        wait_until(lambda: bool(other.pids("cache")), f"the store is on the other one\n{other.output}", SOON)
        assert next(changes).kind == "missed"
        assert cache.get("k").result(SOON) is None
        with pytest.raises(TimeoutError), cache.lock("a", wait=3):
            pass
        assert lock.is_held  # the new store knows it
    with cache.lock("a", wait=SOON) as later:
        assert later.fence > lock.fence
    changes.close()
    with suppress(ProcessLookupError):
        there.process.kill()


@pytest.mark.parametrize("how", ["reload", "restart"])
def test_its_contents_stay_when_it_is_replaced_on_its_machine(nodes: Nodes, nats: Nats, how: str) -> None:
    started = start(nodes, nats)
    (there,) = [node for node in started if node.pids("cache")]
    (other,) = [node for node in started if node is not there]
    cache, (before,) = other.client.store("cache"), there.pids("cache")
    cache.set("k", 1).result(SOON)
    with cache.lock("a") as lock:
        if how == "reload":
            there.client.reload("cache", timeout=SOON)
        else:
            there.client.restart("cache")
        wait_until(lambda: there.pids("cache") not in ([], [before]), f"another one is there\n{there.output}", SOON)
        assert cache.get("k").result(SOON) == 1
        assert lock.renew().result(SOON)


def test_its_contents_go_along_when_its_machine_is_stopped(nodes: Nodes, nats: Nats) -> None:
    started = start(nodes, nats)
    (there,) = [node for node in started if node.pids("cache")]
    (other,) = [node for node in started if node is not there]
    cache = other.client.store("cache")
    cache.set("k", {"large": bytes(300_000)}).result(SOON)
    with cache.lock("a") as lock:
        there.signal(signal.SIGTERM)
        wait_until(lambda: bool(other.pids("cache")), f"the store is on the other one\n{other.output}", SOON)
        assert cache.get("k").result(SOON) == {"large": bytes(300_000)}
        assert lock.renew().result(SOON)
