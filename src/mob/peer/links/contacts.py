"""The other members as this process knows them: for each its link, and the calls it has not answered yet.

A contact is there as soon as the roster names the member; its link comes when the Kingpin introduces the two. What is
said before that waits in the contact. When a member goes, each of its calls ends here and now: sent ones as `Lost`,
those that never left are routed anew.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from functools import partial
from operator import attrgetter
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING, Any

from msgspec import Raw

from mob.core.dispatch import Route
from mob.core.lanes import LOOP, UNLIMITED, Lane
from mob.core.routing import Place, may_get_calls
from mob.core.states import Call as CallState, Mobster
from mob.errors import Lost
from mob.peer.results.call import Call
from mob.peer.results.streams import Receiver
from mob.plan import GATEWAY
from mob.rim.link import CLOSED, Descriptor, Link
from mob.wire import messages as m

if TYPE_CHECKING:
    from mob.peer.peer import Peer

SENT = CallState.SENT
UNSENT_LIMIT = 64 * 1024 * 1024
"""Bytes that may wait for the link to a member: of messages, and of all that goes to another machine."""
FULL = UNLIMITED >> 1
"""What is added to the calls that a worker of another machine has in hand if others wait for it: more than any export
runs at once that has a limit."""
UNINTRODUCED = "cannot be reached: its app has ended"
EXITED = "exited before it answered"
"""How a worker has died, as far as the end of its link says it."""
VERDICT = 1.0
"""Seconds that the Kingpin has to say how a process has died after its link has ended. It takes a millisecond or two,
unless it is stopped itself."""
PATIENCE = 1.0
"""Seconds after which a link is asked for again that this process had no descriptor for."""

_UID = attrgetter("uid")

Body = tuple[str | int, Raw, tuple[Raw, ...], tuple[float, float] | None, tuple[int, ...], str]
"""All of a call but its number: target, args, kwargs, times, chain, trace."""


class Contact:
    """Another member (or this one itself)."""

    __slots__ = (
        "_context",
        "_early",
        "_early_bytes",
        "_meeting",
        "_peer",
        "beside",
        "farewell_said",
        "gone",
        "heard",
        "heard_farewell",
        "is_broken",
        "lanes",
        "link",
        "member",
        "node",
        "orphans",
        "pending",
        "queue",
        "uid",
    )

    def __init__(self, peer: Peer, member: m.Member) -> None:
        self._peer = peer
        self._context = peer.context
        self.uid = member.uid
        self.member = member
        self.node = peer.context.roster.node_name(member.uid)
        """The name of its machine; nothing if there is no cluster."""
        self.link: Link | None = None
        self.pending: dict[int, Call[Any] | Receiver] = {}
        """Calls sent there and not answered, by number."""
        self.beside: set[int] = set()
        """The numbers of those that hold up no other call there."""
        self.orphans: deque[Call[Any] | Receiver] = deque()
        """Calls that its death has ended, until the Kingpin says how it died: their errors say it, too."""
        self.lanes: dict[str, Lane] = peer.contacts.route(member.role).lanes
        """How the exports of its role are run, as far as they are not run one after the other."""
        self.heard = 0
        """Messages that have come from there."""
        self.queue = 0
        """How many calls, and callers with more of them, waited there when it last answered."""
        self._early: list[tuple[Any, Sequence[Descriptor]]] = []  # said before the link was there
        self._early_bytes = 0  # of the messages among it
        self._meeting = Lock()  # held where a link comes or goes, lest something early is said too late
        self.farewell_said = False
        self.heard_farewell = False
        """Whether it has said that no new call of its follows."""
        self.is_broken = False
        """Whether the link has ended and another is not there yet: it gets no calls meanwhile."""
        self.gone = ""
        """Why the member is gone, once it is."""

    def __repr__(self) -> str:
        return f"<Contact {self.name} {self.member.state}, {len(self.pending)} calls outstanding>"

    is_distant = False
    """Whether it is on another machine."""
    is_choked = False
    """Whether it reads so slowly that nothing more should be sent."""

    @property
    def name(self) -> str:
        """As people read it: `back.2 (pid 4242)`."""
        member = self.member
        if not member.pid and not member.role:
            return "a client"  # the Kingpin has not said yet which
        where = f"pid {member.pid} on {self.node}" if self.is_distant else f"pid {member.pid}"
        return f"{member.role}.{member.index} ({where})" if member.role else f"client ({where})"

    @property
    def address(self) -> int | str:
        """What `mob.pid` finds it by: its pid; on another machine the name of that as well."""
        return f"{self.node}:{self.member.pid}" if self.is_distant else self.member.pid

    @property
    def place(self) -> Place:
        """Its place among those that keys belong to."""
        return self.node, self.member.index

    @property
    def outstanding(self) -> int:
        """Calls that it has in hand: those from here that it has not answered, and at least what the board says."""
        board = self._context.board
        own = len(self.pending)
        return own if board is None else max(own, board.all_in_hand(self.uid))

    @property
    def in_hand(self) -> int:
        """Those for whose end another call would have to wait there; beyond all numbers if callers wait already."""
        board = self._context.board
        own = len(self.pending) - len(self.beside)
        return own if board is None else max(own, board.queued(self.uid))

    @property
    def pace(self) -> int:
        """Microseconds that its calls take on average at the moment; 0 if that is not known."""
        board = self._context.board
        return 0 if board is None else board.pace(self.uid)

    def has_room(self) -> bool:
        """Whether less waits to be sent there than may. From any thread."""
        if self._unsent_bytes() <= UNSENT_LIMIT:
            return True
        reactor = self._context.reactor
        if reactor.is_mine:
            reactor.poll()  # the loop stands still, perhaps for as long as all this has been said
        return self._unsent_bytes() <= UNSENT_LIMIT

    def _unsent_bytes(self) -> int:
        link = self.link
        return self._early_bytes if link is None else link.unsent_bytes

    def send_call(self, call: Call[Any], body: Body) -> None:
        """Sends a call; the answer settles it."""
        number = next(self._context.call_numbers)
        request = m.Call(number, *body)
        call.contact = self
        call.request = request
        call.state = SENT
        self.pending[number] = call
        lane = self.lanes.get(body[0])  # type: ignore[arg-type]
        if lane is not None and lane.is_beside:
            self.beside.add(number)
        link = self.link
        if link is not None:
            link.post(request)
        else:
            self.post(request)
        if self.gone:  # looked at last: if the member went while this was under way, the call ends all the same
            self.lose(self.gone)

    def take(self, number: int) -> Call[Any] | Receiver | None:
        """Return the unanswered call of that number, which is none any more; None if there is no such call."""
        self.beside.discard(number)
        return self.pending.pop(number, None)

    def post(self, message: Any) -> None:
        """Says something to the member, now or when the link is there."""
        link = self.link
        if link is not None:
            link.post(message)
        else:
            self._post_early(message, ())

    def post_lazily(self, message: Any) -> None:
        """Says something to the member that has a millisecond's time: perhaps it goes along with something else."""
        if self.link is not None:
            self.link.post_lazily(message)
        else:
            self.post(message)

    def post_with(self, message: Any, descriptors: Sequence[Descriptor]) -> None:
        """Sends the member a message that takes descriptors, now or when the link is there."""
        link = self.link
        if link is not None:
            link.post_with(message, descriptors)
        else:
            self._post_early(message, descriptors)

    def _post_early(self, message: Any, descriptors: Sequence[Descriptor]) -> None:
        self._peer.contacts.want(self)
        with self._meeting:
            if self.link is None:
                self._early.append((message, descriptors))
                if isinstance(message, m.Message):
                    self._early_bytes += len(message.body)
            else:  # it came meanwhile, on the loop's thread
                _post(self.link, message, descriptors)
                return
        if self._peer.control.is_closed:  # looked at now: the app may have gone while this was under way
            self._context.reactor.call(self._peer.contacts.handle_unintroduced)

    def attach(self, link: Link) -> None:
        """The Kingpin has introduced us. What was said early goes first: others see the link only after that."""
        with self._meeting:
            for message, descriptors in self._early:
                _post(link, message, descriptors)
            self._early.clear()
            self._early_bytes = 0
            self.link = link
        self.is_broken = False

    def forget_call(self, call: Call[Any] | Receiver) -> None:
        """The caller has given a call up."""
        number = call.request.id
        if self.take(number) is not None:
            self.post(m.Cancel(number))

    def want_again(self) -> None:
        """Nothing to do for a neighbour: its link is made when it is asked for."""

    def recall_early(self) -> None:
        """The member drains, and no link to it has come yet: the calls that wait for one go to others, if they may.
        It waits for nobody whom it has not met."""
        with self._meeting:
            numbers = [] if self.link is not None else [each.id for each, _ in self._early if isinstance(each, m.Call)]
            calls = [call for number in numbers if isinstance(call := self.pending.get(number), Call) and call.role]
            recalled = {call.request.id for call in calls}
            self._early = [each for each in self._early if not (isinstance(each[0], m.Call) and each[0].id in recalled)]
        for call in calls:
            self.take(call.request.id)
            self._peer.calling.route_again(call, f"{self.name} ends")

    def abandon(self) -> None:
        """Have no link any more, in the child of a fork. What the child says goes nowhere."""
        self.link, self._meeting = None, Lock()
        self.pending.clear()

    def say_farewell(self) -> None:
        """The member drains: it may go as soon as it has answered what was sent before this."""
        if self.link is not None and not self.farewell_said:
            self.farewell_said = True
            self.link.post(m.Farewell())

    def lose(self, why: str, is_known: bool = True) -> None:
        """The member is gone, or the link to it has broken. `is_known`: nobody will say more about the reason; else the
        calls that are not sent to another worker end a moment later, with what the Kingpin says by then."""
        with self._meeting:
            link, self.link = self.link, None
            never_sent = {message.id for message, _ in self._early if isinstance(message, m.Call)}
            self._early.clear()
            self._early_bytes = 0
            pending = self.pending.copy()  # not what other threads add from now on: that waits for the next link
        if link is not None:
            never_sent |= {message.id for message in link.unsent() if isinstance(message, m.Call)}
        try:
            self._peer.calling.handle_link_lost(self)
        finally:
            self._end_each(pending, never_sent, why, is_known)

    def _end_each(
        self, pending: dict[int, Call[Any] | Receiver], never_sent: set[int], why: str, is_known: bool
    ) -> None:
        for number in pending:
            if (call := self.pending.get(number)) is None:
                continue
            try:
                self.take(number)
                if number in never_sent and isinstance(call, Call):
                    self._peer.calling.route_again(call, f"{self.name} {why}")
                elif not self._peer.calling.repeat(call, self._lost(call, why)):
                    self.orphans.append(call)
            except BaseException:  # noqa: BLE001  it ends below
                if call not in self.orphans:
                    self.orphans.append(call)
        if is_known:
            self.end_orphans(why)
        elif self.orphans:
            self._context.reactor.call_at(monotonic() + VERDICT, partial(self.end_orphans, why))

    def end_orphans(self, why: str) -> None:
        """How the member has died is known now, or nobody has said it in time."""
        while self.orphans:
            try:
                call = self.orphans[0]
                if not (isinstance(call, Call) and call.done()):  # it may have been cancelled meanwhile
                    self._fail_orphan(call, why)
                self.orphans.remove(call)
            except (IndexError, ValueError):
                return  # another thread was faster

    def _fail_orphan(self, call: Call[Any] | Receiver, why: str) -> None:
        try:
            self._peer.fail(call, Lost(self._lost(call, why)))
        except BaseException:  # noqa: BLE001  it ends all the same
            call.fail(Lost(self._lost(call, why)))

    def _lost(self, call: Call[Any] | Receiver, why: str) -> str:
        return f"{call.label} was lost: {self.name} {why}."


