from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kingpin.members import Room, reactor_by_hand
from tests.kingpin.offices import Office


@pytest.fixture
def room() -> Iterator[Room]:
    with reactor_by_hand() as reactor:
        room = Room(reactor)
        yield room
        room.close()


@pytest.fixture
def office(room: Room) -> Iterator[Office]:
    office = Office(room)
    yield office
    office.close()
