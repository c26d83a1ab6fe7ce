"""The tables are complete and closed, and tell the stories that they should."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from itertools import product
from typing import Any

import pytest

from mob.core.states import CALL, MOBSTER, PAIR, SLOT, Call, Mobster, Pair, Slot, step

Table = Mapping[tuple[Any, str], Any]
TABLES: dict[str, tuple[Table, type[StrEnum]]] = {
    "mobster": (MOBSTER, Mobster),
    "slot": (SLOT, Slot),
    "call": (CALL, Call),
    "pair": (PAIR, Pair),
}
FIRST = {"mobster": Mobster.LAUNCHING, "slot": Slot.FILLED, "call": Call.WAITING, "pair": Pair.APART}
LAST = {"mobster": {Mobster.GONE}, "slot": set[Slot](), "call": {Call.DONE}, "pair": set[Pair]()}

STORIES: list[tuple[Table, StrEnum, list[tuple[str, StrEnum]]]] = [
    (
        MOBSTER,
        Mobster.LAUNCHING,
        [
            ("forked", Mobster.BOOTING),
            ("ready", Mobster.READY),
            ("ready", Mobster.READY),  # it has more exports now
            ("asked to stop", Mobster.DRAINING),
            ("exited", Mobster.GONE),
        ],
    ),
    (MOBSTER, Mobster.LAUNCHING, [("ready", Mobster.READY), ("forked", Mobster.READY), ("exited", Mobster.GONE)]),
    (MOBSTER, Mobster.LAUNCHING, [("forked", Mobster.BOOTING), ("exited", Mobster.GONE)]),
    (
        MOBSTER,
        Mobster.LAUNCHING,
        [
            ("asked to stop", Mobster.DRAINING),
            ("forked", Mobster.DRAINING),
            ("ready", Mobster.DRAINING),  # too late: it is never picked
            ("asked to stop", Mobster.DRAINING),
            ("exited", Mobster.GONE),
        ],
    ),
    (MOBSTER, Mobster.LAUNCHING, [("exited", Mobster.GONE)]),
    (SLOT, Slot.FILLED, [("exited, revived at once", Slot.FILLED), ("stopping", Slot.EMPTY)]),
    (SLOT, Slot.FILLED, [("exited, revived after a pause", Slot.WAITING), ("pause over", Slot.FILLED)]),
    (SLOT, Slot.FILLED, [("exited, revived after a pause", Slot.WAITING), ("stopping", Slot.EMPTY)]),
    (CALL, Call.WAITING, [("worker found", Call.SENT), ("answered", Call.DONE)]),
    (CALL, Call.WAITING, [("waited too long", Call.DONE)]),
    (
        CALL,
        Call.WAITING,
        [
            ("worker found", Call.SENT),
            ("worker lost before it was sent", Call.WAITING),
            ("worker found", Call.SENT),
            ("worker lost", Call.DONE),
        ],
    ),
    (CALL, Call.WAITING, [("worker found", Call.SENT), ("took too long", Call.DONE)]),
    (
        PAIR,
        Pair.APART,
        [
            ("wanted", Pair.WANTED),
            ("carried", Pair.OFFERED),
            ("ended", Pair.WANTED),  # it never came to be
            ("carried", Pair.OFFERED),
            ("taken", Pair.LINKED),
            ("wanted", Pair.AGAIN),
            ("ended", Pair.WANTED),
            ("member gone", Pair.APART),
        ],
    ),
    (PAIR, Pair.APART, [("carried", Pair.ANSWERED), ("taken", Pair.LINKED), ("ended", Pair.APART)]),
    (PAIR, Pair.APART, [("carried", Pair.ANSWERED), ("wanted", Pair.OFFERED), ("ended", Pair.WANTED)]),
]


@pytest.mark.parametrize(("table", "state", "story"), STORIES)
def test_a_story(table: Table, state: StrEnum, story: list[tuple[str, StrEnum]]) -> None:
    for event, after in story:
        state = step(table, state, event)
        assert state is after


@pytest.mark.parametrize("name", TABLES)
def test_a_step_is_in_the_table_or_an_error_that_names_it(name: str) -> None:
    table, states = TABLES[name]
    for state, event in product(states, {event for _, event in table}):
        if (state, event) in table:
            assert step(table, state, event) is table[state, event]
        else:
            with pytest.raises(
                AssertionError, match=rf"<{states.__name__}\.{state.name}: .*> has no step for '{event}'"
            ):
                step(table, state, event)


@pytest.mark.parametrize("name", TABLES)
def test_every_state_is_reached_and_only_the_last_has_no_way_on(name: str) -> None:
    table, states = TABLES[name]
    reached = {FIRST[name], *table.values()}
    assert reached == set(states)
    assert set(states) - {state for state, _ in table} == LAST[name]


@pytest.mark.parametrize("state", [state for state in Mobster if state is not Mobster.GONE])
def test_a_process_may_end_or_be_told_to_at_any_moment(state: Mobster) -> None:
    assert MOBSTER[state, "exited"] is Mobster.GONE
    assert MOBSTER[state, "asked to stop"] is Mobster.DRAINING


def test_nothing_leads_out_of_draining_but_the_end() -> None:
    assert {after for (state, _), after in MOBSTER.items() if state is Mobster.DRAINING} == {
        Mobster.DRAINING,
        Mobster.GONE,
    }


def test_states_are_their_names_in_messages_and_tables() -> None:
    assert (str(Mobster.READY), f"{Slot.EMPTY}", Call.SENT == "sent") == ("ready", "empty", True)
