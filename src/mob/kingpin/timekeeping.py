"""The timers of the roles: carries out what `core.timers` decides. Made when the first worker declares a timer.

The Kingpin keeps the time once for each role: it sleeps until the alarm rings (`rim.alarm`), asks for a worker that has
room, has it run the timer, and receives the outcome. It never sees the function. In a cluster, timers that run once for
all machines are run by the machine that holds the lease for the role's timers.
"""

from __future__ import annotations

import importlib
import random
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Protocol

import msgspec

from mob.core import decisions as d
from mob.core.decisions import Decision
from mob.core.lease import LeaseWish
from mob.core.states import MobsterState, SlotState
from mob.core.supervisor import Supervisor
from mob.core.timer_state import Instant, TimerState
from mob.core.timer_workers import AskForRoom, BeginTimerRun, NoTimerRun, ReadyWorker
from mob.core.timers import ELSEWHERE, CronTimes, TimerDecision, Timers
from mob.kingpin.connections import Connection, Connections
from mob.rim.alarm import Alarm, instant
from mob.rim.board import Board
from mob.rim.reactor import Reactor
from mob.wire import messages as m

TOLD_APART = 1.0
"""Minimum seconds between two reports to other machines about the timers of one role."""
SAME = 0.01
"""Seconds by which a time must differ to be reported again: clocks run at slightly different speeds."""
COMING = (SlotState.FILLED, SlotState.WAITING)
"""States of a slot that has a worker or will have one."""


class TimerLeases(Protocol):
    """The leases of this machine, as far as timers need them."""

    def add_timers(self, role: str, wish: Callable[[], LeaseWish], on_news: Callable[[str], None]) -> bool:
        """Seek the lease of a role's timers from now on; return True if this machine already holds it."""
        ...


class TimerHost(Protocol):
    """The Kingpin, as far as timers need it."""

    @property
    def supervisor(self) -> Supervisor:
        """The decision core of the app."""
        ...

    @property
    def connections(self) -> Connections:
        """The connections to members on this machine."""
        ...

    @property
    def reactor(self) -> Reactor:
        """The Kingpin's loop."""
        ...

    @property
    def board(self) -> Board:
        """The board of loads."""
        ...

    def carry_out(self, decisions: list[Decision]) -> None:
        """Carry out decisions in order."""
        ...


