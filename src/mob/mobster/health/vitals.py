"""What a mobster reports without being asked by a call: its state, and its stacks when it is blocked.

The liveness thread collects all of it, whatever the loop does. To see whether the loop is blocked, each heartbeat gives
it a function to call; the time until it has done so is how long it has been blocked.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Callable
from time import monotonic, process_time
from typing import TYPE_CHECKING, Any, Protocol

from mob.mobster.debugger import debugging
from mob.peer.serving.measure.tallies import MOST_TALLIES
from mob.rim.places import PACKAGE
from mob.rim.processes import ResidentMemory
from mob.wire import messages as m

if TYPE_CHECKING:
    from mob.peer.peer import Peer

FRAMES, AWAITED = ("cr_frame", "gi_frame", "ag_frame"), ("cr_await", "gi_yieldfrom", "ag_await")
DEEPEST = 50
"""Maximum number of frames of a task that are shown."""
REST = 2.9
"""Seconds between two heartbeats of an idle process: every third second, whenever the thread wakes in it."""
MOST_TASKS = 100
"""Maximum number of tasks whose stacks are shown."""


class ServedRequests(Protocol):
    """Numbers of HTTP requests of a role that serves an application; any thread may read them."""

    open: int
    answered: Counter[str]

    @property
    def ended(self) -> int:
        """Number of requests that have ended."""
        ...

    @property
    def waiting(self) -> int:
        """Number of open requests that have not started."""
        ...


class Vitals:
    """The state of one process, for heartbeats."""

    def __init__(
        self,
        peer: Peer,
        may_rest: bool = False,
        count_connections: Callable[[], dict[str, int]] = dict[str, int],
    ) -> None:
        self._peer = peer
        self._context = peer.context
        self._may_rest = may_rest
        self._said_at = -REST  # time of the last heartbeat
        self._was_idle = False
        self._served = 0  # number of calls by then
        self._lag = 0.0  # seconds after which the loop responded last time
        self._count_connections = count_connections
        self._counted: dict[str, int] = {}
        self._asked_at = 0.0  # when the loop was asked to respond; 0 if it has
        self.blocked = ""
        """Where the module of the role has been for some time without being ready; "" if it is ready."""
        self._said_blocked = ""
        self._debugged_at = 0.0  # when a debugger was last seen stopping the loop
        self._requested = 0  # number of HTTP requests that had ended at the last heartbeat
        self.requests: ServedRequests | None = None
        """The HTTP requests of a role that serves an application; None for other roles."""
        self._memory = ResidentMemory()

    def __repr__(self) -> str:
        return f"<Vitals of {self._context.name}>"

    def close(self) -> None:
        """Close the file that reports memory; there are no more heartbeats."""
        self._memory.close()

    def next_beat(self) -> m.Beat | None:
        """Return the heartbeat of this second; None if there is nothing to report.

        A process that is idle and has reported that repeats it only every third second, if it may: sixteen idle
        processes then take 0.3 % of a core instead of 0.7 %.
        """
        now, serving = monotonic(), self._peer.serving
        has_work = serving.in_hand or serving.running.on_loop_since or serving.answers.served != self._served
        has_work = has_work or self._peer.contacts.routes.overdue(now) or self._lasting(now)
        requests = self.requests
        if requests is not None:
            has_work = has_work or requests.open or requests.ended != self._requested
            self._requested = requests.ended
        meters = self._peer.meters
        has_news = has_work or self.blocked != self._said_blocked or (meters is not None and meters.has_news)
        self._said_blocked = self.blocked
        is_idle = not (has_news or self._asked_at)
        if self._may_rest and is_idle and self._was_idle and now < self._said_at + REST:
            return None
        self._said_at, self._was_idle, self._served = now, is_idle, serving.answers.served
        return self.beat()

    def beat(self) -> m.Beat:
        """Return the state at this moment."""
        peer, now = self._peer, monotonic()
        stuck = 0.0
        if self._asked_at:
            stuck = now - self._asked_at
            if debugging.is_stopped(peer.context.reactor.thread):
                self._debugged_at = now
        else:
            self._asked_at = now
            peer.context.reactor.call(self._come_round)
        serving, requests = peer.serving, self.requests
        on_loop = bool(serving.running.on_loop_since)
        open_requests, waiting_requests = (0, 0) if requests is None else (requests.open, requests.waiting)
        parked = peer.contacts.routes.overdue(now)
        return m.Beat(
            calls=serving.answers.served,
            shared=peer.references.shared,
            memory=self._memory.read(),
            stuck=min(stuck, now - self._debugged_at),
            allowed=serving.running.allowed() if stuck else 0.0,
            in_hand=serving.in_hand + on_loop + open_requests,
            parked=parked,
            running=(*serving.running.report(now), *self._lasting(now)),
            waiting=waiting_requests + (serving.waiting if not stuck else serving.in_hand),
            cpu=process_time(),
            lag=max(self._lag, stuck),
            connections=self._connections(),
            parked_bytes={role: peer.contacts.routes.size(role) for role in parked},
            open_requests=open_requests,
            requests={} if requests is None else dict(requests.answered),
            blocked=self.blocked,
            **self._tallies(),
        )

    def counted(self) -> m.Counted | None:
        """Return what the application has counted in its own metrics since the last report, or None."""
        meters = self._peer.meters
        return None if meters is None else meters.take()

    def _lasting(self, now: float) -> list[m.Running]:
        """Return long-running work that is not a call: a handler, and cancelled tasks."""
        serving = self._peer.serving
        blocking, cancelled = self._peer.handlers.blocking(now), serving.cancelling.lasting(now)
        if cancelled:
            calls = set(serving.tasks.values())
            blocking += [
                m.Running(f"{who}, cancelled,", since, "the loop")
                for task, who, since in cancelled
                if task not in calls
            ]
        return blocking

    def _connections(self) -> dict[str, int]:
        """Return the number of connections, or the last one if there is no descriptor for a new count."""
        with contextlib.suppress(OSError):
            self._counted = self._count_connections()
        return self._counted

    def _tallies(self) -> dict[str, Any]:
        tallies = self._peer.serving.tallies
        if tallies is None:
            return {}
        return {
            "tallies": tallies.take(),
            "unserved": tallies.take_unserved(),
            "traffic": tallies.take_traffic(self._peer.contacts),
            "flight": self._flight(),
        }

    def _flight(self) -> dict[str, int]:
        """Return the number of calls that have started and not ended, by export, whatever the loop does meanwhile."""
        serving = self._peer.serving
        behind = 0 if serving.threads is None else max(0, serving.threads.behind - 1)
        counts = serving.running.begun(behind)
        counts.update(stream.export for stream in list(serving.streams.values()) if stream.export)
        return dict(counts.most_common(MOST_TALLIES))

    def _come_round(self) -> None:
        reactor = self._context.reactor
        if reactor.is_stood_in:  # the loop's own thread has not responded
            reactor.stand_in.leave(self._come_round)
            return
        self._lag = monotonic() - self._asked_at
        self._asked_at = 0.0

    def stacks(self) -> str:
        """Return the stacks of all threads and tasks."""
        parts: list[str] = []
        running = self._peer.serving.running.report(monotonic())
        parts += [f"serving {call.label} for {call.seconds:.1f} s, from {call.caller}" for call in running]
        names = {thread.ident: thread.name for thread in threading.enumerate()}
        for ident, frame in sys._current_frames().items():  # pyright: ignore[reportPrivateUsage]  the documented way
            if ident != threading.get_ident():
                parts.append(f"thread {names.get(ident, ident)}:")
                parts += _lines(_relevant(traceback.extract_stack(frame)))
        try:
            tasks = list(asyncio.all_tasks(self._context.reactor.loop))
        except RuntimeError:  # they changed during the iteration
            tasks = []
        for task in tasks[:MOST_TASKS]:
            parts.append(f"task {task.get_name()}, {getattr(task.get_coro(), '__qualname__', task.get_coro())}:")
            parts += _lines(_stack_of(task))
        if len(tasks) > MOST_TASKS:
            parts.append(f"and {len(tasks) - MOST_TASKS:,} more tasks")
        return "\n".join(parts)


def _relevant(stack: traceback.StackSummary) -> traceback.StackSummary:
    """Return a stack without mob's own outer frames, which every stack has; all of it if there are no others."""
    for at, entry in enumerate(stack):
        if not entry.filename.startswith((PACKAGE, "<")):
            return traceback.StackSummary.from_list(stack[at:])
    return stack


def _stack_of(task: asyncio.Task[Any]) -> traceback.StackSummary:
    """Return the stack of a task along its chain of awaits; `Task.get_stack` shows only the first frame."""
    stack = traceback.StackSummary()
    waiting: Any = task.get_coro()
    for _ in range(DEEPEST):
        frame = next((frame for name in FRAMES if (frame := getattr(waiting, name, None)) is not None), None)
        if frame is None:
            break
        stack.extend(traceback.extract_stack(frame, limit=1))
        waiting = next((after for name in AWAITED if (after := getattr(waiting, name, None)) is not None), None)
    return stack


def _lines(stack: traceback.StackSummary) -> list[str]:
    return [line.rstrip("\n") for entry in traceback.format_list(stack) for line in entry.splitlines()]
