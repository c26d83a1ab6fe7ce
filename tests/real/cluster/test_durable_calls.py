"""Durable calls in a cluster: refused, in the line that makes one; messages go by NATS as ever."""

from __future__ import annotations

import pytest

import mob
from tests.patience import patient
from tests.real.cluster.machines import Nats, Nodes

BACK = """
import mob

def double(n): return 2 * n

def store(n):
    try:
        mob.require("back").options(durable=True).double(n)
    except mob.Unavailable as error:
        return str(error)

@mob.on("message")
def hear(obj): print("heard", obj, flush=True)
"""


def test_a_durable_call_is_refused_and_says_what_to_do(own_nats: Nats, nodes: Nodes) -> None:
    (a,) = nodes.start(own_nats, '.role("back", "./back.py")', ("a",), back=BACK)
    back = a.client.require("back")
    with pytest.raises(mob.Unavailable, match=r"this app runs in a cluster\. Durable messages work there") as caught:
        back.options(durable=True).double(1)
    assert caught.value.executed == "no"
    assert back.store(1).result(patient(10)) == str(caught.value)
    assert back.double(1).result(patient(10)) == 2
    a.client.any("back").send("still", durable=True).result(patient(20))
    a.wait_for("heard still")
    assert "queue" not in a.client.roles()
