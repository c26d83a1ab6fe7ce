"""The outgoing half of a process: its calls, the workers that get them, and what becomes of them.

A model in small of `peer/calls/calling.py`, and of what `contacts.py` and `peer.py` do for it, in the same order,
without threads, bytes and descriptors. The choice of a worker and what waits for one, the states of a call, what may be
repeated, the counts of functions and the credit of streams are mob's own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from mob.core.callbacks import Borrowed, Lent
from mob.core.dispatch import Ask, Item, Route
from mob.core.lanes import LOOP
from mob.core.repetition import executed_after, may_repeat
from mob.core.roster import Roster
from mob.core.routing import Place, place_of
from mob.core.states import Call as State
from mob.core.streams import WINDOW, Debt
from mob.errors import Executed
from mob.rim.board import mark_of
from mob.wire.messages import Member
from tests.simulation.board import FULL, Board
from tests.simulation.calls import Call
from tests.simulation.clock import claim
from tests.simulation.links import Link, Pipe

if TYPE_CHECKING:
    from tests.simulation.kingpin import Kingpin

BACKLOG = 300
OUTSTANDING_LIMIT = 400
PATIENCE = 0.05
RETRY_JITTER = 0.05
WAIT = 4.0


class Contact:
    """Another member."""

    __slots__ = (
        "beside",
        "board",
        "early",
        "farewell_said",
        "gone",
        "heard_farewell",
        "is_broken",
        "is_distant",
        "link",
        "member",
        "pending",
        "place",
        "queue",
        "uid",
    )
    is_choked = False

    def __init__(self, member: Member, board: Board, is_distant: bool) -> None:
        self.uid = member.uid
        self.member = member
        self.place: Place = ("", member.index)
        self.board = board
        self.is_distant = is_distant
        """Whether it is on another machine, and nothing on the board can be read."""
        self.link: Link | None = None
        self.pending: dict[int, Call] = {}
        self.beside: set[int] = set()
        """Those that hold up no other there."""
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
        """Calls that it has in hand."""
        own = len(self.pending)
        if self.is_distant:
            return own + self._others
        entry = self.board.read(self.uid)
        return max(own, entry.queued + entry.waiting + entry.running)

    @property
    def in_hand(self) -> int:
        """Those for whose end another one would have to wait; beyond all numbers if callers wait already."""
        own, entry = len(self.pending) - len(self.beside), self.board.read(self.uid)
        return own + self._others if self.is_distant else max(own, entry.queued + entry.full)

    @property
    def _others(self) -> int:
        return FULL if self.queue > len(self.pending) else 0

    @property
    def pace(self) -> int:
        """Microseconds of a call there."""
        return 0 if self.is_distant else self.board.read(self.uid).pace

    def take(self, number: int) -> Call | None:
        """A call of which nothing more is to come."""
        self.beside.discard(number)
        return self.pending.pop(number, None)


class Parked(Item):
    """A call that waits for a worker."""

    __slots__ = ("call", "key")

    def __init__(self, call: Call, wait: float, place: Place | None, key: int, blockers: tuple[int, ...]) -> None:
        super().__init__(str(call.target), 1, wait, place, blockers)
        self.call = call
        self.key = key

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
        self.is_far = False
        """Whether it is on another machine than all others."""
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
        self._timer_for = math.inf
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
        call.chain = chain
        route = self._route(role)
        if timeout is not None:
            call.deadline = self.clock.now + timeout
            self.clock.at(call.deadline + PATIENCE, self.time_out, call)
        if functions:
            call.reference = self.lent.pin(self.clock.pick(self.functions))
        place = None
        if key is not None:
            call.role = ""
            call.key = place = place_of(b"%d" % key, self.roster.places(role))
        contact = route.choose(target, mark_of(f"{role}.{target}"), True, place)
        if contact is None:
            self._wait(Parked(call, WAIT, place, key or 0, (self.uid, *chain)), route)
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
        else:
            self._forget_waiting(call)

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
            self._forget_waiting(call)

    def forget(self, contact: Contact, call: Call) -> None:
        """Tells its worker that nobody wants it any more."""
        if contact.take(call.number) is not None:
            self.post(contact, ("cancel", call.number))

    def _route(self, role: str) -> Route[Contact]:
        if role not in self.wanted:
            self.wanted.add(role)
            self.control.post(("want role", role))
        return self.route(role)

    def route(self, role: str) -> Route[Contact]:
        """The route to a role."""
        return self.routes.get(role) or self.routes.setdefault(role, Route(role, self.kingpin.board.cost))

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
        if type(call.target) is str and self.route(call.route).lanes.get(call.target, LOOP).is_beside:
            contact.beside.add(call.number)
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

    # ---------------------------------------------------------------------------------------------- waiting

    def _wait(self, parked: Parked, route: Route[Contact], is_new: bool = True) -> None:
        call = parked.call
        if not route.targets and self.roster.is_over(route.role):
            self._end(call, "refused", "Unavailable", "no")
            return
        if is_new and parked.size + sum(each.size for each in self.routes.values()) > BACKLOG:
            self._end(call, "refused", "Busy", "no")
            return
        contact = route.any_of(parked.blockers, parked.place)
        if contact is not None:
            call.must_not_wait = True
            self._send_parked(parked, contact)
            return
        call.parked = parked
        self._ask(route.park(parked, self.clock.now))
        self._look_at_the_clock()

    def _ask(self, asks: list[Ask[Contact]]) -> None:
        for contact, line, name in asks:
            self.post(contact, ("waiting", line, name))

    def _look_at_the_clock(self) -> None:
        until = min((item.until for route in self.routes.values() for item in route.items()), default=math.inf)
        if until < self._timer_for:
            self._timer_for = until
            self.clock.at(until, self.give_up, until)

    def give_up(self, until: float) -> None:
        """Something has waited too long for a worker to become ready."""
        if not self.is_alive or until != self._timer_for:
            return
        self._timer_for = math.inf
        for route in self.routes.values():
            for parked in self._take(route, lambda item: item.until <= self.clock.now):
                self._end(parked.call, "waited too long", "Unavailable", "no")
        self._look_at_the_clock()

    def _take(self, route: Route[Contact], is_taken: Callable[[Item], bool] = lambda _: True) -> list[Parked]:
        taken: list[Any] = [item for item in route.items() if is_taken(item) and route.forget(item)]
        for number in dict.fromkeys(item.line.number for item in taken):
            self._ask(route.asks_after(number))
        return taken

    def _forget_waiting(self, call: Call) -> None:
        if call.parked is not None:
            route, line = call.parked.line.route, call.parked.line
            if route.forget(call.parked):
                self._ask(route.asks_after(line.number))

    def handle_invite(self, contact: Contact, line: int, count: int) -> None:
        """A worker has room."""
        route = self.route(contact.member.role)
        items: list[Any] = route.accept(contact, line, count)
        sent = [self._send_parked(parked, contact) for parked in items]
        if not any(sent):
            self.post(contact, ("declined", line))
            route.forget_worker(contact, line)
        self._ask(route.asks_after(line))

    def handle_workers(self, role: str, targets: list[Contact]) -> None:
        """The workers of a role that may get calls have changed."""
        route = self.route(role)
        route.places = sum(count for _, count in self.roster.places(role))
        near, far = ([], targets) if self.is_far else (targets, [])
        self._ask(route.put(near, far, self.clock.now))
        if not route.waiting:
            return
        for parked in self._take(route, lambda item: route.any_of(item.blockers, item.place) is not None):
            contact = route.any_of(parked.blockers, parked.place)
            assert contact is not None
            parked.call.must_not_wait = True
            self._send_parked(parked, contact)
        self._look_at_the_clock()

    def handle_resized(self, role: str) -> None:
        """There are other places."""
        route, places = self.route(role), self.roster.places(role)
        route.places = sum(count for _, count in places)
        if route.waiting:
            self._ask(route.place_again(lambda item: self._place_again(item, places), self.clock.now))
            self._look_at_the_clock()

    def _place_again(self, item: Item, places: list[tuple[str, int]]) -> Place:
        assert isinstance(item, Parked)
        item.call.key = place = place_of(b"%d" % item.key, places)
        return place

    def handle_link_lost(self, contact: Contact) -> None:
        """The link to a worker has ended; if the worker lives it knows no more of what waits for it."""
        route = self.routes.get(contact.member.role)
        if route is not None and route.waiting:
            self._ask(route.replace_worker(contact))

    def _send_parked(self, parked: Parked, contact: Contact) -> bool:
        if parked.call.state is not State.WAITING:
            return False
        self._send(contact, parked.call)
        return not parked.call.is_done

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
        call = contact.take(number)
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
        self.handle_link_lost(contact)
        for number in list(contact.pending):
            call = contact.take(number)
            if call is None:
                continue
            if number in never_sent:
                self.route_again(call, "worker lost before it was sent")
            else:
                if link is None or not link.is_broken:
                    self._check_end(call)
                self._handle_lost(call)

    def _check_end(self, call: Call) -> None:
        callee = call.contact and self.kingpin.everybody.get(call.contact.uid)
        claim(not (call.route and callee and callee.has_left_in_order), "an orderly end loses no call", call, callee)

    def _handle_lost(self, call: Call) -> None:
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
        self._wait(Parked(call, WAIT, None, 0, (self.uid, *call.chain)), self._route(call.role), is_new=False)
