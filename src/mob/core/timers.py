"""Decides when the timers of the roles run: what is due, what was missed, and which workers run it.

There are two clocks. An interval uses the time since the machine was booted, which includes its sleep and which no one
sets; a cron line uses the time of day, which may be set. So three things can happen besides the passing of time, and
`handle_wake` detects them by comparing the clocks with their last values:

* The machine slept, or no worker was ready, or the Kingpin was stopped: what fell due meanwhile runs once, as soon as
  possible, and the log says how many other runs were missed. `max_late` says from when on it does not run at all.
  (APScheduler calls this `coalesce` and `misfire_grace_time`.)
* The clock was set forward: the same holds for cron lines.
* The clock was set back: a line that is due at most once an hour is not due again at the times that it has had; the
  others use the new time at once. Beyond `CORRECTION` the new time counts for all, and nothing is made up for: the
  clock was wrong before. (These are the rules of Debian's cron(8).)

A run that is due while the previous one still runs is missed, unless the timer may `overlap`; it is not made up for. A
run that is due begins in the first worker that has room for it (`timer_workers.py`); those for `each` begin in all.

Pure: the time (`Instant`), chance, and the ready workers (`ReadyWorkers`) are passed in; decisions come out. A run has
a number; a `Round` is all runs that began together, one for each worker if the timer is for `each`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Protocol

from mob.core.decisions import NOBODY, Answer, Tell, Ticket
from mob.core.timer_state import FAILED, LOST, MISSED, OK, Instant, RoleTimer, Round, TimerState, duration_text
from mob.core.timer_workers import EARLY, AskForRoom, BeginTimerRun, NoTimerRun, ReadyWorker, ask
from mob.errors import counted, nearest
from mob.wire.messages import TimerInfo, TimerMetrics

JUMP = 1.0
"""Seconds from which on a clock was set, and is not just a little fast or slow."""
CORRECTION = 3 * 3600.0
"""Seconds from which on a clock that was set was wrong before, as in Debian's cron."""
FREQUENT = 3600.0
"""Maximum seconds between two runs of a cron line that uses the new time at once when the clock was set back."""
MOST_COUNTED = 1000
"""Maximum number of missed runs of a cron line that are counted; beyond that it is "more than"."""
UNKNOWN = 30.0
"""Seconds by which a timer may be overdue when this machine gets its lease and knows nothing of its last runs."""
QUIET = 60.0
"""Seconds between two messages about runs of a timer that do not begin; the runs in between are counted."""
LONG = 10.0
"""Seconds after which the log says that a run still waits for a free worker."""
ELSEWHERE = "waits for the lease of the timers"


class CronTimes(Protocol):
    """The times at which a cron line is due."""

    def after(self, when: float) -> float:
        """Return the first time after `when`, in seconds since the epoch; infinity if there is none."""
        ...


ReadyWorkers = Callable[[str], Sequence[ReadyWorker]]
"""Returns the workers of a role that may be given a run."""
TimerDecision = AskForRoom | BeginTimerRun | NoTimerRun | Tell | Answer


