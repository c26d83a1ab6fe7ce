"""A singleton of a cluster leaves its data to its successor, on its machine and on the one that it moves to."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Sequence

import nats as nats_py
import pytest
from nats.js.errors import BucketNotFoundError

from mob.cluster.names import NatsNames
from mob.core.lease import LEASE, TAKE_OVER
from tests.docs.blocks import ROOT, block, blocks
from tests.patience import PATIENCE, patient
from tests.real.cluster.machines import Nats, Node, Nodes
from tests.real.cluster.test_singleton import FRONT, holder_of, seen, wait_until

CRON = """
import os
import mob

count = 0
load = None

@mob.on("start")
def start():
    global count, load
    count, load = mob.inherited() or (0, None)
    open(f"started-{mob.me().node}-{os.getpid()}", "w").write(str(count))
    if os.path.exists(f"stuck-{mob.me().node}"):
        os.mkfifo(f"waits-{mob.me().node}")
        open(f"waits-{mob.me().node}")  # for ever

@mob.on("hand_over")
def hand_over():
    return count, load

def add():
    global count
    count += 1
    return count

def grow(size):
    global load
    import numpy as np
    load = {"array": np.arange(size, dtype="i8"), "bytes": b"x" * size}

def check(size):
    return int(load["array"].sum()), len(load["bytes"]), type(load["array"]).__name__

def who():
    return mob.me().node
"""
ROLES = '.role("cron", "./cron.py", singleton=True).role("front", "./front.py")'
SOON = patient(LEASE + TAKE_OVER + 20)
"""Seconds within which a singleton is somewhere, on a loaded machine."""


def start(nodes: Nodes, nats: Nats, names: Sequence[str] = ("a", "b"), cron: str = CRON) -> list[Node]:
    started = nodes.start(nats, ROLES, names, cron=cron, front=FRONT)
    for node in started:
        wait_until(lambda node=node: seen(node), f"{node.node} knows the singleton\n{node.output}", SOON)
    return started


def add(node: Node) -> int:
    return int(node.client.require("cron").options(wait=SOON).add().result(SOON))


def stop(node: Node) -> None:
    """Stop the app of one machine in order, and wait for its end."""
    node.signal(signal.SIGTERM)
    node.process.wait(PATIENCE)


def again(nodes: Nodes, name: str, *others: Node) -> Node:
    node = nodes.launch(name)
    nodes.wait_together(node, *others)
    return node


def stored(nats: Nats, app: str) -> list[str] | None:
    """The names of what lies in NATS for singletons; None if there is no place for it."""

    async def look() -> list[str] | None:
        client = await nats_py.connect(nats.url)
        try:
            store = await client.jetstream().object_store(NatsNames(app).left_bucket)
            watcher = await store.watch()
            found: list[str] = []
            async for each in watcher:
                if each is None:
                    break
                found.append(str(each.name))
            await watcher.stop()
            return found
        except BucketNotFoundError:
            return None
        finally:
            await client.close()

    return asyncio.run(look())


def test_it_keeps_its_data_on_its_machine_and_on_the_others(nodes: Nodes, nats: Nats) -> None:
    started = start(nodes, nats)
    there, (other,) = holder_of(started)
    assert [add(each) for each in (there, other, there)] == [1, 2, 3]
    there.client.reload("cron", timeout=SOON)
    assert add(other) == 4
    there.client.restart("cron")
    wait_until(lambda: add(other) >= 5, "it serves again")
    count = add(other)
    assert stored(nats, nodes.app) is None  # nothing is stored as long as it does not move
    for moves in range(1, 4):
        stop(there)
        there.wait_for(r"'cron' has left \d+ bytes to the machine that runs it next")
        wait_until(lambda other=other: other.pids("cron"), f"it runs there\n{other.output}", SOON)
        other.wait_for(r"'cron' gets the \d+ bytes that it has left on another machine")
        assert add(other) == count + moves
        there, other = other, again(nodes, there.node, other)
    wait_until(lambda: stored(nats, nodes.app) == [], "what has arrived is deleted", SOON)


def test_much_data_moves(nodes: Nodes, nats: Nats) -> None:
    size = 5_000_000
    there, (other,) = holder_of(start(nodes, nats))
    there.client.require("cron").grow(size).result(SOON)
    add(there)
    stop(there)
    there.wait_for(r"'cron' has left 45,\d+,\d+ bytes")
    wait_until(lambda: other.pids("cron"), f"it runs there\n{other.output}", SOON)
    assert add(other) == 2
    assert other.client.require("cron").check(size).result(SOON) == [size * (size - 1) // 2, size, "ndarray"]


def test_the_data_is_there_when_all_machines_have_been_stopped(nodes: Nodes, nats: Nats) -> None:
    (node,) = start(nodes, nats, ("a",))
    assert [add(node), add(node)] == [1, 2]
    stop(node)
    assert len(stored(nats, nodes.app) or []) == 1
    node = again(nodes, "b")
    assert add(node) == 3


@pytest.mark.parametrize("what", ["its worker", "its Kingpin"])
def test_one_that_dies_before_it_is_ready_is_followed_by_one_with_the_same_data(
    nodes: Nodes, nats: Nats, what: str
) -> None:
    there, (other,) = holder_of(start(nodes, nats))
    add(there)
    (nodes.directory / f"stuck-{other.node}").touch()
    stop(there)
    waiting = nodes.directory / f"waits-{other.node}"
    wait_until(waiting.exists, f"it has begun to start\n{other.output}", SOON)
    (nodes.directory / f"stuck-{other.node}").unlink()
    if what == "its worker":
        (pid,) = [row.pid for row in other.client.overview() if row.role == "cron"]
        os.kill(pid, signal.SIGKILL)
        assert add(other) == 2
        return
    os.kill(other.process.pid, signal.SIGKILL)
    other.process.wait(PATIENCE)
    node = again(nodes, "c")
    assert add(node) == 2


def test_one_without_a_handler_costs_nothing(nodes: Nodes, nats: Nats) -> None:
    there, (other,) = holder_of(start(nodes, nats, cron=CRON.replace('@mob.on("hand_over")', "")))
    assert [add(there), add(other)] == [1, 2]
    stop(there)
    wait_until(lambda: other.pids("cron"), f"it runs there\n{other.output}", SOON)
    assert add(other) == 1
    assert stored(nats, nodes.app) is None
    assert "has left" not in there.output


def test_the_example_of_the_manual(nodes: Nodes, nats: Nats) -> None:
    page = "docs/hand-over.md"
    (scores,) = [each.text for each in blocks(ROOT / page) if each.title == "scores.py"]
    main = block(page, "tests/real/cluster/test_hand_over_afar.py::test_the_example_of_the_manual")
    nodes.write(scores=scores, main=main.replace('"game"', repr(nodes.app)).replace("nats://127.0.0.1", nats.url))
    first, second = nodes.launch("a"), nodes.launch("b")
    for node in (first, second):
        node.client = node.connect()
    for wins in range(1, 4):
        assert first.client.require("scores").options(wait=SOON).win("Ada").result(SOON) == wins
    there, other = (first, second) if first.pids("scores") else (second, first)
    stop(there)
    assert other.client.require("scores").options(wait=SOON).win("Ada").result(SOON) == 4
