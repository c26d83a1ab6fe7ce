"""The outgoing half of a process: its calls, the workers that get them, and what becomes of them.

What waits for a worker and what is lost with one is in the hands of `peer/calls/parking.py` and `losses.py`, the
choice, the books and the states are those of `core`. Modelled are the links, and what `calling.py` and `peer.py` do
around that, without threads, bytes and descriptors.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from itertools import count
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from mob.core.callbacks import Borrowed, Lent
from mob.core.roster import Roster
from mob.core.routes import Routes
from mob.core.routing import place_of
from mob.core.states import CallState
from mob.core.streams import WINDOW, Debt
from mob.errors import Busy, Executed
from mob.peer.calls.parking import OVERHEAD, ParkedCall, Parking
from mob.peer.links.contact import Contact
from mob.rim.board import mark_of
from tests.simulation.calls import Call
from tests.simulation.clock import Clock, claim
from tests.simulation.links import Link, Pipe

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mob.core.dispatch import Route
    from mob.errors import CallError
    from tests.simulation.kingpin import Kingpin

BACKLOG = 300
OUTSTANDING_LIMIT = 400
PATIENCE = 0.05


class Timers:
    """The reactor of a process, as far as what waits needs one."""

    def __init__(self, clock: Clock, caller: Caller) -> None:
        self._clock = clock
        self._caller = caller
        self._count = 0
        self._timed: dict[int, Callable[[], object]] = {}

    def __str__(self) -> str:
        return str(self._caller)

    def call(self, function: Callable[[], object]) -> None:
        """Calls a function soon."""
        self.call_at(self._clock.now, function)

    @property
    def loop(self) -> Timers:
        """What calls it."""
        return self

    call_soon = call

    def call_at(self, when: float, function: Callable[[], object]) -> int:
        """Calls a function at that time; the number by which `cancel` knows it."""
        self._count += 1
        self._timed[self._count] = function
        self._clock.at(when, self.ring, self._count)
        return self._count

    def cancel(self, number: int) -> None:
        """Forgets it."""
        self._timed.pop(number, None)

    def ring(self, number: int) -> None:
        """It is time."""
        if self._caller.is_blocked:
            self._caller.overdue.append(number)
        elif (function := self._timed.pop(number, None)) is not None and self._caller.is_alive:
            function()


def noted(function: Callable[..., Any]) -> Callable[..., Any]:
    """What is raised here ends a call and nothing else, for so mob's own code sees to it: the clock raises it again."""

    @wraps(function)
    def noting(self: Caller, *args: Any) -> Any:
        try:
            return function(self, *args)
        except Exception as error:
            self.clock.failure = self.clock.failure or error
            raise

    return noting


