"""What is promised of the supervisor's decisions, checked by an account of its own.

* A slot gets a process when it has none, or one beside a ready one that it replaces; not before the pause is over that
  its deaths have earned, and never more often than the role's `intensity` allows.
* A spare that has booted gets the place of one that died, as far as `intensity` allows.
* A worker that is not too many is asked to end only if another has its place, ready.
* No two ready workers have one index, whenever anybody can look.
* A launch that could not be made, because the system had nothing left for it, is tried again soon.
* In a stop the roles are asked in reverse order of their start, nothing is launched, and the end comes when all are
  gone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from typing import NamedTuple

from mob.core import decisions as d
from mob.core.crew import Slot
from mob.core.decisions import Decision
from mob.core.revival import SHORTAGE_PAUSE
from mob.core.states import MobsterState, SlotState
from mob.core.supervisor import Supervisor
from mob.plan import in_order_of_need
from mob.wire import messages as m
from tests.core.world import pause_after
from tests.simulation.clock import Clock, claim

TOO_EARLY = 0.0051
AGAIN = SHORTAGE_PAUSE + 2.0
"""Seconds in which a launch that could not be made is tried again; a timer may ring a second late."""


class Life:
    """A process, as far as decisions are judged by it."""

    __slots__ = ("asked", "index", "launched", "ready_at", "role", "told")

    def __init__(self, role: str, index: int, launched: float) -> None:
        self.role = role
        self.index = index
        self.launched = launched
        self.ready_at: float | None = None
        self.asked = False
        self.told = False


class Due(NamedTuple):
    """An empty slot."""

    when: float
    """When it may be filled."""
    died: float | None
    """When its last process has died, if that counts."""
    failures: int
    """How often it has failed in a row, if it is filled because of that."""


class Oracle:
    """The account."""

    def __init__(self, supervisor: Supervisor, clock: Clock) -> None:
        self._supervisor = supervisor
        self._clock = clock
        self._plans = {role.name: role for role in supervisor.plan.roles}
        self._order = [role.name for role in in_order_of_need(supervisor.plan.roles)]
        self._lives: dict[int, Life] = {}
        self._failures: dict[Slot, int] = {}  # a slot that is left and comes again begins anew
        self._due: dict[Slot, Due] = {}
        self._deaths: dict[str, deque[float]] = {role: deque(maxlen=100) for role in self._plans}
        self._missed: dict[tuple[str, int], float] = {}  # launches that could not be made, and when they are to follow
        self._has_news = False
        self.is_stopping = False

    def __repr__(self) -> str:
        return f"<Oracle of {len(self._lives)} lives>"

    # what happens

    def handle_ready(self, uid: int) -> None:
        """A worker says that it is ready."""
        life = self._lives[uid]
        if not (life.asked or life.told) and life.ready_at is None:
            life.ready_at = self._clock.now

    def handle_told(self, uid: int) -> None:
        """Somebody else has told it to end."""
        if uid in self._lives:
            self._lives[uid].told = True

    def handle_reload(self) -> None:
        """A reload may fill any slot, now or later."""
        self._forgive()

    def handle_stop(self) -> None:
        """The end has been asked for."""
        self.is_stopping = True

    def handle_upgrade(self, supervisor: Supervisor) -> None:
        """Another supervisor goes on. How often a role was revived lately is not handed on."""
        successors = {
            slot: supervisor.slots[key] for key, slot in self._supervisor.slots.items() if key in supervisor.slots
        }
        self._failures = {successors[slot]: n for slot, n in self._failures.items() if slot in successors}
        self._due = {successors[slot]: due._replace(died=None) for slot, due in self._due.items() if slot in successors}
        for deaths in self._deaths.values():
            deaths.clear()
        self._supervisor = supervisor

    def handle_not_launched(self, uid: int) -> None:
        """A launch that could not be made: it is no failure, and the next attempt follows soon."""
        life = self._lives.pop(uid, None)
        slot = None if life is None else self._supervisor.slots.get((life.role, life.index))
        if life is None or slot is None or slot.uid != uid or slot.successor:
            return
        if not life.asked and not self._supervisor.rollout.is_reloading:
            self._missed[life.role, life.index] = self._clock.now + AGAIN
        self._due[slot] = Due(self._clock.now, None, self._failures.get(slot, 0))

    def check_launches(self, stood_still: float) -> None:
        """What could not be launched was tried again by now, unless it is not wanted any more."""
        supervisor, now = self._supervisor, self._clock.now
        for (role, index), when in list(self._missed.items()):
            slot = supervisor.slots.get((role, index))
            is_wanted = slot is not None and not slot.uid and slot.state not in (SlotState.HELD, SlotState.LEAVING)
            if supervisor.stopping or supervisor.rollout.is_reloading or not is_wanted:
                del self._missed[role, index]
            else:
                claim(now < when + stood_still, "a launch that could not be made is tried again", role, index)

    def handle_fork_server_gone(self, held: Collection[int] = ()) -> None:
        """Launches are lost but for those that are held for the next one; their successors follow by the rules."""
        for process in list(self._supervisor.processes.values()):
            if process.pid == 0 and process.uid not in held:
                self.handle_exited(process.uid)
        if (
            self._supervisor.plan.strategy != "one_for_one"
        ):  # one may be asked to go because of another, before its turn
            self._forgive()

    def handle_exited(self, uid: int) -> None:
        """A process has ended: what may follow, and when."""
        life = self._lives.pop(uid, None)
        slot, now = None if life is None else self._supervisor.slots.get((life.role, life.index)), self._clock.now
        if life is None or slot is None or slot.uid != uid or slot.successor:
            return  # it was not the one that counts, or another is on its way already
        failures, pause = pause_after(
            self._failures.get(slot, 0),
            life.ready_at is not None,
            0.0 if life.ready_at is None else now - life.ready_at,
            life.told or life.asked,
        )
        has_crashed = not (life.told or life.asked)
        self._due[slot] = Due(now + 0.9 * pause - TOO_EARLY, now if has_crashed else None, failures)

    # what is decided

    def see(self, decision: Decision) -> None:
        """Judges a decision."""
        match decision:
            case d.Launch():
                self._see_launch(decision)
            case d.Promote():
                self._see_promote(decision)
            case d.Retire(uid=uid):
                self._see_ask(uid)
            case d.Announce(m.MemberIs(member=member)):
                self._has_news |= member.state == MobsterState.READY
            case d.Announce(m.MemberGone(uid=uid)) if self._supervisor.stopping:
                self._lives.pop(uid, None)  # perhaps one that was never born
            case d.Finish():
                claim(not self._supervisor.processes, "the end comes when all are gone")
            case _:
                pass

    def _see_launch(self, launch: d.Launch) -> None:
        role, slot = launch.role, (launch.role, launch.index)
        self._missed.pop(slot, None)
        claim(not self.is_stopping, "nothing is launched while the app stops", launch)
        others = [life for life in self._lives.values() if (life.role, life.index) == slot and not life.asked]
        claim(len(others) < 2, "no more than two processes for a slot", launch)
        self._lives[launch.uid] = Life(role, launch.index, self._clock.now)
        if self._supervisor.rollout.is_reloading:
            self._forgive()
        due = self._due.pop(self._supervisor.slots[slot], None)
        if due is None or others:
            return
        if launch.index < 0:
            return  # a spare may have to wait for a worker of its role, which has its own pauses
        self._failures[self._supervisor.slots[slot]] = due.failures
        claim(self._clock.now >= due.when, "restart limits are kept: the pause", launch, due.when)
        self._count(role, due, launch)

    def _see_promote(self, promote: d.Promote) -> None:
        role, life = promote.role, self._lives[promote.uid]
        claim(not self.is_stopping, "nobody is promoted while the app stops", promote)
        claim(life.index < 0 <= promote.index, "a spare gets a place", promote)
        claim(life.ready_at is not None and not life.asked, "a spare is promoted that has booted", promote)
        others = [each for each in self._lives.values() if (each.role, each.index) == (role, promote.index)]
        claim(all(each.asked for each in others), "the place is empty", promote)
        life.index, life.ready_at = promote.index, self._clock.now
        slot = self._supervisor.slots[role, promote.index]
        if (due := self._due.pop(slot, None)) is not None:
            self._failures[slot] = due.failures
            self._count(role, due, promote)

    def _count(self, role: str, due: Due, decision: Decision) -> None:
        """A place is filled again: how often does that happen?"""
        plan, deaths, died = self._plans[role], self._deaths[role], due.died
        if plan.intensity is not None and died is not None:
            deaths.append(died)
            revived = [when for when in deaths if died - plan.period < when <= died]
            claim(len(revived) <= plan.intensity, "restart limits are kept: the intensity", decision)

    def _see_ask(self, uid: int) -> None:
        life = self._lives.get(uid)
        if life is None:
            return  # it was lost with the fork server just now
        claim(not life.asked, "nobody is asked twice to end", uid)
        life.asked = True
        if self.is_stopping or self._supervisor.stopping:  # it stops by itself where a one-shot role has failed
            later = self._order[self._order.index(life.role) + 1 :]
            claim(
                not [each for each in self._lives.values() if each.role in later],
                "roles are stopped in reverse order",
                life.role,
            )
        elif self._supervisor.plan.strategy == "one_for_one":
            is_surplus = life.index < 0 or life.index >= self._supervisor.crew.roles[life.role].target
            claim(is_surplus or self._has_ready(life), "a worker is replaced by one that is ready", life.role, uid)

    def _has_ready(self, life: Life) -> bool:
        return any(
            other is not life
            and (other.role, other.index) == (life.role, life.index)
            and other.ready_at is not None
            and not other.asked
            for other in self._lives.values()
        )

    def check_roster(self) -> None:
        """After a turn of the Kingpin: who is ready."""
        if not self._has_news:
            return
        self._has_news = False
        ready = [(member.role, member.index) for member in self._supervisor.roster.ready()]
        claim(len(ready) == len(set(ready)), "no two ready workers have one index", ready)

    def _forgive(self) -> None:
        self._due.clear()
        for deaths in self._deaths.values():
            deaths.clear()
