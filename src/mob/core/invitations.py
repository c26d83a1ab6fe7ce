"""Which callers a worker invites, and the places that it keeps for them.

This is the worker's half of *join-idle-queue* (Lu et al., 2011); the caller's is `dispatch.py`. Callers say that calls
wait for this worker. When it runs low it invites them, one after the other, each for as many calls as it has room for;
one that has sent them is the last in turn again. An invited caller that has nothing left says so. One that does not
answer, because its loop is blocked, keeps no place for long.

Nothing here sends anything or knows the time; what is returned is to be done by others.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import NamedTuple

from mob.core.costs import FAR_TRIP, LONG, TRIP, most_in_hand
from mob.core.lanes import UNLIMITED, Lane

INVITATION_TIMEOUT = 0.005
"""Seconds after which an invited caller that does not answer keeps no place any more."""


class WorkerLoad(NamedTuple):
    """How busy a worker is, as a call of a certain export would find it."""

    group: str
    """Exports that share their places are of one group."""
    lane: Lane
    in_hand: int
    cost: int
    pace: int


class Invitation(NamedTuple):
    """Invite a caller to send so many calls of a line."""

    uid: int
    line: int
    calls: int
    name: str
    """The export."""


class _Waiting:
    """A line of a caller's, as a worker knows it."""

    __slots__ = ("count", "group", "is_far", "is_slow", "line", "name", "order", "uid", "until")

    def __init__(self, uid: int, line: int, name: str, is_far: bool, order: int) -> None:
        self.uid = uid
        self.line = line
        self.name = name
        self.is_far = is_far
        self.order = order
        self.group = ""
        self.count = 0
        """Places kept for it; 0 unless it is invited."""
        self.is_slow = False
        """It is invited, and its calls are of those behind which none should wait."""
        self.until = math.inf
        """When they are given to others."""


