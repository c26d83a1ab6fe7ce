"""The calls that a mobster has begun, as its callers read them when it is dead."""

from __future__ import annotations

import os
from array import array
from itertools import pairwise

import pytest

from mob.rim import barriers
from mob.rim.begun import MOST_RUNNING, PAGES, ROWS, SIZE, SLOTS, BegunCalls, BegunRow
from mob.rim.board import Board

WORKER, FRONT, CLIENT = 5, 9, 700


@pytest.fixture
def calls() -> BegunCalls:
    made = BegunCalls(memoryview(array("Q", bytes(SIZE))))
    made.claim(WORKER)
    return made


def row_of(calls: BegunCalls, caller: int = FRONT, uid: int = WORKER, there: tuple[int, ...] = ()) -> BegunRow:
    row = calls.take_row(uid, caller, there.__contains__)
    assert row is not None
    return row


def begun(calls: BegunCalls, numbers: range, caller: int = FRONT) -> list[int]:
    return [number for number in numbers if calls.may_have_begun(WORKER, caller, number)]


def test_before_the_first_none_has_begun(calls: BegunCalls) -> None:
    assert begun(calls, range(1, 200)) == []


def test_what_was_begun_in_order_is_known_exactly(calls: BegunCalls) -> None:
    row = row_of(calls)
    for number in range(1, 1001):
        row.begin(number)
    assert begun(calls, range(1, 2000)) == list(range(1, 1001))


def test_what_was_begun_out_of_order_is_known_exactly(calls: BegunCalls) -> None:
    row = row_of(calls)
    for number in (7, 3, 12):
        row.begin(number)
    assert begun(calls, range(1, SLOTS)) == [3, 7, 12]


def test_the_latest_hides_an_older_one_and_never_the_other_way_round(calls: BegunCalls) -> None:
    row = row_of(calls)
    row.begin(3 + 2 * SLOTS)
    assert begun(calls, range(1, 3 * SLOTS)) == [3, 3 + SLOTS, 3 + 2 * SLOTS]
    row.begin(3)
    assert calls.may_have_begun(WORKER, FRONT, 3 + 2 * SLOTS)


def test_what_is_decoded_counts_as_begun_until_it_waits(calls: BegunCalls) -> None:
    row = row_of(calls)
    row.decode(4)
    assert begun(calls, range(1, 10)) == [4]
    row.decode(0)
    assert begun(calls, range(1, 10)) == []
    row.decode(-3)  # an item of a chunk
    row.begin(-3)
    assert begun(calls, range(1, 10)) == []


def test_each_caller_has_its_own(calls: BegunCalls) -> None:
    row_of(calls).begin(1)
    row_of(calls, CLIENT, there=(FRONT,)).begin(2)
    assert (begun(calls, range(1, 5)), begun(calls, range(1, 5), CLIENT)) == ([1], [2])
    assert repr(row_of(calls)) == "<BegunRow of 9, 1 is the highest begun>"
    assert repr(calls) == "<BegunCalls of 1 mobsters>"


def test_the_row_of_a_caller_that_is_gone_is_used_again(calls: BegunCalls) -> None:
    callers = range(100, 100 + ROWS)
    for caller in callers:
        row_of(calls, caller, there=tuple(callers)).begin(1)
    left = tuple(callers[1:])
    row_of(calls, FRONT, there=left).begin(2)
    assert begun(calls, range(1, 4)) == [2]
    assert begun(calls, range(1, 4), callers[1]) == [1]


def test_nobody_without_a_row_knows_anything_and_those_with_one_do(calls: BegunCalls) -> None:
    callers = range(100, 100 + ROWS)
    for caller in callers:
        row_of(calls, caller, there=tuple(callers)).begin(1)
    assert calls.take_row(WORKER, FRONT, callers.__contains__) is None
    assert begun(calls, range(1, 4)) == [1, 2, 3]
    assert begun(calls, range(1, 4), callers[0]) == [1]


def test_nothing_is_known_of_a_mobster_whose_page_another_has(calls: BegunCalls) -> None:
    row = row_of(calls)
    calls.claim(WORKER + PAGES)
    row.begin(1)  # it is still alive
    assert begun(calls, range(1, 4)) == [1, 2, 3]
    assert calls.take_row(WORKER, CLIENT, lambda _: False) is None
    row_of(calls, uid=WORKER + PAGES).begin(2)
    assert not calls.may_have_begun(WORKER + PAGES, FRONT, 3)


def test_nothing_is_known_of_one_that_takes_no_notes(calls: BegunCalls) -> None:
    assert calls.may_have_begun(WORKER + 1, FRONT, 1)


def test_a_page_is_claimed_once(calls: BegunCalls) -> None:
    row_of(calls).begin(1)
    calls.claim(WORKER)
    assert begun(calls, range(1, 4)) == [1]


def test_pages_do_not_overlap(calls: BegunCalls) -> None:
    for first, second in pairwise(range(WORKER, WORKER + 20)):
        calls.claim(second)
        row_of(calls, uid=second).begin(10**12 + second)
        assert begun(calls, range(1, 4)) == []
        assert calls.may_have_begun(second, FRONT, 10**12 + second)
        assert first == WORKER or calls.may_have_begun(first, FRONT, 10**12 + first)


