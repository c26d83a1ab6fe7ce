"""Making calls: encode, choose a worker, send; and waiting for a worker where there is none.

Arguments are encoded at once, so what cannot be sent fails in the line that sends it, and what changes later is not
seen by the callee. A call to a role whose workers are not ready waits in a bounded queue, in order, until one is or
its time is over.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any

from msgspec import Raw, Struct

from mob.core.routing import Route
from mob.core.states import Call as State
from mob.errors import Busy, CallError, Unavailable, UnknownTarget
from mob.mobster.call import Call
from mob.mobster.callbacks import Passage
from mob.wire import messages as m

if TYPE_CHECKING:
    from mob.mobster.contacts import Contact
    from mob.mobster.peer import Peer

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
    kwargs: Raw | None
    references: Passage


class Calling:
    """The outgoing half of a process."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._waiting: dict[str, deque[Parked]] = {}
        self._timer_set = False

    def __repr__(self) -> str:
        waiting = ", ".join(f"{len(queue)} for {role}" for role, queue in self._waiting.items() if queue)
        return f"<Calling, waiting: {waiting or 'none'}>"

    # ---------------------------------------------------------------------------------------------- sending

    def call(
        self,
        route: Route[Contact],
        role: str,
        name: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        options: Options = DEFAULTS,
    ) -> Call[Any]:
        """Calls an export of any one worker of the role."""
        peer = self._peer
        label = f"{role}.{name}"
        body = peer.encode(args, "args")
        named = Raw(peer.encode(kwargs, "kwargs")) if kwargs else None
        references = peer.callbacks.take() if peer.callbacks.encoding else ()
        call: Call[Any] = Call(peer, label, role)
        if options is not DEFAULTS and options.pid is not None:
            contact = peer.contact_of_pid(options.pid, role)
            call.role = ""
        else:
            contact = route.choose()
        if contact is None or self._waiting.get(role):
            self._park(Parked(monotonic() + options.wait, call, name, Raw(body), named, references), role)
        else:
            self._send(contact, call, name, Raw(body), named, references)
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
        named = Raw(peer.encode(kwargs, "kwargs")) if kwargs else None
        references = peer.callbacks.take() if peer.callbacks.encoding else ()
        call: Call[Any] = Call(peer, label, "")
        self._send(contact, call, target, Raw(body), named, references)
        return call

    def send(self, contacts: Sequence[Contact], obj: Any) -> None:
        """Sends a message to each of them."""
        peer = self._peer
        message = m.Message(Raw(peer.encode(obj, "message")))
        references = peer.callbacks.take() if peer.callbacks.encoding else ()
        for contact in contacts:
            if references:
                peer.callbacks.hand_over(references, contact)
            contact.post(message)
        if references:
            peer.callbacks.let_go(references)

    def send_any(self, role: str, obj: Any) -> None:
        """Sends a message to any one of the role, waiting for a ready one."""
        peer = self._peer
        contact = self.route(role).choose()
        if contact is not None and not self._waiting.get(role):
            self.send([contact], obj)
            return
        body = Raw(peer.encode(obj, "message"))
        references = peer.callbacks.take() if peer.callbacks.encoding else ()
        self._park(Parked(monotonic() + WAIT, None, "", body, None, references), role)

    def route(self, role: str) -> Route[Contact]:
        """The ready workers of a role; the Kingpin is asked for links to them."""
        peer = self._peer
        peer.contacts.want_role(role)
        return peer.contacts.routes.setdefault(role, Route())

    def _send(
        self,
        contact: Contact,
        call: Call[Any],
        target: str | int,
        args: Raw,
        kwargs: Raw | None,
        references: Passage,
    ) -> None:
        if len(contact.pending) >= OUTSTANDING_LIMIT:
            if references:
                self._peer.callbacks.let_go(references)
            call.fail(Busy(f"{call.label}: {OUTSTANDING_LIMIT:,} calls to {contact.name} are unanswered already."))
            return
        if references:
            self._peer.callbacks.hand_over(references, contact)
            self._peer.callbacks.let_go(references)
        contact.send_call(call, target, args, kwargs)

    # ---------------------------------------------------------------------------------------------- waiting

    def _park(self, parked: Parked, role: str) -> None:
        queue = self._waiting.setdefault(role, deque())
        if len(queue) >= WAITING_LIMIT:
            text = f"{role}: {WAITING_LIMIT:,} calls wait for a worker already; none is ready. {self._why(role)}"
            self._give_up(parked, Busy(text))
            return
        queue.append(parked)
        self._peer.reactor.call(lambda: self._arrange(role))

    def _arrange(self, role: str) -> None:
        """On the loop's thread: a worker may have come meanwhile; else somebody must look at the clock in time."""
        self.route_waiting(role)
        self._look_at_the_clock()

    def _look_at_the_clock(self) -> None:
        until = min((parked.until for queue in self._waiting.values() for parked in queue), default=None)
        if until is not None and not self._timer_set:
            self._timer_set = True
            self._peer.reactor.call_at(until, self._handle_timer)

    def _handle_timer(self) -> None:
        self._timer_set = False
        self.expire(monotonic())
        self._look_at_the_clock()

    def expire(self, now: float) -> None:
        """Ends what has waited long enough."""
        for role, queue in self._waiting.items():
            for parked in [parked for parked in queue if parked.until <= now]:
                queue.remove(parked)
                label = parked.call.label if parked.call else f"a message to {role!r}"
                text = f"{label}: no worker of {role!r} became ready in time. {self._why(role)}"
                self._give_up(parked, Unavailable(text))

    def route_waiting(self, role: str) -> None:
        """A worker is ready: sends what has waited, in order."""
        queue = self._waiting.get(role)
        while queue and (contact := self.route(role).choose()) is not None:
            parked = queue.popleft()
            if parked.call is None:
                if parked.references:
                    self._peer.callbacks.hand_over(parked.references, contact)
                    self._peer.callbacks.let_go(parked.references)
                contact.post(m.Message(parked.args))
            elif parked.call.state is State.WAITING:
                self._send(contact, parked.call, parked.target, parked.args, parked.kwargs, parked.references)
            elif parked.references:
                self._peer.callbacks.let_go(parked.references)

    def route_again(self, call: Call[Any], why: str) -> None:
        """A call that its worker never saw: to another one of the role, if it may go there."""
        if call.state is not State.SENT:
            return
        if not call.role:
            call.fail(Unavailable(f"{call.label}: {why} before the call was sent."))
            return
        call.state = State.WAITING
        request = call.request
        self._park(Parked(monotonic() + WAIT, call, request.target, request.args, request.kwargs, ()), call.role)

    def fail_all(self, error: Callable[[str], CallError]) -> None:
        """Nothing will become ready any more: the app is gone."""
        for queue in self._waiting.values():
            while queue:
                parked = queue.popleft()
                self._give_up(parked, error(parked.call.label if parked.call else "a message"))

    def _give_up(self, parked: Parked, error: CallError) -> None:
        if parked.references:
            self._peer.callbacks.let_go(parked.references)
        if parked.call is not None:
            parked.call.fail(error)
        else:
            self._peer.log.error("%s", error)

    def _why(self, role: str) -> str:
        info = self._peer.roster.roles.get(role)
        return f"It is failing: {info.failing}" if info and info.failing else "See `mob ps`."


def unknown_pid(pid: int, role: str = "") -> UnknownTarget:
    """The error for a pid that no ready mobster has."""
    among = f" of role {role!r}" if role else ""
    return UnknownTarget(f"no ready mobster{among} has the pid {pid}. `mob ps` lists them.")
