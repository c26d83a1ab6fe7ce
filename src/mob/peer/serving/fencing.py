"""Fencing: refuses a singleton that lost its lease and does not know it yet.

Each lease has a token that is greater than those before it, and a member of the roster carries the token with which it
was launched. A process that has seen a greater token of the same role refuses the calls of the holder of a smaller one
and drops its messages. That closes the gap that no lease can close: a holder that was stopped in the middle of a call
and continues much later.

It stands in front of the inbox, and only in processes that have seen a singleton: elsewhere nothing is checked.
Functions that were lent pass, because a process that answers a call must be able to call back.
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
        self._accept: Accept | None = None  # the next step behind this one, once this one is in place

    def __repr__(self) -> str:
        return f"<Fencing {self._greatest}>"

    def see(self, member: m.Member) -> None:
        """Note the token of a member that is new or has changed."""
        if member.token > self._greatest.get(member.role, 0):
            self._greatest[member.role] = member.token
            if self._accept is None:
                self._accept = self._put_in_front(self.accept)

    def is_outdated(self, member: m.Member) -> bool:
        """Return whether a greater token of its role was seen."""
        return 0 < member.token < self._greatest.get(member.role, 0)

    def accept(self, link: Link, contact: Contact, message: m.Invoke | m.Message) -> None:
        """Accept or refuse a call or a message."""
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
            f"but {role!r} was seen with {self._greatest[role]}: it lost its lease, and another worker replaced it."
        )
