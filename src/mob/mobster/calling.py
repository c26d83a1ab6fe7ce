"""Making calls: encode, choose a worker, send; and waiting for a worker where there is none.

Arguments are encoded at once, so what cannot be sent fails in the line that sends it, and what changes later is not
seen by the callee. A call to a role whose workers are not ready waits in a bounded queue, in order, until one is or
its time is over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any

from msgspec import Raw, Struct

from mob.core.routing import Route
from mob.core.states import Call as State
from mob.errors import Busy, CallError, Lost, Unavailable, UnknownTarget
from mob.mobster.call import Call
from mob.mobster.callbacks import Passage
from mob.wire import messages as m

if TYPE_CHECKING:
    from mob.mobster.contacts import Contact
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
    pid: int | None = None
    """Only the worker with this process id."""


DEFAULTS = Options()


class Parked(Struct, eq=False):
    """A call or message that waits for a worker."""

    until: float
    call: Call[Any] | None
    target: str | int
    args: Raw
    kwargs: tuple[Raw, ...]
    passage: Passage


class Calling:
    """The outgoing half of a process."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._timer_for: float | None = None

    def __repr__(self) -> str:
        waiting = sum(len(route.waiting) for route in self._peer.contacts.routes.values())
        return f"<Calling, {waiting} calls wait for a worker>"

    # ---------------------------------------------------------------------------------------------- sending

    def call(self, export: RemoteExport, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Call[Any]:
        """Calls an export of any one worker of its role."""
        peer = self._peer
        options = export.options
        special = None if options.pid is None else peer.contact_of_pid(options.pid, export.role)
        body = Raw(peer.encode(args, "args"))
        named = (Raw(peer.encode(kwargs, "kwargs")),) if kwargs else ()
        passage = peer.callbacks.take() if peer.callbacks.encoding else ()
        call = export.new_call(peer, export.label, export.role if special is None else "")
        if passage:
            self._accompany(call, passage)
        route = export.route
        contact = route.choose() if special is None else special
        if contact is None or (route.waiting and special is None):
            self._park(Parked(monotonic() + options.wait, call, export.name, body, named, passage), route)
        else:
            self._send(contact, call, export.name, body, named, passage)
        if options.timeout is not None:
            peer.limit(call, options.timeout)
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
        body = peer.encode(args, "args")
        named = (Raw(peer.encode(kwargs, "kwargs")),) if kwargs else ()
        passage = peer.callbacks.take() if peer.callbacks.encoding else ()
        call: Call[Any] = Call(peer, label, "")
        if passage:
            self._accompany(call, passage)
        self._send(contact, call, target, Raw(body), named, passage)
        return call

    def send(self, contacts: Sequence[Contact], obj: Any) -> None:
        """Sends a message to each of them."""
        peer = self._peer
        message = m.Message(Raw(peer.encode(obj, "message")))
        passage = peer.callbacks.take() if peer.callbacks.encoding else ()
        for contact in contacts:
            if passage:
                peer.callbacks.hand_over(passage, contact)
            contact.post(message)
        if passage:
            peer.callbacks.let_go(passage)

    def send_any(self, role: str, obj: Any) -> None:
        """Sends a message to any one of the role, waiting for a ready one."""
        peer = self._peer
        route = self.route(role)
        contact = route.choose()
        if contact is not None and not route.waiting:
            self.send([contact], obj)
            return
        body = Raw(peer.encode(obj, "message"))
        passage = peer.callbacks.take() if peer.callbacks.encoding else ()
        self._park(Parked(monotonic() + WAIT, None, "", body, (), passage), route)

    def route(self, role: str) -> Route[Contact]:
        """The ready workers of a role; the Kingpin is asked for links to them."""
        self._peer.contacts.want_role(role)
        return self._peer.contacts.route(role)

    def _accompany(self, call: Call[Any], passage: Passage) -> None:
        """Keeps the functions in a call alive until it has ended, for it may have to go to another worker."""
        call.passage = passage
        call.when_done(lambda _: self._peer.callbacks.let_go(passage))

    def _send(
        self,
        contact: Contact,
        call: Call[Any],
        target: str | int,
        args: Raw,
        kwargs: tuple[Raw, ...],
        passage: Passage,
    ) -> None:
        if len(contact.pending) >= OUTSTANDING_LIMIT:
            call.fail(Busy(f"{call.label}: {OUTSTANDING_LIMIT:,} calls to {contact.name} are unanswered already."))
            return
        if passage:
            self._peer.callbacks.hand_over(passage, contact)
        contact.send_call(call, target, args, kwargs)

    # ---------------------------------------------------------------------------------------------- waiting

    def _park(self, parked: Parked, route: Route[Contact]) -> None:
        if self._peer.control.is_closed:  # no worker will ever come: nobody is left to tell of it
            self._give_up(parked, self._peer.control.ended(parked.call.label if parked.call else "a message"))
            return
        if len(route.waiting) >= WAITING_LIMIT:
            text = f"{WAITING_LIMIT:,} calls to {route.role!r} wait for a worker already; {self._why(route.role)}"
            self._give_up(parked, Busy(text))
            return
        route.waiting.append(parked)
        self._peer.reactor.call(lambda: self._arrange(route))

    def _arrange(self, route: Route[Contact]) -> None:
        """On the loop's thread: a worker may have come meanwhile; else somebody must look at the clock in time."""
        self.route_waiting(route)
        self._look_at_the_clock()

    def _look_at_the_clock(self) -> None:
        routes = self._peer.contacts.routes.values()
        until = min((parked.until for route in routes for parked in route.waiting), default=None)
        if until is not None and (self._timer_for is None or until < self._timer_for):
            self._timer_for = until
            self._peer.reactor.call_at(until, self._handle_timer)

    def _handle_timer(self) -> None:
        self._timer_for = None
        now = monotonic()
        for route in self._peer.contacts.routes.values():
            for parked in [parked for parked in route.waiting if parked.until <= now]:
                route.waiting.remove(parked)
                label = parked.call.label if parked.call else f"a message to {route.role!r}"
                text = f"{label}: no worker of {route.role!r} became ready in time; {self._why(route.role)}"
                self._give_up(parked, Unavailable(text))
        self._look_at_the_clock()

    def route_waiting(self, route: Route[Contact]) -> None:
        """A worker is ready: sends what has waited, in order."""
        waiting = route.waiting
        while waiting and (contact := route.choose()) is not None:
            parked = waiting[0]
            if parked.call is None:
                self._peer.callbacks.hand_over(parked.passage, contact)
                self._peer.callbacks.let_go(parked.passage)
                contact.post(m.Message(parked.args))
            elif parked.call.state is State.WAITING:
                self._send(contact, parked.call, parked.target, parked.args, parked.kwargs, parked.passage)
            waiting.popleft()  # only now: nothing may overtake it

    def route_again(self, call: Call[Any], why: str) -> None:
        """A call that its worker never saw: to another one of the role, if it may go there."""
        if call.state is not State.SENT:
            return
        if not call.role:
            call.fail(Lost(f"{call.label} was lost: {why} before the call was sent.", executed="no"))
            return
        call.state = State.WAITING
        request = call.request
        passage: Passage = getattr(call, "passage", ())
        parked = Parked(monotonic() + WAIT, call, request.target, request.args, request.kwargs, passage)
        self._park(parked, self.route(call.role))

    def fail_all(self, error: Callable[[str], CallError]) -> None:
        """Nothing will become ready any more: the app is gone."""
        for route in self._peer.contacts.routes.values():
            while route.waiting:
                parked = route.waiting.popleft()
                self._give_up(parked, error(parked.call.label if parked.call else "a message"))

    def _give_up(self, parked: Parked, error: CallError) -> None:
        if parked.call is not None:
            parked.call.fail(error)
        else:
            self._peer.callbacks.let_go(parked.passage)
            self._peer.log.error("%s", error)

    def _why(self, role: str) -> str:
        info = self._peer.roster.roles.get(role)
        return f"it is failing: {info.failing}" if info and info.failing else "see `mob ps`."


def unknown_pid(pid: int, role: str = "") -> UnknownTarget:
    """The error for a pid that no ready mobster has."""
    among = f" of role {role!r}" if role else ""
    return UnknownTarget(f"no ready mobster{among} has the pid {pid}. `mob ps` lists them.")
