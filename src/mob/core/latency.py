"""Latencies: into which range a time falls, and what the counts of the ranges say about many times.

The ranges grow by half at each step or less (the E6 series), from a microsecond to 100 seconds: a value that is read
back, such as a median, is at most a quarter off. So a distribution is fifty numbers, which can be added up over
processes and over time. HdrHistogram does the same, and so do the histograms of Prometheus, which get every third
bound.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from functools import partial

STEPS = (1.0, 1.5, 2.2, 3.3, 4.7, 6.8)
BOUNDS: tuple[float, ...] = (*(float(f"{step}e{exponent}") for exponent in range(-6, 2) for step in STEPS), 100.0)
"""The upper ends of the ranges, in seconds; there is one more range beyond the last."""
RANGES = len(BOUNDS) + 1
EXPOSED = BOUNDS[::3]
"""The bounds that are shown to other programs."""


range_of: Callable[[float], int] = partial(bisect_left, BOUNDS)
"""Returns the range of a time. It is only a call into C, because it runs for each call that is served."""


def add(counts: list[int], more: Mapping[int, int]) -> None:
    """Add counts by range. Unknown ranges are skipped: they come from another process."""
    for number, count in more.items():
        if 0 <= number < RANGES:
            counts[number] += count


def quantile(counts: Sequence[int], part: float) -> float:
    """Return the time below which that part of all times is (0.5: the median), in seconds; 0 if there are none.

    >>> counts = [0] * RANGES
    >>> counts[range_of(0.002)] = 99
    >>> counts[range_of(0.5)] = 1
    >>> round(quantile(counts, 0.5), 4), quantile(counts, 1.0)
    (0.0019, 0.68)
    """
    total = sum(counts)
    if not total:
        return 0.0
    wanted, seen = part * total, 0
    for number, count in enumerate(counts):
        if count and seen + count >= wanted:
            low = BOUNDS[number - 1] if number else 0.0
            high = BOUNDS[number] if number < len(BOUNDS) else BOUNDS[-1]
            return low + (high - low) * (wanted - seen) / count
        seen += count
    return BOUNDS[-1]


def exposed(counts: Sequence[int]) -> list[tuple[float, int]]:
    """Return the number of times up to each of the bounds that are shown."""
    sums = [0]
    for count in counts:
        sums.append(sums[-1] + count)
    return [(bound, sums[number * 3 + 1]) for number, bound in enumerate(EXPOSED)]
