"""One process's side of the app: the same for a mobster and for a client.

This file only puts the parts together and distributes the messages of a link among them. Outgoing calls: `calling`.
Incoming calls: `serving`. Other processes: `contacts`. Contents of bodies: `references`. The Kingpin: `control`.
"""

from __future__ import annotations

import os
import socket
import weakref
from collections.abc import Callable, Iterator
from time import monotonic
from typing import TYPE_CHECKING, Any, NoReturn

from msgspec import Raw

from mob.core.draining import LINK_FLUSH_TIMEOUT
from mob.core.lanes import MESSAGE
from mob.core.routes import Routes
from mob.core.states import CallState
from mob.errors import CallError, CallTimeout, Unavailable, summary_of
from mob.peer.calls.calling import Calling
from mob.peer.calls.parking import Parking
from mob.peer.context import Context
from mob.peer.links.contact import Contact
from mob.peer.links.contacts import Contacts
from mob.peer.links.control import Control
from mob.peer.references import loans, portable
from mob.peer.references.encoding import Encoder
from mob.peer.references.references import References
from mob.peer.results.blocking import Blocking
from mob.peer.results.call import Call
from mob.peer.results.deadlines import Deadlines
from mob.peer.results.handover import Handover
from mob.peer.results.streams import Receiver
from mob.peer.serving.admission import Accept, Admission
from mob.peer.serving.exits import Exits
from mob.peer.serving.fencing import Fencing
from mob.peer.serving.handlers import Handlers
from mob.peer.serving.hooked import ErrorHooks
from mob.peer.serving.serving import Capacity, Serving
from mob.plan import BACKLOG, FRAME_LIMIT, SHARED_MEMORY
from mob.rim import forks
from mob.rim.link import Link
from mob.rim.reactor import Reactor
from mob.wire import failures, messages as m

if TYPE_CHECKING:
    from mob.peer.serving.measure.meters import Meters

HOUSEKEEPING = 1.0
"""Seconds between two clean-ups of dropped callbacks and the like while no message arrives."""
LAST_WORD_TIMEOUT = 0.05
"""Seconds after a deadline during which the callee's own report of the timeout may still arrive."""
ATTEMPTS = 3
"""Number of attempts to end a call whose message raised an error, before the link is closed."""


_peers: weakref.WeakSet[Peer] = weakref.WeakSet()


