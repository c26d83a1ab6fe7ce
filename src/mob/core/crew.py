"""The slots of an app, the processes in them, and the elementary steps: launch, retire, kill.

A slot is a place (role, index) and outlives the processes that fill it. At any time it has one process that counts, and
perhaps a successor that takes its place as soon as it is ready. A process whose place was taken finishes; only the stop
still sees it. So no two *ready* workers ever have the same index.

The spares of a role have slots of their own, with indexes below 0. A process that is promoted moves from there to the
slot of the one that died; it is the same process, so its uid, pid and links stay.

When to do what is decided by others (supervisor, stopping, rollout, scaling, health); they all share this table.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

import msgspec

from mob.core import states
from mob.core.decisions import Admit, Announce, Decision, Introduce, Kill, Launch, Promote, Retire, WakeAt
from mob.core.introductions import Introductions
from mob.core.revival import DONE, OUTCOMES, Intensity, Revival
from mob.core.roster import Roster
from mob.core.states import MobsterState, SlotState
from mob.plan import GATEWAY, Plan, RolePlan, in_order_of_need, place_name
from mob.wire import messages as m
from mob.wire.messages import Beat, Member, Parked, RoleInfo, node_of

EARLY = 0.005
"""Seconds by which a wake-up may come too soon: timers are inexact, and a useless wake-up is not repeated."""


class Slot:
    """A place for one mobster: outlives the processes that fill it."""

    __slots__ = (
        "due",
        "generation",
        "index",
        "not_before",
        "note",
        "outcome",
        "revival",
        "role",
        "state",
        "successor",
        "told",
        "uid",
    )

    def __init__(self, role: str, index: int) -> None:
        self.role: str = role
        self.index: int = index
        self.state: SlotState = SlotState.FILLED
        self.uid: int = 0
        """Uid of the process that counts; 0 if there is none."""
        self.successor: int = 0
        """Uid of the process that takes its place when it is ready; 0 if there is none."""
        self.generation: int = 0
        self.due: float = 0.0
        """When WAITING: the time of the launch."""
        self.not_before: float = 0.0
        """Time before which it is not recycled again, after a recycling failed."""
        self.note: str = ""
        """The reason why the last process ended."""
        self.told: str = ""
        """The last traceback that was shown; the same one is not shown again in full."""
        self.outcome: str = ""
        """The outcome of its last process if none follows: one of `revival.OUTCOMES`."""
        self.revival: Revival = Revival()

    def __repr__(self) -> str:
        return f"<Slot {self.name} {self.state}>"

    @property
    def name(self) -> str:
        """The name for users: `back.2`, `back.spare`."""
        return place_name(self.role, self.index)

    @property
    def is_spare(self) -> bool:
        """True if the process in it waits for the place of another."""
        return self.index < 0

    def step(self, event: str) -> None:
        """Take the next state, by the table."""
        self.state = states.step(states.SLOT, self.state, event)


class Process:
    """One mobster from its launch to its exit."""

    __slots__ = (
        "asked",
        "beat",
        "beaten_at",
        "born",
        "deadline",
        "ends_by_itself",
        "generation",
        "hands_over",
        "has_crashed",
        "has_failed",
        "is_done",
        "is_hinted",
        "is_restarted",
        "is_unfit",
        "killed",
        "launched",
        "overran",
        "pid",
        "quota",
        "ready_at",
        "refusal",
        "report",
        "slot",
        "stacks",
        "stands",
        "state",
        "still",
        "token",
        "uid",
        "why_killed",
    )

    def __init__(self, uid: int, slot: Slot, now: float, luck: float = 0.5) -> None:
        self.uid: int = uid
        self.slot: Slot = slot
        self.generation: int = slot.generation
        self.pid: int = 0
        self.state: MobsterState = MobsterState.LAUNCHING
        self.launched: float = now
        """Time of its launch, or of its promotion."""
        self.born: float = now
        """Time of its launch, which shows how old its code is."""
        self.ready_at: float | None = None
        self.deadline: float | None = None
        """Time at which it is killed if it is still running."""
        self.asked: bool = False
        """True once the Kingpin asked it to end."""
        self.killed: bool = False
        self.why_killed: str = ""
        """The reason why mob itself killed it, if it had one of its own."""
        self.overran: m.Overrun | None = None
        """The call that took too long, because of which it was killed."""
        self.is_restarted: bool = False
        """True if it was asked to end so that another can take its place."""
        self.is_done: bool = False
        """True if it ended because its work was done, and none follows."""
        self.has_failed: bool = False
        """True if it ends because a handler of `ready` raised."""
        self.ends_by_itself: bool = False
        """True if it ends because its role called `mob.exit`."""
        self.is_hinted: bool = False
        """True once the log said that it takes long to get ready."""
        self.is_unfit: bool = False
        """True if it is a spare whose module cannot wait; another would end in the same way."""
        self.has_crashed: bool = False
        """True if it ended although no one asked it to."""
        self.hands_over: bool = False
        """True if it has a handler that returns its data for its successor."""
        self.refusal: str = ""
        """The reason why it was dismissed before it was ready, although it had not failed."""
        self.report: str = ""
        """The traceback of a failed import."""
        self.stacks: str = ""
        """The stacks that it reported while it was stuck."""
        self.stands: str = ""
        """Where it is in the debugger, or waits for it."""
        self.still: float = 0.0
        """Seconds before it was ready in which it was suspended (SIGSTOP, a sleeping machine): not boot time."""
        self.beat: Beat = Beat()
        self.beaten_at: float = now
        self.token: int = 0
        """Of a singleton: the token of the lease under which it was launched."""
        self.quota: float = 1 + 0.1 * (2 * luck - 1)
        """Its factor for the recycling limits: up to a tenth more or less, so that not all are replaced at once."""

    def __repr__(self) -> str:
        return f"<Process {self.uid} {self.name} {self.state}>"

    @property
    def name(self) -> str:
        """The name for users: `back.2 (pid 4242)`; `back.2` before its pid is known."""
        return f"{self.slot.name} (pid {self.pid})" if self.pid else self.slot.name

    @property
    def note(self) -> str:
        """The note next to its state.

        It says where it is in the debugger, or where its module is blocked, or why the one before it ended.
        """
        if self.beat.waits_for:
            return self.stands or self.beat.waits_for
        if self.is_booting and self.beat.blocked and not self.stands:
            return f"not ready: its module is blocked at {self.beat.blocked}; call mob.ready() before that line"
        return self.stands or self.slot.note

    @property
    def error(self) -> str:
        """The last line of the report of its failed import, which names the error; empty if there is none."""
        return self.report.strip().splitlines()[-1] if self.report else ""

    @property
    def is_booting(self) -> bool:
        """True if it has not been ready yet, and is expected to be."""
        return self.state in (MobsterState.LAUNCHING, MobsterState.BOOTING)

    def step(self, event: str) -> None:
        """Take the next state, by the table."""
        self.state = states.step(states.MOBSTER, self.state, event)

    def limit(self, deadline: float) -> None:
        """Have it killed at that time if it is still running, or at an earlier time that was set before."""
        self.deadline = deadline if self.deadline is None else min(self.deadline, deadline)

    def is_overdue(self, now: float) -> bool:
        """Return True if it should have ended by now and nothing was done about it yet."""
        return self.deadline is not None and self.deadline <= now + EARLY and not self.killed

    def member(self) -> Member:
        """Return its entry for the roster."""
        slot = self.slot
        return Member(self.uid, self.pid, slot.role, slot.index, self.generation, str(self.state), self.token)


class Leased:
    """The state of the lease of a singleton, as far as it is known."""

    __slots__ = ("left", "note", "token")

    def __init__(self, token: int = 0, note: str = "waits for its lease") -> None:
        self.token: int = token
        """The fencing token; 0 while this machine does not have the lease."""
        self.note: str = note
        """The holder of the lease, or the reason why no one can have it."""
        self.left: int = 0
        """While this machine has it: the token under which the data that the singleton inherits is in the cluster."""

    def __repr__(self) -> str:
        return f"<Leased, token {self.token}>" if self.token else f"<Leased, {self.note}>"


class Role:
    """The state that all workers of a role share."""

    __slots__ = ("intensity", "plan", "target")

    def __init__(self, plan: RolePlan) -> None:
        self.plan: RolePlan = plan
        self.target: int = plan.workers
        """The number of workers that the role is to have."""
        self.intensity: Intensity = Intensity()

    def __repr__(self) -> str:
        return f"<Role {self.plan.name}: {self.target} workers wanted>"


class Crew:
    """All slots, processes and roles, and the elementary steps."""

    def __init__(self, plan: Plan, luck: Callable[[], float] = lambda: 0.5) -> None:
        self.plan: Plan = plan
        self.luck = luck
        """Returns a random number from 0 to 1, a new one for each question."""
        self.leases: dict[str, Leased] = {
            role.name: Leased() for role in plan.roles if role.singleton and role.workers and plan.cluster
        }
        """The leases of the roles that run once in the whole cluster."""
        self.roster: Roster = Roster(
            RoleInfo(role.name, workers=0 if role.name in self.leases else role.workers) for role in plan.roles
        )
        self.introductions: Introductions = Introductions()
        self.roles: dict[str, Role] = {role.name: Role(role) for role in plan.roles}
        self.order: list[str] = [role.name for role in in_order_of_need(plan.roles)]
        """The roles in the order in which they are started."""
        self.slots: dict[tuple[str, int], Slot] = {
            (role.name, i): Slot(role.name, i) for role in plan.roles for i in places_of(role)
        }
        self.processes: dict[int, Process] = {}
        self.parked_at_clients: dict[int, Parked] = {}
        """The calls that wait in clients for a worker, by the client's uid; a client without any has no entry."""
        self.last_uid: int = 0
        """The number that was given last."""
        self.kept: dict[tuple[str, int], int] = {}
        """Bytes that were left for the next process, by role and index."""

    def __repr__(self) -> str:
        return f"<Crew: {len(self.processes)} processes in {len(self.slots)} slots>"

    # ------------------------------------------------------------------------------------------- questions

    def next_uid(self) -> int:
        """Return a number that no member had before."""
        self.last_uid += 1
        return self.last_uid

    def is_remote(self, uid: int) -> bool:
        """Return True if a member, or a Kingpin, is on another machine."""
        return node_of(uid) != node_of(self.last_uid)

    def role_of(self, uid: int) -> str:
        """Return the role of a member of this machine; empty if it is a client."""
        process = self.processes.get(uid)
        return process.slot.role if process else ""

    def slots_of(self, role: str) -> list[Slot]:
        """Return the places of a role, by their index."""
        slots = (slot for slot in self.slots.values() if slot.role == role and not slot.is_spare)
        return sorted(slots, key=lambda slot: slot.index)

    def spares_of(self, role: str) -> list[Slot]:
        """Return the slots of the role's spares, the first one first."""
        slots = (slot for slot in self.slots.values() if slot.role == role and slot.is_spare)
        return sorted(slots, key=lambda slot: -slot.index)

    def waiting_spare(self, role: str) -> Process | None:
        """Return a spare that has booted and may take a place; None if there is none."""
        there = [self.current(slot) for slot in self.spares_of(role)]
        return next((each for each in there if each and each.state is MobsterState.SPARE and not each.killed), None)

    def has_ended(self, role: str) -> bool:
        """Return True if no place of the role has a process, and none gets one unless a user asks for it."""
        return all(slot.state in (SlotState.EMPTY, SlotState.FAILED) for slot in self.slots_of(role))

    def processes_of(self, role: str) -> list[Process]:
        """Return the processes of a role, including those whose place was taken."""
        return [process for process in self.processes.values() if process.slot.role == role]

    def current(self, slot: Slot) -> Process | None:
        """Return the process that counts in a slot."""
        return self.processes.get(slot.uid)

    def parked(self, role: str) -> int:
        """Return how many calls wait for a worker of a role, in all mobsters and clients of this machine."""
        clients = sum(parked.calls.get(role, 0) for parked in self.parked_at_clients.values())
        return clients + sum(process.beat.parked.get(role, 0) for process in self.processes.values())

    def lacks(self, role: str) -> list[str]:
        """Return the roles that it needs and that have no ready worker, nor have done their work for good."""
        return [needed for needed in self.roles[role].plan.needs if not self.is_met(needed)]

    def is_met(self, role: str) -> bool:
        """Return True if roles that need this one may run: it has a ready worker, or did its work and ended."""
        return bool(self.roster.ready(role)) or self._has_ended(role, {DONE})

    def waiting_for_ended(self, role: str) -> list[str]:
        """Return the roles that wait for this one although it ended, no process of it follows, and it is not done."""
        if self.is_met(role) or not self._has_ended(role, OUTCOMES):
            return []
        needing = [name for name in self.order if role in self.roles[name].plan.needs and self.slots_of(name)]
        return [name for name in needing if all(slot.state is SlotState.HELD for slot in self.slots_of(name))]

    def _has_ended(self, role: str, outcomes: Collection[str]) -> bool:
        """Return True if all its processes ended with one of these outcomes, and none follows."""
        slots = self.slots_of(role)
        return bool(slots) and all(slot.state is SlotState.EMPTY and slot.outcome in outcomes for slot in slots)

    def add_role(self, plan: Plan, role: RolePlan) -> list[Slot]:
        """Add a role that is in the new plan and was not in the one before. Return its slots.

        It ends last, except for the gateways, which return its lease.
        """
        self.plan = plan
        if role.singleton and plan.cluster:
            self.leases[role.name] = Leased()
        self.roster.put_role(RoleInfo(role.name, workers=0 if role.name in self.leases else role.workers))
        self.roles[role.name] = Role(role)
        self.order.insert(1 if self.order[:1] == [GATEWAY] else 0, role.name)
        slots = [Slot(role.name, index) for index in range(role.workers)]
        self.slots.update({(slot.role, slot.index): slot for slot in slots})
        return slots

    def note_end(self, role: str, why: str) -> list[Decision]:
        """Tell every member why no worker of the role is left, if none is and none follows."""
        if self.processes_of(role) or any(slot.state is not SlotState.EMPTY for slot in self.slots_of(role)):
            return []
        return self.role_changed(role, ended=why)

    def has_lease(self, role: str) -> bool:
        """Return True if this machine may run the role: a singleton may run on one machine of the cluster."""
        return (lease := self.leases.get(role)) is None or lease.token > 0

    def is_held(self, role: str) -> bool:
        """Return True if the role must not start now, because it lacks a role that it needs, or its lease."""
        return bool(self.lacks(role)) or not self.has_lease(role)

    def is_slot_held(self, slot: Slot) -> bool:
        """Return True if nothing is to be launched in this slot now.

        A spare follows the first ready worker: so it does not delay one that boots, and its module is known to work.
        """
        return self.is_held(slot.role) or (slot.is_spare and not self.roster.ready(slot.role))

    def why_held(self, role: str) -> str:
        """Return what the role waits for."""
        lacks = self.lacks(role)
        return f"waits for {', '.join(lacks)}" if lacks else self.leases[role].note if role in self.leases else ""

    def is_singleton(self, role: str) -> bool:
        """Return True if two processes of the role must never run at a time, not even for a reload."""
        return role in self.leases

    def is_alone(self, role: str) -> bool:
        """Return True if its successor starts only after it ended: it holds what two processes cannot hold."""
        return self.is_singleton(role) or self.roles[role].plan.keeps_jobs

    def is_left_here(self, role: str) -> bool:
        """Return True if this machine keeps data that a singleton left, and no other machine could get it."""
        lease = self.leases.get(role)
        return lease is not None and lease.token > 0 and not lease.left and (role, 0) in self.kept

    def is_done(self) -> bool:
        """Return True if no process is left and none follows."""
        over = (SlotState.EMPTY, SlotState.FAILED, SlotState.HELD)  # the latter waits for one that is over
        return not self.processes and all(slot.state in over for slot in self.slots.values())

    # ----------------------------------------------------------------------------------------------- steps

    def launch(self, slot: Slot, now: float, as_successor: bool = False) -> list[Decision]:
        """Launch a process for a slot: the one that counts, or its successor."""
        uid = self.next_uid()
        slot.generation += 1
        slot.outcome = ""
        if as_successor:
            slot.successor = uid
        else:
            slot.uid = uid
        process = self.processes[uid] = Process(uid, slot, now, self.luck())
        if (lease := self.leases.get(slot.role)) is not None:
            process.token = lease.token
        member = process.member()
        self.roster.put(member)
        decisions = [] if slot.is_spare else self.role_changed(slot.role, given_up=False, ended="")
        decisions += [Launch(uid, slot.role, slot.index, slot.generation, self._inherits(slot)), self.welcome(uid)]
        decisions += [Announce(m.MemberIs(member)), *(Introduce(*pair) for pair in self.introductions.joined(member))]
        timeout = self.roles[slot.role].plan.boot_timeout
        return decisions if timeout is None else [*decisions, WakeAt(now + timeout)]

    def _inherits(self, slot: Slot) -> bool:
        """Return True if the process that is launched for a slot has to ask for data left there."""
        before = self.current(slot) if slot.successor else None
        return (slot.role, slot.index) in self.kept or (before is not None and before.hands_over)

    def promote(self, process: Process, slot: Slot, now: float) -> list[Decision]:
        """Give a spare the place of one that died; its age counts from now.

        It is ready there at once, because it learns of its place before the first call comes; if it is to serve HTTP,
        when it reports that it is.
        """
        spare = process.slot
        spare.uid, spare.successor = spare.successor, 0
        slot.uid, slot.outcome = process.uid, ""
        slot.generation += 1
        process.slot, process.generation = slot, slot.generation
        plan = self.roles[slot.role].plan
        promote = Promote(process.uid, slot.role, slot.index, slot.generation)
        if plan.serve is None:
            process.launched = process.ready_at = process.beaten_at = now
            process.step("promoted")
            return [promote, *self.changed(process)]
        process.launched, process.beaten_at, process.ready_at, process.still = now, now, None, 0.0
        process.step("promoted, has to serve first")
        self.roster.put(process.member())  # all learn of it when it is ready
        return [promote] if plan.boot_timeout is None else [promote, WakeAt(now + plan.boot_timeout)]

    def retire(self, process: Process, now: float, seconds: float | None = None) -> list[Decision]:
        """Give a process no new work; let it finish its work within that many seconds (the grace period), and end."""
        seconds = self.plan.grace if seconds is None else seconds
        process.limit(now + seconds)
        if process.asked:
            return [WakeAt(now + seconds)]
        process.asked = True
        process.step("asked to stop")
        return [*self.changed(process), Retire(process.uid, seconds), WakeAt(now + seconds)]

    def kill(self, processes: Collection[Process]) -> list[Decision]:
        """Kill processes at once."""
        for process in processes:
            process.killed = True
        return [Kill(process.uid) for process in processes]

    def forget(self, process: Process) -> None:
        """Remove a process that exited."""
        process.step("exited")
        self.processes.pop(process.uid, None)
        self.roster.remove(process.uid)
        self.introductions.left(process.uid)

    def welcome(self, uid: int) -> Admit:
        """Return the first message to a new member."""
        roster = self.roster
        return Admit(uid, tuple(roster.roles.values()), tuple(roster), tuple(roster.nodes.values()), roster.cut)

    def changed(self, process: Process) -> list[Decision]:
        """Announce the state of a process."""
        member = process.member()
        self.roster.put(member)
        return [Announce(m.MemberIs(member))]

    def role_changed(self, role: str, **changes: object) -> list[Decision]:
        """Announce changes of a role."""
        info = msgspec.structs.replace(self.roster.roles[role], **changes)
        if info == self.roster.roles[role]:
            return []
        self.roster.put_role(info)
        return [Announce(m.RoleIs(info))]

    def release_held(self, now: float) -> list[Decision]:
        """Start the roles that waited for one that is ready now."""
        return [
            decision
            for slot in self.in_order(self.slots.values())
            if slot.state is SlotState.HELD and not self.is_slot_held(slot)
            for decision in self._release(slot, now)
        ]

    def _release(self, slot: Slot, now: float) -> list[Decision]:
        slot.step("needed roles are ready")
        return self.launch(slot, now)

    def in_order(self, slots: Iterable[Slot]) -> list[Slot]:
        """Return slots in the order in which they are started."""
        return sorted(slots, key=lambda slot: (self.order.index(slot.role), slot.is_spare, abs(slot.index)))


def places_of(role: RolePlan) -> list[int]:
    """Return the indexes of a role's slots, those of its spares below 0.

    >>> places_of(RolePlan("back", "back", workers=2, spare=1))
    [0, 1, -1]
    """
    spares = role.spare if role.workers else 0
    return [*range(role.workers), *range(-1, -spares - 1, -1)]
