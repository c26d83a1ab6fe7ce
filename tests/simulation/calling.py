"""The outgoing half of a process: its calls, the workers that get them, and what becomes of them.

A model in small of `mobster/calling.py`, and of what `contacts.py` and `peer.py` do for it, in the same order, without
threads, bytes and descriptors. The choice of a worker, the states of a call, what may be repeated, the counts of
functions and the credit of streams are mob's own.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, cast

from mob.core.callbacks import Borrowed, Lent
from mob.core.repetition import executed_after, may_repeat
from mob.core.roster import Roster
from mob.core.routing import Place, Route, place_of
from mob.core.states import Call as State
from mob.core.streams import WINDOW, Debt
from mob.errors import Executed
from mob.wire.messages import Member
from tests.simulation.calls import Call
from tests.simulation.clock import claim
from tests.simulation.links import Link, Pipe

if TYPE_CHECKING:
    from tests.simulation.kingpin import Kingpin

WAITING_LIMIT = 300
OUTSTANDING_LIMIT = 400
PATIENCE = 0.05
RETRY_JITTER = 0.05
WAIT = 4.0


class Contact:
    """Another member."""

    __slots__ = (
        "early",
        "farewell_said",
        "gone",
        "heard_farewell",
        "is_broken",
        "link",
        "member",
        "pending",
        "queue",
        "uid",
    )

    def __init__(self, member: Member) -> None:
        self.uid = member.uid
        self.member = member
        self.link: Link | None = None
        self.pending: dict[int, Call] = {}
        self.queue = 0
        self.early: list[Any] = []
        self.farewell_said = False
        self.heard_farewell = False
        self.is_broken = False
        self.gone = ""

    def __str__(self) -> str:
        return f"{self.member.role or 'client'}.{self.member.index}/{self.uid}"

    @property
    def outstanding(self) -> int:
        """Calls from here that it has in hand."""
        return len(self.pending)


class Parked:
    """A call that waits for a worker."""

    __slots__ = ("call",)

    def __init__(self, call: Call) -> None:
        self.call = call

    def __str__(self) -> str:
        return str(self.call)


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
        self.control = Pipe(self.clock, kingpin, self)  # what it tells the Kingpin
        self.roster = Roster()
        self.contacts: dict[int, Contact] = {}
        self.routes: dict[str, Route[Contact]] = {}
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
        self._numbers = 0
        self._readable: dict[Pipe, None] = {}

    def __str__(self) -> str:
        return f"{self.role or 'client'}.{self.index}/{self.uid}"

    # ---------------------------------------------------------------------------------------------- calling

    def call(
        self, role: str, target: str, key: int | None = None, timeout: float | None = None, functions: bool = False
    ) -> Call:
        """Calls an export of any one worker of a role."""
        call = self.ledger.new(self, role, target)
        route = self._route(role)
        if timeout is not None:
            call.deadline = self.clock.now + timeout
            self.clock.at(call.deadline + PATIENCE, self.time_out, call)
        if functions:
            call.reference = self.lent.pin(self.clock.pick(self.functions))
        if key is not None:
            call.role = ""
            call.key = place = place_of(b"%d" % key, self.roster.places(role))
            contact = next((target for target in route.targets if target.member.index == place[1]), None)
            if contact is not None and not route.keyed.get(place):
                self._send(contact, call)
            else:
                self._park(call, route, place)
            return call
        contact = route.choose()
        if contact is None or route.waiting:
            self._park(call, route)
        else:
            self._send(contact, call)
        return call

    def call_one(self, contact: Contact, number: int) -> Call:
        """Calls a function that lives with another."""
        call = self.ledger.new(self, "", number)
        self._send(contact, call)
        return call

    def cancel(self, call: Call) -> None:
        """The caller gives a call up."""
        if call.is_done:
            return
        contact = call.contact if call.state is State.SENT else None
        self._end(call, "cancelled", "cancelled", "")
        if contact is not None:
            self.forget(contact, call)

    def time_out(self, call: Call) -> None:
        """The time of a call is over."""
        if call.is_done or not self.is_alive:
            return
        if call.state is State.SENT:
            contact = call.contact
            self._end(call, "took too long", "CallTimeout", "maybe")
            assert contact is not None
            self.forget(contact, call)
        else:
            self._end(call, "waited too long", "CallTimeout", "no")

    def forget(self, contact: Contact, call: Call) -> None:
        """Tells its worker that nobody wants it any more."""
        if contact.pending.pop(call.number, None) is not None:
            self.post(contact, ("cancel", call.number))

    def _route(self, role: str) -> Route[Contact]:
        if role not in self.wanted:
            self.wanted.add(role)
            self.control.post(("want role", role))
        return self.routes.get(role) or self.routes.setdefault(role, Route(role))

    def _send(self, contact: Contact, call: Call) -> None:
        if len(contact.pending) >= OUTSTANDING_LIMIT:
            self._end(call, "refused", "Busy", "no")
            return
        self.ledger.handle_sent(call, contact)
        if call.reference:
            self.lent.hold(call.reference, contact.uid)
        self._numbers += 1
        call.number = self._numbers
        call.contact = contact
        call.step("worker found")
        contact.pending[call.number] = call
        self.post(contact, ("call", call.number, call))
        if contact.gone:
            self.lose(contact)

    def post(self, contact: Contact, message: Any) -> None:
        """Says something to a member, now or when the link is there."""
        if contact.link is not None:
            contact.link.out.post(message)
            return
        if contact.uid not in self.wanted:
            self.wanted.add(contact.uid)
            self.control.post(("want member", contact.uid))
        contact.early.append(message)

    def _park(self, call: Call, route: Route[Contact], place: Place | None = None) -> None:
        if not route.targets and self.roster.roles[route.role].given_up:
            self._end(call, "refused", "Unavailable", "no")
            return
        waiting = route.waiting if place is None else route.keyed.setdefault(place, deque())
        if len(waiting) >= WAITING_LIMIT:
            self._end(call, "refused", "Busy", "no")
            return
        parked = Parked(call)
        waiting.append(parked)
        self.route_waiting(route)
        if call.state is State.WAITING:
            self.clock.after(WAIT, self.give_up, route, parked)

    def give_up(self, route: Route[Contact], parked: Parked) -> None:
        """It has waited too long for a worker."""
        if self.is_alive and parked in route.all_waiting():
            route.forget(parked)
            if not parked.call.is_done:
                self._end(parked.call, "waited too long", "Unavailable", "no")

    def route_waiting(self, route: Route[Contact]) -> None:
        """A worker is ready: sends what has waited, in order."""
        waiting = route.waiting
        while waiting and (contact := route.choose()) is not None:
            self._send_parked(waiting[0], contact)
            waiting.popleft()
        for place, keyed in route.keyed.items():
            contact = next((target for target in route.targets if target.member.index == place[1]), None)
            while keyed and contact is not None:
                self._send_parked(keyed[0], contact)
                keyed.popleft()

    def _send_parked(self, parked: Parked, contact: Contact) -> None:
        if parked.call.state is State.WAITING:
            self._send(contact, parked.call)

    def _end(self, call: Call, event: str, outcome: str, executed: str) -> None:
        if executed:
            executed = executed_after(call.is_repeated, cast(Executed, executed))
        self.ledger.handle_ended(call, event, outcome, executed)
        if call.reference:
            self.lent.unpin(call.reference)
        self.debts.pop(call.made, None)
        if call.parent is not None:
            call.parent()

    # ---------------------------------------------------------------------------------------------- answers

    def handle_answer(self, link: Link, message: Any) -> None:
        """A callee says something of a call."""
        contact = link.contact
        kind, number = message[0], message[1]
        if kind == "item":
            call = contact.pending.get(number)
            if call is not None:
                self._handle_item(contact, call)
            return
        call = contact.pending.pop(number, None)
        contact.queue = message[2]
        if call is None:
            return
        if kind == "reply":
            self._end(call, "answered", "value", "")
        else:
            self._end(call, "answered", message[3], message[4])

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
                self.post(contact, ("more", call.number, given))
        call.unread = 0

    # ------------------------------------------------------------------------------------- deaths and repeats

    def lose(self, contact: Contact) -> None:
        """A member is gone, or the link to it has ended."""
        link, contact.link = contact.link, None
        never_sent = {message[1] for message in contact.early if message[0] == "call"}
        contact.early.clear()
        if link is not None:
            never_sent |= {message[1] for message in link.out.unsent if message[0] == "call"}
        while contact.pending:
            number, call = contact.pending.popitem()
            if number in never_sent:
                self.route_again(call, "worker lost before it was sent")
            else:
                self._handle_lost(call)

    def _handle_lost(self, call: Call) -> None:
        callee = call.contact and self.kingpin.everybody.get(call.contact.uid)
        claim(not (call.route and callee and callee.has_left_in_order), "an orderly end loses no call", call, callee)
        role = self.roster.roles[call.role] if call.role else None
        if call.has_begun or call.state is not State.SENT or not may_repeat(role, call.target, call.retries):
            self._end(call, "worker lost", "Lost", "maybe")
            return
        call.retries -= 1
        call.is_repeated = True
        self.clock.after(self.clock.between(0, RETRY_JITTER), self.route_again, call, "worker lost, may be repeated")

    def route_again(self, call: Call, event: str) -> None:
        """To another worker of its role, if it may go there."""
        if call.state is not State.SENT or not self.is_alive:
            return
        if not call.role:
            self._end(call, "worker lost", "Lost", "no")
            return
        call.step(event)
        self._park(call, self._route(call.role))
