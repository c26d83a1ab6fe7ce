"""The parts of `mob chaos` that need no process: the schedule, and the books."""

from __future__ import annotations

from pathlib import Path

import pytest

from mob.cli.chaos.faults import KINDS, schedule
from mob.cli.chaos.ledger import Book, CallKind, CallOutcome, complaints, judge


def test_a_seed_makes_the_same_faults_again_and_another_one_others() -> None:
    assert schedule(7, 60) == schedule(7, 60)
    assert schedule(7, 60) != schedule(8, 60)


def test_each_kind_comes_once_before_any_comes_twice() -> None:
    faults = schedule(3, 600)
    assert {fault.kind for fault in faults[: len(KINDS)]} == set(KINDS)
    assert 300 < len(faults) < 1000
    assert all(0 < fault.at < 600 and 0.1 <= fault.seconds <= 5 for fault in faults)
    assert faults == sorted(faults, key=lambda fault: fault.at)


def test_kinds_can_be_left_out() -> None:
    assert {fault.kind for fault in schedule(3, 60, ("kill", "freeze"))} == {"kill", "freeze"}
    assert schedule(3, 60, ()) == []


def test_the_kingpin_can_be_attacked_alone_and_never_for_long() -> None:
    faults = schedule(3, 600, ("upgrade", "signals", "Kingpin's descriptors"))
    assert {fault.kind for fault in faults} == {"upgrade", "signals", "Kingpin's descriptors"}
    assert max(fault.seconds for fault in faults) <= 3


FINE = [
    (CallKind.PLAIN, CallOutcome.RIGHT, 1),
    (CallKind.PLAIN, CallOutcome.NO, 0),
    (CallKind.PLAIN, CallOutcome.MAYBE, 0),
    (CallKind.PLAIN, CallOutcome.MAYBE, 1),
    (CallKind.PLAIN, CallOutcome.YES, 1),
    (CallKind.PLAIN, CallOutcome.BEGUN, 1),
    (CallKind.AGAIN, CallOutcome.RIGHT, 3),
    (CallKind.OWN, CallOutcome.RIGHT, 0),
    (CallKind.OWN, CallOutcome.YES, 0),
]
FAULTY = [
    (CallKind.PLAIN, CallOutcome.WRONG, 1, "answered incorrectly"),
    (CallKind.PLAIN, CallOutcome.HUNG, 0, "never answered"),
    (CallKind.OWN, CallOutcome.HUNG, 0, "never answered"),
    (CallKind.PLAIN, CallOutcome.RIGHT, 2, "started twice"),
    (CallKind.PLAIN, CallOutcome.MAYBE, 2, "started twice"),
    (CallKind.PLAIN, CallOutcome.BEGUN, 2, "started twice"),
    (CallKind.PLAIN, CallOutcome.RIGHT, 0, "answered, but it was not started"),
    (CallKind.PLAIN, CallOutcome.NO, 1, 'executed="no", but it was started'),
    (CallKind.AGAIN, CallOutcome.NO, 1, 'executed="no", but it was started'),
    (CallKind.PLAIN, CallOutcome.REFUSED, 1, 'executed="no", but it was started'),
    (CallKind.PLAIN, CallOutcome.YES, 0, 'executed="yes", but it was not started'),
]


@pytest.mark.parametrize(("kind", "outcome", "started"), FINE)
def test_what_may_happen_to_a_call(kind: CallKind, outcome: CallOutcome, started: int) -> None:
    assert complaints(kind, outcome, started) == []


@pytest.mark.parametrize(("kind", "outcome", "started", "complaint"), FAULTY)
def test_what_must_not_happen_to_a_call(kind: CallKind, outcome: CallOutcome, started: int, complaint: str) -> None:
    assert complaints(kind, outcome, started) == [complaint]


@pytest.mark.parametrize("outcome", [CallOutcome.NO, CallOutcome.MAYBE, CallOutcome.YES])
def test_no_call_may_fail_when_the_faults_are_over(outcome: CallOutcome) -> None:
    assert complaints(CallKind.OWN, outcome, 0, is_calm=True) == ["failed although the faults were over"]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "start").write_text("0.0")
    return tmp_path


def test_the_books_of_all_processes_are_compared(directory: Path) -> None:
    caller, other, called = Book(directory, "calls"), Book(directory, "calls"), Book(directory, "started")
    right, twice, lost = caller.next_number(), other.next_number(), other.next_number()
    for book, number, outcome in ((caller, right, CallOutcome.RIGHT), (other, twice, CallOutcome.RIGHT)):
        book.write(number, CallKind.PLAIN, CallOutcome.BEGUN)
        book.write(number, CallKind.PLAIN, outcome)
    other.write(lost, CallKind.BIG, CallOutcome.BEGUN)
    for number in (right, twice, twice):
        called.write(number, CallKind.PLAIN, CallOutcome.STARTED)
    judgement = judge(directory, calm_at=float("inf"))
    assert judgement.calls == 3
    assert judgement.outcomes == {(CallKind.PLAIN, CallOutcome.RIGHT): 2, (CallKind.BIG, CallOutcome.BEGUN): 1}
    assert judgement.faults == {"started twice": 1}
    assert judgement.samples[0].startswith("call 2.1 (plain), made after ")


def test_a_record_that_a_death_has_cut_is_not_read(directory: Path) -> None:
    book = Book(directory, "calls")
    book.write(book.next_number(), CallKind.PLAIN, CallOutcome.BEGUN)
    with (directory / "calls-1").open("ab") as file:
        file.write(b"half")
    assert judge(directory, float("inf")).calls == 1
