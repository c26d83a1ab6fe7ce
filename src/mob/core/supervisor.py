"""The Kingpin's mind: what happens to mobsters goes in with the time, what to do about it comes out as decisions.

This file knows what happens; what is decided about it lies beside: who is there (`crew`), whether and when a successor
comes (`revival`), the stop (`stopping`), replacing those that run (`rollout`), how many there are (`scaling`), who is
late, hangs or has grown old (`health`), calls that kill (`quarantine`), who may run but once (`singletons`), and who
has the terminal (`debugging`).

A successor of one that died is launched only after the exit was reported. Where a worker is replaced, old and new are
there together for a while, but never both ready: no two ready workers have one index at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from mob.core.crew import EARLY, Crew, Process, Slot
from mob.core.debugging import Debugging
from mob.core.decisions import (
    NOBODY,
    Announce,
    Answer,
    Decision,
    Introduce,
    Kill,
    Promote,
    Record,
    Tell,
    Ticket,
    WakeAt,
)
from mob.core.handing import HandOvers
from mob.core.health import Health
from mob.core.killing import FOR_A_CALL, is_for_a_call
from mob.core.quarantine import Quarantine
from mob.core.revival import DONE, FAILED, SHORTAGE_PAUSE, is_wanted, outcome_of
from mob.core.rollout import Rollout
from mob.core.roster import Roster
from mob.core.scaling import Scaling
from mob.core.singletons import Singletons
from mob.core.states import MobsterState, SlotState
from mob.core.stopping import Stopping
from mob.core.verdicts import verdict_of
from mob.errors import counted
from mob.plan import GATEWAY, Plan, RolePlan
from mob.wire import messages as m
from mob.wire.messages import Beat, ExportInfo, Member, Parked, Row

NEVER_BEGUN = 3
"""The exit status of an app that ended because a role could not start at all."""

NEXT_SPARE = 0.1
"""Seconds after which the next spare is launched: its start takes processor time, which callers need now."""
MOST_PARKED = 2**48
"""Calls or bytes that one client may say that it has waiting: sums of them have to fit into 64 bits."""


class Supervisor:
    """Decides launches, revivals, introductions and the stop."""

    def __init__(
        self, plan: Plan, luck: Callable[[], float] = lambda: 0.5, is_stopped: Callable[[int], bool] = lambda pid: False
    ) -> None:
        self.plan: Plan = plan
        self.crew: Crew = Crew(plan, luck)
        self.hand_overs: HandOvers = HandOvers(self.crew)
        self.rollout: Rollout = Rollout(self.crew, self.hand_overs)
        self.scaling: Scaling = Scaling(self.crew)
        self.debugging: Debugging = Debugging(self.crew)
        self.health: Health = Health(self.crew, self.rollout, self.debugging, is_stopped)
        self.quarantine: Quarantine = Quarantine(self.crew)
        self._stopping = Stopping(self.crew, self.debugging)
        self.singletons: Singletons = Singletons(self.crew, self._stopping)

    def __repr__(self) -> str:
        return f"<Supervisor of {self.plan.name!r}: {len(self.processes)} processes in {len(self.slots)} slots>"

    @property
    def roster(self) -> Roster:
        """Who is there, as everybody knows it."""
        return self.crew.roster

    @property
    def slots(self) -> dict[tuple[str, int], Slot]:
        """The places, by role and index."""
        return self.crew.slots

    @property
    def processes(self) -> dict[int, Process]:
        """The mobsters' processes, by uid."""
        return self.crew.processes

    @property
    def stopping(self) -> bool:
        """Whether the app is about to end."""
        return self._stopping.has_begun

    @property
    def finished(self) -> bool:
        """Whether the app has ended."""
        return self._stopping.is_over

    # ------------------------------------------------------------------------------------------- launching

    def start(self, now: float) -> list[Decision]:
        """The first launch of every slot that waits for no other role."""
        return self.start_slots(list(self.slots.values()), now)

    def start_slots(self, slots: list[Slot], now: float) -> list[Decision]:
        """The first launch of these, unless they wait for another role."""
        decisions: list[Decision] = []
        for slot in slots:
            if self.crew.is_slot_held(slot):
                slot.state = SlotState.HELD
            else:
                decisions += self.crew.launch(slot, now)
        return decisions

    def handle_not_launched(self, uid: int, why: str, now: float) -> list[Decision]:
        """The system does not give what the process needs at this moment. The worker is not to blame, so it counts as
        no failure, and the next attempt follows soon."""
        process = self.processes.get(uid)
        if process is None:
            return []
        slot = process.slot
        is_plain = uid == slot.uid and not slot.successor and slot.state is SlotState.FILLED
        if self.stopping or not is_plain or self.rollout.is_renewing(slot) or not self.crew.has_lease(slot.role):
            return self.handle_exited(uid, why, now)
        is_known = slot.note == why
        self.crew.forget(process)
        slot.uid, slot.note = 0, why
        slot.step("exited, revived after a pause")
        slot.due = now + SHORTAGE_PAUSE
        tell = Tell(f"{slot.name} {why}. It is tried again every {SHORTAGE_PAUSE:g} s.", "crash")
        return [Announce(m.MemberGone(uid, why)), *([] if is_known else [tell]), WakeAt(slot.due)]

    def handle_forked(self, uid: int, pid: int) -> list[Decision]:
        """The fork server has made the process."""
        process = self.processes.get(uid)
        if process is None:
            return []
        kill = self._identify(process, pid)
        process.step("forked")
        return [*self.crew.changed(process), *kill]

    def handle_ready(
        self, uid: int, pid: int, exports: tuple[ExportInfo, ...], complete: bool, now: float, hears: bool = True
    ) -> list[Decision]:
        """The mobster's module is up, or it listens on a shared port (then it says so again when its exports grow)."""
        process = self.processes.get(uid)
        if process is None:
            return []
        decisions = self._identify(process, pid)
        if process.slot.is_spare:
            return decisions + self._handle_spare_ready(process, now)
        is_first = process.is_booting
        process.step("ready")
        if is_first and self.stopping and uid == process.slot.successor:  # the one before it stays till its turn
            process.step("asked to stop")
            return [*decisions, *self.crew.changed(process)]
        if (
            process.state is MobsterState.READY
        ):  # one that drains may have old code: what it exports is nobody's business
            decisions += self.crew.role_changed(
                process.slot.role, exports=exports, complete=complete, hears=hears, failing="", given_up=False
            )
        if is_first:
            process.ready_at = process.beaten_at = now
            process.slot.note = process.slot.told = ""
            decisions += self.crew.changed(process)
            if self.rollout.is_renewing(process.slot):
                decisions += self.quarantine.forgive(process.slot.role)
            decisions += self.rollout.handle_ready(process, now)
            decisions += self.hand_overs.handle_ready(process)
            decisions += self.crew.release_held(now)
            decisions += self.health.watch(process)
        return decisions

    def _handle_spare_ready(self, process: Process, now: float) -> list[Decision]:
        """A spare has booted. It gets no calls before it has a place."""
        is_first = process.is_booting
        process.step("booted as a spare")
        if not is_first or self.stopping:
            return []
        process.ready_at = process.beaten_at = now
        process.slot.note = process.slot.told = ""
        return [*self.crew.changed(process), *self.rollout.handle_ready(process, now)]

    def handle_boot_failed(self, uid: int, report: str, is_unfit: bool = False) -> list[Decision]:
        """The module could not be imported, or a handler of `ready` has raised; the exit follows. `is_unfit`: it is a
        spare, and its module cannot wait."""
        if process := self.processes.get(uid):
            process.report = report if report.strip() else ""
            process.is_unfit = is_unfit
        return []

    def handle_draining(self, uid: int, now: float, by_itself: bool = False) -> list[Decision]:
        """A mobster ends because somebody else told it to, or a handler of `ready` has raised, or `by_itself`, because
        its role has said so. It has the grace time for it, as in a stop."""
        process = self.processes.get(uid)
        if process is None:
            return []
        process.has_failed = process.state is MobsterState.READY and bool(process.report)
        process.ends_by_itself = by_itself
        process.step("asked to stop")
        process.limit(now + self.plan.grace)
        return [*self.crew.changed(process), WakeAt(now + self.plan.grace)]

    # ------------------------------------------------------------------------------------------------ exits

    def handle_exited(
        self, uid: int, why: str, now: float, status: int | None = None, blamed: str = ""
    ) -> list[Decision]:
        """The process is gone for good. `status` is None if it was never born; `blamed`: the export that it ran."""
        process = self.processes.get(uid)
        if process is None:
            return []
        slot = process.slot
        was_told = process.state is MobsterState.DRAINING and not (process.has_failed or process.ends_by_itself)
        was_told = was_told or is_for_a_call(process.why_killed)
        why = process.why_killed or why
        may_hand_over = not self.stopping or self.crew.is_singleton(slot.role)
        handed = self.hand_overs.handle_exited(process, may_hand_over=may_hand_over)
        self.crew.forget(process)
        self.health.handle_exited(uid)
        process.has_crashed = self._has_crashed(process, was_told, status)
        gone = m.MemberGone(uid, verdict_of(self.plan, process, why, status), process.overran)
        decisions = [*self.debugging.handle_gone(uid, now), Announce(gone), *handed]
        if process.has_crashed:
            is_named = not blamed or is_for_a_call(process.why_killed)
            full = why if is_named else f"{why} while it ran {slot.role}.{blamed}"
            decisions.append(_record(process, full, now, status))
        if self.stopping:
            slot.uid = 0 if slot.uid == uid else slot.uid
            return decisions + self._stopping.go_on(now)
        if blamed and not was_told and not self.crew.roles[slot.role].plan.pool:
            decisions += self.quarantine.handle_death(slot.role, blamed, uid, now)
        else:
            decisions += self.quarantine.handle_gone(uid, now)
        if uid == slot.successor:
            slot.successor = 0
            return decisions + self._told_report(process) + self.rollout.handle_failed(process, why, now)
        if uid != slot.uid:  # another has its place already
            return decisions
        is_replaced = slot.successor != 0
        decisions += self._handle_place_empty(process, why, was_told, status, now)
        if any(isinstance(each, Promote) for each in decisions):  # it comes first, and what callers have to know of it
            decisions.sort(key=lambda each: (not isinstance(each, Promote), not isinstance(each, Announce)))
        if process.is_done:
            return decisions
        if not is_replaced and process.ready_at is None and not process.is_restarted and not self.stopping:
            decisions += self.rollout.handle_failed(process, why, now)  # last: what follows may fill this slot anew
        return decisions

    def _handle_place_empty(
        self, process: Process, why: str, was_told: bool, status: int | None, now: float
    ) -> list[Decision]:
        """The process that counted is gone: does another one come, and when?"""
        slot, was_ready = process.slot, process.ready_at is not None
        slot.uid, slot.note = 0, why
        if slot.state is SlotState.LEAVING:
            slot.step("exited, done")
            del self.slots[slot.role, slot.index]
            return self._finish_if_done()
        if slot.successor:  # on its way already
            slot.uid, slot.successor = slot.successor, 0
            return self._tell_exit(process, "its successor is on its way.", was_told)
        if slot.is_spare:
            return self._handle_spare_empty(process, was_told, now)
        role = self.crew.roles[slot.role]
        if not self.crew.has_lease(slot.role):
            slot.step("exited, held")
            return [*self._tell_exit(process, "its lease is lost.", was_told), *self.rollout.handle_resized(now)]
        if not is_wanted(role.plan, status, process.is_restarted or not process.pid):
            return self._handle_over(process, why, was_told, status, now)
        failing = self._failing(process, why, was_told)
        if not was_told and not was_ready and self._has_never_begun(slot):
            return [*failing, *self._end_unbegun(process, now)]
        if not was_told and not role.intensity.allows(role.plan, now):
            return [*failing, *self._give_up(process, why, now)]
        born = process.launched if process.ready_at is None else process.ready_at
        is_no_failure = was_told or (role.plan.pool and was_ready)
        pause = slot.revival.pause_after(was_ready, now - born, is_no_failure, self.crew.luck())
        must_wait = process.is_restarted and self.crew.is_held(slot.role)
        has_left = (slot.role, slot.index) in self.crew.kept  # data, which only one that starts can inherit
        spare = None if must_wait or has_left else self.rollout.spare_for(slot)
        then = _successor_text(process, pause) if spare is None else f"{spare.name} takes its place."
        decisions = [*self._tell_exit(process, then, was_told), *failing]
        if self.plan.strategy == "rest_for_one" and not was_told:
            decisions += self._restart_the_rest(slot, now)
        if spare is not None:
            slot.step("exited, a spare takes its place")
            return [*self._promote(spare, slot, pause, now), *decisions]
        if must_wait:
            slot.step("exited, held")
            return decisions
        return [*decisions, *self._revive(slot, pause, now)]

    def _revive(self, slot: Slot, pause: float, now: float) -> list[Decision]:
        """Launch a successor of what has exited, at once or after a pause of so many seconds."""
        if pause == 0.0:
            slot.step("exited, revived at once")
            return self.crew.launch(slot, now)
        slot.step("exited, revived after a pause")
        slot.due = now + pause
        return [WakeAt(slot.due)]

    def _promote(self, spare: Process, slot: Slot, pause: float, now: float) -> list[Decision]:
        """Give a spare a place, and have the next one boot: in a moment, when callers have been served, or after the
        pause that the place would have had, so that workers which die again and again cost no more with spares than
        without."""
        left = spare.slot
        decisions = self.crew.promote(spare, slot, now)
        if spare.state is MobsterState.READY:
            decisions += [*self.crew.release_held(now), *self.health.watch(spare)]
        if left.uid:  # its successor is on its way
            return decisions
        left.step("promoted")
        left.due, left.note = now + max(pause, NEXT_SPARE), ""
        return [*decisions, WakeAt(left.due)]

    def _handle_spare_empty(self, process: Process, was_told: bool, now: float) -> list[Decision]:
        """A spare is gone: does another one come, and when?"""
        slot, was_ready = process.slot, process.ready_at is not None
        if self.crew.has_ended(slot.role):
            slot.step("exited, done")
            return [*self._tell_exit(process, "its role has ended.", was_told), *self._finish_if_done()]
        if process.is_unfit:
            slot.step("exited too often")
            return self._tell_exit(process, f"{slot.role!r} goes on without it.", was_told=False)
        if self.crew.is_slot_held(slot):
            slot.step("exited, held")
            return self._tell_exit(process, f"the next one follows a ready worker of {slot.role!r}.", was_told)
        born = process.launched if process.ready_at is None else process.ready_at
        pause = slot.revival.pause_after(was_ready, now - born, was_told, self.crew.luck())
        decisions = self._tell_exit(process, _successor_text(process, pause), was_told)
        return [*decisions, *self._revive(slot, pause, now)]

    def _dismiss_spares(self, role: str, now: float) -> list[Decision]:
        """Let the spares of a role go that has ended, or was given up in all of its places."""
        if not self.crew.has_ended(role):
            return []
        decisions: list[Decision] = []
        for slot in self.crew.spares_of(role):
            if slot.state is SlotState.WAITING:
                slot.step("not needed")
            slot.successor = 0
            for process in [each for each in self.processes.values() if each.slot is slot]:
                decisions += self.crew.retire(process, now)
        return decisions

    def _handle_over(
        self, process: Process, why: str, was_told: bool, status: int | None, now: float
    ) -> list[Decision]:
        """No process follows this one. If it did its work, those that need its role begin; if not, they cannot."""
        slot, role = process.slot, self.crew.roles[process.slot.role].plan
        slot.step("exited, done")
        slot.outcome = outcome_of(role, status, was_told)
        process.is_done = slot.outcome == DONE
        if process.is_done:
            process.report = ""  # a module that ends with `sys.exit(0)` could be imported well enough
        decisions = self._tell_exit(process, f"it is not revived ({role.restart}).", was_told)
        if not process.is_done:
            decisions += self._failing(process, why, was_told)
        decisions += self.crew.note_end(
            slot.role, f"the last one {why}, and is not revived (restart={role.restart!r})."
        )
        if process.is_done:
            decisions += [*self.rollout.handle_done(slot, now), *self.crew.release_held(now)]
        decisions += self._dismiss_spares(slot.role, now)
        if held := self.crew.in_vain(slot.role):
            needing = f"{', '.join(map(repr, held))} {'needs' if len(held) == 1 else 'need'} {slot.role!r}"
            text = f"{needing}, which did not end with status 0 and is not revived; the app ends."
            return [*decisions, Tell(text, "stop"), *self.handle_stop(now, status=1)]
        return [*decisions, *self._finish_if_done()]

    def _give_up(self, process: Process, why: str, now: float) -> list[Decision]:
        slot, role = process.slot, self.crew.roles[process.slot.role]
        slot.step("exited too often")
        tolerated = f"{role.plan.intensity} revivals within {role.plan.period:g} s were tolerated"
        decisions = self._tell_exit(
            process, f"{slot.role!r} is given up: {tolerated} (intensity, period).", was_told=False
        )
        decisions += self.crew.role_changed(slot.role, given_up=True, failing=f"{slot.name}: {process.error or why}")
        if role.plan.essential:
            return [
                *decisions,
                Tell(f"{slot.role!r} is essential, so the app ends.", "stop"),
                *self.handle_stop(now, status=1),
            ]
        return [*decisions, *self._dismiss_spares(slot.role, now), *self._finish_if_done()]

    def _has_never_begun(self, slot: Slot) -> bool:
        """Return whether this was the last start that the role may try, and none of its workers was ever ready."""
        tries = self.crew.roles[slot.role].plan.boot_tries
        return tries is not None and slot.revival.failures + 1 >= tries and self.roster.roles[slot.role].exports is None

    def _end_unbegun(self, process: Process, now: float) -> list[Decision]:
        slot = process.slot
        slot.step("exited too often")
        count = slot.revival.failures + 1
        tries = f"{count} {'start has' if count == 1 else 'starts have'} failed (boot_tries)"
        told = self._tell_exit(process, f"no worker of {slot.role!r} was ever ready, and {tries}.", was_told=False)
        return [
            *told,
            Tell(f"the app ends with status {NEVER_BEGUN}, because {slot.role!r} cannot start.", "stop"),
            *self.handle_stop(now, status=NEVER_BEGUN),
        ]

    def _restart_the_rest(self, slot: Slot, now: float) -> list[Decision]:
        """The roles declared after this one are started anew, for they build upon it. None builds upon one of mob's."""
        if not self._has_code(slot.role):
            return []
        names = [role.name for role in self.plan.roles]
        rest = set(names[names.index(slot.role) + 1 :])
        decisions: list[Decision] = []
        for process in [process for process in self.processes.values() if process.slot.role in rest]:
            process.is_restarted = True
            decisions += self.crew.retire(process, now)
        return decisions

    def _finish_if_done(self) -> list[Decision]:
        if not self.crew.is_done() or self.finished:
            return []
        places = [slot for slot in self.slots.values() if not slot.is_spare]
        status = int(any(slot.state is SlotState.FAILED or slot.outcome == FAILED for slot in places))
        return self._stopping.finish("all mobsters have ended, and none is to be revived; the app ends.", status)

    def handle_fork_server_gone(self, now: float, held: Collection[int] = ()) -> list[Decision]:
        """Launches that the fork server had not reported are lost, but for those that were `held` for the next one; its
        mobsters live on."""
        lost = [process.uid for process in self.processes.values() if process.pid == 0 and process.uid not in held]
        return [decision for uid in lost for decision in self.handle_exited(uid, "was lost with the fork server", now)]

    def handle_fork_server_renewed(self, now: float) -> list[Decision]:
        """The fork server was replaced because that was decided; the app may have come to its end meanwhile."""
        return [] if self.stopping else self.rollout.handle_renewed(now)

    # ------------------------------------------------------------------------------------------------- time

    def handle_wake(self, now: float) -> list[Decision]:
        """Time has passed: due launches, overdue stops, those that are late or hang."""
        decisions: list[Decision] = []
        for slot in list(self.slots.values()):
            if slot.state is SlotState.WAITING and slot.due <= now + EARLY:
                slot.step("pause over")
                decisions += self.crew.launch(slot, now)
        if not self.stopping:
            decisions += self.health.handle_wake(now)
            decisions += self.hand_overs.handle_wake(now)
            decisions += self.quarantine.handle_wake(now)
        decisions += self._stopping.tell_who_lasts(now) + self._stopping.kill_overdue(now)
        decisions += self.handle_moved(now)
        return decisions + self._forget_unborn(now)

    def _forget_unborn(self, now: float) -> list[Decision]:
        """What is to be killed and has no process is not waited for: `Kill` cannot end it, and no exit would be told.
        If it is forked after all, nobody knows it, and it is killed then."""
        unborn = [process for process in self.processes.values() if process.killed and not process.pid]
        return [decision for each in unborn for decision in self.handle_exited(each.uid, "was never launched", now)]

    def handle_beat(self, uid: int, beat: Beat, now: float) -> list[Decision]:
        """A mobster says how it goes."""
        process = self.processes.get(uid)
        if process is None:
            return []
        if self.stopping:
            process.beat, process.beaten_at = beat, now  # what it still does is said if the stop lasts
            return []
        decisions = self.health.handle_beat(process, beat, now)
        return decisions + self._follow_load({process.slot.role, *beat.parked}, now)

    def handle_parked(self, uid: int, parked: Parked, now: float) -> list[Decision]:
        """Take in how many calls of a client wait for workers; a role may have to grow for them."""
        if uid not in self.roster:
            return []
        calls = {role: min(n, MOST_PARKED) for role, n in parked.calls.items() if role in self.crew.roles and n > 0}
        taken = {role: min(max(0, parked.bytes.get(role, 0)), MOST_PARKED) for role in calls}
        self.crew.parked_at_clients.pop(uid, None)
        if calls:
            self.crew.parked_at_clients[uid] = Parked(calls, taken)
        return [] if self.stopping else self._follow_load(set(calls), now)

    def _follow_load(self, roles: set[str], now: float) -> list[Decision]:
        """Grow or shrink the roles whose load was reported."""
        known = [role for role in roles if role in self.crew.roles]
        decisions = [decision for role in known for decision in self.scaling.follow(role, now)]
        return decisions + self.rollout.handle_resized(now)

    def handle_inspection(self, uid: int, stacks: str) -> list[Decision]:
        """A mobster that hangs has said where it stands."""
        process = self.processes.get(uid)
        return [] if process is None else self.health.handle_inspection(process, stacks)

    def handle_wants_terminal(self, uid: int, number: int, where: str, now: float) -> list[Decision]:
        """A mobster stands at a `breakpoint()`."""
        process = self.processes.get(uid)
        return [] if process is None else self.debugging.handle_wanted(process, number, where, now)

    def handle_returned_terminal(self, uid: int, number: int, now: float) -> list[Decision]:
        """Its debugger does not want the terminal any more, or could not have it."""
        return self.debugging.handle_returned(uid, number, now)

    # ------------------------------------------------------------------------------------------------ orders

    def handle_reload(self, roles: list[str], ticket: Ticket, now: float) -> list[Decision]:
        """Somebody wants new code in these roles (none: in all of the app's own; gateways carry the links to other
        machines, perhaps the one that this is asked on, and hold no code of the app, nor does the keeper of jobs)."""
        if self.stopping:
            return [Answer(ticket, error="the app is stopping.")]
        for role in roles:
            if role not in self.crew.roles:
                return [Answer(ticket, error=f"there is no role {role!r}.")]
        return self.rollout.reload(roles or [name for name in self.crew.order if self._has_code(name)], ticket, now)

    def _has_code(self, role: str) -> bool:
        """Return whether it runs code of the app."""
        return role != GATEWAY and not self.crew.roles[role].plan.keeps_jobs

    def handle_role_added(self, plan: Plan, role: RolePlan, ticket: Ticket, now: float) -> list[Decision]:
        """The plan has got a role, which is to run from now on."""
        if self.stopping:
            return [Answer(ticket, error="the app is stopping.")]
        self.plan = plan
        slots = self.crew.add_role(plan, role)
        told = Announce(m.RoleIs(self.roster.roles[role.name]))
        return [told, *self.start_slots(slots, now), Answer(ticket)]

    def handle_call_killed(
        self, uid: int, now: float, why: str = FOR_A_CALL, overrun: m.Overrun | None = None
    ) -> list[Decision]:
        """Kill a process because of a call that it runs: somebody wants its end, or it has run for too long (`why`,
        `overrun`). Its role has not failed."""
        process = self.processes.get(uid)
        if process is None or process.killed:
            return []
        process.killed = process.is_restarted = True
        process.why_killed, process.overran = why, overrun
        return [Kill(uid)]

    def handle_restart(self, roles: list[str], pid: int, ticket: Ticket, now: float) -> list[Decision]:
        """Somebody wants the workers of these roles, or the one with this pid, ended, and others in their places."""
        if self.stopping:
            return [Answer(ticket, error="the app is stopping.")]
        if bool(roles) == (pid != 0):
            return [Answer(ticket, error="restart: wanted are roles, or the pid of one mobster, one of the two.")]
        return self.rollout.restart(roles, pid, ticket, now)

    def handle_scale(
        self, role: str, count: int, ticket: Ticket, now: float, relative: bool = False, by_role: bool = False
    ) -> list[Decision]:
        """Somebody wants so many workers of a role, or so many more; `by_role`: the role itself."""
        if self.stopping:
            return [Answer(ticket, error="the app is stopping.")]
        if relative and role in self.crew.roles:
            count += self.crew.roles[role].target
        problem = self.scaling.problem(role, count, by_role)
        if problem:
            return [Answer(ticket, error=problem)]
        decisions = self.resize(role, count, now, "as asked for") + self.rollout.handle_resized(now)
        ready = sum(each.slot.role == role and each.state is MobsterState.READY for each in self.processes.values())
        more = f" wanted, {ready} ready" if ready < count else ""  # those that are to come have not been seen yet
        return [*decisions, Answer(ticket, text=f"{role}: {counted(count, 'worker')}{more}.")]

    def resize(self, role: str, count: int, now: float, why: str) -> list[Decision]:
        """The role is to have so many workers, and all of them are to know that if their environment says it."""
        decisions = self.scaling.resize(role, count, now, why)
        return [*decisions, *self.rollout.tell_size(role, now)] if decisions else []

    def handle_size_signal(self, change: int, now: float) -> list[Decision]:
        """Give each role that may grow so many workers more (or less); the only role, if there is but one."""
        roles = [role.name for role in self.plan.roles if role.max_workers is not None]
        roles = roles or [role.name for role in self.plan.roles if len(self.plan.roles) == 1]
        if not roles:
            return [Tell("SIGTTIN/SIGTTOU ignored: no role sets max_workers.")]
        decisions: list[Decision] = []
        for role in roles:
            for each in self.handle_scale(role, change, NOBODY, now, relative=True):
                if isinstance(each, Answer) and each.error:
                    each = Tell(each.error)  # the sender of a signal reads the log
                decisions.append(each)
        return decisions

    def unrest(self, may_launch: bool) -> str:
        """Return what is half done, so that another program cannot go on with it; nothing if all is quiet."""
        if self.debugging.holder:
            return f"{self.debugging.holder} is in the debugger"
        if self.rollout.is_reloading:
            return "a reload is under way"
        if self.hand_overs.is_under_way:
            return "a worker hands over to its successor"
        if not may_launch and any(
            not each.pid or each.state is MobsterState.LAUNCHING for each in self.processes.values()
        ):
            return "a mobster is being launched"
        return ""

    def handle_stop(self, now: float, status: int = 0) -> list[Decision]:
        """Ends the app in order; asked a second time, at once."""
        decisions = [*self.rollout.cancel("the app is stopping."), *self._stopping.begin(now, status)]
        for process in self.processes.values():
            if not process.pid and not self.crew.is_singleton(process.slot.role):  # its end gives the lease back
                process.killed = True
        return decisions + self._forget_unborn(now)

    def may_hand_over(self, uid: int) -> bool:
        """Return whether somebody may follow in the place of a process that is asked to end: in a stop, a singleton may
        go on elsewhere."""
        return not self.stopping or self.crew.is_singleton(self.crew.role_of(uid))

    def handle_moved(self, now: float) -> list[Decision]:
        """What a singleton has left is stored for other machines, or never will be."""
        return self._stopping.go_on(now) if self.stopping and not self.finished else []

    # --------------------------------------------------------------------------------- members and their links

    def next_uid(self) -> int:
        """A number that no member had before."""
        return self.crew.next_uid()

    def handle_client_joined(self, uid: int, pid: int) -> list[Decision]:
        """A client has connected."""
        client = Member(uid, pid, "", 0, 0, MobsterState.READY)
        self.roster.put(client)
        return [self.crew.welcome(uid), Announce(m.MemberIs(client))]

    def handle_client_left(self, uid: int, why: str) -> list[Decision]:
        """A client has gone."""
        self.crew.parked_at_clients.pop(uid, None)
        if self.roster.remove(uid) is None:
            return []
        self.crew.introductions.left(uid)
        return [Announce(m.MemberGone(uid, why))]

    def handle_want_role(self, uid: int, role: str) -> list[Decision]:
        """A member wants links to a role."""
        if uid not in self.roster or (role != "*" and role not in self.roster.roles):
            return []
        return [Introduce(*pair) for pair in self.crew.introductions.want_role(uid, role, self.roster)]

    def handle_want_member(self, uid: int, other: int, again: bool = False) -> list[Decision]:
        """A member wants a link to one other; again, if the link that there was has broken."""
        if again:
            self.crew.introductions.forget_pair(uid, other)
        return [Introduce(*pair) for pair in self.crew.introductions.want_member(uid, other, self.roster)]

    # ------------------------------------------------------------------------------------------------- showing

    def rows(self, now: float) -> list[Row]:
        """The table of `mob ps`: a line for every slot, and one for each process that is on its way in or out."""
        rows: list[Row] = []
        order = list(self.crew.roles)  # those that a new plan does not have any more come last
        slots = self.slots.values()
        for slot in sorted(slots, key=lambda slot: (order.index(slot.role), slot.is_spare, abs(slot.index))):
            process = self.crew.current(slot)
            if process is None:
                is_paused = slot.state is SlotState.WAITING
                state = "failing" if is_paused and slot.note else str(slot.state)
                note = slot.note
                if is_paused:
                    note = f"{note.removesuffix('.')}; next try in {max(0.0, slot.due - now):.1f} s".removeprefix("; ")
                if slot.state is SlotState.HELD:
                    note = f"waits for {slot.role}" if slot.is_spare else self.crew.why_held(slot.role)
                rows.append(Row(slot.role, slot.index, 0, state, 0.0, slot.revival.restarts, 0, note))
            else:
                rows.append(_row(process, now))
            others = [each for each in self.processes.values() if each.slot is slot and each is not process]
            rows += [_row(each, now) for each in others]
        return rows

    # ------------------------------------------------------------------------------------------------ internals

    def _identify(self, process: Process, pid: int) -> list[Decision]:
        """Its pid is known now; before, there was nothing that could be killed."""
        process.pid = pid
        return self.crew.kill([process]) if process.killed else []

    def _failing(self, process: Process, why: str, was_told: bool) -> list[Decision]:
        """A process that ends by itself before it was ready has failed: its role is shown as failing as long as none of
        its workers is ready."""
        slot = process.slot
        if was_told or process.ready_at is not None or self.roster.ready(slot.role):
            return []
        return self.crew.role_changed(slot.role, failing=f"{slot.name}: {process.error or why}")

    def _has_crashed(self, process: Process, was_told: bool, status: int | None) -> bool:
        if self.plan.direct:  # an app inside of a pool, which has no name: nobody would look for a report
            return False
        if process.why_killed:
            return process.why_killed != FOR_A_CALL
        codes = self.crew.roles[process.slot.role].plan.stop_exit_codes
        return not was_told and status is not None and status != 0 and status not in codes

    def _told_report(self, process: Process) -> list[Decision]:
        """The error of a successor that could not be imported, in full."""
        if not process.report:
            return []
        text = f"{process.name} could not import {process.slot.role!r}. Its error:\n    {_indented(process)}"
        return [Tell(text, "crash")]

    def _tell_exit(self, process: Process, then: str, was_told: bool) -> list[Decision]:
        slot, name = process.slot, process.name
        if was_told:
            how = process.why_killed if is_for_a_call(process.why_killed) else "stopped as requested"
            return [Tell(f"{name} {how}; {then}", "crash" if process.has_crashed else "exit")]
        if process.report:
            slot.note = process.error
            told, slot.told = slot.told, process.report
            how = "failed in a handler of 'ready'" if process.has_failed else f"could not import {slot.role!r}"
            failed = f"{name} {how}; {then}"
            if told == process.report:
                return [Tell(f"{failed} The same error: {slot.note}", "crash")]
            return [Tell(f"{failed} Its error:\n    {_indented(process)}", "crash")]
        early = "" if process.ready_at is not None or process.is_done else " before it was ready"
        kind = "crash" if process.has_crashed else "exit"
        return [Tell(f"{name} {slot.note.removesuffix('.')}{early}; {then}", kind)]


def _indented(process: Process) -> str:
    return process.report.rstrip().replace("\n", "\n    ")


def _successor_text(process: Process, pause: float) -> str:
    if pause == 0:
        return "its successor starts."
    return f"{'next try' if process.report else 'its successor starts'} in {pause:.1f} s."


def _record(process: Process, why: str, now: float, status: int | None) -> Record:
    stacks = process.stacks or process.report
    beat = process.beat
    return Record(process.member(), why, now - process.launched, beat.memory, beat.running, stacks, status)


def _row(process: Process, now: float) -> Row:
    slot, beat = process.slot, process.beat
    return Row(
        slot.role,
        slot.index,
        process.pid,
        process.state,
        now - process.launched,
        slot.revival.restarts,
        beat.calls + sum(beat.requests.values()),
        process.note,
        beat.shared,
    )
