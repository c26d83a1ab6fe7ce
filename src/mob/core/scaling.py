"""Decides how many workers a role has: as requested, or by its load, between `workers` and `max_workers`.

It grows at once and shrinks slowly. As long as calls wait, the role grows by half each second; it shrinks by one worker
when fewer would have sufficed for half a minute. A role that shrinks gives up its highest indexes, and each worker
finishes what it has; a role that grows takes the lowest free ones.
"""

from __future__ import annotations

import math
from collections import defaultdict

from mob.core.crew import Crew, Role, Slot
from mob.core.decisions import Decision, Tell
from mob.core.states import SlotState
from mob.errors import counted
from mob.wire.messages import Beat

LOAD_INTERVAL = 1.0
"""Seconds between two checks of the load of a role."""
GROWTH = 0.5
"""Share of its workers by which a role grows while calls wait."""
SHRINK_AFTER = 30.0
"""Seconds for which fewer workers must have sufficed before one is stopped."""
COMFORT = 0.7
"""Calls in hand per worker up to which a smaller role suffices."""
MOST = 1024
"""Maximum number of workers of one role; more is a typing error."""


class RoleLoad:
    """The observed load of a role."""

    __slots__ = ("idle_since", "looked_at")

    def __init__(self) -> None:
        self.looked_at: float = 0.0
        self.idle_since: float | None = None


class Scaling:
    """Changes of the number of workers."""

    def __init__(self, crew: Crew) -> None:
        self._crew = crew
        self._loads: defaultdict[str, RoleLoad] = defaultdict(RoleLoad)

    def __repr__(self) -> str:
        return f"<Scaling: {', '.join(f'{name} {role.target}' for name, role in self._crew.roles.items())}>"

    # --------------------------------------------------------------------------------------------- as told

    def problem(self, role: str, count: int, by_role: bool) -> str:
        """Return why a role cannot have that many workers; empty if it can. `by_role`: its own code asks for it."""
        if role not in self._crew.roles:
            return f"there is no role {role!r}."
        plan = self._crew.roles[role].plan
        if plan.singleton and count != 1:
            return f"{role!r} is a singleton: it has one worker, not {count:,}."
        least, most = (plan.workers, plan.max_workers or plan.workers) if by_role else (1, MOST)
        if not least <= count <= most:
            limits = f"workers={plan.workers}, max_workers={plan.max_workers}" if by_role else f"{least} to {most:,}"
            return f"{role!r} cannot have {counted(count, 'worker')} ({limits})."
        if plan.most_with_devices is not None and count > plan.most_with_devices:
            gpus = f"gpus={plan.gpus:g}, and {counted(len(plan.devices), 'GPU')} for the role"
            return f"{role!r} cannot have {counted(count, 'worker')} ({gpus})."
        return ""

    def resize(self, role: str, count: int, now: float, why: str) -> list[Decision]:
        """Set the number of workers of a role."""
        wanted = self._crew.roles[role]
        if count == wanted.target:
            return []
        text = Tell(f"{role}: {wanted.target} -> {counted(count, 'worker')}; {why}.", "scale")
        wanted.target = count
        self._loads[role].idle_since = None
        decisions: list[Decision] = [text, *self._crew.role_changed(role, workers=count)]
        for index in range(count):
            decisions += self._fill(role, index, now)
        for slot in self._crew.slots_of(role):
            if slot.index >= count:
                decisions += self.leave(slot, now)
        return decisions

    def _fill(self, role: str, index: int, now: float) -> list[Decision]:
        crew = self._crew
        slot = crew.slots.get((role, index))
        if slot is None:
            slot = crew.slots[role, index] = Slot(role, index)
            if crew.is_slot_held(slot):
                slot.state = SlotState.HELD
                return []
            return crew.launch(slot, now)
        if slot.state is SlotState.LEAVING:  # its process is ending; another one follows it
            slot.step("scaled up")
        return []

    def leave(self, slot: Slot, now: float) -> list[Decision]:
        """Give up a place: the process in it finishes what it has."""
        crew = self._crew
        if slot.state is SlotState.LEAVING:
            return []
        slot.step("scaled down")
        if slot.state is SlotState.EMPTY:
            del crew.slots[slot.role, slot.index]
            return []
        processes = [process for process in crew.processes.values() if process.slot is slot]
        slot.successor = 0
        return [decision for process in processes for decision in crew.retire(process, now)]

    # -------------------------------------------------------------------------------------------- by itself

    def follow(self, name: str, now: float) -> list[Decision]:
        """Resize a role if its load asks for it: a worker or a caller reported."""
        role, load = self._crew.roles[name], self._loads[name]
        if role.plan.max_workers is None or now - load.looked_at < LOAD_INTERVAL:
            return []
        load.looked_at = now
        if self._is_growing(name):
            return []
        if self._waiting(name) > 0:
            load.idle_since = None
            count = min(role.plan.max_workers, role.target + math.ceil(role.target * GROWTH))
            return self.resize(name, count, now, "calls wait") if count > role.target else []
        return self._shrink(name, role, load, now)

    def _shrink(self, name: str, role: Role, load: RoleLoad, now: float) -> list[Decision]:
        if role.target <= role.plan.workers or self._in_hand(name) > COMFORT * (role.target - 1):
            load.idle_since = None
            return []
        if load.idle_since is None:
            load.idle_since = now
        if now - load.idle_since < SHRINK_AFTER:
            return []
        return self.resize(name, role.target - 1, now, "fewer are enough")

    def _is_growing(self, name: str) -> bool:
        return any(each.is_booting and not each.slot.is_spare for each in self._crew.processes_of(name))

    def _beats(self, name: str) -> list[Beat]:
        return [process.beat for process in self._crew.processes_of(name)]

    def _waiting(self, name: str) -> int:
        """Return the calls that wait for a worker of the role, at their callers or in the workers."""
        role = self._crew.roles[name].plan
        at_once = role.concurrency if role.threads in (None, 1) else role.threads
        inside = (max(0, beat.waiting, beat.in_hand - beat.open_requests - at_once) for beat in self._beats(name))
        return self._crew.parked(name) + sum(inside)

    def _in_hand(self, name: str) -> int:
        return sum(beat.in_hand for beat in self._beats(name))
