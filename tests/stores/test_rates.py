"""Rate limits: what their texts mean, and what they allow."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from mob.stores.rates import RateLimit, ask, limit_of


@pytest.mark.parametrize(
    ("text", "most", "period"),
    [
        ("100/minute", 100, 60),
        ("5/s", 5, 1),
        ("1_000/hour", 1000, 3600),
        (" 20 / 15 minutes ", 20, 900),
        ("3 per 0.5 s", 3, 0.5),
        ("7 PER DAY", 7, 86400),
    ],
)
def test_what_a_limit_says(text: str, most: int, period: float) -> None:
    assert limit_of(text) == (most, period)


@pytest.mark.parametrize(
    "text", ["", "100", "0/s", "100/fortnight", "-1/s", "5/0 s", "many/s", "9" * 400 + "/s", "5/" + "9" * 400 + " s"]
)
def test_what_is_no_limit_is_refused(text: str) -> None:
    with pytest.raises(
        ValueError, match=r'is not a rate limit\. Write one as "100/minute", "5/s" or "20/15 minutes"\.'
    ):
        limit_of(text)


def test_as_many_as_it_says_may_come_at_once_and_then_one_after_another() -> None:
    limit, full = RateLimit(3, 60), None
    for left in (2, 1, 0):
        answer = ask(full, limit, 1, 1000.0)
        assert (answer.is_allowed, answer.remaining, answer.retry_after) == (True, left, 0)
        full = answer.full
    refused = ask(full, limit, 1, 1005.0)
    assert (refused.is_allowed, refused.remaining, refused.retry_after, refused.reset_after) == (False, 0, 15, 55)
    assert refused.full == full
    assert ask(full, limit, 1, 1020.0).is_allowed
    assert ask(full, limit, 2, 1020.0).retry_after == 20
    assert ask(full, limit, 3, 1060.0).remaining == 0


def test_a_clock_that_is_set_back_refuses_nobody_for_longer_than_the_period() -> None:
    full = ask(None, RateLimit(2, 10), 2, 5000.0).full
    refused = ask(full, RateLimit(2, 10), 1, 100.0)
    assert (refused.is_allowed, refused.retry_after, refused.reset_after) == (False, 5, 10)
    assert ask(refused.full, RateLimit(2, 10), 1, 105.0).is_allowed


@given(
    st.integers(1, 50),
    st.sampled_from([0.5, 1.0, 60.0, 3600.0]),
    st.lists(st.floats(0, 30), max_size=80),
    st.floats(1.7e9, 1.9e9),
)
def test_never_more_than_the_burst_and_what_came_free(most: int, period: float, waits: list[float], now: float) -> None:
    limit, full, begun, allowed = RateLimit(most, period), None, now, 0
    for wait in waits:
        now += wait * period / most
        answer = ask(full, limit, 1, now)
        allowed += answer.is_allowed
        full = answer.full
        assert answer.is_allowed == (answer.retry_after == 0)
        assert allowed <= most + (now - begun) * most / period + 0.1
        if not answer.is_allowed:
            assert ask(full, limit, 1, now + answer.retry_after).is_allowed
