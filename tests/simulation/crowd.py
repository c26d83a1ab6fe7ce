"""Many callers of few workers, each with more calls than it gets done: who gets what, and what is left of it.

Besides what holds in every episode: all callers get about the same, those with long calls as well as those with short
ones; and when half of them die at once nobody keeps a place for them.
"""

from __future__ import annotations

from collections import Counter
from functools import partial

from mob.plan import Plan, RolePlan
from tests.simulation.calls import Call
from tests.simulation.clock import Clock, claim
from tests.simulation.faults import Faults
from tests.simulation.kingpin import Kingpin
from tests.simulation.peer import Peer
from tests.simulation.watch import Watch


class Crowd:
    """One app with many clients."""

    def __init__(self, seed: int, callers: int, workers: int = 4, slowness: float = 1.0, exports: str = "add") -> None:
        self.clock = clock = Clock(seed)
        plan = Plan("app", "/", (RolePlan("back", "back", workers=workers, concurrency=4, queue=100_000),))
        self.faults = Faults()
        self.faults.cease()
        self.kingpin = Kingpin(clock, plan, self.faults)
        self.kingpin.slowness = slowness
        self.watch = Watch(self.kingpin)
        self.exports = exports.split()
        self.done: Counter[int] = Counter()
        self.is_over = False
        self._look_every = 10 + callers
        self.kingpin.start()
        self.run(3.0)
        for number in range(callers):
            self.kingpin.join(is_far=number % 10 == 9)
        self.run(1.0)

    def __repr__(self) -> str:
        return f"<Crowd of {len(self.kingpin.clients)}, {self.kingpin.ledger}>"

    @property
    def clients(self) -> list[Peer]:
        """Those that are alive."""
        return list(self.kingpin.clients.values())

    def run(self, seconds: float) -> None:
        """Lets time pass."""
        until = self.clock.now + seconds
        while self.clock.now < until and self._step():
            pass

    def _step(self) -> bool:
        if self.clock.events % self._look_every == 0:
            self.watch.look()
        return self.clock.step()

    def begin(self, ahead: int) -> None:
        """Each makes so many calls, and another one whenever one has ended."""
        for number, client in enumerate(self.clients):
            for _ in range(ahead):
                self.call(client, self.exports[number % len(self.exports)])

    def call(self, client: Peer, export: str) -> None:
        """Has a client make a call, and another one when that has ended."""
        if client.is_alive and not self.is_over:
            call = client.call("back", export)
            call.parent = partial(self.clock.after, 0.0, self._handle_ended, client, export, call)

    def _handle_ended(self, client: Peer, export: str, call: Call) -> None:
        self.done[client.uid] += call.outcome == "value"
        self.call(client, export)

    def kill_half(self) -> None:
        """Every second client dies."""
        for client in self.clients[::2]:
            client.leave()

    def break_links(self) -> None:
        """The links of every third client break, and others are made: half of them are closed by the workers."""
        for number, client in enumerate(self.clients[::3]):
            for link in [] if client.is_far else list(client.links):
                end, peer = (link, client) if number % 2 else (link.other, self.kingpin.everybody[link.contact.uid])
                is_whole = link.contact.link is link and end.contact is not None and not link.is_broken
                if is_whole and peer.is_alive and not peer.is_blocked:
                    peer.break_link(end)

    def shares(self, exports: str = "") -> list[int]:
        """What each caller of certain exports has got done, in order."""
        counts = [
            self.done[client.uid]
            for number, client in enumerate(self.clients)
            if not exports or self.exports[number % len(self.exports)] in exports.split()
        ]
        return sorted(counts)

    def finish(self) -> None:
        """No more calls; all that there are end, and nothing is left of them."""
        self.is_over = True
        until = self.clock.now + 300.0
        while self.clock.now < until and self._busy() and self._step():
            pass
        claim(not self._busy(), "every call ends exactly once", self.kingpin.ledger)
        self.run(1.0)
        peers = [*self.clients, *(each for each in self.kingpin.mobsters.values() if each.is_alive)]
        leaks = [f"{peer} {table}: {size}" for peer in peers for table, size in peer.sizes().items() if size]
        claim(not leaks, "nothing leaks", *leaks[:10])

    def _busy(self) -> bool:
        ledger = self.kingpin.ledger
        return ledger.made != ledger.ended + ledger.died
