"""The leases of this machine, of singletons and of timers: carries out what `core.lease` decides.

The timers of a role that is no singleton have a lease of their own, under a name that no role can have. It concerns
only the timers; no mobster runs by it.

Requests go to the store through a gateway. The supervisor learns what a lease means for its role. The mobster learns
until when the lease holds (`Prolong`, on its liveness link), because this Kingpin may be stopped or die: the mobster
then ends itself before another machine takes over.

Times here are by the clock of `rim.expiry`, which continues while the machine sleeps.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from time import monotonic
from typing import NamedTuple

from msgspec import structs

from mob.core.decisions import Decision
from mob.core.lease import Elsewhere, Extended, Lease, LeaseData, LeaseOutcome, LeaseWish, Won, Yielded
from mob.core.membership import Membership
from mob.kingpin.cluster.moves import Moves
from mob.kingpin.cluster.surroundings import Surroundings
from mob.rim import expiry
from mob.wire import messages as m

FURTHEST = 1.0
"""Maximum seconds between two looks at the clock.

Timers of the loop do not count the time that the machine sleeps, and leases do.
"""
SHORTEST = 0.002
"""Minimum seconds between two looks: the loop's timers count whole milliseconds, and may fire one too early."""


TIMERS = "timers/"
"""Prefix of a role's name in the name of the lease of its timers."""


class TimerLease(NamedTuple):
    """The lease of a role's timers, as the timekeeper sees it."""

    wish: Callable[[], LeaseWish]
    on_news: Callable[[str], None]
    """Called with "" when this machine has the lease, otherwise with the reason why it does not."""


