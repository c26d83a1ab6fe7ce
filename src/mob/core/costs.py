"""What calls cost, and how many of them a worker may have in hand because of that.

A worker measures how long its calls take. The data of an export is small enough for shared memory: its usual time, a
moving average, and its peak, the longest time of the recent past. Times are in microseconds.

A worker should always have the next call at hand when one ends, because the round trip to a caller takes time. So it
may have one call waiting behind the one that runs, and more if calls are so short that one would not last for the round
trip (a *prefetch*). Two kinds of call are not prefetched: those that take long, for which the round trip does not
matter, and those that sometimes take much longer, behind which a short one would be stuck while another worker is free.
"""

from __future__ import annotations

TRIP = 3000
"""Microseconds of work that a worker may have in hand besides the call that runs.

That is the round trip to a caller when both have to be woken on a busy machine.
"""
FAR_TRIP = 5000
"""Microseconds of the same kind for a caller on another machine."""
LONG = 10_000
"""Microseconds from which on a call is not prefetched: the round trip takes at most two percent of its time."""
WEIGHT = 8
"""Divisor: the newest time counts for one part in this many of the average."""
FADING = 128
"""Divisor: a peak loses one part in this many with each time that stays below it."""
IRREGULAR = 4
"""An export is irregular if its peak is more than this many times its usual time, ..."""
HICCUP = 20_000
"""... and longer by this many microseconds, which the system may add to any call by suspending it for a while ..."""
SHORT = 500
"""... unless it usually takes less than this: then long ones are too rare to matter."""
MOST = 1024
"""Maximum number of calls in hand, however short they are."""


def learned(usual: int, peak: int, took: int) -> tuple[int, int]:
    """Return the usual time and the peak of an export after one more call.

    The first call, which may import modules, makes no peak.

    >>> learned(0, 0, 9000), learned(1000, 0, 1800), learned(1000, 50_000, 1000)
    ((9000, 0), (1100, 1800), (1000, 49610))
    """
    took = max(took, 1)
    if not usual:
        return took, 0
    usual += (took - usual) // WEIGHT if took < usual else -((usual - took) // WEIGHT)  # by one at least, both ways
    return usual, max(took, peak - peak // FADING)


def cost_of(usual: int, peak: int) -> int:
    """Return the expected microseconds of a call; 0 if unknown.

    That is so if nothing was measured yet, or if the export is irregular.

    >>> cost_of(1000, 2000), cost_of(1000, 200_000), cost_of(5, 200_000)
    (1000, 0, 5)
    """
    is_irregular = usual > SHORT and peak > HICCUP + IRREGULAR * usual
    return 0 if is_irregular else usual


def most_in_hand(width: int, cost: int, pace: int, trip: int = TRIP) -> int:
    """Return how many calls a worker that runs `width` at once may have in hand, running and waiting ones.

    `cost`: of the call in question; `pace`: the average time of the worker's calls at the moment.

    >>> most_in_hand(1, 0, 0), most_in_hand(1, 5000, 5000), most_in_hand(1, 100, 100), most_in_hand(1, 5, 5000)
    (1, 2, 31, 1)
    """
    slowest, behind = max(cost, pace), max(cost, trip)
    if not cost or slowest > min(behind, LONG):
        return width
    return width + min(-(-width * behind // slowest), MOST)
