"""Singletons: what a lease means for a role of which one process runs in the whole cluster.

`lease.py` decides about the lease itself; this module launches what runs under it, and kills it when the lease is lost.
While another machine holds the lease, the place is held, and the role has no place here, so that keys and broadcasts go
to where it runs. An app without a cluster has no leases.
"""

from __future__ import annotations

from mob.core.crew import Crew
from mob.core.decisions import Decision, DropInheritance, Tell
from mob.core.lease import LeaseWish
from mob.core.states import SlotState
from mob.core.stopping import Stopping


class Singletons:
    """The singletons of this machine."""

    def __init__(self, crew: Crew, stopping: Stopping) -> None:
        self._crew = crew
        self._stopping = stopping

    def __repr__(self) -> str:
        return f"<Singletons {self._crew.leases}>"

    def wish(self, role: str) -> LeaseWish:
        """Return what a singleton wants of its lease: to keep it until its data is stored for other machines."""
        return LeaseWish.KEEP if self.has_to_leave(role) else self._wish(role)

    def has_to_leave(self, role: str) -> bool:
        """Return True if a singleton no longer needs its lease, and its data is on this machine only."""
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
        """Handle the lease of a singleton that this machine won."""
        self._crew.leases[role].token = token
        decisions: list[Decision] = [Tell(f"this machine now holds the lease for {role!r} (token {token}).")]
        decisions += self._crew.role_changed(role, workers=self._crew.roles[role].plan.workers)
        return decisions if self._stopping.has_begun else decisions + self._crew.release_held(now)

    def handle_lost(self, role: str, why: str) -> list[Decision]:
        """Handle a lease that this machine no longer holds: kill what runs under it.

        If it was returned (no `why`), nothing runs. Data that was left here is of no use any more: another machine has
        it, or starts without it.
        """
        lease = self._crew.leases[role]
        is_lost = self._crew.is_left_here(role)
        lease.token, lease.note, lease.left = 0, why or "waits for its lease", 0
        decisions: list[Decision] = self._crew.role_changed(role, workers=0)
        if why:
            decisions.append(Tell(f"this machine no longer holds the lease for {role!r}: {why}."))
        decisions += self.drop_left(role, "its lease was lost" if is_lost else "")
        for slot in self._crew.slots_of(role):
            if slot.state is SlotState.WAITING:
                slot.step("lease lost")
        for process in self._crew.processes_of(role):
            process.why_killed = process.why_killed or f"was killed because its lease was lost: {why}"
        return decisions + self._crew.kill(self._crew.processes_of(role))

    def drop_left(self, role: str, why: str) -> list[Decision]:
        """Forget the data kept here for the next process of a singleton. `why`: the reason, if it is lost."""
        size = self._crew.kept.pop((role, 0), None)
        if size is None:
            return []
        told = [Tell(f"the {size:,} bytes that {role!r} left are lost: {why}.", "crash")] if why else []
        return [*told, DropInheritance(role, 0)]

    def handle_elsewhere(self, role: str, note: str) -> list[Decision]:
        """Note which machine holds the lease, or why none can."""
        self._crew.leases[role].note = note
        return [Tell(f"{role!r} does not run here: {note}.")]
