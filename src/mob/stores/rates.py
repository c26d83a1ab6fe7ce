"""Rate limits: "100/minute" as a number and a time, and whether one more is allowed.

Strategy. The generic cell rate algorithm (GCRA, ITU-T I.371; as in redis-cell): for each key one number is kept, the
time at which all that was allowed is used up (`full`). 100 may come at once; then one each 0.6 s, so that in the long
run there are never more than 100 in a minute. Unlike a counter of fixed minutes it has no edge at which twice as many
pass, and unlike a log of all events it takes the same memory for any number.

Limits. No I/O, no clock: `now` is passed in.
"""

from __future__ import annotations

import re
from functools import lru_cache
from math import inf
from typing import NamedTuple

UNITS = {
    **dict.fromkeys(("s", "sec", "second", "seconds"), 1.0),
    **dict.fromkeys(("m", "min", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hour", "hours"), 3600.0),
    **dict.fromkeys(("d", "day", "days"), 86400.0),
}
"""Seconds of each unit, by its names in a limit."""
_LIMIT = re.compile(r"\s*(\d[\d_]*)\s*(?:/|\s+per\s+)\s*(\d+(?:\.\d+)?)?\s*([a-z]+)\s*", re.IGNORECASE)
LONGEST = 15
"""Maximum digits of the number in a limit: such numbers are exact as floats."""
_ROUNDING = 0.001
"""Share of an interval by which times may be off because they are floats."""


class RateLimit(NamedTuple):
    """A number of events in a number of seconds."""

    most: int
    period: float


class RateAnswer(NamedTuple):
    """The answer whether something is allowed, and what is left."""

    full: float
    """Time at which all that was allowed so far is used up: to be kept for the key until then."""
    is_allowed: bool
    remaining: int
    """Number of further events that are allowed at once."""
    retry_after: float
    """Seconds until this would be allowed; 0 if it was."""
    reset_after: float
    """Seconds until the whole limit is free again."""


@lru_cache(256)
def limit_of(text: str) -> RateLimit:
    """Return the limit that a text describes; raise `ValueError` if it describes none.

    >>> limit_of("100/minute"), limit_of("5 per 10 s")
    (RateLimit(most=100, period=60.0), RateLimit(most=5, period=10.0))
    """
    found = _LIMIT.fullmatch(text)
    period = 0.0 if found is None else float(found[2] or 1) * UNITS.get(found[3].lower(), 0.0)
    count = 0 if found is None or len(found[1]) > LONGEST else int(found[1])
    if not count or not 0 < period < inf:
        raise ValueError(f'{text!r} is not a rate limit. Write one as "100/minute", "5/s" or "20/15 minutes".')
    return RateLimit(count, period)


def ask(full: float | None, limit: RateLimit, n: int, now: float) -> RateAnswer:
    """Return whether `n` more are allowed, given the time that was kept for the key; None: none yet."""
    each = limit.period / limit.most
    before = now if full is None else min(max(full, now), now + limit.period)  # the clock may have been set back
    after = before + n * each
    early = after - limit.period - now
    if early > each * _ROUNDING:
        return RateAnswer(before, False, _left(before, limit, now), early, before - now)
    return RateAnswer(after, True, _left(after, limit, now), 0.0, after - now)


def _left(full: float, limit: RateLimit, now: float) -> int:
    each = limit.period / limit.most
    return max(0, int((now + limit.period - full) / each + _ROUNDING))
