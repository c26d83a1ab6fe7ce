"""The state that one program hands over to the next, as bytes."""

from __future__ import annotations

import os
import socket
from typing import Any

import msgspec
import pytest

from mob.core import snapshot
from mob.core.registry import Past
from mob.kingpin.connections import ConnectionState
from mob.kingpin.output.console import ConsoleState
from mob.kingpin.output.followers import FollowerState
from mob.kingpin.output.lines import Origin, OutputChunk
from mob.kingpin.output.pipes import PipeState
from mob.kingpin.processes.fork_client import ForkClientState
from mob.kingpin.processes.ports import ListenerState, PortsState
from mob.kingpin.upgrade import handover_state
from mob.kingpin.upgrade.handover_state import HandoverState
from mob.rim import places
from mob.wire import messages as m
from mob.wire.messages import SocketAddress
from tests.core.world import plan, started


def state() -> HandoverState:
    world = started("back*2", "front")
    chunk = OutputChunk(1.5, Origin("back", 0, 101, False, 36), b"one\n\xff\n", 2)
    return HandoverState(
        snapshot=snapshot.take(world.supervisor),
        past=Past(1000.0, {}, {"back": 2}, {}, [], []),
        connections=[
            ConnectionState(1, 30, 31, "back.0", 0, False, False),
            ConnectionState(9, 32, -1, "client 9 (pid 4242)", 4242, True, True, b"unsent \xff"),
        ],
        console=ConsoleState(
            pipes=[PipeState(1, 101, 33, False, "back", 0, b"begun"), PipeState(1, 101, 34, True, "back", 0, b"")],
            last_lines={1: [b"one"]},
            recent=[chunk],
            dropped=7,
            lost=[(("back.0", True), 3)],
            followers=[FollowerState(9, m.Follow(1, "back", 0, 5, True), 2)],
        ),
        ports=PortsState(
            listeners=[
                ListenerState(SocketAddress(socket.AF_INET, "::1", (80,)), "", 0, 35, [1], True, ["back"], True)
            ],
            spares={"/run/a": "/run/.a.1"},
            paths=["/run/a", "/run/.a.1"],
            passed=[36],
        ),
        fork_client=ForkClientState(100, 37, (38, 39)),
        desk=40,
        board=41,
        manager={"NOTIFY_SOCKET": "/run/notify"},
        ticket=(9, 4),
        plan=msgspec.Raw(msgspec.msgpack.encode(plan("back*2", "front"))),
        command=["python", "main.py"],
        path=["", "/app"],
    )


def read_back(data: bytes) -> HandoverState:
    with places.unnamed_file() as file:
        file.write(data)
        file.flush()
        return handover_state.read(file.fileno())


def side_by_side(left: HandoverState) -> dict[str, Any]:
    """Return the same state as an older version wrote it."""
    fields: dict[str, Any] = msgspec.msgpack.decode(msgspec.msgpack.encode(left))
    console, ports, fork_client = (fields.pop(name) for name in ("console", "ports", "fork_client"))
    pipes = console.pop("pipes")
    fork_server = fork_client.pop("pid")
    ends = fields.pop("connections")
    return {
        **fields,
        **ports,
        **fork_client,
        "ends": ends,
        "pipes": pipes,
        "printed": console,
        "fork_server": fork_server,
        "plan": msgspec.Raw(left.plan),
    }


def test_it_is_the_same_when_it_is_read() -> None:
    left = state()
    will = handover_state.write(left)
    try:
        for _ in range(2):  # a third program reads it again
            found = handover_state.read(will)
            assert found == left
            assert handover_state.plan_of(found) == plan("back*2", "front")
    finally:
        os.close(will)


def test_that_of_an_older_version_is_understood() -> None:
    left = state()
    assert read_back(msgspec.msgpack.encode(side_by_side(left))) == left


def test_every_descriptor_is_named_once() -> None:
    assert sorted(state().descriptors()) == list(range(30, 42))
    left = msgspec.structs.replace(state(), fork_client=ForkClientState(0, -1, (38, 39)))
    assert 37 not in left.descriptors(), "the fork server just exited"


def test_garbage_is_refused() -> None:
    with pytest.raises(msgspec.DecodeError):
        read_back(b"\xc1")
    with pytest.raises(msgspec.ValidationError):
        read_back(msgspec.msgpack.encode({"snapshot": 1}))


def test_descriptors_that_are_closed_do_no_harm() -> None:
    one, other = os.pipe()
    os.close(other)
    handover_state.set_inheritable([one, other, -1], True)
    assert os.get_inheritable(one)
    handover_state.set_inheritable([one, other, -1], False)
    assert not os.get_inheritable(one)
    os.close(one)
