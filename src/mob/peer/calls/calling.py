"""Making calls: encode, choose a worker, send; and waiting for a worker where there is none.

Arguments are encoded at once, so what cannot be sent fails in the line that sends it, and what changes later is not
seen by the callee. Which worker gets a call, and what waits until one invites it, is decided in `core/dispatch.py`;
here it is done.
"""

from __future__ import annotations

import contextlib
import math
import random
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING, Any

from msgspec import Raw

from mob.core import repetition
from mob.core.dispatch import Ask, Item, Route
from mob.core.lanes import MESSAGE
from mob.core.routing import Place, place_of
from mob.core.states import Call as State
from mob.errors import BadMessage, Busy, CallError, Lost, MobError, Unavailable, UnknownTarget
from mob.peer.calls.options import DEFAULTS, WAIT, Options
from mob.peer.calls.request_ids import carried_by_call, carried_by_message
from mob.peer.links.contacts import EXITED, UNSENT_LIMIT
from mob.peer.links.served import Served, current
from mob.peer.references import portable
from mob.peer.results.call import Call
from mob.peer.results.streams import Receiver
from mob.plan import BACKLOG
from mob.rim.board import mark_of
from mob.wire import messages as m
from mob.wire.references import AnyReference, Passage

if TYPE_CHECKING:
    from mob.peer.calls.proxy import RemoteExport
    from mob.peer.links.contacts import Body, Contact
    from mob.peer.peer import Peer

OVERHEAD = 512
"""Bytes that a waiting call takes besides its arguments."""
OVERDUE = 0.1
"""Seconds after which a call that waits for a worker is counted as waiting: a shorter wait is no backlog."""
ATTEMPTS = 3
"""How often a call that was taken out of its line is ended if that raises."""
OUTSTANDING_LIMIT = 100_000
"""Calls to one worker that may be unanswered, in one process."""


RETRY_JITTER = 0.05
"""Seconds within which a call that was lost is repeated, so that not all of them come at once."""


class Parked(Item):
    """A call or message that waits for a worker."""

    __slots__ = ("body", "call", "key", "passage")

    def __init__(
        self,
        call: Call[Any] | None,
        body: Body,
        passage: Passage,
        wait: float,
        place: Place | None = None,
        key: bytes = b"",
        blockers: Sequence[int] = (),
        can_leave: bool = True,
    ) -> None:
        size = OVERHEAD + len(body[1]) + sum(map(len, body[2]))
        super().__init__(MESSAGE if call is None else str(body[0]), size, wait, place, blockers, can_leave)
        self.call = call
        self.body = body
        self.passage = passage
        self.key = key
        """Of a call that waits for the worker in a certain place."""


