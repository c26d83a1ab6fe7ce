"""Durable messages: stored, handled at least once, and put aside when they cannot be."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

import mob
from tests.docs.blocks import block
from tests.patience import patient
from tests.real.cluster.machines import Nats, Node, Nodes
from tests.running import Apps, wait_until

BACK = """
import os, signal, asyncio
import mob

@mob.on("message")
async def note(obj):
    with open("seen", "a") as seen:
        attempt = mob.delivery().attempt if mob.delivery() else 0
        sender = mob.caller()
        print(obj["n"], attempt, sender.role or "client", sender.node, mob.me().node, file=seen)
    match obj.get("do"):
        case "raise":
            raise ValueError("I do not like it")
        case "raise once" if attempt == 1:
            raise ValueError("not now")
        case "die once" if attempt == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        case "wait":
            while not os.path.exists("go"):
                await asyncio.sleep(0.01)
    with open("done", "a") as done:
        print(obj["n"], len(obj.get("data", b"")), file=done)
"""
FRONT = """
import mob
async def say(n, **more): await mob.any("back").send({"n": n, **more}, durable=True)
def forget(n): mob.any("back").send({"n": n}, durable=True)
"""
ROLES = '.role("back", "./back.py", workers=2).role("front", "./front.py")'


def lines(node: Node, name: str) -> list[str]:
    """Return what the workers have written, on any machine."""
    path = node.directory / name
    return path.read_text().splitlines() if path.exists() else []


def send(node: Node, n: int, **more: Any) -> None:
    """Store a message, from a client."""
    assert node.client.any("back").send({"n": n, **more}, durable=True).result(patient(10)) is None


def wait_done(node: Node, *numbers: int, patience: float = patient(30)) -> None:
    wait_until(
        lambda: {int(line.split()[0]) for line in lines(node, "done")} >= set(numbers),
        f"{numbers} are handled; {lines(node, 'seen')}\n{node.output}",
        patience,
    )


def test_a_message_is_handled_wherever_a_worker_is(own_nats: Nats, nodes: Nodes) -> None:
    a, b = nodes.start(own_nats, ROLES, placed={"a": {"front": 1}, "b": {"back": 2}}, back=BACK, front=FRONT)
    a.client.require("front").say(1).result(patient(10))
    send(a, 2)
    send(a, 3, data=b"x" * 200_000)  # a large buffer
    wait_done(a, 1, 2, 3)
    assert sorted(lines(a, "seen")) == ["1 1 front a b", "2 1 client a b", "3 1 client a b"]
    assert "3 200000" in lines(a, "done")
    assert b.node == "b"


def test_the_example_of_the_manual(own_nats: Nats, nodes: Nodes) -> None:
    text = block("docs/cluster.md", "tests/real/cluster/test_durable.py::test_the_example_of_the_manual")
    noted = text.replace("async def handle(obj):\n", "async def handle(obj):\n    print('handles', obj, flush=True)\n")
    (a,) = nodes.start(own_nats, '.role("back", "./back.py")', ("a",), back=f"import mob\n\n{noted}")
    a.client.require("back").order(4711).result(patient(10))
    a.wait_for(r"handles \{'order': 4711\}")


def test_a_plain_handler_may_run_a_loop_of_its_own(own_nats: Nats, nodes: Nodes) -> None:
    back = """
    import asyncio, mob

    @mob.on("message")
    def handle(obj):
        print("slept", asyncio.run(asyncio.sleep(0, obj["n"])), flush=True)
    """
    (a,) = nodes.start(own_nats, '.role("back", "./back.py")', ("a",), back=back)
    send(a, 7)
    a.wait_for("slept 7")


def test_it_waits_until_there_is_a_worker(own_nats: Nats, nodes: Nodes) -> None:
    (a,) = nodes.start(own_nats, ROLES, ("a",), placed={"a": {"front": 1}}, back=BACK, front=FRONT)
    for n in range(3):
        a.client.require("front").say(n).result(patient(10))
    assert a.stop() == 0
    own_nats.restart()
    b = nodes.launch("b", {"back": 1})
    nodes.wait_together(b)
    wait_done(b, 0, 1, 2)
    assert sorted(lines(b, "seen")) == [f"{n} 1 front a b" for n in range(3)]


def test_one_that_raises_is_tried_again_and_one_that_kills_its_worker_too(own_nats: Nats, nodes: Nodes) -> None:
    (a,) = nodes.start(own_nats, ROLES, ("a",), back=BACK, front=FRONT)
    send(a, 1, do="raise once")
    send(a, 2, do="die once")
    wait_done(a, 1, 2)
    seen = lines(a, "seen")
    assert "1 2 client a a" in seen
    assert "2 2 client a a" in seen
    a.wait_for(r"a durable message to 'back' from a client \(pid \d+ on a\): attempt 1 failed: ValueError: not now")


def test_one_that_always_raises_is_put_aside(own_nats: Nats, nodes: Nodes) -> None:
    quick = "import mob.cluster.durable as d; d.DELAYS = (0.05,)"
    a = start_with(own_nats, nodes, quick)
    send(a, 1, do="raise")
    told = a.wait_for(
        r"a durable message to 'back' from a client .* was put aside after 5 deliveries: "
        r"ValueError: I do not like it\. "
        r"It is number 1 of the stream (mob-\S+-dead): nats stream get \1 1"
    )
    assert len(told) == 1
    assert [line.split()[1] for line in lines(a, "seen")] == ["1", "2", "3", "4", "5"]
    send(a, 2)
    wait_done(a, 2)


def start_with(nats: Nats, nodes: Nodes, setup: str) -> Node:
    """Start a machine whose gateway has other timeouts, from a module that the fork server imports first."""
    (a,) = nodes.start(nats, f'.preload("quick"){ROLES}', ("a",), back=BACK, front=FRONT, quick=setup)
    return a


def test_a_gateway_that_dies_loses_nothing(own_nats: Nats, nodes: Nodes) -> None:
    a = start_with(own_nats, nodes, "import mob.cluster.durable as d; d.ACK_WAIT = 1.0; d.PROGRESS = 0.2")
    send(a, 1, do="wait")
    wait_until(lambda: lines(a, "seen"), "it is being handled")
    (gateway,) = a.workers("gateway")
    os.kill(gateway.pid, signal.SIGKILL)
    send(a, 2)  # stored by its successor
    (a.directory / "go").touch()
    wait_done(a, 1, 2)
    wait_until(lambda: "1 2 client a a" in lines(a, "seen"), "it came again, because it was not acknowledged")


def test_a_handler_may_take_longer_than_the_server_waits(own_nats: Nats, nodes: Nodes) -> None:
    a = start_with(own_nats, nodes, "import mob.cluster.durable as d; d.ACK_WAIT = 0.5; d.PROGRESS = 0.1")
    send(a, 1, do="wait")
    send(a, 2, do="raise once")  # its second attempt comes a second later: by then the first would have come again
    wait_done(a, 2)
    (a.directory / "go").touch()
    wait_done(a, 1, 2)
    assert [line for line in lines(a, "seen") if line.startswith("1 ")] == ["1 1 client a a"]


def test_a_server_that_restarts_loses_nothing(own_nats: Nats, nodes: Nodes) -> None:
    a = start_with(own_nats, nodes, "import mob.cluster.durable as d; d.ACK_WAIT = 1.0; d.PROGRESS = 0.2")
    for n in range(20):
        send(a, n, do="wait")
    own_nats.restart()
    wait_until(lambda: not a.is_cut, "NATS is there again")
    (a.directory / "go").touch()
    wait_done(a, *range(20))
    send(a, 20)
    wait_done(a, 20)


def test_what_cannot_be_durable_is_refused_at_once(nats: Nats, nodes: Nodes) -> None:
    (a,) = nodes.start(nats, ROLES, ("a",), back=BACK, front=FRONT)
    target = a.client.any("back")
    with pytest.raises(mob.BadMessage, match="functions or iterators: it may outlive their process"):
        target.send({"n": print}, durable=True)
    with pytest.raises(mob.BadMessage, match="sockets or open files"), open(os.devnull) as file:
        target.send({"n": file}, durable=True)
    for other in (a.client.all("back"), a.client.pid(a.pids("back")[0])):
        with pytest.raises(ValueError, match="a durable message can go only to any one worker of a role"):
            other.send(1, durable=True)
    with pytest.raises(mob.ArgumentError, match=r"it has 2,000,0\d\d bytes, but the NATS server accepts at most 1,048"):
        target.send({"n": 1, "data": b"x" * 2_000_000}, durable=True).result(patient(10))


def test_without_a_cluster(apps: Apps) -> None:
    """They keep the same promises, in a file of this machine."""
    app = apps.start('.role("back", "./back.py")', back=BACK)
    client = app.wait_ready()
    client.any("back").send({"n": 1, "do": "die once"}, durable=True).result(patient(20))
    done = app.directory / "done"
    wait_until(lambda: done.exists() and done.read_text() == "1 0\n", f"it is handled\n{app.output}", patient(30))
    assert (app.directory / "seen").read_text() == "1 1 client  \n1 2 client  \n"


def test_callers_holds_for_durable_messages(own_nats: Nats, nodes: Nodes) -> None:
    roles = '.role("back", "./back.py", callers=["front"]).role("front", "./front.py")'
    (a,) = nodes.start(own_nats, roles, ("a",), back=BACK, front=FRONT)
    send(a, 1)
    a.wait_for(r"was put aside at once: client \(pid \d+.*\) may not send to 'back': the role 'back' allows")
    a.client.require("front").say(2).result(patient(10))
    wait_done(a, 2)
    assert lines(a, "seen") == ["2 1 front a a"]


def test_a_server_without_jetstream(tmp_path: Any, nodes: Nodes) -> None:
    with Nats(tmp_path / "plain", has_jetstream=False) as plain:
        (a,) = nodes.start(plain, ROLES, ("a",), back=BACK, front=FRONT)
        with pytest.raises(mob.Unavailable, match=r"the NATS server has no JetStream.*`mob nats`"):
            a.client.any("back").send({"n": 1}, durable=True).result(patient(10))
        assert a.client.require("front").forget(1).result(patient(10)) is None
        a.wait_for("a durable message to 'back' failed and its result was never read: .* has no JetStream")
