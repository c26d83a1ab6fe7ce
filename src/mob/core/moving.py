"""What a singleton of a cluster leaves to the machine that runs it next.

What its worker hands over at its end is kept on its machine, as always. If the machine needs the lease no more, because
the app stops there, the data is put into a store that all machines see; then the record of the lease says under which
name it lies (`left`, the token by which the singleton ran), and only then the lease is given back. Whoever takes the
lease next fetches the data first, and launches the singleton then, which inherits as if the one before it had run here.
`left` stays in the record until a singleton is ready, so a machine that dies on the way loses nothing: the next one
fetches the same.

A lease that is lost hands nothing over. What cannot be stored or fetched is tried again for a while; then the singleton
goes on without it, and the log says so.

Pure: `now` is passed in; decisions, and requests to a gateway, come out. The data itself is never here.
"""

from __future__ import annotations

from mob.core.crew import Crew
from mob.core.decisions import Decision, DropInheritance, Tell
from mob.core.singletons import Singletons
from mob.wire import messages as m

MOVE_RETRY = 1.0
"""Seconds until what has failed is tried again."""
MOVE_TIME = 60.0
"""Seconds after which it is not tried again. One attempt may take longer, as long as something moves."""
NO_GATEWAY = (
    "no gateway of this machine can do that; one of an older version of mob cannot, so reload the role 'gateway'"
)

MoveStep = Decision | m.PutLeft | m.GetLeft
"""What is to be done: a decision, or a request for the gateway that was named."""


class Errand:
    """Data that is under way between this machine and the store."""

    __slots__ = ("due", "error", "gateway", "is_stored", "is_told", "left", "number", "role", "since", "token")

    def __init__(self, role: str, token: int, left: int, now: float) -> None:
        self.role: str = role
        self.token: int = token
        """Of the lease that this machine has."""
        self.left: int = left
        """What is fetched; 0 if something is to be stored."""
        self.since: float = now
        self.due: float = now
        """When a gateway is asked, if none is."""
        self.number: int = 0
        """Of the request, 0 if there is none under way."""
        self.gateway: int = 0
        """Which gateway has it."""
        self.error: str = NO_GATEWAY
        """Why it is not done yet."""
        self.is_stored: bool = False
        """Whether it lies in the store, though the record of the lease may not say so yet."""
        self.is_told: bool = False
        """Whether somebody has been told so."""

    def __repr__(self) -> str:
        return f"<Errand: {'fetch' if self.left else 'store'} what {self.role!r} has left>"


class Moving:
    """All that is under way. `first`: the number of the first request, greater than any of a Kingpin before this one
    in this process."""

    def __init__(self, crew: Crew, singletons: Singletons, first: int) -> None:
        self._crew = crew
        self._singletons = singletons
        self._number = first
        self._errands: dict[str, Errand] = {}  # by role

    def __repr__(self) -> str:
        return f"<Moving {list(self._errands.values())}>"

    def is_fetching(self, role: str) -> bool:
        """Return whether a singleton is not launched yet because what was left for it has not come."""
        errand = self._errands.get(role)
        return errand is not None and errand.left > 0

    def handle_won(self, role: str, token: int, left: int, now: float) -> list[Decision]:
        """This machine has the lease of a singleton; what was left for it comes first."""
        lease = self._crew.leases[role]
        lease.left = left
        if not left:
            return self._singletons.handle_won(role, token, now)
        lease.note = "fetches what was left for it on another machine"
        self._errands[role] = Errand(role, token, left, now)
        return []

    def left_of(self, role: str) -> int:
        """Return what the record of a lease is to say about what was left."""
        errand = self._errands.get(role)
        return errand.token if errand is not None and errand.is_stored else self._crew.leases[role].left

    def handle_written(self, role: str, left: int) -> list[Decision]:
        """The record of a lease says that by now."""
        errand = self._errands.get(role)
        return self._finish(errand) if errand is not None and errand.is_stored and left == errand.token else []

    def handle_lost(self, role: str) -> None:
        """This machine does not have the lease any more; what is under way is of no use."""
        self._errands.pop(role, None)

    def handle_gateway_gone(self, uid: int) -> None:
        """A gateway has ended: what it was asked for another one may do."""
        for errand in self._errands.values():
            if errand.number and errand.gateway == uid:
                errand.number = 0

    def look(self, gateway: int | None, now: float) -> list[MoveStep]:
        """See what is to be done now. `gateway`: the one that can be asked."""
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
        """Return whether the answer of a gateway is one to what was asked last."""
        errand = self._errands.get(answer.role)
        return errand is not None and errand.number == answer.number

    def handle_answer(self, answer: m.LeftIs, now: float) -> list[Decision]:
        """A gateway has stored something; or what it has fetched is kept here by now; or it could not."""
        errand = self._errands[answer.role]
        errand.number, role = 0, errand.role
        if answer.error and not answer.is_gone:
            errand.due, errand.error = now + MOVE_RETRY, answer.error
            if errand.is_told:
                return []
            errand.is_told = True
            what = "fetched" if errand.left else "stored"
            text = (
                f"what {role!r} has left cannot be {what} now: {answer.error}. It is tried again for {MOVE_TIME:g} s."
            )
            return [Tell(text, "crash")]
        if not errand.left:
            errand.is_stored = True
            return []
        del self._errands[role]
        if answer.is_gone:
            self._crew.leases[role].left = 0
            tell = Tell(
                f"what {role!r} has left on another machine is lost: {answer.error}. It starts without.", "crash"
            )
        else:
            self._crew.kept[role, 0] = answer.size
            tell = Tell(f"{role!r} gets the {answer.size:,} bytes that it has left on another machine.")
        return [tell, *self._singletons.handle_won(role, errand.token, now)]

    def _finish(self, errand: Errand) -> list[Decision]:
        """What was left here lies in the store, and this machine forgets it."""
        del self._errands[errand.role]
        self._crew.leases[errand.role].left = errand.token
        size = self._crew.kept.pop((errand.role, 0))
        text = f"{errand.role!r} has left {size:,} bytes to the machine that runs it next."
        return [Tell(text), DropInheritance(errand.role, 0)]

    def _give_up(self, errand: Errand, now: float) -> list[Decision]:
        """It has taken too long."""
        role = errand.role
        del self._errands[role]
        if not errand.left:
            return self._singletons.drop_left(role, f"they could not be stored: {errand.error}")
        text = f"what {role!r} has left on another machine could not be fetched: {errand.error}. It starts without."
        return [Tell(text, "crash"), *self._singletons.handle_won(role, errand.token, now)]

    def end(self) -> list[Decision]:
        """The app ends, and no gateway can be asked any more."""
        decisions: list[Decision] = []
        for role in [role for role in self._crew.leases if self._crew.is_left_here(role)]:
            errand = self._errands.get(role)
            if errand is not None and errand.is_stored:
                decisions += self._finish(errand)  # what gives the lease back says so
                continue
            self._errands.pop(role, None)
            why = (
                errand.error if errand is not None and errand.is_told else "there was not enough of the grace time left"
            )
            decisions += self._singletons.drop_left(role, f"they could not be stored: {why}")
        return decisions
