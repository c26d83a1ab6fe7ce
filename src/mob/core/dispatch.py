"""How work and workers find each other: *join-idle-queue* (Lu et al., 2011) with a prefetch.

A call goes at once to the worker where it would begin first, as far as its caller knows (`Route.choose`). If none has
room, it waits at its caller, in a line of calls of its kind, and the caller says so once to each worker that could run
it. A worker that runs low invites the callers that wait, one after the other, each time for as many calls as it has
room for (`Invitations`). So nobody has to look again and again, a call is given away as late as possible, and callers
get their turns in order. An invited caller that has nothing left says so, and the next one is invited.

How much room a worker has: see `costs.py`. Nothing here sends anything; what is returned is to be done by others.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from mob.core.costs import FAR_TRIP, SHORT, TRIP, most_in_hand
from mob.core.routing import Place

WAKE = 60
"""Microseconds until a worker that sleeps has woken: shorter calls gather at one that is awake."""
SPILL = 2000
"""Microseconds that a call must have to wait here before a worker of another machine is the better one."""
FAR = 20
"""So many calls that run beside others must a worker here have in hand before one of another machine is preferred."""
SILENCE = 0.005
"""Seconds after which an invited caller that does not answer keeps no place any more."""
FEW = 2
"""So many short calls under way at once are no burst: those that follow go to all workers in turn."""
UNLIMITED = 1 << 30
MESSAGE = ""
"""What a message that waits for any one of a role has instead of an export's name."""
ORDERED = "*"
"""What a line has that keeps the order of calls of several exports."""
Key = tuple[Place | None, str]


class Lane(NamedTuple):
    """How a worker runs the calls of an export."""

    width: int = 1
    """How many at once."""
    is_beside: bool = False
    """They run beside others (tasks, streams) or wait in a line of their own, and so hold up no other call."""


LOOP = Lane()
FREE = Lane(UNLIMITED, True)


class Worker(Protocol):
    """What a choice needs to know of a worker."""

    @property
    def uid(self) -> int: ...
    @property
    def place(self) -> Place: ...
    @property
    def is_distant(self) -> bool:
        """It is on another machine."""
        ...

    @property
    def is_choked(self) -> bool:
        """Its link takes nothing more at the moment."""
        ...

    @property
    def in_hand(self) -> int:
        """Calls for whose end another call would have to wait there; beyond all numbers if callers wait already."""
        ...

    @property
    def pending(self) -> Collection[Any]:
        """The calls that this process has sent there, and that were not answered."""
        ...

    @property
    def outstanding(self) -> int:
        """All calls that it has in hand."""
        ...

    @property
    def pace(self) -> int:
        """Microseconds that its calls take on average at the moment."""
        ...


class Item:
    """A call, or a message, that waits for a worker."""

    __slots__ = ("blockers", "line", "name", "place", "since", "size", "until", "wait")

    line: Line
    since: float

    def __init__(
        self, name: str, size: int, wait: float, place: Place | None = None, blockers: Sequence[int] = ()
    ) -> None:
        self.name = name
        """The export; `MESSAGE` for a message."""
        self.size = size
        """Bytes that it keeps."""
        self.wait = wait
        """Seconds that it waits for a worker to become ready."""
        self.until = math.inf
        """When that time is over; infinite while there are ready workers."""
        self.place = place
        """The only place that it may go to."""
        self.blockers = blockers
        """The uids of processes that cannot run it while it waits: they wait for its answer themselves."""

    def __repr__(self) -> str:
        return f"<Item for {self.name}>"


class Line:
    """Items that wait for the same workers, in order."""

    __slots__ = ("asked", "name", "number", "place", "route", "waiting")

    def __init__(self, route: Route[Any], number: int, name: str, place: Place | None) -> None:
        self.route = route
        self.number = number
        """By which an invitation names it."""
        self.name = name
        """The export that all its calls are of; "" if it has calls of several."""
        self.place = place
        self.waiting: OrderedDict[Item, None] = OrderedDict()
        self.asked: dict[int, str] = {}
        """The workers that know of it, by uid, and the export that they were told is the next."""

    def __repr__(self) -> str:
        return f"<Line {self.number} of {len(self.waiting)} for {self.name or self.place or 'the only worker'}>"

    @property
    def head(self) -> Item:
        """The next one; there must be one."""
        return next(iter(self.waiting))


