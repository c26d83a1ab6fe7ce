"""The number of short tasks that travel together."""

from __future__ import annotations

import pytest

from mob.pools.bundles import MOST, SPAN, Bundle, most_together


@pytest.mark.parametrize(
    ("cost", "waiting", "workers", "together"),
    [
        (0, 10_000, 2, 1),  # the cost is unknown
        (1, 10_000, 2, MOST),
        (100, 10_000, 2, SPAN // 100),
        (SPAN, 10_000, 2, 1),
        (SPAN * 10, 10_000, 2, 1),
        (1, 40, 2, 10),  # each worker gets some
        (1, 40, 40, 1),
        (1, 40, 0, 20),  # no worker is ready yet
    ],
)
def test_it_is_as_many_as_are_worth_it(cost: int, waiting: int, workers: int, together: int) -> None:
    assert most_together(cost, waiting, workers) == together


def test_a_bundle_says_how_many_it_has() -> None:
    assert repr(Bundle(0, 1)) == "<Bundle of 0 tasks>"
