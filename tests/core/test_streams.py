"""A producer is never more than a window ahead of its consumer, and never waits for one that keeps up."""

from __future__ import annotations

import pytest

from mob.core.streams import WINDOW, Credit, Debt


def test_a_producer_whose_consumer_reads_nothing_has_sent_one_window() -> None:
    credit = Credit()
    for _ in range(WINDOW):
        credit.spend()
    assert credit.left == 0
    assert repr(credit) == "<Credit for 0 items>"
    with pytest.raises(AssertionError):
        credit.spend()


@pytest.mark.parametrize(
    ("spent", "received", "left"),
    [(1, 1, WINDOW), (WINDOW, WINDOW // 2, WINDOW // 2), (10, 1000, WINDOW), (10, -5, WINDOW - 10), (0, 0, WINDOW)],
)
def test_never_more_comes_back_than_was_spent(spent: int, received: int, left: int) -> None:
    credit = Credit()
    for _ in range(spent):
        credit.spend()
    credit.receive(received)
    assert credit.left == left


def test_a_consumer_gives_back_half_a_window_at_a_time() -> None:
    debt = Debt()
    assert [debt.read() for _ in range(WINDOW)] == ([0] * (WINDOW // 2 - 1) + [WINDOW // 2]) * 2
    debt.read()
    assert repr(debt) == "<Debt of 1 items>"


def test_a_consumer_that_keeps_up_holds_up_nobody() -> None:
    credit, debt = Credit(), Debt()
    for _ in range(10 * WINDOW):
        credit.spend()
        credit.receive(debt.read())
        assert credit.left > 0