class Caller:
    """A process, as far as it calls others."""

    def __init__(self, kingpin: Kingpin, uid: int, role: str, index: int) -> None:
        self.kingpin = kingpin
        self.clock = kingpin.clock
        self.ledger = kingpin.ledger
        self.uid = uid
        self.role = role
        self.index = index
        self.is_alive = False
        self.is_welcomed = False
        self.is_blocked = False
        """Whether its loop stands still."""
        self.is_far = False
        """Whether it is on another machine than all others."""
        self.control = Pipe(self.clock, kingpin, self)  # what it tells the Kingpin
        self.roster = Roster()
        self.contacts: dict[int, Contact] = {}
        self.routes = Routes[Contact](kingpin.board.cost, BACKLOG * OVERHEAD)
        self.wanted: set[str | int] = set()
        self.mine: dict[int, Call] = {}
        """Its calls that have not ended."""
        self.lent = Lent()
        self.functions = [object() for _ in range(3)]
        self.borrowed = Borrowed()
        self.debts: dict[int, Debt] = {}
        self.links: list[Link] = []
        self.heard_draining: set[int] = set()
        """The truth: who it was told of that he drains."""
        self.has_left_in_order = False
        self.sends_at_last = False
        """The only worker drains, so it gets what waits."""
        self.app, self.name = "app", f"{role or 'client'}.{index}/{uid}"
        self.board = kingpin.board
        self.reactor = Timers(kingpin.clock, self)
        self.overdue: list[int] = []
        """Its timers that have rung while its loop stood still."""
        me: Any = self  # context and contacts of what waits
        kingpin_is_there: Any = SimpleNamespace(is_closed=False)
        self.parking = Parking(
            *(me, me, kingpin_is_there, self._send_parked, _do_nothing, self.fail, _do_nothing),
            now=lambda: self.clock.now,
            luck=self.clock.luck,
        )
        self.call_numbers = count(1)
        self.introducer: Any = SimpleNamespace(want=self._want_member, handle_said_early=_do_nothing)
        self._readable: dict[Pipe, None] = {}

    def __str__(self) -> str:
        return f"{self.role or 'client'}.{self.index}/{self.uid}"

    # ---------------------------------------------------------------------------------------------- calling

    def call(
        self,
        role: str,
        target: str,
        key: int | None = None,
        timeout: float | None = None,
        functions: bool = False,
        chain: tuple[int, ...] = (),
    ) -> Call:
        """Calls an export of any one worker of a role."""
        call = self.ledger.new(self, role, target)
        route = self.route(role)
        if timeout is not None:
            call.deadline = self.clock.now + timeout
            self.clock.at(call.deadline + PATIENCE, self.time_out, call)
        if functions:
            call.reference = self.lent.pin(self.clock.pick(self.functions))
        call.chain = tuple(each for uid in chain for each in (uid, 0))
        place = None
        if key is not None:
            call.role = ""
            call.key = place = place_of(b"%d" % key, self.roster.places(role))
        contact = route.choose(target, mark_of(f"{role}.{target}"), True, place)
        if contact is not None:
            self._send(contact, call)
            return call
        body = call.body
        blockers = self.parking.blockers(body)
        parked = ParkedCall(cast(Any, call), call.label, body, (), call.terms.wait, place, b"%d" % (key or 0), blockers)
        try:
            self.parking.wait(parked, cast(Any, route))
        except Busy:
            self._end(call, "Busy", "no")
        return call

    def call_one(self, contact: Contact, number: int) -> Call:
        """Calls a function that lives with another."""
        call = self.ledger.new(self, "", number)
        self._send(contact, call)
        return call

    def cancel(self, call: Call) -> None:
        """The caller gives a call up."""
        if not call.is_done:
            self._give_up(call, "cancelled", "")

    def time_out(self, call: Call) -> None:
        """The time of a call is over."""
        if not call.is_done and self.is_alive:
            self._give_up(call, "CallTimeout", call.executed_by_now())

    def _give_up(self, call: Call, outcome: str, executed: str) -> None:
        was_sent = call.state is CallState.SENT
        self._end(call, outcome, executed)
        if was_sent:
            assert call.contact is not None
            call.contact.forget_call(cast(Any, call))
        else:
            self.parking.forget(cast(Any, call))

    def want(self, whom: str | int, word: str) -> None:
        """Asks the Kingpin, once, for links."""
        if whom not in self.wanted:
            self.wanted.add(whom)
            self.control.post((word, whom))

    def _want_member(self, contact: Contact) -> None:
        self.want(contact.uid, "want member")

    def route(self, role: str) -> Route[Contact]:
        """The route to a role, and links to its workers."""
        self.want(role, "want role")
        return self.routes.of(role)

    def __iter__(self) -> Iterator[Contact]:
        return iter(list(self.contacts.values()))

    def _send(self, contact: Contact, call: Call) -> None:
        if len(contact.pending) >= OUTSTANDING_LIMIT:
            self._end(call, "Busy", "no")
            return
        self.ledger.handle_sent(call, contact)
        if call.reference:
            self.lent.hold(call.reference, contact.uid)
        call.step("worker found")
        contact.send_call(cast(Any, call), call.body)
        call.number = call.request.id
        if contact.gone:
            self.lose(contact, contact.gone)

    @noted
    def _send_parked(self, parked: ParkedCall, contact: Contact) -> bool:
        call: Any = parked.call
        parked.part()
        if call.state is not CallState.WAITING:
            return False
        call.key = parked.place
        call.must_not_wait |= contact.uid in parked.blockers
        self._send(contact, call)
        return not call.is_done

    @noted
    def fail(self, call: Call, error: CallError) -> None:
        """A call ends without an answer."""
        claim(error.__cause__ is None, "nothing is raised on the way", call, error.__cause__)
        self._end(call, type(error).__name__, error.executed)

    def _end(self, call: Call, outcome: str, executed: str) -> None:
        if executed:
            executed = call.executed(cast(Executed, executed))
        self.ledger.handle_ended(call, outcome, executed)
        if call.reference:
            self.lent.unpin(call.reference)
        self.debts.pop(call.made, None)
        if call.parent is not None:
            call.parent()

    # ------------------------------------------------------------------------------------------- changes of workers

    def handle_workers(self, role: str, targets: list[Contact]) -> None:
        """The workers of a role that may get calls have changed."""
        near, far = ([], targets) if self.is_far else (targets, [])
        self.parking.handle_workers(role, cast(Any, near), cast(Any, far))

    def handle_draining(self, contact: Contact, was_ready: bool) -> None:
        """A worker drains."""
        self.parking.handle_recalled(cast(Any, contact), contact.recall_early())
        if was_ready:
            self.sends_at_last = True
            self.parking.handle_draining(cast(Any, contact))
            self.sends_at_last = False

    def lose(self, contact: Contact, why: str, is_known: bool = True) -> None:
        """A member is gone, or the link to it has ended."""
        link: Any = contact.link
        losses = contact.lose()
        if link is None or not link.is_broken:
            for loss in losses:
                if loss.was_sent:
                    self._check_end(cast(Any, contact.pending[loss.number]), link is not None and link.is_late)
        self.parking.handle_lost(cast(Any, contact), losses, why, is_known)

    def _check_end(self, call: Call, is_late: bool) -> None:
        callee = call.contact and self.kingpin.everybody.get(call.contact.uid)
        if call.route and callee and callee.has_left_in_order:
            # A worker that ends waits for nobody to whom it has no link. Of what is sent there all the same, before
            # that is known, only this may be lost: calls for it alone, by a key, and those by a link made too late.
            contact = callee.contacts.get(self.uid)
            is_excused = (contact is None or contact.link is None) and (is_late or not call.role)
            claim(is_excused, "an orderly end loses no call", call, callee)

    # ---------------------------------------------------------------------------------------------- answers

    def handle_answer(self, link: Link, message: Any) -> None:
        """A callee says something of a call."""
        contact = link.contact
        kind, number = message[0], message[1]
        if kind == "item":
            call = contact.pending.get(number)
            if call is not None:
                self._handle_item(contact, cast(Any, call))
            return
        call = contact.take(number)
        contact.queue = message[2]
        if call is None:
            return
        if kind == "reply":
            self._end(call, "value", "")
        else:
            self._end(call, message[3], message[4])

    def _handle_item(self, contact: Contact, call: Call) -> None:
        call.has_begun = True
        call.unread += 1
        claim(call.unread <= WINDOW, "a producer is at most one window ahead", call)
        if call.unread == 1:
            self.clock.after(self.clock.between(0.0, 0.02), self.read_items, contact, call)

    def read_items(self, contact: Contact, call: Call) -> None:
        """The consumer of a stream reads what is there."""
        if call.is_done or not self.is_alive:
            return
        debt = self.debts.setdefault(call.made, Debt())
        for _ in range(call.unread):
            call.read += 1
            if given := debt.read():
                contact.post(("more", call.number, given))
        call.unread = 0


def _do_nothing(*_: object) -> None:
    pass
