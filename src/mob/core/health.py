"""Workers that do not get ready, that hang, or that have grown old: what is to be done about them.

A worker that is not ready in its `boot_timeout` is killed. Time in which it stood still (SIGSTOP, `docker pause`, a
laptop that sleeps) is not counted: there were no beats, and a Kingpin that stood still too is late for its own look.
One whose loop stands still for longer than its `hang_timeout`, or that says nothing for so long, is asked for its
stacks first (a thread of its own answers, whatever the loop does), then killed: a hang without an explanation is worth
nothing. An export that says how long it may take (`@mob.export(timeout=)`) may take that long, and the time in a
debugger counts for nothing here. Limits of age, calls and memory lead to a replacement, without haste.
"""

from __future__ import annotations

from collections.abc import Callable

from mob.core.crew import EARLY, Crew, Process
from mob.core.debugging import Debugging
from mob.core.decisions import Decision, DumpStacks, Tell, WakeAt
from mob.core.rollout import Rollout
from mob.core.states import MobsterState
from mob.wire.messages import Beat

BEAT = 1.0
"""Seconds between two beats of a worker."""
OVERSLEPT = 0.5
"""Seconds after which a look that comes too late shows that the Kingpin itself stood still."""
INSPECTION = 2.0
"""Seconds that a hanging worker has to say where it stands."""


