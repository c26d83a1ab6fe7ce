"""The other members as this process knows them, the links to them, and which of them may get calls.

A single member is a `contact`. The part that makes calls is notified when members come, drain and end.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from operator import attrgetter
from time import monotonic
from typing import Any, Protocol

from mob.core.accounts import Loss
from mob.core.dispatch import Route
from mob.core.roster import is_ready
from mob.core.routes import Routes
from mob.core.selector import parted, selector_of
from mob.core.states import MobsterState
from mob.errors import UnknownTarget
from mob.peer.context import Context
from mob.peer.links.contact import Contact, DistantContact
from mob.peer.results.call import Call
from mob.plan import GATEWAY
from mob.rim.link import CLOSED, Link
from mob.wire import messages as m

UNINTRODUCED = "cannot be reached: its app has ended"
ENDED = "closed its link before it answered"
"""The end of a worker as far as its link shows it; only the Kingpin knows if the process exited."""
REMEMBERED = 1000
"""Maximum number of ended members whose names and ends are remembered."""
LINK_RETRY = 1.0
"""Seconds until a link is requested again for which this process had no file descriptor."""

_UID = attrgetter("uid")


class ControlLink(Protocol):
    """The process that introduces members to each other."""

    @property
    def is_closed(self) -> bool:
        """True if the link to it has ended."""
        ...

    def post(self, message: m.Up) -> None:
        """Send it a message."""
        ...


class Caller(Protocol):
    """The part that makes calls to these contacts and must know of their changes."""

    def handle_workers(self, role: str, near: Sequence[Contact], far: Sequence[Contact]) -> None:
        """Handle a change of the workers of a role that may get calls."""
        ...

    def handle_draining(self, contact: Contact) -> None:
        """Handle that a worker drains."""
        ...

    def handle_over(self, role: str) -> None:
        """Handle that no worker of a role will come any more."""
        ...

    def handle_recalled(self, contact: Contact, losses: Sequence[Loss]) -> None:
        """Handle calls that were not sent and whose worker drains."""
        ...

    def handle_lost(self, contact: Contact, losses: Sequence[Loss], why: str, is_known: bool) -> None:
        """Handle calls that were lost because their worker ended or the link to it broke.

        `is_known`: no further message about the reason will come.
        """
        ...


LEAVING = (MobsterState.DRAINING, MobsterState.HANDING)
"""States in which a member gets nothing new."""


class Contacts:
    """All contacts, the routes to the roles, and the links."""

    _kingpin: ControlLink
    _caller: Caller

    def __init__(self, context: Context, routes: Routes[Contact]) -> None:
        self._context = context
        self.routes = routes
        self._by_uid: dict[int, Contact] = {}
        self._by_link: dict[Link, Contact] = {}
        self._wanted: set[str | int] = set()  # roles and uids that were requested from the Kingpin
        self._draining: dict[int, Contact] = {}  # by uid
        self._gone: dict[int, tuple[m.Member, str]] = {}  # by uid, with the reason: handles may still be used
        self._able: dict[str, dict[int, Contact]] = {}  # by role and uid, those that may get calls

    def begin(self, kingpin: ControlLink, caller: Caller) -> None:
        """Take the parts that need this one."""
        self._kingpin, self._caller = kingpin, caller

    def __repr__(self) -> str:
        return f"<Contacts {len(self._by_uid)}, {len(self._by_link)} links>"

    def __iter__(self) -> Iterator[Contact]:
        return iter(list(self._by_uid.values()))

    def get(self, uid: int) -> Contact | None:
        """Return the contact with that uid."""
        return self._by_uid.get(uid)

    def name_of(self, uid: int) -> str:
        """Return the name of a member for people."""
        if uid in self._by_uid or uid in self._gone:
            return self.look_up(uid).name
        return "a process that has exited"

    def of_pid(self, pid: int | str, role: str = "") -> Contact:
        """Return the ready worker with that process id on this machine, or on another one with `node:pid`.

        `UnknownTarget` if there is no such worker.
        """
        node, name = parted(str(pid))
        number = selector_of(name).pid
        for contact in self:
            member = contact.member
            is_there = contact.node == node if node else not contact.is_distant
            if member.pid == number and is_there and is_ready(member, role):
                return contact
        among = f" of role {role!r}" if role else ""
        raise UnknownTarget(f"no ready worker{among} has the pid {pid}. `mob ps` lists them.")

    def of_link(self, link: Link) -> Contact:
        """Return the contact at the other end."""
        return self._by_link[link]

    def find(self, link: Link) -> Contact | None:
        """Return the contact at the other end; None if the link ended or leads to no member. From any thread."""
        return self._by_link.get(link)

    def links(self) -> list[Link]:
        """Return all links to members."""
        return list(self._by_link)

    def route(self, role: str) -> Route[Contact]:
        """Return the route to the ready workers of a role, and request links to them from the Kingpin."""
        self.want_role(role)
        return self.routes.of(role)

    def ready(self, role: str = "") -> list[Contact]:
        """Return the contacts that may be given work: those of one role, or all."""
        if role:
            route = self.routes.get(role)
            return [] if route is None else list(route.targets)
        return [contact for route in self.routes for contact in route.targets]

    def hearing(self, role: str = "") -> list[Contact]:
        """Return the contacts that get messages to all: those of one role, or all.

        Draining workers are included while they read, because they may have visitors left for whom the messages are;
        the others drop such late messages.
        """
        contacts = self.ready(role)
        if self._draining:
            draining = [each for each in list(self._draining.values()) if not role or each.member.role == role]
            contacts += [each for each in draining if not each.is_distant and not each.is_broken and each.has_room()]
        return contacts

    def hearing_and_self(self) -> list[Contact]:
        """Return all contacts that get messages to all, and this process itself, ready or not, if it is a worker."""
        contacts = self.hearing()
        own = self._by_uid.get(self._context.uid)
        return contacts if own is None or own in contacts or not own.member.role else [*contacts, own]

    def unanswered(self) -> list[Call[Any]]:
        """Return the calls of this process that others have, except streams that have begun."""
        return [call for contact in self for call in list(contact.pending.values()) if isinstance(call, Call)]

    def want_role(self, role: str) -> bool:
        """Ask the Kingpin, once, for links to a role ("*": all); return True if this was the first time."""
        if role in self._wanted:
            return False
        self._wanted.add(role)
        self._kingpin.post(m.WantRole(role))
        return True

    def want(self, contact: Contact) -> None:
        """Ask the Kingpin, once, for a link to one member."""
        if contact.uid not in self._wanted:
            self._wanted.add(contact.uid)
            self._kingpin.post(m.WantMember(contact.uid))

    def handle_said_early(self) -> None:
        """Check at once what waits for a link, because the app may have ended meanwhile."""
        if self._kingpin.is_closed:
            self._context.reactor.call(self.handle_unintroduced)

    def forget_wishes(self) -> None:
        """Forget what the previous Kingpin was asked for, because there is a new one."""
        self._wanted.clear()
        self._gone.clear()

    # ------------------------------------------------------------------------------------ what the Kingpin says

    def put(self, members: Sequence[m.Member]) -> None:
        """Add or update members, then handle the consequences for calls once for all of them."""
        draining: list[tuple[Contact, bool]] = []
        for member in members:
            contact = self._by_uid.get(member.uid)
            if contact is None:
                contact = self._by_uid[member.uid] = self._new(member)
            was_ready = contact.member.state == MobsterState.READY
            contact.member = member
            if contact.link is not None:
                contact.link.name = contact.name
            self._judge(contact)
            if member.state == MobsterState.READY:
                contact.farewell_said = False  # it may have handed over, and goes on
            elif member.state == MobsterState.HANDING:
                draining.append((contact, False))  # what waits goes to its successor, or to it if it goes on
            elif member.state == MobsterState.DRAINING:
                draining.append((contact, was_ready))
                self._draining[member.uid] = contact
        for role in {member.role for member in members}:
            self._reroute(role)
        for contact, was_ready in draining:
            self._caller.handle_recalled(contact, contact.recall_early())
            if was_ready:
                self._caller.handle_draining(contact)
            contact.say_farewell()

    def look_up(self, uid: int) -> Contact:
        """Return the contact of a uid; ask the Kingpin about one that it has not named, because it is a client.

        The Kingpin also says if there is no such member any more. It names all members on other machines.
        """
        contact = self._by_uid.get(uid)
        if contact is None:
            member, why = self._gone.get(uid) or (m.Member(uid, 0, "", 0, 0, MobsterState.READY), "")
            contact = self._new(member)
            if why:
                contact.gone = why
            elif self._kingpin.is_closed:
                contact.gone = UNINTRODUCED
            elif contact.is_distant:
                contact.gone = "has exited"
            else:
                contact = self._by_uid.setdefault(uid, contact)
                self.want(contact)
        return contact

    def absent(self, member: m.Member, node: str) -> Contact:
        """Return a contact that only has a name, for a process that is not in the roster and perhaps never was."""
        contact = Contact(self._context, member, {}, self)
        contact.node = node
        return contact

    def _new(self, member: m.Member) -> Contact:
        kind = Contact if m.node_of(member.uid) == m.node_of(self._context.uid) else DistantContact
        return kind(self._context, member, self.routes.of(member.role).lanes, self)

    def meet(self, link: Link, uid: int) -> None:
        """Take a new link to a member.

        Of a link from this process to itself, the first end is for calls, the second for answers.
        """
        contact = self._by_uid.get(uid)
        if contact is None:
            link.close("its member exited")
            return
        is_second_to_self = uid == self._context.uid and contact.link is not None
        if contact.link is not None and not is_second_to_self:  # it broke at the other end, still unnoticed here
            old = contact.link
            self.lose(contact, "broke its link")
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
            if contact.member.state in LEAVING:
                contact.say_farewell()

    def miss(self, uid: int) -> None:
        """Handle a link that did not arrive because this process has too many open files; request it again later."""
        contact = self._by_uid.get(uid)
        if contact is not None:
            self._context.log.error(
                "no link to %s: this process has too many open files (see `ulimit -n`)", contact.name
            )
            again = m.WantMember(uid, again=True)
            self._context.reactor.call_at(monotonic() + LINK_RETRY, lambda: self._kingpin.post(again))

    def handle_closed(self, link: Link, why: str) -> None:
        """Handle the end of a link: its member exited, or sent invalid data."""
        contact = self._by_link.pop(link, None)
        if contact is not None and contact.is_distant and contact.link is link:
            is_known = why != CLOSED or self._kingpin.is_closed or bool(self._context.roster.cut)
            self.lose(contact, "is out of reach", is_known)  # if it died, the message of its Kingpin takes longer
        elif contact is not None and contact.link is link:
            contact.is_broken = True
            try:
                self._judge(contact)
                self._reroute(contact.member.role)
            finally:
                is_known = why != CLOSED or self._kingpin.is_closed
                self.lose(contact, ENDED if why == CLOSED else f"broke its link: {why}", is_known)
            if why != CLOSED and contact.uid in self._by_uid:
                self._context.log.error("the link to %s was closed: %s", contact.name, why)
                self._kingpin.post(m.WantMember(contact.uid, again=True))

    def handle_unintroduced(self) -> None:
        """Give up members without a link, because no Kingpin is left to introduce them."""
        if not self._kingpin.is_closed:
            return  # it takes part in the app again
        without = [contact for contact in self if contact.link is None]
        for contact in without:
            contact.is_broken = True
            self._judge(contact)
        for role in {contact.member.role for contact in without}:
            self._reroute(role)
        for contact in without:
            if contact.pending or contact.orphans:
                self.lose(contact, UNINTRODUCED)

    def remove(self, gone: Sequence[m.MemberGone]) -> None:
        """Remove members that ended, with the reasons, after reading what they still sent."""
        contacts: list[tuple[Contact, str]] = []
        for each in gone:
            if (contact := self._by_uid.pop(each.uid, None)) is not None:
                contact.killed_for = each.overran
                contacts.append((contact, each.why))
        for contact, why in contacts:
            if contact.member.pid:
                self._gone[contact.uid] = contact.member, why
        for uid in list(self._gone)[:-REMEMBERED]:
            del self._gone[uid]
        try:
            self._close_links_of(contacts)
        finally:
            for contact, why in contacts:
                self.lose(contact, why)

    def lose(self, contact: Contact, why: str, is_known: bool = True) -> None:
        """Handle the end of a member, or of the link to it.

        `is_known`: no further message about the reason will come.
        """
        if contact.is_distant:
            self._wanted.discard(contact.uid)  # first: what other threads send from now on requests another link
        self._caller.handle_lost(contact, contact.lose(), why, is_known)

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
        """Handle that the other machines became reachable or unreachable."""
        for role in [route.role for route in self.routes]:
            self._reroute(role)
            if self._context.roster.is_out_of_reach(role):
                self._caller.handle_over(role)
        for contact in list(self) if not self._context.roster.cut else []:
            if contact.is_distant and contact.has_early:  # the gateway that was asked may have been replaced
                self._kingpin.post(m.WantMember(contact.uid))

    def _judge(self, contact: Contact) -> None:
        """Note if a contact may get calls; checking all contacts after each change would take too long."""
        role = contact.member.role
        if is_ready(contact.member) and not contact.is_broken and not contact.gone:
            self._able.setdefault(role, {})[contact.uid] = contact
        elif role in self._able:
            self._able[role].pop(contact.uid, None)

    def _reroute(self, role: str) -> None:
        """Update the workers of a role that may get calls; clients and gateways have none."""
        if not role or role == GATEWAY:
            return
        able = sorted(self._able.get(role, {}).values(), key=_UID)
        far = [] if self._context.roster.cut else [contact for contact in able if contact.is_distant]
        self._caller.handle_workers(role, [contact for contact in able if not contact.is_distant], far)