class Leases:
    """The leases of this machine."""

    def __init__(
        self,
        around: Surroundings,
        membership: Membership,
        moves: Moves,
        ask_gateway: Callable[[m.Down], None],
        letter: Callable[[m.Words], bytes],
    ) -> None:
        self._around = around
        self._membership = membership
        self._moves = moves
        self._ask_gateway = ask_gateway
        self._letter = letter
        self._leases = {role: Lease(role, membership.number, membership.name) for role in around.supervisor.crew.leases}
        self._of_timers: dict[str, TimerLease] = {}
        self._left: dict[str, LeaseData] = {}  # of timers, from the previous Kingpin
        self._number = int(monotonic() * 1e6)  # greater than any that the previous Kingpin used
        self._timer: asyncio.TimerHandle | None = None
        self._will_look = False
        self.look_soon()

    def __repr__(self) -> str:
        return f"<Leases of {', '.join(self._leases) or 'nothing'}>"

    def until(self, role: str) -> float | None:
        """Return until when a mobster of the role may run; None, so forever, if it is no singleton."""
        lease = self._leases.get(role)
        return None if lease is None else lease.until

    def add_role(self, role: str) -> None:
        """Add a role of the plan that is a singleton."""
        self._leases[role] = Lease(role, self._membership.number, self._membership.name)
        self.look_soon()

    def add_timers(self, role: str, wish: Callable[[], LeaseWish], on_news: Callable[[str], None]) -> bool:
        """Seek the lease of a role's timers from now on, as `wish` says.

        Return True if this machine already has it because the previous Kingpin had.
        """
        name = TIMERS + role
        self._of_timers[name] = TimerLease(wish, on_news)
        self._leases[name] = lease = Lease(name, self._membership.number, self._membership.name)
        if (data := self._left.pop(name, None)) is not None:
            lease.adopt(data)
        self.look_soon()
        return data is not None

    def data(self) -> dict[str, LeaseData]:
        """Return the leases that are held, for the next Kingpin."""
        held = {role: data for role, lease in self._leases.items() if (data := lease.data()) is not None}
        fetching = {
            role: structs.replace(held[role], is_fetching=True) for role in held if self._moves.is_fetching(role)
        }
        return self._left | held | fetching

    def adopt(self, known: dict[str, LeaseData]) -> None:
        """Adopt the leases of the previous Kingpin.

        A singleton that runs without one ends: its role was no singleton until now.
        """
        supervisor = self._around.supervisor
        self._left = {name: data for name, data in known.items() if name.startswith(TIMERS)}
        for role, lease in self._leases.items():
            if (data := known.get(role)) is not None:
                lease.adopt(data)
                if data.is_fetching:
                    self._moves.handle_won(role, data.token, data.left)
                    continue
                leased = supervisor.crew.leases[role]
                leased.token, leased.left = data.token, data.left
            elif supervisor.crew.processes_of(role):
                self._around.carry_out(
                    supervisor.singletons.handle_lost(role, "it is a singleton now, and has no lease")
                )

    # ------------------------------------------------------------------------------------------------- events

    def look_soon(self) -> None:
        """Look at the leases once everything that was decided is carried out."""
        if self._leases and not self._will_look:
            self._will_look = True
            self._around.reactor.loop.call_soon(self._look_and_wait)

    def _look_and_wait(self) -> None:
        self._will_look = False
        self.look()
        if self._timer is not None:
            self._timer.cancel()
        now = expiry.now()
        left = min((lease.next_wake(self._wish(role)) for role, lease in self._leases.items()), default=math.inf) - now
        seconds = max(SHORTEST, min(left, FURTHEST))
        self._timer = self._around.reactor.loop.call_later(seconds, self.look_soon)

    def look(self) -> None:
        """Act on the time that passed and on what changed."""
        self._moves.look()
        for role, lease in self._leases.items():
            if lease.token and role not in self._of_timers and (left := self._moves.left_of(role)) != lease.left:
                lease.left = left
                lease.look_again()
            for member in self._around.supervisor.roster.of_role(role):
                lease.learn(member.token)
            self._carry_out(lease.handle_wake(self._wish(role), self._next_number(), expiry.now()))

    def _wish(self, role: str) -> LeaseWish:
        timers = self._of_timers.get(role)
        wish = self._around.supervisor.singletons.wish(role) if timers is None else timers.wish()
        return LeaseWish.KEEP if wish is LeaseWish.TAKE and self._membership.namesake_at is not None else wish

    def handle_answer(self, answer: m.LeaseIs) -> None:
        """Handle an answer of the store."""
        if (lease := self._leases.get(answer.role)) is not None:
            self._carry_out(lease.handle_answer(answer, expiry.now()))
            self.look()

    def handle_free(self, role: str) -> None:
        """Note that another machine gave back a lease."""
        if (lease := self._leases.get(role)) is not None:
            lease.look_again()
            self.look()

    def _next_number(self) -> int:
        self._number += 1
        return self._number

    def _carry_out(self, outcomes: list[LeaseOutcome]) -> None:
        supervisor = self._around.supervisor
        for outcome in outcomes:
            decisions: list[Decision] = []
            if (timers := self._of_timers.get(getattr(outcome, "role", ""))) is not None:
                self._tell_timers(timers, outcome)
            match outcome:
                case Won() | Extended() | Yielded() | Elsewhere() if timers is not None:
                    pass
                case Won(role=role, token=token, left=left):
                    self._moves.handle_won(role, token, left)
                case Extended(role=role, until=until, left=left):
                    self._prolong(role, until)
                    self._moves.handle_written(role, left)
                case Yielded(role=role, why=why):
                    self._around.carry_out(supervisor.singletons.handle_lost(role, why))
                    self._moves.handle_lost(role)
                case Elsewhere(role=role, note=note):
                    decisions = supervisor.singletons.handle_elsewhere(role, note)
                case m.GiveBack(role=role):
                    self._ask_gateway(structs.replace(outcome, letter=self._letter(m.LeaseFree(role))))
                case _:
                    self._ask_gateway(outcome)
            self._around.carry_out(decisions)

    def _tell_timers(self, timers: TimerLease, outcome: LeaseOutcome) -> None:
        match outcome:
            case Won():
                timers.on_news("")
            case Yielded(why=why):
                timers.on_news(why or "this machine gave their lease back")
            case Elsewhere(note=note):
                timers.on_news(note)
            case _:
                pass

    def _prolong(self, role: str, until: float) -> None:
        for process in self._around.supervisor.crew.processes_of(role):
            connection = self._around.connections.get(process.uid)
            if connection is not None and connection.beats is not None:
                connection.beats.post(m.Prolong(until))
