"""How the parts of the core show themselves in a log or a debugger."""

from __future__ import annotations

import pytest

from mob.core.crew import Leased
from mob.core.mapping import Pace, generator_mapped
from mob.core.membership import Membership
from mob.core.namesakes import Name
from mob.core.news import News
from mob.core.quarantine import Suspect
from mob.core.registry import Registry
from mob.core.revival import Intensity
from mob.core.rollout import ReloadProgress
from mob.core.supervisor import Supervisor
from mob.core.tenancy import Tenancy
from mob.wire.encoders import Encoders
from tests.core.world import plan

SUPERVISOR = Supervisor(plan("back*2", "front"))
CREW = SUPERVISOR.crew
GIVEN_UP = Intensity()
GIVEN_UP.has_given_up = True
MEASURED = Pace()
MEASURED.handle_done(10, 0.001)
QUARANTINE = Supervisor(plan("back")).quarantine
QUARANTINE.suspects["back", "foo"] = suspect = Suspect()
suspect.state = "refused"


@pytest.mark.parametrize(
    ("thing", "text"),
    [
        (CREW, "<Crew: 0 processes in 3 slots>"),
        (CREW.roles["back"], "<Role back: 2 workers wanted>"),
        (Leased(token=7), "<Leased, token 7>"),
        (Leased(), "<Leased, waits for its lease>"),
        (SUPERVISOR.health, "<Health, 0 hang>"),
        (SUPERVISOR.scaling, "<Scaling: back 2, front 1>"),
        (SUPERVISOR.singletons, "<Singletons {}>"),
        (SUPERVISOR.rollout, "<Rollout: None, 0 recycled>"),
        (ReloadProgress([], (0, 0), 0.0), "<Reload of nothing yet, 0 under way, 0 to come>"),
        (SUPERVISOR._stopping, "<Stopping, not begun>"),
        (SUPERVISOR.quarantine, "<Quarantine: empty>"),
        (QUARANTINE, "<Quarantine: back.foo>"),
        (Registry(CREW, 0.0), "<Registry of 0 exports, 0 points, 0 events>"),
        (Membership(CREW, "me", 0.0), "<Membership of 'me', 0 other nodes>"),
        (Name(7, 2.5), "<Name of 7, born at 2.5>"),
        (News(), "<News, 0 changes>"),
        (Intensity(), "<Intensity 0 restarts, going on>"),
        (GIVEN_UP, "<Intensity 0 restarts, given up>"),
        (Pace(), "<Pace, an item costs unknown>"),
        (MEASURED, "<Pace, an item costs 100 us>"),
        (Tenancy([1], ["front", "back"]), "<Tenancy of 1 mobsters of back, front>"),
        (Encoders(print), "<Encoders: 0 registered types>"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_part_says_what_it_is_and_how_it_stands(thing: object, text: str) -> None:
    assert repr(thing) == text


def test_a_generator_that_is_mapped_is_refused_with_the_way_that_works() -> None:
    error = generator_mapped("back.rows", executed=False)
    assert "back.rows is a generator" in str(error)
    assert "rows(item)" in str(error)
    assert error.executed == "no"
