"""Decides which worker gets a call, and what waits at its caller until a worker has room.

This is the caller's half of *join-idle-queue* (Lu et al., 2011) with a prefetch; the worker's half is `invitations.py`.
A call goes at once to the worker where it would begin first, as far as its caller knows (`Route.choose`). If none has
room, it waits here, in a queue of calls of its kind, and the caller reports that once to each worker that could run it.
A worker that runs low invites the waiting callers, for as many calls as it has room for. So no process has to poll, and
a call is given away as late as possible. How much room a worker has: see `costs.py`.

Nothing here sends anything; others carry out what is returned.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from mob.core.costs import FAR_TRIP, SHORT, TRIP, most_in_hand
from mob.core.lanes import FREE, LOOP, MESSAGE, Lane
from mob.core.routing import Place

WAKE = 60
"""Microseconds until a sleeping worker is awake: shorter calls gather at one that is awake."""
SPILL = 2000
"""Microseconds that a call would have to wait here before a worker of another machine is the better choice."""
FAR = 20
"""Number of concurrent calls that a worker here must have in hand before one of another machine is preferred."""
FEW = 2
"""Number of short calls under way at once that are not a burst yet: later ones go to all workers in turn."""
ORDERED = "*"
"""The name of a queue that keeps the order of calls of several exports."""
QueueKey = tuple[Place | None, str, bool]
"""Key of a queue: the place that its calls wait for, the export, and True unless they must stay on this machine."""


class Worker(Protocol):
    """The facts about a worker that a choice needs."""

    @property
    def uid(self) -> int:
        """Its uid."""
        ...

    @property
    def place(self) -> Place:
        """Its place: the name of its machine, and its index there."""
        ...

    @property
    def is_distant(self) -> bool:
        """True if it is on another machine."""
        ...

    @property
    def is_choked(self) -> bool:
        """True if its link accepts nothing more at the moment."""
        ...

    @property
    def in_hand(self) -> int:
        """Number of calls that another call would have to wait for there; huge if callers wait already."""
        ...

    @property
    def pending(self) -> Collection[Any]:
        """The calls that this process sent there and that were not answered."""
        ...

    @property
    def outstanding(self) -> int:
        """Number of all calls that it has in hand."""
        ...

    @property
    def pace(self) -> int:
        """Average microseconds that its calls take at the moment."""
        ...


class Queued:
    """A call, or a message, that waits for a worker."""

    __slots__ = (
        "blockers",
        "can_leave",
        "left",
        "line",
        "name",
        "number",
        "place",
        "served_since",
        "since",
        "size",
        "until",
        "wait",
    )

    def __init__(
        self,
        name: str,
        size: int,
        wait: float,
        place: Place | None = None,
        blockers: Sequence[int] = (),
        can_leave: bool = True,
    ) -> None:
        self.name: str = name
        """The export; `MESSAGE` for a message."""
        self.size: int = size
        """Bytes that it occupies."""
        self.wait: float = wait
        """Maximum seconds to wait for a ready worker."""
        self.left: float = wait
        """Seconds of `wait` that were left when there last was a ready worker."""
        self.until: float = math.inf
        """Time at which these seconds are over; infinite while there are ready workers."""
        self.place: Place | None = place
        """The only place that it may go to; None for any."""
        self.blockers: Sequence[int] = blockers
        """The uids of processes that cannot run it while it waits, because they wait for its answer themselves."""
        self.can_leave: bool = can_leave
        """True if a worker of another machine may run it although there are workers on this one."""
        self.line: WaitQueue = NOWHERE
        self.number: int = 0
        """Position among all items that ever waited."""
        self.since: float = 0.0
        self.served_since: float = 0.0
        """Time since which there are ready workers for it; while `until` is infinite."""

    def __repr__(self) -> str:
        return f"<Queued for {self.name}>"


class WaitQueue:
    """Items that wait for the same workers, in order."""

    __slots__ = ("asked", "can_leave", "name", "number", "place", "route", "waiting")

    def __init__(self, route: Route[Any], number: int, name: str, place: Place | None, can_leave: bool) -> None:
        self.route: Route[Any] = route
        self.number: int = number
        """The number by which an invitation names it."""
        self.name: str = name
        """The export of all its calls; "" if it has calls of several."""
        self.place: Place | None = place
        self.can_leave: bool = can_leave
        self.waiting: OrderedDict[Queued, None] = OrderedDict()
        self.asked: dict[int, str] = {}
        """The workers that know of it, by uid, and the export that was announced to them as the next."""

    def __repr__(self) -> str:
        return f"<WaitQueue {self.number} of {len(self.waiting)} for {self.name or self.place or 'the only worker'}>"

    @property
    def head(self) -> Queued:
        """The next item; there must be one."""
        return next(iter(self.waiting))


W = TypeVar("W", bound=Worker)


class AskForPlace(NamedTuple, Generic[W]):
    """Tell a worker that calls wait for it in a queue, the next one of this export."""

    worker: W
    line: int
    name: str


class _Burst(Generic[W]):
    """Short calls that are made faster than they are answered.

    They gather at one worker, which is awake; the calls that it has room for are sent without a check of each.
    """

    __slots__ = ("_left", "_most", "_size", "worker")

    def __init__(self, worker: W, most: int) -> None:
        self.worker = worker
        self._most = self._left = most
        self._size = 1

    def goes_on(self) -> bool:
        """Return True if the next call goes to the same worker; after `most` calls all workers are checked again."""
        if self.worker.pending:
            self._left -= 1
            self._size += 1
            return self._left > 0
        if self._size > FEW and not self.worker.in_hand:  # all were answered at once, and it is hardly asleep yet
            self._left, self._size = self._most, 1
            return True
        return False


class Route(Generic[W]):
    """The ready workers of one role as one caller sees them, and the items that wait for them there."""

    __slots__ = (
        "_arranged_for",
        "_bursts",
        "_cost_of",
        "_last_item",
        "_last_line",
        "_leaving",
        "_lines",
        "_turn",
        "_uids",
        "far",
        "lanes",
        "near",
        "places",
        "role",
        "size",
        "tags",
        "targets",
        "waiting",
    )

    def __init__(self, role: str, cost_of: Callable[[int], int]) -> None:
        self.role: str = role
        self._cost_of = cost_of  # microseconds of a call of an export, by its mark; 0 if unknown
        self.targets: tuple[W, ...] = ()
        self.near: tuple[W, ...] = ()
        """The targets on this machine."""
        self.far: tuple[W, ...] = ()
        """The targets on other machines."""
        self.lanes: dict[str, Lane] = {MESSAGE: FREE}
        """How each export runs, as far as that is known; otherwise `LOOP`."""
        self.tags: dict[str, bool] = {}
        """True for exports that take arguments with tags, as far as that is known."""
        self.places: int = 1
        """Number of workers that the role is to have, on all machines."""
        self.waiting: int = 0
        """Number of items that wait."""
        self.size: int = 0
        """Bytes of the items that wait."""
        self._lines: dict[QueueKey, WaitQueue] = {}
        self._last_line = 0
        self._last_item = 0
        self._leaving: WaitQueue | None = None  # an ordered queue whose accepted items may not have been sent yet
        self._arranged_for = (1, False)  # what the queues depend on: the places, and if there is a choice of machines
        self._bursts: dict[str, _Burst[W]] = {}  # by export
        self._turn = 0
        self._uids: frozenset[int] = frozenset()  # of the targets

    def __repr__(self) -> str:
        return f"<Route to {len(self.targets)} workers of {self.role!r}, {self.waiting} waiting>"

    def add_variant(self, target: str, export: str) -> None:
        """Note that the calls of a target run like those of the export of which it is a variant."""
        if (lane := self.lanes.get(export)) is not None:
            self.lanes[target] = lane
        if export in self.tags:
            self.tags[target] = self.tags[export]

    # --------------------------------------------------------------------------------------- choosing

    def choose(
        self,
        name: str,
        mark: int,
        can_leave: bool = True,
        place: Place | None = None,
        blockers: Collection[int] = (),
    ) -> W | None:
        """Return the worker where a call would begin first; None if none has room, or others of its queue wait.

        `mark`: of the export; its cost is known by it. `can_leave`: the call may go to another machine. `blockers`: the
        uids of processes that may wait for its answer, and could not give it then: they are not chosen.
        """
        is_free = place is None and can_leave and (not blockers or self._uids.isdisjoint(blockers))
        if self.waiting or self._leaving is not None:
            if self._has_waiting(self._key(name, place, can_leave)):
                return None
        elif (burst := self._bursts.get(name)) is not None and is_free and burst.goes_on():
            return burst.worker
        lane = self.lanes.get(name, LOOP)
        targets = self.targets if is_free else self._candidates(can_leave, place)
        if blockers and not is_free:
            targets = [target for target in targets if target.uid not in blockers]
        if len(targets) == 1:
            (worker,) = targets
            in_hand = worker.in_hand
            if not self._has_room(worker, lane, mark, in_hand):
                return None
            if in_hand and not lane.is_beside:
                self._begin_burst(worker, lane, mark, name, in_hand)
            return worker
        if lane.is_beside:
            return self._choose_beside(targets, lane)
        return self._choose_first_to_begin(targets, lane, mark, name)

    def choose_idle(self, name: str, blockers: Collection[int] = ()) -> W | None:
        """Return a worker of this machine that has nothing to do; None if there is none, or others of its queue wait.

        A call for whose answer a worker of the same role waits must not queue behind another such call: the two could
        wait for each other.
        """
        if self.waiting and self._has_waiting(self._key(name, None, True)):
            return None
        idle = (each for each in self.near if not each.in_hand and not each.is_choked and each.uid not in blockers)
        return next(idle, None)

    def _has_waiting(self, key: QueueKey) -> bool:
        line = self._lines.get(key)
        return line is not None and (bool(line.waiting) or line is self._leaving)

    def _candidates(self, can_leave: bool, place: Place | None) -> Sequence[W]:
        if place is not None:
            return [target for target in self.targets if target.place == place]
        return self.targets if can_leave else self.near

    def _candidates_of(self, line: WaitQueue) -> Sequence[W]:
        return self._candidates(line.can_leave, line.place)

    def _choose_first_to_begin(self, targets: Sequence[W], lane: Lane, mark: int, name: str) -> W | None:
        if not targets:
            return None
        cost, last = self._cost_of(mark), targets[self._turn % len(targets)]
        is_tiny = 0 < cost <= WAKE
        if is_tiny and last.pending:  # the latest choice is awake
            in_hand = last.in_hand
            if in_hand * max(cost, last.pace) < WAKE and self._has_room(last, lane, mark, in_hand):
                self._begin_burst(last, lane, mark, name, in_hand)
                return last
        best, soonest, width = None, math.inf, lane.width
        self._turn = turn = (self._turn + 1) % len(targets)
        for target in (*targets[turn:], *targets[:turn]):
            in_hand = target.in_hand
            if in_hand >= width:
                begins = in_hand * max(cost, target.pace) // width
            elif in_hand and is_tiny:
                begins = 0  # it is awake, and has a free thread
            else:
                begins = WAKE + target.outstanding  # if two can begin at once, prefer the one that does less
            if target.is_distant:
                begins += SPILL
            if begins < soonest and self._has_room(target, lane, mark, in_hand):
                best, soonest = target, begins
                if begins <= WAKE:
                    break  # it has nothing to do
        return self._turn_to(best, targets)

    def _choose_beside(self, targets: Sequence[W], lane: Lane) -> W | None:
        """Return the worker with the fewest calls: they take no time, or an unknown time."""
        if not targets:
            return None
        best, fewest = None, math.inf
        self._turn = turn = (self._turn + 1) % len(targets)
        for target in (*targets[turn:], *targets[:turn]):
            outstanding = target.outstanding + (FAR if target.is_distant else 0)
            if outstanding < fewest and outstanding < lane.width and not target.is_choked:
                best, fewest = target, outstanding
        return self._turn_to(best, targets)

    def _turn_to(self, best: W | None, targets: Sequence[W]) -> W | None:
        if best is not None and best is not targets[self._turn]:
            self._turn = targets.index(best)  # otherwise the one after a busy worker would get that one's turn as well
        return best

    def _has_room(self, worker: W, lane: Lane, mark: int, in_hand: int) -> bool:
        """Return True if a worker may be given one more call of an export without an invitation."""
        if worker.is_choked:
            return False
        if lane.is_beside:
            return worker.outstanding < lane.width
        if in_hand < lane.width:
            return True
        cost, pace = self._cost_of(mark), worker.pace
        if max(cost, pace) > SHORT:
            return False  # its calls may take long: the worker says when they do not
        return in_hand < most_in_hand(lane.width, cost, pace, FAR_TRIP if worker.is_distant else TRIP)

    def _begin_burst(self, worker: W, lane: Lane, mark: int, name: str, in_hand: int) -> None:
        """Send the next short calls to the same worker, without a check of each.

        As many follow as begin there before another worker is awake, if there is another.
        """
        cost, pace = self._cost_of(mark), worker.pace
        if not 0 < cost <= WAKE:
            return
        most = (most_in_hand(lane.width, cost, pace) - in_hand) // 2
        if len(self.targets) > 1:
            most = min(most, WAKE // max(cost, pace) - in_hand)
        if most > 1:
            self._bursts[name] = _Burst(worker, most)

    def any_of(self, blockers: Iterable[int], place: Place | None) -> W | None:
        """Return a worker for a call that must not wait, because all that could run it wait for it themselves."""
        targets = self._candidates(True, place)
        return self.least(place) if all(target.uid in blockers for target in targets) else None

    def least(self, place: Place | None = None) -> W | None:
        """Return the worker that has the fewest calls in hand; None if none is ready."""
        return min(self._candidates(True, place), key=lambda target: target.outstanding, default=None)

    # ---------------------------------------------------------------------------------------- waiting

    def _key(self, name: str, place: Place | None, can_leave: bool) -> QueueKey:
        """Return the queue in which a call waits.

        Where there is a choice of workers, each export has a queue of its own, so that none waits for another; calls
        that must stay on this machine wait apart. Where there is no choice, calls that run one by one wait in one
        queue, in order, and so does what comes behind them: it would have to wait for them in the worker as well. A
        call that runs beside others has a queue of its own when the maximum number of them runs: then it must not delay
        other calls.
        """
        if place is None and self.places != 1:
            return None, name, can_leave or not (self.near and self.far)
        own, ordered = (place, name, True), (place, ORDERED, True)
        if self._has_waiting(own):
            return own
        lane = self.lanes.get(name, LOOP)
        return ordered if lane is LOOP or self._has_waiting(ordered) or self._fits(lane, place) else own

    def _fits(self, lane: Lane, place: Place | None) -> bool:
        """Return True if a call that runs beside others waits, but not for other calls to end.

        It waits for the worker itself, or because earlier calls were just about to be sent.
        """
        outstanding = sum(target.outstanding for target in self._candidates(True, place))
        return outstanding + self.waiting < lane.width

    def park(self, item: Queued, now: float) -> list[AskForPlace[W]]:
        """Add an item to its queue; return the workers to tell about it."""
        self._last_item += 1
        item.number = self._last_item
        item.since = now
        line = self._put_last(item)
        self.waiting += 1
        self.size += item.size
        if self._candidates_of(line):
            item.served_since = now
        else:
            item.until = now + item.wait
        return self._asks(line) if len(line.waiting) == 1 else []

    def _put_last(self, item: Queued) -> WaitQueue:
        key = self._key(item.name, item.place, item.can_leave)
        line = self._lines.get(key)
        if line is None:
            self._last_line += 1
            name = "" if key[1] == ORDERED else item.name
            line = self._lines[key] = WaitQueue(self, self._last_line, name, item.place, key[2])
        item.line = line
        line.waiting[item] = None
        return line

    def _asks(self, line: WaitQueue) -> list[AskForPlace[W]]:
        """Return the workers to tell about a queue: they do not know of it, or know another export as its next."""
        if not line.waiting:
            return []
        name = line.name or line.head.name
        asks: list[AskForPlace[W]] = []
        for target in self._candidates_of(line):
            if line.asked.get(target.uid) != name:
                line.asked[target.uid] = name
                asks.append(AskForPlace(target, line.number, name))
        return asks

    def _line(self, number: int) -> WaitQueue | None:
        return next((line for line in self._lines.values() if line.number == number), None)

    def accept(self, worker: W, number: int, count: int, items: list[Queued] | None = None) -> list[Queued]:
        """Take the items that an invitation is for out of their queue: at most `count`, all of the announced export.

        If there are none, tell the worker so, because it keeps places free; then it forgets the queue, and
        `asks_after` says if the queue is announced to it again. `items`: the list to fill, also if this raises.
        """
        items = [] if items is None else items
        line = self._line(number)
        if line is None:
            return []
        name = line.asked.get(worker.uid)
        if not line.waiting or line.head.name != name or worker not in self._candidates_of(line):
            line.asked.pop(worker.uid, None)
            return []
        if line.place is not None or not line.name:
            self._leaving = line  # until `asks_after`; set before the first is taken: other threads choose meanwhile
        while line.waiting and len(items) < count and (item := line.head).name == name:
            items.append(item)
            self.forget(item)
        return items

    def asks_after(self, number: int) -> list[AskForPlace[W]]:
        """Return the workers to tell about a queue from which items were taken, after these were sent.

        They are workers that forgot the queue, or know another export as its next.
        """
        line = self._line(number)
        if line is self._leaving:
            self._leaving = None
        return [] if line is None else self._asks(line)

    def end_invitation(self, worker: W, number: int, has_sent: bool) -> list[AskForPlace[W]]:
        """Note that the accepted items were sent, or that none was: then the worker learns that the queue is empty.

        Return the workers to tell about what is left.
        """
        if not has_sent:
            self.forget_worker(worker, number)
        return self.asks_after(number)

    def take(self, is_taken: Callable[[Queued], bool], taken: list[Queued]) -> list[AskForPlace[W]]:
        """Take the chosen items out of their queues; return the workers to tell about what is left.

        `taken`: the list to fill, also if this raises; then it is unknown what workers know (`ask_again`).
        """
        meant = [item for item in self.items() if is_taken(item)]
        try:
            while meant:
                self.forget(meant[0])
                taken.append(meant[0])
                del meant[0]
        except BaseException:
            if meant and not self.holds(meant[0]) and meant[0] not in taken:
                taken.append(meant[0])
            raise
        numbers = dict.fromkeys(item.line.number for item in taken)
        return [ask for number in numbers for ask in self.asks_after(number)]

    def is_blocked(self, item: Queued) -> bool:
        """Return True if an item must not wait, because all that could run it wait for it themselves."""
        return self.any_of(item.blockers, item.place) is not None

    def first_for_only_one(self) -> Queued | None:
        """Return the first waiting item if the only worker has nothing to do, and no other is to come; otherwise None.

        Waiting for its invitation would gain nothing.
        """
        if len(self.targets) != 1 or self.places != 1:
            return None
        (worker,) = self.targets
        first = min(self.items(), key=lambda item: item.number, default=None)
        if first is None or worker.in_hand or worker.is_choked or worker.uid in first.blockers:
            return None
        return first if first.place in (None, worker.place) else None

    def forget(self, item: Queued) -> bool:
        """Remove an item from its queue if it is there; `asks_after` says which workers to tell."""
        if item not in item.line.waiting:
            return False
        del item.line.waiting[item]
        self.waiting -= 1
        self.size -= item.size
        return True

    def ask_again(self) -> list[AskForPlace[W]]:
        """Return everything to tell workers if it is unknown what they know, because an exception was raised."""
        self._leaving = None
        asks: list[AskForPlace[W]] = []
        for line in list(self._lines.values()):
            line.asked.clear()
            asks += self._asks(line)
        return asks

    def holds(self, item: Queued) -> bool:
        """Return True if an item waits here."""
        return item in item.line.waiting

    def items(self) -> list[Queued]:
        """Return all waiting items. May be called from any thread."""
        return [item for line in list(self._lines.values()) for item in list(line.waiting)]

    def overdue(self, before: float) -> int:
        """Return how many items wait in queues whose first has waited since before that time. From any thread."""
        count = 0
        for line in list(self._lines.values()):
            head = next(iter(list(line.waiting)), None)
            if head is not None and head.since <= before:
                count += len(line.waiting)
        return count

    # ----------------------------------------------------------------------------------------- changes

    def put(self, near: Iterable[W], far: Iterable[W], now: float) -> list[AskForPlace[W]]:
        """Replace the workers; return which of them to tell about what waits."""
        self.near, self.far = tuple(near), tuple(far)
        self._bursts.clear()
        self.targets = (*self.near, *self.far)
        self._uids = frozenset(target.uid for target in self.targets)
        if self._arranged_for != (self.places, bool(self.near and self.far)):
            self._arrange()
        return self._settle(now)

    def place_again(self, place_of: Callable[[Queued], Place], now: float) -> list[AskForPlace[W]]:
        """Handle a changed number of places: move items to the new place of their key; return the workers to tell."""
        for item in self.items():
            if item.place is not None:
                item.place = place_of(item)
        self._arrange()
        return self._settle(now)

    def _arrange(self) -> None:
        """Put each item into the queue where it would wait if it came now, in the original order."""
        self._arranged_for = (self.places, bool(self.near and self.far))
        items = sorted(self.items(), key=lambda item: item.number)
        for line in self._lines.values():
            line.waiting.clear()
        for item in items:
            self._put_last(item)

    def _settle(self, now: float) -> list[AskForPlace[W]]:
        """Handle changed workers or queues: update which worker knows what, and whose time runs."""
        uids = {target.uid for target in self.targets}
        asks: list[AskForPlace[W]] = []
        for key, line in list(self._lines.items()):
            for uid in [uid for uid in line.asked if uid not in uids]:
                del line.asked[uid]
            is_served = bool(self._candidates_of(line))
            for item in line.waiting:
                if is_served and item.until != math.inf:
                    item.left, item.served_since, item.until = max(0.0, item.until - now), now, math.inf
                elif not is_served and item.until == math.inf:
                    # Its time returns as slowly as it passes: else it would wait forever for workers that come and go.
                    item.until = now + min(item.wait, item.left + now - item.served_since)
            asks += self._asks(line)
            if not line.waiting and not line.asked and line is not self._leaving:
                del self._lines[key]
        return asks

    def forget_worker(self, worker: W, number: int) -> None:
        """Note that a worker no longer knows of a queue, because it learned that nothing waits there."""
        line = self._line(number)
        if line is not None:
            line.asked.pop(worker.uid, None)

    def replace_worker(self, worker: W) -> list[AskForPlace[W]]:
        """Note that a worker lost its knowledge of queues with its link; return what to tell it again."""
        asks: list[AskForPlace[W]] = []
        for line in self._lines.values():
            if line.asked.pop(worker.uid, None) is not None:
                asks += self._asks(line)
        return asks


NOWHERE = WaitQueue(Route[Any]("", lambda _: 0), 0, "", None, False)
"""The queue of items that never waited: it is empty."""
