"""What calls cost, and how many of them a worker may have in hand because of that.

A worker measures how long its calls take. What is kept of an export is small enough for shared memory: its usual time,
a moving average, and its peak, the longest time of the recent past. Times are in microseconds.

A worker should always have the next call at hand when one ends, because the way to a caller and back takes time. So
it may have one call waiting behind the one that runs, and more if calls are so short that one would not last for the
way (a *prefetch*). Two kinds of call are not prefetched: those that take long, where the way does not matter, and
those that take much longer once in a while, behind which a short one would be stuck while another worker is free.
"""

from __future__ import annotations

TRIP = 3000
"""Microseconds of work that a worker may have in hand besides the call that runs: what the way to a caller and back
takes when both have to be woken on a busy machine."""
FAR_TRIP = 5000
"""The same for a caller on another machine."""
LONG = 10_000
"""Microseconds from which on a call is not prefetched: the way takes two percent of its time at most."""
WEIGHT = 8
"""The newest time counts for one part in so many of the average."""
FADING = 128
"""A peak loses one part in so many with each time that stays below it."""
IRREGULAR = 4
"""An export is irregular if its peak is more than so many times its usual time, ..."""
HICCUP = 20_000
"""... and longer by so many microseconds, which any call may take that the system has set aside for a while ..."""
SHORT = 500
"""... unless it usually takes less than this: then long ones are too rare to matter."""
MOST = 1024
"""Calls in hand, however short they are."""


def learned(usual: int, peak: int, took: int) -> tuple[int, int]:
    """Return the usual time and the peak of an export after one more call. The first call, which may import modules,
    makes no peak.

    >>> learned(0, 0, 9000), learned(1000, 0, 1800), learned(1000, 50_000, 1000)
    ((9000, 0), (1100, 1800), (1000, 49610))
    """
    took = max(took, 1)
    if not usual:
        return took, 0
    usual += (took - usual) // WEIGHT if took < usual else -((usual - took) // WEIGHT)  # by one at least, both ways
    return usual, max(took, peak - peak // FADING)


def cost_of(usual: int, peak: int) -> int:
    """Return what a call may be expected to take; 0 if nobody can tell, because nothing was measured yet or because
    the export is irregular.

    >>> cost_of(1000, 2000), cost_of(1000, 200_000), cost_of(5, 200_000)
    (1000, 0, 5)
    """
    is_irregular = usual > SHORT and peak > HICCUP + IRREGULAR * usual
    return 0 if is_irregular else usual


def most_in_hand(width: int, cost: int, pace: int, trip: int = TRIP) -> int:
    """Return how many calls a worker may have in hand that runs `width` at once: those that run, and those that wait
    behind them. `cost`: of the call in question; `pace`: what the worker's calls take on average at the moment.

    >>> most_in_hand(1, 0, 0), most_in_hand(1, 5000, 5000), most_in_hand(1, 100, 100), most_in_hand(1, 5, 5000)
    (1, 2, 31, 1)
    """
    slowest, behind = max(cost, pace), max(cost, trip)
    if not cost or slowest > min(behind, LONG):
        return width
    return width + min(-(-width * behind // slowest), MOST)
