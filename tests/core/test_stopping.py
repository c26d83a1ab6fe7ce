"""The order of a stop, and what callers of ended roles learn."""

from __future__ import annotations

import pytest

from mob.core.decisions import Decision
from mob.core.stopping import ENDED, stages
from mob.plan import RolePlan
from mob.wire import messages as m
from tests.core.world import changes, plan, started


def role(name: str, serves: bool, needs: tuple[str, ...] = ()) -> RolePlan:
    return RolePlan(name, name, serve="127.0.0.1:8000" if serves else None, needs=needs)


@pytest.mark.parametrize(
    ("roles", "ends"),
    [
        ("back web!", "web back"),
        ("web! back", "web back"),
        ("web! back other", "web other back"),
        ("web! back api!", "api web back"),
        ("back web!:back", "web back"),
        ("web! back probe:web", "probe web back"),
        ("web! back probe:web warm:probe", "warm probe web back"),
        ("a b c", "c b a"),
    ],
)
def test_roles_that_serve_end_first_with_those_that_need_them(roles: str, ends: str) -> None:
    plans = []
    for text in roles.split():
        name, _, needs = text.partition(":")
        plans.append(role(name.rstrip("!"), name.endswith("!"), tuple(needs.split())))
    assert stages([each.name for each in plans], plans)[::-1] == ends.split()


def ended(decisions: list[Decision]) -> dict[str, str]:
    return {each.role.name: each.role.ended for each in changes(m.RoleIs, decisions)}


def test_in_a_stop_each_role_that_has_ended_is_announced_at_once() -> None:
    world = started("db", "back", "front")
    assert ended(world.stop()) == {}
    assert ended(world.exits_with(1)) == {"db": ENDED}  # although its turn has not come
    assert ended(world.exits_with(3)) == {"front": ENDED}
    assert ended(world.exits_with(2)) == {}  # no one is left to hear it


def test_a_role_of_which_nobody_is_there_when_a_stop_begins_has_ended() -> None:
    world = started("db", "back", ready=False)
    world.exits_with(1)  # its successor would come later
    assert ended(world.stop()) == {"db": ENDED}


def test_a_role_that_is_over_is_announced_until_it_is_reloaded() -> None:
    world = started(app=plan("once*2", "back", options={"restart": "temporary"}))
    why = "exited with status 0"
    end = [ended(world.carry_out(world.supervisor.handle_exited(uid, why, world.now, 0))) for uid in (1, 2)]
    assert end == [{}, {"once": "its last worker exited with status 0 and is not restarted (restart='temporary')."}]
    assert ended(world.carry_out(world.supervisor.handle_reload(["once"], (9, 1), world.now))) == {"once": ""}
