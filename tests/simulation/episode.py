"""One app's life: it starts, works under fire, recovers when the faults have ceased, and stops; all from one seed.

The seed also decides what the app looks like: its roles, how many workers, and their options.
"""

from __future__ import annotations

from random import Random

import msgspec

from mob.plan import Plan, RolePlan, check_limits
from tests.simulation.calls import EXPORTS, Call
from tests.simulation.clock import Clock, claim
from tests.simulation.faults import Faults
from tests.simulation.kingpin import Kingpin
from tests.simulation.links import Link
from tests.simulation.mobster import Mobster
from tests.simulation.peer import Peer
from tests.simulation.watch import Watch

RECOVERY = 400.0
"""Seconds after the last fault in which everything is back, at the latest."""
LOOK = 10
"""Events after which it is looked at what waits."""
GRACE = 8.0
LATE = 3.0
"""Seconds that a stop may last beyond it: a timer that rings late, and reports of exits that take their time."""
MOST_WORKERS = 6


def plan_of(seed: int) -> Plan:
    """An app."""
    random, spares = Random(seed), Random(seed + 1)
    names = ["back", "middle", "front"][: random.randint(1, 3)]
    roles: list[RolePlan] = []
    for number, name in enumerate(names):
        role = RolePlan(
            name,
            name,
            workers=random.randint(1, 4),
            concurrency=random.choice([2, 10, 100]),
            queue=random.choice([5, 50, 1000]),
            boot_timeout=4.0,
            hang_timeout=random.choice([None, 2.0, 2.0]),
            restart=random.choice(["permanent"] * 4 + ["transient", "temporary"]),
            intensity=random.choice([None, None, 3, 10]),
            period=20.0,
            max_calls=random.choice([None, None, 2000]),
            max_age=random.choice([None, None, 15.0]),
        )
        if random.random() < 0.3:
            role = msgspec.structs.replace(role, max_workers=role.workers + random.randint(1, 3))
        if role.restart != "temporary" and spares.random() < 0.25:
            role = msgspec.structs.replace(role, spare=spares.randint(1, 2))
        if number and random.random() < 0.4:
            role = msgspec.structs.replace(role, needs=(random.choice(names[:number]),))
        roles.append(role)
    strategy = "rest_for_one" if random.random() < 0.2 else "one_for_one"
    preload = ("heavy",) if random.random() < 0.3 else ()
    return check_limits(Plan("app", "/", tuple(roles), grace=GRACE, strategy=strategy, preload=preload))