W = TypeVar("W", bound=Worker)


class Ask(NamedTuple, Generic[W]):
    """Tell a worker that calls wait for it in a line, the next one of this export."""

    worker: W
    line: int
    name: str


class _Burst(Generic[W]):
    """Short calls that are made faster than they are answered. They gather at one worker, which is awake, and of the
    calls that it has room for not each is looked at."""

    __slots__ = ("_left", "_most", "_size", "worker")

    def __init__(self, worker: W, most: int) -> None:
        self.worker = worker
        self._most = self._left = most
        self._size = 1

    def goes_on(self) -> bool:
        """Return True if the next call goes to the same worker; at most so many, then all workers are looked at."""
        if self.worker.pending:
            self._left -= 1
            self._size += 1
            return self._left > 0
        if self._size > FEW and not self.worker.in_hand:  # all were answered at once, and it has hardly fallen asleep
            self._left, self._size = self._most, 1
            return True
        return False


class Route(Generic[W]):
    """The ready workers of one role as one caller sees them, and what waits for them there."""

    __slots__ = (
        "_bursts",
        "_cost_of",
        "_lines",
        "_next_line",
        "_turn",
        "far",
        "lanes",
        "near",
        "places",
        "role",
        "size",
        "targets",
        "waiting",
    )

    def __init__(self, role: str, cost_of: Callable[[int], int]) -> None:
        self.role = role
        self._cost_of = cost_of  # what a call of an export takes, by its mark; 0 if nobody can tell
        self.targets: tuple[W, ...] = ()
        self.near: tuple[W, ...] = ()
        """Those of them on this machine."""
        self.far: tuple[W, ...] = ()
        """Those on others."""
        self.lanes: dict[str, Lane] = {MESSAGE: FREE}
        """How the exports are run, as far as that is known; else as `LOOP`."""
        self.places = 1
        """How many workers the role is to have, on all machines."""
        self.waiting = 0
        """How many items wait."""
        self.size = 0
        """Their bytes."""
        self._lines: dict[Key, Line] = {}
        self._next_line = 0
        self._bursts: dict[str, _Burst[W]] = {}  # by export
        self._turn = 0

    def __repr__(self) -> str:
        return f"<Route to {len(self.targets)} workers of {self.role!r}, {self.waiting} waiting>"

    # --------------------------------------------------------------------------------------- choosing

    def choose(self, name: str, mark: int, can_leave: bool = True, place: Place | None = None) -> W | None:
        """Return the worker where a call would begin first; None if none has room, or if others of its line wait.

        `mark`: of the export, by which its cost is known. `can_leave`: the call may go to another machine.
        """
        if self.waiting:
            if self._has_waiting(name, place):
                return None
        elif (burst := self._bursts.get(name)) is not None and place is None and can_leave and burst.goes_on():
            return burst.worker
        lane = self.lanes.get(name, LOOP)
        targets = self.targets if place is None and can_leave else self._candidates(can_leave, place)
        if len(targets) == 1:
            (worker,) = targets
            return worker if self._has_room(worker, lane, mark, name, worker.in_hand) else None
        if lane.is_beside:
            return self._choose_beside(targets, lane)
        return self._choose_first_to_begin(targets, lane, mark, name)

    def _has_waiting(self, name: str, place: Place | None) -> bool:
        line = self._lines.get(self._key(name, place))
        return line is not None and bool(line.waiting)

    def _candidates(self, can_leave: bool, place: Place | None) -> Sequence[W]:
        if place is not None:
            return [target for target in self.targets if target.place == place]
        return self.targets if can_leave else self.near

    def _choose_first_to_begin(self, targets: Sequence[W], lane: Lane, mark: int, name: str) -> W | None:
        if not targets:
            return None
        cost, last = self._cost_of(mark), targets[self._turn % len(targets)]
        if 0 < cost <= WAKE and last.pending:  # short, and the latest choice is awake
            in_hand = last.in_hand
            if in_hand * max(cost, last.pace) < WAKE and self._has_room(last, lane, mark, name, in_hand):
                return last
        best, soonest, width = None, math.inf, lane.width
        self._turn = turn = (self._turn + 1) % len(targets)
        for target in (*targets[turn:], *targets[:turn]):
            in_hand = target.in_hand
            if in_hand < width:
                begins = WAKE + target.outstanding  # what runs beside others takes some time as well
            else:
                begins = in_hand * max(cost, target.pace) // width
            if target.is_distant:
                begins += SPILL
            if begins < soonest and self._has_room(target, lane, mark, name, in_hand):
                best, soonest = target, begins
                if begins <= WAKE:
                    break  # it has nothing to do
        return self._turn_to(best, targets)

    def _choose_beside(self, targets: Sequence[W], lane: Lane) -> W | None:
        """The one with the fewest calls: they take no time, or nobody knows how long."""
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
            self._turn = targets.index(best)  # else the one behind a busy worker would have that one's turn as well
        return best

    def _has_room(self, worker: W, lane: Lane, mark: int, name: str, in_hand: int) -> bool:
        """Return True if a worker may be given one more call of an export without an invitation."""
        if worker.is_choked:
            return False
        if lane.is_beside:
            return worker.outstanding < lane.width
        if in_hand < lane.width:
            return True
        cost, pace = self._cost_of(mark), worker.pace
        if max(cost, pace) > SHORT:
            return False  # what runs there may take long: the worker will say when it does not
        most = most_in_hand(lane.width, cost, pace, FAR_TRIP if worker.is_distant else TRIP)
        if in_hand + 1 < most and cost <= WAKE:
            self._bursts[name] = _Burst(worker, min((most - in_hand) // 2, WAKE // cost))
        return in_hand < most

    def any_of(self, blockers: Iterable[int], place: Place | None) -> W | None:
        """Return a worker for a call that must not wait, because all who could run it wait for it themselves."""
        targets = self._candidates(True, place)
        return self.least(place) if all(target.uid in blockers for target in targets) else None

    def least(self, place: Place | None = None) -> W | None:
        """Return the worker that has the fewest calls in hand; None if none is ready."""
        return min(self._candidates(True, place), key=lambda target: target.outstanding, default=None)

    # ---------------------------------------------------------------------------------------- waiting

    def _key(self, name: str, place: Place | None) -> Key:
        """Return what tells lines apart. Where there is a choice of workers each export has a line of its own, so that
        none waits for another. Where there is none, calls that run one after the other wait in one line, in order, and
        so does what comes behind them: it would have to wait for them in the worker as well."""
        if place is None and self.places != 1:
            return None, name
        ordered = place, ORDERED
        lane = self.lanes.get(name, LOOP)
        if lane is LOOP or ((line := self._lines.get(ordered)) is not None and line.waiting):
            return ordered
        return place, name

    def park(self, item: Item, now: float) -> list[Ask[W]]:
        """Have an item wait; the workers that must be told of it."""
        key = self._key(item.name, item.place)
        line = self._lines.get(key)
        if line is None:
            self._next_line += 1
            name = "" if key[1] == ORDERED else item.name
            line = self._lines[key] = Line(self, self._next_line, name, item.place)
        item.line = line
        item.since = now
        line.waiting[item] = None
        self.waiting += 1
        self.size += item.size
        if not self._candidates(True, item.place):
            item.until = now + item.wait
        return self._asks(line) if len(line.waiting) == 1 else []

    def _asks(self, line: Line) -> list[Ask[W]]:
        """Who has to be told of a line: workers that do not know of it, or know another export as its next."""
        if not line.waiting:
            return []
        name = line.name or line.head.name
        asks: list[Ask[W]] = []
        for target in self._candidates(True, line.place):
            if line.asked.get(target.uid) != name:
                line.asked[target.uid] = name
                asks.append(Ask(target, line.number, name))
        return asks

    def accept(self, worker: W, number: int, count: int) -> list[Item]:
        """Take what an invitation is for out of its line: as many items at most, of one export. Nothing if nothing
        waits there that the worker may run; then it is to be told, for it keeps places free."""
        line = next((line for line in self._lines.values() if line.number == number), None)
        if line is None or not line.waiting or worker not in self._candidates(True, line.place):
            if line is not None:
                line.asked.pop(worker.uid, None)
            return []
        name = line.head.name
        if name != line.asked.get(worker.uid):
            count = 1  # the places are for calls of another kind
        items: list[Item] = []
        while line.waiting and len(items) < count and (item := line.head).name == name:
            self.forget(item)
            items.append(item)
        return items

    def asks_after(self, number: int) -> list[Ask[W]]:
        """Return whom to tell that the next item of a line is of another export than they know."""
        line = next((line for line in self._lines.values() if line.number == number), None)
        return [] if line is None or line.name else self._asks(line)

    def forget(self, item: Item) -> bool:
        """Take an item out of its line, if it is there."""
        if item not in item.line.waiting:
            return False
        del item.line.waiting[item]
        self.waiting -= 1
        self.size -= item.size
        return True

    def items(self) -> list[Item]:
        """Return all that waits. From any thread."""
        return [item for line in list(self._lines.values()) for item in list(line.waiting)]

    def overdue(self, before: float) -> int:
        """Return how many items wait in lines whose first has waited since before that time. From any thread."""
        count = 0
        for line in list(self._lines.values()):
            head = next(iter(list(line.waiting)), None)
            if head is not None and head.since <= before:
                count += len(line.waiting)
        return count

    def has_keyed(self) -> bool:
        """Return True if something waits for one place only."""
        return any(line.place is not None and line.waiting for line in self._lines.values())

    # ----------------------------------------------------------------------------------------- changes

    def put(self, near: Iterable[W], far: Iterable[W], now: float) -> list[Ask[W]]:
        """Replace the workers; who is to be told of what waits."""
        self.near, self.far = tuple(near), tuple(far)
        self._bursts.clear()
        self.targets = (*self.near, *self.far)
        uids = {target.uid for target in self.targets}
        asks: list[Ask[W]] = []
        for line in self._lines.values():
            for uid in [uid for uid in line.asked if uid not in uids]:
                del line.asked[uid]
            is_served = bool(self._candidates(True, line.place))
            for item in line.waiting:
                if is_served:
                    item.until = math.inf
                elif item.until == math.inf:
                    item.until = now + item.wait
            asks += self._asks(line)
        return asks

    def forget_worker(self, worker: W, number: int) -> None:
        """A worker was told that nothing waits in a line, or knows it."""
        for line in self._lines.values():
            if line.number == number:
                line.asked.pop(worker.uid, None)

    def replace_worker(self, worker: W) -> list[Ask[W]]:
        """A worker has lost what it was told, for the link to it was replaced: tell it again."""
        asks: list[Ask[W]] = []
        for line in self._lines.values():
            if line.asked.pop(worker.uid, None) is not None:
                asks += self._asks(line)
        return asks

    def place_again(self, place_of: Callable[[Item], Place], now: float) -> list[Ask[W]]:
        """There are more or fewer places: what waits for one waits for the new place of its key."""
        asks: list[Ask[W]] = []
        for line in [line for line in self._lines.values() if line.place is not None]:
            for item in list(line.waiting):
                item_place = place_of(item)
                if item_place != line.place:
                    self.forget(item)
                    item.place, item.until = item_place, math.inf
                    asks += self.park(item, now)
        return asks


# ------------------------------------------------------------------------------------------------ at the worker


class Load(NamedTuple):
    """How busy a worker is, as a call of a certain export would find it."""

    group: str
    """Exports that share their places are of one group."""
    lane: Lane
    in_hand: int
    cost: int
    pace: int


class Invite(NamedTuple):
    """Invite a caller to send so many calls of a line."""

    uid: int
    line: int
    calls: int
    name: str
    """The export."""


class _Waiting:
    """A line of a caller's, as a worker knows it."""

    __slots__ = ("count", "group", "is_far", "line", "name", "order", "uid", "until")

    def __init__(self, uid: int, line: int, name: str, is_far: bool, order: int) -> None:
        self.uid = uid
        self.line = line
        self.name = name
        self.is_far = is_far
        self.order = order
        self.group = ""
        self.count = 0
        """Places kept for it; 0 unless it is invited."""
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
        self._count = 0

    def __repr__(self) -> str:
        return f"<Invitations, {self.waiting} callers wait, {len(self.expected)} invited>"

    def __len__(self) -> int:
        return len(self._known)

    @property
    def waiting(self) -> int:
        """How many lines wait and are not invited."""
        return sum(map(len, self._queues.values()))

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

    def handle_declined(self, uid: int, line: int) -> None:
        """A caller has nothing left in a line."""
        waiting = self._known.pop((uid, line), None)
        if waiting is None:
            return
        queue = self._queues.get(waiting.name)
        if queue is not None and queue.pop((uid, line), None) is not None and not queue:
            del self._queues[waiting.name]
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

    def _free(self, waiting: _Waiting) -> None:
        left = self._reserved.get(waiting.group, 0) - waiting.count
        if left > 0:
            self._reserved[waiting.group] = left
        else:
            self._reserved.pop(waiting.group, None)
        waiting.count, waiting.until = 0, math.inf

    def handle_lost(self, uid: int) -> None:
        """The link to a caller has ended."""
        for key in [key for key in self._known if key[0] == uid]:
            self.handle_declined(*key)

    def clear(self) -> None:
        """Invite nobody any more: the worker ends."""
        for uid, line in list(self._known):
            self.handle_declined(uid, line)

    def invite(self, look: Callable[[str], Load], now: float) -> list[Invite]:
        """Return whom to invite now. `look` tells how busy this worker is for an export."""
        for waiting in [each for each in self.expected.values() if each.until <= now]:
            self._free(waiting)  # it is still expected to answer, but no place is kept for it
        invites: list[Invite] = []
        while (found := self._next(look)) is not None:
            waiting, group, count = found
            key = waiting.uid, waiting.line
            queue = self._queues[waiting.name]
            del queue[key]
            if not queue:
                del self._queues[waiting.name]
            waiting.group, waiting.count, waiting.until = group, count, now + SILENCE
            self.expected[waiting.uid, waiting.name] = waiting
            self._reserved[group] = self._reserved.get(group, 0) + count
            invites.append(Invite(waiting.uid, waiting.line, count, waiting.name))
        return invites

    def _next(self, look: Callable[[str], Load]) -> tuple[_Waiting, str, int] | None:
        best: tuple[_Waiting, str, int] | None = None
        for name, queue in self._queues.items():
            waiting = next((each for each in queue.values() if (each.uid, name) not in self.expected), None)
            if waiting is None or (best is not None and best[0].order < waiting.order):
                continue
            load = look(name)
            count = self._room(load, waiting.is_far)
            if count > 0:
                best = waiting, load.group, count
        return best

    def _room(self, load: Load, is_far: bool) -> int:
        """How many calls may be asked for; none before half of the places are free, so that short calls come in
        batches."""
        lane = load.lane
        most = most_in_hand(lane.width, load.cost, load.pace, FAR_TRIP if is_far else TRIP)
        taken = load.in_hand + self._reserved.get(load.group, 0)
        return most - taken if taken <= most // 2 or taken < lane.width else 0

    def wake_at(self) -> float:
        """Return when `invite` must be asked again though nothing has happened; infinite if never."""
        if not self._queues:
            return math.inf
        return min((each.until for each in self.expected.values()), default=math.inf)