def _post(link: Link, message: Any, descriptors: Sequence[Descriptor]) -> None:
    if descriptors:
        link.post_with(message, descriptors)
    else:
        link.post(message)


class DistantContact(Contact):
    """A member on another machine. Its link is carried by gateways: it may break while the member lives, and then
    another is made when there is something to say."""

    __slots__ = ()
    is_distant = True

    @property
    def outstanding(self) -> int:
        """Calls from here that it has not answered; beyond all numbers if others waited there when it last answered."""
        own = len(self.pending)
        return own if self.queue <= own else own + FULL

    @property
    def in_hand(self) -> int:
        """Those of them for whose end another call would have to wait; beyond all numbers, too."""
        own = len(self.pending)
        return own - len(self.beside) + (0 if self.queue <= own else FULL)

    @property
    def pace(self) -> int:
        """That is not known here."""
        return 0

    @property
    def is_choked(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether so much waits for its link that nothing more should be sent."""
        return self._unsent_bytes() > UNSENT_LIMIT

    def want_again(self) -> None:
        """Whoever was asked for the link may have been replaced."""
        if self._early:
            self._peer.control.post(m.WantMember(self.uid))

    def lose(self, why: str, is_known: bool = True) -> None:
        self._peer.contacts.forget_wish(self)  # first: what other threads say from now on asks for another link
        super().lose(why, is_known)


class Contacts:
    """All of them, the routes to the roles, and the links."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._context = peer.context
        self._by_uid: dict[int, Contact] = {}
        self._by_link: dict[Link, Contact] = {}
        self._wanted: set[str | int] = set()  # roles and uids that the Kingpin was asked for
        self.routes: dict[str, Route[Contact]] = {}
        self._draining: dict[int, Contact] = {}  # by uid
        self._able: dict[str, dict[int, Contact]] = {}  # by role and uid, those that may get calls

    def __repr__(self) -> str:
        return f"<Contacts {len(self._by_uid)}, {len(self._by_link)} links>"

    def __iter__(self) -> Iterator[Contact]:
        return iter(list(self._by_uid.values()))

    def get(self, uid: int) -> Contact | None:
        """The contact of that uid."""
        return self._by_uid.get(uid)

    def name_of(self, uid: int) -> str:
        """Return the name of a member as people read it."""
        contact = self._by_uid.get(uid)
        return "a process that has gone" if contact is None else contact.name

    def of_link(self, link: Link) -> Contact:
        """Who is at the other end."""
        return self._by_link[link]

    def find(self, link: Link) -> Contact | None:
        """Return who is at the other end, None if the link has ended or is none of these. From any thread."""
        return self._by_link.get(link)

    def links(self) -> list[Link]:
        """All links to members."""
        return list(self._by_link)

    def route(self, role: str) -> Route[Contact]:
        """The route to a role."""
        route = self.routes.get(role)
        return self.routes.setdefault(role, Route(role, self._context.cost_of)) if route is None else route

    def learn(self, role: m.RoleInfo) -> None:
        """The exports of a role, or the number of its workers, have become known or have changed."""
        route = self.route(role.name)
        for export in role.exports or ():
            lane = Lane(export.width, export.is_beside)
            for target in (export.name, m.MAP + export.name):
                if lane == LOOP:
                    route.lanes.pop(target, None)
                else:
                    route.lanes[target] = lane

    def all_routes(self) -> list[Route[Contact]]:
        """Those that there are at this moment; from any thread."""
        return list(self.routes.values())

    def ready(self, role: str = "") -> list[Contact]:
        """The contacts that may be given work: of one role, or all."""
        if role:
            return list(self.routes[role].targets) if role in self.routes else []
        return [contact for route in self.all_routes() for contact in route.targets]

    def hearing(self, role: str = "") -> list[Contact]:
        """Return the contacts that get messages to all: of one role, or of all. Also those that drain, as long as they
        read, because they may have visitors left for whom the messages are; who has none drops what comes so late."""
        contacts = self.ready(role)
        if self._draining:
            draining = [each for each in list(self._draining.values()) if not role or each.member.role == role]
            contacts += [each for each in draining if not each.is_distant and not each.is_broken and each.has_room()]
        return contacts

    def hearing_and_self(self) -> list[Contact]:
        """Return all contacts that get messages to all, and this process itself, ready or not."""
        contacts = self.hearing()
        own = self._by_uid.get(self._context.uid)
        return contacts if own is None or own in contacts else [*contacts, own]

    def unanswered(self) -> list[Call[Any]]:
        """The calls that others have from this process, but for streams that have begun."""
        return [call for contact in self for call in list(contact.pending.values()) if isinstance(call, Call)]

    def want_role(self, role: str) -> bool:
        """Ask the Kingpin, once, for links to a role ("*": all); return whether this was the first time."""
        if role in self._wanted:
            return False
        self._wanted.add(role)
        self._peer.control.post(m.WantRole(role))
        return True

    def want(self, contact: Contact) -> None:
        """Asks the Kingpin, once, for a link to one member."""
        if contact.uid not in self._wanted:
            self._wanted.add(contact.uid)
            self._peer.control.post(m.WantMember(contact.uid))

    def forget_wish(self, contact: Contact) -> None:
        """The link that was asked for has come and gone."""
        self._wanted.discard(contact.uid)

    def forget_wishes(self) -> None:
        """The Kingpin that was asked is gone, and there is another one."""
        self._wanted.clear()

    # ------------------------------------------------------------------------------------ what the Kingpin says

    def put(self, members: Sequence[m.Member]) -> None:
        """Members are new or have changed. What follows for the calls is looked at once for all of them."""
        draining: list[tuple[Contact, bool]] = []
        for member in members:
            contact = self._by_uid.get(member.uid)
            if contact is None:
                contact = self._by_uid[member.uid] = self._kind_of(member.uid)(self._peer, member)
            was_ready = contact.member.state == Mobster.READY
            contact.member = member
            if contact.link is not None:
                contact.link.name = contact.name
            self._judge(contact)
            if member.state == Mobster.DRAINING:
                draining.append((contact, was_ready))
                self._draining[member.uid] = contact
        for role in {member.role for member in members}:
            self._reroute(role)
        for contact, was_ready in draining:
            contact.recall_early()
            if was_ready:
                self._peer.calling.handle_draining(contact)
            contact.say_farewell()

    def look_up(self, uid: int) -> Contact:
        """Return the contact of a uid. If the Kingpin has not told of it, because it is a client, ask. The Kingpin also
        says if there is no such member any more. Of members on other machines it tells all that there are."""
        contact = self._by_uid.get(uid)
        if contact is None:
            contact = self._kind_of(uid)(self._peer, m.Member(uid, 0, "", 0, 0, Mobster.READY))
            if self._peer.control.is_closed:
                contact.gone = UNINTRODUCED
            elif contact.is_distant:
                contact.gone = "has gone"
            else:
                contact = self._by_uid.setdefault(uid, contact)
                self.want(contact)
        return contact

    def absent(self, member: m.Member, node: str) -> Contact:
        """Return a contact of somebody who is not in the roster, and perhaps has never been: there is only its name."""
        contact = Contact(self._peer, member)
        contact.node = node
        return contact

    def _kind_of(self, uid: int) -> type[Contact]:
        return Contact if m.node_of(uid) == m.node_of(self._context.uid) else DistantContact

    def meet(self, link: Link, uid: int) -> None:
        """A link to a member is there. Of a link to this process itself the first end calls, the second answers."""
        contact = self._by_uid.get(uid)
        if contact is None:
            link.close("its member has gone")
            return
        is_second_to_self = uid == self._context.uid and contact.link is not None
        if contact.link is not None and not is_second_to_self:  # it broke at the other end, and we had not noticed yet
            old = contact.link
            contact.lose("broke its link")
            old.close()
        self._by_link[link] = contact
        link.name = contact.name
        link.start()
        if not is_second_to_self:
            if contact.is_distant:
                link.post(m.Here())
            contact.attach(link)
            self._judge(contact)
            self._reroute(contact.member.role)
            if contact.member.state == Mobster.DRAINING:
                contact.say_farewell()

    def miss(self, uid: int) -> None:
        """A link to a member has not come through, for this process has too many files open. Asks anew, in a while."""
        contact = self._by_uid.get(uid)
        if contact is not None:
            self._context.log.error(
                "no link to %s: this process has too many files open, see `ulimit -n`", contact.name
            )
            again = m.WantMember(uid, again=True)
            self._context.reactor.call_at(monotonic() + PATIENCE, lambda: self._peer.control.post(again))

    def handle_closed(self, link: Link, why: str) -> None:
        """A link has ended: its member is gone, or spoke garbage."""
        contact = self._by_link.pop(link, None)
        if contact is not None and contact.is_distant and contact.link is link:
            contact.lose("is out of reach")
        elif contact is not None and contact.link is link:
            contact.is_broken = True
            try:
                self._judge(contact)
                self._reroute(contact.member.role)
            finally:
                is_known = why != CLOSED or self._peer.control.is_closed
                contact.lose(EXITED if why == CLOSED else f"broke its link: {why}", is_known)
            if why != CLOSED and contact.uid in self._by_uid:
                self._context.log.error("the link to %s was closed: %s", contact.name, why)
                self._peer.control.post(m.WantMember(contact.uid, again=True))

    def handle_unintroduced(self) -> None:
        """Nobody is left who would introduce this process to anybody: those that it has no link to are out of reach."""
        if not self._peer.control.is_closed:
            return  # it takes part in the app again
        without = [contact for contact in self if contact.link is None]
        for contact in without:
            contact.is_broken = True
            self._judge(contact)
        for role in {contact.member.role for contact in without}:
            self._reroute(role)
        for contact in without:
            if contact.pending or contact.orphans:
                contact.lose(UNINTRODUCED)

    def remove(self, gone: Sequence[tuple[int, str]]) -> None:
        """Members have gone, and why. What they still said is read first; after that nothing more can come."""
        contacts = [(contact, why) for uid, why in gone if (contact := self._by_uid.pop(uid, None)) is not None]
        try:
            self._close_links_of(contacts)
        finally:
            for contact, why in contacts:
                contact.lose(why)

    def _close_links_of(self, contacts: list[tuple[Contact, str]]) -> None:
        for contact, why in contacts:
            self._draining.pop(contact.uid, None)
            self._wanted.discard(contact.uid)
            contact.gone = why
            self._judge(contact)
        for role in {contact.member.role for contact, _ in contacts}:
            self._reroute(role)
        mine = {contact.uid for contact, _ in contacts}
        for link in [link for link, contact in self._by_link.items() if contact.uid in mine]:
            link.drain()
            link.close()

    def handle_cut(self) -> None:
        """The other machines can be reached, or cannot any more."""
        for role in list(self.routes):
            self._reroute(role)
            if self._context.roster.is_out_of_reach(role):
                self._peer.calling.handle_over(role)
        if not self._context.roster.cut:
            for contact in self:
                contact.want_again()

    def _judge(self, contact: Contact) -> None:
        """Note whether a contact may get calls: to look at all contacts after each change would take too long."""
        role = contact.member.role
        if may_get_calls(contact.member, role) and not contact.is_broken and not contact.gone:
            self._able.setdefault(role, {})[contact.uid] = contact
        elif role in self._able:
            self._able[role].pop(contact.uid, None)

    def _reroute(self, role: str) -> None:
        """The workers of a role that may get calls have changed (of clients and gateways there are none)."""
        if not role or role == GATEWAY:
            return
        able = sorted(self._able.get(role, {}).values(), key=_UID)
        far = [] if self._context.roster.cut else [contact for contact in able if contact.is_distant]
        self._peer.calling.handle_workers(role, [contact for contact in able if not contact.is_distant], far)
