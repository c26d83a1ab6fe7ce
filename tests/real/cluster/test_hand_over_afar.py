"""A singleton of a cluster hands its data over to its successor, on its machine or on another one."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Sequence
from contextlib import suppress

import nats as nats_py
import pytest
from nats.js.errors import BucketNotFoundError, NotFoundError

from mob.cluster.names import NatsNames
from mob.core.lease import LEASE, TAKE_OVER
from mob.plan import GATEWAY
from tests.docs.blocks import ROOT, block, blocks
from tests.patience import PATIENCE, patient
from tests.real.cluster.machines import Nats, Node, Nodes
from tests.real.cluster.test_singleton import FRONT, holder_of, seen, wait_until
from tests.running import freeze, is_alive

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
"""Seconds within which a singleton is running, on a loaded machine."""


def start(nodes: Nodes, nats: Nats, names: Sequence[str] = ("a", "b"), cron: str = CRON) -> list[Node]:
    started = nodes.start(nats, ROLES, names, cron=cron, front=FRONT)
    for node in started:
        wait_until(lambda node=node: seen(node), f"{node.node} knows the singleton\n{node.output}", SOON)
    return started


def add(node: Node) -> int:
    return int(node.client.require("cron").options(wait=SOON).add().result(SOON))


def stop(node: Node) -> None:
    """Stop the app of one machine gracefully, and wait for its end."""
    node.signal(signal.SIGTERM)
    node.process.wait(PATIENCE)


def again(nodes: Nodes, name: str, *others: Node) -> Node:
    node = nodes.launch(name)
    nodes.wait_together(node, *others)
    return node


def stored(nats: Nats, app: str) -> list[str] | None:
    """Return the names of the objects in NATS for singletons; None if their store does not exist."""

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
        there.wait_for(r"'cron' left \d+ bytes for the machine that runs it next")
        wait_until(lambda other=other: other.pids("cron"), f"it runs there\n{other.output}", SOON)
        other.wait_for(r"'cron' received the \d+ bytes that it left on another machine")
        assert add(other) == count + moves
        there, other = other, again(nodes, there.node, other)
    wait_until(lambda: stored(nats, nodes.app) == [], "what has arrived is deleted", SOON)


def test_much_data_moves(nodes: Nodes, nats: Nats) -> None:
    size = 5_000_000
    there, (other,) = holder_of(start(nodes, nats))
    there.client.require("cron").grow(size).result(SOON)
    add(there)
    stop(there)
    there.wait_for(r"'cron' left 45,\d+,\d+ bytes")
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
    assert "'cron' left" not in there.output


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


async def _chunks(nats: Nats, app: str, back: Sequence[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    client = await nats_py.connect(nats.url)
    try:
        stream, name = client.jetstream(), f"OBJ_{NatsNames(app).left_bucket}"
        for subject, data in back:
            await stream.publish(subject, data)
        if back:
            return []
        state = (await stream.stream_info(name)).state
        found: list[tuple[str, bytes]] = []
        for number in range(state.first_seq, state.last_seq + 1):
            with suppress(NotFoundError):
                message = await stream.get_msg(name, number)
                if message.subject and ".C." in message.subject:
                    found.append((message.subject, message.data or b""))
        for subject, _ in found:
            await stream.purge_stream(name, subject=subject)
        return found
    finally:
        await client.close()


def take_away(nats: Nats, app: str) -> list[tuple[str, bytes]]:
    """Take the data of an object away, and leave its entry: it cannot be fetched until the data is back."""
    chunks = asyncio.run(_chunks(nats, app, []))
    assert chunks
    return chunks


def put_back(nats: Nats, app: str, chunks: Sequence[tuple[str, bytes]]) -> None:
    asyncio.run(_chunks(nats, app, chunks))


def wait_fetching(node: Node) -> None:
    def is_fetching() -> bool:
        return any(row.role == "cron" and "fetching" in row.note for row in node.client.overview())

    wait_until(is_fetching, f"it fetches what was left\n{node.output}", SOON)


@pytest.mark.parametrize("what", ["its gateway dies", "its Kingpin is upgraded", "its app is stopped"])
def test_what_is_being_fetched_is_not_lost(nodes: Nodes, nats: Nats, what: str) -> None:
    (first,) = start(nodes, nats, ("a",))
    assert [add(first), add(first)] == [1, 2]
    stop(first)
    chunks = take_away(nats, nodes.app)
    node = nodes.launch("b")
    node.client = node.connect()
    wait_fetching(node)
    if what == "its gateway dies":
        (pid,) = node.pids(GATEWAY)
        os.kill(pid, signal.SIGKILL)
    elif what == "its Kingpin is upgraded":
        node.client.upgrade()
        node.client = node.connect()
    else:
        stop(node)
        node = nodes.launch("c")
        node.client = node.connect()
    put_back(nats, nodes.app, chunks)
    assert add(node) == 3


def test_what_does_not_come_is_told_and_tried_again(nodes: Nodes, nats: Nats) -> None:
    (first,) = start(nodes, nats, ("a",))
    assert add(first) == 1
    stop(first)
    chunks = take_away(nats, nodes.app)
    node = nodes.launch("b")
    node.client = node.connect()
    node.wait_for("what 'cron' left cannot be fetched now: NATS sent no data for 5 s. Retrying for")
    put_back(nats, nodes.app, chunks)
    assert add(node) == 2


def test_what_has_been_deleted_is_not_waited_for(nodes: Nodes, nats: Nats) -> None:
    (first,) = start(nodes, nats, ("a",))
    assert add(first) == 1
    stop(first)

    async def delete() -> None:
        client = await nats_py.connect(nats.url)
        await client.jetstream().delete_object_store(NatsNames(nodes.app).left_bucket)
        await client.close()

    asyncio.run(delete())
    node = again(nodes, "b")
    node.wait_for("what 'cron' left on another machine is lost: NATS no longer has it. It starts without it.")
    assert add(node) == 1


@pytest.mark.parametrize("index", [0, 1])
def test_one_gateway_of_two_dies_while_it_stores(nodes: Nodes, nats: Nats, index: int) -> None:
    """One of the two machines gets the request; in one of these tests that machine dies."""
    nodes.describe(nats, ROLES, cluster="gateways=2", cron=CRON, front=FRONT)
    node = nodes.launch("a")
    nodes.wait_together(node)
    wait_until(lambda: node.pids("cron"), f"it runs\n{node.output}", SOON)
    assert add(node) == 1
    (pid,) = node.pids("cron")
    gateways = node.pids(GATEWAY)
    for each in gateways:
        freeze(each)
    node.signal(signal.SIGTERM)
    node.wait_for(r"handed over \d+ bytes, kept for the next cron")
    wait_until(lambda: not is_alive(pid), "its worker has ended")
    os.kill(gateways[index], signal.SIGKILL)
    os.kill(gateways[1 - index], signal.SIGCONT)
    node.wait_for(r"'cron' left \d+ bytes for the machine that runs it next")
    node.process.wait(PATIENCE)
    assert add(again(nodes, "b")) == 2
