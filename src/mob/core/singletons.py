"""Singletons: what a lease means for a role of which there is one process in the whole cluster.

The lease itself is `lease.py`'s; here is what is launched by it, and what is killed when it is lost. While another
machine has it the place is held, and the role has no place here, so that keys and broadcasts go to where it runs. An
app without a cluster knows no leases.
"""

from __future__ import annotations

from mob.core.crew import Crew
from mob.core.decisions import Decision, DropInheritance, Tell
from mob.core.lease import LeaseWish
from mob.core.states import SlotState
from mob.core.stopping import Stopping


class Singletons:
    """Those of this machine."""

    def __init__(self, crew: Crew, stopping: Stopping) -> None:
        self._crew = crew
        self._stopping = stopping

    def __repr__(self) -> str:
        return f"<Singletons {self._crew.leases}>"

    def wish(self, role: str) -> LeaseWish:
        """What a singleton wants of its lease: until what it has left is stored for other machines, to keep it."""
        return LeaseWish.KEEP if self.has_to_leave(role) else self._wish(role)

    def has_to_leave(self, role: str) -> bool:
        """Return whether a singleton needs its lease no more, and what it has left is on this machine only."""
        return self._crew.is_left_here(role) and self._wish(role) is LeaseWish.NONE

    def _wish(self, role: str) -> LeaseWish:
        if self._stopping.has_begun:
            return LeaseWish.KEEP if self._crew.processes_of(role) else LeaseWish.NONE
        slot = self._crew.slots.get((role, 0))
        if slot is None or slot.state is SlotState.FAILED:
            return LeaseWish.NONE
        if slot.state is SlotState.HELD:
            return LeaseWish.NONE if self._crew.lacks(role) else LeaseWish.TAKE
        return LeaseWish.KEEP

    def handle_won(self, role: str, token: int, now: float) -> list[Decision]:
        """This machine has the lease of a singleton."""
        self._crew.leases[role].token = token
        decisions: list[Decision] = [Tell(f"{role!r} is this machine's: it has the lease, token {token}.")]
        decisions += self._crew.role_changed(role, workers=self._crew.roles[role].plan.workers)
        return decisions if self._stopping.has_begun else decisions + self._crew.release_held(now)

    def handle_lost(self, role: str, why: str) -> list[Decision]:
        """It has it no more: what runs by it is killed. If it was given back (no `why`), nothing runs. What was left
        here is of no use any more: another machine has it, or begins without."""
        lease = self._crew.leases[role]
        is_lost = self._crew.is_left_here(role)
        lease.token, lease.note, lease.left = 0, why or "waits for its lease", 0
        decisions: list[Decision] = self._crew.role_changed(role, workers=0)
        if why:
            decisions.append(Tell(f"{role!r} is not this machine's any more: {why}."))
        decisions += self.drop_left(role, "its lease is lost" if is_lost else "")
        for slot in self._crew.slots_of(role):
            if slot.state is SlotState.WAITING:
                slot.step("lease lost")
        for process in self._crew.processes_of(role):
            process.why_killed = process.why_killed or f"was killed, for its lease is lost: {why}"
        return decisions + self._crew.kill(self._crew.processes_of(role))

    def drop_left(self, role: str, why: str) -> list[Decision]:
        """Forget what is kept here for the next process of a singleton. `why` it is lost, if it is."""
        size = self._crew.kept.pop((role, 0), None)
        if size is None:
            return []
        told = [Tell(f"the {size:,} bytes that {role!r} has left are lost: {why}.", "crash")] if why else []
        return [*told, DropInheritance(role, 0)]

    def handle_elsewhere(self, role: str, note: str) -> list[Decision]:
        """Who has the lease, or why nobody can have it."""
        self._crew.leases[role].note = note
        return [Tell(f"{role!r} is held: {note}.")]
