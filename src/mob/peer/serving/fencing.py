"""Fencing: a singleton that has lost its lease, and does not know it yet, is not listened to.

Each lease has a token that is greater than those before it, and a member of the roster carries the token by which it
was launched. Whoever has seen a greater one of the same role refuses the calls of the smaller, and drops its messages.
That closes the gap which no lease can: a holder that was stopped in the middle of a call and goes on much later.

It stands in front of the inbox, in those processes only that have seen a singleton: elsewhere nothing is looked at.
Functions that were lent pass, for who answers a call must be able to call back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from mob.errors import Fenced
from mob.peer.serving.admission import Accept, Refuse
from mob.rim.link import Link
from mob.wire import messages as m

if TYPE_CHECKING:
    from mob.peer.context import Context
    from mob.peer.links.contact import Contact


class Fencing:
    """The tokens that this process has seen."""

    def __init__(
        self,
        context: Context,
        put_in_front: Callable[[Accept], Accept],
        refuse: Refuse,
        discard: Callable[[m.Invoke | m.Message], None],
    ) -> None:
        self._context = context
        self._put_in_front = put_in_front
        self._refuse = refuse
        self._discard = discard
        self._greatest: dict[str, int] = {}  # by role
        self._accept: Accept | None = None  # what comes behind this, once this is there

    def __repr__(self) -> str:
        return f"<Fencing {self._greatest}>"

    def see(self, member: m.Member) -> None:
        """Somebody is there, or has changed."""
        if member.token > self._greatest.get(member.role, 0):
            self._greatest[member.role] = member.token
            if self._accept is None:
                self._accept = self._put_in_front(self.accept)

    def is_outdated(self, member: m.Member) -> bool:
        """Whether another one has a greater token of its role."""
        return 0 < member.token < self._greatest.get(member.role, 0)

    def accept(self, link: Link, contact: Contact, message: m.Invoke | m.Message) -> None:
        """Lets a call or a message in, or turns it away."""
        assert self._accept is not None
        if not self.is_outdated(contact.member) or (isinstance(message, m.Invoke) and type(message.target) is int):
            self._accept(link, contact, message)
        elif isinstance(message, m.Invoke):
            self._refuse(link, message, self._refusal(contact, str(message.target)))
        else:
            self._discard(message)

    def _refusal(self, contact: Contact, target: str) -> Fenced:
        member, role = contact.member, contact.member.role
        return Fenced(
            f"{self._context.role or 'a client'}.{target} was not run: {contact.name} has the token {member.token}, "
            f"but {role!r} was seen with {self._greatest[role]}. It has lost its lease, and another has its place."
        )
