"""The Kingpin's mind as data: stored by one Kingpin, and taken over by the next, which takes its place.

It contains everything that cannot be learned again: the slots, the processes, the roster, the links, the records of
exports that killed workers. Multi-step work (a reload, a stop) is not in it: an upgrade waits for it, or is refused.

The plan of the new Kingpin counts. A role that it no longer has is retired, a new one is started, and a role whose
`workers` changed is resized, unless a user scaled it by hand.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from mob.core.crew import Process, Role, Slot, places_of
from mob.core.decisions import Decision, WakeAt
from mob.core.quarantine import Suspect
from mob.core.states import MobsterState, SlotState
from mob.core.supervisor import Supervisor
from mob.plan import Plan, RolePlan
from mob.wire.messages import Beat, Member, Node, Overrun, RoleInfo

FORMAT = 1
"""Version of the whole format; Kingpins with different versions cannot follow each other."""


class SlotData(msgspec.Struct, frozen=True):
    """The data of a slot."""

    role: str
    index: int
    state: str
    uid: int
    successor: int
    generation: int
    due: float
    not_before: float
    note: str
    told: str
    failures: int
    restarts: int
    outcome: str = ""


class ProcessData(msgspec.Struct, frozen=True):
    """The data of a process."""

    uid: int
    role: str
    index: int
    generation: int
    pid: int
    state: str
    launched: float
    ready_at: float | None
    deadline: float | None
    asked: bool
    killed: bool
    why_killed: str
    is_restarted: bool
    report: str
    stacks: str
    beat: Beat
    beaten_at: float
    quota: float
    token: int = 0
    still: float = 0.0
    hands_over: bool = False
    refusal: str = ""
    born: float = 0.0
    overran: Overrun | None = None


class SuspectData(msgspec.Struct, frozen=True):
    """The record of an export that killed workers."""

    role: str
    export: str
    deaths: list[float]
    state: str
    term: float
    until: float
    probe: int


class Snapshot(msgspec.Struct, frozen=True):
    """The whole snapshot."""

    last_uid: int
    slots: list[SlotData]
    processes: list[ProcessData]
    workers: dict[str, int]
    """Number of workers of each role, by the plan."""
    targets: dict[str, int]
    """Number of workers of each role at the end."""
    roles: list[RoleInfo]
    members: list[Member]
    wishes: dict[str, list[int]]
    pairs: list[tuple[int, int]]
    suspects: list[SuspectData]
    nodes: list[Node] = []
    kept: list[tuple[str, int, int]] = []
    """Data that was left for the next process in a place: role, index and bytes."""


def take(supervisor: Supervisor) -> Snapshot:
    """Return the state of a supervisor."""
    crew = supervisor.crew
    wishes, pairs = crew.introductions.known()
    return Snapshot(
        last_uid=crew.last_uid,
        slots=[_slot_data(slot) for slot in crew.slots.values()],
        processes=[_process_data(process) for process in crew.processes.values()],
        workers={name: role.plan.workers for name, role in crew.roles.items()},
        targets={name: role.target for name, role in crew.roles.items()},
        roles=list(crew.roster.roles.values()),
        members=list(crew.roster),
        wishes=wishes,
        pairs=pairs,
        suspects=[
            SuspectData(role, name, list(each.deaths), each.state, each.term, each.until, each.probe)
            for (role, name), each in supervisor.quarantine.suspects.items()
        ],
        nodes=list(crew.roster.nodes.values()),
        kept=[(*place, size) for place, size in crew.kept.items()],
    )


def restore(
    plan: Plan,
    snapshot: Snapshot,
    now: float,
    luck: Callable[[], float] = lambda: 0.5,
    is_stopped: Callable[[int], bool] = lambda pid: False,
) -> tuple[Supervisor, list[Decision]]:
    """Return a supervisor that continues from a snapshot by the current plan, and what to do at once."""
    supervisor = Supervisor(plan, luck, is_stopped)
    crew = supervisor.crew
    crew.last_uid = snapshot.last_uid
    crew.kept = {(role, index): size for role, index, size in snapshot.kept}
    new_slots = {key: slot for key, slot in crew.slots.items() if slot.role not in snapshot.targets}
    crew.slots = {(data.role, data.index): _slot(data) for data in snapshot.slots}
    gone = [name for name in snapshot.targets if name not in crew.roles]
    for name in gone:
        crew.roles[name] = Role(RolePlan(name, name, restart="temporary", workers=snapshot.workers[name]))
        crew.order.append(name)
    for data in snapshot.processes:
        slot = crew.slots.get((data.role, data.index)) or Slot(data.role, data.index)
        crew.processes[data.uid] = _process(data, slot)
    for member in snapshot.members:
        crew.roster.put(member)
    for info in snapshot.roles:
        crew.roster.put_role(info)
    crew.introductions.learn(snapshot.wishes, snapshot.pairs)
    for each in snapshot.suspects:
        supervisor.quarantine.suspects[each.role, each.export] = _suspect(each)
    decisions: list[Decision] = [WakeAt(now), *(WakeAt(when) for when in _times(supervisor, now))]
    for name, target in snapshot.targets.items():
        role = crew.roles[name]
        role.target = target
        if name in gone:
            decisions += _retire_role(supervisor, name, now)
            continue
        decisions += _resize_spares(supervisor, name, now)
        if target in (snapshot.workers[name], 0):  # 0: a plan before this one did not have the role
            decisions += supervisor.resize(name, role.plan.workers, now, "as the new plan says")
    crew.slots.update(new_slots)
    for name in {slot.role for slot in new_slots.values()}:
        workers = 0 if crew.is_singleton(name) else crew.roles[name].plan.workers
        decisions += crew.role_changed(name, workers=workers, complete=False)
    return supervisor, decisions + supervisor.start_slots(list(new_slots.values()), now)


def _times(supervisor: Supervisor, now: float) -> list[float]:
    """Return the times at which something is due."""
    crew = supervisor.crew
    times = [slot.due for slot in crew.slots.values() if slot.state is SlotState.WAITING]
    times += [suspect.until for suspect in supervisor.quarantine.suspects.values()]
    for process in crew.processes.values():
        role = crew.roles[process.slot.role].plan
        if process.deadline is not None:
            times.append(process.deadline)
        if process.is_booting and role.boot_timeout is not None:
            times.append(process.launched + role.boot_timeout + process.still)
        if process.ready_at is not None:
            process.beaten_at = now  # heartbeats were not read for a moment
            times += [each.when for each in supervisor.health.watch(process) if isinstance(each, WakeAt)]
    return times


def _resize_spares(supervisor: Supervisor, name: str, now: float) -> list[Decision]:
    """Start or stop spares of a role whose number differs in the new plan."""
    crew, wanted = supervisor.crew, {index for index in places_of(supervisor.crew.roles[name].plan) if index < 0}
    there = {slot.index: slot for slot in crew.spares_of(name)}
    new = [Slot(name, index) for index in sorted(wanted - there.keys(), reverse=True)]
    crew.slots.update({(name, slot.index): slot for slot in new})
    decisions = supervisor.start_slots(new, now)
    for index in there.keys() - wanted:
        decisions += supervisor.scaling.leave(there[index], now)
    return decisions


def _retire_role(supervisor: Supervisor, name: str, now: float) -> list[Decision]:
    """Retire a role that the new plan does not have."""
    crew = supervisor.crew
    crew.roles[name].target = 0
    for slot in [*crew.slots_of(name), *crew.spares_of(name)]:
        if slot.state is not SlotState.LEAVING:
            slot.step("scaled down")
        if slot.state is SlotState.EMPTY:
            del crew.slots[name, slot.index]
    processes = crew.processes_of(name)
    return [decision for process in processes for decision in crew.retire(process, now)]


def _slot_data(slot: Slot) -> SlotData:
    return SlotData(
        slot.role,
        slot.index,
        slot.state,
        slot.uid,
        slot.successor,
        slot.generation,
        slot.due,
        slot.not_before,
        slot.note,
        slot.told,
        slot.revival.failures,
        slot.revival.restarts,
        slot.outcome,
    )


def _slot(data: SlotData) -> Slot:
    slot = Slot(data.role, data.index)
    slot.state = SlotState(data.state)
    slot.uid, slot.successor, slot.generation = data.uid, data.successor, data.generation
    slot.due, slot.not_before, slot.note, slot.told = data.due, data.not_before, data.note, data.told
    slot.revival.failures, slot.revival.restarts = data.failures, data.restarts
    slot.outcome = data.outcome
    return slot


COPIED = [name for name in ProcessData.__struct_fields__ if name not in ("uid", "role", "index", "state")]
"""Names of the fields that a process and its data share."""


def _process_data(process: Process) -> ProcessData:
    copied = {name: getattr(process, name) for name in COPIED}
    slot = process.slot
    return ProcessData(uid=process.uid, role=slot.role, index=slot.index, state=process.state, **copied)


def _process(data: ProcessData, slot: Slot) -> Process:
    process = Process(data.uid, slot, data.launched)
    process.state = MobsterState(data.state)
    for name in COPIED:
        setattr(process, name, getattr(data, name))
    return process


def _suspect(data: SuspectData) -> Suspect:
    suspect = Suspect()
    suspect.deaths.extend(data.deaths)
    suspect.state, suspect.term, suspect.until, suspect.probe = data.state, data.term, data.until, data.probe
    return suspect
