"""Deaths of workers, gateways and whole machines, as the other machines see them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import mob
from mob.core.membership import NODE_TIMEOUT
from tests.patience import patient
from tests.real.cluster.machines import Nats, Node, Nodes, nodes_in, wait_gone
from tests.real.loads import Load
from tests.running import is_alive, wait_until

BACK = """
import asyncio, os, time
import mob

@mob.export
def pid(): return os.getpid()
@mob.export
def where(): return mob.me().node
@mob.export
async def hold(seconds=60): await asyncio.sleep(seconds)
@mob.export
def die(): os.kill(os.getpid(), 9)

@mob.export(idempotent=True)
def tries(path):
    with open(path, "a") as file:
        file.write("x")
    if os.path.getsize(path) < 2:
        os.kill(os.getpid(), 9)
    return os.path.getsize(path)

@mob.export(kill_after=1)
def overruns(): time.sleep(1000)
@mob.export(kill_after=1, idempotent=True)
def overruns_again(path):
    with open(path, "a") as file:
        file.write("x")
    time.sleep(1000)

@mob.export
def rows():
    i = 0
    while True:
        yield i
        i += 1
"""
FRONT = """
import mob

back = mob.require("back")
events = []

@mob.on("join")
def joined(member): events.append(("join", member.role))

@mob.on("leave")
def left(member): events.append(("leave", member.role))

def seen(): return events

async def ask(): return await back.pid()
async def ask_too_much(): return await back.overruns()
async def ask_slowly(): return await back.hold()
async def ask_all(): return await mob.all("back").call.where()
"""
ROLES = '.role("back", "./back.py", workers=2).role("front", "./front.py")'
PLACED = {"a": {"front": 1}, "b": {"back": 2}}


def start(nats: Nats, nodes: Nodes, **options: Any) -> list[Node]:
    """Start the role "front" on machine a, "back" on b."""
    return nodes.start(nats, ROLES, placed=PLACED, back=BACK, front=FRONT, **options)


@pytest.fixture(scope="module")
def both(nats: Nats, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Node]]:
    """Two machines that stay while their workers die."""
    with nodes_in(tmp_path_factory.mktemp("both")) as nodes:
        yield start(nats, nodes)


def gateways(node: Node) -> list[int]:
    """Return the pids of a machine's gateways."""
    return node.pids("gateway")


def hang_on(node: Node) -> list[mob.Call[None]]:
    """Make a call that each worker of the role serves."""
    held = [node.client.pid(f"b:{member.pid}").start_call("hold") for member in node.ready(node.client, "back")]
    node.client.all("back").call.where().result(patient(10))  # behind them, so they have begun
    return held


def _without(members: list[Any], pid: int) -> list[Any]:
    """Return the members, once there are two without the one that died."""
    return members if len(members) == 2 and pid not in [member.pid for member in members] else []


# ---------------------------------------------------------------------------------------------------- one worker


def test_the_death_of_a_far_worker_is_known_at_once(both: list[Node]) -> None:
    a, b = both
    held = hang_on(a)
    victim = b.pids("back")[0]
    begun = time.monotonic()
    os.kill(victim, signal.SIGKILL)
    error = next(call for call in held if str(victim) in repr(call.contact)).exception(patient(10))
    assert isinstance(error, mob.Lost)
    assert error.executed == "maybe"
    assert "was killed by SIGKILL" in str(error)
    assert time.monotonic() - begun < patient(5)
    seen = wait_until(lambda: _without(a.seen(b, "back"), victim), "a knows the successor", patient(10))
    assert len(seen) == 2
    assert a.client.require("back").where().result(patient(10)) == "b"


def test_an_idempotent_call_is_repeated_over_there(both: list[Node], tmp_path: Path) -> None:
    assert both[0].client.require("back").tries(str(tmp_path / "tries")).result(patient(20)) == 2


