"""The tables are complete and closed, and tell the stories that they should."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from itertools import product
from typing import Any

import pytest

from mob.core.states import CALL, MOBSTER, PAIR, SLOT, CallState, MobsterState, PairState, SlotState, step

Table = Mapping[tuple[Any, str], Any]
TABLES: dict[str, tuple[Table, type[StrEnum]]] = {
    "mobster": (MOBSTER, MobsterState),
    "slot": (SLOT, SlotState),
    "call": (CALL, CallState),
    "pair": (PAIR, PairState),
}
FIRST = {
    "mobster": MobsterState.LAUNCHING,
    "slot": SlotState.FILLED,
    "call": CallState.WAITING,
    "pair": PairState.APART,
}
LAST = {"mobster": {MobsterState.GONE}, "slot": set[SlotState](), "call": {CallState.DONE}, "pair": set[PairState]()}

STORIES: list[tuple[Table, StrEnum, list[tuple[str, StrEnum]]]] = [
    (
        MOBSTER,
        MobsterState.LAUNCHING,
        [
            ("forked", MobsterState.BOOTING),
            ("ready", MobsterState.READY),
            ("ready", MobsterState.READY),  # it has more exports now
            ("asked to stop", MobsterState.DRAINING),
            ("exited", MobsterState.GONE),
        ],
    ),
    (
        MOBSTER,
        MobsterState.LAUNCHING,
        [("ready", MobsterState.READY), ("forked", MobsterState.READY), ("exited", MobsterState.GONE)],
    ),
    (MOBSTER, MobsterState.LAUNCHING, [("forked", MobsterState.BOOTING), ("exited", MobsterState.GONE)]),
    (
        MOBSTER,
        MobsterState.LAUNCHING,
        [
            ("asked to stop", MobsterState.DRAINING),
            ("forked", MobsterState.DRAINING),
            ("ready", MobsterState.DRAINING),  # too late: it is never picked
            ("asked to stop", MobsterState.DRAINING),
            ("exited", MobsterState.GONE),
        ],
    ),
    (MOBSTER, MobsterState.LAUNCHING, [("exited", MobsterState.GONE)]),
    (SLOT, SlotState.FILLED, [("exited, revived at once", SlotState.FILLED), ("stopping", SlotState.EMPTY)]),
    (SLOT, SlotState.FILLED, [("exited, revived after a pause", SlotState.WAITING), ("pause over", SlotState.FILLED)]),
    (SLOT, SlotState.FILLED, [("exited, revived after a pause", SlotState.WAITING), ("stopping", SlotState.EMPTY)]),
    (CALL, CallState.WAITING, [("worker found", CallState.SENT), ("answered", CallState.DONE)]),
    (CALL, CallState.WAITING, [("waited too long", CallState.DONE)]),
    (
        CALL,
        CallState.WAITING,
        [
            ("worker found", CallState.SENT),
            ("worker lost before it began", CallState.WAITING),
            ("worker found", CallState.SENT),
            ("taken back before it began", CallState.WAITING),
            ("worker found", CallState.SENT),
            ("worker lost", CallState.DONE),
        ],
    ),
    (CALL, CallState.WAITING, [("worker found", CallState.SENT), ("took too long", CallState.DONE)]),
    (
        PAIR,
        PairState.APART,
        [
            ("wanted", PairState.WANTED),
            ("carried", PairState.OFFERED),
            ("ended", PairState.WANTED),  # it was never established
            ("carried", PairState.OFFERED),
            ("taken", PairState.LINKED),
            ("wanted", PairState.AGAIN),
            ("ended", PairState.WANTED),
            ("member gone", PairState.APART),
        ],
    ),
    (PAIR, PairState.APART, [("carried", PairState.ANSWERED), ("taken", PairState.LINKED), ("ended", PairState.APART)]),
    (
        PAIR,
        PairState.APART,
        [("carried", PairState.ANSWERED), ("wanted", PairState.OFFERED), ("ended", PairState.WANTED)],
    ),
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


@pytest.mark.parametrize("state", [state for state in MobsterState if state is not MobsterState.GONE])
def test_a_process_may_end_or_be_told_to_at_any_moment(state: MobsterState) -> None:
    assert MOBSTER[state, "exited"] is MobsterState.GONE
    assert MOBSTER[state, "asked to stop"] is MobsterState.DRAINING


def test_nothing_leads_out_of_draining_but_the_end() -> None:
    assert {after for (state, _), after in MOBSTER.items() if state is MobsterState.DRAINING} == {
        MobsterState.DRAINING,
        MobsterState.GONE,
    }


def test_states_are_their_names_in_messages_and_tables() -> None:
    assert (str(MobsterState.READY), f"{SlotState.EMPTY}", CallState.SENT == "sent") == ("ready", "empty", True)
