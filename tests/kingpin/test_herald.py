"""Which members get which changes; a member that does not read gets them later."""

from __future__ import annotations

from typing import Any

import pytest

from mob.core.states import MobsterState
from mob.kingpin.herald import BEHIND, Herald
from mob.wire import messages as m
from tests.core.world import World, started
from tests.kingpin.members import Member, Room


class Town:
    """An app of two workers and a client, which know nothing of each other yet."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self.world: World = started("back*2")
        self.crew = self.world.supervisor.crew
        self.uids = sorted(self.crew.processes)
        self.members = {uid: room.mobster(uid, f"back.{n}")[0] for n, uid in enumerate(self.uids)}
        self.herald = Herald(room.reactor, room.connections, self.crew)

    def guest(self) -> tuple[int, Member]:
        uid = self.crew.next_uid()
        member = self.room.client(uid)
        self.room.connections[uid].greeted = True
        self.world.supervisor.handle_client_joined(uid, 4242)
        self.herald.tell(m.MemberIs(member_of(self, uid)))
        return uid, member

    def heard(self, uid: int) -> list[Any]:
        self.herald.flush_all()
        self.room.reactor.flush()
        return self.members[uid].heard()


def member_of(town: Town, uid: int) -> m.Member:
    member = town.crew.roster.get(uid)
    assert member is not None
    return member


@pytest.fixture
def town(room: Room) -> Town:
    return Town(room)


def changed(town: Town, uid: int, state: MobsterState) -> m.MemberIs:
    member = member_of(town, uid)
    return m.MemberIs(m.Member(member.uid, member.pid, member.role, member.index, member.generation, state))


def fill(town: Town, uid: int) -> None:
    """Send a member so many bytes that it counts as one that does not read."""
    link = town.room.connections[uid].link
    while link.unsent_bytes <= BEHIND:
        link.post(m.Refused("x" * 100_000))
        link.flush()


def read_all(town: Town, uid: int) -> list[Any]:
    """Return what a member receives until nothing is left to send."""
    link, heard = town.room.connections[uid].link, town.members[uid].heard()
    while link.unsent_bytes:
        town.room.reactor.poll()
        heard += town.members[uid].heard()
    link.flush()
    return heard + town.members[uid].heard()


def test_all_hear_what_has_become_of_a_worker(town: Town) -> None:
    first, second = town.uids
    _, guest = town.guest()
    change = changed(town, first, MobsterState.DRAINING)
    town.herald.tell(change)
    assert [town.heard(uid) for uid in (first, second)] == [[change], [change]]
    assert guest.heard() == [change]


def test_only_those_that_have_to_do_with_a_client_hear_of_it(town: Town) -> None:
    first, second = town.uids
    town.herald.tell_of_guests(town.room.connections[second])
    uid, _ = town.guest()
    told = m.MemberIs(member_of(town, uid))
    assert (town.heard(first), town.heard(second)) == ([], [told])
    town.herald.acquaint(first, uid)
    town.herald.acquaint(first, uid)
    assert town.heard(first) == [told]
    third, _ = town.guest()
    town.herald.tell(m.MemberGone(uid, "exited"))
    town.herald.tell(m.MemberGone(third, "exited"))
    assert town.heard(first) == [m.MemberGone(uid, "exited")]
    members = tuple(town.crew.roster)
    assert town.herald.known_to(third, members) == tuple(
        member for member in members if member.role or member.uid == third
    )


def test_one_that_gets_an_answer_has_heard_what_led_to_it(town: Town) -> None:
    first, second = town.uids
    change = changed(town, second, MobsterState.DRAINING)
    town.herald.tell(change)
    town.herald.catch_up(town.room.connections[first])
    town.room.connections[first].link.post(m.Done(1))
    town.room.reactor.flush()
    assert town.members[first].heard()[:2] == [change, m.Done(1)]


def test_one_that_does_not_read_hears_the_latest_when_it_reads_again(town: Town) -> None:
    first, second = town.uids
    fill(town, first)
    for state in (MobsterState.BOOTING, MobsterState.READY, MobsterState.DRAINING):
        town.herald.tell(changed(town, second, state))
        town.heard(second)
    assert "1 do not read" in repr(town.herald)
    heard = read_all(town, first)
    town.herald.handle_drained(first)
    heard += read_all(town, first)
    assert [each for each in heard if not isinstance(each, m.Refused)] == [changed(town, second, MobsterState.DRAINING)]


def test_one_that_does_not_read_hears_from_another_program_what_was_kept_for_it(town: Town) -> None:
    first, second = town.uids
    fill(town, first)
    town.herald.tell(changed(town, second, MobsterState.READY))
    town.heard(second)
    town.herald.hand_over()
    assert "0 do not read" in repr(town.herald)
    heard = [each for each in read_all(town, first) if not isinstance(each, m.Refused)]
    assert heard == [changed(town, second, MobsterState.READY)]


def test_another_program_knows_who_is_linked_to_a_client(town: Town) -> None:
    first, second = town.uids
    uid, _ = town.guest()
    town.crew.introductions.want_member(first, uid, town.crew.roster)
    successor = Herald(town.room.reactor, town.room.connections, town.crew)
    successor.take_over()
    successor.tell(m.MemberGone(uid, "exited"))
    assert (town.heard(first), town.heard(second)) == ([m.MemberGone(uid, "exited")], [])
