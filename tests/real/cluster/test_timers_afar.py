"""Timers of a role that runs on several machines: each runs once in all of them, by the lease of the role's timers.

Each run writes a line into one shared file; all nodes are on one machine here, so they have one clock.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from itertools import pairwise
from pathlib import Path

import msgspec
import nats as nats_py
import pytest

import mob
from mob.cluster.names import NatsNames
from mob.core.lease import LEASE, TAKE_OVER
from mob.wire import messages as m
from tests.patience import PATIENCE, patient
from tests.real.cluster.machines import Nats, Node, Nodes
from tests.running import mob_command, wait_until

EVERY = 0.8
BACK = f"""
import os, time, mob

def note(name):
    with open(f"trace.{{name}}", "a", buffering=1) as file:
        file.write(f"{{mob.me().node}} {{time.time()}}\\n")

@mob.every({EVERY})
def tick():
    note("tick")

@mob.every(3600)
def rare():
    note("rare")

@mob.every({EVERY}, each=True)
async def everywhere():
    note("everywhere")
"""
ROLES = '.role("back", "./back.py")'
SOON = patient(LEASE + TAKE_OVER + 10)


async def _seed(url: str, app: str) -> None:
    """Make the lease as if it was taken and given back before, so that the first machine need not wait."""
    client = await nats_py.connect(url)
    bucket = await client.jetstream().create_key_value(bucket=NatsNames(app).bucket)
    await bucket.put("timers/back", msgspec.msgpack.encode(m.LeaseRecord(token=1)))
    await client.close()


def start(nodes: Nodes, nats: Nats) -> tuple[Node, Node]:
    """Two machines; the first is the one that runs the timers."""
    asyncio.run(_seed(nats.url, nodes.app))
    a, b = nodes.start(nats, ROLES, back=BACK)
    wait_until(lambda: len(runs(nodes.directory)) >= 2, f"it runs\n{a.output}\n{b.output}")
    there, other = (a, b) if is_here(a) else (b, a)
    wait_until(lambda: is_known_at(other, there), f"{other.node} has seen the lease\n{other.output}")
    return there, other


def is_here(node: Node) -> bool:
    return any(each.name == "tick" and each.is_here for each in node.client.timers())


def is_known_at(node: Node, there: Node) -> bool:
    return any(each.name == "tick" and each.note == f"runs on {there.node!r}" for each in node.client.timers())


def runs(directory: Path, name: str = "tick") -> list[tuple[str, float]]:
    """Return where and when the timer ran, in order."""
    path = directory / f"trace.{name}"
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return sorted(((line.split()[0], float(line.split()[1])) for line in lines), key=lambda each: each[1])


def wait_runs(node: Node, directory: Path, count: int, name: str = "tick") -> None:
    """Wait until the timer ran so often on that machine."""
    wait_until(
        lambda: sum(where == node.node for where, _ in runs(directory, name)) >= count,
        f"{name} runs on {node.node}\n{node.output}",
        SOON,
    )


def check_moved_once(directory: Path) -> None:
    """Check that one machine ran it, then the other: never both in turn."""
    where = [name for name, _ in runs(directory)]
    assert sum(now != then for then, now in pairwise(where)) <= 1, runs(directory)


def test_once_in_the_whole_cluster_and_everywhere_what_is_for_each(nodes: Nodes, nats: Nats) -> None:
    there, other = start(nodes, nats)
    for node in (there, other):
        wait_runs(node, nodes.directory, 3, "everywhere")
    wait_runs(there, nodes.directory, 5)
    assert {where for where, _ in runs(nodes.directory)} == {there.node}
    row = next(each for each in other.client.timers() if each.name == "tick")
    assert (row.is_here, row.note) == (False, f"runs on {there.node!r}")
    wait_until(lambda: next(e for e in other.client.timers() if e.name == "tick").next > time.time() - 5, "it is known")


def test_the_commands_find_the_machine_that_has_it(nodes: Nodes, nats: Nats) -> None:
    there, other = start(nodes, nats)
    rows = json.loads(mob_command(nodes.directory, "timers", "--json", "-a", other.name).stdout)
    assert {(each["timer"], each["node"]) for each in rows} == {
        (f"back.{name}", node.node) for name in ("tick", "rare", "everywhere") for node in (there, other)
    }
    shown = mob_command(nodes.directory, "timers", other.name).stdout
    assert f"runs on {there.node!r}" in " ".join(shown.split())
    done = mob_command(nodes.directory, "timers", "run", "back.rare", "-a", other.name)
    assert done.stdout.startswith(f"{there.node}: back.rare: ok after"), done.stderr
    assert [where for where, _ in runs(nodes.directory, "rare")] == [there.node]
    with pytest.raises(mob.MobError, match=f"back.rare does not run on this machine: runs on {there.node!r}."):
        other.client.run_timer("back.rare")


def test_another_machine_takes_over_at_once_when_one_stops(nodes: Nodes, nats: Nats) -> None:
    there, other = start(nodes, nats)
    before = there.client.timers()
    assert there.stop() == 0
    wait_runs(other, nodes.directory, 3)
    check_moved_once(nodes.directory)
    times = [at for _, at in runs(nodes.directory)][1:]  # the first one was late: it waited for the lease
    assert all(now - then > EVERY / 2 for then, now in pairwise(times)), times  # no run was made twice
    other.wait_for("this machine now runs the timers of 'back': it holds their lease.")
    rare = {each.name: each.next for each in other.client.timers()}["rare"]
    assert rare == pytest.approx(next(each.next for each in before if each.name == "rare"), abs=1)  # not a new time


def test_another_machine_takes_over_from_one_that_dies(nodes: Nodes, nats: Nats) -> None:
    there, other = start(nodes, nats)
    there.kill()
    wait_runs(other, nodes.directory, 3)
    check_moved_once(nodes.directory)
    other.wait_for(r"timer back.tick: \d+ runs missed", patience=SOON)  # those in the seconds without a lease


def test_one_that_is_cut_off_gives_up_before_another_takes_over(nodes: Nodes, own_nats: Nats) -> None:
    there, other = start(nodes, own_nats)
    own_nats.freeze()
    there.wait_for("this machine no longer runs the timers of 'back': its lease could not be renewed")
    own_nats.thaw()
    wait_until(lambda: is_here(there) or is_here(other), "one of them has it", SOON)
    count = len(runs(nodes.directory))
    wait_until(lambda: len(runs(nodes.directory)) >= count + 3, "it goes on")
    check_moved_once(nodes.directory)


def test_an_upgrade_keeps_the_lease(nodes: Nodes, nats: Nats) -> None:
    there, other = start(nodes, nats)
    there.client.upgrade(PATIENCE)
    count = len(runs(nodes.directory))
    wait_until(lambda: len(runs(nodes.directory)) >= count + 3, "it goes on")
    assert {where for where, _ in runs(nodes.directory)} == {there.node}
    assert not is_here(other)


def test_a_worker_that_dies_does_not_move_the_timers(nodes: Nodes, nats: Nats) -> None:
    there, _ = start(nodes, nats)
    (pid,) = there.pids("back")
    os.kill(pid, signal.SIGKILL)
    count = len(runs(nodes.directory))
    wait_until(lambda: len(runs(nodes.directory)) >= count + 3, "it goes on")
    assert {where for where, _ in runs(nodes.directory)} == {there.node}


def test_without_jetstream_it_is_said_why_nothing_runs(nodes: Nodes, tmp_path: Path) -> None:
    with Nats(tmp_path / "nats", has_jetstream=False) as nats:
        a, b = nodes.start(nats, ROLES, back=BACK)
        for node in (a, b):
            wait_runs(node, nodes.directory, 1, "everywhere")
            wait_until(
                lambda node=node: any("JetStream is not enabled" in each.note for each in node.client.timers()),
                "it is said",
            )
        assert runs(nodes.directory) == []
        nodes.end()
