"""The board of loads."""

from __future__ import annotations

import os

from mob.rim.board import ENTRIES, Board


def test_what_one_writes_all_read() -> None:
    board = Board.make()
    other = Board(os.dup(board.descriptor))
    board.put(7, 3, 1500)
    board.put(8, 0, 2**40)
    assert (other.load(7), other.cost(7)) == (3, 1500)
    assert (other.load(8), other.cost(8)) == (0, 2**32 - 1)
    assert other.load(9) == 0
    board.put(9, 1, 10, waiting=2, running=4)
    assert (other.load(9), other.queued(9), other.beside(9)) == (3, 1, 6)
    board.put_queued(9, 0)
    assert (other.load(9), other.queued(9), other.beside(9), other.cost(9)) == (2, 0, 6, 10)
    assert repr(other) == "<Board, 1 busy>"
    board.close()
    other.close()


def test_any_uid_has_an_entry() -> None:
    board = Board.make()
    board.put(5 * ENTRIES + 1, 2, 0)
    assert board.load(5 * ENTRIES + 1) == 2
    board.close()
