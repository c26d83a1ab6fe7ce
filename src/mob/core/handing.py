"""What a worker leaves to its successor (`mob.on("hand_over")`): when it is asked, and what follows if that fails.

Where old and new are there together (a reload, a recycling), the successor says when it has imported its module and is
about to start. Only then the one before it is asked: it gets no new calls, finishes those that it has, and returns its
data, which no call changes any more. The successor has it, starts and is ready; then the other one ends. If any of this
fails the successor is dismissed, and the one before it goes on as if nothing had been asked.

Where a worker ends before its successor is launched (a restart, a singleton, a role made smaller), it hands over at its
end, and there is no way back. What it has left is kept for the next process in its place; that of a singleton may be on
another machine (`core/moving.py`).

The data itself is never here: it is kept by place (role and index), and known by its size.
"""

from __future__ import annotations

import msgspec

from mob.core.crew import EARLY, Crew, Process, Slot
from mob.core.decisions import AskHandOver, Bequeath, Decision, DropInheritance, LetGoOn, Tell, Ticket, WakeAt
from mob.core.states import MobsterState
from mob.errors import counted

STARTS_WITHOUT = "starts without."
"""The end of what is said when data is lost."""
MARGIN = 2.0
"""Seconds beyond its time after which a worker that does not answer is no longer waited for."""


class HandingOver(msgspec.Struct, frozen=True):
    """One that was asked for its data."""

    ticket: Ticket
    """Of its successor, and the number of its request."""
    since: float
    until: float


class HandOvers:
    """Those that are under way."""

    def __init__(self, crew: Crew) -> None:
        self._crew = crew
        self._under_way: dict[int, HandingOver] = {}  # by the uid of the one that hands over

    def __repr__(self) -> str:
        return f"<HandOvers, {len(self._under_way)} under way, {len(self._crew.kept)} kept>"

    @property
    def is_under_way(self) -> bool:
        """Whether a worker was asked for its data and has not answered."""
        return bool(self._under_way)

    def handle_able(self, uid: int) -> None:
        """A worker has a handler that returns what it leaves."""
        if (process := self._crew.processes.get(uid)) is not None:
            process.hands_over = True

    def handle_wanted(self, ticket: Ticket, now: float) -> list[Decision]:
        """A process is about to start, and asks for what the one before it has left."""
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
        """A worker has left its data, which is kept by now, or says why it could not."""
        process = self._crew.processes.get(uid)
        if process is None:
            return []
        under_way, slot = self._under_way.pop(uid, None), process.slot
        if under_way is None:
            return self._handle_left(process, error, size)
        if (successor := self._crew.processes.get(under_way.ticket[0])) is not None:
            successor.still += now - under_way.since  # that is no boot time
        if error:
            return self._fail(process, under_way, f"could not hand over: {error.removesuffix('.')}", now)
        self._crew.kept[slot.role, slot.index] = size
        tell = Tell(f"{process.name} handed over {counted(size, 'byte')} to its successor.")
        return [tell, self._answer(under_way.ticket, slot)]

    def _handle_left(self, process: Process, error: str, size: int) -> list[Decision]:
        """One that ends has left its data, or one that was asked answers too late."""
        slot = process.slot
        key = slot.role, slot.index
        if process.state is not MobsterState.DRAINING or not self._crew.has_lease(slot.role):
            return [] if error or key in self._crew.kept else [DropInheritance(*key)]
        process.hands_over = False  # how that went is told here
        if error:
            lost = f"could not hand over: {error.removesuffix('.')}. The next {slot.name} {STARTS_WITHOUT}"
            return [Tell(f"{process.name} {lost}", "crash")]
        self._crew.kept[key] = size
        return [Tell(f"{process.name} handed over {counted(size, 'byte')}, kept for the next {slot.name}.")]

    def handle_wake(self, now: float) -> list[Decision]:
        """Time has passed: is one too long in handing over?"""
        decisions: list[Decision] = []
        for uid, each in list(self._under_way.items()):
            if each.until <= now + EARLY:
                del self._under_way[uid]
                why = f"did not hand over within {each.until - each.since - MARGIN:g} s (grace)"
                decisions += self._fail(self._crew.processes[uid], each, why, now)
        return decisions

    def handle_exited(self, process: Process, *, may_hand_over: bool = True) -> list[Decision]:
        """A process is gone: one that was to hand over, or one that was to inherit. `may_hand_over`: whether another
        one may follow it."""
        slot = process.slot
        under_way = self._under_way.pop(process.uid, None)
        if under_way is not None:
            tell = Tell(f"{process.name} ended before it had handed over; its successor {STARTS_WITHOUT}", "crash")
            return [tell, self._answer(under_way.ticket, slot)]
        if process.uid != slot.successor:
            return self._tell_lost(process) if may_hand_over else []
        before = self._crew.processes.get(slot.uid)
        return [] if before is None else self.take_back(before)

    def _tell_lost(self, process: Process) -> list[Decision]:
        """One that ended in order was to leave its data first. Tell it if that has not come, and was not told."""
        slot = process.slot
        is_due = process.hands_over and process.ready_at is not None and process.state is MobsterState.DRAINING
        is_last = slot.uid == process.uid and not slot.successor and self._crew.has_lease(slot.role)
        has_left = (slot.role, slot.index) in self._crew.kept  # a reload was given up for this end
        if has_left or not (is_due and is_last):
            return []
        return [Tell(f"{process.name} ended before it had handed over. The next {slot.name} {STARTS_WITHOUT}", "crash")]

    def handle_ready(self, process: Process) -> list[Decision]:
        """A process is ready: what was kept for it is its own now."""
        slot = process.slot
        if (lease := self._crew.leases.get(slot.role)) is not None:
            lease.left = 0
        if slot.uid != process.uid or self._crew.kept.pop((slot.role, slot.index), None) is None:
            return []
        return [DropInheritance(slot.role, slot.index)]

    def take_back(self, process: Process) -> list[Decision]:
        """Nobody takes the place of a worker after all: if it hands over it goes on, with what it has."""
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
        """The successor is dismissed, and the one before it goes on."""
        decisions: list[Decision] = [Tell(f"{process.name} {why}.", "crash")]
        successor = self._crew.processes.get(under_way.ticket[0])
        if successor is not None:
            successor.refusal = f"was dismissed: {process.name} {why}"
            decisions += self._crew.retire(successor, now)
        return decisions + self.take_back(process)

    def _answer(self, ticket: Ticket, slot: Slot) -> Bequeath:
        return Bequeath(ticket, slot.role, slot.index)
