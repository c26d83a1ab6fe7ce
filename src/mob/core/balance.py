"""How many of the connections that wait in a shared queue a worker takes, so that each has its share.

All workers of a role accept from one queue, and the one that wakes first could take all of it: then the connections of
a proxy, which are few and kept for hours, lie with one worker while the others idle. So a worker takes what it lacks to
its share, and leaves the rest to those that have less. One that has let its chance pass (it computes, it is stopped) is
not counted on until it has accepted something again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

SLACK = 32
"""A worker may have more than its share by one connection in so many of all, because evenness is worth no wait."""


class ConnectionLoad(NamedTuple):
    """What another worker has."""

    connections: int
    accepted: int
    """How many it has taken so far, modulo some number."""


def room(mine: int, others: Mapping[int, ConnectionLoad], passed: Mapping[int, int], waiting: int) -> int:
    """Return how many of so many `waiting` connections a worker takes that has `mine`; 0 if it has its share.

    `passed`: of those that have let a chance pass, how many they had accepted by then.

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
