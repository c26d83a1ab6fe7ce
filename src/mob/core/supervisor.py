"""The Kingpin's mind: in go the events of mobsters and the time, out come decisions about what to do.

This file knows the events; the decisions are made in its neighbours: the processes (`crew`), when a successor comes
(`revival`), the stop (`stopping`), replacing running workers (`rollout`), their number (`scaling`), late, hanging and
old workers (`health`), calls that kill (`quarantine`), roles of which one worker runs (`singletons`), and the terminal
(`debugging`).

The successor of a worker that died is launched only after the exit was reported. When a worker is replaced, old and new
run side by side for a while, but never both ready: no two ready workers have the same index at a time.
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
"""Seconds until the next spare is launched: its start takes processor time, which callers need now."""
MOST_PARKED = 2**48
"""Maximum number of calls or bytes that a client may report as waiting: their sums have to fit into 64 bits."""


class Supervisor:
    """The decisions on launches, restarts, introductions and the stop."""

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
        """The members, as everyone knows them."""
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
        """True once the app is about to end."""
        return self._stopping.has_begun

    @property
    def finished(self) -> bool:
        """True once the app has ended."""
        return self._stopping.is_over

    # ------------------------------------------------------------------------------------------- launching

    def start(self, now: float) -> list[Decision]:
        """Launch every slot that waits for no other role."""
        return self.start_slots(list(self.slots.values()), now)

    def start_slots(self, slots: list[Slot], now: float) -> list[Decision]:
        """Launch these slots, except those that wait for another role."""
        decisions: list[Decision] = []
        for slot in slots:
            if self.crew.is_slot_held(slot):
                slot.state = SlotState.HELD
            else:
                decisions += self.crew.launch(slot, now)
        return decisions

    def handle_not_launched(self, uid: int, why: str, now: float) -> list[Decision]:
        """Handle a launch that failed because the system lacks a resource.

        The worker is not to blame, so it does not count as a failure, and the launch is soon tried again.
        """
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
        tell = Tell(f"{slot.name} {why}. Retrying every {SHORTAGE_PAUSE:g} s.", "crash")
        return [Announce(m.MemberGone(uid, why)), *([] if is_known else [tell]), WakeAt(slot.due)]

    def handle_forked(self, uid: int, pid: int) -> list[Decision]:
        """Handle the report that the fork server made the process."""
        process = self.processes.get(uid)
        if process is None:
            return []
        kill = self._identify(process, pid)
        process.step("forked")
        return [*self.crew.changed(process), *kill]

    def handle_ready(
        self, uid: int, pid: int, exports: tuple[ExportInfo, ...], complete: bool, now: float, hears: bool = True
    ) -> list[Decision]:
        """Handle a module that is up, or a listening shared port; reported again when its exports grow."""
        process = self.processes.get(uid)
        if process is None:
            return []
        decisions = self._identify(process, pid)
        if process.slot.is_spare:
            return decisions + self._handle_spare_ready(process, now)
        is_first = process.is_booting
        process.step("ready")
        if is_first and self.stopping and uid == process.slot.successor:  # its predecessor stays until its turn
            process.step("asked to stop")
            return [*decisions, *self.crew.changed(process)]
        if (
            process.state is MobsterState.READY
        ):  # a worker that drains may have old code, whose exports no longer matter
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
        """Handle a spare that booted. It gets no calls before it has a place."""
        is_first = process.is_booting
        process.step("booted as a spare")
        if not is_first or self.stopping:
            return []
        process.ready_at = process.beaten_at = now
        process.slot.note = process.slot.told = ""
        return [*self.crew.changed(process), *self.rollout.handle_ready(process, now)]

    def handle_boot_failed(self, uid: int, report: str, is_unfit: bool = False) -> list[Decision]:
        """Keep the report of a failed import, or of a handler of `ready` that raised; the exit follows.

        `is_unfit`: the process is a spare, and its module cannot wait.
        """
        if process := self.processes.get(uid):
            process.report = report if report.strip() else ""
            process.is_unfit = is_unfit
        return []

    def handle_draining(self, uid: int, now: float, by_itself: bool = False) -> list[Decision]:
        """Handle a mobster that ends without a request from here.

        Another process asked it to, or a handler of `ready` raised, or its own code called `mob.exit` (`by_itself`). It
        has the grace period for it, as in a stop.
        """
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
        """Handle an exit. `status` is None if the process never existed; `blamed` is the export that it ran."""
        process = self.processes.get(uid)
        if process is None:
            return []
        slot = process.slot
        was_asked = process.state is MobsterState.DRAINING and not (process.has_failed or process.ends_by_itself)
        was_asked = was_asked or is_for_a_call(process.why_killed)
        why = process.why_killed or why
        may_hand_over = not self.stopping or self.crew.is_singleton(slot.role)
        handed = self.hand_overs.handle_exited(process, may_hand_over=may_hand_over)
        self.crew.forget(process)
        self.health.handle_exited(uid)
        process.has_crashed = self._has_crashed(process, was_asked, status)
        gone = m.MemberGone(uid, verdict_of(self.plan, process, why, status), process.overran)
        decisions = [*self.debugging.handle_gone(uid, now), Announce(gone), *handed]
        if process.has_crashed:
            is_named = not blamed or is_for_a_call(process.why_killed)
            full = why if is_named else f"{why} while it ran {slot.role}.{blamed}"
            decisions.append(_record(process, full, now, status))
        if self.stopping:
            slot.uid = 0 if slot.uid == uid else slot.uid
            return decisions + self._stopping.go_on(now)
        if blamed and not was_asked and not self.crew.roles[slot.role].plan.pool:
            decisions += self.quarantine.handle_death(slot.role, blamed, uid, now)
        else:
            decisions += self.quarantine.handle_gone(uid, now)
        if uid == slot.successor:
            slot.successor = 0
            return decisions + self._log_report(process) + self.rollout.handle_failed(process, why, now)
        if uid != slot.uid:  # another process has its place already
            return decisions
        is_replaced = slot.successor != 0
        decisions += self._handle_place_empty(process, why, was_asked, status, now)
        if any(isinstance(each, Promote) for each in decisions):  # it comes first, with what callers must know of it
            decisions.sort(key=lambda each: (not isinstance(each, Promote), not isinstance(each, Announce)))
        if process.is_done:
            return decisions
        if not is_replaced and process.ready_at is None and not process.is_restarted and not self.stopping:
            decisions += self.rollout.handle_failed(process, why, now)  # last: what follows may fill this slot again
        return decisions

    def _handle_place_empty(
        self, process: Process, why: str, was_asked: bool, status: int | None, now: float
    ) -> list[Decision]:
        """Decide whether another process follows the one that counted, and when."""
        slot, was_ready = process.slot, process.ready_at is not None
        slot.uid, slot.note = 0, why
        if slot.state is SlotState.LEAVING:
            slot.step("exited, done")
            del self.slots[slot.role, slot.index]
            return self._finish_if_done()
        if slot.successor:  # on its way already
            slot.uid, slot.successor = slot.successor, 0
            return self._tell_exit(process, "its successor is already starting.", was_asked)
        if slot.is_spare:
            return self._handle_spare_empty(process, was_asked, now)
        role = self.crew.roles[slot.role]
        if not self.crew.has_lease(slot.role):
            slot.step("exited, held")
            return [*self._tell_exit(process, "its lease was lost.", was_asked), *self.rollout.handle_resized(now)]
        if not is_wanted(role.plan, status, process.is_restarted or not process.pid):
            return self._handle_over(process, why, was_asked, status, now)
        failing = self._failing(process, why, was_asked)
        if not was_asked and not was_ready and self._has_never_begun(slot):
            return [*failing, *self._end_unbegun(process, now)]
        if not was_asked and not role.intensity.allows(role.plan, now):
            return [*failing, *self._give_up(process, why, now)]
        born = process.launched if process.ready_at is None else process.ready_at
        is_no_failure = was_asked or (role.plan.pool and was_ready)
        pause = slot.revival.pause_after(was_ready, now - born, is_no_failure, self.crew.luck())
        must_wait = process.is_restarted and self.crew.is_held(slot.role)
        has_left = (slot.role, slot.index) in self.crew.kept  # data that only a process that starts can inherit
        spare = None if must_wait or has_left else self.rollout.spare_for(slot)
        then = _successor_text(process, pause) if spare is None else f"{spare.name} takes its place."
        decisions = [*self._tell_exit(process, then, was_asked), *failing]
        if self.plan.strategy == "rest_for_one" and not was_asked:
            decisions += self._restart_the_rest(slot, now)
        if spare is not None:
            slot.step("exited, a spare takes its place")
            return [*self._promote(spare, slot, pause, now), *decisions]
        if must_wait:
            slot.step("exited, held")
            return decisions
        return [*decisions, *self._revive(slot, pause, now)]

    def _revive(self, slot: Slot, pause: float, now: float) -> list[Decision]:
        """Launch a successor for a process that exited, at once or after a pause in seconds."""
        if pause == 0.0:
            slot.step("exited, revived at once")
            return self.crew.launch(slot, now)
        slot.step("exited, revived after a pause")
        slot.due = now + pause
        return [WakeAt(slot.due)]

    def _promote(self, spare: Process, slot: Slot, pause: float, now: float) -> list[Decision]:
        """Give a spare a place, and have the next spare boot.

        It boots in a moment, when callers are served, or after the pause that the place would have had. So workers that
        die again and again cost no more with spares than without.
        """
        left = spare.slot
        decisions = self.crew.promote(spare, slot, now)
        if spare.state is MobsterState.READY:
            decisions += [*self.crew.release_held(now), *self.health.watch(spare)]
        if left.uid:  # its successor is on its way
            return decisions
        left.step("promoted")
        left.due, left.note = now + max(pause, NEXT_SPARE), ""
        return [*decisions, WakeAt(left.due)]

    def _handle_spare_empty(self, process: Process, was_asked: bool, now: float) -> list[Decision]:
        """Decide whether another spare follows the one that exited, and when."""
        slot, was_ready = process.slot, process.ready_at is not None
        if self.crew.has_ended(slot.role):
            slot.step("exited, done")
            return [*self._tell_exit(process, "its role has ended.", was_asked), *self._finish_if_done()]
        if process.is_unfit:
            slot.step("exited too often")
            return self._tell_exit(process, f"{slot.role!r} continues without it.", was_asked=False)
        if self.crew.is_slot_held(slot):
            slot.step("exited, held")
            return self._tell_exit(process, f"the next one follows a ready worker of {slot.role!r}.", was_asked)
        born = process.launched if process.ready_at is None else process.ready_at
        pause = slot.revival.pause_after(was_ready, now - born, was_asked, self.crew.luck())
        decisions = self._tell_exit(process, _successor_text(process, pause), was_asked)
        return [*decisions, *self._revive(slot, pause, now)]

    def _dismiss_spares(self, role: str, now: float) -> list[Decision]:
        """Dismiss the spares of a role that ended, or was given up in all of its places."""
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
        self, process: Process, why: str, was_asked: bool, status: int | None, now: float
    ) -> list[Decision]:
        """Handle an exit without a successor: roles that need this one can start only if its work is done."""
        slot, role = process.slot, self.crew.roles[process.slot.role].plan
        slot.step("exited, done")
        slot.outcome = outcome_of(role, status, was_asked)
        process.is_done = slot.outcome == DONE
        if process.is_done:
            process.report = ""  # a module that ends with `sys.exit(0)` could be imported well enough
        decisions = self._tell_exit(process, f"it is not restarted (restart={role.restart!r}).", was_asked)
        if not process.is_done:
            decisions += self._failing(process, why, was_asked)
        decisions += self.crew.note_end(
            slot.role, f"its last worker {why} and is not restarted (restart={role.restart!r})."
        )
        if process.is_done:
            decisions += [*self.rollout.handle_done(slot, now), *self.crew.release_held(now)]
        decisions += self._dismiss_spares(slot.role, now)
        if held := self.crew.waiting_for_ended(slot.role):
            needing = f"{', '.join(map(repr, held))} {'needs' if len(held) == 1 else 'need'} {slot.role!r}"
            text = f"{needing}, which did not exit with status 0 and is not restarted; the app ends."
            return [*decisions, Tell(text, "stop"), *self.handle_stop(now, status=1)]
        return [*decisions, *self._finish_if_done()]

    def _give_up(self, process: Process, why: str, now: float) -> list[Decision]:
        slot, role = process.slot, self.crew.roles[process.slot.role]
        slot.step("exited too often")
        limit = f"more than intensity={role.plan.intensity} within period={role.plan.period:g} s"
        decisions = self._tell_exit(
            process, f"{slot.role!r} is given up: too many restarts ({limit}).", was_asked=False
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
        """Return True if this was the last start that the role may try, and none of its workers was ever ready."""
        tries = self.crew.roles[slot.role].plan.boot_tries
        return tries is not None and slot.revival.failures + 1 >= tries and self.roster.roles[slot.role].exports is None

    def _end_unbegun(self, process: Process, now: float) -> list[Decision]:
        slot = process.slot
        slot.step("exited too often")
        count = slot.revival.failures + 1
        tries = f"{counted(count, 'start')} failed (boot_tries)"
        told = self._tell_exit(process, f"no worker of {slot.role!r} was ever ready, and {tries}.", was_asked=False)
        return [
            *told,
            Tell(f"the app ends with status {NEVER_BEGUN}, because {slot.role!r} cannot start.", "stop"),
            *self.handle_stop(now, status=NEVER_BEGUN),
        ]

    def _restart_the_rest(self, slot: Slot, now: float) -> list[Decision]:
        """Restart the roles declared after this one: they may depend on it. None depends on a role of mob's own."""
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
        return self._stopping.finish("all workers exited and none is to be restarted; the app ends.", status)

    def handle_fork_server_gone(self, now: float, held: Collection[int] = ()) -> list[Decision]:
        """Handle the end of the fork server: launches that it had not reported are lost.

        Those that are `held` for the next one are not. Its mobsters live on.
        """
        lost = [process.uid for process in self.processes.values() if process.pid == 0 and process.uid not in held]
        return [decision for uid in lost for decision in self.handle_exited(uid, "was lost with the fork server", now)]

    def handle_fork_server_renewed(self, now: float) -> list[Decision]:
        """Continue after a planned replacement of the fork server; the app may be stopping by now."""
        return [] if self.stopping else self.rollout.handle_renewed(now)

    # ------------------------------------------------------------------------------------------------- time

    def handle_wake(self, now: float) -> list[Decision]:
        """Handle the passing of time: due launches, overdue stops, late and hanging workers."""
        decisions: list[Decision] = []
        for slot in list(self.slots.values()):
            if slot.state is SlotState.WAITING and slot.due <= now + EARLY:
                slot.step("pause over")
                decisions += self.crew.launch(slot, now)
        if not self.stopping:
            decisions += self.health.handle_wake(now)
            decisions += self.hand_overs.handle_wake(now)
            decisions += self.quarantine.handle_wake(now)
        decisions += self._stopping.log_waited_for(now) + self._stopping.kill_overdue(now)
        decisions += self.handle_moved(now)
        return decisions + self._forget_unborn(now)

    def _forget_unborn(self, now: float) -> list[Decision]:
        """Handle what is to be killed and has no process: `Kill` cannot end it, and no exit would be reported.

        If it is forked after all, its uid is unknown, and it is killed then.
        """
        unborn = [process for process in self.processes.values() if process.killed and not process.pid]
        return [decision for each in unborn for decision in self.handle_exited(each.uid, "was never launched", now)]

    def handle_beat(self, uid: int, beat: Beat, now: float) -> list[Decision]:
        """Handle a heartbeat."""
        process = self.processes.get(uid)
        if process is None:
            return []
        if self.stopping:
            process.beat, process.beaten_at = beat, now  # a long stop logs what the process still does
            return []
        decisions = self.health.handle_beat(process, beat, now)
        return decisions + self._follow_load({process.slot.role, *beat.parked}, now)

    def handle_parked(self, uid: int, parked: Parked, now: float) -> list[Decision]:
        """Note how many calls of a client wait for workers; a role may have to grow for them."""
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
        """Handle the stacks of a mobster that hangs."""
        process = self.processes.get(uid)
        return [] if process is None else self.health.handle_inspection(process, stacks)

    def handle_wants_terminal(self, uid: int, number: int, where: str, now: float) -> list[Decision]:
        """Handle a `breakpoint()` that a mobster reached."""
        process = self.processes.get(uid)
        return [] if process is None else self.debugging.handle_wanted(process, number, where, now)

    def handle_returned_terminal(self, uid: int, number: int, now: float) -> list[Decision]:
        """Handle a debugger that no longer needs the terminal, or could not get it."""
        return self.debugging.handle_returned(uid, number, now)

    # ------------------------------------------------------------------------------------------------ orders

    def handle_reload(self, roles: list[str], ticket: Ticket, now: float) -> list[Decision]:
        """Load new code into these roles; without names, into all of the app's own.

        Gateways carry the links to other machines, perhaps the one over which this request came; they, and the keeper
        of jobs, hold no code of the app.
        """
        if self.stopping:
            return [Answer(ticket, error="the app is stopping.")]
        for role in roles:
            if role not in self.crew.roles:
                return [Answer(ticket, error=f"there is no role {role!r}.")]
        return self.rollout.reload(roles or [name for name in self.crew.order if self._has_code(name)], ticket, now)

    def _has_code(self, role: str) -> bool:
        """Return True if the role runs code of the app."""
        return role != GATEWAY and not self.crew.roles[role].plan.keeps_jobs

    def handle_role_added(self, plan: Plan, role: RolePlan, ticket: Ticket, now: float) -> list[Decision]:
        """Start a role that was added to the plan."""
        if self.stopping:
            return [Answer(ticket, error="the app is stopping.")]
        self.plan = plan
        slots = self.crew.add_role(plan, role)
        told = Announce(m.RoleIs(self.roster.roles[role.name]))
        return [told, *self.start_slots(slots, now), Answer(ticket)]

    def handle_call_killed(
        self, uid: int, now: float, why: str = FOR_A_CALL, overrun: m.Overrun | None = None
    ) -> list[Decision]:
        """Kill a process because of a call that it runs. Its role did not fail.

        Either a caller asked for it, or the call ran for too long (`why`, `overrun`).
        """
        process = self.processes.get(uid)
        if process is None or process.killed:
            return []
        process.killed = process.is_restarted = True
        process.why_killed, process.overran = why, overrun
        return [Kill(uid)]

    def handle_restart(self, roles: list[str], pid: int, ticket: Ticket, now: float) -> list[Decision]:
        """Restart the workers of these roles, or the one with this pid."""
        if self.stopping:
            return [Answer(ticket, error="the app is stopping.")]
        if bool(roles) == (pid != 0):
            return [Answer(ticket, error="restart needs either roles or the pid of one worker.")]
        return self.rollout.restart(roles, pid, ticket, now)

    def handle_scale(
        self, role: str, count: int, ticket: Ticket, now: float, relative: bool = False, by_role: bool = False
    ) -> list[Decision]:
        """Set the number of workers of a role, or change it (`relative`); `by_role`: the role itself asks for it."""
        if self.stopping:
            return [Answer(ticket, error="the app is stopping.")]
        if relative and role in self.crew.roles:
            count += self.crew.roles[role].target
        problem = self.scaling.problem(role, count, by_role)
        if problem:
            return [Answer(ticket, error=problem)]
        decisions = self.resize(role, count, now, "as requested") + self.rollout.handle_resized(now)
        ready = sum(each.slot.role == role and each.state is MobsterState.READY for each in self.processes.values())
        more = f" wanted, {ready} ready" if ready < count else ""  # new workers are not listed yet
        return [*decisions, Answer(ticket, text=f"{role}: {counted(count, 'worker')}{more}.")]

    def resize(self, role: str, count: int, now: float, why: str) -> list[Decision]:
        """Set the number of workers of a role, and tell all of them if their environment contains it."""
        decisions = self.scaling.resize(role, count, now, why)
        return [*decisions, *self.rollout.tell_size(role, now)] if decisions else []

    def handle_size_signal(self, change: int, now: float) -> list[Decision]:
        """Change the number of workers of each role with max_workers; of the only role, if there is just one."""
        roles = [role.name for role in self.plan.roles if role.max_workers is not None]
        roles = roles or [role.name for role in self.plan.roles if len(self.plan.roles) == 1]
        if not roles:
            return [Tell("SIGTTIN/SIGTTOU ignored: no role sets max_workers. Use `mob scale ROLE=N`.")]
        decisions: list[Decision] = []
        for role in roles:
            for each in self.handle_scale(role, change, NOBODY, now, relative=True):
                if isinstance(each, Answer) and each.error:
                    each = Tell(each.error)  # the sender of a signal reads the log
                decisions.append(each)
        return decisions

    def unrest(self, may_launch: bool) -> str:
        """Return what is unfinished, so that another program cannot take over; empty if nothing is."""
        if self.debugging.holder:
            return f"{self.debugging.holder} is in the debugger"
        if self.rollout.is_reloading:
            return "a reload is under way"
        if self.hand_overs.is_under_way:
            return "a worker is handing over to its successor"
        if not may_launch and any(
            not each.pid or each.state is MobsterState.LAUNCHING for each in self.processes.values()
        ):
            return "a worker is being launched"
        return ""

    def handle_stop(self, now: float, status: int = 0) -> list[Decision]:
        """Stop the app in order; the second time, at once."""
        decisions = [*self.rollout.cancel("the app is stopping."), *self._stopping.begin(now, status)]
        for process in self.processes.values():
            if not process.pid and not self.crew.is_singleton(process.slot.role):  # its end gives the lease back
                process.killed = True
        return decisions + self._forget_unborn(now)

    def may_hand_over(self, uid: int) -> bool:
        """Return True if another process may take the place of one that is asked to end.

        In a stop, a singleton may continue on another machine.
        """
        return not self.stopping or self.crew.is_singleton(self.crew.role_of(uid))

    def handle_moved(self, now: float) -> list[Decision]:
        """Handle data of a singleton that is now stored for other machines, or never will be."""
        return self._stopping.go_on(now) if self.stopping and not self.finished else []

    # --------------------------------------------------------------------------------- members and their links

    def next_uid(self) -> int:
        """Return a number that no member had before."""
        return self.crew.next_uid()

    def handle_client_joined(self, uid: int, pid: int) -> list[Decision]:
        """Handle a client that connected."""
        client = Member(uid, pid, "", 0, 0, MobsterState.READY)
        self.roster.put(client)
        return [self.crew.welcome(uid), Announce(m.MemberIs(client))]

    def handle_client_left(self, uid: int, why: str) -> list[Decision]:
        """Handle a client that disconnected."""
        self.crew.parked_at_clients.pop(uid, None)
        if self.roster.remove(uid) is None:
            return []
        self.crew.introductions.left(uid)
        return [Announce(m.MemberGone(uid, why))]

    def handle_want_role(self, uid: int, role: str) -> list[Decision]:
        """Handle a member's request for links to a role."""
        if uid not in self.roster or (role != "*" and role not in self.roster.roles):
            return []
        return [Introduce(*pair) for pair in self.crew.introductions.want_role(uid, role, self.roster)]

    def handle_want_member(self, uid: int, other: int, again: bool = False) -> list[Decision]:
        """Handle a member's request for a link to another; `again`: the existing link broke."""
        if again:
            self.crew.introductions.forget_pair(uid, other)
        return [Introduce(*pair) for pair in self.crew.introductions.want_member(uid, other, self.roster)]

    # ------------------------------------------------------------------------------------------------- showing

    def rows(self, now: float) -> list[Row]:
        """Return the table of `mob ps`: a row per slot, and one for each process that starts or ends beside it."""
        rows: list[Row] = []
        order = list(self.crew.roles)  # roles that a new plan no longer has come last
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
        """Note the pid; before, there was nothing that could be killed."""
        process.pid = pid
        return self.crew.kill([process]) if process.killed else []

    def _failing(self, process: Process, why: str, was_asked: bool) -> list[Decision]:
        """Mark a role as failing if a worker exits by itself before it is ready.

        The role is shown as failing as long as none of its workers is ready.
        """
        slot = process.slot
        if was_asked or process.ready_at is not None or self.roster.ready(slot.role):
            return []
        return self.crew.role_changed(slot.role, failing=f"{slot.name}: {process.error or why}")

    def _has_crashed(self, process: Process, was_asked: bool, status: int | None) -> bool:
        if self.plan.direct:  # an app inside a pool, which has no name: no one would look for a report
            return False
        if process.why_killed:
            return process.why_killed != FOR_A_CALL
        codes = self.crew.roles[process.slot.role].plan.stop_exit_codes
        return not was_asked and status is not None and status != 0 and status not in codes

    def _log_report(self, process: Process) -> list[Decision]:
        """Log the full error of a successor that could not be imported."""
        if not process.report:
            return []
        text = f"{process.name} could not import {process.slot.role!r}. Its error:\n    {_indented(process)}"
        return [Tell(text, "crash")]

    def _tell_exit(self, process: Process, then: str, was_asked: bool) -> list[Decision]:
        slot, name = process.slot, process.name
        if was_asked:
            how = process.why_killed if is_for_a_call(process.why_killed) else "stopped as requested"
            return [Tell(f"{name} {how}; {then}", "crash" if process.has_crashed else "exit")]
        if process.report:
            slot.note = process.error
            told, slot.told = slot.told, process.report
            failed = f"{name} {_failure(process)}; {then}"
            if told == process.report:
                return [Tell(f"{failed} Same error as before: {slot.note}", "crash")]
            return [Tell(f"{failed} Its error:\n    {_indented(process)}", "crash")]
        is_early = process.ready_at is None and not process.is_done and not process.why_killed  # the reason says more
        early = " before it was ready" if is_early else ""
        kind = "crash" if process.has_crashed else "exit"
        return [Tell(f"{name} {slot.note.removesuffix('.')}{early}; {then}", kind)]


def _failure(process: Process) -> str:
    """Return what its report is about, worded to follow its name."""
    return "failed in a handler of 'ready'" if process.has_failed else f"could not import {process.slot.role!r}"


def _indented(process: Process) -> str:
    return process.report.rstrip().replace("\n", "\n    ")


def _successor_text(process: Process, pause: float) -> str:
    if pause == 0:
        return "restarting it."
    return f"{'next try' if process.report else 'restarting it'} in {pause:.1f} s."


def _record(process: Process, why: str, now: float, status: int | None) -> Record:
    stacks = process.stacks or process.report
    why = f"{_failure(process)} and {why}" if process.report and not process.why_killed else why
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
