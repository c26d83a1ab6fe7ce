"""Who may call this process, if its role says so (`callers=`).

It stands in front of the inbox, in those processes only: where everybody may call, nothing is looked at. A function
that was lent is a permission in itself, so calls of those pass. Who a caller is, the Kingpins say, not the caller.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from mob.errors import Forbidden
from mob.plan import CLIENT, GATEWAY, QUEUE
from mob.rim.link import Link
from mob.wire import messages as m

if TYPE_CHECKING:
    from mob.peer.context import Context
    from mob.peer.links.contact import Contact

Accept = Callable[[Link, "Contact", "m.Invoke | m.Message"], None]
"""Takes in a call or a message."""
Refuse = Callable[[Link, m.Invoke, BaseException], None]
"""Fails a call that nobody has looked into."""
REMEMBERED = 1000
"""Senders whose dropped messages were told of; beyond that they are told of again."""


class Admission:
    """The door of a process that is not open to everybody."""

    def __init__(
        self,
        context: Context,
        callers: tuple[str, ...],
        accept: Accept,
        refuse: Refuse,
        discard: Callable[[m.Invoke | m.Message], None],
    ) -> None:
        self._context = context
        self._refuse = refuse
        self._discard = discard
        self._callers = frozenset(callers)
        self._accept = accept
        self._told: set[int] = set()  # uids of those whose messages were dropped

    def __repr__(self) -> str:
        return f"<Admission of {', '.join(sorted(self._callers))}>"

    def may_call(self, role: str) -> bool:
        """Whether somebody of that role may call this process; a client's is ""."""
        return (role or CLIENT) in self._callers

    def accept(self, link: Link, contact: Contact, message: m.Invoke | m.Message) -> None:
        """Lets a call or a message in, or turns it away."""
        if self.may_call(contact.member.role) or _is_exempt(self._context.uid, contact, message):
            self._accept(link, contact, message)
        elif isinstance(message, m.Invoke):
            self._refuse(link, message, self.refusal(contact, str(m.export_of(message.target))))
        else:
            self._discard(message)
            self._tell(contact)

    def refusal(self, contact: Contact, target: str) -> Forbidden:
        """The error for somebody who may not call."""
        role = self._context.role
        return Forbidden(f"{contact.name} may not call {role}.{target}: {self.rule}")

    @property
    def rule(self) -> str:
        """Who may, in a sentence."""
        return f"callers={sorted(self._callers)!r} of the role {self._context.role!r} says who may."

    def _tell(self, contact: Contact) -> None:
        if contact.uid in self._told:
            return
        if len(self._told) >= REMEMBERED:
            self._told.clear()
        self._told.add(contact.uid)
        told = "messages of %s are dropped: %s"
        self._context.complaints.tell(told, told, contact.name, self.rule, level=logging.WARNING)


def _is_exempt(own: int, contact: Contact, message: m.Invoke | m.Message) -> bool:
    """A lent function; a timer that this process (`own`) runs; and what a gateway or the keeper of jobs hands over: it
    is looked at later who has sent that."""
    if not isinstance(message, m.Invoke):
        return False
    if type(message.target) is int:
        return True
    target, role = str(message.target), contact.member.role
    if (target == m.HANDLE and role in (GATEWAY, QUEUE)) or (target.startswith(m.JOB) and role == QUEUE):
        return True
    return contact.uid == own and target.startswith(m.TIMER)
