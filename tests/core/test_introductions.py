"""Each member meets the members that it wants, once, in whatever order they come and ask."""

from __future__ import annotations

from itertools import permutations

import pytest

from mob.core.introductions import ALL, Introductions
from mob.core.roster import Roster
from mob.wire.messages import Member

Pairs = list[tuple[int, int]]


class Mob:
    """A roster and its introductions."""

    def __init__(self) -> None:
        self.roster = Roster()
        self.introductions = Introductions()

    def joins(self, uid: int, role: str) -> Pairs:
        member = Member(uid, 100 + uid, role, 0, 1, "launching")
        self.roster.put(member)
        return self.introductions.joined(member) if role else []

    def wants(self, uid: int, role: str) -> Pairs:
        return self.introductions.want_role(uid, role, self.roster)

    def wants_member(self, uid: int, other: int) -> Pairs:
        return self.introductions.want_member(uid, other, self.roster)

    def leaves(self, uid: int) -> None:
        self.roster.remove(uid)
        self.introductions.left(uid)


@pytest.fixture
def mob() -> Mob:
    """Two back workers (1, 2), a front (3) and a client (4)."""
    mob = Mob()
    for uid, role in ((1, "back"), (2, "back"), (3, "front"), (4, "")):
        mob.joins(uid, role)
    return mob


@pytest.mark.parametrize(
    ("uid", "role", "pairs"),
    [
        (3, "back", [(1, 3), (2, 3)]),
        (4, "back", [(1, 4), (2, 4)]),
        (4, "front", [(3, 4)]),
        (1, "back", [(1, 1), (1, 2)]),  # its own role: a link to itself too
        (4, ALL, [(1, 4), (2, 4), (3, 4)]),  # all mobsters, no clients
        (1, ALL, [(1, 1), (1, 2), (1, 3)]),
        (3, "nobody", []),
    ],
)
def test_a_wish_for_a_role(mob: Mob, uid: int, role: str, pairs: Pairs) -> None:
    assert mob.wants(uid, role) == pairs
    assert mob.wants(uid, role) == []


def test_a_pair_is_introduced_once_whoever_asks_and_how(mob: Mob) -> None:
    assert mob.wants(3, "back") == [(1, 3), (2, 3)]
    assert mob.wants(1, "front") == []
    assert mob.wants_member(2, 3) == []
    assert mob.wants(3, ALL) == [(3, 3)]


def test_a_wish_holds_for_those_who_come_later(mob: Mob) -> None:
    mob.wants(4, ALL)
    mob.wants(3, "back")
    mob.wants(1, "front")
    assert mob.joins(5, "back") == [(3, 5), (4, 5)]
    assert mob.joins(6, "front") == [(1, 6), (4, 6)]
    assert mob.joins(7, "side") == [(4, 7)]


@pytest.mark.parametrize(
    ("uid", "other", "pairs"),
    [(1, 2, [(1, 2)]), (2, 1, [(1, 2)]), (4, 1, [(1, 4)]), (2, 2, [(2, 2)]), (1, 99, []), (99, 1, [])],
)
def test_a_wish_for_one_member(mob: Mob, uid: int, other: int, pairs: Pairs) -> None:
    assert mob.wants_member(uid, other) == pairs
    assert mob.wants_member(uid, other) == []


def test_who_has_left_is_forgotten(mob: Mob) -> None:
    mob.wants(3, "back")
    mob.wants(4, ALL)
    mob.leaves(3)
    assert mob.joins(5, "back") == [(4, 5)]
    mob.leaves(1)
    mob.leaves(4)
    assert mob.joins(6, "back") == []
    assert repr(mob.introductions) == "<Introductions 0 pairs, wishes for nothing>"


def test_a_successor_is_introduced_like_its_predecessor(mob: Mob) -> None:
    mob.wants(3, "back")
    mob.leaves(1)
    assert mob.joins(5, "back") == [(3, 5)]


def test_it_can_be_looked_at(mob: Mob) -> None:
    mob.wants(3, "back")
    mob.wants(4, ALL)
    assert repr(mob.introductions) == "<Introductions 5 pairs, wishes for back, *>"


ORDERS = [
    order
    for order in permutations(["1 joins", "1 wants", "2 joins", "2 wants"])
    if order.index("1 joins") < order.index("1 wants") and order.index("2 joins") < order.index("2 wants")
]


@pytest.mark.parametrize("order", ORDERS, ids=", ".join)
def test_two_that_want_each_other_meet_once_in_any_order(order: tuple[str, ...]) -> None:
    mob = Mob()
    happens = {
        "1 joins": lambda: mob.joins(1, "a"),
        "1 wants": lambda: mob.wants(1, "b"),
        "2 joins": lambda: mob.joins(2, "b"),
        "2 wants": lambda: mob.wants(2, "a"),
    }
    assert [pair for event in order for pair in happens[event]()] == [(1, 2)]


def test_a_successor_takes_up_what_was_written_down(mob: Mob) -> None:
    assert repr(mob.introductions) == "<Introductions 0 pairs, wishes for nothing>"
    mob.joins(1, "front")
    mob.joins(2, "back")
    mob.wants(1, "back")
    successor = Mob()
    successor.roster = mob.roster
    successor.introductions.learn(*mob.introductions.known())
    assert repr(successor.introductions) == "<Introductions 1 pairs, wishes for back>"
    assert successor.wants(1, "back") == []
    assert successor.joins(3, "back") == [(1, 3)]


def test_who_wants_and_who_is_linked(mob: Mob) -> None:
    introductions = mob.introductions
    assert not introductions.has_wishes(3)
    introductions.want_clients(3)
    assert introductions.wanting_clients() == {3}
    assert introductions.has_wishes(3)
    mob.wants(4, "front")
    assert introductions.partners(3) == {4}
    assert introductions.partners(1) == set()
