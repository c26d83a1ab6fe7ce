"""The resources of a launch; a launch that fails leaves nothing behind."""

from __future__ import annotations

import os

import pytest

from mob.core.decisions import Launch
from mob.kingpin.processes.launches import Launches
from tests.kingpin.offices import Office
from tests.limits import free_descriptors


@pytest.fixture
def launches(office: Office) -> Launches:
    room = office.room
    return Launches(office.plan, office.crew, "/", room.connections, office.console, office.board, office.fork_client)


def test_it_is_ordered_from_the_next_fork_server_while_there_is_none(launches: Launches, office: Office) -> None:
    office.board.put(77, 5, 5)
    launches.launch(Launch(77, "back", 1, 3), until=None)
    assert office.fork_client.held == [77]
    assert office.room.connections[77].link.name == "back.1"
    assert office.board.load(77) == 0, "an earlier mobster had the same entry"


@pytest.mark.parametrize("free", [0, 2, 5])
def test_without_descriptors_nothing_is_left_behind(launches: Launches, office: Office, free: int) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with free_descriptors(free), pytest.raises(OSError, match="Too many open files"):
        launches.launch(Launch(77, "back", 1, 3), until=None)
    assert len(os.listdir("/proc/self/fd")) == before
    assert 77 not in office.room.connections
    assert office.fork_client.held == []
