"""Clients: processes that connected at the desk, and that may send too much or read too little.

A client that did not say hello can send 64 KiB, receives nothing, and is disconnected after ten seconds. From a client
that sends requests and does not read the answers, nothing more is read until it does: its other requests wait in its
own socket. The requests of one client do not take all of the Kingpin's time: a few are answered per turn of the loop.
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
"""Maximum bytes of a frame before the hello."""
HELLO_WITHIN = 10.0
"""Seconds in which a client must say hello."""
AT_A_TIME = 32
"""Maximum number of requests of one client that are answered in one turn of the loop."""
UNREAD = 1024 * 1024
"""Bytes of unread answers from which nothing more is read from a client."""


class Guests:
    """The clients of an app. `answer` is called with each message of a client, in order."""

    def __init__(self, reactor: Reactor, frame_limit: int, answer: Callable[[Connection, Any], None]) -> None:
        self._reactor = reactor
        self._frame_limit = frame_limit
        self._answer = answer
        self._silent: dict[Connection, int] = {}  # clients that did not say hello -> the timer that disconnects them
        self._asked: dict[Connection, deque[Any]] = {}  # requests that were read and are not answered yet

    def __repr__(self) -> str:
        return f"<Guests, {len(self._silent)} have not said hello, {len(self._asked)} are answered later>"

    @property
    def is_quiet(self) -> bool:
        """True if all requests that were read are answered."""
        return not self._asked

    def give_up(self) -> None:
        """Disconnect the clients whose requests wait because they do not read the answers."""
        for connection in list(self._asked):
            connection.link.close("it sent requests and did not read the answers")

    def admit(self, connection: Connection) -> None:
        """Add a client that did not say hello yet."""
        connection.link.limit = min(HELLO_LIMIT, connection.link.limit)
        when = monotonic() + HELLO_WITHIN
        self._silent[connection] = self._reactor.call_at(when, partial(self._shut_out, connection))

    def take_over(self, connections: Iterable[Connection]) -> None:
        """Resume with the clients of the previous program."""
        for connection in connections:
            if connection.is_client and not connection.greeted:
                self.admit(connection)

    def welcome(self, connection: Connection) -> None:
        """Note that a client said hello."""
        connection.greeted = True
        connection.link.limit = self._frame_limit
        self._forget_timer(connection)

    def forget(self, connection: Connection) -> None:
        """Drop what is kept of a client that left."""
        self._forget_timer(connection)
        self._asked.pop(connection, None)

    def _forget_timer(self, connection: Connection) -> None:
        if (timer := self._silent.pop(connection, None)) is not None:
            self._reactor.cancel(timer)

    def _shut_out(self, connection: Connection) -> None:
        self._silent.pop(connection, None)
        if not connection.link.is_closed:
            why = f"this process did not say hello within {HELLO_WITHIN:g} s, as a client of mob does at once."
            connection.link.post(m.Refused(why))
            connection.link.close_after_flush(0.0)

    # ----------------------------------------------------------------------------------------------- requests

    def hear(self, connection: Connection, messages: list[Any]) -> None:
        """Answer messages of a client: now, or later if there are many or the client does not read."""
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
        """Answer a few requests, and the others in the next turn."""
        asked = self._asked.get(connection, deque())
        for _ in range(AT_A_TIME):
            if not asked or connection.link.is_closed:
                break
            self._answer(connection, asked.popleft())
        self._look(connection)

    def _look(self, connection: Connection) -> None:
        """Check whether the client reads, and whether there is more to answer."""
        link = connection.link
        if link.is_closed:
            self._asked.pop(connection, None)
            return
        link.flush()
        asked = self._asked.get(connection)
        if link.unsent_bytes > UNREAD:
            self._asked.setdefault(connection, deque())  # resumed by `handle_drained`
            link.hold()
        elif asked:
            link.hold()
            self._reactor.call(partial(self._answer_some, connection))
        else:
            self._asked.pop(connection, None)
            link.let_go_on()

    def handle_drained(self, connection: Connection) -> None:
        """Resume with the requests of a client that read all its answers."""
        if connection in self._asked:
            self._answer_some(connection)
