"""A process that takes part: its contacts, its links, what it hears from the Kingpin; a client is no more than this.

A model in small of `peer/links/contacts.py`, `control.py` and `peer.py`, in the same order, without threads, bytes and
descriptors. What it serves, if it is a mobster, is the business of `mobster.py`.
"""

from __future__ import annotations

from typing import Any, cast

from mob.core.roster import Roster, is_ready
from mob.core.states import MobsterState
from mob.peer.links.contact import Contact, DistantContact
from mob.wire.messages import Farewell, Invite, Invoke, Member, Waiting
from tests.simulation.calling import Caller
from tests.simulation.clock import claim
from tests.simulation.links import END, Link, Pipe


class Peer(Caller):
    """A process, as far as it is like all others."""

    # ----------------------------------------------------------------------------------------- the Kingpin's word

    def handle_control(self, batch: list[Any]) -> None:
        """What the Kingpin has said in one turn."""
        for message in batch:
            match message:
                case ("member", member):
                    self.roster.put(member)
                    self._put(member)
                case ("meet", uid, link):
                    self._meet(uid, link)
                case ("gone", uid):
                    self._handle_gone(uid)
                case ("role", role):
                    self.roster.put_role(role)
                    self._handle_role(role)
                case ("welcome", roles, members):
                    self.roster = Roster(roles, members)
                    for role in roles:
                        self._handle_role(role)
                    for member in members:
                        self._put(member)
                    self.is_welcomed = True
                case _:
                    self.handle_order(message)

    def handle_order(self, message: Any) -> None:
        """A client gets none."""

    def handle_role(self, role: Any) -> None:
        """Something is known of the role that this process serves."""

    def _handle_role(self, role: Any) -> None:
        if role.name == self.role:
            self.handle_role(role)
        self.routes.learn(role)
        self.parking.handle_resized()
        if self.roster.is_over(role.name):
            self.parking.handle_over(role.name)

    def _put(self, member: Member) -> None:
        contact = self.contacts.get(member.uid)
        if contact is None:
            is_distant = self.is_far or self.kingpin.everybody[member.uid].is_far
            kind = DistantContact if is_distant else Contact
            me: Any = self
            contact = kind(me, member, self.routes.of(member.role).lanes, self.introducer)
            self.contacts[member.uid] = contact
        was_ready = contact.member.state == MobsterState.READY
        contact.member = member
        if member.state == MobsterState.DRAINING:
            self.heard_draining.add(member.uid)
        self._reroute(member.role)
        if member.state == MobsterState.DRAINING:
            self.handle_draining(contact, was_ready)
            contact.say_farewell()

    def _meet(self, uid: int, link: Link) -> None:
        contact = self.contacts.get(uid)
        if contact is None:
            link.close()
            return
        is_second_to_self = uid == self.uid and contact.link is not None
        if contact.link is not None and not is_second_to_self:  # it broke at the other end; this one has not read that
            claim(cast(Any, contact.link).is_broken, "nobody is introduced twice", self, contact)
            old: Any = contact.link
            self.lose(contact, "broke its link")
            self.drop_link(old)
        link.contact = contact
        self.links.append(link)
        self.clock.after(0, self.handle_readable, link.into)
        if not is_second_to_self:
            contact.attach(cast(Any, link))
            self._reroute(contact.member.role)
            if contact.member.state == MobsterState.DRAINING:
                contact.say_farewell()

    def _handle_gone(self, uid: int) -> None:
        self.roster.remove(uid)
        contact = self.contacts.pop(uid, None)
        if contact is not None:
            self.wanted.discard(uid)
            contact.gone = "gone"
            self._reroute(contact.member.role)
            for link in [link for link in self.links if link.contact is contact]:
                self.read(link.into, everything=True)
                self.drop_link(link)
            self.lose(contact, "has gone")
        self.lent.forget_holder(uid)

    def _reroute(self, role: str) -> None:
        if not role:
            return
        able = [
            contact for contact in self.contacts.values() if is_ready(contact.member, role) and not contact.is_broken
        ]
        self.handle_workers(role, able)

    # ---------------------------------------------------------------------------------------------- reading

    def handle_readable(self, pipe: Pipe) -> None:
        """Something has arrived; it is read when the loop is free."""
        if not self.is_alive:
            return
        if self.is_blocked:
            self._readable[pipe] = None
        else:
            self.read(pipe)
            self.work()

    def read_all(self) -> None:
        """The loop has become free."""
        overdue, self.overdue = self.overdue, []
        for number in overdue:
            self.reactor.ring(number)
        while self._readable and not self.is_blocked and self.is_alive:
            pipe = next(iter(self._readable))
            del self._readable[pipe]
            self.read(pipe)

    def read(self, pipe: Pipe, everything: bool = False) -> None:
        """Reads what a pipe holds."""
        link = pipe.end
        if link is not None and link.contact is None:
            return  # the introduction has not been heard yet
        if link is not None and link not in self.links:
            return  # dropped: nobody reads what still comes
        for message in pipe.take(everything):
            if not self.is_alive or (link is not None and link not in self.links):
                return
            if link is None:
                if message is END:
                    self.handle_kingpin_gone()
                else:
                    self.handle_control(message)
            else:
                self.handle_message(link, message)

    def handle_message(self, link: Link, message: Any) -> None:
        """Something that another member says."""
        if type(message) is Invite:
            self.parking.handle_invite(link.contact, message)
            return
        if type(message) is Farewell:
            link.contact.heard_farewell = True
            return
        if type(message) is not tuple:
            self.serve(link, message)
            return
        kind = message[0]
        if kind in ("reply", "failed", "item"):
            self.handle_answer(link, message)
        elif kind == "release":
            for number, count in message[1].items():
                self.lent.release(number, link.contact.uid, count)
        elif message is END:
            self._handle_closed(link)
        else:
            self.serve(link, message)

    def serve(self, link: Link, message: Any) -> None:
        """A client serves the functions that it has lent, at once."""
        if type(message) is Waiting:
            raise AssertionError(message)  # it has no exports
        if type(message) is Invoke:
            call: Any = message.trace
            self.ledger.handle_started(call, self)
            self.ledger.handle_finished(call)
            link.out.post(("reply", message.id, 0))

    def work(self) -> None:
        """After all that one read has brought."""

    def _handle_closed(self, link: Link) -> None:
        contact = link.contact
        self.drop_link(link)
        if contact.link is link:
            contact.is_broken = True
            self._reroute(contact.member.role)
            self.lose(contact, "exited", is_known=False)

    def break_link(self, link: Link) -> None:
        """The other end has sent what cannot be read: this one closes the link, and asks for another."""
        contact = link.contact
        link.is_broken = link.other.is_broken = True
        self._handle_closed(link)
        self.control.post(("want member again", contact.uid))

    def block(self, seconds: float) -> None:
        """The loop stands still for so long."""
        if not self.is_blocked:
            self.is_blocked = True
            self.clock.after(seconds, self.unblock)

    def unblock(self) -> None:
        """It goes on."""
        self.is_blocked = False
        if self.is_alive:
            self.read_all()
            self.work()

    def drop_link(self, link: Link) -> None:
        """A link has ended."""
        if link in self.links:
            self.links.remove(link)
            link.close()

    def handle_kingpin_gone(self) -> None:
        """The Kingpin knows this process no more."""
        self.leave()

    def leave(self) -> None:
        """This process ends: what it has sent arrives, what it has not sent never will."""
        self.is_alive = False
        self.ledger.handle_died(self)
        for link in self.links:
            link.out.unsent.clear()
            link.close()
        self.control.unsent.clear()
        self.control.close()

    def sizes(self) -> dict[str, int]:
        """The tables; all are empty when nothing is under way."""
        return {
            "calls": len(self.mine),
            "pending": sum(len(contact.pending) for contact in self.contacts.values()),
            "beside": sum(len(contact.beside) for contact in self.contacts.values()),
            "parked": sum(route.waiting + len(route.items()) + route.size for route in self.routes),
            "orphans": sum(len(contact.orphans) for contact in self.contacts.values()),
            "lent": len(self.lent),
            "debts": len(self.debts),
            "early": sum(contact.has_early for contact in self.contacts.values()),
        }
