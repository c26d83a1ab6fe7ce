"""Which members get crash reports; one that does not read costs the Kingpin no memory."""

from __future__ import annotations

import pytest

from mob.kingpin.herald import Herald
from mob.kingpin.listeners import UNREAD, CrashListeners
from mob.wire import messages as m
from tests.core.world import started
from tests.kingpin.members import Member, Room

REPORT = b"x" * 100_000


class Audience:
    """Two clients, of which the first listens."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self.said: list[str] = []
        self.first: Member = room.client(50)
        self.second: Member = room.client(51)
        room.connections[50].hears_crashes = True
        herald = Herald(room.reactor, room.connections, started("back").supervisor.crew)
        self.listeners = CrashListeners(room.connections, herald, self.said.append)

    def tell(self) -> None:
        self.listeners.tell(REPORT)
        self.room.reactor.flush()

    def hear(self) -> int:
        """Return how many reports the first client gets when it reads everything."""
        heard = 0
        while True:
            self.room.reactor.poll()
            found = self.first.heard()
            if not found and not self.room.connections[50].link.unsent_bytes:
                return heard
            assert all(each == m.Crashed(REPORT) for each in found)
            heard += len(found)


@pytest.fixture
def audience(room: Room) -> Audience:
    return Audience(room)


def test_those_who_listen_are_told_and_no_others(audience: Audience) -> None:
    audience.tell()
    assert audience.hear() == 1
    assert audience.second.heard() == []
    assert repr(audience.listeners) == "<CrashListeners, 1 of them>"


def test_one_who_does_not_read_misses_reports_which_is_said_once(audience: Audience) -> None:
    for _ in range(100):
        audience.tell()
    unsent = audience.room.connections[50].link.unsent_bytes
    assert UNREAD < unsent < UNREAD + 2 * len(REPORT)
    assert len(audience.said) == 1
    assert "does not read its messages, so its 'crash' handlers miss reports" in audience.said[0]
    assert 40 < audience.hear() < 60
    audience.tell()
    assert audience.hear() == 1
    for _ in range(100):
        audience.tell()
    assert len(audience.said) == 2
