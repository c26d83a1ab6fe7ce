"""The other members as this process knows them: for each its link, and the calls it has not answered yet.

A contact is there as soon as the roster names the member; its link comes when the Kingpin introduces the two. What is
said before that waits in the contact. When a member goes, each of its calls ends here and now: sent ones as `Lost`,
those that never left are routed anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from msgspec import Raw

from mob.core.routing import Route
from mob.core.states import Call as CallState
from mob.core.states import Mobster
from mob.errors import Lost
from mob.mobster.call import Call
from mob.rim.link import CLOSED, Link
from mob.wire import messages as m

if TYPE_CHECKING:
    from mob.mobster.peer import Peer

SENT = CallState.SENT
SLOW = 500
"""Microseconds: where calls take longer on average, each waits for an idle worker instead of behind another call."""

Body = tuple[str | int, Raw, tuple[Raw, ...], tuple[float, float] | None, tuple[int, ...]]
"""All of a call but its number: target, args, kwargs, times, chain."""


class Contact:
    """Another member (or this one itself)."""

    __slots__ = (
        "_early",
        "_peer",
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

    def __init__(self, peer: Peer, member: m.Member) -> None:
        self._peer = peer
        self.uid = member.uid
        self.member = member
        self.link: Link | None = None
        self.pending: dict[int, Call[Any]] = {}
        """Calls sent there and not answered, by number."""
        self.queue = 0
        """How many calls waited there when it last answered."""
        self._early: list[Any] = []  # said before the link was there
        self.farewell_said = False
        self.heard_farewell = False
        """Whether it has said that no new call of its follows."""
        self.is_broken = False
        """Whether the link has ended and another is not there yet: it gets no calls meanwhile."""
        self.gone = ""
        """Why the member is gone, once it is."""

    def __repr__(self) -> str:
        return f"<Contact {self.name} {self.member.state}, {len(self.pending)} calls outstanding>"

    @property
    def name(self) -> str:
        """As people read it: `back.2 (pid 4242)`."""
        member = self.member
        return f"{member.role}.{member.index} (pid {member.pid})" if member.role else f"client (pid {member.pid})"

    @property
    def outstanding(self) -> int:
        """Calls that it has in hand: those from here that it has not answered, and at least what the board says."""
        board = self._peer.board
        own = len(self.pending)
        return own if board is None else max(own, board.load(self.uid))

    @property
    def is_slow(self) -> bool:
        """Whether its calls take so long that none should wait behind another."""
        board = self._peer.board
        return board is not None and board.cost(self.uid) > SLOW

    def send_call(self, call: Call[Any], body: Body) -> None:
        """Sends a call; the answer settles it."""
        number = next(self._peer.call_numbers)
        request = m.Call(number, *body)
        call.contact = self
        call.request = request
        call.state = SENT
        self.pending[number] = call
        if self.link is not None:
            self.link.post(request)
        else:
            self.post(request)
        if self.gone:  # looked at last: if the member went while this was under way, the call ends all the same
            self.lose(self.gone)

    def post(self, message: Any) -> None:
        """Says something to the member, now or when the link is there."""
        link = self.link
        if link is not None and message.__class__ is not m.Pool:
            link.post(message)
        else:
            self._peer.contacts.want(self)
            self._early.append(message)
            if self.link is not None:  # it came meanwhile, on the loop's thread
                self._post_early()

    def post_lazily(self, message: Any) -> None:
        """Says something to the member that has a millisecond's time: perhaps it goes along with something else."""
        if self.link is not None:
            self.link.post_lazily(message)
        else:
            self.post(message)

    def post_pool(self, message: m.Pool) -> None:
        """Names this process's shared memory to the member."""
        link = self.link
        if link is not None:
            link.post_with(message, [self._peer.buffers.descriptor()])
        else:
            self.post(message)

    def attach(self, link: Link) -> None:
        """The Kingpin has introduced us."""
        self.link = link
        self.is_broken = False
        self._post_early()

    def _post_early(self) -> None:
        link = self.link
        assert link is not None
        while self._early:
            message = self._early.pop(0)
            if message.__class__ is m.Pool:
                link.post_with(message, [self._peer.buffers.descriptor()])
            else:
                link.post(message)

    def forget_call(self, call: Call[Any]) -> None:
        """The caller has given a call up."""
        number = call.request.id
        if self.pending.pop(number, None) is not None:
            self.post(m.Cancel(number))

    def say_farewell(self) -> None:
        """The member drains: it may go as soon as it has answered what was sent before this."""
        if self.link is not None and not self.farewell_said:
            self.farewell_said = True
            self.link.post(m.Farewell())

    def lose(self, why: str) -> None:
        """The member is gone, or the link to it has broken."""
        link, self.link = self.link, None
        never_sent = {message.id for message in self._early if isinstance(message, m.Call)}
        self._early.clear()
        if link is not None:
            never_sent |= {message.id for message in link.unsent() if isinstance(message, m.Call)}
        while self.pending:
            number, call = self.pending.popitem()
            if number in never_sent:
                self._peer.calling.route_again(call, f"{self.name} {why}")
            else:
                self._peer.calling.handle_lost(
                    call, Lost(f"{call.label} was lost: {self.name} {why} before it had answered.")
                )