class Peer:
    """Everything that a process needs to take part."""

    def __init__(
        self,
        reactor: Reactor,
        control: socket.socket,
        role: str = "",
        index: int = 0,
        generation: int = 0,
        frame_limit: int = FRAME_LIMIT,
        threads: int = 1,
        concurrency: int = 100,
        queue: int = 10_000,
        shared_memory: int = SHARED_MEMORY,
        metrics: bool = True,
    ) -> None:
        self.context: Context = Context(reactor, role, index, generation, frame_limit)
        self.blocking: Blocking = Blocking(reactor)
        self.handover: Handover = Handover(reactor, self.blocking.end)
        _peers.add(self)
        self.contacts: Contacts = Contacts(self.context, Routes(self.context.cost_of, BACKLOG))
        self.references: References = References(
            self.context,
            self.contacts,
            shared_memory,
            lambda owner, number, args, kwargs: self.calling.call_function(owner, number, args, kwargs),
            lambda call: self.parking.losses.may_repeat(call),
            lambda handle, name, args, kwargs: self.calling.call_method(handle, name, args, kwargs),
        )
        self._home = loans.Home(self.references.buffers, self.blocking)
        loans.enter(self._home)
        self.encoder: Encoder = Encoder(self.context, self.references)
        self.control: Control = Control(self, control, frame_limit)
        self.calling: Calling = Calling(self)
        self.parking: Parking = self.calling.parking
        self.contacts.begin(self.control, self.parking)
        self._deadlines = Deadlines(reactor, self._time_out)
        self.serving: Serving = Serving(
            self.context,
            self.contacts,
            self.references,
            self.encoder,
            self.blocking,
            self.handover,
            Capacity(threads, concurrency, queue, metrics),
        )
        self.serving.limited_calls.tell = self.control.post_now
        self.handlers: Handlers = self.serving.handlers
        self.handlers.on_hearing_crashes = self.control.hear_crashes
        self.hooks: ErrorHooks = self.serving.hooks
        self._accept, self._work = self.serving.inbox.accept, self.serving.inbox.work
        self.fencing: Fencing = Fencing(
            self.context, self.put_in_front, self.serving.answers.refuse, self.encoder.discard
        )
        self._expected = self.serving.inviting.known.expected
        self._interrupt: BaseException | None = None  # raised while a frame was handled; not the outcome of a call
        self.exits: Exits = Exits(self.serving, lambda: self.control.on_stop(0.0))
        self.inherited: Any = None
        """The data that the predecessor of this worker handed over."""
        self.may_ask_inherited: bool = False
        """True once `inherited` is known: when the handlers of `start` run, and afterwards."""
        self.meters: Meters | None = None
        """The application's own metrics; None until it declares one."""
        self.end_in_order: Callable[[int], None] = _end_nothing
        """What `mob.exit` does in a mobster, called with the exit status; from any thread."""
        self.before_ready: list[Callable[[], None]] = []
        """Functions that are called each time before this mobster reports that it is ready."""
        reactor.after_callback = self._after_callback
        reactor.before_stand_in = self.blocking.serve_callbacks = self.serving.inbox.serve_callbacks

    def __repr__(self) -> str:
        return f"<Peer {self.context.name} of {self.context.app!r}, {self.contacts}>"

    def statistics(self) -> dict[str, int]:
        """Return the sizes of the tables; all are small again when nothing is under way."""
        return {
            "pending": sum(len(contact.pending) for contact in self.contacts),
            "in_hand": self.serving.in_hand,
            "served": self.serving.answers.served,
            "links": len(self.contacts.links()),
            **self.references.statistics(),
        }

    def limit(self, call: Call[Any], times: tuple[float, float]) -> None:
        """End the call when its time is over, slightly later than the callee would: its report says more."""
        made, deadline = times
        self._deadlines.add(call, deadline + LAST_WORD_TIMEOUT, deadline - made)

    def _time_out(self, call: Call[Any], seconds: float) -> None:
        over = f"{call.label} did not answer within {seconds:.3g} s"
        if call.state is CallState.SENT:
            where = call.contact
            behind = f", with {where.queue} calls in its queue at its last reply" if where.queue else ""
            text = f"{over}; it was sent to {where.name}{behind}."
            self.fail(call, CallTimeout(text, executed=call.executed_by_now()))
            where.forget_call(call)
        else:
            role = call.label.rpartition(".")[0]
            route = self.contacts.routes.get(role)
            has_nobody = route is None or not route.targets
            why = f"no worker of {role!r} was ready" if has_nobody else "all workers were busy"
            self.fail(call, CallTimeout(f"{over}: {why}.", executed=call.executed_by_now()))
            self.parking.forget(call)

    def fail(self, call: Call[Any] | Receiver, error: CallError) -> None:
        """End a call that was made here without an answer."""
        self.note_lost(call.label, error)
        if self.context.tracing is not None and isinstance(call, Call):
            self.context.tracing.end_unserved(call, error)
        call.fail(error)

    def note_lost(self, label: str, error: CallError) -> None:
        """Count a call that ends without an answer."""
        if self.serving.tallies is not None:
            self.serving.tallies.lose(label, error)

    def abandon(self) -> None:
        """Close everything in the child of a fork, because the links are the parent's.

        A copy that stays open would hide the parent's death, and the parent would miss any answer that the child reads.
        """
        if self.context.is_abandoned:
            return
        self.context.is_abandoned = True
        self.context.reactor.abandon(forks.end)
        for link in self.contacts.links():
            link.abandon(forks.end)
        for contact in self.contacts:
            contact.abandon()
        self.control.abandon(forks.end)
        self.references.abandon()
        self.encoder.abandon()
        self.context.board = None  # its memory is the parent's, too
        self.control.post = self._refuse  # every call, message and request goes through this or through the encoder

    def _refuse(self, *args: Any, **kwargs: Any) -> NoReturn:
        self.context.check_process()
        raise AssertionError("called in the process that has made this peer")

    def fire(self, event: str, *args: Any) -> None:
        """Run the handlers of an event."""
        self.handlers.fire(event, *args)

    def see(self, member: m.Member) -> None:
        """Note the token of a lease, if a member has one."""
        self.fencing.see(member)

    def handle_quarantined(self, exports: dict[str, int]) -> None:
        """Note the quarantined exports of this role; only the worker with the given uid runs each."""
        self.serving.quarantined = exports

    def put_in_front(self, accept: Accept) -> Accept:
        """Pass calls and messages to `accept` first; return what they were passed to before."""
        behind, self._accept = self._accept, accept
        return behind

    def admit_only(self, callers: tuple[str, ...]) -> None:
        """Check the sender of each call and message from now on."""
        self.serving.admission = admission = Admission(
            self.context, callers, self._accept, self.serving.answers.refuse, self.encoder.discard
        )
        self._accept = admission.accept

    def begin_no_more(self) -> None:
        """Give back the calls that wait and those that still arrive, except callbacks, because this process ends."""
        why = f"{self.context.name} is shutting down."
        self.serving.refuse_all(why)

        def accept(link: Link, contact: Contact, message: m.Invoke | m.Message) -> None:
            if isinstance(message, m.Invoke) and type(message.target) is not int:
                self.serving.answers.refuse(link, message, Unavailable(why))
            else:
                behind(link, contact, message)

        behind = self.put_in_front(accept)

    # --------------------------------------------------------------------------------------------- the links

    def handle_meet(self, uid: int, sock: socket.socket) -> None:
        """Handle our end of a link to a member, which the Kingpin sent."""
        is_distant = m.node_of(uid) != m.node_of(self.context.uid)
        decode = portable.decode if is_distant else m.decode_peer
        link = Link(
            sock, self.context.reactor, decode, self.handle_messages, self.handle_closed, self.context.frame_limit
        )
        link.is_stamped = is_distant or self.serving.tallies is not None
        self.contacts.meet(link, uid)

    def handle_closed(self, link: Link, why: str) -> None:
        """Handle the end of a link to a member."""
        contact = self.contacts.find(link)
        if contact is None:
            return  # its member left before it could be met
        try:
            self.contacts.handle_closed(link, why)
        finally:
            try:
                self.serving.drop_link(link, contact.has_left)
            finally:
                self.serving.inviting.handle_lost(contact)

    def handle_messages(self, link: Link, messages: list[m.PeerMessage | float]) -> None:
        """Handle the messages of one frame. By class: a `match` would cost more than everything else done here."""
        contact = self.contacts.of_link(link)
        contact.heard += len(messages)
        inbox = self.serving.inbox
        inbox.heard_at = now = monotonic()
        if messages and messages[0].__class__ is float:
            # The time when it was sent: it may have waited long in the socket while the loop was blocked.
            inbox.heard_at = min(now, messages.pop(0))  # type: ignore[type-var, arg-type]
        left = iter(messages)
        while (raised := self._handle_each(link, contact, left)) is not None:  # the other messages are unaffected
            if isinstance(raised, KeyboardInterrupt) and self.context.reactor.driving:
                self._interrupt = raised  # Ctrl-C is for the line that waits

    def _handle_each(self, link: Link, contact: Contact, messages: Iterator[Any]) -> BaseException | None:
        """Handle the rest of a frame; return an error that a message raised, after ending the call it belongs to."""
        message = call = None
        try:
            pending, take = contact.pending, contact.take
            decode = self.encoder.codec.decode
            for message in messages:
                kind = message.__class__
                if kind is m.Reply:
                    call = pending.get(message.id)
                    if call is None:
                        self.encoder.codec.discard(message.value)
                        continue
                    take(message.id)
                    try:
                        value = decode(message.value, call.is_undecided)
                    except BaseException as error:  # noqa: BLE001  becomes the call's outcome
                        self._handle_unreadable(call, message.value, error)
                        continue
                    contact.queue = message.queue
                    call.settle(value)
                    call = None
                elif kind is m.Invoke or kind is m.Message:
                    if self._expected:
                        self.serving.inviting.known.handle_call(
                            contact.uid, message.target if kind is m.Invoke else MESSAGE
                        )
                    self._accept(link, contact, message)
                else:
                    self._handle_rare(link, contact, message)
                message = None
        except BaseException as error:  # noqa: BLE001  becomes the call's outcome
            if message is not None:
                self._handle_failed(link, contact, message, call, error)
            return error
        return None

    def _handle_failed(
        self, link: Link, contact: Contact, message: Any, call: Call[Any] | Receiver | None, error: BaseException
    ) -> None:
        """End the call of a message whose handling raised an error."""
        for _ in range(ATTEMPTS):
            try:
                self._end_call_of(link, contact, message, call, error)
                if not isinstance(message, m.Reply):
                    self.serving.inviting.recover()
                return
            except BaseException:  # noqa: BLE001  tried again
                continue
        link.close(f"a message could not be handled: {type(error).__name__}: {error}")

    def _end_call_of(
        self, link: Link, contact: Contact, message: Any, call: Call[Any] | Receiver | None, error: BaseException
    ) -> None:
        match message:
            case m.Reply(id=number) | m.Failed(id=number) | m.Item(id=number) | m.Ended(id=number):
                if call is None or not isinstance(message, m.Reply):
                    call = contact.pending.get(number)
                contact.take(number)
                if call is not None:
                    call.fail(_unreadable(call, error))
            case m.Invoke():
                self.serving.inbox.forget(link, message.id)
                text = f"{self.context.name} could not accept the call: {type(error).__name__}: {error}"
                refusal = CallError(text, executed="no")
                refusal.__cause__ = error
                self.serving.ends.end(link, message, refusal)
            case m.More() | m.Cancel() | m.Waiting() | m.Invite() | m.Declined() | m.Farewell():
                self._handle_rare(link, contact, message)  # handling it twice does no harm
            case m.Message():
                text = "a message from %s was lost: %s"
                self.context.complaints.tell(text, text, contact.name, error, error=error)
            case _:
                link.close(f"{type(message).__name__} could not be handled: {type(error).__name__}: {error}")

    def _handle_rare(self, link: Link, contact: Contact, message: m.PeerMessage | float) -> None:
        match message:
            case m.Failed(id=number, queue=queue, failure=failure):
                contact.queue = queue
                call = contact.pending.get(number)
                if failure == failures.TAKEN_BACK and isinstance(call, Call) and call.role:
                    self._send_elsewhere(contact, number, call)
                elif call is not None:
                    error = failures.rebuild(failure, self.encoder.codec)
                    self._settle(contact, call, call.fail, error)
            case m.Item(id=number, value=value):
                self._handle_item(contact, number, value)
            case m.Ended(id=number, queue=queue):
                contact.queue = queue
                if (call := contact.pending.get(number)) is not None:
                    self._settle(contact, call, call.handle_ended)
            case m.More(id=number, count=count):
                self.serving.give_credit(link, number, count)
            case m.Cancel(id=number):
                self.serving.cancel(link, number)
            case (
                m.Release()
                | m.Lend()
                | m.SharedPool()
                | m.Unpooled()
                | m.Freed()
                | m.Passed()
                | m.Attached()
                | m.Arrived()
            ):
                self.references.handle(link, contact, message)
            case m.Farewell():
                contact.heard_farewell = True
            case m.Waiting(line=line, target=target):
                self.serving.inviting.handle_waiting(contact, line, target)
            case m.Invite():
                self.parking.handle_invite(contact, message)
            case m.Declined(line=line):
                self.serving.inviting.handle_declined(contact, line)
            case m.Left(in_hand=in_hand):
                contact.has_left, contact.has_answered_all = True, in_hand == 0
            case m.Here():
                pass
            case float():  # a stamp that is not at the start of a frame: ignored
                pass
            case _:
                raise AssertionError(f"{message!r} is handled elsewhere")

    def _handle_item(self, contact: Contact, number: int, value: Raw) -> None:
        call = contact.pending.get(number)
        if call is None:
            self.encoder.codec.discard(value)
            return
        try:
            item = self.encoder.codec.decode(value, call.is_undecided)
        except BaseException as error:  # noqa: BLE001  becomes the call's outcome
            contact.forget_call(call)
            call.fail(_unreadable(call, error))
            return
        call.handle_item(item)

    def _settle(
        self, contact: Contact, call: Call[Any] | Receiver, settle: Callable[..., None], *args: BaseException
    ) -> None:
        """Settle a call that was answered. It no longer counts as unanswered, whatever that raises."""
        try:
            contact.take(call.request.id)
            settle(*args)
        except BaseException as error:
            call.fail(_unreadable(call, error))
            raise

    def _send_elsewhere(self, contact: Contact, number: int, call: Call[Any]) -> None:
        """Send a call to another worker: it was taken back although it had begun, as far as this process knew."""
        if contact.take(number) is not None:  # else another thread has just done so
            try:
                self.parking.losses.send_elsewhere(call)
            except BaseException as error:
                call.fail(_unreadable(call, error))
                raise

    def _handle_unreadable(self, call: Call[Any] | Receiver, value: Raw, error: BaseException) -> None:
        """Handle a result that cannot be decoded as it is; the result type that the caller declared may help."""
        if not isinstance(error, Exception) or not call.settle_as_declared(value):
            call.fail(_unreadable(call, error))

    # ------------------------------------------------------------------------------------------- housekeeping

    def _after_callback(self) -> None:
        """Start work after everything that one read brought, because work may block until messages are read by hand."""
        self._work()
        if self.is_untidy:
            self.tidy()
        if self._interrupt is not None:
            interrupt, self._interrupt = self._interrupt, None
            raise interrupt

    @property
    def is_untidy(self) -> bool:
        """True if finalizers left something to `tidy`."""
        return bool(self.references.is_untidy or self.context.unheard or self.context.abandoned)

    def tidy(self) -> None:
        """Give back dropped callbacks and log unread errors; on the loop's thread."""
        while self.context.abandoned:
            self.context.abandoned.popleft().cancel()
        if self.references.is_untidy:
            self.references.sweep()
        while self.context.unheard:
            label, error = self.context.unheard.popleft()
            text = "%s failed and its result was never read: %s"
            self.context.complaints.tell((text, label), text, label, summary_of(error), error=error)

    def leave(self) -> None:
        """Leave the app: send what waits for workers, log unread errors, and close each link when its data is sent."""
        self.tidy()
        self.parking.leave()
        self.context.complaints.flush()
        for link in self.contacts.links():
            link.flush()  # a peer of an older release cannot read the frame with the last message
            link.post(m.Left(self.serving.in_hand))
            link.close_after_flush(LINK_FLUSH_TIMEOUT)

    def keep_house(self) -> None:
        """Tidy once a second from now on, even if no message arrives."""
        self.context.reactor.call_at(monotonic() + HOUSEKEEPING, self.keep_house)
        self.tidy()
        self.references.cool(monotonic())


def _end_nothing(status: int) -> None:
    """Do nothing: this process is not a mobster."""


def _abandon_all() -> None:
    for peer in list(_peers):
        peer.abandon()


os.register_at_fork(after_in_child=_abandon_all)


def _unreadable(call: Call[Any] | Receiver, error: BaseException) -> CallError:
    why = str(error) if isinstance(error, Exception) else f"{type(error).__name__}: {error}"
    failed = CallError(f"{call.label} answered, but the answer cannot be read: {why}", executed="yes")
    failed.__cause__ = error
    return failed
