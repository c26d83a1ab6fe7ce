"""Gateways: which one carries a link, which one speaks for the Kingpin, and what waits until one can."""

from __future__ import annotations

import pytest

from mob.core.decisions import Write
from mob.core.gateways import NEWS_LIMIT, Gateways
from mob.core.membership import UNCONNECTED
from mob.core.roster import Roster
from mob.core.routing import gateway_for
from mob.plan import GATEWAY
from mob.wire import messages as m

HERE, THERE = 7, 9
ONE, TWO, FAR = ((node << m.NODE_SHIFT) + number for node, number in ((HERE, 1), (HERE, 2), (THERE, 1)))
LOCAL, REMOTE = (HERE << m.NODE_SHIFT) + 5, (THERE << m.NODE_SHIFT) + 5
DRAWN = gateway_for(LOCAL, REMOTE, [ONE, TWO])
assert DRAWN is not None
OTHER = ONE if DRAWN == TWO else TWO
NEWS = [m.Changed(version) for version in range(1, 4)]


class World:
    def __init__(self) -> None:
        self.there = {ONE, TWO}
        self.roster = Roster(members=[m.Member(uid, 100, GATEWAY, 0, 1, "ready") for uid in (ONE, TWO, FAR)])
        self.gateways = Gateways(self.roster, HERE, self.there.__contains__)


@pytest.fixture
def world() -> World:
    return World()


AWAY = "NATS is away"
CHOICES = [
    ("both reach NATS", {DRAWN: "", OTHER: ""}, DRAWN),
    ("the drawn one has not reached it yet: it is waited for", {DRAWN: UNCONNECTED, OTHER: ""}, None),
    ("the drawn one has not opened yet", {OTHER: ""}, None),
    ("the drawn one has lost it", {DRAWN: AWAY, OTHER: ""}, OTHER),
    ("both have lost it", {DRAWN: AWAY, OTHER: AWAY}, None),
]


@pytest.mark.parametrize(("reasons", "chosen"), [each[1:] for each in CHOICES], ids=[each[0] for each in CHOICES])
def test_who_carries(world: World, reasons: dict[int, str], chosen: int | None) -> None:
    for uid, why_not in reasons.items():
        world.gateways.handle_opened(uid)
        world.gateways.handle_connected(uid, why_not)
    assert world.gateways.choose(LOCAL, REMOTE) == chosen


def test_one_that_has_died_or_drains_does_not_carry(world: World) -> None:
    for uid in (ONE, TWO):
        world.gateways.handle_connected(uid, "")
    world.there.discard(DRAWN)  # its exit was not reported yet
    assert world.gateways.choose(LOCAL, REMOTE) == OTHER
    world.roster.put(m.Member(OTHER, 100, GATEWAY, 0, 1, "draining"))
    assert world.gateways.choose(LOCAL, REMOTE) is None


def test_a_machine_is_served_by_a_gateway_that_is_ready(world: World) -> None:
    assert world.gateways.is_served(THERE)
    world.roster.put(m.Member(FAR, 100, GATEWAY, 0, 1, "booting"))
    assert not world.gateways.is_served(THERE)


REASONS = [
    ({}, None, None),
    ({ONE: UNCONNECTED}, None, None),
    ({ONE: UNCONNECTED, TWO: AWAY}, None, AWAY),
    ({ONE: AWAY, TWO: ""}, TWO, ""),
    ({ONE: "", TWO: ""}, ONE, ""),
]


@pytest.mark.parametrize(("reasons", "speaker", "why_cut"), REASONS)
def test_who_speaks(world: World, reasons: dict[int, str], speaker: int | None, why_cut: str | None) -> None:
    for uid, why_not in reasons.items():
        world.gateways.handle_connected(uid, why_not)
    assert (world.gateways.speaker, world.gateways.why_cut) == (speaker, why_cut)


def test_they_come_and_go(world: World) -> None:
    gateways = world.gateways
    gateways.handle_opened(ONE)
    assert (ONE in gateways, TWO in gateways, len(gateways)) == (True, False, 1)
    assert gateways.handle_gone(ONE)
    assert not gateways.handle_gone(ONE)
    assert repr(gateways) == "<Gateways 0, 0 letters wait>"


def test_changes_wait_for_a_speaker_and_other_words_do_not(world: World) -> None:
    gateways = world.gateways
    assert [gateways.write(0, words) for words in (NEWS[0], m.Alive(1, 1.0), NEWS[1])] == [[], [], []]
    assert gateways.tell_news() == []
    gateways.handle_connected(ONE, "")
    assert gateways.tell_news() == [Write(0, NEWS[0]), Write(0, NEWS[1])]
    assert gateways.tell_news() == []
    assert gateways.write(THERE, m.WantEverything()) == [Write(THERE, m.WantEverything())]


def test_changes_wait_while_the_speaker_is_dead_and_that_was_not_told_yet(world: World) -> None:
    gateways = world.gateways
    gateways.handle_connected(ONE, "")
    world.there.discard(ONE)
    assert gateways.write(0, NEWS[0]) == gateways.tell_news() == []
    world.there.add(ONE)
    assert gateways.tell_news() == [Write(0, NEWS[0])]


def test_not_all_changes_are_kept(world: World) -> None:
    for version in range(2 * NEWS_LIMIT):
        world.gateways.write(0, m.Changed(version))
    world.gateways.handle_connected(ONE, "")
    assert len(world.gateways.tell_news()) == NEWS_LIMIT


def test_whoever_has_left_says_nothing(world: World) -> None:
    world.gateways.handle_connected(ONE, "")
    world.gateways.leave()
    assert world.gateways.write(0, NEWS[0]) == world.gateways.tell_news() == []


def test_only_a_gateway_that_knows_how_keeps_what_singletons_leave(world: World) -> None:
    gateways = world.gateways
    assert gateways.keeper is None
    gateways.handle_connected(ONE, "", keeps=False)  # it runs an older version of mob
    assert gateways.keeper is None
    gateways.handle_connected(TWO, AWAY)
    assert gateways.keeper is None
    gateways.handle_connected(TWO, "")
    assert (gateways.speaker, gateways.keeper) == (ONE, TWO)
    gateways.handle_gone(TWO)
    assert gateways.keeper is None
