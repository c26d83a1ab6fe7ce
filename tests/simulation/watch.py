"""What is promised to calls that wait at their callers, looked at again and again.

* No worker has a free place for longer than one trip while a call waits that it may run.
* No call is overtaken for ever by younger ones of other callers. Only the first of a line is looked at: those behind it
  wait for their own caller's.

Whoever does not answer because his loop stands still can claim neither.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from mob.core.dispatch import WaitQueue
from mob.core.lanes import LOOP, Lane
from mob.peer.links.contact import Contact
from tests.simulation.calling import Caller, ParkedCall
from tests.simulation.calls import TASKS
from tests.simulation.clock import claim

if TYPE_CHECKING:
    from tests.simulation.kingpin import Kingpin
    from tests.simulation.mobster import Mobster

TRIP = 0.5
"""Seconds: each of the messages of a trip may take 50 ms, an introduction may have to come first, and some who are
invited before have nothing left, or do not answer."""
OVERTAKINGS = 300
"""How many younger calls may overtake one while a message is on its way, ..."""
IN_TURN = 40
"""... and how many more for each line that waits, as all get their turns, and short calls in batches."""


class First:
    """The first of a line, and what became of others since it was that."""

    __slots__ = ("item", "lines", "overtaken", "seen")

    def __init__(self, item: ParkedCall, seen: int) -> None:
        self.item = item
        self.seen = seen
        self.overtaken = 0
        self.lines = 0


class Watch:
    """Looks at all callers and workers."""

    def __init__(self, kingpin: Kingpin) -> None:
        self._kingpin = kingpin
        self._free: dict[tuple[int, str], tuple[int, float]] = {}
        self._firsts: dict[WaitQueue, First] = {}
        self.most = 0.0
        """The most overtakings that were seen, for each line."""
        self.longest = 0.0
        """The longest time that a worker was free."""

    def __repr__(self) -> str:
        return f"<Watch, {self.most:.1f} overtakings, free for {self.longest:.3f} s>"

    def look(self) -> None:
        """Looks at everything."""
        wanted: dict[tuple[int, str], ParkedCall] = {}
        lines: list[tuple[Caller, WaitQueue, ParkedCall, list[Contact]]] = []
        for caller in [*self._kingpin.clients.values(), *self._kingpin.mobsters.values()]:
            if caller.is_alive and caller.is_welcomed and caller.routes.waiting:
                lines += self._lines_of(caller)
        for caller, line, item, contacts in lines:
            kind = "tasks" if item.name in TASKS else "streams" if item.name == "count" else "loop"
            if not caller.is_blocked:
                for contact in contacts:
                    wanted.setdefault((contact.uid, kind), item)
            self._count_overtakings(caller, line, item, {contact.uid for contact in contacts}, kind, len(lines))
        self._firsts = {line: self._firsts[line] for _, line, _, _ in lines}
        self._look_at_workers(wanted)

    def _lines_of(self, caller: Caller) -> list[tuple[Caller, WaitQueue, ParkedCall, list[Contact]]]:
        lines: list[tuple[Caller, WaitQueue, ParkedCall, list[Contact]]] = []
        for route in caller.routes:
            if not route.waiting:
                continue
            linked = [each for each in route.targets if each.link is not None]
            for line in list(route._lines.values()):
                if line.waiting:
                    place, head = line.place, line.head
                    contacts = linked if place is None else [each for each in linked if each.place == place]
                    assert isinstance(head, ParkedCall)
                    lines.append((caller, line, head, contacts))
        return lines

    def _look_at_workers(self, wanted: dict[tuple[int, str], ParkedCall]) -> None:
        free: dict[tuple[int, str], tuple[int, float]] = {}
        now = self._kingpin.clock.now
        for (uid, kind), item in wanted.items():
            worker = self._kingpin.mobsters.get(uid)
            if worker is None or not self._is_free(worker, kind):
                continue
            begun, since = self._free.get((uid, kind), (worker.begun, now))
            free[uid, kind] = begun, since = (begun, since) if begun == worker.begun else (worker.begun, now)
            self.longest = max(self.longest, now - since)
            claim(now - since <= TRIP, "no worker is free for longer than a trip while a call waits", worker, item)
        self._free = free

    def _is_free(self, worker: Mobster, kind: str) -> bool:
        if not worker.is_alive or not worker.is_ready or worker.is_stopping or worker.is_blocked:
            return False
        if kind != "tasks":
            return not worker.inbox
        lane: Lane = worker.lanes.get("work", LOOP)
        return len(worker.tasks) + len(worker.line) < lane.width

    def _count_overtakings(
        self, caller: Caller, line: WaitQueue, item: ParkedCall, uids: set[int], kind: str, lines: int
    ) -> None:
        starts = self._kingpin.ledger.starts
        first = self._firsts.get(line)
        if first is None or first.item is not item:
            first = self._firsts[line] = First(item, len(starts))
        if not caller.is_blocked:
            for made, other, worker, group in starts[first.seen :]:
                if made > cast(Any, item.call).made and group == kind and worker in uids and other != caller.uid:
                    first.overtaken += 1
        first.seen = len(starts)
        first.lines = max(first.lines, lines)
        self.most = max(self.most, first.overtaken / first.lines)
        bound = OVERTAKINGS + IN_TURN * first.lines
        claim(first.overtaken <= bound, "no call is overtaken for ever", item, first.overtaken, first.lines)
