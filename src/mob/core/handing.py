"""What a worker leaves to its successor (`mob.on("hand_over")`): when it is asked, and what follows if that fails.

When old and new run side by side (a reload, a recycling), the successor reports when it has imported its module and is
about to start. Only then its predecessor is asked: it gets no new calls, finishes those that it has, and returns its
data, which no call changes any more. The successor takes the data, starts and is ready; then the predecessor ends. If
any of this fails, the successor is dismissed, and the predecessor continues as if nothing had been asked.

When a worker ends before its successor is launched (a restart, a singleton, a role that shrinks), it hands over at its
end, and there is no way back. Its data is kept for the next process in its place; that of a singleton may be on another
machine (`core/moving.py`).

The data itself is never here: it is kept by place (role and index), and known by its size.
"""

from __future__ import annotations

import msgspec

from mob.core.crew import EARLY, Crew, Process, Slot
from mob.core.decisions import AskHandOver, Bequeath, Decision, DropInheritance, LetGoOn, Tell, Ticket, WakeAt
from mob.core.states import MobsterState
from mob.errors import counted

STARTS_WITHOUT = "starts without it."
"""The end of messages that report lost data."""
MARGIN = 2.0
"""Seconds beyond its time limit after which a worker that does not answer is no longer waited for."""


class HandingOver(msgspec.Struct, frozen=True):
    """A worker that was asked for its data."""

    ticket: Ticket
    """Uid of its successor, and the number of that one's request."""
    since: float
    until: float


