"""The board of loads."""

from __future__ import annotations

import os

from mob.rim.board import COSTS, ENTRIES, Board, mark_of


def test_what_one_writes_all_read() -> None:
    board = Board.make()
    other = Board(os.dup(board.descriptor))
    board.put(7, 3, 1500)
    board.put(8, 0, 2**40)
    assert (other.load(7), other.pace(7)) == (3, 1500)
    assert (other.load(8), other.pace(8)) == (0, 2**32 - 1)
    assert other.load(9) == 0
    board.put(9, 1, 10, waiting=2, running=4)
    assert (other.load(9), other.queued(9), other.all_in_hand(9)) == (3, 1, 7)
    board.put_queued(9, 0)
    board.put_running(9, 5)
    assert (other.load(9), other.queued(9), other.all_in_hand(9), other.pace(9)) == (2, 0, 7, 10)
    board.put_full(9, True)
    board.put_queued(9, 1)
    assert (other.load(9), other.queued(9) > 2**30, other.all_in_hand(9)) == (3, True, 8)
    board.put_full(9, False)
    assert (other.load(9), other.queued(9)) == (3, 1)
    assert repr(other) == "<Board, 2 busy>"
    board.close()
    other.close()


def test_what_calls_cost_is_known_to_all() -> None:
    board = Board.make()
    other = Board(os.dup(board.descriptor))
    one, another = mark_of("back.foo"), mark_of("back.bar")
    assert other.cost(one) == 0
    board.learn(one, 0.001)
    other.learn(one, 0.0018)
    assert (board.cost(one), board.cost(another)) == (1100, 0)
    rival = one + COSTS  # it has the same place
    board.learn(rival, 0.5)
    assert (board.cost(one), board.cost(rival)) == (0, 500_000)
    board.close()
    other.close()


def test_a_board_of_an_older_version_grows() -> None:
    descriptor = os.memfd_create("old")
    os.ftruncate(descriptor, ENTRIES * 5 * 4)
    board = Board(descriptor)
    board.learn(7, 0.001)
    assert board.cost(7) == 1000
    board.close()


def test_any_uid_has_an_entry() -> None:
    board = Board.make()
    board.put(5 * ENTRIES + 1, 2, 0)
    assert board.load(5 * ENTRIES + 1) == 2
    board.close()
