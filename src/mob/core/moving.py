"""Moves the data that a singleton of a cluster leaves to the machine that runs it next.

The data that its worker hands over at its end is kept on its machine, as always. If the machine no longer needs the
lease, because the app stops there, the data is put into a store that all machines see; then the record of the lease
names it (`left`, the token under which the singleton ran), and only then the lease is returned. The machine that takes
the lease next fetches the data first and then launches the singleton, which inherits as if its predecessor had run
here. `left` stays in the record until a singleton is ready, so a machine that dies meanwhile loses nothing: the next
one fetches the same data.

A lease that is lost hands nothing over. Storing or fetching that fails is retried for a while; then the singleton
starts without the data, and the log says so.

Pure: `now` is passed in; decisions, and requests to a gateway, come out. The data itself is never here.
"""

from __future__ import annotations

from mob.core.crew import Crew
from mob.core.decisions import Decision, DropInheritance, Tell
from mob.core.singletons import Singletons
from mob.wire import messages as m

MOVE_RETRY = 1.0
"""Seconds until a failed attempt is repeated."""
MOVE_TIME = 60.0
"""Seconds after which it is not repeated any more. One attempt may take longer, as long as it makes progress."""
NO_GATEWAY = (
    "no gateway of this machine can do that; one started by an older mob version cannot, so reload the role 'gateway'"
)

MoveStep = Decision | m.PutLeft | m.GetLeft
"""A step to carry out: a decision, or a request for the gateway that was named."""


class Errand:
    """Data that is under way between this machine and the store."""

    __slots__ = ("due", "error", "gateway", "is_stored", "is_told", "left", "number", "role", "since", "token")

    def __init__(self, role: str, token: int, left: int, now: float) -> None:
        self.role: str = role
        self.token: int = token
        """Token of the lease that this machine has."""
        self.left: int = left
        """Token of the data to fetch; 0 if data is to be stored."""
        self.since: float = now
        self.due: float = now
        """Time at which a gateway is asked, if none is working on it."""
        self.number: int = 0
        """Number of the request; 0 if none is under way."""
        self.gateway: int = 0
        """Uid of the gateway that works on it."""
        self.error: str = NO_GATEWAY
        """The reason why it is not done yet."""
        self.is_stored: bool = False
        """True once the data is in the store, even if the record of the lease does not say so yet."""
        self.is_told: bool = False
        """True once the log said so."""

    def __repr__(self) -> str:
        return f"<Errand: {'fetch' if self.left else 'store'} what {self.role!r} left>"