def test_what_runs_is_known_until_it_ends(calls: BegunCalls) -> None:
    assert calls.enter(WORKER, 0, FRONT, 7)
    assert calls.enter(WORKER, MOST_RUNNING - 1, CLIENT, 8)
    running = [(caller, number) for caller in (FRONT, CLIENT) for number in (7, 8)]
    assert [calls.is_running(WORKER, *call) for call in running] == [True, False, False, True]
    row_of(calls).end(7)
    calls.leave(WORKER, 0)
    assert [calls.is_running(WORKER, *call) for call in running] == [False, False, False, True]
    assert [calls.has_ended(WORKER, FRONT, number) for number in (6, 7, 8)] == [True, True, False]
    row_of(calls).begin(9)  # the words of running calls are not part of a row
    assert calls.is_running(WORKER, CLIENT, 8)


def test_what_is_revoked_must_not_run(calls: BegunCalls) -> None:
    for number in range(1, 20):
        calls.revoke(WORKER, FRONT, number)
    assert [calls.enter(WORKER, 0, FRONT, number) for number in (11, 12, 19, 20)] == [True, False, False, True]
    assert calls.enter(WORKER, 0, CLIENT, 19)


def test_nothing_is_written_on_the_page_of_another(calls: BegunCalls) -> None:
    other = WORKER + PAGES
    assert calls.enter(other, 0, FRONT, 7)
    calls.leave(other, 0)
    calls.revoke(other, FRONT, 7)
    assert calls.enter(other, 0, FRONT, 7)
    assert not calls.is_running(other, FRONT, 7)
    assert calls.has_ended(other, FRONT, 7)
    assert calls.enter(WORKER, 0, FRONT, 7)


def test_a_mobster_that_lives_keeps_its_page(calls: BegunCalls) -> None:
    calls.claim(WORKER + 1, os.getpid())
    row_of(calls, uid=WORKER + 1).begin(1)
    calls.claim(WORKER + 1 + PAGES, os.getpid())
    assert not calls.may_have_begun(WORKER + 1, FRONT, 2)
    assert calls.may_have_begun(WORKER + 1 + PAGES, FRONT, 2)
    assert calls.take_row(WORKER + 1 + PAGES, FRONT, lambda _: True) is None


needs_barriers = pytest.mark.skipif(not barriers.expect(), reason="the system has no barriers for other processes")


@needs_barriers
def test_what_has_not_begun_is_taken_back_and_must_not_begin(calls: BegunCalls) -> None:
    calls.give_back(WORKER)
    row = row_of(calls)
    row.begin(3)
    assert calls.take_back(WORKER, FRONT, [3, 4, 7]) == [4, 7]
    assert [number for number in range(1, 10) if row.is_taken_back(number)] == list(range(1, 8))
    assert calls.take_back(WORKER, FRONT, [5]) == [5]
    assert row.is_taken_back(7)  # the mark never decreases


@needs_barriers
def test_what_is_decoded_or_hidden_by_a_later_one_is_not_taken_back(calls: BegunCalls) -> None:
    calls.give_back(WORKER)
    row = row_of(calls)
    row.decode(4)
    row.begin(5 + SLOTS)
    assert calls.take_back(WORKER, FRONT, [4, 5, 6]) == [6]


@needs_barriers
def test_what_was_taken_back_stays_so_when_its_caller_comes_again(calls: BegunCalls) -> None:
    calls.give_back(WORKER)
    row_of(calls)
    assert calls.take_back(WORKER, FRONT, [4]) == [4]
    assert row_of(calls).is_taken_back(4)
    assert not row_of(calls, CLIENT, there=(FRONT,)).is_taken_back(1)


@needs_barriers
def test_nothing_is_taken_back_where_nobody_looks_for_it(calls: BegunCalls) -> None:
    assert calls.take_back(WORKER, FRONT, [4]) == []
    row_of(calls)
    assert calls.take_back(WORKER, FRONT, [4]) == []  # it did not allow that yet
    calls.give_back(WORKER)
    calls.give_back(WORKER + 1)
    assert calls.take_back(WORKER, FRONT, []) == []
    assert calls.take_back(WORKER, CLIENT, [4]) == []
    assert calls.take_back(WORKER + 1, FRONT, [4]) == []


def test_it_is_part_of_the_board() -> None:
    board = Board.make()
    other = Board(os.dup(board.descriptor))
    board.begun.claim(WORKER)
    row_of(board.begun).begin(1)
    assert begun(other.begun, range(1, 4)) == [1]
    board.put(WORKER, 3, 1500)
    board.learn(7, 0.001)
    board.put_connections(4095, 7, 7)
    assert begun(other.begun, range(1, 4)) == [1]
    board.close()
    other.close()


def test_one_apart_is_read_by_nobody() -> None:
    row = BegunRow.apart()
    row.begin(7)
    row.decode(8)
    assert repr(row) == "<BegunRow of 0, 7 is the highest begun>"
