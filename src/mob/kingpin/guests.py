"""Clients: processes that came to the desk from outside, and that may say too much or read too little.

A client that has not said hello may send 64 KiB, hears nothing of the app, and is shut out after ten seconds. One that
asks and does not read its answers is not read any further until it does: what else it asks waits in its own socket. And
the questions of one client do not take all of the Kingpin's time: a few of them are answered in one turn of the loop.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from time import monotonic
from typing import Any

from mob.kingpin.connections import Connection
from mob.rim.reactor import Reactor
from mob.wire import messages as m

HELLO_LIMIT = 64 * 1024
"""Bytes of a frame before the hello."""
HELLO_WITHIN = 10.0
"""Seconds in which a client must have said hello."""
AT_A_TIME = 32
"""Questions of one client that are answered in one turn of the loop."""
UNREAD = 1024 * 1024
"""Bytes of answers that a client may leave unread before nothing more of it is read."""


class Guests:
    """The clients of an app. `answer` is called with each thing that one says, in order."""

    def __init__(self, reactor: Reactor, frame_limit: int, answer: Callable[[Connection, Any], None]) -> None:
        self._reactor = reactor
        self._frame_limit = frame_limit
        self._answer = answer
        self._silent: dict[Connection, int] = {}  # those that have not said hello -> the timer that shuts them out
        self._asked: dict[Connection, deque[Any]] = {}  # what was read and is not answered yet

    def __repr__(self) -> str:
        return f"<Guests, {len(self._silent)} have not said hello, {len(self._asked)} are answered later>"

    @property
    def is_quiet(self) -> bool:
        """Whether all that was read of clients was answered."""
        return not self._asked

    def give_up(self) -> None:
        """Shut out those whose questions wait because they do not read the answers."""
        for connection in list(self._asked):
            connection.link.close("it asks and does not read the answers")

    def admit(self, connection: Connection) -> None:
        """Take in a client that has not said hello."""
        connection.link.limit = min(HELLO_LIMIT, connection.link.limit)
        when = monotonic() + HELLO_WITHIN
        self._silent[connection] = self._reactor.call_at(when, partial(self._shut_out, connection))

    def take_over(self, connections: Iterable[Connection]) -> None:
        """Go on with the clients of the program before this one."""
        for connection in connections:
            if connection.is_client and not connection.greeted:
                self.admit(connection)

    def welcome(self, connection: Connection) -> None:
        """Take note that a client has said hello."""
        connection.greeted = True
        connection.link.limit = self._frame_limit
        self._forget_timer(connection)

    def forget(self, connection: Connection) -> None:
        """Drop what is kept of a client that has gone."""
        self._forget_timer(connection)
        self._asked.pop(connection, None)

    def _forget_timer(self, connection: Connection) -> None:
        if (timer := self._silent.pop(connection, None)) is not None:
            self._reactor.cancel(timer)

    def _shut_out(self, connection: Connection) -> None:
        self._silent.pop(connection, None)
        if not connection.link.is_closed:
            why = f"it waited {HELLO_WITHIN:g} s for this process to say hello, as a client of mob does at once."
            connection.link.post(m.Refused(why))
            connection.link.close_after_flush(0.0)

    # ---------------------------------------------------------------------------------------------- questions

    def hear(self, connection: Connection, messages: list[Any]) -> None:
        """Answer what a client has said: now or, if it is much or the client does not read, later."""
        asked = self._asked.get(connection)
        if asked is not None:
            asked.extend(messages)
        elif len(messages) <= AT_A_TIME and not connection.link.unsent_bytes:
            for message in messages:
                self._answer(connection, message)
        else:
            self._asked[connection] = deque(messages)
            self._answer_some(connection)

    def _answer_some(self, connection: Connection) -> None:
        """Answer a few questions, the others in the next turn."""
        asked = self._asked.get(connection, deque())
        for _ in range(AT_A_TIME):
            if not asked or connection.link.is_closed:
                break
            self._answer(connection, asked.popleft())
        self._look(connection)

    def _look(self, connection: Connection) -> None:
        """See whether the client reads, and whether there is more to answer."""
        link = connection.link
        if link.is_closed:
            self._asked.pop(connection, None)
            return
        link.flush()
        asked = self._asked.get(connection)
        if link.unsent_bytes > UNREAD:
            self._asked.setdefault(connection, deque())  # goes on when it has read all: see `handle_drained`
            link.hold()
        elif asked:
            link.hold()
            self._reactor.call(partial(self._answer_some, connection))
        else:
            self._asked.pop(connection, None)
            link.let_go_on()

    def handle_drained(self, connection: Connection) -> None:
        """Go on with the questions of a client that has read all that was said to it."""
        if connection in self._asked:
            self._answer_some(connection)