class Timekeeper:
    """The timers of this app, on this machine."""

    def __init__(self, around: TimerHost, leases: TimerLeases | None, left: bytes = b"") -> None:
        self._around = around
        self._leases = leases
        state = None if not left else msgspec.msgpack.decode(left, type=TimerState)
        self._timers = Timers(random.random, _times_of, state)
        self._leased: set[str] = set()  # roles whose lease this machine seeks
        self._told: dict[
            str, tuple[float, dict[str, float]]
        ] = {}  # the last report to other machines on a role: when, what
        self._will_tell = False
        self._alarm = Alarm(around.reactor, self._look)
        self._will_look = False
        for role in dict.fromkeys(each.role for each in self._timers.state.timers):
            self._seek_lease(role)
        self._look_soon()

    def __repr__(self) -> str:
        return f"<Timekeeper of {self._timers}, {self._alarm}>"

    def state(self) -> bytes:
        """Return the state for the next program."""
        return msgspec.msgpack.encode(self._timers.state)

    def close(self) -> None:
        """Cancel the alarm."""
        self._alarm.close()

    def rows(self) -> tuple[m.TimerMetrics, ...]:
        """Return the metrics of each timer, in the order of the roles."""
        order = {name: at for at, name in enumerate(self._around.supervisor.crew.roles)}
        rows = self._timers.rows(instant())
        return tuple(sorted(rows, key=lambda row: order.get(row.role, len(order))))

    # ------------------------------------------------------------------------------------------------- events

    def handle(self, connection: Connection, message: m.TimersAre | m.TimerRan | m.RoomForRun | m.RunTimer) -> None:
        """Handle a message of a mobster or client about timers."""
        uid, now = connection.uid, instant()
        process = self._around.supervisor.processes.get(uid)
        match message:
            case m.TimersAre(timers=timers):
                if process is not None:
                    self._timers.handle_declared(uid, process.slot.role, timers, now)
                    self._seek_lease(process.slot.role)
                    self._look_soon()
            case m.TimerRan(number=number, error=error, took=took):
                self._carry_out(self._timers.handle_ran(uid, number, error, took, now))
                self._look_soon()
            case m.RoomForRun(name=name):
                self._carry_out(self._timers.handle_room(uid, name, now, self._ready))
                self._look_soon()
            case m.RunTimer(id=number, role=role, name=name):
                self._carry_out(self._timers.handle_wish(role, name, (uid, number), now, self._ready))
                self._look_soon()

    def note(self, decisions: Iterable[Decision]) -> None:
        """Take note of decisions about workers."""
        found: list[TimerDecision] = []
        for decision in decisions:
            match decision:
                case d.Announce(m.MemberGone(uid=uid, why=why)):
                    found += self._timers.handle_gone(uid, why, instant())
                    self._look_soon()
                case d.Announce(m.MemberIs(member=member)) if member.uid in self._around.supervisor.processes:
                    if member.state == MobsterState.READY:
                        self._timers.handle_ready(member.uid, member.role, instant())
                    self._look_soon()
                case d.Announce(m.NodeIs()):
                    self._told.clear()  # a new machine has received no report yet
                    self._look_soon()
                case _:
                    pass
        self._carry_out(found)

    def _look_soon(self) -> None:
        """Look at the timers once everything that changed is carried out."""
        if not self._will_look:
            self._will_look = True
            self._around.reactor.call(self._look)

    def _look(self) -> None:
        """Begin the runs that are due, and sleep until the next ones."""
        self._will_look = False
        now = instant()
        decisions = self._timers.handle_wake(now, self._ready)
        if self._leased:
            self._tell_others(now)
        self._carry_out(decisions)
        self._alarm.set(self._timers.next_wake(now), now)

    def _ready(self, role: str) -> Sequence[ReadyWorker]:
        """Return the workers of a role that can be given a run."""
        around = self._around
        if around.supervisor.stopping or role not in around.supervisor.crew.roles:
            return ()
        ready = [each.uid for each in around.supervisor.crew.processes_of(role) if each.state is MobsterState.READY]
        return [ReadyWorker(uid, around.board.queued(uid), around.board.all_in_hand(uid)) for uid in ready]

    def _carry_out(self, decisions: list[TimerDecision]) -> None:
        for decision in decisions:
            match decision:
                case BeginTimerRun(uid=uid, number=number, name=name):
                    self._post(uid, m.BeginRun(number, name))
                case AskForRoom(uid=uid, name=name):
                    self._post(uid, m.RunWaits(name))
                case NoTimerRun(uid=uid, name=name):
                    self._post(uid, m.NoRun(name))
                case _:
                    self._around.carry_out([decision])

    def _post(self, uid: int, message: m.Down) -> None:
        if (connection := self._around.connections.get(uid)) is not None:
            connection.link.post(message)

    # ------------------------------------------------------------------------------------------------ the lease

    def _seek_lease(self, role: str) -> None:
        """Seek the lease of a role's timers, if this app is in a cluster.

        The timers of a singleton run where the singleton's own lease is.
        """
        is_alone = self._leases is None or role in self._around.supervisor.crew.leases
        if is_alone or role in self._leased or not self._timers.needs_lease(role):
            return
        assert self._leases is not None
        self._leased.add(role)
        if not self._leases.add_timers(role, partial(self._wish, role), partial(self._handle_lease, role)):
            self._timers.handle_elsewhere(role, ELSEWHERE, instant())

    def _wish(self, role: str) -> LeaseWish:
        """Return what this machine wishes for the lease of a role's timers."""
        supervisor = self._around.supervisor
        if self._timers.is_running(role):
            return LeaseWish.KEEP
        if supervisor.stopping or not self._timers.needs_lease(role):
            return LeaseWish.NONE
        if self._ready(role):
            return LeaseWish.TAKE
        is_coming = any(slot.revival.failures <= 1 for slot in supervisor.crew.slots_of(role) if slot.state in COMING)
        return LeaseWish.KEEP if is_coming else LeaseWish.NONE

    def _handle_lease(self, role: str, why: str) -> None:
        """Handle news of a lease: this machine now holds it (`why` is empty), or does not, and why."""
        was_here = role not in self._timers.elsewhere
        if was_here and why:
            self._tell_others(instant(), has_time=False)
        self._timers.handle_elsewhere(role, why, instant())
        self._told.pop(role, None)
        if was_here and why:
            more = " A run in progress finishes here." if self._timers.is_running(role) else ""
            self._around.carry_out([d.Tell(f"this machine no longer runs the timers of {role!r}: {why}.{more}")])
        elif not was_here and not why:
            self._around.carry_out([d.Tell(f"this machine now runs the timers of {role!r}: it holds their lease.")])
        self._look_soon()

    def hear(self, words: m.TimersAt) -> None:
        """Note the progress of the machine that runs the timers of a role."""
        self._timers.handle_heard(words.role, words.times)

    def _tell_others(self, now: Instant, has_time: bool = True) -> None:
        """Report progress to the other machines, so that one that takes over skips and repeats nothing."""
        self._will_tell = False
        for role in self._leased - self._timers.elsewhere.keys():
            told_at, told = self._told.get(role, (-TOLD_APART, {}))
            times = self._timers.times_of_role(role, now)
            if all(abs(times.get(name, 0.0) - told.get(name, 0.0)) < SAME for name in times.keys() | told.keys()):
                continue
            if now.awake >= told_at + TOLD_APART or not has_time:
                self._told[role] = now.awake, times
                self._around.carry_out([d.Write(0, m.TimersAt(role, times))])
            elif not self._will_tell:
                self._will_tell = True
                self._around.reactor.call_at(told_at + TOLD_APART, lambda: self._tell_others(instant()))


def _times_of(info: m.TimerInfo) -> CronTimes:
    schedules: Any = importlib.import_module("mob.schedules")  # it needs cronsim
    times: CronTimes = schedules.CronSchedule(info.line, info.zone)
    return times
