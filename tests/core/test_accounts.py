"""Tables: the calls that a process has from this one, and how busy it is because of them."""

from __future__ import annotations

import pytest

from mob.core.accounts import FULL, Account, DistantAccount
from mob.core.lanes import Lane


class Facts:
    """A process with a board on which every worker has written the same; or without one."""

    def __init__(self, in_hand: int = 0, queued: int = 0) -> None:
        self.board: Facts | None = self
        self._in_hand, self._queued = in_hand, queued

    def all_in_hand(self, uid: int) -> int:
        return self._in_hand

    def queued(self, uid: int) -> int:
        return self._queued

    def pace(self, uid: int) -> int:
        return 10 * uid


LANES = {"task": Lane(100, True), "threads": Lane(4, False)}


def account(facts: Facts | None = None, kind: type[Account[str]] = Account) -> Account[str]:
    made = kind(7, LANES, facts or Facts())
    for number, target in enumerate(["task", "plain", "threads", 3], start=1):
        made.add(number, f"call {number}", target)
    return made


@pytest.mark.parametrize(
    ("in_hand", "queued", "expected"),
    [(0, 0, (4, 3)), (9, 2, (9, 3)), (9, 8, (9, 8)), (2, 1 << 29, (4, 1 << 29))],
    ids=["nothing on the board", "more, beside others", "more", "callers wait"],
)
def test_what_a_worker_here_has_in_hand(in_hand: int, queued: int, expected: tuple[int, int]) -> None:
    made = account(Facts(in_hand, queued))
    assert (made.outstanding, made.in_hand) == expected
    assert (made.pace, made.is_distant) == (70, False)


def test_without_a_board_there_are_its_own_calls() -> None:
    facts = Facts(9, 9)
    facts.board = None
    made = account(facts)
    assert (made.outstanding, made.in_hand, made.pace) == (4, 3, 0)


@pytest.mark.parametrize(
    ("queue", "expected"), [(0, (4, 3)), (4, (4, 3)), (5, (4 + FULL, 3 + FULL))], ids=["none", "its own", "others"]
)
def test_what_a_worker_of_another_machine_has_in_hand(queue: int, expected: tuple[int, int]) -> None:
    made = account(Facts(99, 99), DistantAccount)
    made.queue = queue
    assert (made.outstanding, made.in_hand) == expected
    assert (made.pace, made.is_distant) == (0, True)


def test_what_is_answered_is_taken_once() -> None:
    made = account()
    assert (made.take(1), made.take(1)) == ("call 1", None)
    assert (dict(made.pending), made.beside) == ({2: "call 2", 3: "call 3", 4: "call 4"}, set())


def test_what_streams_holds_up_no_other() -> None:
    made = account()
    made.replace(2, "stream 2")
    assert (made.pending[2], made.in_hand, made.outstanding) == ("stream 2", 2, 4)


def test_nothing_is_left() -> None:
    made = account()
    made.clear()
    assert not made.pending
    assert not made.beside
    assert made.in_hand == 0