class Episode:
    """The life of one app."""

    def __init__(self, seed: int, events: int) -> None:
        self.seed = seed
        self.limit = events
        """Events before the faults cease."""
        self.clock = clock = Clock(seed)
        self.plan = plan_of(seed)
        self.faults = Faults()
        self.kingpin = Kingpin(clock, self.plan, self.faults)
        self.watch = Watch(self.kingpin)
        self._pause = clock.pick([0.004, 0.01, 0.03])  # seconds between two calls
        self._peace = clock.pick([0.1, 0.5, 3.0])  # seconds between two faults
        self._trouble = clock.pick([0.5, 3.0, 20.0])  # seconds between two troubles of the Kingpin
        self.kingpin.slowness = clock.pick([1.0, 1.0, 10.0, 40.0])
        self._roles = [role.name for role in self.plan.roles]

    def __repr__(self) -> str:
        return f"<Episode {self.seed}, {self.clock.events:,} events, {self.kingpin.ledger}>"

    def __str__(self) -> str:
        return "episode"

    def run(self) -> None:
        """From the start to the end; complains by `Violation` or another AssertionError."""
        clock, kingpin = self.clock, self.kingpin
        kingpin.start()
        self.make_calls()
        clock.after(1.0, self.do_harm)
        clock.after(2.0, self.make_trouble)
        if clock.is_lucky(0.15):  # at any moment, also before anybody is there
            clock.after(clock.between(0.0, clock.pick([0.05, 1.0, 20.0])), self.stop_in_the_midst)
        while clock.events < self.limit and not kingpin.is_over and self._step():
            pass
        self.faults.cease()
        if kingpin.stopped_at is not None:
            while not kingpin.is_over and clock.now < self._stop_limit() and self._step():
                pass
            claim(kingpin.is_over, "a stop ends within the grace period", kingpin.supervisor.processes)
        if not kingpin.is_over:
            clock.after(0.0, self.mend)
            until = clock.now + RECOVERY
            while not kingpin.is_over and self._is_restless() and clock.now < until and self._step():
                pass
            if not kingpin.is_over:
                self._check_recovered()
                self._stop()
        self._check_nothing_left()

    def _step(self) -> bool:
        if self.clock.events % LOOK == 0:
            self.watch.look()
            self._look_at_kingpin()
        return self.clock.step()

    # ------------------------------------------------------------------------------------------------ traffic

    def make_calls(self) -> None:
        """Somebody calls somebody."""
        if self.faults.are_over or self.kingpin.is_over:
            return
        clock = self.clock
        clock.after(2 * self._pause * clock.luck(), self.make_calls)
        peers: list[Peer] = [
            peer for peer in (*self.kingpin.mobsters.values(), *self.kingpin.clients.values()) if self._may_call(peer)
        ]
        if peers:
            caller = clock.pick(peers)
            for _ in range(clock.pick([20, 100, 200]) if clock.is_lucky(0.002) else 1):
                self._make_call(caller)

    def _may_call(self, peer: Peer) -> bool:
        return peer.is_alive and peer.is_welcomed and not peer.is_blocked

    def _make_call(self, caller: Peer) -> Call:
        clock = self.clock
        luck = clock.luck()
        target = "add" if luck < 0.4 else "look" if luck < 0.6 else clock.pick(list(EXPORTS))
        if target == "count" and not clock.is_lucky(0.2):
            target = "work"
        luck = clock.luck()
        timeout = clock.between(0.001, 0.5) if luck < 0.1 else None
        key = int(luck * 1000) % 8 if 0.1 <= luck < 0.2 else None
        call = caller.call(clock.pick(self._roles), target, key, timeout, functions=clock.is_lucky(0.1))
        call.size = clock.pick([0, 3, 70, 200])
        if clock.is_lucky(0.03):
            clock.after(clock.between(0.0, 0.05), self.cancel, call)
        return call

    def cancel(self, call: Call) -> None:
        """A caller gives up."""
        if call.caller.is_alive:
            call.caller.cancel(call)

    # ------------------------------------------------------------------------------------------------- faults

    def do_harm(self) -> None:
        """Something goes wrong, or is asked for at a bad moment."""
        if self.faults.are_over or self.kingpin.is_over:
            return
        clock, kingpin = self.clock, self.kingpin
        clock.after(2 * self._peace * clock.luck(), self.do_harm)
        alive = [mobster for mobster in kingpin.mobsters.values() if mobster.is_alive]
        match int(clock.luck() * 25):
            case 0 | 1 | 2 | 3 | 4 | 5 if alive:
                kingpin.kill(clock.pick(alive))
            case 6 | 7 if alive:
                self._hang(clock.pick(alive))
            case 8 if alive:
                clock.pick(alive).sigterm()
            case 9 | 10:
                kingpin.scale(clock.pick(self._roles), 1 + int(clock.luck() * MOST_WORKERS))
            case 11 | 12:
                self._reload()
            case 13:
                kingpin.end_fork_server()
            case 14 | 15 if len(kingpin.clients) < 3:
                kingpin.join(is_far=clock.is_lucky(0.3))
            case 16 if kingpin.clients:
                kingpin.clients[min(kingpin.clients)].leave()
            case 17 if alive:
                for mobster in alive[: len(alive) // 2]:
                    kingpin.kill(mobster)
            case 18 if alive and clock.is_lucky(0.5):
                for mobster in alive:
                    if mobster.role == self._roles[0]:
                        kingpin.kill(mobster)
            case 19 | 20 if kingpin.clients:
                clock.pick(list(kingpin.clients.values())).block(clock.between(0.001, 0.5))
            case 21 | 22 | 23:
                self._break_link([*alive, *kingpin.clients.values()])
            case 24 if len(kingpin.clients) > 1:
                for client in list(kingpin.clients.values())[: len(kingpin.clients) // 2]:
                    client.leave()
            case _:
                pass

    def make_trouble(self) -> None:
        """Something happens to the Kingpin."""
        if self.faults.are_over or self.kingpin.is_over:
            return
        clock, kingpin, faults = self.clock, self.kingpin, self.faults
        clock.after(2 * self._trouble * clock.luck(), self.make_trouble)
        match int(clock.luck() * 6):
            case 0 | 1:
                kingpin.upgrade()
            case 2 if not faults.is_scarce:
                faults.is_scarce = True
                clock.after(clock.between(0.05, 4.0), self.end_scarcity)
            case 3:
                kingpin.stand_still(clock.between(0.01, 4.0))
            case 4 if kingpin.clients:
                clock.pick(list(kingpin.clients.values())).block(clock.between(1.0, 10.0))
            case 5:
                kingpin.reload([])
                clock.after(clock.between(0.0, 1.0), kingpin.upgrade)
            case _:
                pass

    def end_scarcity(self) -> None:
        """The system has again what it lacked."""
        self.faults.is_scarce = False

    def stop_in_the_midst(self) -> None:
        """SIGTERM to the Kingpin, whatever it does."""
        if not self.kingpin.is_over and not self.faults.are_over:
            if self.clock.is_lucky(0.5):
                self.kingpin.end_fork_server(True)  # what is held for the next one is never launched
                self.kingpin.reload([])
            self.kingpin.stop()
            if self.clock.is_lucky(0.1):
                self.clock.after(self.clock.between(0.0, 1.0), self.kingpin.stop)

    def _stop_limit(self) -> float:
        kingpin = self.kingpin
        return (kingpin.stopped_at or 0.0) + GRACE + LATE + kingpin.stood_still

    def _look_at_kingpin(self) -> None:
        kingpin = self.kingpin
        if kingpin.is_over:
            return
        kingpin.oracle.check_launches(kingpin.stood_still)
        if kingpin.stopped_at is not None:
            claim(
                self.clock.now < self._stop_limit(), "a stop ends within the grace period", kingpin.supervisor.processes
            )

    def _break_link(self, peers: list[Peer]) -> None:
        ends = [
            (peer, link)
            for peer in peers
            if peer.is_alive and not peer.is_blocked
            for link in peer.links
            if self._may_break(peer, link)
        ]
        if ends:
            peer, link = self.clock.pick(ends)
            peer.break_link(link)

    def _may_break(self, peer: Peer, link: Link) -> bool:
        contact = link.contact
        if contact.link is not link or contact.is_distant or link.is_broken or contact.uid == peer.uid:
            return False
        return self.kingpin.everybody[contact.uid].is_alive and contact.uid in peer.contacts

    def _hang(self, mobster: Mobster) -> None:
        if mobster.is_ready:
            mobster.hang(self.clock.between(0.01, 6.0), self.clock.is_lucky(0.3))

    def _reload(self) -> None:
        clock = self.clock
        roles = [] if clock.is_lucky(0.5) else [clock.pick(self._roles)]
        if clock.is_lucky(0.3):
            for role in roles or self._roles:
                self.faults.bad_code[role] = None
            clock.after(clock.between(1.0, 5.0), self.faults.bad_code.clear)
        self.kingpin.reload(roles)

    def mend(self) -> None:
        """A reload fills what was given up or had ended."""
        self.kingpin.reload([])

    # ------------------------------------------------------------------------------------------- the invariants

    def _is_restless(self) -> bool:
        return self.clock.events % 50 != 0 or bool(self._missing() or self._leaks() or self._unaware())

    def _missing(self) -> list[str]:
        """The roles that are not as large as they are to be, and what still changes them."""
        supervisor = self.kingpin.supervisor
        missing: list[str] = ["a reload"] if supervisor.rollout.is_reloading else []
        for name, role in supervisor.crew.roles.items():
            ready = sorted(member.index for member in supervisor.roster.ready(name))
            spares = sum(member.state == "spare" for member in supervisor.roster.of_role(name))
            count = role.target + role.plan.spare
            if ready != list(range(role.target)) or len(supervisor.crew.processes_of(name)) != count:
                missing.append(f"{name}: {ready} ready of {role.target}, {spares} spares of {role.plan.spare}")
        return missing

    def _leaks(self) -> list[str]:
        peers = [*self.kingpin.mobsters.values(), *self.kingpin.clients.values()]
        return [
            f"{peer} {table}: {size}" for peer in peers if peer.is_alive for table, size in peer.sizes().items() if size
        ]

    def _unaware(self) -> list[str]:
        """Who has another idea than the Kingpin of who is there; of clients each knows those that it is linked to."""
        supervisor = self.kingpin.supervisor
        partners = supervisor.crew.introductions.partners
        there = {peer.uid: peer for peer in self.kingpin.everybody.values() if peer.is_alive}
        ours = {member.uid: member for member in supervisor.roster}
        unaware = [] if there.keys() == ours.keys() else ["the Kingpin"]
        for peer in there.values():
            linked = {peer.uid} | partners(peer.uid)
            wanted = {uid: member for uid, member in ours.items() if member.role or uid in linked}
            if {member.uid: member for member in peer.roster} != wanted or peer.contacts.keys() != wanted.keys():
                unaware.append(str(peer))
        return unaware

    def _check_recovered(self) -> None:
        claim(not self._missing(), "roles return to their target", *self._missing())
        claim(not self._leaks(), "nothing leaks", *self._leaks()[:10])
        ledger = self.kingpin.ledger
        claim(ledger.made == ledger.ended + ledger.died, "every call ends exactly once", ledger)
        claim(not self._unaware(), "everybody knows who is there", *self._unaware())

    def _stop(self) -> None:
        clock, kingpin = self.clock, self.kingpin
        kingpin.stop()
        until = clock.now + GRACE + 2.0
        while not kingpin.is_over and clock.now < until and clock.step():
            pass
        claim(kingpin.is_over, "a stop ends within the grace period", kingpin.supervisor.processes)

    def _check_nothing_left(self) -> None:
        kingpin, clock = self.kingpin, self.clock
        for client in list(kingpin.clients.values()):
            client.leave()
        until = clock.now + 30.0
        while clock.now < until and clock.step():
            pass
        crew = kingpin.supervisor.crew
        left = [peer for peer in kingpin.everybody.values() if peer.is_alive]
        claim(not left, "nobody is left", *left)
        claim(not crew.processes, "no process is left", crew.processes)
        claim(not len(crew.roster), "no member is left", *crew.roster)
        is_empty = repr(crew.introductions) == "<Introductions 0 pairs, wishes for nothing>"
        claim(is_empty, "no introduction is left", crew.introductions)
        ledger = kingpin.ledger
        claim(ledger.made == ledger.ended + ledger.died, "every call ends exactly once", ledger)