def test_a_call_that_is_killed_over_there_ends_as_it_would_here(both: list[Node], tmp_path: Path) -> None:
    a, _ = both
    held = hang_on(a)
    path = tmp_path / "begun"
    proxy = a.client.require("back")
    text = r"ran for more than 1 s \(kill_after=1\), so back\.\d \(pid \d+ on b\) was killed. It is not repeated."
    for call in (proxy.overruns(), proxy.overruns_again(str(path))):
        with pytest.raises(mob.CallTimeout, match=text) as failed:
            call.result(patient(20))
        assert failed.value.executed == "yes"
    assert path.read_text() == "x"
    lost = [call.exception(patient(20)) for call in held if call.done()]
    assert lost, "a call that had begun with it is lost"
    for error in lost:
        assert isinstance(error, mob.Lost)
        assert "was killed because back.overruns" in str(error)
        assert error.executed == "maybe"
    for call in held:
        call.cancel()
    with pytest.raises(mob.CallTimeout, match=text):
        a.client.require("front").ask_too_much().result(patient(20))


def test_who_comes_and_goes_elsewhere_is_told(both: list[Node]) -> None:
    a, b = both
    front = a.client.require("front")
    wait_until(lambda: len(a.seen(b, "back")) == 2, "both are there")
    before = len(front.seen().result(patient(10)))
    os.kill(b.pids("back")[0], signal.SIGKILL)
    wait_until(
        lambda: front.seen().result(patient(10))[before:] == [["leave", "back"], ["join", "back"]],
        "both know it",
        patient(10),
    )


def test_a_reload_over_there_loses_no_call(both: list[Node]) -> None:
    a, b = both
    back, front = a.client.require("back"), a.client.require("front")
    with Load(lambda: back.pid().result(patient(20)), lambda: front.ask().result(patient(20))) as load:
        for _ in range(3):
            old, before = set(b.pids("back")), load.done
            b.client.reload("back", timeout=patient(30))
            wait_until(lambda before=before: load.done > before + 50, "calls go on", patient(20))
            assert not old & set(b.pids("back"))
    assert load.errors == []


@pytest.mark.parametrize("has_link", [True, False])
def test_calls_on_their_way_to_a_worker_that_leaves_go_to_its_successor(
    nats: Nats, nodes: Nodes, has_link: bool
) -> None:
    a, b = start(nats, nodes)
    old = b.pids("back")
    for pid in old if has_link else ():
        assert a.client.pid(f"b:{pid}").call.pid().result(patient(20)) == pid
    nats.freeze()
    try:
        calls = [a.client.require("back").pid() for _ in range(20)]
        b.client.restart("back")
        wait_until(lambda: not any(map(is_alive, old)), "the first ones have ended")
    finally:
        nats.thaw()
    errors = [call.exception(patient(30)) for call in calls]
    output = a.output + b.output
    is_cut = "was silent" in output or "was lost" in output  # a busy machine may be so slow that they miss one another
    assert is_cut or not any(errors)
    assert is_cut or not {call.result() for call in calls} & set(old)


# ------------------------------------------------------------------------------------------------------- gateways


@pytest.mark.parametrize("count", [1, 2])
def test_the_death_of_all_gateways_of_a_machine_ends_the_calls_they_carry(nats: Nats, nodes: Nodes, count: int) -> None:
    a, b = start(nats, nodes, cluster=f"gateways={count}")
    for node in (a, b):
        held = hang_on(a)
        begun = time.monotonic()
        for pid in gateways(node):
            os.kill(pid, signal.SIGKILL)
        for call in held:
            error = call.exception(patient(10))
            assert isinstance(error, mob.Lost)
            assert error.executed == "maybe"
        assert time.monotonic() - begun < NODE_TIMEOUT + patient(5)  # the successor reports what ends over there
        assert a.client.require("back").where().result(patient(20)) == "b"  # waits for its successor
        assert a.client.require("front").ask().result(patient(20)) in b.pids("back")
        assert {"a", "b"} <= a.nodes
        nodes.wait_together(a, b)


def test_calls_go_on_while_gateways_die(nats: Nats, nodes: Nodes) -> None:
    a, b = start(nats, nodes, cluster="gateways=2")
    back, front = a.client.require("back"), a.client.require("front")
    with Load(lambda: back.pid().result(patient(20)), lambda: front.ask().result(patient(20))) as load:
        for node in (a, b, a, b):
            before = load.done
            victim = gateways(node)[0]
            os.kill(victim, signal.SIGKILL)
            wait_until(lambda: len(gateways(node)) == 2 and victim not in gateways(node), "a successor", patient(20))  # noqa: B023
            wait_until(lambda: load.done > before + 20, "calls go on", patient(20))  # noqa: B023
    assert all(isinstance(error, mob.Lost) for _, error in load.errors), load.errors
    assert len(load.errors) <= 8  # two callers, four deaths: no call is lost that was not under way
    assert load.longest < 5


