"""One process in the whole cluster: it moves when its machine dies, and two of them never exist at the same time.

The singleton writes the time into a file of its own, a hundred times a second; all nodes are on one machine here, so
they have one clock. The assertion: no two of these files overlap, and a later one has no smaller token.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import nats as nats_py
import pytest

import mob
from mob.cluster.names import NatsNames
from mob.core.lease import LEASE, TAKE_OVER
from mob.wire import messages as m
from tests.patience import patient
from tests.real.cluster.machines import Nats, Node, Nodes
from tests.running import wait_until

CRON = """
import os, threading, time, mob

def beat():
    with open(f"trace.{mob.me().node}.{mob.me().token}.{os.getpid()}", "a", buffering=1) as file:
        while True:
            file.write(f"{time.monotonic()}\\n")
            time.sleep(0.01)

threading.Thread(target=beat, daemon=True).start()

def who():
    return mob.me().node, mob.me().token, os.getpid()

async def ask():
    try:
        return await mob.require("front").whose()
    except mob.Fenced as error:
        return error.executed, str(error)
"""
FRONT = """
import mob

async def who():
    return await mob.require("cron").options(wait=60).who()

def hear_of(token):
    from mob.mobster import api
    from mob.wire import messages as m
    api.current("hear_of").fencing.see(m.Member(1, 1, "cron", 0, 1, "ready", token))

def whose():
    return mob.caller().role, mob.caller().token