class Timers:
    """The timers of an app."""

    def __init__(
        self, luck: Callable[[], float], times_of: Callable[[TimerInfo], CronTimes], state: TimerState | None = None
    ) -> None:
        self._luck = luck
        self._times_of = times_of
        self._times: dict[tuple[str, str], CronTimes] = {}
        self._turns: dict[int, int] = {}  # the order in which workers were asked first
        self.state: TimerState = state or TimerState()
        self.elsewhere: dict[str, str] = {}
        """Roles whose timers another machine runs, except those of `each`; and the reason, for users."""

    def __repr__(self) -> str:
        return f"<Timers: {', '.join(each.label for each in self.state.timers) or 'none'}>"

    # ------------------------------------------------------------------------------------- ----------- declared

    def handle_declared(self, uid: int, role: str, timers: tuple[TimerInfo, ...], now: Instant) -> None:
        """Note the timers that a worker's module declares. It may do so again, with more."""
        self.state.declared.pop(uid, None)
        self.state.declared[uid] = role, timers
        self._adopt(role, now)

    def handle_ready(self, uid: int, role: str, now: Instant) -> None:
        """Note that a worker is ready; one that declared nothing has no timers."""
        if uid not in self.state.declared and any(each.role == role for each in self.state.timers):
            self.handle_declared(uid, role, (), now)

    def _adopt(self, role: str, now: Instant) -> None:
        """Adopt the timers of the worker that came last: it has the newest code.

        If it ended (a reload that failed), the one before counts; when none is left, all stays as it was.
        """
        known = [timers for of, timers in self.state.declared.values() if of == role]
        if not known:
            return
        own = {each.info.name: each for each in self.state.timers if each.role == role}
        for info in known[-1]:
            timer = own.pop(info.name, None)
            if timer is None:
                self.state.timers.append(self._first(RoleTimer(role, info, 0.0, 0.0), now))
            elif timer.info != info or timer.is_gone:
                is_other = timer.info.schedule != info.schedule or timer.is_gone
                timer.info, timer.is_gone = info, False
                if is_other:
                    self._first(timer, now)
        for timer in own.values():
            timer.is_gone, timer.due, timer.pending = True, math.inf, None
        self._sweep()

    def _first(self, timer: RoleTimer, now: Instant) -> RoleTimer:
        """Set the first time at which a timer is due."""
        info, timer.pending = timer.info, None
        self._times.pop((timer.role, info.name), None)
        if info.line:
            timer.base = self._cron(timer).after(now.wall)
        else:
            timer.base = now.boot + (info.every if info.first is None else info.first)
        timer.due = timer.base + self._jitter(info)
        return timer

    def _jitter(self, info: TimerInfo) -> float:
        return info.jitter * self._luck() if info.jitter else 0.0

    def _cron(self, timer: RoleTimer) -> CronTimes:
        key = timer.role, timer.info.name
        if key not in self._times:
            self._times[key] = self._times_of(timer.info)
        return self._times[key]

    def _sweep(self) -> None:
        self.state.timers = [each for each in self.state.timers if each.rounds or each.wishes or not each.is_gone]

    def handle_elsewhere(self, role: str, why: str, now: Instant) -> None:
        """Note that another machine has the lease of a role's timers, or may have it (`why`).

        If `why` is empty, this machine has it, and continues where the other stopped, as far as that is known.
        """
        shared = [each for each in self.state.timers if each.role == role and not each.info.each]
        if why:
            self.elsewhere[role] = why
            for timer in shared:
                timer.pending = None
        elif self.elsewhere.pop(role, ""):
            heard = self.state.heard.pop(role, {})
            for timer in shared:
                self._go_on(timer, heard.get(timer.info.name), now)

    def _go_on(self, timer: RoleTimer, due: float | None, now: Instant) -> None:
        """Continue a timer here from now on.

        It is due at that time of day, if the other machine reported it and has the same schedule; what was due here
        long before is not made up for, because it is unknown if it ran.
        """
        if due is not None and timer.info.line:
            is_known = self._cron(timer).after(due - EARLY) == due
        elif due is not None:
            due = due - now.wall + now.boot
            is_known = due <= now.boot + timer.info.every + EARLY
        else:
            is_known = False
        if due is not None and is_known:
            timer.base = due
        elif timer.clock(now) - timer.base > UNKNOWN:
            self._passed(timer, timer.clock(now))
        if not timer.is_gone:
            timer.due = timer.base + self._jitter(timer.info)

    def handle_heard(self, role: str, times: dict[str, float]) -> None:
        """Note the times at which timers of a role are due next, from the machine that runs them."""
        if role in self.elsewhere or not self.needs_lease(role):
            self.state.heard[role] = times

    def _is_elsewhere(self, timer: RoleTimer) -> bool:
        return timer.role in self.elsewhere and not timer.info.each

    def times_of_role(self, role: str, now: Instant) -> dict[str, float]:
        """Return these times of this machine, for the others; a run that waits for a worker is still due."""
        shared = [each for each in self.state.timers if each.role == role and not (each.info.each or each.is_gone)]
        due = {each.info.name: each.wall(each.pending or each.base, now) for each in shared}
        return {name: when for name, when in due.items() if when < math.inf}

    # ---------------------------------------------------------------------------------------------------- time

    def next_wake(self, now: Instant) -> float:
        """Return the time of day at which something is due, or more workers are asked; infinity if that is never."""
        own = [each for each in self.state.timers if not self._is_elsewhere(each)]
        due = [each.wall(each.due, now) for each in own]
        asked = [each.ask_all_at or 0.0 for each in own if each.is_waiting]
        told = [when for each in own if (when := each.tell_wait_at(LONG)) is not None]
        due += [when - now.boot + now.wall for when in (*asked, *told) if when > now.boot]
        return min(due, default=math.inf)

    def handle_wake(self, now: Instant, ready: ReadyWorkers) -> list[TimerDecision]:
        """Handle the passing of time, a clock that was set, or other workers that are ready."""
        seen, self.state.seen = self.state.seen or now, now
        decisions: list[TimerDecision] = []
        slept = (now.boot - seen.boot) - (now.awake - seen.awake)
        shift = (now.wall - seen.wall) - (now.boot - seen.boot)
        if abs(shift) >= JUMP and any(each.info.line for each in self.state.timers):
            decisions.append(self._handle_clock_set(shift, now))
        why = "the supervisor was stopped or busy"
        if shift >= JUMP:
            why = f"the clock was set forward by {duration_text(shift)}"
        if slept >= JUMP:
            why = f"the machine was suspended for {duration_text(slept)}"
        for timer in list(self.state.timers):
            if timer.pending is None:
                timer.waits_since = None
            if timer.clock(now) >= timer.due - EARLY and not self._is_elsewhere(timer):
                self._fall_due(timer, now, why)
            decisions += self._give_up(timer)
            decisions += self._try(timer, now, ready)
            decisions += self._tell_waiting(timer, now, len(self._workers(timer, ready)))
        return decisions

    def _handle_clock_set(self, shift: float, now: Instant) -> Tell:
        for timer in self.state.timers:
            if not timer.info.line or timer.is_gone:
                continue
            times = self._cron(timer)
            following = times.after(now.wall)
            is_frequent = times.after(following) - following <= FREQUENT
            if abs(shift) >= CORRECTION or (shift < 0 and is_frequent):
                timer.base = following
                timer.due = following + self._jitter(timer.info)
        which = "forward" if shift > 0 else "back"
        more = "; runs that were due in between are skipped" if shift >= CORRECTION else ""
        return Tell(f"the clock was set {which} by {duration_text(abs(shift))}{more}.")

    def _fall_due(self, timer: RoleTimer, now: Instant, why: str) -> None:
        """Handle a timer that is due, perhaps for more than one time."""
        put_off = timer.due - timer.base
        passed, last = self._passed(timer, timer.clock(now) - put_off + EARLY)
        if timer.pending is not None:
            which = "free" if timer.asked else "ready"
            timer.miss(1, f"no worker of {timer.role!r} was {which}")
        if passed > 1:
            timer.miss(passed - 1, why)
        timer.pending = last
        timer.due = timer.base + self._jitter(timer.info)

    def _passed(self, timer: RoleTimer, when: float) -> tuple[int, float]:
        """Set `base` to the first time after `when`; return how many times it was due by then, and the last of them."""
        every = timer.info.every
        if every:
            passed = max(1, math.floor((when - timer.base) / every) + 1)
            last = timer.base + (passed - 1) * every
            timer.base = last + every
            return passed, last
        times, passed, last = self._cron(timer), 1, timer.base
        while (following := times.after(last)) <= when:
            if passed > MOST_COUNTED:
                last = when
                following = times.after(when)
                break
            passed, last = passed + 1, following
        timer.base = following
        return passed, last

    # ---------------------------------------------------------------------------------------------------- runs

    def _try(self, timer: RoleTimer, now: Instant, ready: ReadyWorkers) -> list[TimerDecision]:
        """Begin a run that is due, if possible."""
        decisions = self._drop_late(timer, now)
        workers = self._workers(timer, ready)
        if not workers or not timer.is_waiting:
            return decisions
        if timer.info.each:
            timer.pending = None
            if not (uids := _without_it(timer, workers)):
                return self._skip(timer, now)
            return [*self._tell_missed(timer, now), *self._begin(timer, uids, now)]
        if timer.has_place:
            return [*decisions, *ask(timer, workers, now.boot, self._turns)]
        if timer.pending is None:
            return decisions
        timer.pending = None
        return self._skip(timer, now)

    def _drop_late(self, timer: RoleTimer, now: Instant) -> list[TimerDecision]:
        """Skip a run that would begin too late."""
        if timer.pending is None or timer.info.max_late is None:
            return []
        late = timer.clock(now) - timer.pending - timer.info.jitter
        if late <= timer.info.max_late:
            return []
        timer.pending = None
        timer.miss(1, f"it would have begun {duration_text(late)} late (max_late={timer.info.max_late:g})")
        return self._tell_missed(timer, now)

    def _workers(self, timer: RoleTimer, ready: ReadyWorkers) -> list[ReadyWorker]:
        """Return the workers that know exactly this timer."""
        declared = self.state.declared
        return [each for each in ready(timer.role) if each.uid in declared and timer.info in declared[each.uid][1]]

    def handle_room(self, uid: int, name: str, now: Instant, ready: ReadyWorkers) -> list[TimerDecision]:
        """Handle a worker that can begin a run of a timer: it gets the waiting one, if there still is one."""
        role = self.state.declared.get(uid, ("", ()))[0]
        timer = next((each for each in self.state.timers if (each.role, each.info.name) == (role, name)), None)
        if timer is None:
            return [NoTimerRun(uid, name)]
        timer.asked = [each for each in timer.asked if each != uid]
        decisions = self._drop_late(timer, now)
        is_free = timer.is_waiting and timer.has_place and not timer.info.each
        if not is_free or all(each.uid != uid for each in self._workers(timer, ready)):
            return [*decisions, NoTimerRun(uid, name)]
        ticket = timer.wishes.pop(0) if timer.wishes else NOBODY
        begun = self._begin(timer, [uid], now, ticket)
        if ticket == NOBODY or not timer.has_place:  # otherwise the run that was due is the one that was asked for
            timer.pending = None
        timer.ask_all_at = None
        return [*decisions, *self._tell_missed(timer, now), *begun]

    def _skip(self, timer: RoleTimer, now: Instant) -> list[TimerDecision]:
        """Skip a run that is due while the maximum number runs: log the first one, and count others."""
        if timer.is_overlap_told or timer.missed or now.boot < timer.quiet_until:
            timer.miss(1, "the previous run had not ended")
            return []
        timer.is_overlap_told, timer.quiet_until = True, now.boot + QUIET
        timer.count(MISSED)
        runs = duration_text(now.boot - timer.rounds[0].began.boot)
        return [Tell(f"timer {timer.label}: run skipped because the previous one is still running, for {runs}.")]

    def _tell_missed(self, timer: RoleTimer, now: Instant) -> list[TimerDecision]:
        timer.is_overlap_told = False
        if not timer.missed or now.boot < timer.quiet_until:
            return []
        number, timer.missed, timer.quiet_until = timer.missed, 0, now.boot + QUIET
        more = "more than " if number >= MOST_COUNTED and timer.info.line else ""
        return [Tell(f"timer {timer.label}: {more}{counted(number, 'run')} missed: {timer.why_missed}.")]

    def _tell_waiting(self, timer: RoleTimer, now: Instant, workers: int) -> list[TimerDecision]:
        """Log that a run waits because all workers are busy, if it waits for long."""
        if not workers or timer.pending is None:
            timer.waits_since = None
            return []
        if timer.waits_since is None:
            timer.waits_since = now.boot
        if (when := timer.tell_wait_at(LONG)) is None or now.boot < when - EARLY:
            return []
        timer.wait_quiet_until = now.boot + QUIET
        busy = f"all {workers} workers of {timer.role!r} are" if workers > 1 else f"the one worker of {timer.role!r} is"
        waited = duration_text(now.boot - timer.waits_since)
        return [Tell(f"timer {timer.label} has waited {waited} for a free worker: {busy} busy.")]

    def _begin(
        self, timer: RoleTimer, workers: list[int], now: Instant, ticket: Ticket = NOBODY
    ) -> list[TimerDecision]:
        numbers = range(self.state.number + 1, self.state.number + 1 + len(workers))
        self.state.number += len(workers)
        timer.rounds.append(Round(now, dict(zip(numbers, workers, strict=True)), ticket, len(workers)))
        return [BeginTimerRun(uid, number, timer.info.name) for number, uid in zip(numbers, workers, strict=True)]

    def handle_ran(self, uid: int, number: int, error: str, took: float, now: Instant) -> list[TimerDecision]:
        """Handle the end of a run; `error` is what it raised, `took` the seconds since it began, -1 if it did not."""
        for timer in self.state.timers:
            for each in timer.rounds:
                if each.open.get(number) == uid:
                    del each.open[number]
                    each.took = max(each.took, took)
                    timer.count(FAILED if error else OK)
                    each.failed += [error] if error else []
                    return self._end(timer, each, now)
        return []

    def handle_gone(self, uid: int, why: str, now: Instant) -> list[TimerDecision]:
        """Handle the exit of a worker: what it ran is lost."""
        role, _ = self.state.declared.pop(uid, ("", ()))
        self._turns.pop(uid, None)
        decisions: list[TimerDecision] = []
        for timer in self.state.timers:
            for each in [each for each in timer.rounds if uid in each.open.values()]:
                lost = [number for number, whose in each.open.items() if whose == uid]
                for number in lost:
                    del each.open[number]
                timer.count(LOST, len(lost))
                each.lost.append(why)
                decisions.append(Tell(f"timer {timer.label}: run lost: its worker {why}."))
                decisions += self._end(timer, each, now)
        if role:
            self._adopt(role, now)
        return decisions

    def _end(self, timer: RoleTimer, ended: Round, now: Instant) -> list[TimerDecision]:
        """Handle the end of a run of a round, perhaps of the last one."""
        if ended.open:
            return []
        timer.rounds.remove(ended)
        before = timer.outcome
        timer.last, timer.seconds = ended.began.wall, now.boot - ended.began.boot if ended.lost else ended.took
        timer.outcome = LOST if ended.lost else FAILED if ended.failed else OK
        errors = [*(f"its worker {why}" for why in ended.lost), *ended.failed]
        timer.error = errors[0] if errors else ""
        if errors and ended.count > 1:
            timer.error = f"{len(errors)} of {ended.count} runs: {errors[0]}"
        self._sweep()
        took = duration_text(timer.seconds)
        decisions: list[TimerDecision] = []
        if timer.outcome == FAILED != before:  # the log of its worker has each one; this message is for observers
            decisions.append(Tell(f"timer {timer.label} failed: {timer.error}"))
        elif timer.outcome == OK and before not in ("", OK):
            decisions.append(Tell(f"timer {timer.label} is ok again."))
        if ended.ticket == NOBODY:
            return decisions
        if errors:
            return [
                *decisions,
                Answer(ended.ticket, error=f"{timer.label}: {timer.outcome} after {took}: {timer.error}"),
            ]
        runs = f" in {ended.count} workers" if ended.count > 1 else ""
        return [*decisions, Answer(ended.ticket, text=f"{timer.label}: ok after {took}{runs}.")]

    def handle_wish(
        self, role: str, name: str, ticket: Ticket, now: Instant, ready: ReadyWorkers
    ) -> list[TimerDecision]:
        """Run a timer now because a user asked for it. The next time at which it is due does not change."""
        own = {each.info.name: each for each in self.state.timers if each.role == role and not each.is_gone}
        timer = own.get(name)
        if timer is None:
            return [Answer(ticket, error=f"{role!r} has no timer {name!r}. {nearest(name, own)}")]
        if role in self.elsewhere and not timer.info.each:
            return [Answer(ticket, error=f"{timer.label} does not run on this machine: {self.elsewhere[role]}.")]
        workers = self._workers(timer, ready)
        if not workers:
            return [Answer(ticket, error=f"{timer.label} cannot run: no worker of {role!r} is ready.")]
        if timer.info.each and (uids := _without_it(timer, workers)):
            return self._begin(timer, uids, now, ticket)
        overlap = timer.info.overlap
        if timer.info.each or (overlap and len(timer.rounds) + len(timer.wishes) >= overlap):
            why = "is already waiting for a free worker"
            if timer.rounds:
                why = f"is already running, for {duration_text(now.boot - timer.rounds[0].began.boot)}"
            may = "overlap=False" if overlap <= 1 else f"{overlap=}"
            return [Answer(ticket, error=f"{timer.label} {why} ({may}).")]
        timer.wishes.append(ticket)
        return list(ask(timer, workers, now.boot, self._turns))

    def _give_up(self, timer: RoleTimer) -> list[TimerDecision]:
        """Answer requests for a run that cannot begin here any more."""
        if timer.is_gone:
            why = f"{timer.role!r} no longer has it"
        elif self._is_elsewhere(timer):
            why = f"this machine no longer runs it: {self.elsewhere[timer.role]}"
        else:
            return []
        tickets, timer.wishes = timer.wishes, []
        self._sweep()
        return [Answer(each, error=f"{timer.label} did not run: {why}.") for each in tickets]

    # -------------------------------------------------------------------------------------------------- to show

    def rows(self, now: Instant) -> tuple[TimerMetrics, ...]:
        """Return the metrics of each timer."""
        return tuple(self._row(each, now) for each in self.state.timers if not each.is_gone)

    def _row(self, timer: RoleTimer, now: Instant) -> TimerMetrics:
        is_elsewhere = self._is_elsewhere(timer)
        due = timer.wall(timer.due if timer.pending is None else timer.pending, now)
        if is_elsewhere:
            due = self.state.heard.get(timer.role, {}).get(timer.info.name, math.inf)
        note = self.elsewhere[timer.role] if is_elsewhere else ""
        if timer.is_waiting and not is_elsewhere:
            note = f"waits for a {'free ' if timer.asked else ''}worker of {timer.role!r}"
        return TimerMetrics(
            role=timer.role,
            name=timer.info.name,
            schedule=timer.info.schedule + (", in each worker" if timer.info.each else ""),
            next=0.0 if due == math.inf else due,
            last=timer.last,
            seconds=timer.seconds,
            outcome=timer.outcome,
            error=timer.error,
            running=sum(len(each.open) for each in timer.rounds),
            runs=dict(timer.runs),
            note=note,
            is_here=not is_elsewhere,
        )

    def needs_lease(self, role: str) -> bool:
        """Return True if a role has timers that run once in a whole cluster."""
        return any(each.role == role and not (each.info.each or each.is_gone) for each in self.state.timers)

    def is_running(self, role: str) -> bool:
        """Return True if one of those runs here."""
        return any(each.rounds for each in self.state.timers if each.role == role and not each.info.each)


def _without_it(timer: RoleTimer, workers: Sequence[ReadyWorker]) -> list[int]:
    """Return the workers that do not run a timer; all of them if it may overlap."""
    busy = timer.workers() if timer.info.overlap else set[int]()
    return [each.uid for each in workers if each.uid not in busy]