class Invitations:
    """The callers that wait for one worker, and the places kept for those that were invited."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int], _Waiting] = {}
        self._queues: dict[str, OrderedDict[tuple[int, int], _Waiting]] = {}  # not invited, in order, by export
        self.expected: dict[tuple[int, str], _Waiting] = {}
        """The callers that were invited and have not answered, by their uids and the exports in question."""
        self._reserved: dict[str, int] = {}
        self.waiting: int = 0
        """How many lines wait and are not invited."""
        self._slow: dict[str, int] = {}  # how many were invited for calls behind which none should wait
        self._count = 0

    def __repr__(self) -> str:
        return f"<Invitations, {self.waiting} callers wait, {len(self.expected)} invited>"

    def __len__(self) -> int:
        return len(self._known)

    def handle_waiting(self, uid: int, line: int, name: str, is_far: bool = False) -> None:
        """A caller says that calls wait in a line, the next one of that export."""
        self.handle_declined(uid, line)
        self._put_last(_Waiting(uid, line, name, is_far, 0))

    def _put_last(self, waiting: _Waiting) -> None:
        self._count += 1
        waiting.order = self._count
        key = waiting.uid, waiting.line
        self._known[key] = waiting
        self._queues.setdefault(waiting.name, OrderedDict())[key] = waiting
        self.waiting += 1

    def _take(self, waiting: _Waiting) -> None:
        """It is not in turn any more, if it was."""
        queue = self._queues.get(waiting.name)
        if queue is not None and queue.pop((waiting.uid, waiting.line), None) is not None:
            self.waiting -= 1
            if not queue:
                del self._queues[waiting.name]

    def handle_declined(self, uid: int, line: int) -> None:
        """A caller has nothing left in a line."""
        waiting = self._known.pop((uid, line), None)
        if waiting is not None:
            self._take(waiting)
            self._end_invitation(waiting)

    def handle_call(self, uid: int, name: str | int) -> None:
        """A call has arrived: if its caller was invited, the places are taken, and it is the last in turn again."""
        waiting = self.expected.get((uid, name))  # pyright: ignore[reportArgumentType]
        if waiting is not None:
            self._end_invitation(waiting)
            self._put_last(waiting)

    def _end_invitation(self, waiting: _Waiting) -> None:
        if self.expected.get((waiting.uid, waiting.name)) is waiting:
            del self.expected[waiting.uid, waiting.name]
            self._free(waiting)

    def _keep(self, waiting: _Waiting, load: WorkerLoad, count: int, until: float) -> None:
        group = load.group
        waiting.group, waiting.count, waiting.until = group, count, until
        waiting.is_slow = not 0 < load.cost <= LONG
        self._reserved[group] = self._reserved.get(group, 0) + count
        self._slow[group] = self._slow.get(group, 0) + waiting.is_slow

    def _free(self, waiting: _Waiting) -> None:
        group = waiting.group
        if waiting.count:
            self._reserved[group] -= waiting.count
            self._slow[group] -= waiting.is_slow
            if not self._reserved[group]:
                del self._reserved[group], self._slow[group]
        waiting.count, waiting.is_slow, waiting.until = 0, False, math.inf

    def recover(self) -> None:
        """Something was raised in the middle of a change, or of telling those that were invited: put all that wait in
        turn, in their order, with nobody invited."""
        known = sorted(self._known.values(), key=lambda each: each.order)
        self._queues.clear()
        self.expected.clear()
        self._reserved.clear()
        self._slow.clear()
        self.waiting = 0
        for waiting in known:
            waiting.count, waiting.is_slow, waiting.until = 0, False, math.inf
            self._put_last(waiting)

    def handle_lost(self, uid: int) -> None:
        """The link to a caller has ended."""
        for key in [key for key in self._known if key[0] == uid]:
            self.handle_declined(*key)

    def clear(self) -> None:
        """Invite nobody any more: the worker ends."""
        for uid, line in list(self._known):
            self.handle_declined(uid, line)

    def invite(self, look: Callable[[str], WorkerLoad], now: float) -> list[Invitation]:
        """Return whom to invite now. `look` tells how busy this worker is for an export."""
        for waiting in [each for each in self.expected.values() if each.until <= now]:
            self._free(waiting)  # it is still expected to answer, but no place is kept for it
        invites: list[Invitation] = []
        while (found := self._next(look)) is not None:
            waiting, load, count = found
            self._take(waiting)
            self.expected[waiting.uid, waiting.name] = waiting
            if load.lane.width < UNLIMITED:
                self._keep(waiting, load, count, now + INVITATION_TIMEOUT)
            invites.append(Invitation(waiting.uid, waiting.line, count, waiting.name))
        return invites

    def _next(self, look: Callable[[str], WorkerLoad]) -> tuple[_Waiting, WorkerLoad, int] | None:
        """Return who is the next in turn and has room, and for how many calls. Where the first of those that share
        places has no room the others wait behind it: else one whose calls are long, and need an idle worker, would be
        overtaken for ever by those whose calls are short."""
        full: set[str] = set()
        for waiting in sorted(self._heads(), key=lambda each: each.order):
            load = look(waiting.name)
            if load.group in full:
                continue
            count = self._room(load, waiting.is_far)
            if count > 0:
                return waiting, load, count
            full.add(load.group)
        return None

    def _heads(self) -> Iterator[_Waiting]:
        for name, queue in self._queues.items():
            waiting = next((each for each in queue.values() if (each.uid, name) not in self.expected), None)
            if waiting is not None:
                yield waiting

    def _room(self, load: WorkerLoad, is_far: bool) -> int:
        """Return how many calls may be asked for; none before half of the places are free, so that short calls come in
        batches. From far away more is asked for, because it takes longer to come, but no more at a time from one caller
        than from others if there are others."""
        lane = load.lane
        pace = max(load.pace, LONG + 1) if self._slow.get(load.group) else load.pace
        most = batch = most_in_hand(lane.width, load.cost, pace, TRIP)
        if is_far:
            most = most_in_hand(lane.width, load.cost, pace, FAR_TRIP)
            batch = most if self.waiting == 1 else (batch + 1) // 2
        taken = load.in_hand + self._reserved.get(load.group, 0)
        return min(most - taken, batch) if taken <= most // 2 or taken < lane.width else 0

    def wake_at(self) -> float:
        """Return when `invite` must be asked again though nothing has happened; infinite if never."""
        if not self._queues:
            return math.inf
        return min((each.until for each in self.expected.values()), default=math.inf)
