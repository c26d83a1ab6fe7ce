"""Spares and `mob profile` in a cluster: each machine has spares of its own, and looks into its own workers."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.patience import patient
from tests.real.cluster.machines import Nats, Node, nodes_in
from tests.real.loads import Load
from tests.real.test_profile import may_look
from tests.running import wait_until

BACK = """
    import os
    import mob

    @mob.export
    def place():
        return mob.me().node, mob.me().index, os.getpid()

    @mob.export(idempotent=True)
    def pid():
        return os.getpid()
    """
PLACED = {"a": {"front": 1}, "b": {"back": 1}, "c": {"back": 1}}


@pytest.fixture(scope="module")
def machines(nats: Nats, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Node]]:
    """Three machines: one with the callers, and two with a worker and a spare each."""
    roles = '.role("back", "./back.py", spare=1, intensity=100).role("front", "./front.py")'
    with nodes_in(tmp_path_factory.mktemp("spares")) as nodes:
        yield nodes.start(nats, roles, ("a", "b", "c"), placed=PLACED, back=BACK, front="")


def spare(node: Node, other_than: int = 0) -> int:
    """The pid of the spare of a machine, once it has booted; as the first machine knows it."""

    def pid() -> int:
        found = [
            member.pid
            for member in node.client.members()
            if (member.role, member.state) == ("back", "spare") and member.uid >> 32 == node.number
        ]
        return found[0] if found and found[0] != other_than else 0

    return wait_until(pid, f"{node.node} has a spare\n{node.output}")


def test_a_spare_takes_the_place_of_a_worker_on_its_own_machine(machines: list[Node]) -> None:
    a, b, c = machines
    before, waits, elsewhere = b.pids("back")[0], spare(b), spare(c)
    with Load(lambda: a.client.require("back").pid().result(patient(20))) as load:
        wait_until(lambda: load.done > 20, "calls go on")
        os.kill(before, signal.SIGKILL)
        wait_until(lambda: [member.pid for member in a.seen(b, "back")] == [waits], "a knows who has the place")
    assert load.errors == []
    assert a.client.pid(f"b:{waits}").call.place().result(patient(20)) == ["b", 0, waits]
    b.wait_for(rf"back.0 \(pid {before}\) was killed by SIGKILL; back.spare \(pid {waits}\) takes its place\.")
    assert spare(b, other_than=waits) not in (before, waits)
    assert (c.pids("back")[0], spare(c)) != (waits, 0)
    assert spare(c) == elsewhere


def test_calls_from_another_machine_do_not_go_to_spares(machines: list[Node]) -> None:
    a, b, c = machines
    idle = {spare(b), spare(c)}
    answered = {call.result(patient(20)) for call in [a.client.require("back").pid() for _ in range(200)]}
    assert answered <= {*b.pids("back"), *c.pids("back")}
    assert not answered & idle
    assert {node for node, *_ in a.client.all("back").call.place().result(patient(20)).values()} == {"b", "c"}


@pytest.mark.skipif(not may_look(), reason="the system does not let this user look into other processes")
def test_a_worker_is_profiled_on_its_own_machine_only(machines: list[Node], tmp_path: Path) -> None:
    _, b, c = machines

    def run(node: Node, target: str) -> subprocess.CompletedProcess[str]:
        words = ["profile", "-a", node.name, target, "--seconds", "1", "--idle", "-o", "flame.svg"]
        return subprocess.run(
            [sys.executable, "-m", "mob", *words], cwd=tmp_path, capture_output=True, text=True, timeout=patient(60)
        )

    (pid,) = b.pids("back")
    for target in ("back.0", "b:back.0", str(pid)):
        done = run(b, target)
        assert done.returncode == 0, done
        assert re.fullmatch(rf"flame\.svg: back\.0 \(pid {pid}\), \d+ samples\n", done.stdout)
    far = run(c, "b:back.0")
    assert far.returncode != 0
    assert far.stderr.startswith("Error: 'b:back.0' is on the machine 'b', and only processes of this machine can be")
    assert "Run `mob profile back.0` on 'b'." in far.stderr.replace("\n", " ")
