"""Decides what to do with workers that do not get ready, that hang, or that are due for replacement.

A worker that is not ready within its `boot_timeout` is killed. Time in which it was suspended (SIGSTOP, `docker pause`,
a sleeping laptop) does not count: it sent no heartbeats then, and a Kingpin that was suspended too notices that its own
check comes late. A worker whose event loop is blocked for longer than its `hang_timeout`, or that sends no heartbeat
for that long, is first asked for its stacks (a thread of its own answers, whatever the loop does) and then killed: a
hang without an explanation helps no one. An export that declares how long it may take (`@mob.export(timeout=)`) may
take that long, and time in a debugger does not count. Limits of age, calls and memory lead to a replacement, without
haste.
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
"""Seconds between two heartbeats of a worker."""
OVERSLEPT = 0.5
"""Seconds: a check that comes later than this shows that the Kingpin itself was suspended."""
INSPECTION = 2.0
"""Seconds that a hanging worker has to report its stacks."""


class Health:
    """The checks on workers: boot time, heartbeats, age, calls and memory."""

    def __init__(
        self, crew: Crew, rollout: Rollout, debugging: Debugging, is_stopped: Callable[[int], bool] = lambda pid: False
    ) -> None:
        self._crew = crew
        self._rollout = rollout
        self._debugging = debugging
        self._is_stopped = is_stopped  # True if a signal or a debugger stopped the process: asked of the system, by pid
        self._reprieved: dict[int, float] = {}  # uid -> until when a late worker is spared, because it was suspended
        self._inspected: dict[int, float] = {}  # uid -> when it is killed at the latest
        self._watched: dict[int, float] = {}  # uid -> when it is checked next if it stays silent

    def __repr__(self) -> str:
        return f"<Health, {len(self._inspected)} hang>"

    def handle_beat(self, process: Process, beat: Beat, now: float) -> list[Decision]:
        """Handle a heartbeat."""
        still = self._check_suspended(process, now)
        process.beat, process.beaten_at = beat, now
        return [*self._hint(process), *still, *self._check_hang(process, now), *self._check_wear(process, now)]

    def handle_inspection(self, process: Process, stacks: str) -> list[Decision]:
        """Handle the stacks that a hanging worker reports: kill it now."""
        if self._inspected.pop(process.uid, None) is None or process.killed:
            return []
        process.stacks = stacks
        return self._crew.kill([process])

    def handle_wake(self, now: float) -> list[Decision]:
        """Check which workers are late or silent."""
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
        """Forget a worker that exited."""
        self._inspected.pop(uid, None)
        self._watched.pop(uid, None)
        self._reprieved.pop(uid, None)

    def watch(self, process: Process) -> list[Decision]:
        """Schedule a check for the time at which the worker hangs unless it sends a heartbeat before."""
        timeout = self._crew.roles[process.slot.role].plan.hang_timeout
        if timeout is None:
            return []
        self._watched[process.uid] = when = process.beaten_at + max(timeout, process.beat.allowed) + BEAT
        return [WakeAt(when)]

    # --------------------------------------------------------------------------------------------- internals

    def _hint(self, process: Process) -> list[Decision]:
        """Tell the user, once, what to do if the module blocks in one place for seconds, perhaps forever."""
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
        text = f"{process.name} is not ready: its module is blocked at {where} and listens on no port there."
        return [Tell(f"{text} If that line never returns, call mob.ready() before it.{limit}")]

    def _look(self, process: Process, now: float) -> list[Decision]:
        """Check a worker. If the Kingpin itself was suspended (Ctrl-Z), let it read the waiting heartbeats first."""
        if now - self._watched[process.uid] > OVERSLEPT:
            self._watched[process.uid] = now + BEAT
            return [WakeAt(now + BEAT)]
        if process.state is not MobsterState.READY:  # it is ending; its deadline limits that
            del self._watched[process.uid]
            return []
        if self._debugging.is_excused(process.uid):
            self._watched[process.uid] = now + BEAT
            return [WakeAt(now + BEAT)]
        return self._check_hang(process, now) or self.watch(process)

    def _check_suspended(self, process: Process, now: float) -> list[Decision]:
        """Handle a sign of life of a booting worker after a silence: extend its boot time by the silence."""
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
        """Return the time by which it has to be ready."""
        return process.launched + timeout + self._debugging.time_spent(process.uid) + process.still

    def _end_late(self, process: Process, now: float) -> list[Decision]:
        """Handle a worker that is late: kill it, or give it its boot time once more if it or the Kingpin was suspended.

        In the second case its next heartbeat shows how much of the delay is its own.
        """
        timeout = self._crew.roles[process.slot.role].plan.boot_timeout or 0.0
        has_overslept = now - self._due(process, timeout) > OVERSLEPT and process.uid not in self._reprieved
        is_stopped = process.pid > 0 and self._is_stopped(process.pid)
        if not has_overslept and not is_stopped:
            where = process.beat.blocked
            hint = f"; its module was at {where} and had not called mob.ready()" if where else ""
            return self._end(process, f"was not ready within {timeout:g} s (boot_timeout){hint}", now)
        self._reprieved[process.uid] = until = now + timeout
        wake = f"`kill -CONT {process.pid}` resumes it"
        text = f"{process.name} is stopped (SIGSTOP or a debugger), which does not count as boot time; {wake}."
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
        limit = max(timeout, process.beat.allowed)
        at_large = now - self._debugging.excused_until(process.uid)
        silent, stuck = min(now - process.beaten_at, at_large), min(process.beat.stuck, at_large)
        if stuck >= limit:
            why = f"hangs: event loop blocked for {stuck:.1f} s (hang_timeout={timeout:g})"
            return self._end(process, why, now)
        if silent + EARLY >= limit + BEAT:
            return self._end(process, f"hangs: no heartbeat for {silent:.1f} s (hang_timeout={timeout:g})", now)
        return []

    def _end(self, process: Process, why: str, now: float) -> list[Decision]:
        process.why_killed = why
        self._inspected[process.uid] = now + INSPECTION
        return [Tell(f"{process.name} {why}; killing it.", "hang"), DumpStacks(process.uid), WakeAt(now + INSPECTION)]

    def _check_wear(self, process: Process, now: float) -> list[Decision]:
        slot = process.slot
        if slot.uid != process.uid or process.state not in (MobsterState.READY, MobsterState.SPARE) or process.killed:
            return []
        if self._debugging.is_excused(process.uid):
            return []
        plan, quota = self._crew.roles[slot.role].plan, process.quota
        if plan.max_calls is not None and process.beat.calls >= plan.max_calls * quota:
            return self._rollout.recycle(
                slot, f"served {process.beat.calls:,} calls (max_calls={plan.max_calls} +- 10 %)", now
            )
        if plan.max_age is not None and now - process.launched >= plan.max_age * quota:
            return self._rollout.recycle(
                slot, f"is {now - process.launched:,.0f} s old (max_age={plan.max_age:g} +- 10 %)", now
            )
        if plan.max_memory is not None and process.beat.memory >= plan.max_memory * quota:
            size, limit = (each / 1024 / 1024 for each in (process.beat.memory, plan.max_memory))
            return self._rollout.recycle(slot, f"grew to {size:,.0f} MiB (max_memory={limit:,.0f} MiB +- 10 %)", now)
        return []
