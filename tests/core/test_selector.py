"""Which workers a name means, and whom it finds."""

from __future__ import annotations

import pytest

from mob.core.roster import Roster
from mob.core.selector import Selector, mobsters_meant, parted, selector_of
from mob.errors import MobError
from mob.wire.messages import NODE_SHIFT, Member, Node, RoleInfo

ROLES = ("back", "api.v1", "api", "api.2", "idle")
HERE, THERE = 1 << NODE_SHIFT, 2 << NODE_SHIFT

READ: dict[str | int, Selector] = {
    "": Selector(),
    "back": Selector("back"),
    "back.2": Selector("back", 2),
    "api.v1": Selector("api.v1"),
    "api.v1.0": Selector("api.v1", 0),
    "api.2": Selector("api.2"),  # a role, and no place in another one
    "api.3": Selector("api", 3),
    "none.2": Selector("none.2"),
    "kingpin": Selector("kingpin"),
    "back.": Selector("back."),
    "back.-1": Selector("back.-1"),
    ".2": Selector(".2"),
    "4242": Selector(pid=4242),
    4242: Selector(pid=4242),
    "-1": Selector("-1"),
    "²": Selector("²"),
    "٣": Selector("٣"),
    "9" * 18: Selector(pid=10**18 - 1),
    "9" * 5000: Selector("9" * 5000),
    f"back.{'9' * 5000}": Selector(f"back.{'9' * 5000}"),
}


@pytest.mark.parametrize("target", READ, ids=lambda target: str(target)[:20])
def test_what_a_name_says(target: str | int) -> None:
    assert selector_of(target, ROLES) == READ[target]


def test_the_machine_stands_before_the_last_colon() -> None:
    assert [parted(name) for name in ("42", "b:42", "b:api.v1", ":42")] == [
        ("", "42"),
        ("b", "42"),
        ("b", "api.v1"),
        ("", "42"),
    ]


def roster(nodes: tuple[str, ...] = ("a", "b")) -> Roster:
    members = [
        Member(HERE + 1, 11, "back", 1, 1, "ready"),
        Member(HERE + 2, 10, "back", 0, 1, "launching"),
        Member(HERE + 3, 11, "api", 0, 1, "ready"),  # the newer one of this pid
        Member(HERE + 4, 12, "", 0, 0, "ready"),
        Member(THERE + 1, 20, "back", 0, 1, "ready"),
    ]
    machines = [Node(number, name) for number, name in enumerate(nodes, 1)]
    return Roster([RoleInfo(role, (), True, "", 1) for role in ROLES], members, machines)


FOUND: dict[str | int, list[int]] = {"back": [2, 1], "back.1": [1], "10": [2], 11: [3], "api": [3]}
NOT_FOUND: dict[str | int, str] = {
    "": "this app has no role ''. There are: 'api', 'api.2', 'api.v1', 'back', 'idle'.",
    "bakc": "this app has no role 'bakc'. Did you mean 'back'?",
    "idle": "the role 'idle' has no worker on the machine 'a' right now; `mob ps` shows why.",
    "back.7": "there is no back.7 on the machine 'a' right now. There are: back.0, back.1.",
    "idle.0": "there is no idle.0 on the machine 'a' right now. There are: none of this role.",
    "20": "no worker has pid 20 on the machine 'a'; `mob ps` lists them.",
    12: "no worker has pid 12 on the machine 'a'; `mob ps` lists them.",
    0: "no worker has pid 0 on the machine 'a'; `mob ps` lists them.",
}


@pytest.mark.parametrize("target", FOUND)
def test_who_is_meant_on_a_machine(target: str | int) -> None:
    assert [member.uid - HERE for member in mobsters_meant(roster(), HERE, target)] == FOUND[target]


@pytest.mark.parametrize("target", NOT_FOUND)
def test_nobody_is_meant(target: str | int) -> None:
    with pytest.raises(MobError) as caught:
        mobsters_meant(roster(), HERE, target)
    assert str(caught.value) == NOT_FOUND[target]


def test_without_a_cluster_no_machine_is_named() -> None:
    with pytest.raises(MobError, match=r"no worker has pid 99; "):
        mobsters_meant(roster(nodes=()), HERE, 99)
