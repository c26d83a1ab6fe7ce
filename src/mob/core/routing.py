"""Choosing a worker for a call.

Among the ready workers of a role the one with the fewest calls outstanding from here; among equals the one that
reported the shorter queue with its last reply; among those in turn. The queue breaks ties only: a report ages, and a
worker that was busy once must not be shunned until it happens to report again.

Workers of other machines are asked when those here are busy (`mobster.calling` says when that is).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from typing import Any, Generic, Protocol, TypeVar

from mob.core.states import Mobster
from mob.wire.messages import Member


class Target(Protocol):
    """What choosing needs to know of a worker."""

    @property
    def outstanding(self) -> int:
        """Calls that it has in hand."""
        ...

    @property
    def queue(self) -> int:
        """Calls that waited there when it last answered."""
        ...


T = TypeVar("T", bound=Target)


def may_get_calls(member: Member, role: str) -> bool:
    """Whether a member is one of the role's that calls may go to."""
    return member.role == role and member.state == Mobster.READY


Place = tuple[str, int]
"""A worker's place: the name of its machine, "" if there is but one, and its index there."""


def place_of(key: bytes, nodes: Sequence[tuple[str, int]]) -> Place:
    """The place that a key belongs to, on one of the machines that have so many each: rendezvous hashing (Thaler and
    Ravishankar, 1996).

    Each place draws a lot for the key, the highest wins: one more place takes keys for itself only, all others stay.
    Machines draw first, each with the weight of its places (as in Schindelhauer and Schomaker, 2005).

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
    """The gateway of a machine that carries the link between two members: the one that draws the highest lot for the
    pair. Both machines find the same, so that two who want each other at the same moment meet.

    >>> gateway_for(7, 9, [1, 2]) == gateway_for(9, 7, [2, 1])
    True
    """
    pair = b"%d %d" % (min(one, other), max(one, other))
    return max(gateways, key=lambda uid: blake2b(pair, salt=uid.to_bytes(8)).digest(), default=None)


class Route(Generic[T]):
    """The ready workers of one role, as one caller sees them."""

    __slots__ = ("_turn", "far", "keyed", "near", "role", "targets", "waiting")

    def __init__(self, role: str) -> None:
        self.role = role
        self.targets: tuple[T, ...] = ()
        self.near: tuple[T, ...] = ()
        """Those of them on this machine."""
        self.far: tuple[T, ...] = ()
        """Those on others."""
        self.waiting: deque[Any] = deque()
        """What waits for a ready worker, in order. As long as something does, nothing may overtake it."""
        self.keyed: dict[Place, deque[Any]] = {}
        """What waits for the worker in a certain place."""
        self._turn = 0

    def __repr__(self) -> str:
        return f"<Route to {len(self.targets)} workers of {self.role!r}, {len(self.waiting)} waiting>"

    def put(self, near: Iterable[T], far: Iterable[T] = ()) -> None:
        """The workers that may get calls, on this machine and on others."""
        self.near, self.far = tuple(near), tuple(far)
        self.targets = (*self.near, *self.far)

    def all_waiting(self) -> list[Any]:
        """What waits for any worker, and what waits for a certain one."""
        return [parked for queue in (self.waiting, *self.keyed.values()) for parked in list(queue)]

    def count(self, place: Place | None) -> int:
        """How much waits for any worker, or for the one in a certain place."""
        return len(self.waiting if place is None else self.keyed.get(place, ()))

    def park(self, parked: Any, place: Place | None) -> None:
        """It waits for any worker, or for the one in a certain place."""
        queue = self.waiting if place is None else self.keyed.setdefault(place, deque())
        queue.append(parked)

    def place_anew(self, place: Callable[[Any], Place]) -> None:
        """There are other places: what waited for one waits for the new place of its key."""
        keyed, self.keyed = self.keyed, {}
        for _, waiting in sorted(keyed.items()):
            for parked in waiting:
                self.park(parked, place(parked))

    def forget(self, parked: Any) -> None:
        """It waits no longer."""
        for queue in (self.waiting, *self.keyed.values()):
            if parked in queue:
                queue.remove(parked)

    def choose(self, is_far: bool = False) -> T | None:
        """The worker for the next call, on this machine or on another; None while there is no ready one."""
        targets = self.far if is_far else self.near
        if len(targets) <= 1:
            return targets[0] if targets else None
        self._turn = turn = (self._turn + 1) % len(targets)
        best = targets[turn]
        fewest = best.outstanding
        for target in targets[turn + 1 :] + targets[:turn]:
            outstanding = target.outstanding
            if outstanding < fewest or (outstanding == fewest and target.queue < best.queue):
                best, fewest = target, outstanding
        if best is not targets[turn]:
            self._turn = targets.index(best)  # else the one behind a busy worker would have that one's turn as well
        return best