class HandOvers:
    """All hand-overs that are under way."""

    def __init__(self, crew: Crew) -> None:
        self._crew = crew
        self._under_way: dict[int, HandingOver] = {}  # by the uid of the worker that hands over

    def __repr__(self) -> str:
        return f"<HandOvers, {len(self._under_way)} under way, {len(self._crew.kept)} kept>"

    @property
    def is_under_way(self) -> bool:
        """True if a worker was asked for its data and has not answered."""
        return bool(self._under_way)

    def handle_able(self, uid: int) -> None:
        """Note that a worker has a handler that returns its data."""
        if (process := self._crew.processes.get(uid)) is not None:
            process.hands_over = True

    def handle_wanted(self, ticket: Ticket, now: float) -> list[Decision]:
        """Handle a process that is about to start and asks for its predecessor's data."""
        process = self._crew.processes.get(ticket[0])
        if process is None:
            return []
        slot = process.slot
        before = self._crew.processes.get(slot.uid) if slot.successor == process.uid else None
        if before is None or not before.hands_over or before.state is not MobsterState.READY:
            return [self._answer(ticket, slot)]
        seconds = self._crew.plan.grace
        before.step("hands over")
        self._under_way[before.uid] = each = HandingOver(ticket, now, now + seconds + MARGIN)
        return [*self._crew.changed(before), AskHandOver(before.uid, seconds), WakeAt(each.until)]

    def handle_given(self, uid: int, error: str, size: int, now: float) -> list[Decision]:
        """Handle a worker that left its data, which is kept by now, or reports why it could not."""
        process = self._crew.processes.get(uid)
        if process is None:
            return []
        under_way, slot = self._under_way.pop(uid, None), process.slot
        if under_way is None:
            return self._handle_left(process, error, size)
        if (successor := self._crew.processes.get(under_way.ticket[0])) is not None:
            successor.still += now - under_way.since  # this is not boot time
        if error:
            return self._fail(process, under_way, f"could not hand over its data: {error.removesuffix('.')}", now)
        self._crew.kept[slot.role, slot.index] = size
        tell = Tell(f"{process.name} handed over {counted(size, 'byte')} to its successor.")
        return [tell, self._answer(under_way.ticket, slot)]

    def _handle_left(self, process: Process, error: str, size: int) -> list[Decision]:
        """Handle the data of a worker that ends, or the late answer of one that was asked."""
        slot = process.slot
        key = slot.role, slot.index
        if process.state is not MobsterState.DRAINING or not self._crew.has_lease(slot.role):
            return [] if error or key in self._crew.kept else [DropInheritance(*key)]
        process.hands_over = False  # the outcome is logged here
        if error:
            lost = f"could not hand over its data: {error.removesuffix('.')}. The next {slot.name} {STARTS_WITHOUT}"
            return [Tell(f"{process.name} {lost}", "crash")]
        self._crew.kept[key] = size
        return [Tell(f"{process.name} handed over {counted(size, 'byte')}, kept for the next {slot.name}.")]

    def handle_wake(self, now: float) -> list[Decision]:
        """End hand-overs that take too long."""
        decisions: list[Decision] = []
        for uid, each in list(self._under_way.items()):
            if each.until <= now + EARLY:
                del self._under_way[uid]
                why = f"did not hand over its data within {each.until - each.since - MARGIN:g} s (grace)"
                decisions += self._fail(self._crew.processes[uid], each, why, now)
        return decisions

    def handle_exited(self, process: Process, *, may_hand_over: bool = True) -> list[Decision]:
        """Handle the exit of a process that was to hand over, or to inherit.

        `may_hand_over`: True if another one may follow it.
        """
        slot = process.slot
        under_way = self._under_way.pop(process.uid, None)
        if under_way is not None:
            lost = f"exited before it handed over its data; its successor {STARTS_WITHOUT}"
            return [Tell(f"{process.name} {lost}", "crash"), self._answer(under_way.ticket, slot)]
        if process.uid != slot.successor:
            return self._tell_lost(process) if may_hand_over else []
        before = self._crew.processes.get(slot.uid)
        return [] if before is None else self.take_back(before)

    def _tell_lost(self, process: Process) -> list[Decision]:
        """Log the loss if a worker was stopped, should have left its data first, and did not."""
        slot = process.slot
        is_due = process.hands_over and process.ready_at is not None and process.state is MobsterState.DRAINING
        is_last = slot.uid == process.uid and not slot.successor and self._crew.has_lease(slot.role)
        has_left = (slot.role, slot.index) in self._crew.kept  # a reload was given up for this end
        if has_left or not (is_due and is_last):
            return []
        lost = f"exited before it handed over its data. The next {slot.name} {STARTS_WITHOUT}"
        return [Tell(f"{process.name} {lost}", "crash")]

    def handle_ready(self, process: Process) -> list[Decision]:
        """Handle a process that is ready: it owns the data that was kept for it."""
        slot = process.slot
        if (lease := self._crew.leases.get(slot.role)) is not None:
            lease.left = 0
        if slot.uid != process.uid or self._crew.kept.pop((slot.role, slot.index), None) is None:
            return []
        return [DropInheritance(slot.role, slot.index)]

    def take_back(self, process: Process) -> list[Decision]:
        """Let a worker that hands over continue with its data: no process takes its place after all."""
        if process.state is not MobsterState.HANDING:
            return []
        self._under_way.pop(process.uid, None)
        slot = process.slot
        process.step("goes on")
        decisions: list[Decision] = [*self._crew.changed(process), LetGoOn(process.uid)]
        if self._crew.kept.pop((slot.role, slot.index), None) is not None:
            decisions.append(DropInheritance(slot.role, slot.index))
        return decisions

    def _fail(self, process: Process, under_way: HandingOver, why: str, now: float) -> list[Decision]:
        """Dismiss the successor, and let its predecessor continue."""
        decisions: list[Decision] = [Tell(f"{process.name} {why}.", "crash")]
        successor = self._crew.processes.get(under_way.ticket[0])
        if successor is not None:
            successor.refusal = f"was dismissed: {process.name} {why}"
            decisions += self._crew.retire(successor, now)
        return decisions + self.take_back(process)

    def _answer(self, ticket: Ticket, slot: Slot) -> Bequeath:
        return Bequeath(ticket, slot.role, slot.index)
