"""The roster answers questions about its members."""

from __future__ import annotations

import pytest

from mob.core.roster import Roster, is_ready
from mob.errors import UnknownRole
from mob.wire.messages import ExportInfo, Member, Node, RoleInfo, node_of


def member(uid: int, role: str, state: str = "ready", index: int = 0, pid: int = 0) -> Member:
    return Member(uid, pid or 100 + uid, role, index, 1, state)


BACK_0, BACK_1, FRONT = member(1, "back"), member(2, "back", "draining", 1), member(3, "front")
BOOTING, CLIENT = member(4, "front", "booting", 1), member(5, "")
EVERYBODY = (BACK_0, BACK_1, FRONT, BOOTING, CLIENT)
FOO = RoleInfo("back", (ExportInfo("foo", "()", ""),), True)


@pytest.fixture
def roster() -> Roster:
    return Roster([RoleInfo("back"), RoleInfo("front")], EVERYBODY)


def test_it_begins_with_what_the_welcome_says(roster: Roster) -> None:
    assert list(roster) == list(EVERYBODY)
    assert len(roster) == 5
    assert set(roster.roles) == {"back", "front"}
    assert repr(roster) == "<Roster of 5 members, roles back, front>"
    assert repr(Roster()) == "<Roster of 0 members, roles none>"


def test_it_may_change_while_somebody_goes_through_it(roster: Roster) -> None:
    """A client's thread asks for the members while its loop's thread hears of others."""
    seen = []
    for each in roster:
        seen.append(each)
        roster.put(member(100 + each.uid, "back"))
        roster.remove(each.uid)
    assert seen == list(EVERYBODY)


@pytest.mark.parametrize(
    ("role", "ready", "of_role"),
    [
        ("back", [BACK_0], [BACK_0, BACK_1]),
        ("front", [FRONT], [FRONT, BOOTING]),
        ("nobody", [], []),
    ],
)
def test_the_workers_of_a_role(roster: Roster, role: str, ready: list[Member], of_role: list[Member]) -> None:
    assert roster.ready(role) == ready
    assert roster.of_role(role) == of_role


def test_clients_are_members_but_no_mobsters(roster: Roster) -> None:
    assert CLIENT.uid in roster
    assert roster.mobsters() == [BACK_0, BACK_1, FRONT, BOOTING]
    assert roster.ready() == [BACK_0, FRONT]


def test_members_change_and_leave(roster: Roster) -> None:
    drained = member(3, "front", "draining")
    roster.put(drained)
    assert roster.get(3) == drained
    assert len(roster) == 5
    assert roster.remove(3) == drained
    assert roster.remove(3) is None
    assert roster.get(3) is None
    assert 3 not in roster


def test_what_is_known_of_a_role_changes(roster: Roster) -> None:
    assert roster.check_role("back") == RoleInfo("back")
    roster.put_role(FOO)
    assert roster.check_role("back") is FOO


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("bakc", "this app has no role 'bakc'. Did you mean 'back'?"),
        ("zzz", "this app has no role 'zzz'. There are: 'back', 'front'."),
    ],
)
def test_an_unknown_role_is_told_with_the_nearest(roster: Roster, name: str, text: str) -> None:
    with pytest.raises(UnknownRole) as caught:
        roster.check_role(name)
    assert str(caught.value) == text


def test_a_roster_without_roles_says_so() -> None:
    with pytest.raises(UnknownRole, match=r"^this app has no role 'back'\. There are none\.$"):
        Roster().check_role("back")


GIVEN_UP, ENDED = RoleInfo("back", given_up=True), RoleInfo("back", ended="it has ended")


@pytest.mark.parametrize(
    ("info", "nodes", "over"),
    [
        (None, (), False),
        (RoleInfo("back"), (), False),
        (GIVEN_UP, (), True),
        (ENDED, (), True),
        (ENDED, (Node(1, "a"), Node(2, "b")), True),
        (ENDED, (Node(1, "a", (("back", 2),)), Node(2, "b")), True),
        (ENDED, (Node(1, "a"), Node(2, "b", (("back", 2),))), False),
    ],
)
def test_a_role_is_over_when_no_machine_will_run_it(info: RoleInfo | None, nodes: tuple[Node, ...], over: bool) -> None:
    assert Roster([] if info is None else [info], (), nodes).is_over("back") is over


@pytest.mark.parametrize(
    ("cut", "workers", "out_of_reach"), [("", 0, False), ("no NATS", 0, True), ("no NATS", 1, False)]
)
def test_a_role_of_other_machines_is_out_of_reach_while_this_one_is_cut_off(
    cut: str, workers: int, out_of_reach: bool
) -> None:
    roster = Roster([RoleInfo("back", workers=workers)], (), (), cut)
    assert roster.is_out_of_reach("back") is out_of_reach
    assert not roster.is_out_of_reach("unknown")


def test_a_member_has_the_name_of_its_machine_in_a_cluster_only(roster: Roster) -> None:
    assert roster.node_name(1) == ""
    node = Node(node_of(1), "a", ())
    assert Roster((), (), [node]).node_name(1) == "a"


def test_mobsters_are_members_with_a_role(roster: Roster) -> None:
    assert roster.mobsters() == [BACK_0, BACK_1, FRONT, BOOTING]


@pytest.mark.parametrize(
    ("member", "may"),
    [
        (Member(1, 101, "back", 0, 1, "ready"), True),
        (Member(1, 101, "front", 0, 1, "ready"), False),
        (Member(1, 101, "back", 0, 1, "booting"), False),
        (Member(1, 101, "back", 0, 1, "draining"), False),
        (Member(1, 101, "", 0, 0, "ready"), False),
    ],
)
def test_ready_members_of_the_role_is_ready(member: Member, may: bool) -> None:
    assert is_ready(member, "back") is may
    assert is_ready(member) is (may or member.role == "front")