def test_two_that_want_each_other_at_the_same_moment_meet(nats: Nats, nodes: Nodes) -> None:
    both = """
        import os
        import mob

        other = mob.require("both")

        def pid(): return os.getpid()
        async def ask(): return {str(key): value for key, value in (await mob.all("both").call.pid()).items()}
        """
    roles = '.role("both", "./both.py", workers=4)'
    a, b = nodes.start(nats, roles, cluster="gateways=3", both=both)
    asked = [node.client.all("both").call.ask() for node in (a, b)]
    for call in asked:
        found = call.result(patient(20))
        assert len(found) == 8
        assert all(len(each) == 8 for each in found.values()), found


def test_no_descriptor_is_left_of_links_that_come_and_go(both: list[Node]) -> None:
    a, b = both

    def call() -> None:
        with mob.connect(a.name) as client:
            assert client.require("back").where().result(patient(10)) == "b"

    def files() -> list[int]:
        return [len(os.listdir(f"/proc/{pid}/fd")) for pid in (*gateways(a), *gateways(b), *b.pids("back"))]

    for _ in range(5):
        call()
    before = files()
    for _ in range(200):
        call()
    wait_until(lambda: all(now <= then + 2 for now, then in zip(files(), before, strict=True)), f"{before}: {files()}")
    roster = a.client._peer.context.roster
    wait_until(lambda: sum(not member.role for member in roster) <= 3, "no client is left in the roster", patient(10))


# --------------------------------------------------------------------------------------------------- whole machines


def test_a_machine_that_is_killed_fails_its_calls_within_three_seconds(nats: Nats, nodes: Nodes) -> None:
    a, b = start(nats, nodes)
    held = hang_on(a)
    front = a.client.require("front")
    held.append(front.ask_slowly())
    # Whichever of them it asks slowly has begun.
    assert list(front.ask_all().result(patient(10)).values()) == ["b", "b"]
    stream = iter(a.client.require("back").rows())
    next(stream)
    b.processes()
    begun = time.monotonic()
    b.kill()
    for call in held:
        error = call.exception(patient(10))
        assert isinstance(error, mob.Lost | mob.RemoteError), error
    assert all(isinstance(call.exception(), mob.Lost) for call in held[:2])
    with pytest.raises(mob.Lost):
        for _ in stream:
            pass
    assert time.monotonic() - begun < NODE_TIMEOUT + patient(5)
    wait_gone(a, "b", patient(5))
    assert a.client.require("front").seen().result(patient(10))
    assert not a.seen(b, "back")
    come_again(nodes, a)


def come_again(nodes: Nodes, a: Node) -> None:
    """Start another machine of the same name; calls wait for it."""
    b = nodes.launch("b", PLACED["b"])
    assert a.client.require("back").options(wait=20).where().result(patient(30)) == "b"
    nodes.wait_together(a, b)


def test_a_machine_that_stands_still_is_gone_after_three_seconds_comes_back_and_stops_in_order(
    nats: Nats, nodes: Nodes
) -> None:
    a, b = start(nats, nodes)
    held = hang_on(a)
    stopped = [pid for pid in b.processes() if is_alive(pid)]
    begun = time.monotonic()
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    for call in held:
        error = call.exception(patient(10))
        assert isinstance(error, mob.Lost)
        assert error.executed == "maybe"
    assert 1 < time.monotonic() - begun < NODE_TIMEOUT + patient(5)
    wait_gone(a, "b", patient(5))
    for pid in stopped:
        os.kill(pid, signal.SIGCONT)
    assert a.client.require("back").options(wait=20).where().result(patient(30)) == "b"
    nodes.wait_together(a, b)
    held = [a.client.require("back").hold(0.5) for _ in range(2)]
    a.client.all("back").call.where().result(patient(10))
    assert b.stop() == 0
    assert [call.result(patient(10)) for call in held] == [None, None]
    wait_gone(a, "b", patient(2))  # it said so, so it is not waited for three seconds
    with pytest.raises(mob.Unavailable):
        a.client.require("back").options(wait=0.2).where().result(patient(10))

    come_again(nodes, a)
