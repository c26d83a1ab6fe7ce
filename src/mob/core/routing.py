"""Choosing a worker for a call.

Among the ready workers of a role the one with the fewest calls outstanding from here; among equals the one that
reported the shorter queue with its last reply; among those in turn. The queue breaks ties only: a report ages, and a
worker that was busy once must not be shunned until it happens to report again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
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


def place_of(key: bytes, workers: int) -> int:
    """The index of the worker that a key belongs to: rendezvous hashing (Thaler and Ravishankar, 1996).

    Each place draws a lot for the key, the highest wins: one more place takes keys for itself only, all others stay.

    >>> place_of(b"user 7", 4) == place_of(b"user 7", 4)
    True
    """
    return max(range(max(1, workers)), key=lambda index: blake2b(key, digest_size=8, salt=index.to_bytes(8)).digest())


class Route(Generic[T]):
    """The ready workers of one role, as one caller sees them."""

    __slots__ = ("_turn", "keyed", "role", "targets", "waiting")

    def __init__(self, role: str) -> None:
        self.role = role
        self.targets: tuple[T, ...] = ()
        self.waiting: deque[Any] = deque()
        """What waits for a ready worker, in order. As long as something does, nothing may overtake it."""
        self.keyed: dict[int, deque[Any]] = {}
        """What waits for the worker in a certain place, by its index."""
        self._turn = 0

    def __repr__(self) -> str:
        return f"<Route to {len(self.targets)} workers of {self.role!r}, {len(self.waiting)} waiting>"

    def all_waiting(self) -> list[Any]:
        """What waits for any worker, and what waits for a certain one."""
        return [*self.waiting, *(parked for keyed in self.keyed.values() for parked in keyed)]

    def leave_places(self, workers: int, key_of: Callable[[Any], bytes]) -> bool:
        """Places from that number on are no more: what waited for them moves to the new place of its key. Whether
        there was something."""
        left = [parked for index in sorted(self.keyed) if index >= workers for parked in self.keyed.pop(index)]
        for parked in left:
            self.keyed.setdefault(place_of(key_of(parked), workers), deque()).append(parked)
        return bool(left)

    def forget(self, parked: Any) -> None:
        """It waits no longer."""
        for queue in (self.waiting, *self.keyed.values()):
            if parked in queue:
                queue.remove(parked)

    def choose(self) -> T | None:
        """The worker for the next call; None while there is no ready one."""
        targets = self.targets
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