class Moving:
    """All data that is under way.

    `first`: the number of the first request, greater than any of an earlier Kingpin in this process.
    """

    def __init__(self, crew: Crew, singletons: Singletons, first: int) -> None:
        self._crew = crew
        self._singletons = singletons
        self._number = first
        self._errands: dict[str, Errand] = {}  # by role

    def __repr__(self) -> str:
        return f"<Moving {list(self._errands.values())}>"

    def is_fetching(self, role: str) -> bool:
        """Return True if a singleton is not launched yet because its data has not arrived."""
        errand = self._errands.get(role)
        return errand is not None and errand.left > 0

    def handle_won(self, role: str, token: int, left: int, now: float) -> list[Decision]:
        """Handle the lease of a singleton that this machine won: fetch the data left for it first."""
        lease = self._crew.leases[role]
        lease.left = left
        if not left:
            return self._singletons.handle_won(role, token, now)
        lease.note = "fetching the data that was left for it on another machine"
        self._errands[role] = Errand(role, token, left, now)
        return []

    def left_of(self, role: str) -> int:
        """Return what the record of a lease is to say about the data."""
        errand = self._errands.get(role)
        return errand.token if errand is not None and errand.is_stored else self._crew.leases[role].left

    def handle_written(self, role: str, left: int) -> list[Decision]:
        """Handle a record of a lease that was written with this `left`."""
        errand = self._errands.get(role)
        return self._finish(errand) if errand is not None and errand.is_stored and left == errand.token else []

    def handle_lost(self, role: str) -> None:
        """Drop what is under way: this machine no longer holds the lease."""
        self._errands.pop(role, None)

    def handle_gateway_gone(self, uid: int) -> None:
        """Handle the end of a gateway: another one may take over its requests."""
        for errand in self._errands.values():
            if errand.number and errand.gateway == uid:
                errand.number = 0

    def look(self, gateway: int | None, now: float) -> list[MoveStep]:
        """Return the steps to take now. `gateway`: the one that can be asked."""
        for role, lease in self._crew.leases.items():
            if role not in self._errands and self._singletons.has_to_leave(role):
                self._errands[role] = Errand(role, lease.token, 0, now)
        steps: list[MoveStep] = []
        for errand in list(self._errands.values()):
            if errand.number:
                continue
            if now - errand.since >= MOVE_TIME:
                steps += self._give_up(errand, now)
            elif gateway is not None and now >= errand.due and not errand.is_stored:
                steps.append(self._ask(errand, gateway))
        return steps

    def _ask(self, errand: Errand, gateway: int) -> m.PutLeft | m.GetLeft:
        self._number += 1
        errand.number, errand.gateway = self._number, gateway
        if errand.left:
            return m.GetLeft(self._number, errand.role, errand.left)
        return m.PutLeft(self._number, errand.role, errand.token)

    def is_awaited(self, answer: m.LeftIs) -> bool:
        """Return True if the answer of a gateway is one to the latest request."""
        errand = self._errands.get(answer.role)
        return errand is not None and errand.number == answer.number

    def handle_answer(self, answer: m.LeftIs, now: float) -> list[Decision]:
        """Handle a gateway's answer: it stored the data, or fetched it (it is kept here by now), or could not."""
        errand = self._errands[answer.role]
        errand.number, role = 0, errand.role
        if answer.error and not answer.is_gone:
            errand.due, errand.error = now + MOVE_RETRY, answer.error
            if errand.is_told:
                return []
            errand.is_told = True
            what = "fetched" if errand.left else "stored"
            text = f"what {role!r} left cannot be {what} now: {answer.error}. Retrying for {MOVE_TIME:g} s."
            return [Tell(text, "crash")]
        if not errand.left:
            errand.is_stored = True
            return []
        del self._errands[role]
        if answer.is_gone:
            self._crew.leases[role].left = 0
            tell = Tell(
                f"what {role!r} left on another machine is lost: {answer.error}. It starts without it.", "crash"
            )
        else:
            self._crew.kept[role, 0] = answer.size
            tell = Tell(f"{role!r} received the {answer.size:,} bytes that it left on another machine.")
        return [tell, *self._singletons.handle_won(role, errand.token, now)]

    def _finish(self, errand: Errand) -> list[Decision]:
        """Forget data that is in the store now."""
        del self._errands[errand.role]
        self._crew.leases[errand.role].left = errand.token
        size = self._crew.kept.pop((errand.role, 0))
        text = f"{errand.role!r} left {size:,} bytes for the machine that runs it next."
        return [Tell(text), DropInheritance(errand.role, 0)]

    def _give_up(self, errand: Errand, now: float) -> list[Decision]:
        """Give up: it took too long."""
        role = errand.role
        del self._errands[role]
        if not errand.left:
            return self._singletons.drop_left(role, f"they could not be stored: {errand.error}")
        text = f"what {role!r} left on another machine could not be fetched: {errand.error}. It starts without it."
        return [Tell(text, "crash"), *self._singletons.handle_won(role, errand.token, now)]

    def end(self) -> list[Decision]:
        """Finish or drop everything: the app ends, and no gateway can be asked any more."""
        decisions: list[Decision] = []
        for role in [role for role in self._crew.leases if self._crew.is_left_here(role)]:
            errand = self._errands.get(role)
            if errand is not None and errand.is_stored:
                decisions += self._finish(errand)  # the message that returns the lease says so
                continue
            self._errands.pop(role, None)
            why = errand.error if errand is not None and errand.is_told else "not enough of the grace period was left"
            decisions += self._singletons.drop_left(role, f"they could not be stored: {why}")
        return decisions
