"""Durable calls in a cluster: stored in JetStream, run by workers of any machine."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections import Counter
from contextlib import suppress

import msgspec
import nats as nats_py
import pytest

import mob
from mob import beside
from mob.cluster.names import NatsNames
from mob.wire import messages as m
from mob.wire.messages import node_of
from tests.patience import patient
from tests.real.cluster.machines import Nats, Node, Nodes
from tests.running import mob_command, wait_until

BACK = """
import asyncio
import mob

def double(n): return 2 * n

def fail(n): raise ValueError(f"no {n}")

def large(size): return b"x" * size

def note(n):
    with open("book", "a") as book:
        book.write(f"{n}\\n")
    return n

async def slowly(n):
    await asyncio.sleep(0.02)
    return note(n)
"""


def with_keeper_first(a: Node, b: Node) -> tuple[Node, Node]:
    """Have the keeper started; return the machine where it runs, and the other one, which knows it."""
    a.client.require("back").options(durable=True).note(-1).result(timeout=patient(60))
    (keeper,) = a.ready(a.client, "queue")
    there, other = (a, b) if a.number == node_of(keeper.uid) else (b, a)
    wait_until(lambda: "queue" in other.client.roles(), "the other machine knows the role")
    return there, other


def test_a_job_of_one_machine_runs_on_another(own_nats: Nats, nodes: Nodes) -> None:
    a, b = nodes.start(own_nats, '.role("back", "./back.py")', placed={"a": {"back": 0}, "b": {"back": 1}}, back=BACK)
    job = a.client.require("back").options(durable=True).double(4)
    id = job.stored.result(patient(60))
    assert job.result(timeout=patient(60)) == 8
    assert b.client.job(id).result(timeout=patient(60)) == 8
    assert b.client.job(id).status().result(patient(30)) == "done"


def test_what_an_export_raises_and_dead_jobs(own_nats: Nats, nodes: Nodes) -> None:
    a, b = nodes.start(own_nats, '.role("back", "./back.py")', back=BACK)
    back = a.client.require("back").options(durable=True)
    job = back.options(retries=1, backoff=0.01).fail(3)
    with pytest.raises(ValueError, match="no 3"):
        job.result(timeout=patient(60))
    assert b.client.job(job.id).status().result(patient(30)) == "dead"
    later = back.options(delay=3600, key="k").double(1)
    assert back.options(delay=1, key="k").double(2).stored.result(patient(30)) == later.stored.result(patient(30))
    keeper = a.ready(a.client, "queue")[0]
    os.kill(keeper.pid, signal.SIGKILL)  # everything known comes from the stream from now on
    wait_until(lambda: [m for m in a.ready(a.client, "queue") if m.uid != keeper.uid], "another keeper is there")
    assert b.client.job(job.id).status().result(patient(30)) == "dead"
    assert later.status().result(patient(30)) == "later"
    with pytest.raises(ValueError, match="no 3"):
        b.client.job(job.id).result(timeout=patient(30))
    assert later.drop().result(patient(30))
    assert later.status().result(patient(30)) == "dropped"
    with pytest.raises(mob.RemoteError, match="max_payload"):
        back.large(2 * 1024 * 1024).result(timeout=patient(60))
    with pytest.raises(mob.ArgumentError, match="max_payload"):
        back.double(b"x" * 2 * 1024 * 1024).stored.result(patient(60))


def test_nothing_stored_is_lost_whatever_is_killed(own_nats: Nats, nodes: Nodes) -> None:
    _, b = nodes.start(own_nats, '.role("back", "./back.py", workers=2)', back=BACK)
    back = b.client.require("back").options(durable=True)
    stored = [back.note(n).stored for n in range(50)]
    for each in stored:
        each.result(patient(60))
    for round in range(4):
        pids = [m.pid for m in b.ready(b.client, "queue")] if round % 2 else b.pids("back")[:1]
        new = [back.note(n).stored for n in range(50 + 50 * round, 100 + 50 * round)]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        for each in new:
            each.result(patient(60))
    wait_until(lambda: _noted(nodes) >= set(range(250)), "all jobs are done")


def test_the_machine_with_the_keeper_is_lost(own_nats: Nats, nodes: Nodes) -> None:
    a, b = nodes.start(own_nats, '.role("back", "./back.py")', ("a", "b"), back=BACK)
    lost, kept = with_keeper_first(a, b)
    back = kept.client.require("back").options(durable=True)
    soon = [back.options(delay=2).note(n).stored for n in range(100)]
    ids = [each.result(patient(60)) for each in soon]
    for pid in [lost.process.pid, *lost.processes()]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    wait_until(lambda: _noted(nodes) >= set(range(100)), "all jobs are done", patient(60))
    assert [kept.client.job(id).result(timeout=patient(60)) for id in ids] == list(range(100))


def test_a_machine_that_stood_still_runs_nothing_again_when_it_goes_on(own_nats: Nats, nodes: Nodes) -> None:
    a, b = nodes.start(own_nats, '.role("back", "./back.py", workers=2)', ("a", "b"), back=BACK)
    still, other = with_keeper_first(a, b)
    back = other.client.require("back").options(durable=True)
    for each in [back.slowly(n).stored for n in range(600)]:
        each.result(patient(60))
    pids = [pid for pid in still.processes() if pid != still.process.pid]
    for pid in (still.process.pid, *pids):
        os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: other.pids("queue"), "the other machine keeps the jobs", patient(60))
    after = [back.slowly(n) for n in range(1000, 1100)]
    assert [job.result(timeout=patient(60)) for job in after] == list(range(1000, 1100))
    for pid in (*pids, still.process.pid):  # the keeper first: it may still consider itself the keeper
        with suppress(ProcessLookupError):  # a process may have ended in the meantime
            os.kill(pid, signal.SIGCONT)
    more = [back.slowly(n) for n in range(2000, 2400)]
    wait_until(lambda: not still.pids("queue"), "the one before has ended", patient(60))
    assert [job.result(timeout=patient(60)) for job in more] == list(range(2000, 2400))
    wait_until(lambda: _noted(nodes) >= set(range(600)), "nothing is lost", patient(60))
    times = Counter(map(int, (nodes.directory / "book").read_text().split()))
    again = {n: count for n, count in times.items() if count > 1}
    assert all(count == 2 and n < 600 for n, count in again.items()), again  # no more than those that ran then
    assert len(again) <= 4 * 4, again


def test_what_is_seen_and_done_from_each_machine(own_nats: Nats, nodes: Nodes) -> None:
    a, b = nodes.start(own_nats, '.role("back", "./back.py")', ("a", "b"), back=BACK)
    back = b.client.require("back").options(durable=True)
    dead = [back.options(retries=0).fail(n) for n in range(3)]
    for job in dead:
        assert isinstance(job.outcome.exception(patient(60)), ValueError)
    late = back.options(delay=3600, key="k").note(1)
    late.stored.result(patient(60))
    (keeper,) = a.ready(a.client, "queue")
    there, other = (a, b) if a.number == node_of(keeper.uid) else (b, a)
    wait_until(lambda: other.seen(there, "queue"), "each machine knows the keeper")

    def listed(node: Node) -> list[str]:
        rows = json.loads(_ran(nodes, node, "jobs", "--json"))
        return sorted(f"{row['job']} {row['state']} {row['error']}" for row in rows)

    rows = sorted(["back.note later ", *(f"back.fail dead ValueError: no {n}" for n in range(3))])
    for node in (there, other):
        assert listed(node) == rows
        assert "back: 1 later, 3 dead. 0 done since the queue started." in _ran(nodes, node, "jobs")
    assert _ran(nodes, other, "jobs", "retry", dead[0].id) == "1 job tried again.\n"
    wait_until(lambda: dead[0].status().result(patient(30)) == "dead", "it has failed again")
    assert _ran(nodes, other, "jobs", "drop", dead[1].id) == "1 job dropped.\n"
    assert _ran(nodes, other, "jobs", "retry", late.id) == "1 job tried again.\n"
    assert late.result(timeout=patient(60)) == 1
    for node in (there, other):
        assert len(listed(node)) == 2
    wait_until(lambda: "2 dead" in _ran(nodes, there, "ps"), "mob ps says so")
    wait_until(lambda: beside.jobs(there.client.metrics()) == {"back": {"dead": 2}} or None, "the metrics say so")
    assert beside.jobs(other.client.metrics()) == {}  # they are those of the machine with the keeper
    attempts = there.client.metrics().value
    assert attempts("queue_attempts", of="back", outcome="dead") == 4
    assert attempts("queue_attempts", of="back", outcome="done") == 1


def _ran(nodes: Nodes, node: Node, *arguments: str) -> str:
    """Return the output of a command on a machine."""
    ran = mob_command(nodes.directory, *arguments, "-a", node.name)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_a_machine_that_is_stopped_gives_the_lease_of_the_keeper_back(own_nats: Nats, nodes: Nodes) -> None:
    """Another machine gets the jobs at once, without waiting for the end of the lease."""
    a, b = nodes.start(own_nats, '.role("back", "./back.py")', ("a", "b"), back=BACK)
    stopped, kept = with_keeper_first(a, b)
    number = stopped.number
    assert stopped.stop() == 0
    assert asyncio.run(_holder(own_nats.url, nodes.app)) != number
    assert kept.client.require("back").options(durable=True).double(4).result(timeout=patient(60)) == 8


async def _holder(url: str, app: str) -> int:
    """Return the node that has the lease of the keeper."""
    client = await nats_py.connect(url)
    bucket = await client.jetstream().key_value(NatsNames(app).bucket)
    entry = await bucket.get("queue")
    await client.close()
    return msgspec.msgpack.decode(entry.value or b"", type=m.LeaseRecord).node


def test_without_nats_new_jobs_are_refused_and_it_goes_on_afterwards(own_nats: Nats, nodes: Nodes) -> None:
    (a,) = nodes.start(own_nats, '.role("back", "./back.py")', ("a",), back=BACK)
    back = a.client.require("back").options(durable=True)
    waits = back.options(delay=5).note(1)
    waits.stored.result(patient(60))
    own_nats.kill()
    with pytest.raises((mob.QueueFailed, mob.Unavailable)) as caught:
        back.note(2).stored.result(patient(90))
    assert "JetStream" in str(caught.value) or "not ready" in str(caught.value)
    own_nats.start()
    assert waits.result(timeout=patient(90)) == 1
    assert back.note(3).result(timeout=patient(60)) == 3


def test_an_upgrade_goes_on_with_its_jobs(own_nats: Nats, nodes: Nodes) -> None:
    (a,) = nodes.start(own_nats, '.role("back", "./back.py")', ("a",), back=BACK)
    back = a.client.require("back").options(durable=True)
    job = back.options(delay=3).note(1)
    job.stored.result(patient(60))
    a.client.upgrade(patient(60))
    assert job.result(timeout=patient(60)) == 1
    assert back.note(2).result(timeout=patient(60)) == 2


def _noted(nodes: Nodes) -> set[int]:
    book = nodes.directory / "book"
    return {int(line) for line in book.read_text().split()} if book.exists() else set()
