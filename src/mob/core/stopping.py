"""The stop of the whole app: roles stop in reverse order of their start, each when the later ones have ended.

Roles that serve HTTP stop first, with the roles that need them, because their requests call the others. The gateways
of a cluster, which stop last, wait until the data that singletons left is stored for other machines.

Each role gets what is left of the grace period, less a reserve for each role after it. A process that is still running
then is killed; a second request to stop kills all at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mob.core.crew import EARLY, Crew, Process
from mob.core.debugging import Debugging
from mob.core.decisions import Decision, Finish, Tell, WakeAt
from mob.core.draining import share
from mob.plan import GATEWAY, RolePlan

NOTICE = 2.0
"""Seconds of a stop after which the log says which processes are still running."""
REMIND_AFTER = 10.0
"""Seconds after which the log says that again."""
STORED_BEFORE = 0.2
"""Last part of the grace period, in which the gateways no longer wait for the data of singletons."""
STORED_LEAST = 2.0
"""Seconds that suffice for that part."""
SHOWN = 5
"""Maximum number of names that are listed, of processes and of their calls."""

ENDED = "the app is stopping."
"""The reason why a role ended, for its callers."""


def stages(order: Sequence[str], roles: Iterable[RolePlan]) -> list[str]:
    """Return the roles in stages; those that stop first come last.

    >>> front, back = RolePlan("front", "front", serve=":80"), RolePlan("back", "back")
    >>> stages(["front", "back"], [front, back])
    ['back', 'front']
    """
    plans = {role.name: role for role in roles}
    first: set[str] = set()
    for name in order:  # a role comes after those that it needs
        if name in plans and (plans[name].serve is not None or first.intersection(plans[name].needs)):
            first.add(name)
    return [name for name in order if name not in first] + [name for name in order if name in first]


class Stopping:
    """The progress of a stop."""

    def __init__(self, crew: Crew, debugging: Debugging) -> None:
        self._crew = crew
        self._debugging = debugging
        self.has_begun: bool = False
        self.is_over: bool = False
        self._status = 0
        self._deadline = 0.0  # of the whole stop
        self._notice_at = 0.0  # when the log says which processes are still running
        self._stage: list[str] = []  # roles that have not ended; the last one is being asked
        self._asked = ""  # the role that was asked last

    def __repr__(self) -> str:
        state = "over" if self.is_over else "under way" if self.has_begun else "not begun"
        return f"<Stopping, {state}>"

    def begin(self, now: float, status: int = 0) -> list[Decision]:
        """Stop the app in order, with that exit status; the second time, at once."""
        if self.has_begun:
            return self._force()
        crew = self._crew
        self.has_begun = True
        self._status = status
        self._deadline = now + crew.plan.grace
        self._notice_at = now + NOTICE
        self._stage = stages(crew.order, [role.plan for role in crew.roles.values()])
        for slot in crew.slots.values():
            slot.step("stopping")
        for process in crew.processes.values():
            process.limit(self._deadline)  # even if its turn has not come
        notice = [WakeAt(self._notice_at)] if self._notice_at < self._deadline else []
        return [Tell("stopping.", "stop"), *notice, WakeAt(self._deadline), *self.go_on(now)]

    def finish(self, text: str, status: int) -> list[Decision]:
        """End the app: no process is left."""
        self.has_begun = self.is_over = True
        return [Tell(text, "stop"), Finish(status)]

    def _force(self) -> list[Decision]:
        self._stage = []
        return [Tell("stopping at once.", "stop"), *self._crew.kill(self._crew.processes.values())]

    def go_on(self, now: float) -> list[Decision]:
        """Stop the next role once the one before has ended; finish when all have."""
        crew = self._crew
        decisions = [decision for role in self._stage for decision in crew.note_end(role, ENDED)]
        while self._stage and not crew.processes_of(self._stage[-1]):
            self._stage.pop()
        if not crew.processes:
            self.is_over = True
            return [*self._tell_lost(), Finish(self._status)]
        if not self._stage or self._stage[-1] == self._asked:
            return decisions
        until = self._deadline - min(STORED_LEAST, crew.plan.grace * STORED_BEFORE)
        if self._stage[-1] == GATEWAY and now < until - EARLY and any(map(crew.is_left_here, crew.leases)):
            return [*decisions, WakeAt(until)]
        self._asked = self._stage[-1]
        left = share(max(0.0, self._deadline - now), crew.plan.grace, len(self._stage))
        for process in crew.processes_of(self._asked):
            decisions += crew.retire(process, now, left)
        return decisions

    def _tell_lost(self) -> list[Decision]:
        """Log the data that singletons left here and that no other machine gets."""
        crew = self._crew
        return [
            Tell(
                f"the {crew.kept[role, 0]:,} bytes that {role!r} left are lost: no gateway could store them.",
                "crash",
            )
            for role in filter(crew.is_left_here, crew.leases)
        ]

    def log_waited_for(self, now: float) -> list[Decision]:
        """Log which processes are still running, and what they do, when a stop takes a while."""
        crew = self._crew
        if not self.has_begun or self.is_over or not self._asked or now < self._notice_at - EARLY:
            return []
        waited_for = [process for process in crew.processes_of(self._asked) if not process.killed]
        self._notice_at = now + REMIND_AFTER
        again: list[Decision] = [WakeAt(self._notice_at)] if self._notice_at < self._deadline else []
        if not waited_for:
            return again
        names = [_doing(process, now) for process in waited_for[:SHOWN]]
        if len(waited_for) > SHOWN:
            names.append(f"{len(waited_for) - SHOWN} more")
        return [Tell(f"waiting for {'; '.join(names)}; press Ctrl-C again to stop at once.", "stop"), *again]

    def kill_overdue(self, now: float) -> list[Decision]:
        """Kill what should have ended, in a stop or otherwise; processes in the debugger only in a stop."""
        late = [each for each in self._crew.processes.values() if each.is_overdue(now) and not self._is_excused(each)]
        if not late:
            return []
        names = ", ".join(process.name for process in late)
        return [Tell(f"killing {names}: still running after its grace period."), *self._crew.kill(late)]

    def _is_excused(self, process: Process) -> bool:
        return not self.has_begun and self._debugging.is_excused(process.uid)


def _doing(process: Process, now: float) -> str:
    """Return a process and the calls that it reported as running, with their seconds by now."""
    since = max(0.0, now - process.beaten_at)
    calls = [f"{call.label} for {call.seconds + since:.0f} s" for call in process.beat.running]
    if len(calls) > SHOWN:
        calls[SHOWN:] = [f"{len(calls) - SHOWN} more calls"]
    return f"{process.slot.name}: {', '.join(calls)}" if calls else process.slot.name
