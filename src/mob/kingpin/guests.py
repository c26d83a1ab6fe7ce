"""Clients: processes that came to the desk from outside, and that may say too much or read too little.

A client that has not said hello may send 64 KiB, hears nothing of the app, and is shut out after ten seconds. One that
asks and does not read its answers is not read any further until it does: what else it asks waits in its own socket. And
the questions of one client do not take all of the Kingpin's time: a few of them are answered in one turn of the loop.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING

from mob.kingpin.desk import Connection
from mob.wire import messages as m

if TYPE_CHECKING:
    from mob.kingpin.kingpin import Kingpin

HELLO_LIMIT = 64 * 1024
"""Bytes of a frame before the hello."""
HELLO_WITHIN = 10.0
"""Seconds in which a client must have said hello."""
AT_A_TIME = 32
"""Questions of one client that are answered in one turn of the loop."""
UNREAD = 1024 * 1024
"""Bytes of answers that a client may leave unread before nothing more of it is read."""


class Guests:
    """The clients of an app."""

    def __init__(self, kingpin: Kingpin) -> None:
        self._kingpin = kingpin
        self._silent: dict[int, int] = {}  # uid -> the timer that shuts it out
        self._asked: dict[int, deque[m.Up]] = {}  # uid -> what it has said and is not answered yet

    def __repr__(self) -> str:
        return f"<Guests, {len(self._silent)} have not said hello, {len(self._asked)} are answered later>"

    @property
    def is_quiet(self) -> bool:
        """Whether all that was read of clients was answered."""
        return not self._asked

    def give_up(self) -> None:
        """Shut out those whose questions wait because they do not read the answers."""
        for uid in list(self._asked):
            if (connection := self._kingpin.connections.get(uid)) is not None:
                connection.link.close("it asks and does not read the answers")

    def admit(self, connection: Connection) -> None:
        """Take in one that has not said hello."""
        reactor = self._kingpin.reactor
        connection.link.limit = min(HELLO_LIMIT, connection.link.limit)
        when = monotonic() + HELLO_WITHIN
        self._silent[connection.uid] = reactor.call_at(when, partial(self._shut_out, connection))

    def adopt(self) -> None:
        """Take over the clients of the Kingpin before this one."""
        for connection in self._kingpin.connections.values():
            if connection.is_client and not connection.greeted:
                self.admit(connection)
        self._kingpin.herald.adopt_guests()

    def welcome(self, connection: Connection) -> None:
        """It has said hello."""
        connection.greeted = True
        connection.link.limit = self._kingpin.plan.frame_limit
        self._forget_timer(connection.uid)

    def forget(self, uid: int) -> None:
        """It has gone."""
        self._forget_timer(uid)
        self._asked.pop(uid, None)

    def _forget_timer(self, uid: int) -> None:
        if (timer := self._silent.pop(uid, None)) is not None:
            self._kingpin.reactor.cancel(timer)

    def _shut_out(self, connection: Connection) -> None:
        self._silent.pop(connection.uid, None)
        if not connection.link.is_closed:
            why = f"it waited {HELLO_WITHIN:g} s for this process to say hello, as a client of mob does at once."
            connection.link.post(m.Refused(why))
            connection.link.close_after_flush(0.0)

    # ---------------------------------------------------------------------------------------------- questions

    def hear(self, connection: Connection, messages: list[m.Up]) -> None:
        """A client has said something; answer it now or, if it is much or it does not read, later."""
        asked = self._asked.get(connection.uid)
        if asked is not None:
            asked.extend(messages)
        elif len(messages) <= AT_A_TIME and not connection.link.unsent_bytes:
            for message in messages:
                self._kingpin.handle_word(connection, message)
        else:
            self._asked[connection.uid] = deque(messages)
            self._answer(connection)

    def _answer(self, connection: Connection) -> None:
        """Answer a few questions, the others in the next turn."""
        asked = self._asked.get(connection.uid, deque())
        for _ in range(AT_A_TIME):
            if not asked or connection.link.is_closed:
                break
            self._kingpin.handle_word(connection, asked.popleft())
        self._look(connection)

    def _look(self, connection: Connection) -> None:
        """See whether the client reads, and whether there is more to answer."""
        link, uid = connection.link, connection.uid
        if link.is_closed:
            self._asked.pop(uid, None)
            return
        link.flush()
        asked = self._asked.get(uid)
        if link.unsent_bytes > UNREAD:
            self._asked.setdefault(uid, deque())  # goes on when it has read all: see `handle_drained`
            link.hold()
        elif asked:
            link.hold()
            self._kingpin.reactor.call(partial(self._answer, connection))
        else:
            self._asked.pop(uid, None)
            link.let_go_on()

    def handle_drained(self, connection: Connection) -> None:
        """A client has read all that was said to it."""
        if connection.uid in self._asked:
            self._answer(connection)
