"""The stop of the whole app: roles in reverse order of their start, each when the later ones are gone.

Each role has what is left of the grace time less a reserve for each role after it. What is there when its time is over
is killed, and all at once if somebody asks a second time.
"""

from __future__ import annotations

from mob.core.crew import Crew, Process
from mob.core.debugging import Debugging
from mob.core.decisions import Decision, Finish, Tell, WakeAt

RESERVE = 0.1
"""The part of the grace time that a role still to be stopped keeps for itself while an earlier one takes long."""


class Stopping:
    """How far a stop has come."""

    def __init__(self, crew: Crew, debugging: Debugging) -> None:
        self._crew = crew
        self._debugging = debugging
        self.has_begun = False
        self.is_over = False
        self._status = 0
        self._deadline = 0.0  # of the whole stop
        self._stage: list[str] = []  # roles that have not ended; the last one is being asked
        self._asked = ""  # the role that was asked last

    def __repr__(self) -> str:
        state = "over" if self.is_over else "under way" if self.has_begun else "not begun"
        return f"<Stopping, {state}>"

    def begin(self, now: float, status: int = 0) -> list[Decision]:
        """Ends the app in order, with that exit status; asked a second time, at once."""
        if self.has_begun:
            return self._force()
        crew = self._crew
        self.has_begun = True
        self._status = status
        self._deadline = now + crew.plan.grace
        self._stage = crew.order[:]
        for slot in crew.slots.values():
            slot.step("stopping")
        for process in crew.processes.values():
            process.limit(self._deadline)  # though its turn may not have come
        return [Tell("stopping.", "stop"), WakeAt(self._deadline), *self.go_on(now)]

    def finish(self, text: str, status: int) -> list[Decision]:
        """Ends the app, of which nobody is left."""
        self.has_begun = self.is_over = True
        return [Tell(text, "stop"), Finish(status)]

    def _force(self) -> list[Decision]:
        self._stage = []
        return [Tell("stopping at once.", "stop"), *self._crew.kill(self._crew.processes.values())]

    def go_on(self, now: float) -> list[Decision]:
        """Asks the next role once the one before is gone; finishes when all are."""
        crew = self._crew
        while self._stage and not crew.processes_of(self._stage[-1]):
            self._stage.pop()
        if not crew.processes:
            if self.is_over:
                return []
            self.is_over = True
            return [Finish(self._status)]
        if not self._stage or self._stage[-1] == self._asked:
            return []
        self._asked = self._stage[-1]
        left = self._stage_time(now)
        decisions: list[Decision] = []
        for process in crew.processes_of(self._asked):
            decisions += crew.retire(process, now, left)
        return decisions

    def _stage_time(self, now: float) -> float:
        """What the role that is asked now has of the grace time: all but a reserve, and its share at the least."""
        left = max(0.0, self._deadline - now)
        return left - min(self._crew.plan.grace * RESERVE, left / len(self._stage)) * (len(self._stage) - 1)

    def kill_overdue(self, now: float) -> list[Decision]:
        """Kills what should be gone, in a stop or otherwise; what is in the debugger only in a stop."""
        late = [each for each in self._crew.processes.values() if each.is_overdue(now) and not self._is_excused(each)]
        if not late:
            return []
        names = ", ".join(process.name for process in late)
        return [Tell(f"killing {names}: still there after its grace time."), *self._crew.kill(late)]

    def _is_excused(self, process: Process) -> bool:
        return not self.has_begun and self._debugging.is_excused(process.uid)
