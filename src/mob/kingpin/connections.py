"""The links between the Kingpin and the members of this machine, by uid and by link.

A mobster has two links, control and liveness; a client has a control link only. What arrives on a link is handed to the
`Hearer` with its connection. What arrives on the link of a removed connection is dropped.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any, Protocol

import msgspec

from mob.errors import GarbageFrame
from mob.rim.link import Link
from mob.rim.reactor import Reactor
from mob.wire import messages as m

VITALS = 4 * 1024 * 1024
"""Maximum bytes of a message of a liveness thread; the longest one holds the stacks of all threads and tasks."""


class Connection:
    """A control link, perhaps a liveness link, and what the Kingpin knows of the process at the other end."""

    __slots__ = ("beats", "greeted", "hears_crashes", "is_client", "link", "pid", "uid")

    def __init__(self, uid: int, link: Link, beats: Link | None = None, pid: int = 0, is_client: bool = False) -> None:
        self.uid: int = uid
        self.link: Link = link
        self.beats: Link | None = beats
        self.pid: int = pid
        self.is_client: bool = is_client
        self.greeted: bool = False
        self.hears_crashes: bool = False

    def __repr__(self) -> str:
        return f"<Connection {self.uid} on {self.link}>"

    @property
    def hears_all(self) -> bool:
        """True if it gets the changes of the roster: for every mobster, and for clients that said hello."""
        return self.greeted or not self.is_client

    def inspect(self) -> bool:
        """Ask the liveness thread for all stacks; return False if there is no such thread."""
        if self.beats is None:
            return False
        self.beats.post(m.Inspect())
        return True

    def drain(self) -> None:
        """Read the last messages of a process that ended."""
        self.link.drain()
        if self.beats is not None:
            self.beats.drain()

    def close(self) -> None:
        """Close the links."""
        self.link.close()
        if self.beats is not None:
            self.beats.close()


class ConnectionState(msgspec.Struct, frozen=True):
    """A connection as it is handed over to the next program."""

    uid: int
    link: int
    beats: int
    """Descriptor of the liveness link; -1 for a client."""
    name: str
    pid: int
    is_client: bool
    greeted: bool
    unsent: bytes = b""
    """Bytes that were not written yet because the other end does not read."""
    hears_crashes: bool = False


class Garbled:
    """A frame that does not decode, instead of its messages."""

    def __init__(self, error: GarbageFrame) -> None:
        self.error = error


class Hearer(Protocol):
    """The handler of what is read on connections, and of control links that close or become writable again."""

    def handle_up(self, connection: Connection, messages: list[Any]) -> None:
        """Handle messages of a mobster or client."""
        ...

    def handle_up_closed(self, connection: Connection, why: str) -> None:
        """Handle the end of a control link."""
        ...

    def handle_vitals(self, connection: Connection, vitals: list[m.Vital]) -> None:
        """Handle reports of a liveness thread."""
        ...

    def handle_drained(self, connection: Connection) -> None:
        """Handle that a member read everything that was sent to it."""
        ...


class Connections(Mapping[int, Connection]):
    """The connections by uid."""

    def __init__(self, reactor: Reactor, frame_limit: int, hearer: Hearer) -> None:
        self._reactor = reactor
        self._frame_limit = frame_limit
        self._hearer = hearer
        self._by_uid: dict[int, Connection] = {}
        self._by_link: dict[Link, Connection] = {}

    def __repr__(self) -> str:
        return f"<Connections {len(self._by_uid)}>"

    def __getitem__(self, uid: int) -> Connection:
        return self._by_uid[uid]

    def __iter__(self) -> Iterator[int]:
        return iter(self._by_uid)

    def __len__(self) -> int:
        return len(self._by_uid)

    @property
    def clients(self) -> int:
        """Number of connected clients."""
        return sum(each.is_client for each in self._by_uid.values())

    def name_of(self, uid: int) -> str:
        """Return the name of a member for messages to the user."""
        return self._by_uid[uid].link.name if uid in self._by_uid else f"member {uid}"

    def open(
        self,
        uid: int,
        name: str,
        control: socket.socket,
        liveness: socket.socket | None = None,
        pid: int = 0,
        is_client: bool = False,
    ) -> Connection:
        """Make a connection of these sockets and begin to read them."""
        control_link = Link(
            control, self._reactor, _decode_up, self._hear, self._handle_closed, self._frame_limit, name
        )
        control_link.on_drained = partial(self._handle_drained, uid)
        beats = None
        if liveness is not None:
            beats = Link(liveness, self._reactor, m.decode_vital, self._hear_vitals, _ignore_end, VITALS, name)
        connection = self._by_uid[uid] = Connection(uid, control_link, beats, pid, is_client)
        for link in (control_link, beats):
            if link is not None:
                self._by_link[link] = connection
                link.start()
        return connection

    def remove(self, uid: int) -> Connection | None:
        """Forget a connection and return it.

        Its links stay open, but what arrives on them is dropped.
        """
        connection = self._by_uid.pop(uid, None)
        if connection is not None:
            del self._by_link[connection.link]
            if connection.beats is not None:
                del self._by_link[connection.beats]
        return connection

    def close(self) -> None:
        """Close all links."""
        for connection in list(self._by_uid.values()):
            connection.close()

    def _hear(self, link: Link, messages: list[Any]) -> None:
        if (connection := self._by_link.get(link)) is not None:
            self._hearer.handle_up(connection, messages)

    def _handle_closed(self, link: Link, why: str) -> None:
        if (connection := self._by_link.get(link)) is not None:
            self._hearer.handle_up_closed(connection, why)

    def _hear_vitals(self, link: Link, vitals: list[m.Vital]) -> None:
        if (connection := self._by_link.get(link)) is not None:
            self._hearer.handle_vitals(connection, vitals)

    def _handle_drained(self, uid: int) -> None:
        if (connection := self._by_uid.get(uid)) is not None:
            self._hearer.handle_drained(connection)

    # --------------------------------------------------------------------------------------------- handover

    def loud(self) -> str:
        """Return the name of a member with a partly sent or partly received message, or "" if no member has one.

        A control link that the other end does not read (a stopped `mob logs -f`) is handed over with its unsent bytes.
        """
        for each in self._by_uid.values():
            if each.beats is not None and not (each.beats.is_closed or each.beats.is_quiet):
                return each.link.name
            if not (each.link.is_closed or each.link.can_be_handed_over):
                return each.link.name
        return ""

    def state(self) -> list[ConnectionState]:
        """Return the state of the open connections for the next program."""
        return [
            ConnectionState(
                each.uid,
                each.link.fd,
                -1 if each.beats is None or each.beats.is_closed else each.beats.fd,
                each.link.name,
                each.pid,
                each.is_client,
                each.greeted,
                each.link.unsent_data(),
                each.hears_crashes,
            )
            for each in self._by_uid.values()
            if not each.link.is_closed
        ]

    def take_over(self, states: Iterable[ConnectionState]) -> None:
        """Resume the connections of the previous program."""
        for state in states:
            control = socket.socket(fileno=state.link)
            liveness = socket.socket(fileno=state.beats) if state.beats >= 0 else None
            connection = self.open(state.uid, state.name, control, liveness, state.pid, state.is_client)
            connection.greeted, connection.hears_crashes = state.greeted, state.hears_crashes
            if state.unsent:
                connection.link.go_on_with(state.unsent)


def _decode_up(payload: bytes | bytearray | memoryview) -> list[Any]:
    try:
        return m.decode_up(payload)
    except GarbageFrame as error:
        return [Garbled(error)]


def _ignore_end(link: Link, why: str) -> None:
    """Ignore the end of a liveness socket: the exit of the process says more."""
