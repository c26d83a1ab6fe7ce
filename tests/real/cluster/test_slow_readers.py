"""A reader on another machine that does not keep up: its senders get errors, and nothing grows without limit."""

from __future__ import annotations

import re
from typing import Any

import psutil

import mob
from mob.peer.links.contact import UNSENT_LIMIT
from tests.patience import patient
from tests.real.cluster.machines import Nats, Nodes
from tests.running import wait_until

BACK = """
import time
import mob

def busy(seconds): time.sleep(seconds)
def size(data): return len(data)
"""
ROLES = '.role("back", "./back.py").role("other", "./back.py")'
MEGABYTE = 1024 * 1024
TOLERATED = 64 * MEGABYTE
"""Bytes by which a process may grow that carries or receives a few full windows."""


def test_a_slow_reader_far_away_is_busy_and_costs_no_memory(nats: Nats, nodes: Nodes) -> None:
    a, b = nodes.start(nats, ROLES, placed={"a": {}, "b": {"back": 1, "other": 1}}, back=BACK)
    back, other = a.client.require("back"), a.client.require("other")
    for proxy in (back, other):
        assert proxy.size(bytes(MEGABYTE)).result(patient(10)) == MEGABYTE
    bystanders = [psutil.Process(pid) for pid in (*a.pids("gateway"), *b.pids("gateway"), *b.pids("back"))]
    before = [process.memory_info().rss for process in bystanders]

    blocking = back.busy(3)
    data = bytes(MEGABYTE // 2)  # travels in the bytes of its message
    to_it = back.options(pid=f"b:{b.pids('back')[0]}")  # else they would wait here until it has time
    calls: list[Any] = [to_it.size(data) for _ in range(2 * UNSENT_LIMIT // len(data))]

    def refused() -> list[Any]:
        return [call for call in calls if call.done() and isinstance(call.exception(), mob.Busy)]

    wait_until(refused, "the sender is refused", 2)
    assert not blocking.done()
    assert re.search(r"the send queue of back\.0 \(pid .*\) is full", str(refused()[0].exception()))
    assert other.size(data).result(2) == len(data)  # other workers are not delayed
    grown = [process.memory_info().rss - then for process, then in zip(bystanders, before, strict=True)]
    assert all(bytes_ < TOLERATED for bytes_ in grown), grown
    assert not blocking.done()

    blocking.result(patient(10))
    outcomes = [call.exception(patient(30)) for call in calls]
    assert all(error is None or isinstance(error, mob.Busy) for error in outcomes)
    assert outcomes.count(None) * len(data) >= UNSENT_LIMIT  # what was accepted is served
    assert back.size(data).result(patient(10)) == len(data)
