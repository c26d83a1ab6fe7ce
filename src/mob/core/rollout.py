"""Replaces running workers by new ones without ever having fewer: reloads and recycling.

The successor is launched next to the worker whose place it takes. When it is ready it gets the place, and the old one
gets nothing new, finishes and ends. If it does not get ready, the old one stays: a failed reload changes nothing.

A reload goes through the roles in the order of their start. In each role one worker is replaced first, to see whether
the new code comes up at all; then a quarter at a time. Nothing is recycled during a reload, and otherwise never two
workers of a role at a time.
"""

from __future__ import annotations

import math
from collections import deque

from mob.core.crew import Crew, Process, Slot
from mob.core.decisions import NOBODY, Answer, Decision, RenewForkServer, Tell, Ticket
from mob.core.handing import HandOvers
from mob.core.states import MobsterState, SlotState
from mob.errors import counted, nearest
from mob.templates import OF_THE_SIZE, mentions

AT_A_TIME = 0.25
"""Share of a role that is replaced at the same time, once the first new worker is ready."""
IDLE = (SlotState.WAITING, SlotState.FAILED, SlotState.EMPTY)
"""States of places without a process, which a user may have filled."""
RECYCLE_RETRY = 60.0
"""Seconds after which the recycling of a worker is retried if its successor did not get ready."""


class ReloadProgress:
    """The remaining work of one reload."""

    def __init__(self, roles: list[str], ticket: Ticket, now: float, before: float = math.inf) -> None:
        self.before: float = before
        """Workers that were launched at this time or later stay."""
        self.tickets: list[Ticket] = [ticket]
        self.roles: deque[str] = deque(roles)
        self.role = ""
        self.waiting: deque[Slot] = deque()
        self.under_way: set[Slot] = set()
        self.width = 1
        self.replaced = 0
        self.begun = now
        self.error = ""

    def __repr__(self) -> str:
        return f"<Reload of {self.role or 'nothing yet'}, {len(self.under_way)} under way, {len(self.waiting)} to come>"


