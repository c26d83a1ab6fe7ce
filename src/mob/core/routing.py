"""Which members may get a call: the ready ones of a role, the place of a key, and the gateway between two members.

`dispatch.py` decides which of them gets it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from hashlib import blake2b

Place = tuple[str, int]
"""A worker's place: the name of its machine, "" if there is only one, and its index there."""


def place_of(key: bytes, nodes: Sequence[tuple[str, int]]) -> Place:
    """Return the place that a key belongs to, on one of the machines with that many places each.

    This is rendezvous hashing (Thaler and Ravishankar, 1996): each place draws a lot for the key, and the highest wins.
    So one more place takes keys for itself only, and all others stay. Machines draw first, each with the weight of its
    places (as in Schindelhauer and Schomaker, 2005).

    >>> place_of(b"user 7", [("", 4)]) == place_of(b"user 7", [("", 4)])
    True
    """
    there = [node for node in nodes if node[1] > 0] or [("", 1)]
    name, workers = there[0] if len(there) == 1 else max(there, key=lambda node: _drawn(key, *node))
    index = max(range(workers), key=lambda index: blake2b(key, digest_size=8, salt=index.to_bytes(8)).digest())
    return name, index


def _drawn(key: bytes, name: str, weight: int) -> float:
    lot = int.from_bytes(blake2b(name.encode(), digest_size=8, key=key[:64]).digest())
    return -weight / math.log((lot + 1) / (2**64 + 1))


def gateway_for(one: int, other: int, gateways: Iterable[int]) -> int | None:
    """Return the gateway of a machine that carries the link between two members.

    It is the one that draws the highest lot for the pair. Both machines find the same one, so that two members that
    want each other at the same moment meet.

    >>> gateway_for(7, 9, [1, 2]) == gateway_for(9, 7, [2, 1])
    True
    """
    pair = b"%d %d" % (min(one, other), max(one, other))
    return max(gateways, key=lambda uid: blake2b(pair, salt=uid.to_bytes(8)).digest(), default=None)
