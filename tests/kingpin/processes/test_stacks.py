"""Stacks of a mobster: requested once for all who ask, and answered in any case."""

from __future__ import annotations

from typing import Any

import pytest

from mob.core.decisions import Answer
from mob.kingpin.processes.stacks import StackRequests
from mob.wire import messages as m
from mob.wire.frames import FrameDecoder
from tests.kingpin.members import LIMIT
from tests.kingpin.offices import Office


@pytest.fixture
def stacks(office: Office) -> StackRequests:
    room = office.room
    return StackRequests(
        room.reactor, office.crew, room.connections, office.console, office.fork_client, room.kept.carry_out
    )


def asked(office: Office) -> int:
    """Return how many requests the liveness thread got."""
    office.room.reactor.flush()
    found: list[Any] = []
    try:
        for payload in FrameDecoder(LIMIT).feed(office.liveness.sock.recv(LIMIT)):
            found += m.decode_heed(payload)
    except BlockingIOError:
        pass
    return sum(isinstance(each, m.Inspect) for each in found)


def test_all_who_ask_get_the_one_answer(stacks: StackRequests, office: Office) -> None:
    for number in (4, 5):
        stacks.ask(office.uid, (9, number))
    assert asked(office) == 1
    stacks.handle_inspection(office.uid, "in foo, line 3")
    assert office.room.kept.decisions == [Answer((9, number), text="in foo, line 3") for number in (4, 5)]
    stacks.handle_inspection(office.uid, "in foo, line 4")
    assert len(office.room.kept.decisions) == 2
    stacks.ask(office.uid, (9, 6))
    assert asked(office) == 1


def test_one_that_ends_meanwhile(stacks: StackRequests, office: Office) -> None:
    stacks.ask(office.uid, (9, 4))
    stacks.handle_exited(office.uid)
    assert office.room.kept.decisions == [Answer((9, 4), error="it exited before it could report its stacks.")]


def test_of_one_that_is_not_there(stacks: StackRequests, office: Office) -> None:
    office.room.client(50)
    for uid in (50, 99):
        stacks.ask(uid, (9, 4))
    assert office.room.kept.decisions == [Answer((9, 4), error="that mobster no longer exists.")] * 2


def test_one_that_is_to_be_killed_is_asked_and_nobody_is_answered(stacks: StackRequests, office: Office) -> None:
    stacks.inspect(office.uid)
    assert asked(office) == 1
    stacks.handle_inspection(office.uid, "in foo, line 3")
    assert office.room.kept.decisions == []