class Contacts:
    """All of them, the routes to the roles, and the links."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._by_uid: dict[int, Contact] = {}
        self._by_link: dict[Link, Contact] = {}
        self._wanted: set[str | int] = set()  # roles and uids that the Kingpin was asked for
        self.routes: dict[str, Route[Contact]] = {}

    def __repr__(self) -> str:
        return f"<Contacts {len(self._by_uid)}, {len(self._by_link)} links>"

    def __iter__(self) -> Iterator[Contact]:
        return iter(list(self._by_uid.values()))

    def get(self, uid: int) -> Contact | None:
        """The contact of that uid."""
        return self._by_uid.get(uid)

    def of_link(self, link: Link) -> Contact:
        """Who is at the other end."""
        return self._by_link[link]

    def links(self) -> list[Link]:
        """All links to members."""
        return list(self._by_link)

    def route(self, role: str) -> Route[Contact]:
        """The route to a role."""
        route = self.routes.get(role)
        return self.routes.setdefault(role, Route(role)) if route is None else route

    def ready(self, role: str = "") -> list[Contact]:
        """The contacts that may be given work: of one role, or all."""
        if role:
            return list(self.routes[role].targets) if role in self.routes else []
        return [contact for route in self.routes.values() for contact in route.targets]

    def ready_and_self(self) -> list[Contact]:
        """All contacts that may be given work, and this process itself, ready or not."""
        contacts = self.ready()
        own = self._by_uid.get(self._peer.uid)
        return contacts if own is None or own in contacts else [*contacts, own]

    def want_role(self, role: str) -> None:
        """Asks the Kingpin, once, for links to a role ("*": all)."""
        if role not in self._wanted:
            self._wanted.add(role)
            self._peer.control.post(m.WantRole(role))

    def want(self, contact: Contact) -> None:
        """Asks the Kingpin, once, for a link to one member."""
        if contact.uid not in self._wanted:
            self._wanted.add(contact.uid)
            self._peer.control.post(m.WantMember(contact.uid))

    # ------------------------------------------------------------------------------------ what the Kingpin says

    def put(self, member: m.Member) -> None:
        """A member is new or has changed."""
        contact = self._by_uid.get(member.uid)
        if contact is None:
            contact = self._by_uid[member.uid] = Contact(self._peer, member)
        contact.member = member
        self._reroute(member.role)
        if member.state == Mobster.DRAINING:
            contact.say_farewell()

    def meet(self, link: Link, uid: int) -> None:
        """A link to a member is there. Of a link to this process itself the first end calls, the second answers."""
        contact = self._by_uid.get(uid)
        if contact is None:
            link.close("its member has gone")
            return
        is_second_to_self = uid == self._peer.uid and contact.link is not None
        if contact.link is not None and not is_second_to_self:  # it broke at the other end, and we had not noticed yet
            old = contact.link
            contact.lose("broke its link")
            old.close()
        self._by_link[link] = contact
        link.name = contact.name
        link.start()
        if not is_second_to_self:
            contact.attach(link)
            self._reroute(contact.member.role)
            if contact.member.state == Mobster.DRAINING:
                contact.say_farewell()

    def handle_closed(self, link: Link, why: str) -> None:
        """A link has ended: its member is gone, or spoke garbage."""
        contact = self._by_link.pop(link, None)
        if contact is not None and contact.link is link:
            contact.is_broken = True
            self._reroute(contact.member.role)
            contact.lose("has gone" if why == CLOSED else f"broke its link: {why}")
            if why != CLOSED and contact.uid in self._by_uid:
                self._peer.log.error("the link to %s was closed: %s", contact.name, why)
                self._peer.control.post(m.WantMember(contact.uid, again=True))

    def remove(self, uid: int, why: str) -> None:
        """A member has gone. What it still said is read first; after that nothing more can come."""
        contact = self._by_uid.pop(uid, None)
        if contact is None:
            return
        self._wanted.discard(uid)
        contact.gone = why
        self._reroute(contact.member.role)
        for link in [link for link, other in self._by_link.items() if other is contact]:
            link.drain()
            link.close()
        contact.lose(why)

    def _reroute(self, role: str) -> None:
        """The workers of a role that may get calls have changed (of clients there are none)."""
        if not role:
            return
        route = self.route(role)
        before = route.targets
        route.targets = tuple(
            contact
            for contact in self._by_uid.values()
            if contact.member.role == role and contact.member.state == Mobster.READY and not contact.is_broken
        )
        if before and not route.targets:
            self._peer.calling.handle_none_ready(route)
        if route.targets != before and (not before or route.keyed):
            self._peer.calling.route_waiting(route)
