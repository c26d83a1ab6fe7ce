"""The Kingpin's mind: what happens to mobsters goes in with the time, what to do about it comes out as decisions.

One process per slot (role, index), ever: a successor is launched only after the exit of its predecessor was reported,
so no two workers have one index at a time. Roles are stopped in reverse order of their declaration, each when the later
ones are gone; what remains at the end of the grace time is killed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import msgspec

from mob.core import states
from mob.core.decisions import (
    Announce,
    AnnounceGone,
    AnnounceRole,
    Ask,
    Decision,
    Finish,
    Introduce,
    Kill,
    Launch,
    Tell,
    WakeAt,
    Welcome,
)
from mob.core.introductions import Introductions
from mob.core.revival import Revival
from mob.core.roster import Roster
from mob.core.states import Mobster
from mob.core.states import Slot as SlotState
from mob.plan import Plan
from mob.wire.messages import Member, RoleInfo, Row

RESERVE = 0.1
"""The part of the grace time that a role still to be stopped keeps for itself while an earlier one takes long."""
EARLY = 0.005
"""Seconds by which a wake may come too soon: timers are not exact, and a wake that was in vain is not repeated."""


class Slot:
    """A place for one mobster: outlives the processes that fill it."""

    __slots__ = ("due", "generation", "index", "note", "revival", "role", "state", "told", "uid")

    def __init__(self, role: str, index: int) -> None:
        self.role = role
        self.index = index
        self.state = SlotState.FILLED
        self.uid = 0  # of the process that fills it, 0 for none
        self.generation = 0
        self.due = 0.0  # when WAITING: the time of the launch
        self.note = ""  # why the last one ended
        self.told = ""  # the traceback that was shown last; the same one is not shown again in full
        self.revival = Revival()

    def __repr__(self) -> str:
        return f"<Slot {self.name} {self.state}>"

    @property
    def name(self) -> str:
        """As people read it: `back.2`."""
        return f"{self.role}.{self.index}"

    def step(self, event: str) -> None:
        """The next state, by the table."""
        self.state = states.step(states.SLOT, self.state, event)


class Process:
    """One life: a mobster from its launch to its exit."""

    __slots__ = (
        "calls",
        "deadline",
        "killed",
        "launched",
        "pid",
        "ready_at",
        "report",
        "shared",
        "slot",
        "state",
        "uid",
    )

    def __init__(self, uid: int, slot: Slot, now: float) -> None:
        self.uid = uid
        self.slot = slot
        self.pid = 0
        self.state = Mobster.LAUNCHING
        self.launched = now
        self.ready_at: float | None = None
        self.deadline: float | None = None  # when it is killed if it is still there
        self.killed = False
        self.report = ""  # of a failed import
        self.calls = 0
        self.shared = 0

    def __repr__(self) -> str:
        return f"<Process {self.uid} {self.slot.name} pid {self.pid} {self.state}>"

    def step(self, event: str) -> None:
        """The next state, by the table."""
        self.state = states.step(states.MOBSTER, self.state, event)

    def limit(self, deadline: float) -> None:
        """It is to be killed at that time if it is still there, or earlier if that was said before."""
        self.deadline = deadline if self.deadline is None else min(self.deadline, deadline)

    def is_overdue(self, now: float) -> bool:
        """Whether it should be gone by now, and nothing was done about it yet."""
        return self.deadline is not None and self.deadline <= now + EARLY and not self.killed

    def member(self) -> Member:
        """As the roster shows it."""
        return Member(self.uid, self.pid, self.slot.role, self.slot.index, self.slot.generation, str(self.state))


class Supervisor:
    """Decides launches, revivals, introductions and the stop."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.roster = Roster(RoleInfo(role.name, workers=role.workers) for role in plan.roles)
        self.introductions = Introductions()
        self.slots = {(role.name, i): Slot(role.name, i) for role in plan.roles for i in range(role.workers)}
        self.processes: dict[int, Process] = {}
        self.stopping = False
        self.finished = False
        self._deadline = 0.0  # of the whole stop
        self._stage: list[str] = []  # roles that have not ended; the last one is being asked
        self._asked = ""  # the role that was asked last
        self._last_uid = 0

    def __repr__(self) -> str:
        return f"<Supervisor of {self.plan.name!r}: {len(self.processes)} processes in {len(self.slots)} slots>"

    # ------------------------------------------------------------------------------------------- launching

    def start(self, now: float) -> list[Decision]:
        """The first launch of every slot."""
        return [decision for slot in self.slots.values() for decision in self._launch(slot, now)]

    def handle_forked(self, uid: int, pid: int) -> list[Decision]:
        """The fork server has made the process."""
        process = self.processes.get(uid)
        if process is None:
            return []
        kill = self._identify(process, pid)
        process.step("forked")
        return [*self._changed(process), *kill]

    def handle_ready(self, uid: int, pid: int, info: RoleInfo, now: float) -> list[Decision]:
        """The mobster's module is up, or it listens on a shared port (then it says so again when its exports grow)."""
        process = self.processes.get(uid)
        if process is None:
            return []
        decisions = self._identify(process, pid)
        before = process.state
        process.step("ready")
        if self.roster.roles[process.slot.role] != info:
            self.roster.put_role(info)
            decisions.append(AnnounceRole(info))
        if before in (Mobster.LAUNCHING, Mobster.BOOTING):
            process.ready_at = now
            process.slot.note = process.slot.told = ""
            decisions += self._changed(process)
        return decisions

    def handle_boot_failed(self, uid: int, report: str) -> list[Decision]:
        """The module could not be imported; the exit follows."""
        if process := self.processes.get(uid):
            process.report = report if report.strip() else ""
        return []

    def handle_draining(self, uid: int, now: float) -> list[Decision]:
        """A mobster ends because somebody else told it to. It has the grace time for it, as in a stop."""
        process = self.processes.get(uid)
        if process is None:
            return []
        process.step("asked to stop")
        process.limit(now + self.plan.grace)
        return [*self._changed(process), WakeAt(now + self.plan.grace)]

    def handle_exited(self, uid: int, why: str, now: float) -> list[Decision]:
        """The process is gone for good."""
        process = self.processes.pop(uid, None)
        if process is None:
            return []
        asked = process.state is Mobster.DRAINING
        process.step("exited")
        slot = process.slot
        slot.uid = 0
        slot.note = why
        self.roster.remove(uid)
        self.introductions.left(uid)
        decisions: list[Decision] = [AnnounceGone(uid, why)]
        if self.stopping:
            return decisions + self._continue_stop(now)
        was_ready = process.ready_at is not None
        born = process.launched if process.ready_at is None else process.ready_at
        pause = slot.revival.pause_after(was_ready, now - born, asked)
        decisions += self._tell_exit(process, why, pause, asked)
        if not was_ready and not asked:
            decisions += self._failing(process, why)
        if pause == 0.0:
            slot.step("exited, revived at once")
            return [*decisions, *self._launch(slot, now)]
        slot.step("exited, revived after a pause")
        slot.due = now + pause
        return [*decisions, WakeAt(slot.due)]

    def handle_fork_server_gone(self, now: float) -> list[Decision]:
        """Launches that the fork server had not reported are lost; its mobsters live on."""
        lost = [process.uid for process in self.processes.values() if process.pid == 0]
        return [decision for uid in lost for decision in self.handle_exited(uid, "was lost with the fork server", now)]

    def handle_wake(self, now: float) -> list[Decision]:
        """Time has passed: due launches, overdue stops."""
        decisions: list[Decision] = []
        for slot in self.slots.values():
            if slot.state is SlotState.WAITING and slot.due <= now + EARLY:
                slot.step("pause over")
                decisions += self._launch(slot, now)
        return decisions + self._kill_overdue(now)

    # --------------------------------------------------------------------------------- members and their links

    def next_uid(self) -> int:
        """A number that no member had before."""
        self._last_uid += 1
        return self._last_uid

    def handle_client_joined(self, uid: int, pid: int) -> list[Decision]:
        """A client has connected."""
        client = Member(uid, pid, "", 0, 0, Mobster.READY)
        self.roster.put(client)
        return [self._welcome(uid), Announce(client)]

    def handle_client_left(self, uid: int, why: str) -> list[Decision]:
        """A client has gone."""
        if self.roster.remove(uid) is None:
            return []
        self.introductions.left(uid)
        return [AnnounceGone(uid, why)]

    def handle_want_role(self, uid: int, role: str) -> list[Decision]:
        """A member wants links to a role."""
        if uid not in self.roster or (role != "*" and role not in self.roster.roles):
            return []
        return [Introduce(*pair) for pair in self.introductions.want_role(uid, role, self.roster)]

    def handle_want_member(self, uid: int, other: int, again: bool = False) -> list[Decision]:
        """A member wants a link to one other; again, if the link that there was has broken."""
        if again:
            self.introductions.forget_pair(uid, other)
        return [Introduce(*pair) for pair in self.introductions.want_member(uid, other, self.roster)]

    # ------------------------------------------------------------------------------------------------ stopping

    def handle_stop(self, now: float) -> list[Decision]:
        """Ends the app in order; asked a second time, at once."""
        if self.stopping:
            return self.handle_force()
        self.stopping = True
        self._deadline = now + self.plan.grace
        self._stage = [role.name for role in self.plan.roles]
        for slot in self.slots.values():
            slot.step("stopping")
        for process in self.processes.values():
            process.limit(self._deadline)  # though its turn may not have come
        return [Tell("stopping."), WakeAt(self._deadline), *self._continue_stop(now)]

    def handle_force(self) -> list[Decision]:
        """Kills what is left."""
        self._stage = []
        return [Tell("stopping at once."), *self._kill(self.processes.values())]

    def _continue_stop(self, now: float) -> list[Decision]:
        """Asks the next role once the one before is gone; finishes when all are."""
        while self._stage and not self._of_role(self._stage[-1]):
            self._stage.pop()
        if not self.processes:
            if self.finished:
                return []
            self.finished = True
            return [Finish(0)]
        if not self._stage or self._stage[-1] == self._asked:
            return []
        self._asked = self._stage[-1]
        left = self._stage_time(now)
        decisions: list[Decision] = []
        for process in self._of_role(self._asked):
            process.step("asked to stop")
            process.limit(now + left)
            decisions += [*self._changed(process), Ask(process.uid, left)]
        return [*decisions, WakeAt(now + left)]

    def _stage_time(self, now: float) -> float:
        """What the role that is asked now has of the grace time: all but a reserve, and its share at the least."""
        left = max(0.0, self._deadline - now)
        return left - min(self.plan.grace * RESERVE, left / len(self._stage)) * (len(self._stage) - 1)

    def _kill_overdue(self, now: float) -> list[Decision]:
        late = [process for process in self.processes.values() if process.is_overdue(now)]
        if not late:
            return []
        names = ", ".join(f"{p.slot.name} (pid {p.pid})" for p in late)
        return [Tell(f"killing {names}: still there after its grace time."), *self._kill(late)]

    def _kill(self, processes: Collection[Process]) -> list[Decision]:
        for process in processes:
            process.killed = True
        return [Kill(process.uid) for process in processes]

    # ------------------------------------------------------------------------------------------------- showing

    def rows(self, now: float) -> list[Row]:
        """The table of `mob ps`: a line for every slot."""
        rows: list[Row] = []
        for slot in self.slots.values():
            process = self.processes.get(slot.uid)
            restarts = slot.revival.restarts
            if process is None:
                state = "failing" if slot.state is SlotState.WAITING else str(slot.state)
                note = slot.note + (f"; next try in {max(0.0, slot.due - now):.1f} s" if state == "failing" else "")
                rows.append(Row(slot.role, slot.index, 0, state, 0.0, restarts, 0, note))
            else:
                uptime = now - process.launched
                rows.append(
                    Row(
                        slot.role,
                        slot.index,
                        process.pid,
                        process.state,
                        uptime,
                        restarts,
                        process.calls,
                        slot.note,
                        process.shared,
                    )
                )
        return rows

    # ------------------------------------------------------------------------------------------------ internals

    def _of_role(self, role: str) -> list[Process]:
        return [process for process in self.processes.values() if process.slot.role == role]

    def _launch(self, slot: Slot, now: float) -> Iterator[Decision]:
        uid = self.next_uid()
        slot.uid = uid
        slot.generation += 1
        process = self.processes[uid] = Process(uid, slot, now)
        self.roster.put(process.member())
        yield Launch(uid, slot.role, slot.index, slot.generation)
        yield self._welcome(uid)
        yield Announce(process.member())
        yield from (Introduce(*pair) for pair in self.introductions.joined(process.member()))

    def _identify(self, process: Process, pid: int) -> list[Decision]:
        """Its pid is known now; before, there was nothing that could be killed."""
        process.pid = pid
        return [Kill(process.uid)] if process.killed else []

    def _welcome(self, uid: int) -> Welcome:
        return Welcome(uid, tuple(self.roster.roles.values()), tuple(self.roster))

    def _changed(self, process: Process) -> list[Decision]:
        member = process.member()
        self.roster.put(member)
        return [Announce(member)]

    def _failing(self, process: Process, why: str) -> list[Decision]:
        """The role is shown as failing as long as none of its workers is ready."""
        role = process.slot.role
        if self.roster.ready(role):
            return []
        reason = process.report.strip().splitlines()[-1] if process.report else why
        known = self.roster.roles[role]
        info = msgspec.structs.replace(known, failing=f"{process.slot.name}: {reason}")
        self.roster.put_role(info)
        return [AnnounceRole(info)]

    def _tell_exit(self, process: Process, why: str, pause: float, asked: bool) -> list[Decision]:
        slot = process.slot
        name = f"{slot.name} (pid {process.pid})"
        if asked:
            return [Tell(f"{name} ended as it was told to; its successor starts.")]
        if process.report:
            slot.note = process.report.strip().splitlines()[-1]
            told, slot.told = slot.told, process.report
            failed = f"{name} could not import {slot.role!r}; next try in {pause:.1f} s."
            if told == process.report:
                return [Tell(f"{failed} The same error: {slot.note}")]
            report = process.report.rstrip().replace("\n", "\n    ")
            return [Tell(f"{failed} Its error:\n    {report}")]
        when = "its successor starts." if pause == 0 else f"its successor starts in {pause:.1f} s."
        early = "" if process.ready_at is not None else " before it was ready"
        return [Tell(f"{name} {why}{early}; {when}")]
