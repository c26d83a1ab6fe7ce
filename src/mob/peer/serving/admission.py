"""Which processes may call this one, if its role limits them (`callers=`).

It stands in front of the inbox, and only in those processes: where any process may call, nothing is checked. A function
that was lent is a permission in itself, so calls of those pass. The role of a caller comes from the Kingpins, not from
the caller itself.
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
"""Accepts a call or a message."""
Refuse = Callable[[Link, m.Invoke, BaseException], None]
"""Fails a call whose body was not decoded."""
REMEMBERED = 1000
"""Maximum number of senders that are remembered after their dropped messages were logged once."""


class Admission:
    """The check of callers in a process that only some roles may call."""

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
        self._reported: set[int] = set()  # uids of senders whose dropped messages were logged

    def __repr__(self) -> str:
        return f"<Admission of {', '.join(sorted(self._callers))}>"

    def may_call(self, role: str) -> bool:
        """Return whether a process of that role may call this one; the role of a client is ""."""
        return (role or CLIENT) in self._callers

    def accept(self, link: Link, contact: Contact, message: m.Invoke | m.Message) -> None:
        """Accept or refuse a call or a message."""
        if self.may_call(contact.member.role) or _is_exempt(self._context.uid, contact, message):
            self._accept(link, contact, message)
        elif isinstance(message, m.Invoke):
            self._refuse(link, message, self.refusal(contact, str(m.export_of(message.target))))
        else:
            self._discard(message)
            self._report(contact)

    def refusal(self, contact: Contact, target: str) -> Forbidden:
        """Return the error for a caller that may not call."""
        role = self._context.role
        return Forbidden(f"{contact.name} may not call {role}.{target}: {self.rule}")

    @property
    def rule(self) -> str:
        """The rule that a refused caller broke, as a sentence."""
        return f"the role {self._context.role!r} allows callers={sorted(self._callers)!r} only."

    def _report(self, contact: Contact) -> None:
        if contact.uid in self._reported:
            return
        if len(self._reported) >= REMEMBERED:
            self._reported.clear()
        self._reported.add(contact.uid)
        text = "messages of %s are dropped: %s"
        self._context.complaints.tell(text, text, contact.name, self.rule, level=logging.WARNING)


def _is_exempt(own: int, contact: Contact, message: m.Invoke | m.Message) -> bool:
    """Return whether a message passes unchecked.

    That is a call of a lent function, a timer that this process (`own`) runs, and what a gateway or the keeper of jobs
    hands over: the sender of that is checked later.
    """
    if not isinstance(message, m.Invoke):
        return False
    if type(message.target) is int:
        return True
    target, role = str(message.target), contact.member.role
    if (target == m.HANDLE and role in (GATEWAY, QUEUE)) or (target.startswith(m.JOB) and role == QUEUE):
        return True
    return contact.uid == own and target.startswith(m.TIMER)