class Rollout:
    """Reloads, one at a time, and the recycling of single workers."""

    def __init__(self, crew: Crew, hand_overs: HandOvers) -> None:
        self._crew = crew
        self._hand_overs = hand_overs
        self._reload: ReloadProgress | None = None
        self._next: ReloadProgress | None = None  # requested while another one is under way
        self._recycling: dict[str, Slot] = {}  # by role

    def __repr__(self) -> str:
        return f"<Rollout: {self._reload}, {len(self._recycling)} recycled>"

    @property
    def is_reloading(self) -> bool:
        """True if a reload is under way."""
        return self._reload is not None

    def is_renewing(self, slot: Slot) -> bool:
        """Return True if the process that gets ready in this slot was launched by a reload."""
        return self._reload is not None and slot in self._reload.under_way

    def spare_for(self, slot: Slot) -> Process | None:
        """Return the spare that may take a place; during a reload, none with old code for a place with new code."""
        spare, reload = self._crew.waiting_spare(slot.role), self._reload
        if spare is None or reload is None or reload.role != slot.role:
            return spare
        return spare if slot in reload.waiting or spare.born >= reload.begun else None

    # ------------------------------------------------------------------------------------------------- asked

    def reload(self, roles: list[str], ticket: Ticket, now: float) -> list[Decision]:
        """Replace the workers of these roles by new ones. A reload that is requested meanwhile follows."""
        crew = self._crew
        if self._reload is not None:
            if self._next is None:
                self._next = ReloadProgress([], ticket, now)
            else:
                self._next.tickets.append(ticket)
            wanted = {*self._next.roles, *roles}
            self._next.roles = deque(role for role in crew.order if role in wanted)
            return []
        return self._begin(ReloadProgress([role for role in crew.order if role in roles], ticket, now), now)

    def tell_size(self, role: str, now: float) -> list[Decision]:
        """Replace the workers of a role whose environment contains the number of workers, because that changed.

        Workers that are being launched know the new number.
        """
        if not mentions(self._crew.roles[role].plan.env, OF_THE_SIZE):
            return []
        if self._reload is not None:
            return self.reload([role], NOBODY, now)
        return self._begin(ReloadProgress([role], NOBODY, now, before=now), now)

    def recycle(self, slot: Slot, why: str, now: float) -> list[Decision]:
        """Replace one worker, unless a replacement is already under way."""
        role = slot.role
        if self._reload is not None or role in self._recycling or slot.successor or now < slot.not_before:
            return []
        process = self._crew.current(slot)
        if process is None or slot.state is not SlotState.FILLED:
            return []
        if self._crew.is_alone(role):
            tell = Tell(f"{process.name} {why}; stopping it, then starting a new one.", "recycle")
            return [] if process.asked else [tell, *self._renew(process, now)]
        self._recycling[role] = slot
        tell = Tell(f"{process.name} {why}; replacing it.", "recycle")
        return [tell, *self._crew.launch(slot, now, as_successor=True)]

    def restart(self, roles: list[str], pid: int, ticket: Ticket, now: float) -> list[Decision]:
        """Stop the workers of these roles, or the one with this pid, all at once; others take their places."""
        crew = self._crew
        unknown = next((role for role in roles if role not in crew.roles), None)
        if unknown is not None:
            return [Answer(ticket, error=f"there is no role {unknown!r}. {nearest(unknown, crew.roles)}")]
        processes = [
            process
            for process in crew.processes.values()
            if (process.slot.role in roles and process.state is not MobsterState.DRAINING)
            or (pid and process.pid == pid)
        ]
        if pid and not processes:
            return [Answer(ticket, error=f"no worker has pid {pid}; `mob ps` lists them.")]
        names = ", ".join(roles) or processes[0].name
        decisions: list[Decision] = [Tell(f"restarting {names}.", "restart")]
        for process in processes:
            process.is_restarted = True
            decisions += crew.retire(process, now)
        idle = [slot for slot in crew.slots.values() if slot.role in roles and slot.state in IDLE]
        held = [slot for slot in idle if not crew.has_lease(slot.role) or (slot.is_spare and crew.is_slot_held(slot))]
        for slot in held:
            idle.remove(slot)
            self._hold(slot)
        for slot in idle:
            decisions += self._fill(slot, now)
        slots = [*(process.slot for process in processes), *idle]
        count = sum(not slot.is_spare for slot in slots) or len(slots)
        text = f"restarting {count} {'worker' if count == 1 else 'workers'}: {names}."
        return [*decisions, Answer(ticket, text=text)]

    def cancel(self, why: str) -> list[Decision]:
        """Cancel all replacements: the app stops."""
        reloads = [each for each in (self._reload, self._next) if each is not None]
        self._reload = self._next = None
        self._recycling.clear()
        return [Answer(ticket, error=why) for each in reloads for ticket in each.tickets]

    # ---------------------------------------------------------------------------------------------- happened

    def handle_ready(self, process: Process, now: float) -> list[Decision]:
        """Handle a process that is ready for the first time: a successor takes its place now."""
        slot = process.slot
        decisions: list[Decision] = []
        if slot.successor == process.uid:
            before, slot.uid, slot.successor = slot.uid, process.uid, 0
            decisions += self._crew.retire(self._crew.processes[before], now)
        if slot.successor or slot.uid != process.uid or process.asked:  # the old process got ready, late
            return decisions
        if self._recycling.get(slot.role) is slot:
            del self._recycling[slot.role]
        reload = self._reload
        if reload is not None and slot in reload.under_way:
            reload.under_way.remove(slot)
            reload.replaced += not slot.is_spare
            reload.width = max(1, math.ceil(AT_A_TIME * self._crew.roles[slot.role].target))
            decisions += self._go_on(reload, now)
        return decisions

    def handle_done(self, slot: Slot, now: float) -> list[Decision]:
        """Handle a process that did its work and ended, as in a one-shot role; do not wait for it."""
        reload = self._reload
        if reload is None or slot not in reload.under_way:
            return []
        reload.under_way.remove(slot)
        reload.replaced += 1
        return self._go_on(reload, now)

    def handle_failed(self, process: Process, why: str, now: float) -> list[Decision]:
        """Handle a process that ended before it was ready, if it was launched from here."""
        slot = process.slot
        if self._recycling.get(slot.role) is slot:
            del self._recycling[slot.role]
            slot.not_before = now + RECYCLE_RETRY
            failed = f"the new {slot.name} {_reason(process, why)}; the old one keeps running."
            return [Tell(failed, "recycle")]
        reload = self._reload
        if reload is None or slot not in reload.under_way:
            return []
        reload.under_way.remove(slot)
        reload.waiting.clear()
        reload.roles.clear()
        reload.error = reload.error or f"{slot.name}: the new one {_reason(process, why)}"
        return self._go_on(reload, now)

    def handle_resized(self, now: float) -> list[Decision]:
        """Stop waiting for places that were given up because their role shrank."""
        for role, slot in list(self._recycling.items()):
            if slot.state is not SlotState.FILLED:
                del self._recycling[role]
        reload = self._reload
        if reload is None:
            return []
        given_up = {slot for slot in reload.under_way if slot.state is not SlotState.FILLED}
        reload.under_way -= given_up
        return self._go_on(reload, now) if given_up else []

    # --------------------------------------------------------------------------------------------- internals

    def _begin(self, reload: ReloadProgress, now: float) -> list[Decision]:
        self._reload = reload
        why = "" if reload.before == math.inf else ", because its env contains the number of workers"
        tell = Tell(f"reloading {', '.join(reload.roles)}{why}.", "reload")
        if self._crew.plan.preload and reload.before == math.inf:  # it holds old code
            return [tell, RenewForkServer()]
        return [tell, *self._go_on(reload, now)]

    def handle_renewed(self, now: float) -> list[Decision]:
        """Continue after a planned replacement of the fork server."""
        return [] if self._reload is None else self._go_on(self._reload, now)

    def _go_on(self, reload: ReloadProgress, now: float) -> list[Decision]:
        decisions: list[Decision] = []
        while True:
            while reload.waiting and len(reload.under_way) < reload.width:
                decisions += self._replace(reload, reload.waiting.popleft(), now)
            if reload.under_way:
                return decisions
            if not reload.roles:
                return decisions + self._end(reload, now)
            reload.role = reload.roles.popleft()
            reload.waiting.extend([*self._crew.slots_of(reload.role), *self._crew.spares_of(reload.role)])
            reload.width = 1

    def _replace(self, reload: ReloadProgress, slot: Slot, now: float) -> list[Decision]:
        is_there = self._crew.slots.get((slot.role, slot.index)) is slot
        if not is_there or slot.state is SlotState.LEAVING or slot.state is SlotState.HELD:
            return []
        if (process := self._crew.current(slot)) is not None and process.born >= reload.before:
            return []
        reload.under_way.add(slot)
        if self._recycling.get(slot.role) is slot:
            del self._recycling[slot.role]
        decisions = self._dismiss_successor(slot, now)
        current = self._crew.current(slot)
        if slot.state is SlotState.FILLED and current is not None and self._crew.is_alone(slot.role):
            return [*decisions, *self._renew(current, now)]
        if slot.state is SlotState.FILLED and current is not None:
            return [*decisions, *self._crew.launch(slot, now, as_successor=True)]
        if not self._crew.has_lease(slot.role) or (slot.is_spare and self._crew.is_slot_held(slot)):
            self._hold(slot)
            reload.under_way.remove(slot)
            return decisions
        return [*decisions, *self._fill(slot, now)]

    def _renew(self, process: Process, now: float) -> list[Decision]:
        """Restart a worker without overlap: two of a singleton never run at a time."""
        process.is_restarted = True
        return self._crew.retire(process, now)

    def _fill(self, slot: Slot, now: float) -> list[Decision]:
        """Launch into an empty place, even if none was to follow there."""
        slot.step("reloaded")
        self._crew.roles[slot.role].intensity.reset()
        return self._crew.launch(slot, now)

    def _hold(self, slot: Slot) -> None:
        """Hold a place that may not be filled yet."""
        slot.step("not needed" if slot.is_spare and slot.state is SlotState.WAITING else "reloaded, held")

    def _dismiss_successor(self, slot: Slot, now: float) -> list[Decision]:
        """Dismiss a successor that was launched for another reason: it may have read the old code."""
        early, slot.successor = self._crew.processes.get(slot.successor), 0
        if early is None:
            return []
        before = self._crew.current(slot)
        return [*([] if before is None else self._hand_overs.take_back(before)), *self._crew.retire(early, now)]

    def _end(self, reload: ReloadProgress, now: float) -> list[Decision]:
        took = f"{now - reload.begun:.1f} s"
        if reload.error:
            rest = (
                "; the old workers keep running"
                if not reload.replaced
                else f" after {counted(reload.replaced, 'worker')} of the new code came up; the others keep running"
            )
            text = f"reload failed{rest}. {reload.error}"
        else:
            text = f"reloaded {counted(reload.replaced, 'worker')} in {took}."
        decisions: list[Decision] = [Tell(text, "reload")]
        decisions += [
            Answer(ticket, error=text if reload.error else "", text="" if reload.error else text)
            for ticket in reload.tickets
        ]
        self._reload, following = None, self._next
        self._next = None
        return decisions if following is None else decisions + self._begin(following, now)


def _reason(process: Process, why: str) -> str:
    if process.refusal:
        return process.refusal
    if process.error:
        return f"could not be imported: {process.error}"
    return process.why_killed or f"{why.removesuffix('.')} before it was ready"
