"""Fault injection: a filter before the inbox of each mobster of an app under test.

It is controlled by calls to a target that cannot be the name of a function. Without a fault everything passes. Delayed
messages keep their order; a callback (a call of a lent function) is never affected, because its caller blocks until it
is answered.
"""

from __future__ import annotations

from functools import partial
from time import monotonic
from typing import TYPE_CHECKING

import msgspec

from mob.rim.link import Link
from mob.wire import messages as m

if TYPE_CHECKING:
    from mob.peer.links.contact import Contact
    from mob.peer.peer import Peer

STEER = "fault!"
"""The target of a call that sets or ends a fault."""


class Rule(msgspec.Struct):
    """One fault of one mobster."""

    number: int
    seconds: float
    """Seconds by which calls and messages are delayed; below 0: their link is cut."""
    export: str
    """The only function whose calls are affected; "": all calls and messages."""
    left: int
    """Number of calls and messages that are still to be affected; below 0: all."""

    def fits(self, message: m.Invoke | m.Message) -> bool:
        """Return True if the fault applies to this message."""
        if not self.left:
            return False
        if isinstance(message, m.Invoke):
            return isinstance(message.target, str) and self.export in ("", message.target)
        return not self.export


class Injection:
    """The faults of one mobster."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._context = peer.context
        self._rules: list[Rule] = []
        self._pass = peer.put_in_front(self.accept)

    def __repr__(self) -> str:
        return f"<Injection of {len(self._rules)} faults>"

    def accept(self, link: Link, contact: Contact, message: m.Invoke | m.Message) -> None:
        """Pass, delay or drop a call or message that arrived."""
        if isinstance(message, m.Invoke) and message.target == STEER:
            self._steer(link, message)
        elif link.is_closed:  # it was cut a moment ago, and this message came right behind
            self._peer.encoder.discard(message)
        elif (rule := next((rule for rule in self._rules if rule.fits(message)), None)) is None:
            self._pass(link, contact, message)
        else:
            rule.left -= 1
            if rule.seconds < 0:
                self._peer.encoder.discard(message)
                link.close("cut by a fault of mob.testing")
            else:
                self._context.reactor.call_at(monotonic() + rule.seconds, partial(self._let_go, link, contact, message))

    def _let_go(self, link: Link, contact: Contact, message: m.Invoke | m.Message) -> None:
        if link.is_closed:
            self._peer.encoder.discard(message)
        else:
            self._pass(link, contact, message)

    def _steer(self, link: Link, call: m.Invoke) -> None:
        number, *rule = self._peer.encoder.codec.decode(call.args)
        if rule:
            self._rules.append(Rule(number, *rule))
        else:
            self._rules = [each for each in self._rules if each.number != number]
        self._peer.serving.answers.reply(link, call, None)


def install(peer: Peer) -> None:
    """Prepare a mobster for faults, before its module is imported."""
    Injection(peer)
