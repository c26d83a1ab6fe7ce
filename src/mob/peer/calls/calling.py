"""Making calls: encode, choose a worker, send.

Arguments are encoded at once, so a value that cannot be sent fails in the line that sends it, and later changes do not
reach the callee. `core/dispatch` decides which worker gets a call; calls that wait for room are in `parking`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any

from msgspec import Raw

from mob.core.calls import WAIT
from mob.core.dispatch import Route
from mob.core.lanes import MESSAGE
from mob.core.routing import place_of
from mob.core.states import CallState
from mob.errors import BadMessage, Busy, MobError, Unavailable
from mob.peer.calls.durable import lasting
from mob.peer.calls.method_calls import MethodCall, PreparedCall, whereabouts
from mob.peer.calls.options import DEFAULTS, Options
from mob.peer.calls.parking import ParkedCall, Parking
from mob.peer.calls.request_ids import carried_by_call, carried_by_message
from mob.peer.links.contact import UNSENT_LIMIT
from mob.peer.links.served import Served, current
from mob.peer.references import portable
from mob.peer.results.call import Call
from mob.wire import messages as m
from mob.wire.references import AnyReference, Passage

if TYPE_CHECKING:
    from mob.peer.calls.outgoing import Outgoing
    from mob.peer.calls.proxy import RemoteExport
    from mob.peer.links.contact import Body, Contact
    from mob.peer.references.objects import RemoteObject
    from mob.peer.results.typed import NewCall

ATTEMPTS = 3
"""Maximum number of attempts to end a call that could not be made, if ending it raises."""
OUTSTANDING_LIMIT = 100_000
"""Maximum number of unanswered calls from one process to one worker."""


class Calling:
    """The outgoing half of a process."""

    def __init__(self, peer: Outgoing) -> None:
        self._peer = peer
        self._context = peer.context
        self._contacts = peer.contacts
        self._control = peer.control
        self._encoder = peer.encoder
        self._references = peer.references
        self.parking: Parking = Parking(
            peer.context,
            peer.contacts,
            peer.control,
            self._send_parked,
            peer.references.let_go,
            peer.fail,
            peer.note_lost,
        )

    def __repr__(self) -> str:
        return f"<Calling of {self._context.name}>"

    # ---------------------------------------------------------------------------------------------- sending

    def call(self, export: RemoteExport, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Call[Any]:
        """Call an export of any one worker of its role."""
        peer = self._peer
        options = export.terms
        special = None if options.pid is None else self._contacts.of_pid(options.pid, export.role)
        route = export.route
        if not route.near:
            self.look_for_app(route)
        shares = bool(route.near or not route.far)
        if route.tags.get(export.name, True):
            args, kwargs = self._tagged(export.name, args, kwargs)
        args_body = Raw(self._encoder.encode(args, "args", shares))
        named = (Raw(self._encoder.encode(kwargs, "kwargs", shares)),) if kwargs else ()
        passage = self._references.take() if self._references.encoding else ()
        call = export.new_call(peer, export.label, export.role if special is None else "")
        try:
            served = current()
            carried = carried_by_call(served) if self._context.tracing is None else self._carry(call)
            if served is None and options is DEFAULTS:  # by far the most common case
                body: Body = (export.name, args_body, named, None, (), carried)
            else:
                times, chain = self._inherit(served, options.timeout)
                body = (export.name, args_body, named, times, chain, carried)
                call.terms = options
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
                is_inside = served is not None or route.role == self._context.role
                blockers = self.parking.blockers(body) if is_inside else ()
                if is_inside and export.only_idle:
                    contact, blockers = route.choose_idle(export.name, blockers), ()
                else:
                    contact = route.choose(export.name, export.mark, can_leave, None, blockers)
                if contact is None:
                    if not export.only_idle:  # a call that waits for an idle worker may end up in this process
                        blockers = self.parking.blockers(body)
                    self.parking.wait(
                        ParkedCall(
                            call, call.label, body, passage, options.wait, blockers=blockers, can_leave=can_leave
                        ),
                        route,
                    )
                    return call
            self._send(contact, call, body, passage)
        except BaseException as error:
            self._end_unmade(call, passage, error)
            raise
        return call

    def _end_unmade(self, call: Call[Any], passage: Passage, error: BaseException) -> None:
        """End a call whose making raises: no caller has it."""
        was_sent = call.state is CallState.SENT
        for _ in range(ATTEMPTS):
            with contextlib.suppress(BaseException):
                if passage and not call.passage:
                    self._references.let_go(passage)
                    passage = ()
                call.cancel()
                if was_sent:
                    call.contact.forget_call(call)
                if not isinstance(error, MobError):
                    self.parking.ask_again()
                return

    def encode_lasting(
        self, export: RemoteExport, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[bytes, bytes | None]:
        """Encode the arguments of a call that may outlive this process.

        `BadMessage` if they contain something that ends with this process.
        """
        if export.route.tags.get(export.name, True):
            args, kwargs = self._tagged(export.name, args, kwargs)
        encode = partial(lasting, self._peer, what="a durable call")
        return encode(args, "args"), encode(kwargs, "kwargs") if kwargs else None

    def send_encoded(self, contact: Contact, label: str, target: str, args: bytes) -> Call[Any]:
        """Call something in one particular process, with arguments that are already encoded."""
        call: Call[Any] = Call(self._peer, label, "")
        self._send(contact, call, (target, Raw(args), (), None, (), ""), ())
        return call

    def call_one(
        self,
        contact: Contact,
        label: str,
        target: str | int,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        timeout: float | None = None,
        new_call: NewCall = Call,
    ) -> Call[Any]:
        """Call an export, a callback or a method in one particular process."""
        peer = self._peer
        if type(target) is str and self._contacts.routes.of(contact.member.role).tags.get(target, True):
            args, kwargs = self._tagged(target, args, kwargs)
        args_body = Raw(self._encoder.encode(args, "args"))
        named = (Raw(self._encoder.encode(kwargs, "kwargs")),) if kwargs else ()
        passage = self._references.take() if self._references.encoding else ()
        call: Call[Any] = new_call(peer, label, "")
        try:
            if passage:
                self._accompany(call, passage)
            served = current()
            times, chain = self._inherit(served, timeout)
            if times is not None:
                peer.limit(call, times)
            carried = carried_by_call(served) if self._context.tracing is None else self._carry(call)
            self._send(contact, call, (target, args_body, named, times, chain, carried), passage)
            if contact.link is None and self._control.is_closed and call.state is CallState.SENT:
                contact.forget_call(call)  # no link will come any more
                ended = f"the app {self._context.app!r} has ended, or this client was closed."
                self._peer.fail(call, Unavailable(f"{label}: {ended}"))
        except BaseException as error:
            self._end_unmade(call, passage, error)
            raise
        return call

    def call_function(self, owner: int, number: int, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Call[Any]:
        """Call a function in the process that lent it."""
        contact = self._contacts.look_up(owner)
        return self.call_one(contact, f"a callback of {contact.name}", number, args, kwargs)

    def call_method(self, handle: RemoteObject, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Call[Any]:
        """Call a method of an object in the process that holds it."""
        owner, number, label, timeout = whereabouts(handle)
        contact = self._contacts.look_up(owner)
        return self.call_one(contact, f"{label}.{name}", number, (name, args), kwargs, timeout, MethodCall)

    def prepare_method(
        self, label: str, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], timeout: float | None
    ) -> PreparedCall:
        """Encode the call of a method of an object that is still being made; `send_prepared` sends it."""
        peer = self._peer
        args_body = Raw(self._encoder.encode((name, args), "args"))
        named = (Raw(self._encoder.encode(kwargs, "kwargs")),) if kwargs else ()
        passage = self._references.take() if self._references.encoding else ()
        call = MethodCall(peer, f"{label}.{name}", "")
        try:
            if passage:
                self._accompany(call, passage)
            served = current()
            times, chain = self._inherit(served, timeout)
            if times is not None:
                peer.limit(call, times)
            carried = carried_by_call(served) if self._context.tracing is None else self._carry(call)
        except BaseException as error:
            self._end_unmade(call, passage, error)
            raise
        return PreparedCall(call, (args_body, named, times, chain, carried), passage)

    def send_prepared(self, prepared: PreparedCall, handle: RemoteObject) -> None:
        """Send a prepared call, now that the handle exists; from any thread."""
        owner, number, _, _ = whereabouts(handle)
        if not prepared.call.done_already():
            body = (number, *prepared.rest)
            self._send(self._contacts.look_up(owner), prepared.call, body, prepared.passage)

    def _tagged(self, name: str, args: Any, kwargs: Any) -> tuple[Any, Any]:
        """Tag arguments, because the export has a union that needs it, or is not known yet and might have one."""
        codec = self._encoder.codec
        if name.startswith(m.MAP):
            return args, kwargs  # each item of a chunk has its own
        return codec.tagged(list(args), "args"), codec.tagged(kwargs, "kwargs") if kwargs else kwargs

    def look_for_app(self, route: Route[Contact]) -> None:
        """Rejoin the app before encoding, if it ended and runs again.

        The encoded bytes may name this process, which gets a new number then.
        """
        if not route.near and not route.far and self._control.is_closed:
            self._control.come_back()

    def _carry(self, call: Call[Any]) -> str:
        """Return the OpenTelemetry context that travels with a call."""
        tracing = self._context.tracing
        assert tracing is not None
        carried = tracing.carried()
        tracing.accompany(call, carried)
        return carried

    def _inherit(
        self, served: Served | None, timeout: float | None
    ) -> tuple[tuple[float, float] | None, tuple[int, ...]]:
        """Return what a call inherits from the call during which it is made: the rest of its time, and its chain."""
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
        """Send a call to the worker in the place that the key belongs to, now or when it has room."""
        call.role = ""
        key = repr(options.key).encode()
        place = place_of(key, self._context.roster.places(route.role))
        contact = route.choose(str(body[0]), mark, place=place)
        if contact is not None:
            self._send(contact, call, body, passage)
        else:
            blockers = self.parking.blockers(body)
            self.parking.wait(ParkedCall(call, call.label, body, passage, options.wait, place, key, blockers), route)

    def send_to_all(self, obj: Any) -> None:
        """Send a message to every ready worker, including this process if it is one."""
        self._contacts.want_role("*")
        self.send(self._contacts.hearing_and_self(), obj)

    def send(self, contacts: Sequence[Contact], obj: Any) -> None:
        """Send a message to each contact; raise `Busy` if some read too slowly, after the others got it."""
        carried = carried_by_message() if self._context.tracing is None else self._context.tracing.carried()
        message = m.Message(Raw(self._encoder.encode(obj, "message")), carried)
        passage = self._references.take() if self._references.encoding else ()
        slow: list[str] = []
        try:
            for contact in contacts:
                if contact.has_room():
                    self._send_message(contact, message, passage)
                else:
                    slow.append(contact.name)
        finally:
            if passage:
                self._references.let_go(passage)
        if slow:
            others = "The other receivers have it. " if len(contacts) > len(slow) else ""
            raise Busy(
                f"a message was not sent to {', '.join(slow)}: send queue full (more than {UNSENT_LIMIT:,} bytes "
                f"unsent). {others}Send more slowly, or have the receiver's handler return sooner."
            )

    def _send_message(self, contact: Contact, message: m.Message, passage: Passage) -> None:
        if passage:
            if contact.is_distant:
                message = m.Message(self._encoder.body_for_far(message.body, passage), message.trace)
            if found := self._references.hand_over(passage, contact):
                message = m.Message(self._encoder.replaced(message.body, found), message.trace)
        contact.post(message)

    def send_any(self, role: str, obj: Any) -> None:
        """Send a message to any one worker of the role; wait for one that is ready."""
        route = self._contacts.route(role)
        contact = route.choose(MESSAGE, 0)
        if contact is not None and not contact.has_room():
            contact = next((other for other in route.targets if other.has_room()), contact)
        if contact is not None:
            self.send([contact], obj)
            return
        self.look_for_app(route)
        body = Raw(self._encoder.encode(obj, "message"))
        passage = self._references.take() if self._references.encoding else ()
        carried = carried_by_message() if self._context.tracing is None else self._context.tracing.carried()
        parked = ParkedCall(None, f"a message to {role!r}", ("", body, (), None, (), carried), passage, WAIT)
        self.parking.wait(parked, route)

    def _accompany(self, call: Call[Any], passage: Passage) -> None:
        """Keep the functions in a call alive until it ends, because it may have to go to another worker."""
        self._references.accompany(call, passage)
        left = list(passage)
        call.when_done(lambda _: self._let_go_of(left))
        call.passage = passage

    def _let_go_of(self, left: list[tuple[AnyReference, Any]]) -> None:
        """Release each reference once, even if this is called again because it raised."""
        while left:
            self._references.let_go([left.pop()])

    def _send(self, contact: Contact, call: Call[Any], body: Body, passage: Passage) -> None:
        if contact.is_choked:
            unsent = f"the send queue of {contact.name} is full (more than {UNSENT_LIMIT:,} bytes unsent)"
            self._peer.fail(call, Busy(f"{call.label}: {unsent}."))
            return
        if len(contact.pending) >= OUTSTANDING_LIMIT:
            self._peer.fail(
                call, Busy(f"{call.label}: {contact.name} already has {OUTSTANDING_LIMIT:,} unanswered calls.")
            )
            return
        if passage and contact.is_distant:
            try:
                body = self._encoder.call_for_far(body, passage)
            except BadMessage as error:
                call.fail(error)
                return
        replaced = None
        if passage and (found := self._references.hand_over(passage, contact)):
            try:
                replaced = self._encoder.call_replaced(body, found)
            except BadMessage as error:
                call.fail(error)
                return
        contact.send_call(call, body, replaced)
        if contact.gone:  # checked last: if the member ended while this was under way, the call still ends
            self._contacts.lose(contact, contact.gone)

    def _send_parked(self, parked: ParkedCall, contact: Contact) -> bool:
        """Send a call or message that waited; return False if it is a call that ended meanwhile."""
        if parked.call is None:
            try:
                self._send_message(contact, m.Message(parked.body[1], parked.body[5]), parked.passage)
            except BadMessage as error:
                told = parked.label
                self._context.complaints.tell(told, "%s: %s", told, error, error=error, traceback=False)
            self._references.let_go(parked.passage)
            return True
        parked.part()
        if parked.call.state is not CallState.WAITING:
            return False
        self._send(contact, parked.call, parked.body, parked.passage)
        return not parked.call.done()
