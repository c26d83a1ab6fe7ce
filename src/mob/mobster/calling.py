"""Making calls: encode, choose a worker, send; and waiting for a worker where there is none.

Arguments are encoded at once, so what cannot be sent fails in the line that sends it, and what changes later is not
seen by the callee. A call to a role whose workers are not ready waits in a bounded queue, in order, until one is or
its time is over.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING, Any

from msgspec import Raw, Struct

from mob.core import repetition
from mob.core.routing import Place, Route, place_of
from mob.core.states import Call as State
from mob.errors import BadMessage, Busy, CallError, Lost, Unavailable, UnknownTarget
from mob.mobster import portable
from mob.mobster.call import Call
from mob.mobster.callbacks import Passage
from mob.mobster.contacts import UNSENT_LIMIT
from mob.mobster.served import Served, current
from mob.mobster.streams import Receiver
from mob.wire import messages as m

if TYPE_CHECKING:
    from mob.mobster.contacts import Body, Contact
    from mob.mobster.peer import Peer
    from mob.mobster.proxy import RemoteExport

WAIT = 30.0
"""Seconds that a call waits for a ready worker."""
WAITING_LIMIT = 10_000
"""Calls that may wait for the workers of one role, in one process."""
OUTSTANDING_LIMIT = 100_000
"""Calls to one worker that may be unanswered, in one process."""


class Options(Struct, frozen=True):
    """How a view of a proxy calls; `proxy.options(...)` changes some."""

    wait: float = WAIT
    """Seconds to wait for a ready worker."""
    timeout: float | None = None
    """Seconds for the whole call."""
    pid: int | str | None = None
    """Only the worker with this process id."""
    key: Any = None
    """Always the worker in the place that this key belongs to (rendezvous hashing), whichever process fills it."""
    retries: int = 3
    """How often a call of an idempotent export is repeated after the death of its worker."""


DEFAULTS = Options()
SPILL = 2000
"""Microseconds that a call would have to wait for a worker here, from which on one of another machine is considered:
about what the way there and back takes."""
CHEAPEST = 20
"""Microseconds that any call takes at least."""
LOOK = 0.0005
"""Seconds between two looks at the board while calls wait for an idle worker."""
RETRY_JITTER = 0.05
"""Seconds within which a call that was lost is repeated, so that not all of them come at once."""


class Parked(Struct, eq=False):
    """A call or message that waits for a worker."""

    until: float
    call: Call[Any] | None
    body: Body
    passage: Passage
    key: bytes = b""
    """Of a call that waits for the worker in a certain place."""


class Calling:
    """The outgoing half of a process."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._timer_for: float | None = None
        self._parking = Lock()  # held by any thread: nothing is put where nobody looks any more
        self._looking: set[str] = set()  # roles for whose idle workers the board is being watched

    def __repr__(self) -> str:
        waiting = sum(self.parked().values())
        return f"<Calling, {waiting} calls wait for a worker>"

    # ---------------------------------------------------------------------------------------------- sending

    def call(self, export: RemoteExport, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Call[Any]:
        """Calls an export of any one worker of its role."""
        peer = self._peer
        options = export.options
        special = None if options.pid is None else peer.contact_of_pid(options.pid, export.role)
        route = export.route
        shares = bool(route.near or not route.far)
        args_body = Raw(peer.encode(args, "args", shares))
        named = (Raw(peer.encode(kwargs, "kwargs", shares)),) if kwargs else ()
        passage = peer.callbacks.take() if peer.callbacks.encoding else ()
        call = export.new_call(peer, export.label, export.role if special is None else "")
        served = current()
        carried = "" if peer.tracing is None else self._carry(call)
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
            self._send_by_key(route, options, call, body, passage)
            return call
        contact = self._choose(route, passage) if special is None else special
        if contact is None or (route.waiting and special is None):
            self._park(Parked(monotonic() + options.wait, call, body, passage), route)
        else:
            self._send(contact, call, body, passage)
        return call

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
        args_body = Raw(peer.encode(args, "args"))
        named = (Raw(peer.encode(kwargs, "kwargs")),) if kwargs else ()
        passage = peer.callbacks.take() if peer.callbacks.encoding else ()
        call: Call[Any] = Call(peer, label, "")
        if passage:
            self._accompany(call, passage)
        times, chain = self._inherit(current(), None)
        if times is not None:
            peer.limit(call, times)
        carried = "" if peer.tracing is None else self._carry(call)
        self._send(contact, call, (target, args_body, named, times, chain, carried), passage)
        return call

    def _carry(self, call: Call[Any]) -> str:
        """The context of OpenTelemetry that goes along with a call."""
        tracing = self._peer.tracing
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
        self, route: Route[Contact], options: Options, call: Call[Any], body: Body, passage: Passage
    ) -> None:
        """To the worker in the place that the key belongs to; if none is ready there, when one is."""
        call.role = ""
        key = repr(options.key).encode()
        place = place_of(key, self._peer.roster.places(route.role))
        contact = _in_place(route, place)
        if contact is not None and not route.keyed.get(place):
            self._send(contact, call, body, passage)
        else:
            self._park(Parked(monotonic() + options.wait, call, body, passage, key), route, place)

    def send(self, contacts: Sequence[Contact], obj: Any) -> None:
        """Sends a message to each of them. `Busy` if there were some that read too slowly, when the others have it."""
        peer = self._peer
        carried = "" if peer.tracing is None else peer.tracing.carried()
        message = m.Message(Raw(peer.encode(obj, "message")), carried)
        passage = peer.callbacks.take() if peer.callbacks.encoding else ()
        slow: list[str] = []
        try:
            for contact in contacts:
                if contact.has_room():
                    self._send_message(contact, message, passage)
                else:
                    slow.append(contact.name)
        finally:
            if passage:
                peer.callbacks.let_go(passage)
        if slow:
            others = "The others have got it. " if len(contacts) > len(slow) else ""
            raise Busy(
                f"a message was not sent to {', '.join(slow)}, for which more than {UNSENT_LIMIT:,} bytes wait already."
                f" {others}Send more slowly, or have the receiver's handler return sooner."
            )

    def _send_message(self, contact: Contact, message: m.Message, passage: Passage) -> None:
        if passage:
            if contact.is_distant:
                message = m.Message(portable.body_for_far(self._peer, message.body, passage), message.trace)
            self._peer.callbacks.hand_over(passage, contact)
        contact.post(message)

    def send_any(self, role: str, obj: Any) -> None:
        """Sends a message to any one of the role, waiting for a ready one."""
        peer = self._peer
        route = self.route(role)
        contact = route.choose() or route.choose(is_far=True)
        if contact is not None and not contact.has_room():
            contact = next((other for other in route.targets if other.has_room()), contact)
        if contact is not None and not route.waiting:
            self.send([contact], obj)
            return
        body = Raw(peer.encode(obj, "message"))
        passage = peer.callbacks.take() if peer.callbacks.encoding else ()
        carried = "" if peer.tracing is None else peer.tracing.carried()
        self._park(Parked(monotonic() + WAIT, None, ("", body, (), None, (), carried), passage), route)

    def parked(self) -> dict[str, int]:
        """How many calls wait here for a worker, by role. From any thread."""
        return {route.role: len(route.waiting) for route in self._peer.contacts.all_routes() if route.waiting}

    def route(self, role: str) -> Route[Contact]:
        """The ready workers of a role; the Kingpin is asked for links to them."""
        self._peer.contacts.want_role(role)
        return self._peer.contacts.route(role)

    def _choose(self, route: Route[Contact], passage: Passage = ()) -> Contact | None:
        """The worker for the next call. None if none is ready; and if all are busy with calls that take long: a call
        that waits here goes to the first that is idle, one that waits there is stuck behind the slowest."""
        contact = route.choose()
        if route.far and (contact is None or self._is_busy(contact)) and not portable.stays_here(passage):
            far = route.choose(is_far=True)
            if contact is None or (far is not None and far.outstanding < contact.outstanding):
                contact = far
        if contact is not None and len(route.targets) > 1 and contact.outstanding and contact.is_slow:
            return None
        return contact

    def _is_busy(self, contact: Contact) -> bool:
        """Whether a call would wait so long for this worker that one on another machine may be better."""
        board = self._peer.board
        cost = 0 if board is None else board.cost(contact.uid)
        return contact.outstanding * max(cost, CHEAPEST) > SPILL

    def _look_for_idle(self, route: Route[Contact]) -> None:
        """While calls wait for an idle worker: looks at the board, for nobody sends word of that."""
        if route.targets and route.waiting:
            self.route_waiting(route)
        if route.targets and route.waiting:
            self._peer.reactor.call_at(monotonic() + LOOK, partial(self._look_for_idle, route))
        else:
            self._looking.discard(route.role)

    def handle_none_ready(self, route: Route[Contact]) -> None:
        """The last ready worker has gone: what has waited for an idle one waits for a ready one now."""
        for parked in list(route.waiting):
            parked.until = min(parked.until, monotonic() + WAIT)
        self._look_at_the_clock()

    def _accompany(self, call: Call[Any], passage: Passage) -> None:
        """Keeps the functions in a call alive until it has ended, for it may have to go to another worker."""
        call.passage = passage
        self._peer.descriptors.accompany(call, passage)
        call.when_done(lambda _: self._peer.callbacks.let_go(passage))

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
                body = portable.call_for_far(self._peer, body, passage)
            except BadMessage as error:
                call.fail(error)
                return
        if passage:
            self._peer.callbacks.hand_over(passage, contact)
        contact.send_call(call, body)

    # ---------------------------------------------------------------------------------------------- waiting

    def _park(self, parked: Parked, route: Route[Contact], place: Place | None = None) -> None:
        """Has it wait for a ready worker of the role, or for the one in a certain place."""
        if self._peer.control.is_closed:  # no worker will ever come: nobody is left to tell of it
            self._give_up(parked, self._peer.control.ended(parked.call.label if parked.call else "a message"))
            return
        roster = self._peer.roster
        if not route.targets and (roster.roles[route.role].given_up or roster.is_out_of_reach(route.role)):
            self._give_up(parked, self._given_up(parked, route.role))
            return
        if route.count(place) >= WAITING_LIMIT:
            text = f"{WAITING_LIMIT:,} calls to {route.role!r} wait for a worker already; {self._why(route.role)}"
            self._give_up(parked, Busy(text))
            return
        if route.targets and place is None:
            parked.until = math.inf  # ready ones there are: the time to wait for those does not run
        with self._parking:
            route.park(parked, place)
        self._peer.reactor.call(lambda: self._arrange(route))

    def _arrange(self, route: Route[Contact]) -> None:
        """On the loop's thread: a worker may have come meanwhile; else somebody must look at the clock in time."""
        self.route_waiting(route)
        if route.targets and route.waiting and route.role not in self._looking:
            self._looking.add(route.role)
            self._look_for_idle(route)
        self._look_at_the_clock()

    def _look_at_the_clock(self) -> None:
        routes = self._peer.contacts.all_routes()
        until = min((parked.until for route in routes for parked in route.all_waiting()), default=None)
        if until is not None and until != math.inf and (self._timer_for is None or until < self._timer_for):
            self._timer_for = until
            self._peer.reactor.call_at(until, self._handle_timer)

    def _handle_timer(self) -> None:
        self._timer_for = None
        now = monotonic()
        for route in self._peer.contacts.all_routes():
            for parked in [parked for parked in route.all_waiting() if parked.until <= now]:
                route.forget(parked)
                text = f"no worker of {route.role!r} became ready in time; {self._why(route.role)}"
                self._give_up(parked, Unavailable(f"{_label(parked, route.role)}: {text}"))
        self._look_at_the_clock()

    def route_waiting(self, route: Route[Contact]) -> None:
        """A worker is ready: sends what has waited, in order."""
        waiting = route.waiting
        while waiting:
            # What cannot leave this machine waits for a worker here; if there is none at all, it is refused.
            contact = self._choose(route, waiting[0].passage if route.near else ())
            if contact is None:
                break
            self._send_parked(waiting[0], contact)
            waiting.popleft()  # only now: nothing may overtake it
        for place, keyed in list(route.keyed.items()):
            contact = _in_place(route, place)
            while keyed and contact is not None:
                self._send_parked(keyed[0], contact)
                keyed.popleft()

    def _send_parked(self, parked: Parked, contact: Contact) -> None:
        if parked.call is None:
            try:
                self._send_message(contact, m.Message(parked.body[1], parked.body[5]), parked.passage)
            except BadMessage as error:
                self._peer.log.error("%s: %s", _label(parked, contact.member.role), error)
            self._peer.callbacks.let_go(parked.passage)
        elif parked.call.state is State.WAITING:
            self._send(contact, parked.call, parked.body, parked.passage)

    def handle_lost(self, call: Call[Any] | Receiver, error: Lost) -> None:
        """Its worker had the call and is gone. An idempotent one is repeated, with a little jitter, elsewhere; but no
        stream of which something has arrived."""
        if isinstance(call, Receiver) or call.state is not State.SENT or not self.may_repeat(call):
            self._peer.fail(call, error)
            return
        call.retries = getattr(call, "retries", DEFAULTS.retries) - 1
        call.is_repeated = True
        if hasattr(call, "until"):
            del call.until
        when = monotonic() + random.uniform(0, RETRY_JITTER)
        self._peer.reactor.call_at(when, partial(self.route_again, call, str(error)))

    def may_repeat(self, call: Call[Any]) -> bool:
        """Whether a call that was sent is to be sent again if its worker dies."""
        role = self._peer.roster.roles[call.role] if call.role else None
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
        if not hasattr(call, "until"):  # a worker whose links break again and again does not make it wait for ever
            call.until = monotonic() + getattr(call, "wait", WAIT)
        self._park(Parked(call.until, call, body, passage), self.route(call.role))

    def handle_resized(self) -> None:
        """There are other places: what waits for the one of a key waits for its new one."""
        for route in self._peer.contacts.all_routes():
            if route.keyed:
                places = self._peer.roster.places(route.role)
                with self._parking:
                    route.place_anew(lambda parked, places=places: place_of(parked.key, places))
                self.route_waiting(route)

    def handle_given_up(self, role: str) -> None:
        """No worker of the role will come any more, unless somebody reloads it: what waits for one has failed."""
        route = self._peer.contacts.routes.get(role)
        for parked in list(route.all_waiting()) if route is not None and not route.targets else ():
            assert route is not None
            route.forget(parked)
            self._give_up(parked, self._given_up(parked, role))

    def _given_up(self, parked: Parked, role: str) -> Unavailable:
        roster = self._peer.roster
        if roster.is_out_of_reach(role):
            text = f"{role!r} runs on other machines, which cannot be reached now: {roster.cut}"
            return Unavailable(f"{_label(parked, role)}: {text}")
        text = f"the role {role!r} is given up, for it failed too often; {self._why(role)}"
        return Unavailable(f"{_label(parked, role)}: {text}")

    def fail_all(self, error: Callable[[str], CallError]) -> None:
        """Nothing will become ready any more: the app is gone."""
        for route in self._peer.contacts.all_routes():
            for parked in route.all_waiting():
                route.forget(parked)
                self._give_up(parked, error(parked.call.label if parked.call else "a message"))

    def _give_up(self, parked: Parked, error: CallError) -> None:
        if parked.call is not None:
            self._peer.fail(parked.call, error)
        else:
            self._peer.callbacks.let_go(parked.passage)
            self._peer.log.error("%s", error)

    def _why(self, role: str) -> str:
        info = self._peer.roster.roles.get(role)
        return f"it is failing: {info.failing}" if info and info.failing else "see `mob ps`."


def _in_place(route: Route[Contact], place: Place) -> Contact | None:
    """The ready worker in that place."""
    return next((target for target in route.targets if target.place == place), None)


def _label(parked: Parked, role: str) -> str:
    return parked.call.label if parked.call else f"a message to {role!r}"


def unknown_pid(pid: int | str, role: str = "") -> UnknownTarget:
    """The error for a pid that no ready mobster has."""
    among = f" of role {role!r}" if role else ""
    return UnknownTarget(f"no ready mobster{among} has the pid {pid}. `mob ps` lists them.")