"""
ROLES = '.role("cron", "./cron.py", singleton=True).role("front", "./front.py")'
SOON = LEASE + TAKE_OVER + 10
"""Seconds within which everything has moved, on a loaded machine."""


async def _seed(url: str, app: str, role: str) -> None:
    client = await nats_py.connect(url)
    bucket = await client.jetstream().create_key_value(bucket=NatsNames(app).bucket)
    await bucket.put(role, msgspec.msgpack.encode(m.LeaseRecord(token=1)))
    await client.close()


def start(nodes: Nodes, nats: Nats, names: Sequence[str] = ("a", "b"), roles: str = ROLES) -> list[Node]:
    """Start nodes of an app whose lease was taken and given back before, so the first node need not wait."""
    asyncio.run(_seed(nats.url, nodes.app, "cron"))
    started = nodes.start(nats, roles, names, cron=CRON, front=FRONT)
    for node in started:
        wait_until(lambda node=node: seen(node), f"{node.node} knows the singleton\n{node.output}")
    return started


def seen(node: Node) -> list[Any]:
    """Return the ready singletons that a machine knows."""
    return node.ready(node.client, "cron")


def holder_of(nodes: Sequence[Node]) -> tuple[Node, list[Node]]:
    """Return the machine where it runs, and the others."""
    (there,) = [node for node in nodes if node.pids("cron")]
    return there, [node for node in nodes if node is not there]


def lives(directory: Path) -> list[tuple[float, float, str, int, int]]:
    """Return first and last sign of life of each singleton so far, with its node, token and pid, in order."""
    found: list[tuple[float, float, str, int, int]] = []
    for path in directory.glob("trace.*"):
        _, node, token, pid = path.name.split(".")
        times = [float(line) for line in path.read_text().split("\n")[:-1]]
        if times:
            found.append((times[0], times[-1], node, int(token), int(pid)))
    return sorted(found)


def check_alone(directory: Path) -> list[tuple[float, float, str, int, int]]:
    """Check that no two existed at the same time, and no token was smaller than the one before."""
    found = lives(directory)
    for before, after in pairwise(found):
        assert before[1] < after[0], f"two at a time: {before} and {after}"
        assert before[3] < after[3] or (before[2:4] == after[2:4]), f"tokens: {before} and {after}"
    return found


def gap(directory: Path) -> float:
    """Return the seconds between the last two."""
    before, after = lives(directory)[-2:]
    return after[0] - before[1]


def wait_moved(node: Node, directory: Path, count: int) -> None:
    """Wait until that many singletons have lived, the last of them on that machine, and it is ready."""
    wait_until(
        lambda: len(lives(directory)) >= count and lives(directory)[-1][2] == node.node and node.pids("cron"),
        f"the singleton runs on {node.node}\n{node.output}",
        SOON,
    )


def test_one_process_in_the_whole_cluster(nodes: Nodes, nats: Nats) -> None:
    started = start(nodes, nats, ("a", "b", "c"))
    there, others = holder_of(started)
    answers = {tuple(node.client.require("front").who().result(patient(30))) for node in started}
    assert len(answers) == 1
    ((name, token, pid),) = answers
    assert (name, pid) == (there.node, there.pids("cron")[0])
    assert token > 0
    for node in others:
        rows = [row for row in node.client.overview() if row.role == "cron"]
        wait_until(
            lambda node=node: "runs on" in next(r.note for r in node.client.overview() if r.role == "cron"),
            "the reason is shown",
        )
        assert [row.state for row in rows] == ["held"]
    assert there.client.require("cron").ask().result(patient(30)) == ["cron", token]
    check_alone(nodes.directory)


def test_one_that_dies_or_is_reloaded_is_followed_where_it_was_when_it_has_gone(nodes: Nodes, nats: Nats) -> None:
    there, _ = holder_of(start(nodes, nats))
    os.kill(there.pids("cron")[0], signal.SIGKILL)
    wait_moved(there, nodes.directory, 2)
    assert "reloaded 1 worker" in there.client.reload("cron")
    wait_moved(there, nodes.directory, 3)
    found = check_alone(nodes.directory)
    assert len({each[2:4] for each in found}) == 1, "the same lease, the same token"


@pytest.mark.parametrize("what", ["all of it", "its Kingpin"])
def test_it_moves_when_its_machine_dies(nodes: Nodes, nats: Nats, what: str) -> None:
    there, (other,) = holder_of(start(nodes, nats))
    for pid in [there.process.pid, *(there.processes() if what == "all of it" else ())]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    wait_moved(other, nodes.directory, 2)
    check_alone(nodes.directory)
    assert TAKE_OVER - 2 < gap(nodes.directory) < TAKE_OVER + 6


def test_one_whose_kingpin_stands_still_ends_itself_before_another_starts(nodes: Nodes, nats: Nats) -> None:
    there, (other,) = holder_of(start(nodes, nats))
    there.signal(signal.SIGSTOP)
    wait_moved(other, nodes.directory, 2)
    there.signal(signal.SIGCONT)
    there.wait_for("this machine no longer holds the lease for 'cron': its lease could not be renewed")
    first, second = check_alone(nodes.directory)
    assert first[3] < second[3]
    wait_until(lambda: there.seen(other, "cron"), "it knows the other one")
    assert there.client.require("front").who().result(patient(30))[0] == other.node
    assert not there.pids("cron")
    check_alone(nodes.directory)


def test_without_nats_it_ends_and_with_nats_one_starts(nodes: Nodes, own_nats: Nats) -> None:
    there, _ = holder_of(started := start(nodes, own_nats))
    own_nats.kill()
    there.wait_for("this machine no longer holds the lease for 'cron': its lease could not be renewed", patience=SOON)
    wait_until(lambda: not there.pids("cron"), "it has ended")
    own_nats.start()
    wait_until(lambda: len(lives(nodes.directory)) == 2, "one starts", SOON)
    first, second = check_alone(nodes.directory)
    assert first[3] < second[3]
    for node in started:
        wait_until(lambda node=node: seen(node), f"{node.node} knows it\n{node.output}")
        assert node.client.require("front").who().result(patient(30))[1] == second[3]


def test_an_orderly_stop_moves_it_at_once_and_calls_wait_meanwhile(nodes: Nodes, nats: Nats) -> None:
    there, (other,) = holder_of(start(nodes, nats))
    there.signal(signal.SIGTERM)
    there.wait_for("stopping")
    calls = [other.client.require("front").who() for _ in range(20)]
    wait_moved(other, nodes.directory, 2)
    check_alone(nodes.directory)
    assert gap(nodes.directory) < TAKE_OVER - 1  # the lease was given back, not waited for
    assert {call.result(patient(30))[0] for call in calls} <= {there.node, other.node}
    assert other.client.require("front").who().result(patient(30))[0] == other.node


def test_who_has_seen_a_greater_token_does_not_listen_to_a_smaller_one(nodes: Nodes, nats: Nats) -> None:
    there, _ = holder_of(start(nodes, nats))
    cron, front = there.client.require("cron"), there.client.require("front")
    _, token = cron.ask().result(patient(30))
    for node in nodes.running:  # the news of its successor comes before the end of the old one
        node.client.require("front").hear_of(token + 5).result(patient(30))
        for pid in node.pids("front"):
            node.client.pid(pid).call.hear_of(token + 5).result(patient(30))
    executed, text = cron.ask().result(patient(30))
    assert executed == "no"
    assert f"has the token {token}, but 'cron' was seen with {token + 5}" in text
    assert front.who().result(patient(30))[1] == token, "calls of other roles are accepted"


def test_one_that_has_grown_old_is_followed_when_it_has_gone(nodes: Nodes, nats: Nats) -> None:
    roles = ROLES.replace("singleton=True", "singleton=True, max_age=2")
    there, _ = holder_of(start(nodes, nats, roles=roles))
    wait_moved(there, nodes.directory, 2)
    first, second = check_alone(nodes.directory)[:2]
    assert first[2:4] == second[2:4]


def test_an_upgrade_keeps_the_lease(nodes: Nodes, nats: Nats) -> None:
    there, _ = holder_of(start(nodes, nats))
    before = there.client.require("front").who().result(patient(30))
    there.client.upgrade()
    node = there.connect()
    (life,) = lives(nodes.directory)
    wait_until(lambda: lives(nodes.directory)[0][1] > life[1] + LEASE + 1, "it lives for longer than one lease", SOON)
    assert node.require("front").who().result(patient(30)) == before
    check_alone(nodes.directory)


def test_without_jetstream_it_is_held_and_that_is_said(nodes: Nodes, tmp_path: Path) -> None:
    server = Nats(tmp_path / "plain")
    program = Path(sys.executable).parent / "nats-server"
    process = subprocess.Popen([program, "-a", "127.0.0.1", "-p", str(server.port)], stderr=subprocess.DEVNULL)
    try:
        server.process = process
        wait_until(server._answers, "the NATS server answers")
        (node,) = nodes.start(server, ROLES, ("a",), cron=CRON, front=FRONT)
        node.wait_for("'cron' does not run here: .*JetStream is not enabled there. Start it with `nats-server -js`")
        (row,) = [row for row in node.client.overview() if row.role == "cron"]
        assert (row.state, row.pid) == ("held", 0)
        assert "JetStream is not enabled" in row.note
        with pytest.raises(mob.Unavailable):
            node.client.require("cron").options(wait=0.2).who().result(patient(5))
    finally:
        server.kill()
