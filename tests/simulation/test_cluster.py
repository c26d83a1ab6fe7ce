"""Some machines, seeded faults, and then quiet: all rosters agree."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mob.core.membership import BEAT, PATIENCE, SILENCE
from mob.wire import messages as m
from tests.simulation.cluster import REACH, Machines, Node

ROOT = Path(__file__).resolve().parent.parent.parent
QUIET = 2 * SILENCE + 2 * (BEAT + PATIENCE)


def act(machines: Machines) -> None:
    """Something happens."""
    clock, nodes = machines.clock, machines.nodes
    node: Node = clock.pick(nodes)
    match int(clock.luck() * 12):
        case 0 if len(nodes) < 9:
            machines.join(clock.pick(["", "", "twin"]), newer_by=clock.pick([0, 0, 0, 1]))
        case 1 if len(nodes) > 2:
            node.leave()
        case 2 if len(nodes) > 2:
            node.vanish()
        case 3:
            node.upgrade()
        case 4:
            node.pause(clock.between(0, 8))
        case 5:
            machines.letters.sides = {each.number: int(clock.luck() * 3) for each in nodes}
        case 6:
            machines.letters.sides = {}
        case 7:
            node.connect(REACH)
            clock.after(clock.between(0, 8), lambda: node.has_ended or node.connect())
        case _ if node.own():
            node.replace(clock.pick(node.own()))
        case _:
            node.launch("back", 9)


@pytest.mark.parametrize("loss", [0.0, 0.2], ids=["whole", "lossy"])
@pytest.mark.parametrize("seed", range(25))
def test_after_a_quiet_time_all_rosters_agree(seed: int, loss: float) -> None:
    machines = Machines(seed, loss)
    machines.join_many(4, within=1.0)
    for _ in range(60):
        act(machines)
        machines.run(machines.clock.between(0, 0.5))
    machines.letters.loss, machines.letters.sides = 0.0, {}
    machines.run(9.0)  # who stands still goes on, who is cut is connected
    machines.run(QUIET)
    assert machines.disagreement() == ""


def test_nothing_is_lost_by_a_short_cut() -> None:
    machines = Machines(1)
    machines.join_many(4)
    node = machines.nodes[0]
    node.connect(REACH)
    machines.nodes[1].replace(machines.nodes[1].own()[0])
    machines.run(1.0)
    node.connect()
    machines.run(BEAT + PATIENCE + 0.5)
    assert machines.disagreement() == ""
    assert not any("silent" in text for each in machines.nodes for text in each.told)


def test_an_upgrade_is_seen_by_nobody() -> None:
    machines = Machines(1)
    machines.join_many(3)
    node = machines.nodes[0]
    others = machines.nodes[1:]
    before = [list(each.told) for each in others]
    for _ in range(3):
        node.upgrade()
        node.replace(node.own()[0])
        machines.run(0.2)
        assert machines.disagreement() == ""
    assert [each.told for each in others] == before


def test_two_versions_are_two_clusters_and_each_says_so_once() -> None:
    machines = Machines(1)
    for number in range(6):
        machines.join(newer_by=number % 2)
    machines.run(QUIET)
    assert machines.disagreement() == ""
    nodes = machines.nodes
    assert [len(node.membership.neighbours) for node in nodes] == [2] * 6
    for node in nodes:
        not_admitted = [text for text in node.told if "not admitted" in text]
        assert len(not_admitted) == 3
        assert all(f"speaks version {m.PROTOCOL + 1 - 2 * node.newer_by} of" in text for text in not_admitted)
    before = sum(node.traffic.sent for node in nodes)
    machines.run(10.0)
    assert sum(node.traffic.sent for node in nodes) - before == 6 * 10, "strangers are not written to"


def test_a_rolling_update_leads_from_one_cluster_to_the_other() -> None:
    machines = Machines(1)
    machines.join_many(4)
    for node in machines.nodes:
        node.leave()
        machines.join(node.name, newer_by=1)
        machines.run(SILENCE)
        assert machines.disagreement() == ""
        assert all(each.membership.namesake_at is None for each in machines.nodes)
    assert [len(node.membership.neighbours) for node in machines.nodes] == [3] * 4


def test_a_quiet_cluster_says_its_beats_and_nothing_else() -> None:
    machines = Machines(1)
    machines.join_many(10, within=0.5)
    machines.run(3.0)
    before = sum(node.traffic.sent for node in machines.nodes)
    machines.run(10.0)
    assert sum(node.traffic.sent for node in machines.nodes) - before == 10 * 10


def test_who_joins_a_large_cluster_costs_one_letter_and_gets_one_from_each() -> None:
    machines = Machines(1)
    machines.join_many(30, within=0.5)
    machines.run(2.0)
    sent = {node.number: node.traffic.sent for node in machines.nodes}
    came = machines.join()
    machines.run(0.05)
    assert machines.disagreement() == ""
    assert came.traffic.sent == 1
    assert all(node.traffic.sent - sent[node.number] <= 2 for node in machines.nodes if node is not came)


def test_many_that_join_at_once_tell_each_pair_once() -> None:
    machines = Machines(1)
    machines.join_many(40, within=0.5)
    received = sum(node.traffic.received for node in machines.nodes)
    assert machines.disagreement() == ""
    assert received < 40 * 39 * 3.2  # everything once, and a beat or two


def test_the_bench_runs() -> None:
    command = [sys.executable, "-m", "bench.cluster_simulation", "--quick"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert ran.returncode == 0, ran.stderr
    assert "| a machine has vanished | 3.0 s | 3.0 s |" in ran.stdout
