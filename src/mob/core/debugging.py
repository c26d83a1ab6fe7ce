"""Decides which mobster has the terminal: those at a `breakpoint()` get it in turn.

There is one terminal, so one debugger has it at a time; the others wait in the order of their requests. From its
`breakpoint()` until it returns the terminal a mobster is excused: it does not count as hanging or late, it is not
replaced for its age, and only a stop of the whole app ends it. Nothing here knows what a terminal is.
"""

from __future__ import annotations

from collections import deque

import msgspec

from mob.core.crew import Crew, Process
from mob.core.decisions import Decision, LendTerminal, TakeBackTerminal, Tell, Ticket, WakeAt


class Visit(msgspec.Struct, frozen=True, gc=False):
    """A debugger that has the terminal, or waits for it."""

    process: Process
    number: int
    """Number of the request: several threads of a mobster may ask."""
    where: str

    @property
    def ticket(self) -> Ticket:
        """The ticket of the request."""
        return self.process.uid, self.number


class Debugging:
    """The queue for the terminal."""

    def __init__(self, crew: Crew) -> None:
        self._crew = crew
        self._line: deque[Visit] = deque()  # the first one has the terminal
        self._since: dict[int, float] = {}  # by uid: since when a mobster is excused
        self._until: dict[int, float] = {}  # by uid: when it was last excused
        self._spent: dict[int, float] = {}  # by uid: seconds for which it was excused, in total

    def __repr__(self) -> str:
        return f"<Debugging: {self.holder or 'no one'} has the terminal, {max(0, len(self._line) - 1)} wait>"

    # ------------------------------------------------------------------------------------------- questions

    @property
    def holder(self) -> str:
        """The name of the mobster that has the terminal; empty if none has it."""
        return self._line[0].process.name if self._line else ""

    def is_excused(self, uid: int) -> bool:
        """Return True if a mobster is in the debugger or waits for it."""
        return uid in self._since

    def excused_until(self, uid: int) -> float:
        """Return when it was last excused: it cannot have hung before that."""
        return self._until.get(uid, 0.0)

    def time_spent(self, uid: int) -> float:
        """Return the seconds for which it was excused so far, which do not count as its own."""
        return self._spent.get(uid, 0.0)

    # -------------------------------------------------------------------------------------------- happened

    def handle_wanted(self, process: Process, number: int, where: str, now: float) -> list[Decision]:
        """Handle a `breakpoint()` that a mobster reached."""
        self._line.append(Visit(process, number, where))
        self._since.setdefault(process.uid, now)
        if len(self._line) == 1:
            return self._lend()
        process.stands = process.stands or f"waits at {where} for the terminal"
        text = f"{process.name} waits at {where} for the terminal, which {self._line[0].process.name} is using."
        return [Tell(text, "debug")]

    def handle_returned(self, uid: int, number: int, now: float) -> list[Decision]:
        """Handle a debugger that no longer needs the terminal."""
        visit = next((visit for visit in self._line if visit.ticket == (uid, number)), None)
        return [] if visit is None else [*self._leave(visit, now), *self._excuse(visit.process, now)]

    def handle_gone(self, uid: int, now: float) -> list[Decision]:
        """Handle the end of a mobster, which may have had the terminal."""
        visits = [visit for visit in self._line if visit.process.uid == uid]
        decisions = [decision for visit in reversed(visits) for decision in self._leave(visit, now)]
        for known in (self._since, self._until, self._spent):
            known.pop(uid, None)
        return decisions

    # ------------------------------------------------------------------------------------------- internals

    def _lend(self) -> list[Decision]:
        visit = self._line[0]
        visit.process.stands = f"in the debugger at {visit.where}"
        text = f"{visit.process.name} is in the debugger at {visit.where}; output of other processes is held back."
        return [Tell(text, "debug"), LendTerminal(visit.ticket)]

    def _leave(self, visit: Visit, now: float) -> list[Decision]:
        process, had_it = visit.process, visit is self._line[0]
        self._line.remove(visit)
        others = [each for each in self._line if each.process is process]
        process.stands = f"waits at {others[0].where} for the terminal" if others else ""
        if not others:
            self._until[process.uid] = now
            self._spent[process.uid] = self.time_spent(process.uid) + now - self._since.pop(process.uid)
        if not had_it:
            return []
        return [TakeBackTerminal(), *(self._lend() if self._line else [])]

    def _excuse(self, process: Process, now: float) -> list[Decision]:
        """Restart the time limits of a mobster that leaves the debugger."""
        if self.is_excused(process.uid):
            return []
        decisions: list[Decision] = []
        if process.deadline is not None:
            process.deadline = max(process.deadline, now + self._crew.plan.grace)
            decisions.append(WakeAt(process.deadline))
        timeout = self._crew.roles[process.slot.role].plan.boot_timeout
        if process.is_booting and timeout is not None:
            decisions.append(WakeAt(process.launched + timeout + self.time_spent(process.uid)))
        return decisions