class Health:
    """Looks at the workers."""

    def __init__(
        self, crew: Crew, rollout: Rollout, debugging: Debugging, is_stopped: Callable[[int], bool] = lambda pid: False
    ) -> None:
        self._crew = crew
        self._rollout = rollout
        self._debugging = debugging
        self._is_stopped = is_stopped  # by a signal or a debugger: asked of the system, by pid
        self._reprieved: dict[int, float] = {}  # uid -> until when one that is late is not killed, for it stood still
        self._inspected: dict[int, float] = {}  # uid -> when it is killed at the latest
        self._watched: dict[int, float] = {}  # uid -> when it is looked at next, should it be silent

    def __repr__(self) -> str:
        return f"<Health, {len(self._inspected)} hang>"

    def handle_beat(self, process: Process, beat: Beat, now: float) -> list[Decision]:
        """A worker says how it goes."""
        still = self._check_still(process, now)
        process.beat, process.beaten_at = beat, now
        return [*self._hint(process), *still, *self._check_hang(process, now), *self._check_wear(process, now)]

    def handle_inspection(self, process: Process, stacks: str) -> list[Decision]:
        """A hanging worker has said where it stands."""
        if self._inspected.pop(process.uid, None) is None or process.killed:
            return []
        process.stacks = stacks
        return self._crew.kill([process])

    def handle_wake(self, now: float) -> list[Decision]:
        """Time has passed: who is late, who is silent."""
        decisions: list[Decision] = []
        for process in self._crew.processes.values():
            if process.killed:
                continue
            until = self._inspected.get(process.uid)
            if until is not None:
                if until <= now + EARLY:
                    del self._inspected[process.uid]
                    decisions += self._crew.kill([process])
            elif self._is_late(process, now):
                decisions += self._end_late(process, now)
            elif self._watched.get(process.uid, now + 1) <= now + EARLY:
                decisions += self._look(process, now)
        return decisions

    def handle_exited(self, uid: int) -> None:
        """A worker is gone."""
        self._inspected.pop(uid, None)
        self._watched.pop(uid, None)
        self._reprieved.pop(uid, None)

    def watch(self, process: Process) -> list[Decision]:
        """Another look at the time at which it would hang, if nothing is heard of it until then."""
        timeout = self._crew.roles[process.slot.role].plan.hang_timeout
        if timeout is None:
            return []
        self._watched[process.uid] = when = process.beaten_at + max(timeout, process.beat.allowed) + BEAT
        return [WakeAt(when)]

    # --------------------------------------------------------------------------------------------- internals

    def _hint(self, process: Process) -> list[Decision]:
        """Its module has been at one place for seconds, perhaps for ever: say what to do, once."""
        where = process.beat.blocked
        if (
            not where
            or process.beat.waits_for
            or not process.is_booting
            or process.is_hinted
            or self._debugging.is_excused(process.uid)
        ):
            return []
        process.is_hinted = True
        timeout = self._crew.roles[process.slot.role].plan.boot_timeout
        limit = "" if timeout is None else f" Otherwise it is killed {timeout:g} s after its launch (boot_timeout)."
        text = f"{process.name} is not ready: its module has been at {where} for seconds, and listens on no port there."
        return [Tell(f"{text} If it blocks there for ever, call mob.ready() before.{limit}")]

    def _look(self, process: Process, now: float) -> list[Decision]:
        """It is time to look at a worker. A Kingpin that has stood still itself (Ctrl-Z) has unread beats first."""
        if now - self._watched[process.uid] > OVERSLEPT:
            self._watched[process.uid] = now + BEAT
            return [WakeAt(now + BEAT)]
        if process.state is not MobsterState.READY:  # it ends; its deadline sees to that
            del self._watched[process.uid]
            return []
        if self._debugging.is_excused(process.uid):
            self._watched[process.uid] = now + BEAT
            return [WakeAt(now + BEAT)]
        return self._check_hang(process, now) or self.watch(process)

    def _check_still(self, process: Process, now: float) -> list[Decision]:
        """A worker that boots says something after a silence: that is no boot time, and its last look comes later."""
        silent = now - process.beaten_at - BEAT
        if not process.is_booting or silent <= OVERSLEPT:
            return []
        self._reprieved.pop(process.uid, None)
        process.still += silent
        timeout = self._crew.roles[process.slot.role].plan.boot_timeout
        return [] if timeout is None else [WakeAt(max(now, self._due(process, timeout)))]

    def _is_late(self, process: Process, now: float) -> bool:
        timeout = self._crew.roles[process.slot.role].plan.boot_timeout
        if not process.is_booting or timeout is None or self._debugging.is_excused(process.uid):
            return False
        return now + EARLY >= max(self._due(process, timeout), self._reprieved.get(process.uid, 0.0))

    def _due(self, process: Process, timeout: float) -> float:
        """When it is to be ready."""
        return process.launched + timeout + self._debugging.time_spent(process.uid) + process.still

    def _end_late(self, process: Process, now: float) -> list[Decision]:
        """One is late. If it stands still, or the Kingpin has done so, it has the time once more: its next beat tells
        how much of that is its own."""
        timeout = self._crew.roles[process.slot.role].plan.boot_timeout or 0.0
        has_overslept = now - self._due(process, timeout) > OVERSLEPT and process.uid not in self._reprieved
        is_stopped = process.pid > 0 and self._is_stopped(process.pid)
        if not has_overslept and not is_stopped:
            where = process.beat.blocked
            hint = f"; its module was at {where} and had not called mob.ready()" if where else ""
            return self._end(process, f"was not ready within {timeout:g} s (boot_timeout){hint}", now)
        self._reprieved[process.uid] = until = now + timeout
        wake = f"`kill -CONT {process.pid}` lets it go on"
        text = f"{process.name} is stopped (SIGSTOP, a debugger), which does not count as boot time; {wake}."
        return [*([Tell(text)] if is_stopped else []), WakeAt(until)]

    def _check_hang(self, process: Process, now: float) -> list[Decision]:
        timeout = self._crew.roles[process.slot.role].plan.hang_timeout
        if (
            timeout is None
            or process.killed
            or process.uid in self._inspected
            or process.state is not MobsterState.READY
        ):
            return []
        if self._debugging.is_excused(process.uid):
            return []
        timeout = max(timeout, process.beat.allowed)
        at_large = now - self._debugging.excused_until(process.uid)
        silent, stuck = min(now - process.beaten_at, at_large), min(process.beat.stuck, at_large)
        if stuck >= timeout:
            return self._end(process, f"hangs: its loop stands still for {stuck:.1f} s (hang_timeout)", now)
        if silent + EARLY >= timeout + BEAT:
            return self._end(process, f"hangs: nothing was heard of it for {silent:.1f} s (hang_timeout)", now)
        return []

    def _end(self, process: Process, why: str, now: float) -> list[Decision]:
        process.why_killed = why
        self._inspected[process.uid] = now + INSPECTION
        return [Tell(f"{process.name} {why}; it is killed.", "hang"), DumpStacks(process.uid), WakeAt(now + INSPECTION)]

    def _check_wear(self, process: Process, now: float) -> list[Decision]:
        slot = process.slot
        if slot.uid != process.uid or process.state not in (MobsterState.READY, MobsterState.SPARE) or process.killed:
            return []
        if self._debugging.is_excused(process.uid):
            return []
        plan, quota = self._crew.roles[slot.role].plan, process.quota
        if plan.max_calls is not None and process.beat.calls >= plan.max_calls * quota:
            return self._rollout.recycle(slot, f"has served {process.beat.calls:,} calls (max_calls)", now)
        if plan.max_age is not None and now - process.launched >= plan.max_age * quota:
            return self._rollout.recycle(slot, f"is {now - process.launched:,.0f} s old (max_age)", now)
        if plan.max_memory is not None and process.beat.memory >= plan.max_memory * quota:
            size, limit = (each / 1024 / 1024 for each in (process.beat.memory, plan.max_memory))
            return self._rollout.recycle(slot, f"has grown to {size:,.0f} MiB (max_memory: {limit:,.0f} MiB)", now)
        return []
