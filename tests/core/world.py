"""A fake world around the supervisor: mobsters, timers and a terminal.

`World` carries out decisions as the Kingpin does, by the rules that hold in a real one (a process without a pid cannot
be killed, a timer may fire a moment early), and fails on wrong decisions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgspec

from mob.core import decisions as d
from mob.core.crew import EARLY
from mob.core.decisions import Decision, Launch
from mob.core.supervisor import Supervisor
from mob.plan import Plan, RolePlan
from mob.wire import messages as m
from mob.wire.messages import ExportInfo, RoleInfo

GRACE = 30.0
FOO = (ExportInfo("foo", "()", ""),)
KILLED = "was killed by SIGKILL"
RING_EARLY = 0.0015
"""Seconds by which timers may fire too early: more than was observed in a real loop."""


def plan(*roles: str, grace: float = GRACE, options: dict[str, Any] | None = None, **more: Any) -> Plan:
    """Return a plan of roles such as "back*2"; the first of them has the options."""
    parts = [role.partition("*") for role in roles]
    plans = [RolePlan(name, name, int(count or 1)) for name, _, count in parts]
    plans[0] = msgspec.structs.replace(plans[0], **(options or {}))
    return Plan("app", "/", tuple(plans), grace=grace, **more)


def info(role: str, failing: str = "", workers: int = 1) -> RoleInfo:
    return RoleInfo(role, FOO, True, failing, workers)


def pause_after(failures: int, was_ready: bool, lived: float, was_told: bool) -> tuple[int, float]:
    """Return how often a slot has failed in a row after one more end, and the pause that follows."""
    if was_ready and lived >= 30:
        failures = 0
    if was_told:
        return failures, 0.0
    growths = failures - was_ready
    return failures + 1, 0.0 if growths < 0 else min(15.0, 0.1 * 1.5**growths)


@dataclass
class Fake:
    """A mobster in the world."""

    uid: int
    role: str
    index: int
    launched: float
    pid: int = 0  # as the Kingpin knows it
    is_forked: bool = False  # the fork server reported it
    ready_at: float | None = None
    was_told: bool = False  # by another process, to end
    asked_grace: float | None = None  # by the Kingpin
    must_go_by: float | None = None
    is_killed: bool = False

    @property
    def slot(self) -> tuple[str, int]:
        return self.role, self.index


def changes(kind: type[Any], decisions: Iterable[Decision]) -> list[Any]:
    """Return the announced changes of a kind."""
    return [each.change for each in decisions if isinstance(each, d.Announce) and isinstance(each.change, kind)]


class World:
    """Mobsters, timers and a terminal around a supervisor."""

    def __init__(self, app: Plan) -> None:
        self.supervisor = Supervisor(app)
        self.pools = {role.name for role in app.roles if role.pool}
        self.roles = [role.name for role in app.roles]
        self.now = 1000.0
        self.mobsters: dict[int, Fake] = {}
        self.clients: set[int] = set()
        self.timers: list[float] = []
        self.told: list[str] = []
        self.answers: list[d.Answer] = []
        self.inspected: list[int] = []
        self.failing: dict[str, str] = {}
        self.linked: set[tuple[int, int]] = set()
        self.launches: Counter[tuple[str, int]] = Counter()
        self.exits: Counter[tuple[str, int]] = Counter()
        self.failures: Counter[tuple[str, int]] = Counter()
        self.due: dict[tuple[str, int], float] = {}  # empty slots, and when they are to be filled
        self.stopped_at: float | None = None
        self.statuses: list[int] = []

    def start(self) -> list[Decision]:
        return self.carry_out(self.supervisor.start(self.now))

    # what happens

    def forked(self, uid: int, pid: int | None = None) -> list[Decision]:
        mobster = self.mobsters[uid]
        mobster.is_forked = True
        mobster.pid = 100 + uid if pid is None else pid
        return self.carry_out(self.supervisor.handle_forked(uid, mobster.pid))

    def ready(self, uid: int) -> list[Decision]:
        mobster = self.mobsters[uid]
        mobster.pid = 100 + uid
        if not (mobster.was_told or mobster.asked_grace is not None) and mobster.ready_at is None:
            mobster.ready_at = self.now
        return self.carry_out(self.supervisor.handle_ready(uid, mobster.pid, FOO, True, self.now))

    def draining(self, uid: int) -> list[Decision]:
        mobster = self.mobsters[uid]
        mobster.was_told = True
        self._limit(mobster, self.now + self.supervisor.plan.grace)
        return self.carry_out(self.supervisor.handle_draining(uid, self.now))

    def boot_failed(self, uid: int, report: str) -> list[Decision]:
        return self.carry_out(self.supervisor.handle_boot_failed(uid, report))

    def exits_with(self, uid: int, why: str = KILLED) -> list[Decision]:
        return self.carry_out(self.supervisor.handle_exited(uid, why, self.now))

    def fork_server_gone(self) -> list[Decision]:
        for mobster in self.mobsters.values():
            mobster.is_forked = True  # no report will follow
        return self.carry_out(self.supervisor.handle_fork_server_gone(self.now))

    def stop(self) -> list[Decision]:
        if self.stopped_at is None:
            self.stopped_at = self.now
            self.due.clear()
            for mobster in self.mobsters.values():
                self._limit(mobster, self.now + self.supervisor.plan.grace)
        return self.carry_out(self.supervisor.handle_stop(self.now))

    def wake(self, early: float = 0.0) -> list[Decision]:
        """Let the next timer fire."""
        when = min(self.timers)
        self.timers.remove(when)
        self.now = max(self.now, when - early)
        return self.carry_out(self.supervisor.handle_wake(self.now))

    def pass_time(self, seconds: float, early: float = 0.0) -> None:
        """Let time pass; timers fire, killed processes exit."""
        until = self.now + seconds
        self.reap()
        while self.timers and min(self.timers) <= until:
            self.wake(early)
            self.reap()
        self.now = until

    def reap(self) -> None:
        while killed := [uid for uid, mobster in self.mobsters.items() if mobster.is_killed]:
            self.exits_with(killed[0])

    def _pause_after(self, mobster: Fake) -> float:
        slot, was_ready = mobster.slot, mobster.ready_at is not None
        lived = 0.0 if mobster.ready_at is None else self.now - mobster.ready_at
        is_no_failure = mobster.was_told or (was_ready and slot[0] in self.pools)
        self.failures[slot], pause = pause_after(self.failures[slot], was_ready, lived, is_no_failure)
        return pause

    def _forget(self, uid: int) -> None:
        self.linked = {pair for pair in self.linked if uid not in pair}
        self.clients.discard(uid)
        if mobster := self.mobsters.pop(uid, None):
            self.exits[mobster.slot] += 1
            pause = self._pause_after(mobster)
            is_filled = any(m.slot == mobster.slot and m.asked_grace is None for m in self.mobsters.values())
            if self.stopped_at is None and not is_filled:
                self.due[mobster.slot] = self.now + pause

    def _limit(self, mobster: Fake, deadline: float) -> None:
        mobster.must_go_by = min(deadline, mobster.must_go_by or deadline)

    # what is decided

    def carry_out(self, decisions: list[Decision]) -> list[Decision]:
        for decision in decisions:
            self._carry_out_one(decision)
        ready = Counter((member.role, member.index) for member in self.supervisor.roster.ready())
        assert all(count == 1 for count in ready.values()), "two ready workers have one index"
        return decisions

    def _carry_out_one(self, decision: Decision) -> None:
        match decision:
            case d.Launch():
                self._launch(decision)
            case d.Admit(uid=uid, members=members):
                assert uid in {member.uid for member in members}
            case d.Introduce(first=first, second=second):
                pair = (min(first, second), max(first, second))
                assert pair not in self.linked, "introduced twice"
                assert {*pair} <= self.mobsters.keys() | self.clients, "introduced to a member that is not there"
                self.linked.add(pair)
            case d.Promote():
                self._promote(decision)
            case d.Announce(m.RoleIs(role=role)):
                self.failing[role.name] = role.failing
            case d.Retire(uid=uid, grace=grace):
                self._ask(self.mobsters[uid], grace)
            case d.Kill(uid=uid):
                self.mobsters[uid].is_killed |= self.mobsters[uid].pid != 0
            case d.Tell(text=text):
                self.told.append(text)
            case d.WakeAt(when=when):
                self.timers.append(when)
            case d.Finish(status=status):
                assert not self.mobsters, "finished before all had exited"
                self.statuses.append(status)
            case d.Announce(m.MemberGone(uid=uid)):
                self._forget(uid)
            case d.DumpStacks(uid=uid):
                assert uid in self.mobsters
                self.inspected.append(uid)
            case d.Answer():
                self.answers.append(decision)
            case d.Announce(m.MemberIs()) | d.Record() | d.RenewForkServer() | d.LendTerminal() | d.TakeBackTerminal():
                pass

    def _launch(self, launch: Launch) -> None:
        slot = (launch.role, launch.index)
        assert self.stopped_at is None, "launched while stopping"
        others = [m for m in self.mobsters.values() if m.slot == slot and m.asked_grace is None]
        assert len(others) <= 1, "no place for another process"
        due = self.due.pop(slot, self.now)
        assert self.now >= due - EARLY or self.supervisor.rollout.is_reloading, "restarted too soon"
        self.launches[slot] += 1
        assert launch.generation == self.launches[slot]
        self.mobsters[launch.uid] = Fake(launch.uid, launch.role, launch.index, self.now)

    def _promote(self, promote: d.Promote) -> None:
        mobster, slot = self.mobsters[promote.uid], (promote.role, promote.index)
        assert self.stopped_at is None, "promoted while stopping"
        assert mobster.index < 0 <= promote.index
        assert mobster.ready_at is not None, "promoted before it had booted"
        assert mobster.asked_grace is None
        others = [m for m in self.mobsters.values() if m.slot == slot and m.asked_grace is None]
        assert len(others) <= 1, "no place for another process"  # the dead one is forgotten in a moment
        self.launches[slot] += 1
        assert promote.generation == self.launches[slot]
        mobster.index, mobster.ready_at = promote.index, None if self.serves(promote.role) else self.now

    def serves(self, role: str) -> bool:
        return self.supervisor.plan.role(role).serve is not None

    def _ask(self, mobster: Fake, grace: float) -> None:
        assert mobster.asked_grace is None, "asked twice"
        later = self.roles[self.roles.index(mobster.role) + 1 :] if self.stopped_at is not None else []
        assert not [other for other in self.mobsters.values() if other.role in later], "asked before a later role"
        mobster.asked_grace = grace
        self._limit(mobster, self.now + grace)


def started(*roles: str, grace: float = GRACE, ready: bool = True, app: Plan | None = None) -> World:
    """Return a world in which all mobsters are there, and ready."""
    world = World(app or plan(*roles, grace=grace))
    world.start()
    for uid in list(world.mobsters):
        world.forked(uid)
        if ready:
            world.ready(uid)
    return world
