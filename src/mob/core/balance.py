"""Decides how many of the connections that wait in a shared queue a worker takes, so that each gets its share.

All workers of a role accept from one queue, and the one that wakes first could take all of it: then the connections of
a proxy, which are few and kept for hours, are all at one worker while the others idle. So a worker takes what it lacks
to reach its share, and leaves the rest to those that have less. A worker that missed its chance (it computes, it is
stopped) is not counted until it accepts something again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

SLACK = 32
"""A worker may exceed its share by one connection in this many of all, because evenness is worth no wait."""


class ConnectionLoad(NamedTuple):
    """The connections of another worker."""

    connections: int
    accepted: int
    """Number of connections that it accepted so far, modulo some number."""


def room(mine: int, others: Mapping[int, ConnectionLoad], passed: Mapping[int, int], waiting: int) -> int:
    """Return how many of the `waiting` connections a worker with `mine` connections takes; 0 if it has its share.

    `passed`: for workers that missed a chance, how many connections they had accepted by then.

    >>> room(0, {2: ConnectionLoad(0, 0)}, {}, waiting=8)
    4
    >>> room(4, {2: ConnectionLoad(0, 0)}, {}, waiting=4)
    0
    >>> room(4, {2: ConnectionLoad(0, 0)}, {2: 0}, waiting=4)
    4
    """
    counted = [load.connections for uid, load in others.items() if passed.get(uid) != load.accepted]
    if not counted:
        return waiting
    total = mine + sum(counted) + waiting
    share = -(-total // (len(counted) + 1)) + total // SLACK
    return max(0, min(waiting, share - mine))
