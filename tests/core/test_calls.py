"""Tables: what happens to a call when its worker dies, and what is known of its execution then."""

from __future__ import annotations

import math

import pytest

from mob.core.calls import (
    DONE,
    REPEATED,
    RETRY_JITTER,
    SENT,
    UNBEGUN,
    WAIT,
    WAITING,
    Again,
    End,
    Lifecycle,
    Terms,
    is_idempotent,
)
from mob.core.states import CallState
from mob.errors import Executed
from mob.wire.messages import ExportInfo, RoleInfo

ROLE = RoleInfo("back", (ExportInfo("pay", "()", ""), ExportInfo("look", "()", "", idempotent=True)))


def call(state: CallState = SENT, role: str = "back", repeats: int = 0, **terms: float) -> Lifecycle:
    made = Lifecycle(role, Terms(**terms))  # type: ignore[arg-type]
    made.state, made.repeats = state, repeats
    return made


@pytest.mark.parametrize(
    ("role", "target", "expected"),
    [
        (ROLE, "look", True),
        (ROLE, "map!look", True),
        (ROLE, "pay", False),
        (ROLE, "unknown", False),
        (ROLE, 4, False),  # a function lives in one process
        (RoleInfo("back"), "look", False),  # nothing is known of its exports yet
        (None, "look", False),
    ],
)
def test_what_may_be_run_twice(role: RoleInfo | None, target: str | int, expected: bool) -> None:
    assert is_idempotent(role, target) is expected


@pytest.mark.parametrize(
    ("lost", "may_have_begun", "target", "becomes"),
    [
        (call(), False, "pay", Again(UNBEGUN, 0.0)),
        (call(retries=0), False, "look", Again(UNBEGUN, 0.0)),
        (call(role=""), False, "look", End("no")),
        (call(), True, "pay", End("maybe")),
        (call(), True, "look", Again(REPEATED, 0.5 * RETRY_JITTER)),
        (call(repeats=2), True, "look", Again(REPEATED, 0.5 * RETRY_JITTER)),
        (call(repeats=3), True, "look", End("maybe")),
        (call(retries=0), True, "look", End("maybe")),
        (call(retries=-1), True, "look", End("maybe")),
        (call(role=""), True, "look", End("maybe")),
        (call(DONE), True, "look", None),
        (call(DONE), False, "look", None),
        (call(WAITING), True, "look", None),
    ],
    ids=[
        "unbegun",
        "unbegun, no retries",
        "unbegun, one process only",
        "not idempotent",
        "idempotent",
        "the last time",
        "used up",
        "no retries",
        "fewer",
        "one process only",
        "over",
        "over, unbegun",
        "waits again",
    ],
)
def test_what_becomes_of_a_call_whose_worker_is_gone(
    lost: Lifecycle, may_have_begun: bool, target: str, becomes: Again | End | None
) -> None:
    state, repeats = lost.state, lost.repeats
    assert lost.lose(may_have_begun, ROLE, target, luck=0.5) == becomes
    assert lost.state is state  # until it waits again, or its end is reported
    assert lost.repeats == repeats + (isinstance(becomes, Again) and becomes.event == REPEATED)


def test_whoever_loses_it_unbegun_does_not_make_it_wait_for_ever() -> None:
    lost = call(wait=5.0)
    assert lost.wait_again(UNBEGUN, now=100.0) == 5.0
    assert lost.state is WAITING
    lost.state = SENT
    assert lost.wait_again(UNBEGUN, now=103.0) == 2.0
    lost.state = SENT
    assert lost.wait_again(UNBEGUN, now=110.0) == 0.0


def test_a_repetition_has_its_whole_time() -> None:
    lost = call(wait=5.0)
    lost.wait_again(UNBEGUN, now=100.0)
    lost.state = SENT
    lost.lose(True, ROLE, "look", luck=0.0)
    assert lost.until == math.inf
    assert lost.wait_again(REPEATED, now=103.0) == 5.0


@pytest.mark.parametrize("state", [DONE, WAITING])
def test_what_is_not_with_a_worker_any_more_is_not_sent_again(state: CallState) -> None:
    assert call(state).wait_again(UNBEGUN, now=1.0) is None


def test_it_knows_only_the_steps_of_the_table() -> None:
    with pytest.raises(AssertionError, match="no step for 'answered twice'"):
        call().wait_again("answered twice", now=1.0)


@pytest.mark.parametrize(
    ("repeats", "executed", "expected"),
    [
        (0, "no", "no"),
        (0, "maybe", "maybe"),
        (0, "yes", "yes"),
        (1, "no", "maybe"),  # the second worker did not start it; the first may have
        (1, "maybe", "maybe"),
        (2, "yes", "yes"),
    ],
)
def test_what_is_known_after_a_repetition(repeats: int, executed: Executed, expected: Executed) -> None:
    assert call(repeats=repeats).executed(executed) == expected


@pytest.mark.parametrize(
    ("state", "repeats", "expected"),
    [(WAITING, 0, "no"), (WAITING, 1, "maybe"), (SENT, 0, "maybe"), (SENT, 1, "maybe")],
)
def test_what_is_known_of_a_call_that_ends_unanswered(state: CallState, repeats: int, expected: Executed) -> None:
    assert call(state, repeats=repeats).executed_by_now() == expected


def test_what_a_caller_allows_by_default() -> None:
    assert (Terms().wait, Terms().retries, Lifecycle("").terms) == (WAIT, 3, Terms())
