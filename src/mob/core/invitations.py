"""Decides which callers a worker invites, and which places it keeps for them.

This is the worker's half of *join-idle-queue* (Lu et al., 2011); the caller's half is `dispatch.py`. Callers report
that calls wait for this worker. When it runs low it invites them in turn, each for as many calls as it has room for; a
caller that sent them is last in turn again. An invited caller that has nothing left says so. One that does not answer,
because its loop is blocked, keeps no place for long.

Nothing here sends anything or knows the time; others carry out what is returned.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import NamedTuple

from mob.core.costs import FAR_TRIP, LONG, TRIP, most_in_hand
from mob.core.lanes import UNLIMITED, Lane

INVITATION_TIMEOUT = 0.005
"""Seconds after which an invited caller that does not answer no longer keeps a place."""


class WorkerLoad(NamedTuple):
    """The load of a worker, as a call of a certain export would find it."""

    group: str
    """The group of exports that share their places."""
    lane: Lane
    in_hand: int
    cost: int
    pace: int


class Invitation(NamedTuple):
    """Invite a caller to send that many calls of a queue."""

    uid: int
    line: int
    calls: int
    name: str
    """The export of the calls."""


class _Waiting:
    """A queue of a caller, as a worker knows it."""

    __slots__ = ("count", "group", "is_far", "is_slow", "line", "name", "order", "uid", "until")

    def __init__(self, uid: int, line: int, name: str, is_far: bool, order: int) -> None:
        self.uid = uid
        self.line = line
        self.name = name
        self.is_far = is_far
        self.order = order
        self.group = ""
        self.count = 0
        """Number of places kept for it; 0 unless it is invited."""
        self.is_slow = False
        """True if it is invited and its calls are of those behind which none should wait."""
        self.until = math.inf
        """Time at which the places are given to others."""


class Invitations:
    """The callers that wait for one worker, and the places kept for those that were invited."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int], _Waiting] = {}
        self._queues: dict[str, OrderedDict[tuple[int, int], _Waiting]] = {}  # not invited, in order, by export
        self.expected: dict[tuple[int, str], _Waiting] = {}
        """The callers that were invited and have not answered, by their uids and the exports in question."""
        self._reserved: dict[str, int] = {}
        self.waiting: int = 0
        """Number of queues that wait and are not invited."""
        self._slow: dict[str, int] = {}  # number of invitations for calls behind which none should wait
        self._count = 0

    def __repr__(self) -> str:
        return f"<Invitations, {self.waiting} callers wait, {len(self.expected)} invited>"

    def __len__(self) -> int:
        return len(self._known)

    def handle_waiting(self, uid: int, line: int, name: str, is_far: bool = False) -> None:
        """Note that calls wait in a queue of a caller, the next one of that export."""
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
        """Take it out of the turn, if it was in it."""
        queue = self._queues.get(waiting.name)
        if queue is not None and queue.pop((waiting.uid, waiting.line), None) is not None:
            self.waiting -= 1
            if not queue:
                del self._queues[waiting.name]

    def handle_declined(self, uid: int, line: int) -> None:
        """Note that a caller has nothing left in a queue."""
        waiting = self._known.pop((uid, line), None)
        if waiting is not None:
            self._take(waiting)
            self._end_invitation(waiting)

    def handle_call(self, uid: int, name: str | int) -> None:
        """Handle a call: if its caller was invited, the places are used, and it is last in turn again."""
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
        """Put all waiting callers back in turn, in their order, with none invited.

        This follows an exception in the middle of a change, or of sending invitations.
        """
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
        """Forget a caller whose link ended."""
        for key in [key for key in self._known if key[0] == uid]:
            self.handle_declined(*key)

    def clear(self) -> None:
        """Invite no one any more: the worker ends."""
        for uid, line in list(self._known):
            self.handle_declined(uid, line)

    def invite(self, look: Callable[[str], WorkerLoad], now: float) -> list[Invitation]:
        """Return the invitations to send now. `look` returns the load of this worker for an export."""
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
        """Return the next caller in turn that has room, the load, and for how many calls.

        If the first of those that share places has no room, the others wait behind it: otherwise one whose calls are
        long, and need an idle worker, would be overtaken forever by those whose calls are short.
        """
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
        """Return how many calls to ask for; none before half of the places are free.

        So short calls come in batches. More are asked for from another machine, because they take longer to come, but
        not more at a time from one caller than from others if there are others.
        """
        lane = load.lane
        pace = max(load.pace, LONG + 1) if self._slow.get(load.group) else load.pace
        most = batch = most_in_hand(lane.width, load.cost, pace, TRIP)
        if is_far:
            most = most_in_hand(lane.width, load.cost, pace, FAR_TRIP)
            batch = most if self.waiting == 1 else (batch + 1) // 2
        taken = load.in_hand + self._reserved.get(load.group, 0)
        return min(most - taken, batch) if taken <= most // 2 or taken < lane.width else 0

    def wake_at(self) -> float:
        """Return when `invite` must be called again even if nothing happens; infinite if never."""
        if not self._queues:
            return math.inf
        return min((each.until for each in self.expected.values()), default=math.inf)