class Calling:
    """The outgoing half of a process."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._context = peer.context
        self._timer_for: float | None = None
        self._timer = 0  # its number
        self.backlog = BACKLOG
        """Bytes of calls that may wait here for workers."""
        self._waiting = Lock()
        """Held by any thread that changes what waits, and until those that must know of it have been told: else what
        one thread says could overtake what another has said."""

    def __repr__(self) -> str:
        return f"<Calling, {self.waiting} calls wait for a worker>"

    # ---------------------------------------------------------------------------------------------- sending

    def call(self, export: RemoteExport, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Call[Any]:
        """Calls an export of any one worker of its role."""
        peer = self._peer
        options = export.options
        special = None if options.pid is None else peer.contact_of_pid(options.pid, export.role)
        route = export.route
        if not route.near:
            self.look_for_app(route)
        shares = bool(route.near or not route.far)
        args_body = Raw(peer.encoder.encode(args, "args", shares))
        named = (Raw(peer.encoder.encode(kwargs, "kwargs", shares)),) if kwargs else ()
        passage = peer.references.take() if peer.references.encoding else ()
        call = export.new_call(peer, export.label, export.role if special is None else "")
        try:
            served = current()
            carried = carried_by_call(served) if peer.context.tracing is None else self._carry(call)
            if served is None and options is DEFAULTS:  # by far the most
                body: Body = (export.name, args_body, named, None, (), carried)
            else:
                times, chain = self._inherit(served, options.timeout)
                body = (export.name, args_body, named, times, chain, carried)
                call.retries = options.retries
                call.wait = options.wait
                if times is not None:
                    peer.limit(call, times)
            if passage:
                self._accompany(call, passage)
            if options.key is not None:
                self._send_by_key(route, options, export.mark, call, body, passage)
                return call
            contact = special
            if contact is None:
                can_leave = not (passage and portable.stays_here(passage))
                is_inside = served is not None or route.role == peer.context.role
                contact = route.choose(
                    export.name, export.mark, can_leave, None, self._blockers(body) if is_inside else ()
                )
                if contact is None:
                    blockers = self._blockers(body)
                    self._wait(Parked(call, body, passage, options.wait, blockers=blockers, can_leave=can_leave), route)
                    return call
            self._send(contact, call, body, passage)
        except BaseException as error:
            self._end_unmade(call, passage, error)
            raise
        return call

    def _end_unmade(self, call: Call[Any], passage: Passage, error: BaseException) -> None:
        """The line that makes a call raises: nobody has the call, so it ends."""
        for _ in range(ATTEMPTS):
            with contextlib.suppress(BaseException):
                if passage and not hasattr(call, "passage"):
                    self._peer.references.let_go(passage)
                    passage = ()
                call.cancel()
                if call.state is State.DONE and hasattr(call, "request"):
                    call.contact.forget_call(call)
                if not isinstance(error, MobError):
                    self._ask_again()
                return

    def _ask_again(self) -> None:
        """Tell all workers of all that waits: something was raised while calls were sent, or taken out of their lines.
        To be told twice does no harm."""
        with self._waiting:
            for route in self._peer.contacts.all_routes():  # also where nothing waits now: what comes is told of
                self._ask(route.ask_again())

    def call_one(
        self,
        contact: Contact,
        label: str,
        target: str | int,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
    ) -> Call[Any]:
        """Calls an export or a callback in one certain process."""
        peer = self._peer
        args_body = Raw(peer.encoder.encode(args, "args"))
        named = (Raw(peer.encoder.encode(kwargs, "kwargs")),) if kwargs else ()
        passage = peer.references.take() if peer.references.encoding else ()
        call: Call[Any] = Call(peer, label, "")
        try:
            if passage:
                self._accompany(call, passage)
            served = current()
            times, chain = self._inherit(served, None)
            if times is not None:
                peer.limit(call, times)
            carried = carried_by_call(served) if peer.context.tracing is None else self._carry(call)
            self._send(contact, call, (target, args_body, named, times, chain, carried), passage)
        except BaseException as error:
            self._end_unmade(call, passage, error)
            raise
        return call

    def call_function(self, owner: int, number: int, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Call[Any]:
        """Call a function in the process that has lent it."""
        contact = self._peer.contacts.look_up(owner)
        return self.call_one(contact, f"a callback of {contact.name}", number, args, kwargs)

    def look_for_app(self, route: Route[Contact]) -> None:
        """Something is to be encoded for a role. If nobody is there because the app has ended, and it runs again, take
        part in it first: what is encoded may name this process, which gets another number."""
        if not route.near and not route.far and self._peer.control.is_closed:
            self._peer.control.come_back()

    def _carry(self, call: Call[Any]) -> str:
        """The context of OpenTelemetry that goes along with a call."""
        tracing = self._context.tracing
        assert tracing is not None
        carried = tracing.carried()
        tracing.accompany(call, carried)
        return carried

    def _inherit(
        self, served: Served | None, timeout: float | None
    ) -> tuple[tuple[float, float] | None, tuple[int, ...]]:
        """What a call takes over from the one in whose course it is made: what is left of its time, and its chain."""
        outer = None if served is None else served[1]
        deadline = None if outer is None or outer.times is None else outer.times[1]
        if timeout is None and deadline is None:
            times = None
        else:
            now = monotonic()
            own = None if timeout is None else now + timeout
            times = (now, min(at for at in (own, deadline) if at is not None))
        if served is None or outer is None:
            return times, ()
        return times, (*outer.chain, served[0].uid, outer.id)

    def _send_by_key(
        self, route: Route[Contact], options: Options, mark: int, call: Call[Any], body: Body, passage: Passage
    ) -> None:
        """To the worker in the place that the key belongs to; if it has no room, when it has."""
        call.role = ""
        key = repr(options.key).encode()
        place = place_of(key, self._context.roster.places(route.role))
        contact = route.choose(str(body[0]), mark, place=place)
        if contact is not None:
            self._send(contact, call, body, passage)
        else:
            self._wait(Parked(call, body, passage, options.wait, place, key, self._blockers(body)), route)

    def _blockers(self, body: Body) -> tuple[int, ...]:
        """The processes that may be waiting for the call themselves: this one, and those in whose calls it is made."""
        return self._context.uid, *body[4][::2]

    def send(self, contacts: Sequence[Contact], obj: Any) -> None:
        """Sends a message to each of them. `Busy` if there were some that read too slowly, when the others have it."""
        peer = self._peer
        carried = carried_by_message() if peer.context.tracing is None else peer.context.tracing.carried()
        message = m.Message(Raw(peer.encoder.encode(obj, "message")), carried)
        passage = peer.references.take() if peer.references.encoding else ()
        slow: list[str] = []
        try:
            for contact in contacts:
                if contact.has_room():
                    self._send_message(contact, message, passage)
                else:
                    slow.append(contact.name)
        finally:
            if passage:
                peer.references.let_go(passage)
        if slow:
            others = "The others have got it. " if len(contacts) > len(slow) else ""
            raise Busy(
                f"a message was not sent to {', '.join(slow)}, for which more than {UNSENT_LIMIT:,} bytes wait already."
                f" {others}Send more slowly, or have the receiver's handler return sooner."
            )

    def _send_message(self, contact: Contact, message: m.Message, passage: Passage) -> None:
        if passage:
            if contact.is_distant:
                message = m.Message(self._peer.encoder.body_for_far(message.body, passage), message.trace)
            self._peer.references.hand_over(passage, contact)
        contact.post(message)

    def send_any(self, role: str, obj: Any) -> None:
        """Sends a message to any one of the role, waiting for a ready one."""
        peer = self._peer
        route = self.route(role)
        contact = route.choose(MESSAGE, 0)
        if contact is not None and not contact.has_room():
            contact = next((other for other in route.targets if other.has_room()), contact)
        if contact is not None:
            self.send([contact], obj)
            return
        self.look_for_app(route)
        body = Raw(peer.encoder.encode(obj, "message"))
        passage = peer.references.take() if peer.references.encoding else ()
        carried = carried_by_message() if peer.context.tracing is None else peer.context.tracing.carried()
        self._wait(Parked(None, ("", body, (), None, (), carried), passage, WAIT), route)

    def parked(self) -> dict[str, int]:
        """How many calls have waited here for a worker for a while, by role. From any thread."""
        before = monotonic() - OVERDUE
        counts = {route.role: route.overdue(before) for route in self._peer.contacts.all_routes() if route.waiting}
        return {role: count for role, count in counts.items() if count}

    def parked_bytes(self, role: str = "") -> int:
        """Return how many bytes the calls keep that wait here for workers, of one role or of all. From any thread."""
        return sum(route.size for route in self._peer.contacts.all_routes() if role in ("", route.role))

    @property
    def waiting(self) -> int:
        """How many calls wait here for workers at this moment. From any thread."""
        return sum(route.waiting for route in self._peer.contacts.all_routes())

    def route(self, role: str) -> Route[Contact]:
        """The ready workers of a role; the Kingpin is asked for links to them."""
        self._peer.contacts.want_role(role)
        return self._peer.contacts.route(role)

    def _accompany(self, call: Call[Any], passage: Passage) -> None:
        """Keeps the functions in a call alive until it has ended, for it may have to go to another worker."""
        self._peer.references.accompany(call, passage)
        left = list(passage)
        call.when_done(lambda _: self._let_go_of(left))
        call.passage = passage

    def _let_go_of(self, left: list[tuple[AnyReference, Any]]) -> None:
        """Each once, also if this is called again because it has raised."""
        while left:
            self._peer.references.let_go([left.pop()])

    def _send(self, contact: Contact, call: Call[Any], body: Body, passage: Passage) -> None:
        if contact.is_choked:
            unsent = f"more than {UNSENT_LIMIT:,} bytes wait for the link to {contact.name} already"
            self._peer.fail(call, Busy(f"{call.label}: {unsent}."))
            return
        if len(contact.pending) >= OUTSTANDING_LIMIT:
            self._peer.fail(
                call, Busy(f"{call.label}: {OUTSTANDING_LIMIT:,} calls to {contact.name} are unanswered already.")
            )
            return
        if passage and contact.is_distant:
            try:
                body = self._peer.encoder.call_for_far(body, passage)
            except BadMessage as error:
                call.fail(error)
                return
        if passage:
            self._peer.references.hand_over(passage, contact)
        contact.send_call(call, body)

    # ---------------------------------------------------------------------------------------------- waiting

    def _wait(self, parked: Parked, route: Route[Contact], is_new: bool = True) -> None:
        """Has a call or a message wait for a worker that has room for it; `Busy` if too much waits already."""
        peer = self._peer
        error = self.why_none(_label(parked, route.role), route.role)
        if error is not None:
            self._give_up(parked, error)
            return
        if is_new and parked.size + self.parked_bytes() > self.backlog:
            raise self._refuse(parked, route)
        contact = route.any_of(parked.blockers, parked.place)
        if contact is not None:
            self._send_parked(parked, contact)
            return
        if parked.call is not None:
            parked.call.parked = parked
        with self._waiting:
            self._ask(route.park(parked, monotonic()))
            is_first = len(parked.line.waiting) == 1
        if parked.until != math.inf:
            peer.context.reactor.call(self._look_at_the_clock)
        if is_first and peer.when_parked is not None:
            peer.context.reactor.call(peer.when_parked)
        if parked.call is not None and parked.call.state is not State.WAITING:  # cancelled meanwhile
            self.forget(parked.call)
        if peer.control.is_closed:  # looked at again: the app may have gone while this was under way on another thread
            self.fail_all(peer.control.ended)

    def _refuse(self, parked: Parked, route: Route[Contact]) -> Busy:
        peer, label = self._peer, _label(parked, route.role)
        error = Busy(
            f"{label}: {self.waiting:,} calls with {self.parked_bytes():,} bytes wait in this process for workers, and "
            f"the limit is {self.backlog:,} (backlog of the app). Wait for some of them before you make more: "
            f"`.map(items)` does that, and so does `await` or `.result()` every now and then."
        )
        if parked.call is None:
            peer.references.let_go(parked.passage)
        else:
            parked.call.cancel()
            if peer.serving.tallies is not None:
                peer.serving.tallies.lose(label, error)
        return error

    def _change(self, change: Callable[[], Sequence[Ask[Contact]]]) -> None:
        """Change what waits, or for whom it does, and tell those that must know of it."""
        try:
            with self._waiting:
                self._ask(change())
        except BaseException:
            self._context.reactor.call(self._ask_again)
            raise

    def _ask(self, asks: Sequence[Ask[Contact]]) -> None:
        for contact, line, name in asks:
            contact.post(m.Waiting(line, name))

    def _look_at_the_clock(self) -> None:
        routes = self._peer.contacts.all_routes()
        until = min((item.until for route in routes if route.waiting for item in route.items()), default=math.inf)
        if until != math.inf and (self._timer_for is None or until < self._timer_for):
            reactor = self._context.reactor
            if self._timer_for is not None:
                reactor.cancel(self._timer)
            self._timer_for, self._timer = until, reactor.call_at(until, self._handle_timer)

    def _handle_timer(self) -> None:
        self._timer_for = None
        now = monotonic()
        for route in self._peer.contacts.all_routes():
            self._take_each(route, self._give_up_late, lambda item: item.until <= now)
        self._look_at_the_clock()

    def _give_up_late(self, parked: Parked) -> None:
        role = parked.line.route.role
        self._give_up(parked, self.too_late(_label(parked, role), role))

    def _take_each(
        self, route: Route[Contact], act: Callable[[Parked], object], is_taken: Callable[[Item], bool] = lambda _: True
    ) -> None:
        """Take what is meant out of its line and do something with each; what raises then ends its own call."""
        for parked in self._take(route, is_taken):
            self._attend(parked, act)

    def _attend(self, parked: Parked, act: Callable[[Parked], object]) -> bool:
        """Do something with what has waited and was taken; if it raises, it ends with that. Whether it was sent."""
        try:
            return bool(act(parked))
        except BaseException as error:  # noqa: BLE001  becomes the outcome
            label = _label(parked, "a role")
            failed = Lost(f"{label} was lost: sending it raised {type(error).__name__}: {error}", executed="maybe")
            failed.__cause__ = error
            for _ in range(ATTEMPTS):
                try:
                    if (call := parked.call) is not None and call.state is State.SENT:
                        call.contact.forget_call(call)
                    self._give_up(parked, failed)
                    self._ask_again()
                    break
                except BaseException:  # noqa: BLE001  tried again
                    continue
            return False

    def _take(self, route: Route[Contact], is_taken: Callable[[Item], bool] = lambda _: True) -> list[Parked]:
        """Takes what is meant out of its line."""
        if not route.waiting:
            return []
        with self._waiting:
            meant: list[Any] = [item for item in route.items() if is_taken(item)]
            taken: list[Any] = []
            try:
                while meant:
                    if route.forget(meant[0]):
                        taken.append(meant[0])
                    del meant[0]
                for number in {item.line.number for item in taken}:
                    self._ask(route.asks_after(number))
            except BaseException:  # noqa: BLE001  what was taken goes its way, and so does what may have been
                if meant and not route.holds(meant[0]) and meant[0] not in taken:
                    taken.append(meant[0])
                self._ask(route.ask_again())
            return taken

    def forget(self, call: Call[Any]) -> None:
        """A call that waits has ended; on any thread."""
        parked = getattr(call, "parked", None)
        if parked is not None and hasattr(parked, "line"):
            line = parked.line
            route = line.route
            self._change(lambda: route.asks_after(line.number) if route.forget(parked) else ())

    def handle_invite(self, contact: Contact, invite: m.Invite) -> None:
        """A worker has room: sends what has waited for it, in order; or says that nothing does."""
        items: list[Any] = []
        try:
            self._accept(contact, invite, items)
        except BaseException:
            for parked in items:
                if parked.call is None or parked.call.state is State.WAITING:
                    self._attend(parked, partial(self._send_parked, contact=contact))
            self._ask_again()
            raise

    def _accept(self, contact: Contact, invite: m.Invite, items: list[Any]) -> None:
        """As `handle_invite`; `items` gets what is taken out of its line."""
        route = self._peer.contacts.route(contact.member.role)
        with self._waiting:
            if not contact.is_choked:
                route.accept(contact, invite.line, invite.count, items)
            if not items:
                contact.post(m.Declined(invite.line))
                route.forget_worker(contact, invite.line)
                self._ask(route.asks_after(invite.line))  # to a choked link it goes behind all that waits for it
                return
        if contact.is_distant and invite.cost and self._context.board is not None:
            self._context.board.learn(mark_of(f"{contact.member.role}.{items[0].name}"), invite.cost / 1e6)
        sent = [self._attend(parked, partial(self._send_parked, contact=contact)) for parked in items]
        with self._waiting:
            if not any(sent):
                contact.post(m.Declined(invite.line))
                route.forget_worker(contact, invite.line)
            self._ask(route.asks_after(invite.line))

    def handle_workers(self, role: str, near: Sequence[Contact], far: Sequence[Contact]) -> None:
        """The workers of a role that may get calls have changed."""
        route = self._peer.contacts.route(role)
        with self._waiting:
            route.places = sum(count for _, count in self._context.roster.places(role))
        self._change(lambda: route.put(near, far, monotonic()))
        if not route.waiting:
            return
        self._take_each(
            route,
            lambda parked: self._send_blocked(parked, route),
            lambda item: route.any_of(item.blockers, item.place) is not None,
        )
        self._look_at_the_clock()

    def _send_blocked(self, parked: Parked, route: Route[Contact]) -> None:
        contact = route.any_of(parked.blockers, parked.place)
        if contact is not None:
            self._send_parked(parked, contact)

    def handle_draining(self, contact: Contact) -> None:
        """A worker finishes what it has. If no other one is there, as when the app stops, what waits is sent to it, for
        it may be the last."""
        route = self._peer.contacts.routes.get(contact.member.role)
        if route is not None and route.waiting and not route.targets and contact.link is not None:
            send = partial(self._send_parked, contact=contact)
            self._take_each(route, send, lambda item: item.place in (None, contact.place))

    def handle_link_lost(self, contact: Contact) -> None:
        """The link to a worker has ended; if the worker lives it knows no more of what waits for it."""
        route = self._peer.contacts.routes.get(contact.member.role)
        if route is not None:  # also if nothing waits now: what comes must be told of again
            self._change(lambda: route.replace_worker(contact))

    def _send_parked(self, parked: Parked, contact: Contact) -> bool:
        """Sends what has waited; False if it is a call that has ended meanwhile."""
        if parked.call is None:
            try:
                self._send_message(contact, m.Message(parked.body[1], parked.body[5]), parked.passage)
            except BadMessage as error:
                label = _label(parked, contact.member.role)
                self._context.complaints.tell(label, "%s: %s", label, error, error=error, traceback=False)
            self._peer.references.let_go(parked.passage)
            return True
        _part(parked.call)
        if parked.call.state is not State.WAITING:
            return False
        self._send(contact, parked.call, parked.body, parked.passage)
        return not parked.call.done()

    def leave(self) -> None:
        """This process ends in order: what waits for a worker is sent to one now, whether it has room or not, and is
        done though nobody waits for the answer."""
        for route in self._peer.contacts.all_routes():
            self._take_each(route, self._send_at_last)
        for contact in self._peer.contacts:
            contact.end_orphans(EXITED)
            contact.say_farewell()

    def _send_at_last(self, parked: Parked) -> None:
        route = parked.line.route
        contact = route.least(parked.place)
        if contact is not None:
            self._send_parked(parked, contact)
        else:
            why = f"no worker became ready before {self._context.name} ended."
            self._give_up(parked, Unavailable(f"{_label(parked, route.role)}: {why}"))

    def repeat(self, call: Call[Any] | Receiver, why: str) -> bool:
        """Its worker had the call and is gone. Have an idempotent one repeated, with a little jitter, elsewhere; but no
        stream of which something has arrived. Return False if it cannot be."""
        if isinstance(call, Receiver) or call.state is not State.SENT or not self.may_repeat(call):
            return False
        call.retries = getattr(call, "retries", DEFAULTS.retries) - 1
        call.is_repeated = True
        if hasattr(call, "until"):
            del call.until
        when = monotonic() + random.uniform(0, RETRY_JITTER)
        self._context.reactor.call_at(when, partial(self.route_again, call, why))
        return True

    def may_repeat(self, call: Call[Any]) -> bool:
        """Whether a call that was sent is to be sent again if its worker dies."""
        role = self._context.roster.roles[call.role] if call.role else None
        return repetition.may_repeat(role, call.request.target, getattr(call, "retries", DEFAULTS.retries))

    def route_again(self, call: Call[Any], why: str) -> None:
        """A call that its worker never saw: to another one of the role, if it may go there."""
        if call.state is not State.SENT:
            return
        if not call.role:
            self._peer.fail(call, Lost(f"{call.label} was lost: {why} before the call was sent.", executed="no"))
            return
        call.state = State.WAITING
        request = call.request
        passage: Passage = getattr(call, "passage", ())
        body = (request.target, request.args, request.kwargs, request.times, request.chain, request.trace)
        now = monotonic()
        if not hasattr(call, "until"):  # a worker whose links break again and again does not make it wait for ever
            call.until = now + getattr(call, "wait", WAIT)
        wait, can_leave = max(0.0, call.until - now), not (passage and portable.stays_here(passage))
        parked = Parked(call, body, passage, wait, blockers=self._blockers(body), can_leave=can_leave)
        self._wait(parked, self.route(call.role), is_new=False)

    def handle_resized(self) -> None:
        """There are other places: what waits for the one of a key waits for its new one."""
        for route in self._peer.contacts.all_routes():
            places = self._context.roster.places(route.role) if route.role in self._context.roster.roles else []
            route.places = sum(count for _, count in places)
            if route.waiting:
                again = partial(route.place_again, partial(_place_of, places))
                self._change(lambda again=again: again(monotonic()))
        self._look_at_the_clock()

    def handle_over(self, role: str) -> None:
        """No worker of the role will come any more, unless somebody reloads it: what waits for one has failed."""
        route = self._peer.contacts.routes.get(role)
        if route is not None and not route.targets:
            self._take_each(route, lambda parked: self._give_up(parked, self._over(_label(parked, role), role)))

    def why_none(self, label: str, role: str) -> Unavailable | None:
        """Return why no worker will come for what waits for one; None as long as there is one, or one may come."""
        peer, roster = self._peer, self._context.roster
        if peer.control.is_closed:  # nobody is left to tell of it
            return peer.control.ended(label)
        if self.route(role).targets:
            return None
        info = roster.roles.get(role)
        if info is None:  # of a client that has made its proxy before the app was restarted
            return Unavailable(f"{label}: the app {peer.context.app!r}, as it was restarted, has no role {role!r}.")
        return self._over(label, role) if roster.is_over(role) or roster.is_out_of_reach(role) else None

    def too_late(self, label: str, role: str) -> Unavailable:
        """Return the error of what has waited for a worker for as long as it may."""
        return Unavailable(f"{label}: no worker of {role!r} became ready in time; {self._why(role)}")

    def _over(self, label: str, role: str) -> Unavailable:
        roster = self._context.roster
        if roster.is_out_of_reach(role):
            return Unavailable(f"{label}: {role!r} runs on other machines, which cannot be reached now: {roster.cut}")
        if why := roster.roles[role].ended:
            return Unavailable(f"{label}: no worker of {role!r} is left: {why}")
        return Unavailable(f"{label}: the role {role!r} is given up, for it failed too often; {self._why(role)}")

    def fail_all(self, error: Callable[[str], CallError]) -> None:
        """Nothing will become ready any more: the app is gone."""
        for route in self._peer.contacts.all_routes():
            self._take_each(
                route,
                lambda parked: self._give_up(parked, error(parked.call.label if parked.call else "a message")),
            )

    def _give_up(self, parked: Parked, error: CallError) -> None:
        if parked.call is not None:
            _part(parked.call)
            self._peer.fail(parked.call, error)
        else:
            self._peer.references.let_go(parked.passage)
            label = _label(parked, parked.line.route.role) if hasattr(parked, "line") else "a message"
            self._context.complaints.tell(label, "%s", error, error=error, traceback=False)

    def _why(self, role: str) -> str:
        info = self._context.roster.roles.get(role)
        return f"it is failing: {info.failing}" if info and info.failing else "see `mob ps`."


def _part(call: Call[Any]) -> None:
    """A call waits no longer: what it was while it waited is let go. The two would make a circle, and an error that
    nobody asks for is told of when the last reference to its call goes."""
    if hasattr(call, "parked"):
        del call.parked


def _place_of(places: Sequence[tuple[str, int]], item: Item) -> Place:
    assert isinstance(item, Parked)
    return place_of(item.key, places)


def _label(parked: Parked, role: str) -> str:
    return parked.call.label if parked.call else f"a message to {role!r}"


def unknown_pid(pid: int | str, role: str = "") -> UnknownTarget:
    """The error for a pid that no ready mobster has."""
    among = f" of role {role!r}" if role else ""
    return UnknownTarget(f"no ready mobster{among} has the pid {pid}. `mob ps` lists them.")
