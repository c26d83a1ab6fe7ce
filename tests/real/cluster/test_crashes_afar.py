"""Handlers of crashes also receive those on other machines."""

from __future__ import annotations

import os
import queue
import signal

import mob
from tests.patience import PATIENCE
from tests.real.cluster.machines import Nats, Nodes
from tests.running import wait_until

BACK = "def foo(): ..."
WATCH = """
import mob
seen = []
@mob.on("crash")
def note(crash): seen.append([crash.node, crash.role, crash.pid, crash.returncode])
def told(): return seen
"""


def test_a_crash_is_told_on_all_machines_once(nats: Nats, nodes: Nodes) -> None:
    a, b = nodes.start(nats, '.role("back", "./back.py").role("watch", "./watch.py")', back=BACK, watch=WATCH)
    heard: queue.Queue[mob.Crash] = queue.Queue()
    client = a.connect()
    client.on("crash", heard.put)
    client.overview()
    for number, node in enumerate((b, a), 1):
        (victim,) = node.pids("back")
        os.kill(victim, signal.SIGKILL)
        crash = heard.get(timeout=PATIENCE)
        assert (crash.node, crash.role, crash.pid, crash.returncode) == (node.node, "back", victim, -signal.SIGKILL)
        for each in (a, b):
            (watcher,) = each.pids("watch")
            there = each.connect()
            found = wait_until(
                lambda: _told(there, watcher, number),  # noqa: B023  asked at once
                "the worker has heard",
            )
            assert found[-1] == [node.node, "back", victim, -signal.SIGKILL]


def _told(client: mob.Client, pid: int, number: int) -> list[list[object]] | None:
    told = client.pid(pid).call.told().result(PATIENCE)
    assert len(told) <= number
    return told if len(told) == number else None
